//! Trimming: a segment is removed when a snapshot covers it and Postgres holds it (I11).
//!
//! Whether a Postgres has to hold it is in the control file, not in the settings of one start:
//! settings change, and removed facts do not come back.
//!
//! The control file records the new beginning of the log *before* anything is removed, so
//! that a crash in between leaves leftovers, never a hole. The log is kept back to the
//! *older* of the two snapshots, so that a damaged newest one does no harm; only when space
//! runs out is it trimmed to the newest. Next: [`super::segment_pool`], which recycles the
//! files.

use std::io;

use stampede_core::types::Lsn;

use super::maintenance::Maintenance;
use super::snapshot::list_snapshots;

impl Maintenance {
    /// The last LSN that may be trimmed.
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

    /// Removes segments that are no longer needed; returns how many. Each call also tries again the files
    /// that could not be recycled before.
    ///
    /// # Errors
    /// What the file system answers. If it was the control file, the log has failed; otherwise the next
    /// start removes the leftovers.
    pub fn trim(&self) -> io::Result<usize> {
        let Some((gone, first)) = self.index.covered(self.trim_floor()?) else {
            return self.pool.recycle(&[]).map(|()| 0);
        };
        self.update_control(|control| {
            control.first_segment = first.number;
            control.first_lsn = first.first_lsn;
            control.first_chain = first.prev_hash;
        })?;
        self.index.forget_before(first.number);
        self.status.set_first_retained(first.first_lsn);
        let recycled = self.pool.recycle(&gone);
        self.queue.unpark();
        recycled.map(|()| gone.len())
    }
}
