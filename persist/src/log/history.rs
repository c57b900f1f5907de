//! Everything that a recovered log knows, for a database that lacks facts which were trimmed.
//!
//! It begins at the *oldest* snapshot that the log continues: facts have idempotency keys and
//! payment references as text, older snapshots only as hashes. Reads only. Next:
//! [`crate::export::refill`], which uses it.

use stampede_core::state_row::StateRow;
use stampede_core::types::{Lsn, UnixMillis};

use super::block::ChainHash;
use super::dir::Opened;
use super::error::OpenError;
use super::layout;
use super::rebuild::Rebuild;
use super::snapshot::{SnapshotHeader, list_snapshots, read_snapshot};
use crate::feed::{FactFeed, FeedError, History};

/// See the module's text.
pub struct LogHistory<'a> {
    opened: &'a Opened,
    snapshot: SnapshotHeader,
    state: &'a dyn Rebuild,
}

impl std::fmt::Debug for LogHistory<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHistory").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

impl<'a> LogHistory<'a> {
    /// The history of a log that was recovered into `state`; `None` = there is no usable snapshot, so
    /// the log itself begins at LSN 1.
    ///
    /// # Errors
    /// [`OpenError::Io`].
    pub fn of(opened: &'a Opened, state: &'a dyn Rebuild) -> Result<Option<Self>, OpenError> {
        let (disk, dir) = opened.place();
        let control = opened.control();
        let io = |source| OpenError::Io { path: layout::snapshot_dir(dir), source };
        let known = list_snapshots(&**disk, dir).map_err(io)?;
        let snapshot = known.into_iter().filter(|lsn| lsn.next() >= control.first_lsn).find_map(|lsn| {
            let read = read_snapshot(&**disk, dir, lsn, control.log_id, &mut |_| Ok(()));
            // Recovery has reported a damaged one; the next one is used instead.
            read.ok()
        });
        Ok(snapshot.map(|snapshot| Self { opened, snapshot, state }))
    }
}

impl History for LogHistory<'_> {
    fn snapshot_lsn(&self) -> Lsn {
        self.snapshot.lsn
    }

    fn snapshot_ms(&self) -> UnixMillis {
        self.snapshot.last_ms
    }

    fn last_lsn(&self) -> Lsn {
        Lsn(self.opened.next_lsn().0 - 1)
    }

    fn snapshot_rows(
        &self,
        visit: &mut dyn FnMut(&StateRow<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let (disk, dir) = self.opened.place();
        let SnapshotHeader { lsn, log_id, .. } = self.snapshot;
        read_snapshot(&**disk, dir, lsn, log_id, visit).map(drop).map_err(|error| error.to_string())
    }

    fn facts(&self) -> Box<dyn FactFeed + '_> {
        Box::new(self.opened.tail(self.snapshot.lsn))
    }

    fn chain(&self) -> Result<ChainHash, FeedError> {
        self.opened.tail(self.last_lsn()).chain()
    }

    fn state(&self, visit: &mut dyn FnMut(StateRow<'_>)) {
        self.state.rows(visit);
    }
}
