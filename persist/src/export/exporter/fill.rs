//! What goes into a batch: durable facts, and stock rows that are to be looked at.

use std::time::Instant;

use stampede_core::planted::{Bug, planted};
use stampede_core::types::Lsn;

use super::super::error::ExportError;
use super::super::event::ExportEvent;
use super::super::limits::{STOCK_REST, SWEEP_ITEMS_MAX, SWEEP_PERIOD, SWEEP_SHARE};
use super::super::store::{Begin, Connect, CursorKey, Store, Swept};
use super::{Exporter, Step};
use crate::feed::FeedError;

impl<C: Connect> Exporter<C> {
    /// Fills the batch up with what is durable, and has rows looked at when it is time.
    pub(super) fn fill(&mut self, now: Instant) -> Result<(), Step> {
        if now >= self.next_sweep && self.stock_may_be_touched(now) {
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
        let (key, left) = (&self.key, self.position.unwrap_or(Lsn::ZERO));
        // In a transaction, so that the limits of one hold for it, too.
        let looked = self.options.connect.run(async {
            store.begin(Begin::Ordinary).await?;
            let looked = look(store, key, left).await;
            // Whatever it says: a transaction that does not end takes its connection along.
            store.roll_back().await.map_err(|error| ExportError::Lost(error.to_string()))?;
            looked
        });
        match looked {
            // An engine that sells nothing writes no batch, and would not notice that another has its
            // place, or that the database went back.
            Ok(None) => {
                self.disconnect();
                Err(Step::Again)
            }
            Ok(Some(swept)) => {
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

    pub(super) fn stock_may_be_touched(&self, now: Instant) -> bool {
        self.stock_rest_until.is_none_or(|until| now >= until)
    }

    fn take_up(&mut self, found: Swept, now: Instant) {
        if found.dirty && planted(Bug::LockedRowForgotten) {
            self.behind.remove(&found.item);
        } else if found.dirty {
            self.batch.touch(found.item);
        } else {
            self.ask(found.item, found.outside, found.row_version, now);
        }
        if let Some(reason) = found.pause_reason {
            self.tell_pause(found.item, reason);
        }
    }
}

/// What is to be looked at, if the cursor is still as this process left it.
async fn look(store: &mut impl Store, key: &CursorKey, left: Lsn) -> Result<Option<Vec<Swept>>, ExportError> {
    if store.holds_cursor(key, left).await? { store.sweep(SWEEP_ITEMS_MAX).await.map(Some) } else { Ok(None) }
}
