//! A block: a header of 128 bytes, records, checksums of its sectors, zeros up to a whole sector.
//!
//! One group of facts is one write of one or more blocks. Each carries the hash of
//! the one before it (a chain, so that a sale can be audited), and the highest LSN
//! known to be durable when it was written: by that recovery distinguishes damage
//! from a tail that was never durable. Each sector can be checked alone, to
//! distinguish a torn write from later damage ([`super::torn`]). docs/WAL_FORMAT.md
//! draws it. Building and checking only: no file here. Next: [`super::segment`].

use sha2::{Digest as _, Sha256};
use stampede_core::limits::FACT_BYTES_MAX;
use stampede_core::types::Lsn;

pub use super::identity::ChainHash;
use super::identity::LogId;
use super::limits::BLOCK_BYTES_MAX;
use super::record::{RECORD_HEADER_BYTES, Record, RecordError, read_record, write_record};
use crate::disk::SECTOR_BYTES;

/// Bytes before the first record.
pub const BLOCK_HEADER_BYTES: usize = 128;
/// The version of all files of the log that this program writes, and the highest it reads.
/// Version 1 had one checksum per block, and recycled segments with their old bytes.
pub const FORMAT_VERSION: u16 = 2;
/// The oldest version of a block and of a control file that it reads.
pub const FORMAT_VERSION_MIN: u16 = 2;

const MAGIC: [u8; 8] = *b"STAMPBLK";
/// Offset of the checksum over the sector checksums.
const TABLE_CRC_AT: usize = 104;
/// Offset of the header's checksum; it covers everything before it.
const HEADER_CRC_AT: usize = 108;
/// Offset of the first sector's checksum; it covers the whole sector except itself.
const CRC_AT: usize = 124;
/// Bytes of a sector's checksum.
const ENTRY_BYTES: usize = 4;
/// Follows the sector checksums, so that no unit of 512 bytes of a written block is all zeros.
pub const END_MARK: u8 = 0x5A;
/// The least bytes of a block that holds this many bytes of records, without padding.
pub const fn block_bytes_min(records_len: usize) -> usize {
    BLOCK_HEADER_BYTES + records_len + 1
}

// Every record fits the smallest block, so a segment is filled to its last sector.
const _: () = assert!(block_bytes_min(RECORD_HEADER_BYTES + FACT_BYTES_MAX) <= SECTOR_BYTES);

/// What a block says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockHeader {
    /// The log it belongs to.
    pub log_id: LogId,
    /// The start of the engine that wrote it; grows by one with each start.
    pub epoch: u64,
    /// The segment it was written for: another number marks a misdirected write.
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
        // Every sector after the first has its checksum after the records.
        let beyond = block_bytes_min(self.records_len as usize).saturating_sub(SECTOR_BYTES);
        (1 + beyond.div_ceil(SECTOR_BYTES - ENTRY_BYTES)) * SECTOR_BYTES
    }
    /// Where in the block the records end and the checksums of its sectors begin.
    pub fn records_end(&self) -> usize {
        BLOCK_HEADER_BYTES + self.records_len as usize
    }
    /// Where the checksums and the mark after them end and the zeros begin.
    pub fn content_end(&self) -> usize {
        self.records_end() + (self.block_len() / SECTOR_BYTES - 1) * ENTRY_BYTES + 1
    }
    /// The LSN of its last record.
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0 + u64::from(self.records) - 1)
    }
}

/// Why the bytes at a place are not a block of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BlockError {
    /// No block begins here.
    #[error("no block begins here")]
    None,
    /// A newer version wrote it.
    #[error("format version {0} is newer than {FORMAT_VERSION}, the newest that this program reads")]
    Newer(u16),
    /// An older version wrote it, which this program does not read any more.
    #[error("format version {0} is older than {FORMAT_VERSION_MIN}, the oldest that this program reads")]
    Older(u16),
    /// Its lengths contradict each other.
    #[error("the block's header is damaged")]
    Header,
    /// The file ends inside it.
    #[error("the file ends inside the block")]
    Short,
    /// A checksum does not match, or the padding is not zero.
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
    /// Where records have to end, so that the checksums of all sectors still fit.
    limit: usize,
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
        let limit = out.len() - (out.len() / SECTOR_BYTES - 1) * ENTRY_BYTES - 1;
        Self { out, limit, len: BLOCK_HEADER_BYTES, records: 0 }
    }
    /// How many records it holds.
    pub fn records(&self) -> u32 {
        self.records
    }
    /// Adds a record; false if it does not fit.
    pub fn push(&mut self, record: &Record<'_>) -> bool {
        let Some(len) = write_record(record, &mut self.out[self.len..self.limit]) else { return false };
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
        block[header.content_end() - 1] = END_MARK;
        for sector in 1..block.len() / SECTOR_BYTES {
            let crc = crc32c::crc32c(records_in(&header, block, sector));
            put_u32(block, self.len + (sector - 1) * ENTRY_BYTES, crc);
        }
        write_header(&header, block);
        put_u32(block, TABLE_CRC_AT, crc32c::crc32c(&block[self.len..header.content_end()]));
        put_u32(block, HEADER_CRC_AT, crc32c::crc32c(&block[..HEADER_CRC_AT]));
        put_u32(block, CRC_AT, first_sector_crc(block));
        (block.len(), hash_of(&block[..self.len]))
    }
}

