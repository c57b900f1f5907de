//! The chain's hash at an LSN: that of the block which holds it.
//!
//! A block never changes once it is durable, and carries the hash of the one before it: two logs
//! that have the same hash at an LSN hold the same facts up to it. The block may be trimmed by
//! now; where exactly the block behind it is the first that is left, the control file has its
//! hash. Reads only. Next: [`crate::export::attach`], which compares.

use std::io;
use std::path::Path;

use stampede_core::types::Lsn;

use super::block::{ChainHash, hash_block};
use super::control::ControlFile;
use super::identity::LogId;
use super::segment::{SegmentReader, list_segments};
use crate::disk::Disk;

/// Bytes read at once: a block is looked at, not what is behind it.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// Where a block lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockPlace {
    /// The number of its segment.
    pub(super) segment: u64,
    /// Its first byte in it.
    pub(super) offset: u64,
}

/// The hash of the block that holds this durable LSN; of LSN 0, the one that the first block names.
/// `place` is where that block was read before, if it was. `None` = the log does not hold the LSN.
pub(super) fn chain_at(
    disk: &dyn Disk,
    dir: &Path,
    control: &ControlFile,
    lsn: Lsn,
    place: Option<BlockPlace>,
) -> io::Result<Option<ChainHash>> {
    let begin = control.current();
    if lsn.next() == begin.first_lsn {
        return Ok(Some(begin.first_chain));
    }
    let found = match place {
        Some(place) => hash_from(disk, dir, begin.log_id, place, lsn)?,
        None => None,
    };
    let found = if found.is_some() { found } else { search(disk, dir, begin.log_id, lsn)? };
    if found.is_some() {
        return Ok(found);
    }
    // Trimmed while it was looked for.
    let now = control.current();
    Ok((lsn.next() == now.first_lsn).then_some(now.first_chain))
}

/// Looks for the block in the last segment that begins at or before the LSN.
fn search(disk: &dyn Disk, dir: &Path, log_id: LogId, lsn: Lsn) -> io::Result<Option<ChainHash>> {
    for segment in list_segments(disk, dir)?.into_iter().rev() {
        let place = BlockPlace { segment, offset: 0 };
        if let Some(hash) = hash_from(disk, dir, log_id, place, lsn)? {
            return Ok(Some(hash));
        }
    }
    Ok(None)
}

/// Walks the blocks from a place on to the one that holds the LSN; `None` = it is not among them.
fn hash_from(
    disk: &dyn Disk,
    dir: &Path,
    log_id: LogId,
    place: BlockPlace,
    lsn: Lsn,
) -> io::Result<Option<ChainHash>> {
    let mut reader = match SegmentReader::open(disk, dir, place.segment) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    reader.set_read_ahead(READ_AHEAD_BYTES);
    let mut offset = place.offset;
    while offset < reader.size() {
        let Ok((header, block)) = reader.block_at(offset, log_id)? else { return Ok(None) };
        if header.first_lsn > lsn {
            return Ok(None);
        }
        if header.last_lsn() >= lsn {
            return Ok(Some(hash_block(&header, block)));
        }
        offset += header.block_len() as u64;
    }
    Ok(None)
}
