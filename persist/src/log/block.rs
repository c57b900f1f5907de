//! A block: a header of 128 bytes, records, zeros up to a whole sector.
//!
//! One group of facts is one write of one or more blocks. Each carries the hash of
//! the one before it (a chain, so that a sale can be audited), and the highest LSN
//! known durable when it was written, which is how recovery tells damage from a
//! tail that never was durable. docs/WAL_FORMAT.md draws it. Building and checking
//! only: no file here. Next: [`super::segment`].

use sha2::{Digest as _, Sha256};
use stampede_core::types::Lsn;

use super::identity::LogId;
use super::limits::BLOCK_BYTES_MAX;
use super::record::{Record, RecordError, read_record, write_record};
use crate::disk::SECTOR_BYTES;

/// Bytes before the first record.
pub const BLOCK_HEADER_BYTES: usize = 128;
/// The version of all files of the log that this program writes, and the highest it reads.
pub const FORMAT_VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"STAMPBLK";
/// Where the header's checksum stands; it covers the whole padded block but itself.
const CRC_AT: usize = 124;

/// SHA-256 of a block: header and records, without the padding.
pub type ChainHash = [u8; 32];

/// What a block says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockHeader {
    /// The log it belongs to.
    pub log_id: LogId,
    /// The run of the engine that wrote it; grows by one with each start.
    pub epoch: u64,
    /// The segment it was written for: another number marks a leftover of recycling.
    pub segment: u64,
    /// The LSN of its first record.
    pub first_lsn: Lsn,
    /// The highest LSN known durable when it was written.
    pub durable_lsn: Lsn,
    /// How many records it holds.
    pub records: u32,
    /// Bytes of all records.
    pub records_len: u32,
    /// The hash of the block before it.
    pub prev_hash: ChainHash,
}

impl BlockHeader {
    /// Bytes on disk, padding included.
    pub fn block_len(&self) -> usize {
        (BLOCK_HEADER_BYTES + self.records_len as usize).next_multiple_of(SECTOR_BYTES)
    }
    /// The LSN of its last record.
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0 + u64::from(self.records) - 1)
    }
}

/// Why bytes are not a block of this place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BlockError {
    /// No block begins here.
    #[error("no block begins here")]
    None,
    /// A newer version wrote it.
    #[error("format version {0} is newer than {FORMAT_VERSION}, the newest that this program reads")]
    Newer(u16),
    /// Its lengths contradict each other.
    #[error("the block's header is damaged")]
    Header,
    /// The file ends inside it.
    #[error("the file ends inside the block")]
    Short,
    /// Its checksum is another.
    #[error("the block's checksum does not match")]
    Checksum,
    /// It belongs to another log.
    #[error("the block belongs to another log, {0}")]
    Foreign(LogId),
    /// It was written for another segment.
    #[error("the block was written for segment {0}")]
    OtherSegment(u64),
}

/// Fills a block record by record.
pub struct BlockBuilder<'b> {
    out: &'b mut [u8],
    len: usize,
    records: u32,
}

impl<'b> BlockBuilder<'b> {
    /// A block in `out`, whose length is a multiple of the sector and at most [`BLOCK_BYTES_MAX`].
    ///
    /// # Panics
    /// When it is not.
    pub fn new(out: &'b mut [u8]) -> Self {
        assert!(
            out.len().is_multiple_of(SECTOR_BYTES) && (SECTOR_BYTES..=BLOCK_BYTES_MAX).contains(&out.len())
        );
        Self { out, len: BLOCK_HEADER_BYTES, records: 0 }
    }
    /// How many records it holds.
    pub fn records(&self) -> u32 {
        self.records
    }
    /// Adds a record; false when it does not fit any more.
    pub fn push(&mut self, record: &Record<'_>) -> bool {
        let Some(len) = write_record(record, &mut self.out[self.len..]) else { return false };
        self.len += len;
        self.records += 1;
        true
    }
    /// Writes header and padding. `header.records` and `records_len` are filled in here.
    /// Returns the block's length and its hash.
    ///
    /// # Panics
    /// When it has no record.
    pub fn finish(self, header: BlockHeader) -> (usize, ChainHash) {
        assert!(self.records > 0, "a block holds something");
        let records_len = (self.len - BLOCK_HEADER_BYTES) as u32;
        let header = BlockHeader { records: self.records, records_len, ..header };
        let block = &mut self.out[..header.block_len()];
        block[self.len..].fill(0);
        write_header(&header, block);
        let crc = checksum(block);
        block[CRC_AT..BLOCK_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        (block.len(), hash_of(&block[..self.len]))
    }
}

fn write_header(header: &BlockHeader, out: &mut [u8]) {
    out[..8].copy_from_slice(&MAGIC);
    out[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[10..12].copy_from_slice(&(BLOCK_HEADER_BYTES as u16).to_le_bytes());
    out[12..16].fill(0);
    out[16..32].copy_from_slice(&header.log_id.0);
    out[32..40].copy_from_slice(&header.epoch.to_le_bytes());
    out[40..48].copy_from_slice(&header.segment.to_le_bytes());
    out[48..56].copy_from_slice(&header.first_lsn.0.to_le_bytes());
    out[56..64].copy_from_slice(&header.durable_lsn.0.to_le_bytes());
    out[64..68].copy_from_slice(&header.records.to_le_bytes());
    out[68..72].copy_from_slice(&header.records_len.to_le_bytes());
    out[72..104].copy_from_slice(&header.prev_hash);
    out[104..CRC_AT].fill(0);
}

fn checksum(block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block[..CRC_AT]), &block[BLOCK_HEADER_BYTES..])
}

