//! Recovery: reads the log and replays it into the state, or refuses and changes nothing.
//!
//! The end of the log is either torn or damaged (I9). Everything that was durable must be
//! there and intact: otherwise [`RecoveryError::Damaged`] names file and offset, and not a
//! byte is changed. A tail that was never durable may be torn: [`super::repair`] keeps a
//! copy and cuts it off. The evidence that something was durable: a later block, a later
//! segment, a snapshot, the control file. Without evidence the sectors decide:
//! [`super::torn`] knows what an unfinished write can leave. This module only reads.

use std::io;
use std::path::{Path, PathBuf};

use stampede_core::types::{Lsn, UnixMillis};

use super::block::{BlockError, BlockHeader, FORMAT_VERSION, Records, header_is_whole, peek_header};
use super::chain::{ChainEnd, ChainReader, EndReason, Link};
use super::control::Control;
use super::identity::LogId;
use super::index::SegmentStart;
use super::layout;
use super::rebuild::Rebuild;
use super::segment::{SegmentReader, list_segments};
use super::torn::{Damage, Tail, scan_tail};
use crate::codec;
use crate::disk::{Disk, SECTOR_BYTES};

/// Why a log cannot be recovered. Nothing on disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Something durable is damaged or missing.
    #[error(
        "{} is damaged at byte {offset}: {reason}. Nothing was changed. Put the file back from a copy, \
         or see `stampede log verify`",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong, and how it is known that this was durable.
        reason: String,
    },
    /// A file belongs to another log.
    #[error(
        "{} belongs to another log at byte {offset} ({found}; this directory holds {expected}). Nothing \
         was changed. Put that log's files back in their own directory",
        file.display()
    )]
    Foreign {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// Whose it is.
        found: LogId,
        /// Whose the directory is.
        expected: LogId,
    },
    /// A newer version wrote a file.
    #[error(
        "{} has format version {found} at byte {offset}; this program reads up to {FORMAT_VERSION}: start \
         the newer program that wrote it. Nothing was changed",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// Its version.
        found: u16,
    },
    /// A fact or row was read but the state refuses it.
    #[error(
        "LSN {lsn} cannot be replayed: {reason}. Nothing was changed; see `stampede log verify`. If the fact came \
         from Postgres, `stampede log cut-import` repairs the directory"
    )]
    Refused {
        /// The fact, or the snapshot's LSN for a row.
        lsn: Lsn,
        /// Why.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot read {}: {source}; check the disk and the directory's owner", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// Bytes that were written but never durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TornTail {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// What recovery found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) end: ChainEnd,
    pub(super) starts: Vec<SegmentStart>,
    pub(super) last_ms: UnixMillis,
    pub(super) torn: Option<TornTail>,
    /// The last group, if nothing proves that its sync has returned: (segment, offset).
    pub(super) unproven: Option<(u64, u64)>,
    /// How many facts were visited.
    pub(super) facts: u64,
}

/// Reads and checks the whole log and replays what comes after the snapshot.
///
/// # Errors
/// See [`RecoveryError`].
pub(super) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    control: &Control,
    snapshot_lsn: Lsn,
    rebuild: &mut dyn Rebuild,
) -> Result<Recovered, RecoveryError> {
    let mut walk = Walk::new(snapshot_lsn);
    let mut chain = ChainReader::new(disk, dir, control);
    let end = loop {
        let file = chain.file();
        match chain.next_link().map_err(|source| RecoveryError::Io { file: file.clone(), source })? {
            Link::Block { segment, offset, header, block } => {
                walk.enter(segment, offset, &header);
                walk.replay(&layout::segment_file(dir, segment), offset, &header, block, rebuild)?;
            }
            Link::End(end) => break end,
        }
    };
    let evidence = Evidence { disk, dir, control, snapshot_lsn };
    let torn = evidence.judge(&end)?;
    let proven = control.durable_lsn.max(snapshot_lsn) >= Lsn(end.next_lsn.0 - 1);
    let unproven = if proven { None } else { walk.group };
    Ok(Recovered { end, starts: walk.starts, last_ms: walk.last_ms, torn, unproven, facts: walk.facts })
}

