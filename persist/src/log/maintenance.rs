//! The work beside the journal: spare segments, snapshots, trimming.
//!
//! Each is a call that can be made at any time, from any thread except the
//! journal's; [`super::thread`] and [`super::snapshotter`] make them in theirs.
//! Trimming is in [`super::trim`], snapshots are in [`super::snapshotter`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stampede_core::types::Lsn;

use super::control::{Control, ControlFile};
use super::index::SegmentIndex;
use super::options::LogOptions;
use super::queue::FactQueue;
use super::segment_pool::{Prepared, SegmentPool};
use super::status::LogStatus;
use super::tail::LogTail;
use crate::disk::Disk;

/// The parts of a running log that are not the journal.
pub struct Maintenance {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) options: LogOptions,
    pub(super) status: Arc<LogStatus>,
    pub(super) control: Arc<ControlFile>,
    pub(super) pool: Arc<SegmentPool>,
    pub(super) index: Arc<SegmentIndex>,
    pub(super) queue: Arc<FactQueue>,
}

impl Maintenance {
    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    /// What the control file says now.
    pub fn control(&self) -> Control {
        self.control.current()
    }
    /// The watermarks.
    pub fn status(&self) -> &Arc<LogStatus> {
        &self.status
    }

    /// Makes a spare segment if one is needed; true if it did. Takes as long as zero-filling a segment.
    ///
    /// # Errors
    /// What the file system answers; the log is not affected.
    pub fn prepare_spare(&self) -> io::Result<bool> {
        let made = self.pool.prepare().map(|prepared| prepared == Prepared::One);
        if matches!(made, Ok(true)) {
            self.queue.unpark();
        }
        made
    }

    /// A reader of durable facts that begins after this LSN.
    pub fn tail(&self, after: Lsn) -> LogTail {
        LogTail::new(
            Arc::clone(&self.disk),
            self.dir.clone(),
            Arc::clone(&self.control),
            Arc::clone(&self.status),
            after,
        )
    }

    /// Records durably which database this log exports to.
    ///
    /// # Errors
    /// What the file system answers; the log has failed then.
    pub fn set_database(&self, identity: [u8; 16]) -> io::Result<()> {
        self.update_control(|control| control.database = Some(identity))
    }

    /// Changes the control file; a failure is a failure of the log (I10).
    pub(super) fn update_control(&self, change: impl FnOnce(&mut Control)) -> io::Result<()> {
        let updated = self.control.update(change);
        if let Err(error) = &updated {
            self.status.fail(format!("control file: {error}"));
            self.queue.unpark();
        }
        updated
    }
}

impl std::fmt::Debug for Maintenance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maintenance").field("dir", &self.dir).finish_non_exhaustive()
    }
}
