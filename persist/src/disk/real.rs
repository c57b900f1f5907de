//! The real file system: Linux calls, each checked.
//!
//! Durable writes are `O_DIRECT | O_DSYNC` where the file system supports that (direct
//! alone would not be durable), otherwise `pwrite` and `fdatasync`. It must never
//! ignore a short write nor repeat a failed sync. Next: [`crate::log::segment`].

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::Errno;

use super::buffer::{AlignedBuffer, is_aligned};
use super::mounts::{lies_in_memory, overlay_upper};
use super::{Disk, DiskFile, DiskLock, LockError, OpenMode, SECTOR_BYTES, write_whole};

/// Mode of new files: order data is only for the owner.
const FILE_MODE: u32 = 0o600;
/// Bytes zeroed per call.
const ZERO_CHUNK_BYTES: usize = 1 << 20;

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// Its files: one descriptor for cached access, one for direct writes once needed.
struct RealFile {
    cached: File,
    direct: Option<File>,
}

struct RealLock {
    _file: File,
}
impl DiskLock for RealLock {}

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        match std::fs::create_dir(dir) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn open(&self, file: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(FILE_MODE);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::ReadWrite => options.write(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
        };
        let cached = options.open(file)?;
        let direct = if mode == OpenMode::Read { None } else { open_direct(file) };
        Ok(Box::new(RealFile { cached, direct }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        std::fs::remove_file(file)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn is_volatile(&self, dir: &Path) -> io::Result<bool> {
        lies_in_memory(dir, |dir| Ok(rustix::fs::statfs(dir)?.f_type as u64), upper_of)
    }

    fn lock(&self, file: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(file)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(LockError::Held { holder_pid: read_pid(&mut lock) }),
            Err(error) => return Err(LockError::Io(error.into())),
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Box::new(RealLock { _file: lock }))
    }
}

/// The upper directory of the overlay that a directory lies on, as far as it can be told.
fn upper_of(dir: &Path) -> Option<PathBuf> {
    let device = std::fs::metadata(dir).ok()?.dev();
    let mountinfo = std::fs::read("/proc/self/mountinfo").ok()?;
    let device = (rustix::fs::major(device), rustix::fs::minor(device));
    overlay_upper(&String::from_utf8_lossy(&mountinfo), device)
}

fn read_pid(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// A second descriptor for direct writes; `None` if the file system does not support them.
fn open_direct(file: &Path) -> Option<File> {
    let flags = (OFlags::DIRECT | OFlags::DSYNC).bits();
    OpenOptions::new().write(true).custom_flags(flags.cast_signed()).open(file).ok()
}

impl RealFile {
    /// Writes directly, durably and completely. `Ok(false)`: the file does not support direct writes,
    /// and nothing was written.
    fn write_direct(&self, offset: u64, bytes: &[u8]) -> io::Result<bool> {
        let Some(direct) = &self.direct else { return Ok(false) };
        let mut refused = false;
        let written = write_whole(bytes, |done, rest| {
            let wrote = rustix::io::pwrite(direct, rest, offset + done as u64);
            // The kernel checks alignment and support before it moves a byte.
            refused |= wrote == Err(Errno::INVAL) && done == 0;
            Ok(wrote?)
        });
        if refused {
            return Ok(false);
        }
        written?;
        Ok(true)
    }
}

impl DiskFile for RealFile {
    fn write_durable(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(offset % SECTOR_BYTES as u64, 0, "durable writes begin at a sector");
        assert_eq!(bytes.len() % SECTOR_BYTES, 0, "durable writes are whole sectors");
        let landed = if is_aligned(bytes) {
            self.write_direct(offset, bytes)?
        } else {
            let mut copy = AlignedBuffer::new(bytes.len());
            copy.as_mut_slice().copy_from_slice(bytes);
            self.write_direct(offset, copy.as_slice())?
        };
        if landed {
            return Ok(());
        }
        self.direct = None;
        self.cached.write_all_at(bytes, offset)?;
        self.cached.sync_data()
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.cached.write_all_at(bytes, offset)
    }

    fn zero_fill(&mut self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.cached, FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        let zeros = vec![0_u8; ZERO_CHUNK_BYTES.min(bytes as usize)];
        let mut at = 0;
        while at < bytes {
            let len = (bytes - at).min(zeros.len() as u64);
            self.cached.write_all_at(&zeros[..len as usize], at)?;
            at += len;
        }
        Ok(())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.cached.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.cached.sync_all()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.cached.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durable_writes_are_read_back_aligned_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut file = RealDisk.open(&path, OpenMode::CreateNew).unwrap();
        file.zero_fill(16 * 4096).unwrap();
        file.sync().unwrap();
        let bytes: Vec<u8> = (0..8193_u32).map(|n| n as u8).collect();
        file.write_durable(4096, &bytes[..8192]).unwrap();
        file.write_durable(3 * 4096, &bytes[1..8193]).unwrap();
        let mut back = vec![0; 20 * 4096];
        assert_eq!(file.read(0, &mut back).unwrap(), 16 * 4096);
        assert_eq!(back[4096..12288], bytes[..8192]);
        assert_eq!(back[12288..20480], bytes[1..8193]);
        assert!(back[20480..].iter().all(|b| *b == 0));
        assert_eq!(file.size().unwrap(), 16 * 4096);
    }

    #[test]
    fn a_lock_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = RealDisk.lock(&path).unwrap();
        match RealDisk.lock(&path) {
            Err(LockError::Held { holder_pid }) => assert_eq!(holder_pid, Some(std::process::id())),
            other => panic!("expected a held lock, got {:?}", other.map(|_| ())),
        }
        drop(held);
        RealDisk.lock(&path).unwrap();
    }

    #[test]
    fn opening_respects_the_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let kind = |mode| RealDisk.open(&path, mode).err().map(|e| e.kind());
        assert_eq!(kind(OpenMode::Read), Some(ErrorKind::NotFound));
        assert_eq!(kind(OpenMode::ReadWrite), Some(ErrorKind::NotFound));
        assert_eq!(kind(OpenMode::CreateNew), None);
        assert_eq!(kind(OpenMode::CreateNew), Some(ErrorKind::AlreadyExists));
        assert_eq!(RealDisk.list(dir.path()).unwrap(), ["f"]);
        assert!(RealDisk.free_bytes(dir.path()).unwrap() > 0);
    }
}