fn put_u32(out: &mut [u8], at: usize, value: u32) {
    out[at..at + 4].copy_from_slice(&value.to_le_bytes());
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
    out[TABLE_CRC_AT..BLOCK_HEADER_BYTES].fill(0);
}

fn first_sector_crc(block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block[..CRC_AT]), &block[BLOCK_HEADER_BYTES..SECTOR_BYTES])
}

/// The records' bytes in a sector after the first: what its checksum covers.
fn records_in<'b>(header: &BlockHeader, block: &'b [u8], sector: usize) -> &'b [u8] {
    let (from, to) = (sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
    let end = header.records_end();
    &block[from.min(end)..to.min(end)]
}

/// Whether the header's own checksum matches: then its lengths can be trusted, whatever happened
/// to the rest. `first_sector` begins with the header.
pub fn header_is_whole(first_sector: &[u8]) -> bool {
    u32_at(first_sector, HEADER_CRC_AT) == crc32c::crc32c(&first_sector[..HEADER_CRC_AT])
}

/// Whether the checksums of the sectors are what was written. `block` is as long as its header says.
pub fn sector_checks_are_whole(header: &BlockHeader, block: &[u8]) -> bool {
    u32_at(block, TABLE_CRC_AT) == crc32c::crc32c(&block[header.records_end()..header.content_end()])
}

/// Whether one sector of a block is what was written, by its own checksum. `block` is as long as its
/// header says; for every sector after the first, check [`sector_checks_are_whole`] before.
pub fn sector_is_whole(header: &BlockHeader, block: &[u8], sector: usize) -> bool {
    if sector == 0 {
        return u32_at(block, CRC_AT) == first_sector_crc(block);
    }
    let expected = u32_at(block, header.records_end() + (sector - 1) * ENTRY_BYTES);
    expected == crc32c::crc32c(records_in(header, block, sector))
}

/// Whether every byte is zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

fn hash_of(header_and_records: &[u8]) -> ChainHash {
    Sha256::digest(header_and_records).into()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Reads a header without trusting it: only magic, version and lengths are checked.
///
/// # Errors
/// [`BlockError::None`], [`BlockError::Newer`], [`BlockError::Older`], [`BlockError::Header`] or [`BlockError::Short`].
pub fn peek_header(bytes: &[u8]) -> Result<BlockHeader, BlockError> {
    let bytes: &[u8; BLOCK_HEADER_BYTES] = bytes.first_chunk().ok_or(BlockError::Short)?;
    if bytes[..8] != MAGIC {
        return Err(BlockError::None);
    }
    let format = u16::from_le_bytes([bytes[8], bytes[9]]);
    if format > FORMAT_VERSION {
        return Err(BlockError::Newer(format));
    }
    if format < FORMAT_VERSION_MIN {
        return Err(BlockError::Older(format));
    }
    let header = BlockHeader {
        log_id: LogId(bytes[16..32].try_into().expect("sixteen bytes")),
        epoch: u64_at(bytes, 32),
        segment: u64_at(bytes, 40),
        first_lsn: Lsn(u64_at(bytes, 48)),
        durable_lsn: Lsn(u64_at(bytes, 56)),
        records: u32_at(bytes, 64),
        records_len: u32_at(bytes, 68),
        prev_hash: bytes[72..104].try_into().expect("thirty-two bytes"),
    };
    let fits = header.block_len() <= BLOCK_BYTES_MAX;
    let plausible = header.records > 0 && header.records <= header.records_len;
    let counted = header.first_lsn > Lsn::ZERO && header.first_lsn.0 < u64::MAX / 2;
    if fits && plausible && counted { Ok(header) } else { Err(BlockError::Header) }
}

/// Checks a whole block against its place: checksums, log, segment. `bytes` may be longer than it.
///
/// # Errors
/// See [`BlockError`].
pub fn check_block(bytes: &[u8], log_id: LogId, segment: u64) -> Result<BlockHeader, BlockError> {
    let header = peek_header(bytes)?;
    let block = bytes.get(..header.block_len()).ok_or(BlockError::Short)?;
    let sectors = block.len() / SECTOR_BYTES;
    let whole = sector_is_whole(&header, block, 0)
        && header_is_whole(block)
        && sector_checks_are_whole(&header, block)
        && (1..sectors).all(|sector| sector_is_whole(&header, block, sector))
        && is_zero(&block[header.content_end()..]);
    if !whole {
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
    hash_of(&block[..header.records_end()])
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
    /// Bytes are not a record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record has the wrong LSN for its place.
    #[error("a record has LSN {found}, expected {expected}")]
    Order {
        /// The LSN of this place.
        expected: Lsn,
        /// The LSN of the record.
        found: Lsn,
    },
    /// The records end before or after where the header says.
    #[error("the records do not fill their block")]
    Count,
}

impl<'a> Records<'a> {
    /// The records of a block that [`check_block`] has let pass.
    pub fn new(header: &BlockHeader, block: &'a [u8]) -> Self {
        let left = &block[BLOCK_HEADER_BYTES..header.records_end()];
        Self { left, len: left.len(), next_lsn: header.first_lsn, left_count: header.records }
    }
    /// The records from `position` on; the one there follows the LSN `after`. A `position` at the
    /// beginning of the block means its first record, whatever `after` is.
    ///
    /// # Panics
    /// When no record begins there: `position` must come from [`Records::position`].
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
