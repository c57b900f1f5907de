//! A file system in user space that passes everything on to a directory, and fails writes
//! or flushes on command, while it is in use.
//!
//! It implements only what the server uses: files, directories, hard links. Next:
//! `main.rs`, which switches it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

/// Attributes are never cached: the layer below is asked each time.
const TTL: Duration = Duration::ZERO;
/// A short write ends after so many bytes, inside a sector.
const SHORT_BYTES: usize = 512;
const SECTOR_BYTES: usize = 4096;

/// What the layer does to durable writes and to flushes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Mode {
    /// Passes everything on.
    #[default]
    Sound,
    /// Writes fail, nothing is written.
    WriteEio,
    /// Writes fail for lack of space.
    WriteEnospc,
    /// Writes succeed, but the flush after them fails.
    FlushEio,
    /// A write ends inside a sector.
    ShortInSector,
    /// A write accepts no more than one sector.
    ShortBySector,
    /// Durable writes wait until the mode changes.
    Hung,
}

/// The switch of a layer, shared with the test.
#[derive(Default)]
pub(crate) struct Switch {
    state: Mutex<State>,
    turned: Condvar,
}

#[derive(Default)]
struct State {
    mode: Mode,
    /// How many durable writes and flushes met the current mode.
    met: u64,
}

impl Switch {
    pub(crate) fn turn(&self, mode: Mode) {
        *self.state.lock().expect("no panic while the lock is held") = State { mode, met: 0 };
        self.turned.notify_all();
    }

    /// How many calls have met the mode since it was set.
    pub(crate) fn met(&self) -> u64 {
        self.state.lock().expect("no panic while the lock is held").met
    }

    /// The mode that applies to a durable write or a flush; waits while the disk hangs.
    fn meet(&self) -> Mode {
        let mut state = self.state.lock().expect("no panic while the lock is held");
        state.met += 1;
        while state.mode == Mode::Hung {
            state = self.turned.wait(state).expect("no panic while the lock is held");
        }
        state.mode
    }
}

/// Mounts `below` at `at`.
///
/// # Errors
/// Why it cannot be mounted here.
pub(crate) fn mount(below: &Path, at: &Path, switch: Arc<Switch>) -> Result<BackgroundSession, String> {
    std::fs::create_dir_all(below).map_err(|error| error.to_string())?;
    std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
    let layer = Layer { switch, inner: Mutex::new(Inner::new(below)) };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("layer".to_owned()), MountOption::DefaultPermissions];
    // A hung write must not delay concurrent reads.
    config.n_threads = Some(4);
    fuser::spawn_mount(layer, at, &config).map_err(|error| format!("/dev/fuse: {error}"))
}

struct Layer {
    switch: Arc<Switch>,
    inner: Mutex<Inner>,
}

/// Maps inode numbers to paths, and handles to files.
struct Inner {
    paths: HashMap<u64, PathBuf>,
    numbers: HashMap<PathBuf, u64>,
    files: HashMap<u64, Arc<File>>,
    next: u64,
}

impl Inner {
    fn new(below: &Path) -> Self {
        let paths = HashMap::from([(INodeNo::ROOT.0, below.to_path_buf())]);
        let numbers = HashMap::from([(below.to_path_buf(), INodeNo::ROOT.0)]);
        Self { paths, numbers, files: HashMap::new(), next: INodeNo::ROOT.0 }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn number(&mut self, path: &Path) -> u64 {
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        let number = self.fresh();
        self.paths.insert(number, path.to_path_buf());
        self.numbers.insert(path.to_path_buf(), number);
        number
    }

    fn path(&self, number: INodeNo) -> io::Result<PathBuf> {
        self.paths.get(&number.0).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Renames a file; whatever had the new name before is gone.
    fn renamed(&mut self, from: &Path, to: &Path) {
        self.removed(to);
        if let Some(number) = self.numbers.remove(from) {
            self.numbers.insert(to.to_path_buf(), number);
            self.paths.insert(number, to.to_path_buf());
        }
    }

    fn removed(&mut self, path: &Path) {
        if let Some(number) = self.numbers.remove(path) {
            self.paths.remove(&number);
        }
    }
}

impl Layer {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().expect("no panic while the lock is held"))
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.with(|inner| inner.path(parent))?.join(name))
    }

    fn attr(&self, path: &Path) -> io::Result<FileAttr> {
        let found = std::fs::symlink_metadata(path)?;
        let number = self.with(|inner| inner.number(path));
        let kind = FileType::from_std(found.file_type()).ok_or(io::ErrorKind::Unsupported)?;
        Ok(FileAttr {
            ino: INodeNo(number),
            size: found.len(),
            blocks: found.blocks(),
            atime: SystemTime::UNIX_EPOCH,
            mtime: found.modified()?,
            ctime: found.modified()?,
            crtime: SystemTime::UNIX_EPOCH,
            kind,
            perm: (found.mode() & 0o7777) as u16,
            nlink: found.nlink() as u32,
            uid: found.uid(),
            gid: found.gid(),
            rdev: 0,
            blksize: SECTOR_BYTES as u32,
            flags: 0,
        })
    }

    fn open_below(&self, path: &Path, creates: Option<u32>, flags: i32) -> io::Result<u64> {
        let mut options = OpenOptions::new();
        options.read(true).write(flags & libc::O_ACCMODE != libc::O_RDONLY);
        if let Some(mode) = creates {
            options.mode(mode).create_new(flags & libc::O_EXCL != 0).create(true);
        }
        let file = Arc::new(options.open(path)?);
        Ok(self.with(|inner| {
            let handle = inner.fresh();
            inner.files.insert(handle, file);
            handle
        }))
    }

    fn file(&self, handle: FileHandle) -> io::Result<Arc<File>> {
        self.with(|inner| inner.files.get(&handle.0).cloned()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Writes; a durable write is flushed before it returns.
    fn write_below(&self, file: &File, offset: u64, bytes: &[u8], is_durable: bool) -> Result<usize, Errno> {
        let mode = if is_durable { self.switch.meet() } else { Mode::Sound };
        let count = match mode {
            Mode::WriteEio => return Err(Errno::EIO),
            Mode::WriteEnospc => return Err(Errno::ENOSPC),
            Mode::ShortInSector => bytes.len().min(SHORT_BYTES),
            Mode::ShortBySector => bytes.len().min(SECTOR_BYTES),
            Mode::Sound | Mode::FlushEio | Mode::Hung => bytes.len(),
        };
        file.write_all_at(&bytes[..count], offset)?;
        if mode == Mode::FlushEio {
            return Err(Errno::EIO);
        }
        if is_durable {
            file.sync_data()?;
        }
        Ok(count)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(INodeNo, FileType, std::ffi::OsString)>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let attr = self.attr(&entry.path())?;
            entries.push((attr.ino, attr.kind, entry.file_name()));
        }
        Ok(entries)
    }
}