/// What the walk over the chain gathers.
struct Walk {
    snapshot_lsn: Lsn,
    starts: Vec<SegmentStart>,
    group: Option<(u64, u64)>,
    last_ms: UnixMillis,
    facts: u64,
}

impl Walk {
    fn new(snapshot_lsn: Lsn) -> Self {
        Self { snapshot_lsn, starts: Vec::new(), group: None, last_ms: UnixMillis(0), facts: 0 }
    }

    fn enter(&mut self, segment: u64, offset: u64, header: &BlockHeader) {
        if offset == 0 {
            let (first_lsn, prev_hash) = (header.first_lsn, header.prev_hash);
            self.starts.push(SegmentStart { number: segment, first_lsn, prev_hash });
        }
        // In the first block of a group, everything before the block is durable.
        if header.durable_lsn.next() == header.first_lsn {
            self.group = Some((segment, offset));
        }
    }

    fn replay(
        &mut self,
        file: &Path,
        offset: u64,
        header: &BlockHeader,
        block: &[u8],
        rebuild: &mut dyn Rebuild,
    ) -> Result<(), RecoveryError> {
        let damaged = |reason: String| RecoveryError::Damaged { file: file.to_owned(), offset, reason };
        for record in Records::new(header, block) {
            let record = record.map_err(|error| damaged(error.to_string()))?;
            let fact = codec::decode(record.kind, record.payload)
                .map_err(|error| damaged(format!("LSN {}: {error}", record.lsn)))?;
            self.last_ms = self.last_ms.max(fact.at_ms());
            if record.lsn > self.snapshot_lsn {
                let applied = rebuild.fact(record.lsn, &fact);
                applied.map_err(|reason| RecoveryError::Refused { lsn: record.lsn, reason })?;
                self.facts += 1;
            }
        }
        Ok(())
    }
}

/// The evidence that something was durable.
pub(super) struct Evidence<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) dir: &'a Path,
    pub(super) control: &'a Control,
    pub(super) snapshot_lsn: Lsn,
}

