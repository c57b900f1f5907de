//! After the commit of a batch: the machine moves on and reports the results to the engine.
//!
//! Nothing may be reported before the commit, and nothing twice. Next: [`super::super::event`]
//! for what the engine does with it.

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
    /// The batch is committed: moves on and reports the results.
    pub(super) fn deliver(&mut self, written: &Written) {
        let now = self.now();
        let to = self.batch.to;
        if self.position.is_some_and(|before| before < self.answers_until) && to >= self.answers_until {
            // From now on questions may be asked: a sweep finds them.
            self.next_sweep = now;
        }
        self.position = Some(to);
        (self.tried, self.careful, self.stuck_moves) = (false, false, 0);
        // The commit has just shown that the cursor is still this process's.
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
        self.report_written(written, now);
        let items: Vec<ItemId> = self.batch.items.iter().map(|change| change.item).collect();
        for item in items {
            let known = self.ledgers.get(&item);
            let known = known.map(|ledger| (ledger.outside, ledger.row.map_or(0, |row| row.version)));
            if let Some((outside, version)) = known {
                self.ask(item, outside, version, now);
            }
        }
        self.reader.advance(&mut self.batch);
    }

    /// Items whose import goes on after the batch.
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

    /// Handles the engine's answers, which come through the log.
    fn take_answers(&mut self) {
        for change in &self.batch.items {
            if change.answered.is_some() || change.resumed {
                self.questions.clear(change.item);
            }
            if change.answered_by_pause && !change.resumed {
                let outside = self.ledgers.get(&change.item).map_or(0, |ledger| ledger.outside);
                self.questions.declined(change.item, outside);
            }
            // No pause is requested for an item that is paused already. Each pause is a fact, hence another batch,
            // in which a row that cannot be repaired is found again: that would never end.
            match change.paused {
                Some(true) => drop(self.pauses_requested.insert(change.item)),
                Some(_) => drop(self.pauses_requested.remove(&change.item)),
                None => {}
            }
            self.behind.remove(&change.item);
        }
    }

    fn report_written(&mut self, written: &Written, now: Instant) {
        self.behind.extend(&written.settled.deferred);
        self.status.set_deferred(self.behind.len() as u64);
        self.status.add_conflicts(written.settled.adopted.len() as u64);
        self.status.add_set_aside(written.set_aside.len() as u64);
        for (item, units) in &written.settled.void {
            let reason = format!(
                "somebody else withdrew {units} units that were sold already; that part of the withdrawal is void"
            );
            self.alarm(Alarm::Stock { item: *item, reason });
        }
        for (item, reason) in &written.settled.tampered {
            self.alarm(Alarm::Stock { item: *item, reason: reason.clone() });
            self.request_pause(*item, reason.clone());
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

    /// Asks the engine about a difference, unless an answer may be on its way.
    pub(super) fn ask(&mut self, item: ItemId, delta: i64, seen_version: i64, now: Instant) {
        let as_of = self.position.unwrap_or(Lsn::ZERO);
        if as_of >= self.answers_until && self.questions.ask(item, delta, now) {
            self.port.event(ExportEvent::StockChangedOutside { item, delta, seen_version, as_of });
        }
    }

    pub(super) fn request_pause(&mut self, item: ItemId, reason: String) {
        let settled = self.position.is_some_and(|position| position >= self.answers_until);
        if settled && self.pauses_requested.insert(item) {
            self.port.event(ExportEvent::PauseItem { item, reason });
        }
    }
}
