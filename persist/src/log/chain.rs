//! Walks the chain of blocks from segment to segment and checks every link.
//!
//! A block must have valid checksums, the right log and segment, the next LSN, the hash of
//! the block before, and an epoch that does not decrease. Where the chain ends, this says
//! why and leaves the decision (torn or damaged?) to [`super::recovery`]. Reads only.

use std::io;
use std::path::{Path, PathBuf};

use stampede_core::types::Lsn;

use super::block::{BlockError, BlockHeader, ChainHash, hash_block};
use super::control::Control;
use super::identity::LogId;
use super::layout;
use super::segment::SegmentReader;
use crate::disk::Disk;

/// Where the chain ends: the place of the next block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainEnd {
    /// The segment.
    pub segment: u64,
    /// Where in it.
    pub offset: u64,
    /// The LSN that comes next.
    pub next_lsn: Lsn,
    /// The hash of the last block.
    pub chain: ChainHash,
    /// The epoch of the last block; 0 = there is none.
    pub epoch: u64,
    /// The durable LSN in the last block; all blocks of its group say the same.
    pub durable_lsn: Lsn,
    /// Why it ends.
    pub why: EndReason,
}

/// Why a chain ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndReason {
    /// The next segment is not there.
    Missing,
    /// The segment has the wrong size.
    Size(u64),
    /// No valid block for this place is there.
    Block(BlockError),
    /// A valid block is there that does not follow the one before it.
    Broken(String),
}

impl std::fmt::Display for EndReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => write!(f, "the segment is missing"),
            Self::Size(size) => write!(f, "the segment has {size} bytes"),
            Self::Block(error) => error.fmt(f),
            Self::Broken(reason) => reason.fmt(f),
        }
    }
}

/// One link of the chain.
#[derive(Debug)]
pub enum Link<'a> {
    /// A valid block and its bytes.
    Block {
        /// Its segment.
        segment: u64,
        /// Where in it.
        offset: u64,
        /// What it says.
        header: BlockHeader,
        /// Its bytes.
        block: &'a [u8],
    },
    /// No further block.
    End(ChainEnd),
}

/// Reads block after block.
pub struct ChainReader<'d> {
    disk: &'d dyn Disk,
    dir: PathBuf,
    log_id: LogId,
    segment_bytes: u64,
    reader: Option<SegmentReader>,
    segment: u64,
    offset: u64,
    next_lsn: Lsn,
    chain: ChainHash,
    epoch: u64,
    durable_lsn: Lsn,
}

impl<'d> ChainReader<'d> {
    /// A reader at the beginning of the log that the control file describes.
    pub fn new(disk: &'d dyn Disk, dir: &Path, control: &Control) -> Self {
        Self {
            disk,
            dir: dir.to_owned(),
            log_id: control.log_id,
            segment_bytes: control.segment_bytes,
            reader: None,
            segment: control.first_segment,
            offset: 0,
            next_lsn: control.first_lsn,
            chain: control.first_chain,
            epoch: 0,
            durable_lsn: Lsn(control.first_lsn.0 - 1),
        }
    }

    /// The file that the reader has reached.
    pub fn file(&self) -> PathBuf {
        layout::segment_file(&self.dir, self.segment)
    }

    /// Forgets what was read ahead, so that the next link is read from the file again.
    pub fn forget(&mut self) {
        self.reader = None;
    }

    /// Reads and checks the next block.
    ///
    /// # Errors
    /// What the file system answers, for the file that [`ChainReader::file`] names.
    pub fn next_link(&mut self) -> io::Result<Link<'_>> {
        if self.offset >= self.segment_bytes {
            (self.segment, self.offset, self.reader) = (self.segment + 1, 0, None);
        }
        if let Some(why) = self.open()? {
            return Ok(Link::End(self.end(why)));
        }
        let header = match self.check()? {
            Ok(header) => header,
            Err(why) => return Ok(Link::End(self.end(why))),
        };
        let (segment, offset) = (self.segment, self.offset);
        let reader = self.reader.as_mut().expect("opened above");
        let block = &reader.bytes_at(offset, header.block_len())?[..header.block_len()];
        self.chain = hash_block(&header, block);
        self.offset += block.len() as u64;
        self.next_lsn = header.last_lsn().next();
        self.epoch = header.epoch;
        self.durable_lsn = header.durable_lsn;
        Ok(Link::Block { segment, offset, header, block })
    }

    fn end(&self, why: EndReason) -> ChainEnd {
        let Self { segment, offset, next_lsn, chain, epoch, durable_lsn, .. } = *self;
        ChainEnd { segment, offset, next_lsn, chain, epoch, durable_lsn, why }
    }

    fn open(&mut self) -> io::Result<Option<EndReason>> {
        if self.reader.is_none() {
            match SegmentReader::open(self.disk, &self.dir, self.segment) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(EndReason::Missing)),
                other => self.reader = Some(other?),
            }
        }
        let size = self.reader.as_ref().expect("opened above").size();
        Ok((size != self.segment_bytes).then_some(EndReason::Size(size)))
    }

    fn check(&mut self) -> io::Result<Result<BlockHeader, EndReason>> {
        let reader = self.reader.as_mut().expect("opened before");
        let header = match reader.block_at(self.offset, self.log_id)? {
            Ok((header, _)) => header,
            Err(error) => return Ok(Err(EndReason::Block(error))),
        };
        let broken = |text: String| Ok(Err(EndReason::Broken(text)));
        if header.first_lsn != self.next_lsn {
            return broken(format!(
                "a block begins with LSN {}, but {} is next",
                header.first_lsn, self.next_lsn
            ));
        }
        if header.prev_hash != self.chain {
            return broken(format!(
                "the block of LSN {} does not follow the one before it",
                header.first_lsn
            ));
        }
        if header.epoch < self.epoch || header.durable_lsn >= header.first_lsn {
            return broken(format!("the block of LSN {} contradicts itself", header.first_lsn));
        }
        Ok(Ok(header))
    }
}
