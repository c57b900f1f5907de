//! What the operator of a history does: starts with other flags, finds an old backup's successor,
//! fills a database from the log, lets the log forget it.
//!
//! His choices come from a generator of their own, so that histories without him stay the same.

use std::path::Path;

use stampede_persist::log::control::read_control;
use stampede_persist::log::detach::detach;

use super::History;
use crate::book::{Red, ensure};
use crate::coverage::{Fault, Step};
use crate::engine::{DIR, refill};
use crate::ledger::Desk;
use crate::sim_disk::Rng;

/// The operator's mind.
pub(super) struct Operator {
    rng: Rng,
    /// The next life is started without the database, although there is one.
    pub(super) forgets: bool,
    /// A start was told of the database: no later one may let go of what it lacks.
    pub(super) told: bool,
    /// The furthest that was trimmed while no start had been told of it.
    trimmed_untold: u64,
    /// The database is to be filled.
    fills: bool,
}

impl Operator {
    pub(super) fn new(seed: u64) -> Self {
        let rng = Rng(seed ^ 0x6f70_6572_6174_6f72);
        Self { rng, forgets: false, told: false, trimmed_untold: 0, fills: false }
    }
}

impl History<'_> {
    /// Chooses the flags of the next start.
    pub(super) fn choose_flags(&mut self) {
        if self.desk.is_none() {
            return;
        }
        let per_mille = if self.rolls { 400 } else { 100 };
        self.operator.forgets = self.operator.rng.below(1000) < per_mille && !self.is_unseen();
        self.have_it_away();
        if self.operator.forgets {
            self.cover.struck(Fault::DbForgotten, Step::Rest, None);
        }
        // A log that forgets a database whose rows it took over and never wrote cannot tell them any more: it is
        // refused, and somebody has to move the rows. There is nothing to check in that.
        let has_past = self.desk.as_ref().is_some_and(|desk| desk.past.is_some());
        if self.operator.forgets && self.operator.rng.below(8) == 0 && !has_past {
            // Where there is no log yet there is nothing to detach.
            if detach(&self.disk, Path::new(DIR)).is_ok() {
                self.operator.told = false;
                self.cover.struck(Fault::DbDetached, Step::Rest, None);
            }
        }
    }

    /// Whether the database holds orders that the log has never seen: who forgets it then says that there are none.
    fn is_unseen(&self) -> bool {
        let has_past = self.desk.as_ref().is_some_and(|desk| desk.past.is_some());
        let control = read_control(&self.disk, Path::new(DIR)).ok().flatten();
        has_past && control.is_none_or(|control| control.database.is_none())
    }

    /// A database that was never seen is down at the start, or is reached.
    fn have_it_away(&mut self) {
        if self.is_unseen() {
            let down = self.operator.rng.below(3) == 0;
            self.desk.iter().for_each(|desk| desk.database.set_down(down));
        }
    }

    /// A start has come up with these flags.
    pub(super) fn was_started(&mut self) {
        self.operator.told |= self.start().desk.is_some();
    }

    /// Up to where facts may leave the log for the database's sake.
    pub(super) fn may_trim(&mut self) -> u64 {
        match &mut self.desk {
            Some(desk) if self.operator.told => desk.may_trim().max(self.operator.trimmed_untold),
            _ => u64::MAX,
        }
    }

    /// The log was trimmed up to this LSN.
    pub(super) fn was_trimmed(&mut self, lsn: u64) {
        if !self.operator.told {
            self.operator.trimmed_untold = self.operator.trimmed_untold.max(lsn);
        }
    }

    /// A database is refused: because somebody has put an old backup back, or because the log was kept
    /// for nobody before it was told of it. It is restored, or filled.
    pub(super) fn decide(&mut self, refusal: &str) -> Result<(), Red> {
        let Some(desk) = &mut self.desk else { return Err(format!("I12 without a database: {refusal}")) };
        let (restorable, lacks) = (desk.is_behind(), desk.cursor() < self.operator.trimmed_untold);
        ensure!(restorable || lacks, "I12 refuses a database that is its own: {refusal}");
        let named = refusal.contains("stampede export --from-snapshot");
        if named && (!restorable || self.operator.rng.coin()) {
            self.operator.fills = true;
        } else {
            desk.decide();
        }
        Ok(())
    }

    /// Between two lives: fills the database if that was decided. What breaks there is tried again later.
    pub(super) fn fill_if_decided(&mut self) {
        if std::mem::take(&mut self.operator.fills) {
            let filled = self.fill();
            self.trace.note("fill", &[u64::from(filled.is_ok())], || format!("{filled:?}"));
        }
    }

    /// At peace: a database that ends before the log begins is filled, and that has to work.
    pub(super) fn fill_if_lacking(&mut self) -> Result<(), Red> {
        self.operator.forgets = false;
        let Some(cursor) = self.desk.as_ref().map(Desk::cursor) else { return Ok(()) };
        let Ok(Some(control)) = read_control(&self.disk, Path::new(DIR)) else { return Ok(()) };
        if cursor + 1 >= control.first_lsn.0 {
            return Ok(());
        }
        let filled = self.fill();
        self.trace.note("fill", &[u64::from(filled.is_ok())], || format!("{filled:?}"));
        match filled {
            Err(reason) if !self.damaged && self.misdirected.is_none() => {
                Err(format!("I12 a database that ends at {cursor} cannot be filled: {reason}"))
            }
            _ => Ok(()),
        }
    }

    fn fill(&mut self) -> Result<String, String> {
        let desk = self.desk.as_ref().ok_or("no database")?;
        let filled = refill(&self.start(), desk)?;
        self.cover.struck(Fault::DbFilled, Step::Rest, None);
        self.operator.told = true;
        self.desk.iter_mut().for_each(Desk::was_filled);
        Ok(filled)
    }
}
