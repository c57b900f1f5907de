//! The simulated disk: a live image and a durable one, kept apart.
//!
//! Unsynced writes are in the live image alone. A crash keeps a random subset of the unsynced
//! sectors and a random prefix of the unsynced directory changes. The disk can crash, fail, tear,
//! misdirect or shorten a write at any operation, and misdirect a read. It is deterministic: the same
//! seed gives the same disk. Copies share sectors, so a crash copies no file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use stampede_persist::disk::{Disk, DiskFile, DiskLock, LockError, OpenMode, SECTOR_BYTES, write_whole};

#[path = "sim_disk/inode.rs"]
mod inode;

use inode::Inode;

/// A write that tears inside a sector is cut at a multiple of this: what a medium writes atomically.
const ATOM_BYTES: usize = 512;

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

/// Which of a file's unsynced sectors survive a power cut. One sector is drawn for each file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Landing {
    /// A random subset; some sectors in part.
    Any,
    /// Those before the drawn one.
    Before,
    /// The drawn one and those after it.
    From,
    AllButOne,
    OnlyOne,
    All,
}

/// What happens at a chosen operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// The power fails: part of the operation may be on disk, and every later operation fails.
    Crash,
    /// The operation fails with this error; the disk works on.
    Fail(i32),
    /// Part of a durable write reaches the disk, and it reports this error; the disk works on.
    Tear(i32),
    /// A durable write reports success but went to other sectors of some file; other
    /// operations work normally.
    Misdirect,
    /// A durable write takes only a part at first; other operations work normally.
    Short,
}

/// The operations that change a disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Op {
    Create,
    MakeDir,
    Rename,
    Remove,
    SyncDir,
    WriteDurable,
    Write,
    Sync,
}

/// Which part of a data directory a file belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Part {
    Control,
    Log,
    Snapshot,
    Other,
}

impl Part {
    fn of(path: &str) -> Self {
        match path {
            path if path.contains("/log") => Self::Log,
            path if path.contains("/snap") => Self::Snapshot,
            path if path.contains("/control") => Self::Control,
            _ => Self::Other,
        }
    }
}

/// A fault, and the operation that it hit.
pub(crate) type Struck = (Trouble, Op, Part);

#[derive(Clone)]
enum DirOp {
    Link(String, usize),
    /// Among the names, a directory ends with a slash.
    MakeDir(String),
    Unlink(String),
    Rename(String, String),
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("simulated paths are text")
}