/// Sends the result.
macro_rules! answer {
    ($reply:expr, $done:expr, $then:expr) => {
        match $done {
            Ok(value) => $then($reply, value),
            Err(error) => $reply.error(Errno::from(error)),
        }
    };
}

impl Filesystem for Layer {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.child(parent, name).and_then(|path| self.attr(&path));
        answer!(reply, found, |reply: ReplyEntry, attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let found = self.with(|inner| inner.path(ino)).and_then(|path| self.attr(&path));
        answer!(reply, found, |reply: ReplyAttr, attr| reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = self.with(|inner| inner.path(ino)).and_then(|path| {
            if let Some(size) = size {
                OpenOptions::new().write(true).open(&path)?.set_len(size)?;
            }
            self.attr(&path)
        });
        answer!(reply, set, |reply: ReplyAttr, attr| reply.attr(&TTL, &attr));
    }

    fn mkdir(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _mask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.child(parent, name).and_then(|path| {
            std::fs::create_dir(&path)?;
            self.attr(&path)
        });
        answer!(reply, made, |reply: ReplyEntry, attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let gone = self.child(parent, name).and_then(|path| {
            std::fs::remove_file(&path)?;
            self.with(|inner| inner.removed(&path));
            Ok(())
        });
        answer!(reply, gone, |reply: ReplyEmpty, ()| reply.ok());
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.child(parent, name).and_then(|from| {
            let to = self.child(newparent, newname)?;
            std::fs::rename(&from, &to)?;
            self.with(|inner| inner.renamed(&from, &to));
            Ok(())
        });
        answer!(reply, done, |reply: ReplyEmpty, ()| reply.ok());
    }

    /// The new name gets its own number, because whoever made it looks at it once.
    fn link(&self, _req: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let made = self.with(|inner| inner.path(ino)).and_then(|from| {
            let path = self.child(parent, name)?;
            std::fs::hard_link(&from, &path)?;
            self.attr(&path)
        });
        answer!(reply, made, |reply: ReplyEntry, attr| reply.entry(&TTL, &attr, Generation(0)));
    }

    /// No caching above: the server reads what it has written through another descriptor.
    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let path = self.with(|inner| inner.path(ino));
        let opened = path.and_then(|path| self.open_below(&path, None, flags.0));
        answer!(reply, opened, |reply: ReplyOpen, handle| {
            reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO);
        });
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.child(parent, name).and_then(|path| {
            let handle = self.open_below(&path, Some(mode), flags)?;
            Ok((self.attr(&path)?, handle))
        });
        answer!(reply, made, |reply: ReplyCreate, (attr, handle)| {
            reply.created(&TTL, &attr, Generation(0), FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO);
        });
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut bytes = vec![0; size as usize];
        let read = self.file(fh).and_then(|file| file.read_at(&mut bytes, offset));
        answer!(reply, read, |reply: ReplyData, count: usize| reply.data(&bytes[..count]));
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let is_durable = flags.0 & libc::O_DSYNC != 0;
        let file = self.file(fh).map_err(Errno::from);
        match file.and_then(|file| self.write_below(&file, offset, data, is_durable)) {
            Ok(count) => reply.written(count as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.with(|inner| inner.files.remove(&fh.0));
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        if matches!(self.switch.meet(), Mode::FlushEio | Mode::WriteEio) {
            return reply.error(Errno::EIO);
        }
        let synced = self.file(fh).and_then(|file| file.sync_all());
        answer!(reply, synced, |reply: ReplyEmpty, ()| reply.ok());
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let synced = self.with(|inner| inner.path(ino)).and_then(|path| File::open(path)?.sync_all());
        answer!(reply, synced, |reply: ReplyEmpty, ()| reply.ok());
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.with(|inner| inner.path(ino)).and_then(|path| self.list(&path));
        match listed {
            Ok(entries) => {
                for (at, (number, kind, name)) in entries.into_iter().enumerate().skip(offset as usize) {
                    if reply.add(number, at as u64 + 1, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(Errno::from(error)),
        }
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let found = self.with(|inner| inner.path(ino)).and_then(|path| Ok(rustix::fs::statvfs(path)?));
        answer!(reply, found, |reply: ReplyStatfs, s: rustix::fs::StatVfs| {
            let (size, whole) = (s.f_bsize as u32, s.f_frsize as u32);
            reply.statfs(s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, size, 255, whole);
        });
    }
}
