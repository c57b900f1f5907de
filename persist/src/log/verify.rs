//! `stampede log verify`: walks the whole chain, checks every fact as replay does, and also
//! keeps the books of every item.
//!
//! It takes no lock and writes nothing, so it works on a live directory: a block that is
//! being written is read again, and after a trim it starts again. The first wrong record is
//! reported with its place. Next: [`super::books`] for the second check, [`super::inspect`]
//! to see the bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stampede_core::catalogue::Catalogue;
use stampede_core::shard::Shard;
use stampede_core::state_row::StateRow;
use stampede_core::types::{HashSecret, ItemId, Lsn};

use super::block::{BlockHeader, Records};
use super::books::{Books, DrawRecord, ItemTotals};
use super::chain::{ChainEnd, ChainReader, Link};
use super::control::{Control, ControlError, read_control};
use super::error::OpenError;
use super::layout;
use super::recovery::{Evidence, RecoveryError};
use super::snapshot::{SnapshotError, SnapshotHeader, list_snapshots, read_snapshot};
use crate::codec;
use crate::disk::Disk;
use crate::disk::real::RealDisk;

/// Most reads of an end that seems damaged: the journal may be writing there.
const READS_MAX: usize = 5;
/// Most starts, when the log is trimmed while it is read.
const TRIES_MAX: usize = 5;

/// What a log holds.
#[derive(Debug)]
pub struct Verdict {
    /// What the control file said.
    pub control: Control,
    /// The snapshot that the books begin with; zero = from the first fact.
    pub snapshot_lsn: Lsn,
    /// The last LSN in the log.
    pub last_lsn: Lsn,
    /// Blocks read.
    pub blocks: u64,
    /// Facts entered in the books.
    pub facts: u64,
    /// Bytes after the end that were written but never durable; a running journal may be writing them.
    pub torn_bytes: u64,
    /// The totals of each item, up to the first wrong record.
    pub items: BTreeMap<ItemId, ItemTotals>,
    /// The draw of each item that has one, up to the first wrong record.
    pub draws: BTreeMap<ItemId, DrawRecord>,
    /// The first record that is wrong; `None` = all is well.
    pub wrong: Option<Wrong>,
}

/// A place where the log is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// The fact, if one could be read.
    pub lsn: Option<Lsn>,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.file.display(), self.offset)?;
        if let Some(lsn) = self.lsn {
            write!(f, ", LSN {lsn}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Why a directory cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no log.
    #[error("{} holds no log; name the data directory of an engine", .0.display())]
    NoLog(PathBuf),
    /// Its control file cannot be read.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// No snapshot is usable, and the log does not go back to the beginning.
    #[error(transparent)]
    Snapshot(#[from] OpenError),
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] RecoveryError),
    /// The log was trimmed again and again while it was read.
    #[error("the log was trimmed {TRIES_MAX} times while it was read; try again")]
    Busy,
}

/// Verifies the log in a data directory on the real file system; read-only, without a lock.
/// Memory: as much as the engine needs for the same orders, and about 40 bytes more for each.
///
/// # Errors
/// See [`VerifyError`]; what is wrong *in* the log is part of the verdict.
pub fn verify(dir: &Path) -> Result<Verdict, VerifyError> {
    verify_on(&RealDisk, dir)
}

/// As [`verify`], on any disk.
///
/// # Errors
/// See [`VerifyError`].
pub fn verify_on(disk: &dyn Disk, dir: &Path) -> Result<Verdict, VerifyError> {
    for _ in 0..TRIES_MAX {
        let control = read_control(disk, dir)?.ok_or_else(|| VerifyError::NoLog(dir.to_owned()))?;
        let verdict = Pass::begin(disk, dir, control).and_then(Pass::run);
        let now = read_control(disk, dir)?;
        let trimmed = now.is_some_and(|now| now.first_segment != control.first_segment);
        match verdict {
            Ok(verdict) if verdict.wrong.is_none() || !trimmed => return Ok(verdict),
            Err(error) if !trimmed => return Err(error),
            _ => {}
        }
    }
    Err(VerifyError::Busy)
}