impl DirOp {
    fn dir(&self) -> &str {
        match self {
            Self::Link(path, _) | Self::MakeDir(path) | Self::Unlink(path) | Self::Rename(path, _) => {
                parent(path)
            }
        }
    }
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::MakeDir(path) => {
                names.insert(format!("{path}/"), usize::MAX);
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

#[derive(Clone)]
struct Sim {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending: Vec<DirOp>,
    rng: Rng,
    ops: u64,
    trouble: Option<(u64, Trouble)>,
    aimed: Option<(Op, Part, u64, Trouble)>,
    /// The last fault, and the operation that it hit.
    struck: Option<Struck>,
    /// The operation at which the power failed.
    death: Option<(Op, Part)>,
    crashed: bool,
    reads: u64,
    /// Directories whose sync fails, and the error.
    unsynced_dirs: BTreeMap<String, ErrorKind>,
    misread: Option<u64>,
    misreads: u64,
    free_bytes: u64,
    volatile: bool,
    fine_tears: bool,
    locked: bool,
    /// Writes and syncs of files after one of their writes or syncs had failed.
    after_failure: u64,
    failed_inodes: BTreeSet<usize>,
    /// Changes since the last call of `take_changes`.
    changes: u64,
}

/// The disk; clones share it.
#[derive(Clone)]
pub(crate) struct SimDisk(Arc<Mutex<Sim>>);

fn dead() -> io::Error {
    io::Error::other("simulated power cut")
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Sim {
            inodes: Vec::new(),
            durable_names: BTreeMap::new(),
            names: BTreeMap::new(),
            pending: Vec::new(),
            rng: Rng(seed),
            ops: 0,
            trouble: None,
            aimed: None,
            struck: None,
            death: None,
            crashed: false,
            reads: 0,
            unsynced_dirs: BTreeMap::new(),
            misread: None,
            misreads: 0,
            free_bytes: 1 << 40,
            volatile: false,
            fine_tears: false,
            locked: false,
            after_failure: 0,
            failed_inodes: BTreeSet::new(),
            changes: 0,
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
    /// Plans trouble for the n-th operation of this kind on this part, counted from now on.
    pub(crate) fn aim(&self, op: Op, part: Part, nth: u64, trouble: Trouble) {
        self.sim().aimed = Some((op, part, nth, trouble));
    }
    /// Cancels all planned trouble.
    pub(crate) fn calm(&self) {
        let mut sim = self.sim();
        (sim.trouble, sim.aimed, sim.misread) = (None, None, None);
    }
    /// Plans a read that returns the wrong sectors; the number counts from now on.
    pub(crate) fn plan_misread(&self, in_reads: u64) {
        let mut sim = self.sim();
        sim.misread = Some(sim.reads + in_reads);
    }
    /// Misdirected reads since the last start.
    pub(crate) fn misreads(&self) -> u64 {
        self.sim().misreads
    }
    /// Takes the last fault.
    pub(crate) fn take_struck(&self) -> Option<Struck> {
        self.sim().struck.take()
    }
    /// The operation at which the power failed.
    pub(crate) fn death(&self) -> Option<(Op, Part)> {
        self.sim().death
    }
    /// Reads of files so far.
    pub(crate) fn reads(&self) -> u64 {
        self.sim().reads
    }
    /// Makes each sync of this directory fail with this error.
    pub(crate) fn refuse_sync_dir(&self, dir: &str, kind: ErrorKind) {
        self.sim().unsynced_dirs.insert(dir.to_owned(), kind);
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
    /// Sets whether the disk reports that it lies in memory.
    pub(crate) fn set_volatile(&self, volatile: bool) {
        self.sim().volatile = volatile;
    }
    /// Sets whether a crash may tear a sector, at a multiple of 512 bytes.
    pub(crate) fn set_fine_tears(&self, fine: bool) {
        self.sim().fine_tears = fine;
    }
    /// Writes and syncs of a file after one of them failed: has to stay zero (I10).
    pub(crate) fn writes_after_failure(&self) -> u64 {
        self.sim().after_failure
    }
    /// Changes since the last call.
    pub(crate) fn take_changes(&self) -> u64 {
        std::mem::take(&mut self.sim().changes)
    }

    /// The disk after a power cut.
    pub(crate) fn after_crash(&self) -> Self {
        let after = self.copy();
        after.cut();
        after
    }

    /// The disk after the process was killed: the kernel still has everything, but unsynced writes are
    /// still not durable, and a later power cut may lose them.
    pub(crate) fn after_kill(&self) -> Self {
        let after = self.copy();
        after.kill();
        after
    }

    /// A disk with the same content.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.sim().clone())))
    }

    /// As [`SimDisk::after_crash`], on this disk itself.
    pub(crate) fn cut(&self) {
        self.cut_as(Landing::Any);
    }

    /// Restarts the random choices from this seed.
    pub(crate) fn reseed(&self, seed: u64) {
        self.sim().rng = Rng(seed);
    }

    /// As [`SimDisk::cut`], with this choice of unsynced sectors.
    pub(crate) fn cut_as(&self, landing: Landing) {
        self.kill();
        let sim = &mut *self.sim();
        let rng = &mut sim.rng;
        let landed = rng.below(sim.pending.len() as u64 + 1) as usize;
        sim.pending[..landed].iter().for_each(|op| op.apply(&mut sim.durable_names));
        // A directory whose own entry is lost takes its files with it.
        let is_lost = |path: &&String| path.ends_with('/') && !sim.durable_names.contains_key(*path);
        let lost: Vec<_> = sim.names.keys().filter(is_lost).cloned().collect();
        sim.durable_names.retain(|path, _| !lost.iter().any(|dir| path.starts_with(dir)));
        sim.names.clone_from(&sim.durable_names);
        sim.pending.clear();
        let fine = sim.fine_tears;
        sim.inodes.iter_mut().for_each(|inode| inode.cut(rng, fine, landing));
    }

    /// As [`SimDisk::after_kill`], on this disk itself.
    pub(crate) fn kill(&self) {
        let mut sim = self.sim();
        (sim.ops, sim.reads, sim.trouble, sim.aimed, sim.misread) = (0, 0, None, None, None);
        (sim.crashed, sim.locked, sim.struck, sim.death) = (false, false, None, None);
        (sim.after_failure, sim.misreads) = (0, 0);
        sim.failed_inodes.clear();
    }

    /// All files by name, with their bytes.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let sim = self.sim();
        let files = sim.names.iter().filter(|(path, _)| !path.ends_with('/'));
        files.map(|(path, inode)| (path.into(), sim.inodes[*inode].bytes())).collect()
    }
    /// The files that differ from `before`, an earlier copy of this disk, by name.
    pub(crate) fn files_changed_since(&self, before: &Self) -> BTreeMap<PathBuf, Vec<u8>> {
        let (sim, before) = (self.sim(), before.sim());
        let is_same = |path: &String, inode: &usize| {
            let was = before.names.get(path).and_then(|was| before.inodes.get(*was));
            was.is_some_and(|was| sim.inodes[*inode].is_shared_with(was))
        };
        let files = sim.names.iter().filter(|(path, inode)| !path.ends_with('/') && !is_same(path, inode));
        files.map(|(path, inode)| (path.into(), sim.inodes[*inode].bytes())).collect()
    }
    /// One file's bytes.
    pub(crate) fn file(&self, path: &Path) -> Option<Vec<u8>> {
        let sim = self.sim();
        sim.names.get(text(path)).map(|inode| sim.inodes[*inode].bytes())
    }
    /// Changes a file's bytes directly, past all operations.
    pub(crate) fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut sim = self.sim();
        let inode = sim.names[text(path)];
        let mut bytes = sim.inodes[inode].bytes();
        change(&mut bytes);
        sim.inodes[inode] = Inode::durable(&bytes);
    }
    /// Flips one bit of a random file directly; returns the file and the byte.
    pub(crate) fn flip(&self) -> Option<(String, u64)> {
        let sim = &mut *self.sim();
        let rng = &mut sim.rng;
        let files: Vec<_> = sim.names.iter().filter(|(path, _)| !path.ends_with('/')).collect();
        let (name, inode) = *files.get(rng.below(files.len().max(1) as u64) as usize)?;
        let inode = &mut sim.inodes[*inode];
        let used: Vec<usize> =
            (0..inode.sectors.len()).filter(|sector| inode.sectors[*sector].is_some()).collect();
        let sector = *used.get(rng.below(used.len().max(1) as u64) as usize)?;
        let len = (inode.len - sector * SECTOR_BYTES).min(SECTOR_BYTES) as u64;
        let (at, bit) = (rng.below(len) as usize, rng.below(8));
        Arc::make_mut(inode.sectors[sector].as_mut()?)[at] ^= 1 << bit;
        Some((name.clone(), (sector * SECTOR_BYTES + at) as u64))
    }
    /// Removes a file directly.
    pub(crate) fn lose(&self, path: &Path) {
        let mut sim = self.sim();
        sim.names.remove(text(path)).expect("a file to lose");
        sim.durable_names.remove(text(path));
    }
    /// Puts a durable file there directly.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut sim = self.sim();
        let inode = sim.inodes.len();
        sim.inodes.push(Inode::durable(bytes));
        sim.names.insert(text(path).to_owned(), inode);
        sim.durable_names.insert(text(path).to_owned(), inode);
    }
}

