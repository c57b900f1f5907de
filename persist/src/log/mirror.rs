//! A replica that follows a log's files and can be stopped at any LSN, to be compared with a
//! running engine's memory or with a database at its cursor.
//!
//! It takes no lock and writes nothing, so it works on a live directory: at the end of the chain
//! it reads again later. It only goes forward. Next: [`super::replica`].

use std::path::{Path, PathBuf};

use stampede_core::types::{HashSecret, Lsn};

use super::block::{BlockHeader, Records};
use super::chain::{ChainEnd, ChainReader, Link};
use super::control::{Control, read_control};
use super::layout;
use super::recovery::{Evidence, RecoveryError};
use super::replica::Replica;
use super::verify::{VerifyError, Wrong, load_oldest_snapshot};
use crate::codec;
use crate::disk::Disk;
use crate::disk::real::RealDisk;

/// Most blocks that one advance reads, so that the caller can report progress.
const BLOCKS_PER_STEP: usize = 64;

/// How far an advance came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Advance {
    /// To the LSN that was asked for.
    There,
    /// Not so far, and there is more to read.
    More,
    /// Not so far, and nothing more is in the files yet.
    End,
}

/// Why a log can be followed no further.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// It cannot be read at all.
    #[error(transparent)]
    Open(#[from] VerifyError),
    /// The log was trimmed past this place meanwhile: start again.
    #[error("the log was trimmed while it was read")]
    Trimmed,
    /// A record is wrong.
    #[error("the log is wrong: {0}")]
    Wrong(Wrong),
}

/// The follower.
pub struct Mirror<'d> {
    disk: &'d dyn Disk,
    dir: PathBuf,
    control: Control,
    snapshot_lsn: Lsn,
    chain: ChainReader<'d>,
    end: Option<ChainEnd>,
    /// The block that is being entered, and in `entering` where its next record begins.
    block: Vec<u8>,
    entering: Option<(PathBuf, u64, BlockHeader, usize)>,
    replica: Replica,
    lsn: Lsn,
}

impl Mirror<'static> {
    /// A follower of the log in a data directory on the real file system; begins as early as the
    /// directory allows.
    ///
    /// # Errors
    /// See [`MirrorError`].
    pub fn open(dir: &Path) -> Result<Self, MirrorError> {
        Mirror::open_on(&RealDisk, dir)
    }
}

impl<'d> Mirror<'d> {
    /// As [`Mirror::open`], on any disk.
    ///
    /// # Errors
    /// See [`MirrorError`].
    pub fn open_on(disk: &'d dyn Disk, dir: &Path) -> Result<Self, MirrorError> {
        let control = read_control(disk, dir).map_err(VerifyError::from)?;
        let control = control.ok_or_else(|| VerifyError::NoLog(dir.to_owned()))?;
        let (chain, secret) = (ChainReader::new(disk, dir, &control), HashSecret(control.hash_secret));
        let mut mirror = Self {
            disk,
            dir: dir.to_owned(),
            control,
            snapshot_lsn: Lsn::ZERO,
            chain,
            end: None,
            block: Vec::new(),
            entering: None,
            replica: Replica::new(secret),
            lsn: Lsn(control.first_lsn.0 - 1),
        };
        if control.first_lsn > Lsn(1) {
            let (header, replica) =
                load_oldest_snapshot(disk, dir, &control, || Replica::new(secret), Replica::row)?;
            (mirror.snapshot_lsn, mirror.lsn, mirror.replica) = (header.lsn, header.lsn, replica);
        }
        Ok(mirror)
    }

    /// What the control file said when it was opened.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The books and orders at [`Self::lsn`].
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The last fact in the replica.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Reads on towards `to`, a few blocks at most, and never beyond it.
    ///
    /// # Errors
    /// See [`MirrorError`]; the mirror must not be used after that.
    pub fn advance(&mut self, to: Lsn) -> Result<Advance, MirrorError> {
        for _ in 0..BLOCKS_PER_STEP {
            if self.lsn >= to {
                return Ok(Advance::There);
            }
            if self.entering.is_none() && !self.next_block()? {
                return Ok(Advance::End);
            }
            self.enter(to)?;
        }
        Ok(if self.lsn >= to { Advance::There } else { Advance::More })
    }

