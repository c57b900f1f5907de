//! The only way to the file system: one small trait, so that a simulated disk can
//! tear, lose and reorder writes, flip bits, and fail.
//!
//! Nothing else in the log may name `std::fs`. Every call is synchronous, starts
//! no thread and does exactly what its contract says; no call retries a failed
//! sync. Paths are those of the real file system. Next: [`real`] for Linux,
//! [`crate::log`] for what is stored with it.

use std::io;
use std::path::Path;

pub mod buffer;
mod mounts;
pub mod real;

/// The unit of durable writes, in bytes: a multiple of every sector size in use.
/// Offsets and lengths of [`DiskFile::write_durable`] are multiples of it.
pub const SECTOR_BYTES: usize = 4096;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// It exists; it is only read.
    Read,
    /// It exists; it is read and written.
    ReadWrite,
    /// It does not exist; it is made empty, readable by its owner alone.
    CreateNew,
}

/// A file system.
pub trait Disk: Send + Sync {
    /// Makes a directory in one that exists; false if it is there already. The entry is
    /// durable after [`Disk::sync_dir`] of the parent.
    ///
    /// # Errors
    /// `NotFound` without the parent, or what the file system answers.
    fn create_dir(&self, dir: &Path) -> io::Result<bool>;

    /// Opens a file. A created file's entry is durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// `NotFound` or `AlreadyExists` against the mode, or what the file system answers.
    fn open(&self, file: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// The names of the files in a directory, sorted; no directories.
    ///
    /// # Errors
    /// `NotFound`, or what the file system answers.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Gives a file another name on the same file system, replacing what is there.
    /// Atomic; durable after [`Disk::sync_dir`] of the directory.
    ///
    /// # Errors
    /// What the file system answers; the file then still has its old name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// What the file system answers.
    fn remove(&self, file: &Path) -> io::Result<()>;

    /// Returns when the directory's entries are durable.
    ///
    /// # Errors
    /// What the file system answers; nothing is known about the entries then.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that may still be allocated there.
    ///
    /// # Errors
    /// What the file system answers.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Whether the directory lies in memory, so that a power cut empties it. Also for an overlay, if its
    /// upper directory can be seen.
    ///
    /// # Errors
    /// What the file system answers.
    fn is_volatile(&self, dir: &Path) -> io::Result<bool>;

    /// Takes the file as a lock, for this process alone, until the guard is dropped
    /// or the process ends. The holder's process id is written into it.
    ///
    /// # Errors
    /// [`LockError::Held`] at once if another process has it: this never waits.
    fn lock(&self, file: &Path) -> Result<Box<dyn DiskLock>, LockError>;
}

/// A file of a [`Disk`].
pub trait DiskFile: Send {
    /// Writes sectors and returns when they are durable.
    ///
    /// `offset` and the length are multiples of [`SECTOR_BYTES`], inside the file's
    /// present size. A short write is continued or reported, never ignored.
    ///
    /// # Errors
    /// What the file system answers. Any part may then have landed: the caller must
    /// not write to this file again.
    fn write_durable(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes bytes that become durable with the next [`DiskFile::sync`]; the file
    /// grows where needed.
    ///
    /// # Errors
    /// As [`DiskFile::write_durable`].
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Sets the size, allocates it and fills it with zeros, so that later writes change
    /// no metadata. Durable with the next [`DiskFile::sync`].
    ///
    /// # Errors
    /// `StorageFull` when there is no room, or what the file system answers.
    fn zero_fill(&mut self, bytes: u64) -> io::Result<()>;

    /// Reads from `offset` until the buffer is full or the file ends; returns how much.
    ///
    /// # Errors
    /// What the file system answers.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Returns when everything written, and the size, is durable.
    ///
    /// # Errors
    /// What the file system answers. Never repeat it: a second call may succeed with the
    /// data gone.
    fn sync(&mut self) -> io::Result<()>;

    /// The size in bytes.
    ///
    /// # Errors
    /// What the file system answers.
    fn size(&self) -> io::Result<u64>;
}

/// Writes all of `bytes`, whole sectors, by calls that may each write only a part: `pwrite` gets
/// how much is done and the bytes that are left, and returns how many it wrote. An interrupted call
/// is repeated; any other error ends it.
///
/// # Errors
/// What `pwrite` answers; `WriteZero` when it writes nothing; and an error when it ends inside a
/// sector, whose content is then unknown.
pub fn write_whole(
    bytes: &[u8],
    mut pwrite: impl FnMut(usize, &[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match pwrite(done, &bytes[done..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) if n % SECTOR_BYTES != 0 => {
                return Err(io::Error::other(format!("direct write ended inside a sector after {n} bytes")));
            }
            Ok(n) => done += n,
        }
    }
    Ok(())
}

/// Removes a file if there is one. Durable after [`Disk::sync_dir`].
///
/// # Errors
/// What the file system answers, except `NotFound`.
pub fn remove_if_there(disk: &dyn Disk, file: &Path) -> io::Result<()> {
    match disk.remove(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A lock that is held until this is dropped.
pub trait DiskLock: Send {}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("held by process {}", holder_pid.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string()))]
    Held {
        /// That process, if it wrote its number.
        holder_pid: Option<u32>,
    },
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}