/// Loads the oldest usable snapshot that the log goes on from, row by row, into a state that
/// `empty` makes.
pub(super) fn load_oldest_snapshot<T>(
    disk: &dyn Disk,
    dir: &Path,
    control: &Control,
    empty: impl Fn() -> T,
    load: impl Fn(&mut T, &StateRow<'_>) -> Result<(), String>,
) -> Result<(SnapshotHeader, T), VerifyError> {
    let first_lsn = control.first_lsn;
    let listed = list_snapshots(disk, dir);
    let listed = listed.map_err(|source| OpenError::Io { path: layout::snapshot_dir(dir), source })?;
    let mut first_error = None;
    for lsn in listed.into_iter().filter(|lsn| lsn.next() >= first_lsn) {
        let mut state = empty();
        match read_snapshot(disk, dir, lsn, control.log_id, &mut |row| load(&mut state, row)) {
            Ok(header) => return Ok((header, state)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(match first_error {
        Some(SnapshotError::Refused { reason, .. }) => {
            RecoveryError::Refused { lsn: first_lsn, reason }.into()
        }
        Some(source) => OpenError::Snapshot { source, first_lsn }.into(),
        None => OpenError::SnapshotMissing { dir: dir.to_owned(), first_lsn }.into(),
    })
}

/// What a restart on one core begins with.
fn empty_shard(control: &Control) -> Shard {
    Shard::new(0, HashSecret(control.hash_secret), Arc::new(Catalogue::new(1)))
}

/// One walk over the log.
struct Pass<'d> {
    disk: &'d dyn Disk,
    dir: &'d Path,
    control: Control,
    snapshot_lsn: Lsn,
    shard: Shard,
    books: Books,
    blocks: u64,
    facts: u64,
    wrong: Option<Wrong>,
}

impl<'d> Pass<'d> {
    /// Enters the oldest snapshot that the log goes on from, unless the log goes back to LSN 1.
    fn begin(disk: &'d dyn Disk, dir: &'d Path, control: Control) -> Result<Self, VerifyError> {
        let mut pass = Self {
            disk,
            dir,
            control,
            snapshot_lsn: Lsn::ZERO,
            shard: empty_shard(&control),
            books: Books::default(),
            blocks: 0,
            facts: 0,
            wrong: None,
        };
        if control.first_lsn > Lsn(1) {
            pass.enter_snapshot()?;
        }
        Ok(pass)
    }

    fn enter_snapshot(&mut self) -> Result<(), VerifyError> {
        let control = self.control;
        let empty = || (empty_shard(&control), Books::default());
        let loaded = load_oldest_snapshot(self.disk, self.dir, &control, empty, |(shard, books), row| {
            shard.load_row(row).map_err(|error| error.to_string())?;
            books.row(row)
        });
        let (SnapshotHeader { lsn, last_ms, .. }, (mut shard, books)) = loaded?;
        shard.finish_rows(lsn, last_ms);
        (self.snapshot_lsn, self.shard, self.books) = (lsn, shard, books);
        Ok(())
    }

    fn run(mut self) -> Result<Verdict, VerifyError> {
        let (disk, dir, control) = (self.disk, self.dir, self.control);
        let mut chain = ChainReader::new(disk, dir, &control);
        let (mut last, mut reads) = (None, 0);
        loop {
            let file = chain.file();
            let link =
                chain.next_link().map_err(|source| RecoveryError::Io { file: file.clone(), source })?;
            match link {
                Link::Block { segment, offset, header, block } => {
                    self.block(&layout::segment_file(dir, segment), offset, &header, block);
                    if self.wrong.is_some() {
                        return Ok(self.verdict(header.last_lsn(), 0));
                    }
                }
                // The journal may have written here during the read or the judgement: read again.
                Link::End(end) => {
                    reads = if last.as_ref() == Some(&end) { reads + 1 } else { 1 };
                    if reads > 1 {
                        let judged = self.judge(&end)?;
                        if reads >= READS_MAX || judged.is_ok() {
                            self.wrong = judged.as_ref().err().cloned();
                            return Ok(self.verdict(Lsn(end.next_lsn.0 - 1), judged.unwrap_or(0)));
                        }
                    }
                    last = Some(end);
                    chain.forget();
                }
            }
        }
    }

    fn block(&mut self, file: &Path, offset: u64, header: &BlockHeader, block: &[u8]) {
        self.blocks += 1;
        let mut records = Records::new(header, block);
        loop {
            let at = offset + records.position() as u64;
            let mut wrong =
                |lsn, reason| self.wrong = Some(Wrong { file: file.to_owned(), offset: at, lsn, reason });
            let record = match records.next() {
                None => return,
                Some(Ok(record)) => record,
                Some(Err(error)) => return wrong(None, error.to_string()),
            };
            let fact = match codec::decode(record.kind, record.payload) {
                Ok(fact) => fact,
                Err(error) => return wrong(Some(record.lsn), error.to_string()),
            };
            if record.lsn > self.snapshot_lsn {
                let applied = self
                    .shard
                    .apply(record.lsn, &fact)
                    .map_err(|error| format!("a start would refuse it: {error}"));
                if let Err(reason) = self.books.fact(&fact).and(applied) {
                    return wrong(Some(record.lsn), reason);
                }
                self.facts += 1;
            }
        }
    }

    /// Judges the end of the chain as recovery would; damage becomes the first wrong record.
    fn judge(&self, end: &ChainEnd) -> Result<Result<u64, Wrong>, VerifyError> {
        let (disk, dir, control) = (self.disk, self.dir, &self.control);
        let evidence = Evidence { disk, dir, control, snapshot_lsn: self.snapshot_lsn };
        let (offset, reason) = match evidence.judge(end) {
            Ok(torn) => return Ok(Ok(torn.map_or(0, |torn| torn.len))),
            Err(RecoveryError::Io { file, source }) => return Err(RecoveryError::Io { file, source }.into()),
            Err(RecoveryError::Damaged { offset, reason, .. }) => (offset, reason),
            Err(other) => (end.offset, other.to_string()),
        };
        let file = layout::segment_file(dir, end.segment);
        Ok(Err(Wrong { file, offset, lsn: Some(end.next_lsn), reason }))
    }

    fn verdict(self, last_lsn: Lsn, torn_bytes: u64) -> Verdict {
        let (items, draws) = self.books.into_totals();
        Verdict {
            control: self.control,
            snapshot_lsn: self.snapshot_lsn,
            last_lsn,
            blocks: self.blocks,
            facts: self.facts,
            torn_bytes,
            items,
            draws,
            wrong: self.wrong,
        }
    }
}
