//! `stampede log cut-import`: repairs a log with a fact from Postgres that cannot be replayed.
//!
//! Versions up to 0.1.0 appended what they found in Postgres without the checks of replay, and
//! then could not start again. Such a start wrote nothing else: preheating comes before selling,
//! so nothing of it was acknowledged to anybody, and Postgres still has it. So everything that
//! this one start wrote is cut off, but only if all of it came from Postgres and nothing follows.
//! A copy is kept. The next start imports what can be imported.
//!
//! Between the first and the last step of a cut the control file still names the removed facts
//! as durable, so that no engine opens the directory. A plan lies beside it, and the next call
//! finishes the cut. Next: [`super::verify`], which only reads.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stampede_core::catalogue::Catalogue;
use stampede_core::fact::{ACTOR_IMPORT, ACTOR_POSTGRES, Fact};
use stampede_core::shard::Shard;
use stampede_core::types::{HashSecret, Lsn};

use super::block::{BlockHeader, Records};
use super::chain::{ChainEnd, ChainReader, Link};
use super::choose_snapshot::choose_snapshot;
use super::control::{Control, ControlError, ControlFile, read_control};
use super::error::OpenError;
use super::layout;
use super::recovery::{Evidence, RecoveryError, TornTail};
use super::repair::keep_copy;
use super::segment::list_segments;
use super::snapshot::read_snapshot;
use crate::codec;
use crate::disk::buffer::AlignedBuffer;
use crate::disk::real::RealDisk;
use crate::disk::{Disk, DiskLock, LockError, OpenMode, remove_if_there};

/// The plan's file, in the data directory.
const PLAN_NAME: &str = "cut";

/// What is cut off, or would be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The fact that cannot be replayed.
    pub refused: Lsn,
    /// Why.
    pub reason: String,
    /// The first and the last fact that the same start has written.
    pub facts: (Lsn, Lsn),
    /// Where they begin: segment and byte.
    pub place: (u64, u64),
}

