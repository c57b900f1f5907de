//! What goes into a batch: durable facts, and stock rows that are to be looked at.

use std::time::Instant;

use stampede_core::types::Lsn;

use super::super::error::ExportError;
use super::super::event::ExportEvent;
use super::super::limits::{FENCE_PERIOD, STOCK_REST, SWEEP_ITEMS_MAX, SWEEP_PERIOD, SWEEP_SHARE};
use super::super::store::{Begin, Connect, Store, Swept};
use super::{Exporter, Step};
use crate::feed::FeedError;

impl<C: Connect> Exporter<C> {
    /// Fills the batch up with what is durable, and has rows looked at when it is time.
    pub(super) fn fill(&mut self, now: Instant) -> Result<(), Step> {
        let sweeps = now >= self.next_sweep && self.stock_may_be_touched(now);
        // What a sweep finds in rows that are another's by now is nothing to ask about.
        if sweeps || now >= self.next_fence {
            self.look_at_fence()?;
        }
        if sweeps {
            self.sweep(now)?;
        }
        self.intake.fill(&mut *self.port, &mut self.batch).map_err(|error| self.feed_failed(&error))
    }

    pub(super) fn feed_failed(&mut self, error: &FeedError) -> Step {
        let reason = error.to_string();
        self.status.set_error(Some(reason.clone()));
        if matches!(error, FeedError::Io { .. }) {
            return self.wait();
        }
        self.port.event(ExportEvent::FeedLost { reason });
        self.stop()
    }

    /// Looks for stock rows that nobody's order would bring up: edited while nothing is sold (a
    /// restock of a sold-out item, most of all), locked when their turn came, left over from a
    /// process that died. Reads only.
    fn sweep(&mut self, now: Instant) -> Result<(), Step> {
        let store = self.store.as_mut().expect("only called while connected");
        let looked =
            self.options.connect.run(in_transaction(store, async |store| store.sweep(SWEEP_ITEMS_MAX).await));
        match looked {
            Ok(swept) => {
                for found in swept {
                    self.take_up(found, now);
                }
                let done_at = self.now();
                let took = done_at.saturating_duration_since(now);
                self.next_sweep = done_at + SWEEP_PERIOD.max(took * SWEEP_SHARE);
                Ok(())
            }
            Err(ExportError::Locked(_)) => {
                self.stock_rest_until = Some(self.now() + STOCK_REST);
                Ok(())
            }
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// An engine that sells nothing writes no batch, and would not notice that another has its place, or
    /// that the database went back. Looked at by a timer of its own: a sweep waits for others' locks
    /// and takes as long as there are items.
    fn look_at_fence(&mut self) -> Result<(), Step> {
        let store = self.store.as_mut().expect("only called while connected");
        let (key, left) = (&self.key, self.position.unwrap_or(Lsn::ZERO));
        let holds = self
            .options
            .connect
            .run(in_transaction(store, async |store| store.holds_cursor(key, left).await));
        match holds {
            Ok(true) => {
                self.next_fence = self.now() + FENCE_PERIOD;
                Ok(())
            }
            // Attaching says who has it.
            Ok(false) => {
                self.disconnect();
                Err(Step::Again)
            }
            Err(error) => Err(self.fail(&error)),
        }
    }

    pub(super) fn stock_may_be_touched(&self, now: Instant) -> bool {
        self.stock_rest_until.is_none_or(|until| now >= until)
    }

    fn take_up(&mut self, found: Swept, now: Instant) {
        if found.dirty {
            self.batch.touch(found.item);
        } else {
            self.ask(found.item, found.outside, found.row_version, now);
        }
        if let Some(reason) = found.pause_reason {
            self.tell_pause(found.item, reason);
        }
    }
}

/// Reads in a transaction, so that the limits of one hold for it, too.
async fn in_transaction<S: Store, T>(
    store: &mut S,
    read: impl AsyncFnOnce(&mut S) -> Result<T, ExportError>,
) -> Result<T, ExportError> {
    store.begin(Begin::Ordinary).await?;
    let done = read(store).await;
    // Whatever it says: a transaction that does not end takes its connection along.
    store.roll_back().await.map_err(|error| ExportError::Lost(error.to_string()))?;
    done
}
