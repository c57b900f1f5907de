//! Trimming: a segment goes when a snapshot covers it and Postgres holds it (I11).
//!
//! Whether a Postgres has to hold it, the control file says: what the settings of one start say
//! is forgotten with it, what is gone stays gone.
//!
//! The control file learns where the log begins *before* anything goes, so that a
//! crash in between leaves leftovers, never a hole. The log is kept back to the
//! *older* of the two snapshots, so that a damaged newest one costs nothing; only
//! when room runs out is it cut to the newest. Next: [`super::segment_pool`], which
//! takes the files back.

use std::io;

use stampede_core::types::Lsn;

use super::maintenance::Maintenance;
use super::snapshot::list_snapshots;

impl Maintenance {
    /// Up to where facts may leave the log.
    fn trim_floor(&self) -> io::Result<Lsn> {
        let newest = self.status.snapshot_lsn();
        let known = list_snapshots(&*self.disk, &self.dir)?;
        let older = known.iter().rev().find(|lsn| **lsn < newest).copied().unwrap_or(Lsn::ZERO);
        let covered = match self.status.is_full() {
            true => newest,
            false => older,
        };
        let kept_for = self.control().keeps_facts_for();
        Ok(if kept_for.is_some() { covered.min(self.status.exported_lsn()) } else { covered })
    }

    /// Lets go of segments that are no longer needed; returns how many went. A file that could not be taken
    /// back has another turn with each call.
    ///
    /// # Errors
    /// What the file system answers. The log has failed if it was the control file; otherwise
    /// leftovers are removed at the next start.
    pub fn trim(&self) -> io::Result<usize> {
        let Some((gone, first)) = self.index.covered(self.trim_floor()?) else {
            return self.shelf.give_back(&[]).map(|()| 0);
        };
        self.update_control(|control| {
            control.first_segment = first.number;
            control.first_lsn = first.first_lsn;
            control.first_chain = first.prev_hash;
        })?;
        self.index.forget_before(first.number);
        self.status.set_first_retained(first.first_lsn);
        let given_back = self.shelf.give_back(&gone);
        self.queue.nudge();
        given_back.map(|()| gone.len())
    }
}