fn hash_of(header_and_records: &[u8]) -> ChainHash {
    Sha256::digest(header_and_records).into()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Reads a header without believing it: only magic, version and lengths are checked.
///
/// # Errors
/// [`BlockError::None`], [`BlockError::Newer`], [`BlockError::Header`] or [`BlockError::Short`].
pub fn peek_header(bytes: &[u8]) -> Result<BlockHeader, BlockError> {
    let bytes: &[u8; BLOCK_HEADER_BYTES] = bytes.first_chunk().ok_or(BlockError::Short)?;
    if bytes[..8] != MAGIC {
        return Err(BlockError::None);
    }
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let format = u16::from_le_bytes([bytes[8], bytes[9]]);
    if format > FORMAT_VERSION {
        return Err(BlockError::Newer(format));
    }
    let header = BlockHeader {
        log_id: LogId(bytes[16..32].try_into().expect("sixteen bytes")),
        epoch: u64_at(bytes, 32),
        segment: u64_at(bytes, 40),
        first_lsn: Lsn(u64_at(bytes, 48)),
        durable_lsn: Lsn(u64_at(bytes, 56)),
        records: u32_at(64),
        records_len: u32_at(68),
        prev_hash: bytes[72..104].try_into().expect("thirty-two bytes"),
    };
    let fits = header.records_len as usize <= BLOCK_BYTES_MAX - BLOCK_HEADER_BYTES;
    let plausible = format != 0 && header.records > 0 && header.records <= header.records_len;
    let counted = header.first_lsn > Lsn::ZERO && header.first_lsn.0 < u64::MAX / 2;
    if fits && plausible && counted { Ok(header) } else { Err(BlockError::Header) }
}

/// Checks a block as a whole against its place: checksum, log, segment. `bytes` may go on behind it.
///
/// # Errors
/// See [`BlockError`].
pub fn check_block(bytes: &[u8], log_id: LogId, segment: u64) -> Result<BlockHeader, BlockError> {
    let header = peek_header(bytes)?;
    let block = bytes.get(..header.block_len()).ok_or(BlockError::Short)?;
    if checksum(block)
        != u32::from_le_bytes(block[CRC_AT..BLOCK_HEADER_BYTES].try_into().expect("four bytes"))
    {
        return Err(BlockError::Checksum);
    }
    if header.log_id != log_id {
        return Err(BlockError::Foreign(header.log_id));
    }
    if header.segment != segment {
        return Err(BlockError::OtherSegment(header.segment));
    }
    Ok(header)
}

/// The hash of a checked block.
pub fn hash_block(header: &BlockHeader, block: &[u8]) -> ChainHash {
    hash_of(&block[..BLOCK_HEADER_BYTES + header.records_len as usize])
}

/// Walks the records of a checked block.
pub struct Records<'a> {
    left: &'a [u8],
    len: usize,
    next_lsn: Lsn,
    left_count: u32,
}

/// Why a checked block's records are not what its header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordsError {
    /// A record is not one.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record has another LSN than its place.
    #[error("a record says LSN {found} where {expected} belongs")]
    Order {
        /// What belongs there.
        expected: Lsn,
        /// What it says.
        found: Lsn,
    },
    /// The records end before or behind where the header says.
    #[error("the records do not fill their block")]
    Count,
}

impl<'a> Records<'a> {
    /// The records of a block that [`check_block`] has let pass.
    pub fn new(header: &BlockHeader, block: &'a [u8]) -> Self {
        let left = &block[BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + header.records_len as usize];
        Self { left, len: left.len(), next_lsn: header.first_lsn, left_count: header.records }
    }
    /// The rest of them: from the record that begins at `position` and follows `after`. A
    /// `position` at the beginning of the block begins with its first record, whatever `after`.
    ///
    /// # Panics
    /// When no record begins there: `position` is what [`Records::position`] said before.
    pub fn from(header: &BlockHeader, block: &'a [u8], position: usize, after: Lsn) -> Self {
        let all = Self::new(header, block);
        if position <= BLOCK_HEADER_BYTES {
            return all;
        }
        let next_lsn = after.next();
        let done = (next_lsn.0 - header.first_lsn.0) as u32;
        let left = &all.left[position - BLOCK_HEADER_BYTES..];
        Self { left, len: all.len, next_lsn, left_count: header.records - done }
    }
    /// Where in its block the next record begins.
    pub fn position(&self) -> usize {
        BLOCK_HEADER_BYTES + self.len - self.left.len()
    }
    fn step(&mut self) -> Result<Record<'a>, RecordsError> {
        let (record, len) = read_record(self.left)?;
        if record.lsn != self.next_lsn {
            return Err(RecordsError::Order { expected: self.next_lsn, found: record.lsn });
        }
        self.left = &self.left[len..];
        self.next_lsn = record.lsn.next();
        self.left_count -= 1;
        if self.left_count == 0 && !self.left.is_empty() {
            return Err(RecordsError::Count);
        }
        Ok(record)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordsError>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.left_count == 0 {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.left_count = 0;
        }
        Some(step)
    }
}
