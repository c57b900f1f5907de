//! The journal, snapshots and trimming: a failed write is not durable (I10), trimming is late (I11).

use stampede_net::server::replay::Shards;
use stampede_persist::log::journal::Step as Wrote;

use super::History;
use crate::book::{Red, ensure};
use crate::coverage::Step;
use crate::engine::Life;

impl History<'_> {
    pub(super) fn journal(&mut self) -> Result<(), Red> {
        if self.slow > 0 {
            self.slow -= 1;
            return Ok(());
        }
        self.step = Step::Journal;
        let life = self.life.as_mut().expect("called in a life");
        let before = life.log.status.durable_lsn();
        let wrote = life.log.journal.step();
        if matches!(wrote, Wrote::Wrote { .. }) {
            self.last_group = before.0;
        }
        let durable = life.log.status.durable_lsn();
        self.durable = durable.0;
        ensure!(wrote != Wrote::Failed || durable == before, "I10 a failed write was called durable");
        self.trace.note("journal", &[durable.0], || format!("{wrote:?}, LSN {durable}"));
        if wrote == Wrote::NeedsSegment || self.rng.coin() {
            self.spare();
        }
        Ok(())
    }

    pub(super) fn spare(&mut self) {
        self.step = Step::Spare;
        // Without room, or after an error, there is no spare, and the journal waits.
        let _none = self.life().log.maintenance.prepare_spare();
    }

    pub(super) fn maintain(&mut self) -> Result<(), Red> {
        match self.rng.below(8) {
            0..3 => {
                self.step = Step::Settle;
                if self.life().log.journal.control_is_behind() {
                    self.life().log.journal.write_control(false);
                }
            }
            3 => self.spare(),
            4 | 5 => self.snapshot()?,
            _ => self.trim()?,
        }
        Ok(())
    }

    /// Facts that a snapshot covers may be gone later: the book reads them first.
    pub(super) fn snapshot(&mut self) -> Result<(), Red> {
        self.step = Step::Snapshot;
        let life = self.life.as_ref().expect("called in a life");
        if self.misdirected.is_none() {
            life.audit(&mut self.book)?;
        }
        if self.book.lsn != life.log.status.durable_lsn().0 {
            return Ok(());
        }
        let made = life.log.maintenance.snapshot(&mut Shards::new(1, life.shared.secret));
        let lsn = made.as_ref().map_or(0, |lsn| lsn.0);
        self.trace.note("snapshot", &[lsn], || format!("{made:?}"));
        Ok(())
    }

    pub(super) fn trim(&mut self) -> Result<(), Red> {
        self.step = Step::Trim;
        let life = self.life.as_ref().expect("called in a life");
        let gone = life.log.maintenance.trim();
        let (first, covered) = (life.log.status.first_retained_lsn(), life.log.status.snapshot_lsn());
        let exported = self.may_trim();
        self.was_trimmed(first.0 - 1);
        ensure!(first.0 - 1 <= exported, "I11 trimmed up to {first}, {exported} is exported");
        ensure!(first.0 <= covered.0 + 1, "I11 trimmed up to {first}, the snapshot covers {covered}");
        self.trace.note("trim", &[first.0], || format!("{gone:?}, the log begins at LSN {first}"));
        Ok(())
    }

    /// The database is not behind what was trimmed, or nothing is sold (I12).
    pub(super) fn check_attached(&mut self, life: &Life) -> Result<(), Red> {
        let first = life.log.status.first_retained_lsn().0;
        let furthest = self.may_trim();
        ensure!(first - 1 <= furthest, "I11 the log begins at LSN {first}, {furthest} was exported");
        Ok(())
    }
}
