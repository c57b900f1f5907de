//! Chooses the snapshot to replay: at a start, for the next snapshot, and for `log cut-import`.
//!
//! It changes nothing. Next: [`super::snapshot`] for the file.

use std::path::Path;

use stampede_core::types::Lsn;

use super::control::Control;
use super::error::OpenError;
use super::layout;
use super::snapshot::{SnapshotError, list_snapshots, read_snapshot};
use crate::disk::Disk;

/// The newest undamaged snapshot that the log continues.
///
/// # Errors
/// [`OpenError::Snapshot`] when there is none and the log does not begin at LSN 1.
pub(super) fn choose_snapshot(
    disk: &dyn Disk,
    dir: &Path,
    control: &Control,
    warnings: &mut Vec<String>,
) -> Result<Option<Lsn>, OpenError> {
    let io = |source| OpenError::Io { path: layout::snapshot_dir(dir), source };
    let first_lsn = control.first_lsn;
    let mut first_error = None;
    for lsn in list_snapshots(disk, dir).map_err(io)?.into_iter().rev() {
        let checked = read_snapshot(disk, dir, lsn, control.log_id, &mut |_| Ok(()));
        match checked {
            Ok(_) if lsn.next() >= first_lsn => {
                warnings.extend(
                    first_error.map(|error: SnapshotError| format!("{error}; an older snapshot was used")),
                );
                return Ok(Some(lsn));
            }
            Ok(_) => {}
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    match first_error {
        Some(source) if first_lsn > Lsn(1) => Err(OpenError::Snapshot { source, first_lsn }),
        None if first_lsn > Lsn(1) => Err(OpenError::SnapshotMissing { dir: dir.to_owned(), first_lsn }),
        other => {
            warnings.extend(other.map(|error| format!("{error}; the whole log was replayed instead")));
            Ok(None)
        }
    }
}