impl Sim {
    /// Counts an operation that changes something; `Some` = this one fails.
    fn strike(&mut self, op: Op, part: Part) -> io::Result<Option<Trouble>> {
        if self.crashed {
            return Err(dead());
        }
        self.ops += 1;
        if let Some((aimed_op, aimed_part, nth, trouble)) = &mut self.aimed
            && (*aimed_op, *aimed_part) == (op, part)
        {
            *nth -= 1;
            if *nth == 0 {
                self.trouble = Some((self.ops, *trouble));
                self.aimed = None;
            }
        }
        match self.trouble {
            Some((at, trouble)) if at == self.ops => {
                self.crashed = trouble == Trouble::Crash;
                self.struck = Some((trouble, op, part));
                if self.crashed {
                    self.death = Some((op, part));
                }
                Ok(Some(trouble))
            }
            _ => Ok(None),
        }
    }

    /// An atomic operation.
    fn whole(&mut self, op: Op, path: &str) -> io::Result<()> {
        match self.strike(op, Part::of(path))? {
            None | Some(Trouble::Misdirect | Trouble::Short) => Ok(()),
            Some(Trouble::Crash) => Err(dead()),
            Some(Trouble::Fail(errno) | Trouble::Tear(errno)) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn change(&mut self, op: DirOp) {
        op.apply(&mut self.names);
        self.pending.push(op);
        self.changes += 1;
    }

    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(dead()) } else { Ok(()) }
    }

