//! `stampede detach`: separates a log from its database.
//!
//! Only the control file changes, and only while no engine runs on the directory. The database
//! is not asked: most of the time it is lost. Its cursor, if there still is one, tells a later
//! attach how far the export came. Next: [`super::trim`], which may remove facts from then on.

use std::io;
use std::path::{Path, PathBuf};

use super::control::{ControlError, ControlFile, KeptFor, read_control};
use super::layout;
use crate::disk::{Disk, LockError};

/// Why a log cannot be detached. Nothing was changed, except perhaps after [`DetachError::Io`].
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// There is no log in the directory.
    #[error("{} holds no log; name the engine's data directory", dir.display())]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },
    /// An engine runs on it.
    #[error(
        "{} is in use by process {}; stop it first",
        dir.display(),
        holder_pid.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string())
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The engine's process, if it is known.
        holder_pid: Option<u32>,
    },
    /// Its control file cannot be used.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The file system refused.
    #[error("cannot access {}: {source}; check the disk and the directory's owner", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// For which database the log in this directory keeps its facts; `None` = for none. Reads only.
///
/// # Errors
/// See [`DetachError`].
pub fn kept_for(disk: &dyn Disk, dir: &Path) -> Result<Option<KeptFor>, DetachError> {
    let control = read_control(disk, dir)?;
    Ok(control.ok_or_else(|| DetachError::NoLog { dir: dir.to_owned() })?.keeps_facts_for())
}

/// Makes the log in this directory forget its database, durably. Returns for which database it had
/// kept its facts; `None` = for none, and nothing was changed.
///
/// # Errors
/// See [`DetachError`].
pub fn detach(disk: &dyn Disk, dir: &Path) -> Result<Option<KeptFor>, DetachError> {
    // Checked before the lock, which would create its file even where there is no log.
    kept_for(disk, dir)?;
    let io = |source| DetachError::Io { dir: dir.to_owned(), source };
    let _lock = disk.lock(&dir.join(layout::LOCK_NAME)).map_err(|error| match error {
        LockError::Held { holder_pid } => DetachError::Locked { dir: dir.to_owned(), holder_pid },
        LockError::Io(source) => io(source),
    })?;
    let control = read_control(disk, dir)?.ok_or_else(|| DetachError::NoLog { dir: dir.to_owned() })?;
    let kept_for = control.keeps_facts_for();
    if kept_for.is_some() {
        let file = ControlFile::open(disk, dir, control).map_err(io)?;
        file.update(super::control::Control::detach).map_err(io)?;
    }
    Ok(kept_for)
}
