//! Why a data directory cannot be opened, with the cause and the remedy for the operator.
//!
//! Next: [`super::dir`], which opens it.

use std::io;
use std::path::PathBuf;

use stampede_core::types::Lsn;

use super::control::ControlError;
use super::recovery::RecoveryError;
use super::snapshot::SnapshotError;

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An option is out of its range.
    #[error("{0}; change the setting")]
    Options(String),
    /// Another process runs on it.
    #[error(
        "{} is in use by process {}; stop it, or give another data directory",
        dir.display(),
        holder_pid.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string())
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The other process, if it is known.
        holder_pid: Option<u32>,
    },
    /// It lies in memory.
    #[error(
        "{} is in memory (tmpfs): a power cut would lose acknowledged orders; use a directory on a disk, \
         or allow tmpfs explicitly",
        dir.display()
    )]
    Volatile {
        /// The directory.
        dir: PathBuf,
    },
    /// It cannot be written to.
    #[error("cannot write to {}: {source}; create the directory and make this process's user its owner", dir.display())]
    Unwritable {
        /// The directory.
        dir: PathBuf,
        /// The file system's answer.
        source: io::Error,
    },
    /// It holds segments or snapshots but no control file.
    #[error(
        "{} holds a log but no control file; put back `control` from a copy of the same directory, \
         or use another directory. Nothing was changed",
        dir.display()
    )]
    NoControl {
        /// The directory.
        dir: PathBuf,
    },
    /// Its control file cannot be used.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Its log cannot be recovered.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// Every snapshot is damaged, and the log does not go back to the beginning.
    #[error(
        "{source}; the log begins at LSN {first_lsn}, and no other snapshot reaches that far. Nothing was \
         changed. Put the snapshot back from a copy"
    )]
    Snapshot {
        /// What is wrong with one of them.
        source: SnapshotError,
        /// Where the log begins.
        first_lsn: Lsn,
    },
    /// The log was trimmed and there is no snapshot at all.
    #[error(
        "{} has no snapshot, and its log begins at LSN {first_lsn}. Nothing was changed. Put the snapshot \
         back from a copy",
        dir.display()
    )]
    SnapshotMissing {
        /// The directory.
        dir: PathBuf,
        /// Where the log begins.
        first_lsn: Lsn,
    },
    /// The file system refused.
    #[error("cannot access {}: {source}; check the disk and the directory's owner", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}
