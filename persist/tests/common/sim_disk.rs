//! A simulated disk: a live image and a durable one, kept apart.
//!
//! What was written and not synced lives in the live image alone. At a crash a random
//! subset of the unsynced sectors lands, and a random prefix of the unsynced directory
//! changes. It can crash or fail at any operation. Deterministic: same seed, same disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use stampede_persist::disk::{Disk, DiskFile, DiskLock, LockError, OpenMode, SECTOR_BYTES};

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub(crate) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// What happens at a chosen operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// The power goes: the operation may have landed in part, nothing works afterwards.
    Crash,
    /// The operation fails with this error; the disk works on.
    Fail(i32),
    /// A durable write lands in part and reports this error; the disk works on.
    Tear(i32),
}

#[derive(Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Clone)]
enum DirOp {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl DirOp {
    fn dir(&self) -> &Path {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, _) => path.parent().unwrap(),
        }
    }
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

struct Sim {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending: Vec<DirOp>,
    rng: Rng,
    ops: u64,
    trouble: Option<(u64, Trouble)>,
    crashed: bool,
    free_bytes: u64,
    locked: bool,
    /// Writes and syncs that came to each file after one of its writes or syncs had failed.
    after_failure: u64,
    failed_inodes: BTreeSet<usize>,
}

/// The disk; clones share it.
#[derive(Clone)]
pub(crate) struct SimDisk(Arc<Mutex<Sim>>);

fn dead() -> io::Error {
    io::Error::other("simulated power cut")
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(Vec::new(), BTreeMap::new(), Rng(seed))
    }

    fn with(inodes: Vec<Inode>, names: BTreeMap<PathBuf, usize>, rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(Sim {
            inodes,
            durable_names: names.clone(),
            names,
            pending: Vec::new(),
            rng,
            ops: 0,
            trouble: None,
            crashed: false,
            free_bytes: 1 << 40,
            locked: false,
            after_failure: 0,
            failed_inodes: BTreeSet::new(),
        })))
    }

    fn sim(&self) -> MutexGuard<'_, Sim> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Plans trouble for the operation with this number, counted from now on.
    pub(crate) fn plan(&self, in_ops: u64, trouble: Trouble) {
        let mut sim = self.sim();
        sim.trouble = Some((sim.ops + in_ops, trouble));
    }
    /// Operations so far.
    pub(crate) fn ops(&self) -> u64 {
        self.sim().ops
    }
    pub(crate) fn crashed(&self) -> bool {
        self.sim().crashed
    }
    pub(crate) fn set_free_bytes(&self, bytes: u64) {
        self.sim().free_bytes = bytes;
    }
    /// Writes and syncs on a file after one failed on it: must stay zero (I10).
    pub(crate) fn writes_after_failure(&self) -> u64 {
        self.sim().after_failure
    }

    /// The disk after a power cut.
    pub(crate) fn after_crash(&self) -> Self {
        let mut sim = self.sim();
        let mut rng = Rng(sim.rng.next());
        let mut names = sim.durable_names.clone();
        let landed = rng.below(sim.pending.len() as u64 + 1) as usize;
        sim.pending[..landed].iter().for_each(|op| op.apply(&mut names));
        let inodes = sim.inodes.iter().map(|inode| inode.after_crash(&mut rng)).collect();
        Self::with(inodes, names, rng)
    }

    /// The disk after the process was killed: the kernel still has everything, but what was not
    /// durable is not durable yet, and a later power cut may take it.
    pub(crate) fn after_kill(&self) -> Self {
        let sim = self.sim();
        let after = Self::with(sim.inodes.clone(), sim.names.clone(), sim.rng.clone());
        let mut copy = after.sim();
        copy.durable_names.clone_from(&sim.durable_names);
        copy.pending.clone_from(&sim.pending);
        drop(copy);
        after
    }

    /// All files by name, with their bytes.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let sim = self.sim();
        sim.names.iter().map(|(path, inode)| (path.clone(), sim.inodes[*inode].live.clone())).collect()
    }
    /// Changes a file's bytes behind everybody's back.
    pub(crate) fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut sim = self.sim();
        let inode = sim.names[path];
        change(&mut sim.inodes[inode].live);
        sim.inodes[inode].durable = sim.inodes[inode].live.clone();
    }
    /// Removes a file behind everybody's back.
    pub(crate) fn lose(&self, path: &Path) {
        let mut sim = self.sim();
        sim.names.remove(path).expect("a file to lose");
        sim.durable_names.remove(path);
    }
    /// Puts a file there behind everybody's back.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut sim = self.sim();
        let inode = sim.inodes.len();
        sim.inodes.push(Inode { live: bytes.to_vec(), durable: bytes.to_vec(), dirty: BTreeSet::new() });
        sim.names.insert(path.to_owned(), inode);
        sim.durable_names.insert(path.to_owned(), inode);
    }
}

impl Inode {
    fn after_crash(&self, rng: &mut Rng) -> Self {
        let len = if rng.coin() { self.live.len() } else { self.durable.len() };
        let mut bytes = self.durable.clone();
        bytes.resize(len, 0);
        for sector in &self.dirty {
            let (from, to) =
                (sector * SECTOR_BYTES, ((sector + 1) * SECTOR_BYTES).min(len).min(self.live.len()));
            if from < to && rng.coin() {
                bytes[from..to].copy_from_slice(&self.live[from..to]);
            }
        }
        Self { durable: bytes.clone(), live: bytes, dirty: BTreeSet::new() }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        self.live[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.live);
        self.dirty.clear();
    }