impl Evidence<'_> {
    /// Judges the end of the chain: the clean end of the log (`None`), a torn tail, or damage.
    pub(super) fn judge(&self, end: &ChainEnd) -> Result<Option<TornTail>, RecoveryError> {
        let file = layout::segment_file(self.dir, end.segment);
        match end.why {
            EndReason::Block(BlockError::Newer(found)) => {
                return Err(RecoveryError::Newer { file, offset: end.offset, found });
            }
            EndReason::Block(BlockError::Foreign(found)) => {
                let (offset, expected) = (end.offset, self.control.log_id);
                return Err(RecoveryError::Foreign { file, offset, found, expected });
            }
            _ => {}
        }
        match self.proof_of_damage(end) {
            Ok(None) => self.find_torn(end),
            Ok(Some(proof)) => {
                let reason = format!("{}; {proof}", end.why);
                Err(RecoveryError::Damaged { file, offset: end.offset, reason })
            }
            Err(source) => Err(RecoveryError::Io { file, source }),
        }
    }

    fn proof_of_damage(&self, end: &ChainEnd) -> io::Result<Option<String>> {
        let next = end.next_lsn;
        let proof = match end.why {
            EndReason::Broken(_) => Some("blocks are never written like that".to_owned()),
            EndReason::Size(_) => Some(format!("every segment has {}", self.control.segment_bytes)),
            _ if self.control.durable_lsn >= next => {
                Some(format!("the control file knows LSN {} to be durable", self.control.durable_lsn))
            }
            _ if self.snapshot_lsn >= next => Some(format!("a snapshot covers LSN {}", self.snapshot_lsn)),
            EndReason::Missing if self.control.last_segment >= end.segment => Some(self.in_use()),
            _ if self.control.last_segment > end.segment => Some(self.in_use()),
            _ => None,
        };
        if proof.is_some() {
            return Ok(proof);
        }
        self.later_blocks(end)
    }

    fn in_use(&self) -> String {
        format!("the control file knows segment {} to be in use", self.control.last_segment)
    }

    /// Searches after the end for a block that was written when this place was durable, or that
    /// belongs here and was written elsewhere.
    fn later_blocks(&self, end: &ChainEnd) -> io::Result<Option<String>> {
        for number in list_segments(self.disk, self.dir)?.into_iter().filter(|n| *n >= end.segment) {
            let from = if number == end.segment { end.offset + SECTOR_BYTES as u64 } else { 0 };
            let mut proof = None;
            self.scan(number, from, |offset, header| {
                let later = number > end.segment && header.first_lsn >= end.next_lsn;
                if proof.is_none() && (later || header.durable_lsn >= end.next_lsn) {
                    proof = Some(format!(
                        "the block at byte {offset} of segment {number} (LSN {}) was written later",
                        header.first_lsn
                    ));
                }
            })?;
            if proof.is_some() {
                return Ok(proof);
            }
        }
        Ok(None)
    }

    /// How far after the end there are traces of an unfinished write; damage if there is anything
    /// else. After a clean shutdown the log is known to end here, and what follows is ignored.
    fn find_torn(&self, end: &ChainEnd) -> Result<Option<TornTail>, RecoveryError> {
        if end.why == EndReason::Missing {
            return Ok(None);
        }
        let file = layout::segment_file(self.dir, end.segment);
        let known = self.control.durable_lsn.max(self.snapshot_lsn);
        let rest = SegmentReader::open(self.disk, self.dir, end.segment)
            .and_then(|mut reader| scan_tail(&mut reader, self.control.log_id, end, known));
        let torn_end = match rest {
            Err(source) => return Err(RecoveryError::Io { file, source }),
            Ok(Tail::Unfinished(torn_end)) => torn_end,
            Ok(Tail::Damaged(_)) if self.ended_cleanly(end) => self.control.segment_bytes,
            Ok(Tail::Damaged(Damage { offset, reason })) => {
                return Err(RecoveryError::Damaged { file, offset, reason });
            }
        };
        let len = torn_end - end.offset;
        if len > 0 && !self.ended_cleanly(end) {
            let beyond = self.beyond(end).map_err(|source| RecoveryError::Io { file, source })?;
            if let Some((file, offset)) = beyond {
                let reason = format!(
                    "a spare segment is not empty, although segment {} ends in an unfinished write",
                    end.segment
                );
                return Err(RecoveryError::Damaged { file, offset, reason });
            }
        }
        Ok((len > 0).then_some(TornTail { segment: end.segment, offset: end.offset, len }))
    }

    /// Whether the engine shut down cleanly when the log ended here.
    fn ended_cleanly(&self, end: &ChainEnd) -> bool {
        self.control.clean && self.control.durable_lsn.next() == end.next_lsn
    }

    /// Visits every sector from `from` on that begins a block of this log, by its header.
    fn scan(&self, number: u64, from: u64, mut visit: impl FnMut(u64, &BlockHeader)) -> io::Result<()> {
        let mut reader = SegmentReader::open(self.disk, self.dir, number)?;
        let mut offset = from;
        while offset + SECTOR_BYTES as u64 <= reader.size() {
            let sector = reader.bytes_at(offset, SECTOR_BYTES)?;
            let seen = peek_header(sector).ok().filter(|_| header_is_whole(sector));
            if let Some(header) = seen.filter(|header| header.log_id == self.control.log_id) {
                visit(offset, &header);
            }
            offset += SECTOR_BYTES as u64;
        }
        Ok(())
    }

    /// The first sector after this segment that is not empty. There may be none if a group did not
    /// finish: a spare is all zeros until it is used, and the control file records its use first.
    fn beyond(&self, end: &ChainEnd) -> io::Result<Option<(PathBuf, u64)>> {
        for number in list_segments(self.disk, self.dir)?.into_iter().filter(|n| *n > end.segment) {
            let mut reader = SegmentReader::open(self.disk, self.dir, number)?;
            if let Some(offset) = reader.first_not_empty(0)? {
                return Ok(Some((layout::segment_file(self.dir, number), offset)));
            }
        }
        Ok(None)
    }
}
