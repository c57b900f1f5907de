//! What goes into a batch: durable facts, and stock rows that are to be looked at.

use std::time::Instant;

use stampede_core::planted::{Bug, planted};

use super::super::error::ExportError;
use super::super::event::ExportEvent;
use super::super::limits::{FACTS_PER_BATCH_MAX, STOCK_REST, SWEEP_ITEMS_MAX, SWEEP_PERIOD, SWEEP_SHARE};
use super::super::store::{Connect, Store, Swept};
use super::{Exporter, Step};
use crate::feed::FeedError;

impl<C: Connect> Exporter<C> {
    /// Folds what is durable into the empty batch, and has rows looked at when it is time.
    pub(super) fn fill(&mut self, now: Instant) -> Result<(), Step> {
        if now >= self.next_sweep && self.stock_may_be_touched(now) {
            self.sweep(now)?;
        }
        let from = self.batch.from;
        let max = self.options.facts_per_batch_max.min(FACTS_PER_BATCH_MAX);
        let durable = self.port.durable_lsn();
        if self.feed.is_none() {
            let feed = self.port.open_feed(from).map_err(|error| self.feed_failed(&error))?;
            self.feed = Some(feed);
        }
        let (feed, batch) = (self.feed.as_mut().expect("just opened"), &mut self.batch);
        let read = feed.read(durable, max, &mut |lsn, fact| batch.add(lsn, fact));
        read.map(drop).map_err(|error| self.feed_failed(&error))
    }

    /// A feed that failed has lost its place: it is opened anew after the cursor.
    fn feed_failed(&mut self, error: &FeedError) -> Step {
        self.feed = None;
        let from = self.batch.from;
        self.batch.reset(from);
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
        match self.options.connect.run(store.sweep(SWEEP_ITEMS_MAX)) {
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