    /// Writes to a wrong place of some file.
    fn misdirect(&mut self, inode: usize, offset: usize, bytes: &[u8]) {
        let target = if self.rng.coin() { inode } else { self.rng.below(self.inodes.len() as u64) as usize };
        let places = (self.inodes[target].len / SECTOR_BYTES).saturating_sub(bytes.len() / SECTOR_BYTES);
        let place = self.rng.below(places as u64 + 1) as usize * SECTOR_BYTES;
        let fits = place + bytes.len() <= self.inodes[target].len;
        if fits && (target, place) != (inode, offset) {
            self.inodes[target].write(place, bytes);
            self.inodes[target].sync_range(place, bytes.len());
        }
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        let (mut sim, name) = (self.sim(), text(dir));
        sim.alive()?;
        if !parent(name).is_empty() && !sim.names.contains_key(&format!("{}/", parent(name))) {
            return Err(ErrorKind::NotFound.into());
        }
        if name == "/" || sim.names.contains_key(&format!("{name}/")) {
            return Ok(false);
        }
        sim.whole(Op::MakeDir, name)?;
        sim.change(DirOp::MakeDir(name.to_owned()));
        Ok(true)
    }

    fn open(&self, file: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let (mut sim, name) = (self.sim(), text(file));
        sim.alive()?;
        let inode = match (sim.names.get(name).copied(), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, OpenMode::CreateNew) => {
                sim.whole(Op::Create, name)?;
                let inode = sim.inodes.len();
                sim.inodes.push(Inode::default());
                sim.change(DirOp::Link(name.to_owned(), inode));
                inode
            }
            (None, _) => return Err(ErrorKind::NotFound.into()),
        };
        let (writable, part) = (mode != OpenMode::Read, Part::of(name));
        Ok(Box::new(SimFile { disk: self.clone(), inode, writable, part }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let sim = self.sim();
        sim.alive()?;
        let inside = format!("{}/", text(dir));
        let below = sim.names.range(inside.clone()..).map_while(|(path, _)| path.strip_prefix(&inside));
        Ok(below.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut sim = self.sim();
        sim.whole(Op::Rename, text(to))?;
        if !sim.names.contains_key(text(from)) {
            return Err(ErrorKind::NotFound.into());
        }
        sim.change(DirOp::Rename(text(from).to_owned(), text(to).to_owned()));
        Ok(())
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        let mut sim = self.sim();
        sim.alive()?;
        if !sim.names.contains_key(text(file)) {
            return Err(ErrorKind::NotFound.into());
        }
        sim.whole(Op::Remove, text(file))?;
        sim.change(DirOp::Unlink(text(file).to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut sim = self.sim();
        let inside = format!("{}/", text(dir));
        if let Some(kind) = sim.unsynced_dirs.get(text(dir)) {
            return Err((*kind).into());
        }
        sim.whole(Op::SyncDir, &inside)?;
        let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut sim.pending)
            .into_iter()
            .partition(|op| op.dir() == text(dir).trim_end_matches('/'));
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
        Ok(self.sim().volatile)
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
    part: Part,
}

impl SimFile {
    /// Counts a write or sync of this file, and whether it comes after a failure.
    fn touch(&self, sim: &mut Sim, op: Op) -> io::Result<Option<Trouble>> {
        assert!(self.writable, "a file opened for reading is not written");
        sim.changes += 1;
        if sim.failed_inodes.contains(&self.inode) {
            sim.after_failure += 1;
        }
        let trouble = sim.strike(op, self.part)?;
        if matches!(trouble, Some(Trouble::Crash | Trouble::Fail(_) | Trouble::Tear(_))) {
            sim.failed_inodes.insert(self.inode);
        }
        Ok(trouble)
    }

    /// A write that a later sync makes durable: it changes the live image, whatever it reports.
    fn write_live(&self, change: impl FnOnce(&mut Inode)) -> io::Result<()> {
        let mut sim = self.disk.sim();
        let trouble = self.touch(&mut sim, Op::Write)?;
        change(&mut sim.inodes[self.inode]);
        match trouble {
            None | Some(Trouble::Misdirect | Trouble::Short) => Ok(()),
            Some(Trouble::Crash) => Err(dead()),
            Some(Trouble::Fail(errno) | Trouble::Tear(errno)) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Takes only a part at first, as the kernel may.
    fn write_short(&self, sim: &mut Sim, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let (mut first, cut) = (true, ATOM_BYTES << sim.rng.below(5));
        let inode = &mut sim.inodes[self.inode];
        write_whole(bytes, |done, rest| {
            let taken = if std::mem::take(&mut first) { cut.min(rest.len()) } else { rest.len() };
            inode.write(offset + done, &rest[..taken]);
            Ok(taken)
        })?;
        inode.sync_range(offset, bytes.len());
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn write_durable(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let sim = &mut *self.disk.sim();
        let trouble = self.touch(sim, Op::WriteDurable)?;
        let offset = offset as usize;
        assert!(
            offset.is_multiple_of(SECTOR_BYTES) && bytes.len().is_multiple_of(SECTOR_BYTES),
            "whole sectors"
        );
        // A control file of which somebody has cut off one of its two slots is made whole again.
        let inside = offset + bytes.len() <= sim.inodes[self.inode].len;
        assert!(inside || self.part == Part::Control, "inside the file");
        match trouble {
            Some(Trouble::Fail(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Trouble::Misdirect) => {
                sim.misdirect(self.inode, offset, bytes);
                return Ok(());
            }
            Some(Trouble::Short) => return self.write_short(sim, offset, bytes),
            _ => sim.inodes[self.inode].write(offset, bytes),
        }
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
        self.write_live(|inode| inode.write(offset as usize, bytes))
    }

    fn zero_fill(&mut self, bytes: u64) -> io::Result<()> {
        self.write_live(|inode| inode.zero_fill(bytes as usize))
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let sim = &mut *self.disk.sim();
        sim.alive()?;
        sim.reads += 1;
        let mut offset = offset as usize;
        if sim.misread == Some(sim.reads) {
            sim.misreads += 1;
            let sectors = sim.inodes[self.inode].sectors.len().max(1) as u64;
            offset = sim.rng.below(sectors) as usize * SECTOR_BYTES;
        }
        Ok(sim.inodes[self.inode].read(offset, buffer))
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut sim = self.disk.sim();
        match self.touch(&mut sim, Op::Sync)? {
            None | Some(Trouble::Misdirect | Trouble::Short) => {
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
        Ok(sim.inodes[self.inode].len as u64)
    }
}
