//! A disk under real threads that notes every write and sync in order.
//!
//! A durable write has a beginning and an end, with the device's time between them; facts
//! gather meanwhile, and other threads write. Each entry also notes what everybody could know at that
//! moment: the durable watermark, and the cursor in the database. Reads are not noted.
//! Next: [`super::player`], which makes disks of the notes.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use stampede_persist::disk::{Disk, DiskFile, DiskLock, LockError, OpenMode};

use super::sim_disk::{Rng, SimDisk};

/// What was done to the disk. Files are numbered as they are opened.
pub(crate) enum Change {
    Create {
        file: usize,
        path: String,
    },
    Open {
        file: usize,
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    SyncDir {
        path: String,
    },
    MakeDir {
        path: String,
    },
    /// A durable write was handed to the device: any of its sectors may have landed.
    Begin {
        file: usize,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    /// It has come back: all have landed.
    End {
        file: usize,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    Write {
        file: usize,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    Zero {
        file: usize,
        bytes: u64,
    },
    Sync {
        file: usize,
    },
}

/// An entry of the notes.
pub(crate) struct Event {
    pub(crate) at: Duration,
    /// The durable LSN that a producer could see before it happened.
    pub(crate) durable: u64,
    /// The cursor that was committed in the database before it happened.
    pub(crate) cursor: u64,
    pub(crate) change: Change,
}

/// How fast the device is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    pub(crate) write_us_max: u64,
    /// One of so many writes takes long.
    pub(crate) stall_in: u64,
    pub(crate) stall_us: u64,
}

pub(crate) struct Notes {
    pub(crate) events: Vec<Event>,
    /// Durable writes to the log that the device has not finished.
    pub(crate) in_flight: usize,
    files: usize,
}

struct Shared {
    live: SimDisk,
    begin: Instant,
    device: Device,
    rng: Mutex<Rng>,
    notes: Mutex<Notes>,
    durable: OnceLock<Arc<AtomicU64>>,
    cursor: Arc<AtomicU64>,
}

/// The disk; clones share it.
#[derive(Clone)]
pub(crate) struct CaptureDisk(Arc<Shared>);

impl CaptureDisk {
    /// A disk that begins as `live`, which nobody else uses any more.
    pub(crate) fn new(live: SimDisk, device: Device, seed: u64, cursor: Arc<AtomicU64>) -> Self {
        let notes = Notes { events: Vec::new(), in_flight: 0, files: 0 };
        Self(Arc::new(Shared {
            live,
            begin: Instant::now(),
            device,
            rng: Mutex::new(Rng(seed)),
            notes: Mutex::new(notes),
            durable: OnceLock::new(),
            cursor,
        }))
    }

    /// Notes this watermark with each entry from now on.
    pub(crate) fn watch(&self, durable: Arc<AtomicU64>) {
        assert!(self.0.durable.set(durable).is_ok(), "one log at a time");
    }

    /// Stops whatever is noted, for a look at it.
    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, notes: &mut Notes, change: Change) {
        let durable = self.0.durable.get().map_or(0, |durable| durable.load(Ordering::Acquire));
        let cursor = self.0.cursor.load(Ordering::Acquire);
        notes.events.push(Event { at: self.0.begin.elapsed(), durable, cursor, change });
    }

    /// Does something to the live disk and notes it, as one step.
    fn note<T>(&self, change: Change, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut notes = self.notes();
        let done = work()?;
        self.push(&mut notes, change);
        Ok(done)
    }

    /// What the device takes for a write or sync.
    fn take_time(&self) {
        let Device { write_us_max, stall_in, stall_us } = self.0.device;
        let us = {
            let mut rng = self.0.rng.lock().unwrap_or_else(PoisonError::into_inner);
            if rng.below(stall_in) == 0 { stall_us } else { rng.below(write_us_max + 1) }
        };
        // A short wait is a spin that gives way: a sleep would take longer than a fast disk.
        let until = Instant::now() + Duration::from_micros(us);
        if us >= 500 {
            std::thread::sleep(Duration::from_micros(us));
        }
        while Instant::now() < until {
            std::thread::yield_now();
        }
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("simulated paths are text").to_owned()
}

impl Disk for CaptureDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        self.note(Change::MakeDir { path: text(dir) }, || self.0.live.create_dir(dir))
    }

    fn open(&self, file: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if mode == OpenMode::Read {
            return self.0.live.open(file, mode);
        }
        let mut notes = self.notes();
        let inner = self.0.live.open(file, mode)?;
        let (number, path) = (notes.files, text(file));
        notes.files += 1;
        let is_log = path.contains("/log/") && path.ends_with(".seg");
        let change = match mode {
            OpenMode::CreateNew => Change::Create { file: number, path },
            _ => Change::Open { file: number, path },
        };
        self.push(&mut notes, change);
        Ok(Box::new(CaptureFile { disk: self.clone(), inner, number, is_log }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.live.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let change = Change::Rename { from: text(from), to: text(to) };
        self.note(change, || self.0.live.rename(from, to))
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.note(Change::Remove { path: text(file) }, || self.0.live.remove(file))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.take_time();
        self.note(Change::SyncDir { path: text(dir) }, || self.0.live.sync_dir(dir))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.0.live.free_bytes(dir)
    }

    fn is_volatile(&self, dir: &Path) -> io::Result<bool> {
        self.0.live.is_volatile(dir)
    }

    fn lock(&self, file: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        self.0.live.lock(file)
    }
}

struct CaptureFile {
    disk: CaptureDisk,
    inner: Box<dyn DiskFile>,
    number: usize,
    is_log: bool,
}

impl DiskFile for CaptureFile {
    fn write_durable(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (file, copy): (_, Arc<[u8]>) = (self.number, bytes.into());
        {
            let mut notes = self.disk.notes();
            self.inner.write(offset, bytes)?;
            self.disk.push(&mut notes, Change::Begin { file, offset, bytes: Arc::clone(&copy) });
            notes.in_flight += usize::from(self.is_log);
        }
        self.disk.take_time();
        let mut notes = self.disk.notes();
        self.inner.write_durable(offset, bytes)?;
        self.disk.push(&mut notes, Change::End { file, offset, bytes: copy });
        notes.in_flight -= usize::from(self.is_log);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let change = Change::Write { file: self.number, offset, bytes: bytes.into() };
        self.disk.clone().note(change, || self.inner.write(offset, bytes))
    }

    fn zero_fill(&mut self, bytes: u64) -> io::Result<()> {
        let change = Change::Zero { file: self.number, bytes };
        self.disk.clone().note(change, || self.inner.zero_fill(bytes))
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(offset, buffer)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.take_time();
        self.disk.clone().note(Change::Sync { file: self.number }, || self.inner.sync())
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>9} us durable {:>6} cursor {:>6} ", self.at.as_micros(), self.durable, self.cursor)?;
        match &self.change {
            Change::Create { file, path } => write!(f, "create {path} as file {file}"),
            Change::Open { file, path } => write!(f, "open {path} as file {file}"),
            Change::Rename { from, to } => write!(f, "rename {from} to {to}"),
            Change::Remove { path } => write!(f, "remove {path}"),
            Change::SyncDir { path } => write!(f, "sync directory {path}"),
            Change::MakeDir { path } => write!(f, "make directory {path}"),
            Change::Begin { file, offset, bytes } => {
                write!(f, "begin durable write of {} bytes at {offset} of file {file}", bytes.len())
            }
            Change::End { file, offset, bytes } => {
                write!(f, "end durable write of {} bytes at {offset} of file {file}", bytes.len())
            }
            Change::Write { file, offset, bytes } => {
                write!(f, "write {} bytes at {offset} of file {file}", bytes.len())
            }
            Change::Zero { file, bytes } => write!(f, "fill {bytes} bytes of file {file} with zeros"),
            Change::Sync { file } => write!(f, "sync file {file}"),
        }
    }
}