/// Why nothing was cut off. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// There is no log.
    #[error("{} holds no log; name the data directory of an engine", .0.display())]
    NoLog(PathBuf),
    /// An engine runs on it.
    #[error("{} is in use; stop its engine first", .0.display())]
    Locked(PathBuf),
    /// Its control file cannot be read.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Its snapshots cannot be used.
    #[error(transparent)]
    Snapshot(#[from] OpenError),
    /// The log is also damaged, or cannot be read.
    #[error(transparent)]
    Read(#[from] RecoveryError),
    /// The fact, or another of the same start, did not come from Postgres, or something follows.
    #[error("LSN {refused} cannot be replayed ({reason}), and {why}: nothing may be cut off")]
    NotAnImport {
        /// Which.
        refused: Lsn,
        /// Why it cannot be replayed.
        reason: String,
        /// Why it is not a failed import.
        why: &'static str,
    },
    /// The file system refused.
    #[error("cannot access {}: {source}; check the disk and the directory's owner, then try again", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// Looks for such an import in a data directory on the real file system, and cuts it off if
/// `really`. `None` = every fact can be replayed.
///
/// # Errors
/// See [`CutError`].
pub fn cut_import(dir: &Path, really: bool) -> Result<Option<Cut>, CutError> {
    cut_import_on(&RealDisk, dir, really)
}

/// As [`cut_import`], on any disk.
///
/// # Errors
/// See [`CutError`].
pub fn cut_import_on(disk: &dyn Disk, dir: &Path, really: bool) -> Result<Option<Cut>, CutError> {
    let io = |source| CutError::Io { path: dir.to_owned(), source };
    let control = read_control(disk, dir)?.ok_or_else(|| CutError::NoLog(dir.to_owned()))?;
    let _lock = lock(disk, dir)?;
    let cut = match read_plan(disk, dir, &control).map_err(io)? {
        Some(cut) => Some(cut),
        None => find(disk, dir, &control)?,
    };
    if let Some(cut) = cut.as_ref().filter(|_| really) {
        write_plan(disk, dir, &control, cut).map_err(io)?;
        carry_out(disk, dir, control, cut).map_err(io)?;
    }
    Ok(cut)
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>, CutError> {
    disk.lock(&dir.join(layout::LOCK_NAME)).map_err(|error| match error {
        LockError::Held { .. } => CutError::Locked(dir.to_owned()),
        LockError::Io(source) => CutError::Io { path: dir.join(layout::LOCK_NAME), source },
    })
}

// ---- finding ----

/// A walk over the log, as a restart on one core would make it.
struct Walk {
    shard: Shard,
    snapshot_lsn: Lsn,
    epoch: u64,
    /// Where the last start began to write: segment, byte, first fact.
    begin: (u64, u64, Lsn),
    /// Whether everything that it wrote came from Postgres.
    imports_alone: bool,
    refused: Option<(Lsn, String)>,
    /// Whether another start has written after a refused fact.
    followed: bool,
}

fn find(disk: &dyn Disk, dir: &Path, control: &Control) -> Result<Option<Cut>, CutError> {
    let mut walk = Walk::begin(disk, dir, control)?;
    let mut chain = ChainReader::new(disk, dir, control);
    let end = loop {
        let file = chain.file();
        match chain.next_link().map_err(|source| RecoveryError::Io { file, source })? {
            Link::Block { segment, offset, header, block } => {
                let read = walk.block((segment, offset), &header, block);
                let file = layout::segment_file(dir, segment);
                read.map_err(|reason| RecoveryError::Damaged { file, offset, reason })?;
            }
            Link::End(end) => break end,
        }
    };
    Evidence { disk, dir, control, snapshot_lsn: walk.snapshot_lsn }.judge(&end)?;
    walk.judge(&end)
}

impl Walk {
    fn begin(disk: &dyn Disk, dir: &Path, control: &Control) -> Result<Self, CutError> {
        let mut shard = Shard::new(0, HashSecret(control.hash_secret), Arc::new(Catalogue::new(1)));
        let snapshot = choose_snapshot(disk, dir, control, &mut Vec::new())?;
        if let Some(lsn) = snapshot {
            let header = read_snapshot(disk, dir, lsn, control.log_id, &mut |row| {
                shard.load_row(row).map_err(|error| error.to_string())
            });
            let first_lsn = control.first_lsn;
            let header = header.map_err(|source| OpenError::Snapshot { source, first_lsn })?;
            shard.finish_rows(lsn, header.last_ms);
        }
        Ok(Self {
            shard,
            snapshot_lsn: snapshot.unwrap_or(Lsn::ZERO),
            epoch: 0,
            begin: (control.first_segment, 0, control.first_lsn),
            imports_alone: true,
            refused: None,
            followed: false,
        })
    }

    fn block(&mut self, place: (u64, u64), header: &BlockHeader, block: &[u8]) -> Result<(), String> {
        if header.epoch != self.epoch {
            self.followed |= self.refused.is_some();
            self.epoch = header.epoch;
            self.begin = (place.0, place.1, header.first_lsn);
            self.imports_alone = true;
        }
        for record in Records::new(header, block) {
            let record = record.map_err(|error| error.to_string())?;
            let fact = codec::decode(record.kind, record.payload)
                .map_err(|error| format!("LSN {}: {error}", record.lsn))?;
            self.imports_alone &= came_from_postgres(&fact);
            if record.lsn > self.snapshot_lsn && self.refused.is_none() {
                let refused = self.shard.apply(record.lsn, &fact).err();
                self.refused = refused.map(|error| (record.lsn, error.to_string()));
            }
        }
        Ok(())
    }

    fn judge(self, end: &ChainEnd) -> Result<Option<Cut>, CutError> {
        let Some((refused, reason)) = self.refused else { return Ok(None) };
        let (segment, offset, first) = self.begin;
        let why = match () {
            () if self.followed => "another start has written after it",
            () if !self.imports_alone => "what that start wrote did not come from Postgres alone",
            () if first <= self.snapshot_lsn => "a snapshot holds what came before it",
            () => {
                let facts = (first, Lsn(end.next_lsn.0 - 1));
                return Ok(Some(Cut { refused, reason, facts, place: (segment, offset) }));
            }
        };
        Err(CutError::NotAnImport { refused, reason, why })
    }
}

/// Whether preheating makes such facts, so that none was acknowledged to anybody.
fn came_from_postgres(fact: &Fact<'_>) -> bool {
    match *fact {
        Fact::ItemCreated { actor, .. }
        | Fact::ItemSwitched { actor, .. }
        | Fact::BuyerBlocked { actor, .. } => actor == ACTOR_POSTGRES || actor == ACTOR_IMPORT,
        Fact::OrderImported { .. } | Fact::ClockMark { .. } => true,
        _ => false,
    }
}

// ---- cutting ----

/// Copies, zeroes, removes; updates the control file last. Each step can be repeated.
fn carry_out(disk: &dyn Disk, dir: &Path, control: Control, cut: &Cut) -> io::Result<()> {
    let (first, begin) = cut.place;
    let segments = list_segments(disk, dir)?;
    // The copies come before any cut; the entry of their directory has to be durable, too.
    disk.create_dir(&layout::torn_dir(dir))?;
    disk.sync_dir(dir)?;
    for segment in segments.iter().copied().filter(|number| (first..=control.last_segment).contains(number)) {
        let offset = if segment == first { begin } else { 0 };
        let tail = TornTail { segment, offset, len: control.segment_bytes - offset };
        keep_copy(disk, dir, &tail, |_| true)?;
    }
    let mut file = disk.open(&layout::segment_file(dir, first), OpenMode::ReadWrite)?;
    let zeros = AlignedBuffer::new((control.segment_bytes - begin) as usize);
    file.write_durable(begin, zeros.as_slice())?;
    for later in segments.into_iter().rev().filter(|number| *number > first) {
        disk.remove(&layout::segment_file(dir, later))?;
    }
    disk.sync_dir(&layout::log_dir(dir))?;
    ControlFile::open(disk, dir, control)?.update(|control| {
        control.durable_lsn = Lsn(cut.facts.0.0 - 1);
        control.last_segment = first;
        control.clean = false;
    })?;
    disk.remove(&dir.join(PLAN_NAME))?;
    disk.sync_dir(dir)
}

/// The plan of a cut that was begun, if the control file is still the one that it was made for.
fn read_plan(disk: &dyn Disk, dir: &Path, control: &Control) -> io::Result<Option<Cut>> {
    let file = match disk.open(&dir.join(PLAN_NAME), OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = vec![0; 1 << 10];
    let read = file.read(0, &mut bytes)?;
    Ok(parse_plan(&String::from_utf8_lossy(&bytes[..read]), control))
}

/// One line: six numbers, and why the fact was refused. An incomplete plan is ignored: no byte of
/// the log is changed before the plan is durable. The first number is the epoch, which only a start
/// changes, and no start succeeds before the cut is done.
fn parse_plan(text: &str, control: &Control) -> Option<Cut> {
    let mut words = text.strip_suffix('\n')?.splitn(7, ' ');
    let mut number = || words.next()?.parse().ok();
    let (epoch, refused, first, last, segment, offset): (u64, _, _, _, _, _) =
        (number()?, number()?, number()?, number()?, number()?, number()?);
    let reason = words.next()?.to_owned();
    let cut = Cut { refused: Lsn(refused), reason, facts: (Lsn(first), Lsn(last)), place: (segment, offset) };
    (epoch == control.epoch).then_some(cut)
}

fn write_plan(disk: &dyn Disk, dir: &Path, control: &Control, cut: &Cut) -> io::Result<()> {
    let path = dir.join(PLAN_NAME);
    remove_if_there(disk, &path)?;
    let Cut { refused, reason, facts, place } = cut;
    let line =
        format!("{} {refused} {} {} {} {} {reason}\n", control.epoch, facts.0, facts.1, place.0, place.1);
    let mut file = disk.open(&path, OpenMode::CreateNew)?;
    file.write(0, line.as_bytes())?;
    file.sync()?;
    disk.sync_dir(dir)
}