    /// Takes the next block of the chain; false at its end.
    fn next_block(&mut self) -> Result<bool, MirrorError> {
        // What was read ahead may be outdated: at an end, it is read again.
        if self.take_block()? || self.take_block()? {
            return Ok(true);
        }
        self.still_there()?;
        Ok(false)
    }

    fn take_block(&mut self) -> Result<bool, MirrorError> {
        let file = self.chain.file();
        let link = self.chain.next_link();
        let link = link.map_err(|source| VerifyError::Read(RecoveryError::Io { file, source }))?;
        match link {
            Link::Block { segment, offset, header, block } => {
                self.block.clear();
                self.block.extend_from_slice(block);
                let at = Records::new(&header, &self.block).position();
                self.entering = Some((layout::segment_file(&self.dir, segment), offset, header, at));
                self.end = None;
                Ok(true)
            }
            Link::End(end) => {
                self.end = Some(end);
                self.chain.forget();
                Ok(false)
            }
        }
    }

    fn still_there(&self) -> Result<(), MirrorError> {
        let now = read_control(self.disk, &self.dir).map_err(VerifyError::from)?;
        let now = now.ok_or_else(|| VerifyError::NoLog(self.dir.clone()))?;
        if now.first_lsn > self.lsn.next() { Err(MirrorError::Trimmed) } else { Ok(()) }
    }

    /// Enters the records of the present block up to `to`.
    fn enter(&mut self, to: Lsn) -> Result<(), MirrorError> {
        let Some((file, offset, header, mut at)) = self.entering.take() else { return Ok(()) };
        let mut records = Records::from(&header, &self.block, at, self.lsn);
        while at < self.block.len() {
            at = records.position();
            let wrong = |lsn, reason| {
                let (file, offset) = (file.clone(), offset + at as u64);
                MirrorError::Wrong(Wrong { file, offset, lsn, reason })
            };
            if self.lsn >= to && self.lsn < header.last_lsn() {
                self.entering = Some((file, offset, header, at));
                return Ok(());
            }
            let record = match records.next() {
                None => return Ok(()),
                Some(record) => record.map_err(|error| wrong(None, error.to_string()))?,
            };
            if record.lsn <= self.lsn {
                continue;
            }
            let fact = codec::decode(record.kind, record.payload);
            let fact = fact.map_err(|error| wrong(Some(record.lsn), error.to_string()))?;
            let entered = self.replica.fact(record.lsn, &fact);
            entered.map_err(|reason| wrong(Some(record.lsn), reason))?;
            self.lsn = record.lsn;
        }
        Ok(())
    }

    /// Judges the end of the log as recovery would: damage, or just its end.
    ///
    /// # Errors
    /// [`MirrorError::Wrong`] for damage; [`MirrorError::Trimmed`]; files that cannot be read.
    pub fn judge_end(&self) -> Result<(), MirrorError> {
        let Some(end) = &self.end else { return Ok(()) };
        self.still_there()?;
        let now = read_control(self.disk, &self.dir).map_err(VerifyError::from)?;
        let control = now.ok_or_else(|| VerifyError::NoLog(self.dir.clone()))?;
        let evidence =
            Evidence { disk: self.disk, dir: &self.dir, control: &control, snapshot_lsn: self.snapshot_lsn };
        let reason = match evidence.judge(end) {
            Ok(_) => return Ok(()),
            Err(RecoveryError::Damaged { reason, .. }) => reason,
            Err(other) => return Err(VerifyError::Read(other).into()),
        };
        let file = layout::segment_file(&self.dir, end.segment);
        Err(MirrorError::Wrong(Wrong { file, offset: end.offset, lsn: Some(end.next_lsn), reason }))
    }
}