    fn sync_range(&mut self, offset: usize, len: usize) {
        self.durable.resize(self.live.len(), 0);
        self.durable[offset..offset + len].copy_from_slice(&self.live[offset..offset + len]);
        for sector in offset / SECTOR_BYTES..(offset + len) / SECTOR_BYTES {
            self.dirty.remove(&sector);
        }
    }
}

impl Sim {
    /// Counts an operation that changes something; `Some` = trouble strikes now.
    fn strike(&mut self) -> io::Result<Option<Trouble>> {
        if self.crashed {
            return Err(dead());
        }
        self.ops += 1;
        match self.trouble {
            Some((at, trouble)) if at == self.ops => {
                self.crashed = trouble == Trouble::Crash;
                Ok(Some(trouble))
            }
            _ => Ok(None),
        }
    }

    /// An operation that lands whole or not at all.
    fn whole(&mut self) -> io::Result<()> {
        match self.strike()? {
            None => Ok(()),
            Some(Trouble::Crash) => Err(dead()),
            Some(Trouble::Fail(errno) | Trouble::Tear(errno)) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn change(&mut self, op: DirOp) {
        op.apply(&mut self.names);
        self.pending.push(op);
    }

    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(dead()) } else { Ok(()) }
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        self.sim().alive()
    }

    fn open(&self, file: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut sim = self.sim();
        sim.alive()?;
        let inode = match (sim.names.get(file).copied(), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, OpenMode::CreateNew) => {
                sim.whole()?;
                let inode = sim.inodes.len();
                sim.inodes.push(Inode::default());
                sim.change(DirOp::Link(file.to_owned(), inode));
                inode
            }
            (None, _) => return Err(ErrorKind::NotFound.into()),
        };
        Ok(Box::new(SimFile { disk: self.clone(), inode, writable: mode != OpenMode::Read }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let sim = self.sim();
        sim.alive()?;
        let inside = sim.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut sim = self.sim();
        sim.whole()?;
        if !sim.names.contains_key(from) {
            return Err(ErrorKind::NotFound.into());
        }
        sim.change(DirOp::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        let mut sim = self.sim();
        sim.alive()?;
        if !sim.names.contains_key(file) {
            return Err(ErrorKind::NotFound.into());
        }
        sim.whole()?;
        sim.change(DirOp::Unlink(file.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut sim = self.sim();
        sim.whole()?;
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut sim.pending).into_iter().partition(|op| op.dir() == dir);
        now.iter().for_each(|op| op.apply(&mut sim.durable_names));
        sim.pending = later;
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let sim = self.sim();
        sim.alive()?;
        Ok(sim.free_bytes)
    }

    fn is_volatile(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn lock(&self, _: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        let mut sim = self.sim();
        if std::mem::replace(&mut sim.locked, true) {
            return Err(LockError::Held { holder_pid: Some(1) });
        }
        Ok(Box::new(SimLock(self.clone())))
    }
}

struct SimLock(SimDisk);
impl DiskLock for SimLock {}
impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.sim().locked = false;
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
    writable: bool,
}

impl SimFile {
    /// Counts a write or sync of this file, and notes one that comes after a failure.
    fn touch(&self, sim: &mut Sim) -> io::Result<Option<Trouble>> {
        assert!(self.writable, "a file opened for reading is not written");
        if sim.failed_inodes.contains(&self.inode) {
            sim.after_failure += 1;
        }
        let trouble = sim.strike()?;
        if trouble.is_some() {
            sim.failed_inodes.insert(self.inode);
        }
        Ok(trouble)
    }
}

impl DiskFile for SimFile {
    fn write_durable(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut sim = self.disk.sim();
        let trouble = self.touch(&mut sim)?;
        let offset = offset as usize;
        assert!(
            offset.is_multiple_of(SECTOR_BYTES) && bytes.len().is_multiple_of(SECTOR_BYTES),
            "whole sectors"
        );
        assert!(offset + bytes.len() <= sim.inodes[self.inode].live.len(), "inside the file");
        if let Some(Trouble::Fail(errno)) = trouble {
            return Err(io::Error::from_raw_os_error(errno));
        }
        sim.inodes[self.inode].write(offset, bytes);
        match trouble {
            None => {
                sim.inodes[self.inode].sync_range(offset, bytes.len());
                Ok(())
            }
            Some(Trouble::Tear(errno)) => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(dead()),
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut sim = self.disk.sim();
        let trouble = self.touch(&mut sim)?;
        sim.inodes[self.inode].write(offset as usize, bytes);
        match trouble {
            None => Ok(()),
            Some(Trouble::Crash) => Err(dead()),
            Some(Trouble::Fail(errno) | Trouble::Tear(errno)) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn zero_fill(&mut self, bytes: u64) -> io::Result<()> {
        self.write(0, &vec![0; bytes as usize])
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let sim = self.disk.sim();
        sim.alive()?;
        let live = &sim.inodes[self.inode].live;
        let from = (offset as usize).min(live.len());
        let len = buffer.len().min(live.len() - from);
        buffer[..len].copy_from_slice(&live[from..from + len]);
        Ok(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut sim = self.disk.sim();
        match self.touch(&mut sim)? {
            None => {
                sim.inodes[self.inode].sync();
                Ok(())
            }
            Some(Trouble::Crash) => Err(dead()),
            Some(Trouble::Fail(errno) | Trouble::Tear(errno)) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn size(&self) -> io::Result<u64> {
        let sim = self.disk.sim();
        sim.alive()?;
        Ok(sim.inodes[self.inode].live.len() as u64)
    }
}
