//! A batch is committed: the machine moves on, and tells the engine what it came to.
//!
//! Nothing of it may be told before, and nothing twice. Next: [`super::super::event`] for what
//! the engine makes of it.

use std::collections::HashSet;
use std::time::Instant;

use stampede_core::types::{ItemId, Lsn};

use super::super::batch::Import;
use super::super::event::{Alarm, ExportEvent};
use super::super::limits::{FENCE_PERIOD, REFUSED_REST};
use super::super::store::Connect;
use super::super::write::Written;
use super::Exporter;

impl<C: Connect> Exporter<C> {
    /// The batch is committed: moves on, and tells what it came to.
    pub(super) fn deliver(&mut self, written: &Written) {
        let now = self.now();
        let to = self.batch.to;
        if self.position.is_some_and(|before| before < self.barrier) && to >= self.barrier {
            // Questions held back until now: a sweep finds them.
            self.next_sweep = now;
        }
        self.position = Some(to);
        (self.tried, self.careful, self.moved_in_vain) = (false, false, 0);
        // The cursor was this process's a moment ago.
        self.next_fence = now + FENCE_PERIOD;
        self.backoff.reset();
        self.status.add_batch(written.facts, written.rows);
        self.status.set_error(None);
        if written.facts > 0 {
            self.status.set_exported(to);
            self.port.exported(to);
        }
        self.importing = self.importing_after_batch();
        self.take_answers();
        self.tell(written, now);
        let items: Vec<ItemId> = self.batch.items.iter().map(|change| change.item).collect();
        for item in items {
            let known = self.ledgers.get(&item);
            let known = known.map(|ledger| (ledger.outside, ledger.row.map_or(0, |row| row.version)));
            if let Some((outside, version)) = known {
                self.ask(item, outside, version, now);
            }
        }
        self.intake.turn(&mut self.batch);
    }

    /// Items whose import goes on behind the batch.
    pub(super) fn importing_after_batch(&self) -> HashSet<ItemId> {
        let mut importing = self.importing.clone();
        for change in &self.batch.items {
            match change.import {
                Some(Import::Open) => drop(importing.insert(change.item)),
                Some(Import::Whole(_)) => drop(importing.remove(&change.item)),
                None => {}
            }
        }
        importing
    }

    /// The engine's answers came through the log.
    fn take_answers(&mut self) {
        for change in &self.batch.items {
            if change.answered.is_some() || change.resumed {
                self.asks.clear(change.item);
            }
            if change.answered_by_pause && !change.resumed {
                let outside = self.ledgers.get(&change.item).map_or(0, |ledger| ledger.outside);
                self.asks.declined(change.item, outside);
            }
            // One that is paused need not be asked for again, as long as nobody resumes it. Each pause would be one
            // more fact, and so one more batch, in which a row that cannot be mended is met again: without end.
            match change.paused {
                Some(true) => drop(self.pauses_told.insert(change.item)),
                Some(_) => drop(self.pauses_told.remove(&change.item)),
                None => {}
            }
            self.behind.remove(&change.item);
        }
    }

    fn tell(&mut self, written: &Written, now: Instant) {
        self.behind.extend(&written.settled.deferred);
        self.status.set_deferred(self.behind.len() as u64);
        self.status.add_conflicts(written.settled.adopted.len() as u64);
        self.status.add_set_aside(written.set_aside.len() as u64);
        for (item, units) in &written.settled.void {
            let reason = format!(
                "of what somebody else withdrew, {units} units were sold already; that part of the withdrawal is void"
            );
            self.alarm(Alarm::Stock { item: *item, reason });
        }
        for (item, reason) in &written.settled.tampered {
            self.alarm(Alarm::Stock { item: *item, reason: reason.clone() });
            self.tell_pause(*item, reason.clone());
        }
        for row in &written.set_aside {
            if let Some(item) = row.item {
                self.refused.insert(item, now + REFUSED_REST);
            }
            let what = format!("{} {}", row.kind, row.what);
            self.alarm(Alarm::SetAside { lsn: row.lsn, what, reason: row.reason.clone() });
        }
        for order in &written.replaced {
            self.alarm(Alarm::OrderReplaced { order: *order });
        }
    }

    pub(super) fn alarm(&mut self, alarm: Alarm) {
        tracing::warn!(target: "stampede::export", "{alarm}");
        self.port.event(ExportEvent::Alarm(alarm));
    }

    /// Asks the engine about a difference, unless an answer may be under way.
    pub(super) fn ask(&mut self, item: ItemId, delta: i64, seen_version: i64, now: Instant) {
        let as_of = self.position.unwrap_or(Lsn::ZERO);
        if as_of >= self.barrier && self.asks.ask(item, delta, now) {
            self.port.event(ExportEvent::StockChangedOutside { item, delta, seen_version, as_of });
        }
    }

    pub(super) fn tell_pause(&mut self, item: ItemId, reason: String) {
        let settled = self.position.is_some_and(|position| position >= self.barrier);
        if settled && self.pauses_told.insert(item) {
            self.port.event(ExportEvent::PauseItem { item, reason });
        }
    }
}
