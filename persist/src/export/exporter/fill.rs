//! What goes into a batch: durable facts, and stock rows that have to be checked.

use std::time::Instant;

use stampede_core::types::Lsn;

use super::super::error::ExportError;
use super::super::event::ExportEvent;
use super::super::limits::{FENCE_PERIOD, STOCK_REST, SWEEP_ITEMS_MAX, SWEEP_PERIOD, SWEEP_SHARE};
use super::super::store::{Begin, Connect, Store, Swept};
use super::{Exporter, Step};
use crate::feed::FeedError;

impl<C: Connect> Exporter<C> {
    /// Fills up the batch with durable facts and, when it is time, with rows to be checked.
    pub(super) fn fill(&mut self, now: Instant) -> Result<(), Step> {
        let sweeps = now >= self.next_sweep && self.stock_may_be_touched(now);
        // Before a sweep, too: if another process has the database by now, its rows need no questions.
        if sweeps || now >= self.next_fence {
            self.check_fence()?;
        }
        if sweeps {
            self.sweep(now)?;
        }
        self.reader.fill(&mut *self.port, &mut self.batch).map_err(|error| self.feed_failed(&error))
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

    /// Searches for stock rows that no order would lead to: edited while nothing is sold (above all a
    /// restock of a sold-out item), locked when they were to be written, or left over from a process
    /// that died. Reads only.
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

    /// Checks whether this process still has the right to write. An engine that sells nothing writes no
    /// batch, and would not notice that another one has taken over, or that the database went back. The
    /// check has its own timer: a sweep waits for others' locks and takes longer with more items.
    fn check_fence(&mut self) -> Result<(), Step> {
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
            // Attaching finds out why.
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
            self.request_pause(found.item, reason);
        }
    }
}

/// Reads in a transaction, so that its time limits apply.
async fn in_transaction<S: Store, T>(
    store: &mut S,
    read: impl AsyncFnOnce(&mut S) -> Result<T, ExportError>,
) -> Result<T, ExportError> {
    store.begin(Begin::Ordinary).await?;
    let done = read(store).await;
    // If even the rollback fails, the connection cannot be used any more.
    store.roll_back().await.map_err(|error| ExportError::Lost(error.to_string()))?;
    done
}
