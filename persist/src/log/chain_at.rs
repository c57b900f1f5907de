//! The chain's hash at an LSN: that of the block which holds it.
//!
//! A block never changes once it is durable, and carries the hash of the one before it: two logs
//! with the same hash at an LSN hold the same facts up to it. The block may be trimmed by now; if
//! the block right after it is the first that is left, the control file has the hash. Reads only.
//! Next: [`crate::export::attach`], which compares.

use std::io;
use std::path::Path;

use stampede_core::types::Lsn;

use super::block::{ChainHash, hash_block};
use super::control::ControlFile;
use super::identity::LogId;
use super::segment::{SegmentReader, list_segments};
use crate::disk::Disk;

/// Bytes read at once: only one block is needed.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// The place of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockPlace {
    /// The number of its segment.
    pub(super) segment: u64,
    /// Its first byte in it.
    pub(super) offset: u64,
}

/// The hash of the block that holds this durable LSN; for LSN 0, the hash that the first block names as
/// the one before it. `place` is the place of that block, if known. `None` = the log does not hold the LSN.
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
    let walk = match place {
        Some(place) => walk_from(disk, dir, begin.log_id, place, lsn)?,
        None => Walk::Before,
    };
    let found = match (walk, place) {
        (Walk::Found(hash), _) => Some(hash),
        // Nothing up to the end of that segment holds it.
        (Walk::After, Some(place)) => search(disk, dir, begin.log_id, lsn, place.segment)?,
        (Walk::Before | Walk::After, _) => search(disk, dir, begin.log_id, lsn, 0)?,
    };
    if found.is_some() {
        return Ok(found);
    }
    // It may have been trimmed during the search.
    let now = control.current();
    Ok((lsn.next() == now.first_lsn).then_some(now.first_chain))
}

/// The result of a walk along the blocks of a segment.
enum Walk {
    /// The hash of the block that holds the LSN.
    Found(ChainHash),
    /// The LSN is before this place, or no block is here.
    Before,
    /// The LSN is after the last block of the segment.
    After,
}

/// Searches the last segment that begins at or before the LSN, among those numbered above `above`. Only
/// that one is walked: of later segments the first block is read, and earlier ones end before the LSN.
fn search(disk: &dyn Disk, dir: &Path, log_id: LogId, lsn: Lsn, above: u64) -> io::Result<Option<ChainHash>> {
    let segments = list_segments(disk, dir)?;
    for segment in segments.into_iter().rev().take_while(|segment| *segment > above) {
        match walk_from(disk, dir, log_id, BlockPlace { segment, offset: 0 }, lsn)? {
            Walk::Found(hash) => return Ok(Some(hash)),
            Walk::Before => {}
            Walk::After => return Ok(None),
        }
    }
    Ok(None)
}

/// Walks the blocks from a place to the one that holds the LSN.
fn walk_from(disk: &dyn Disk, dir: &Path, log_id: LogId, place: BlockPlace, lsn: Lsn) -> io::Result<Walk> {
    let mut reader = match SegmentReader::open(disk, dir, place.segment) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Walk::Before),
        other => other?,
    };
    reader.set_read_ahead(READ_AHEAD_BYTES);
    let (mut offset, mut end) = (place.offset, Walk::Before);
    while offset < reader.size() {
        let Ok((header, block)) = reader.block_at(offset, log_id)? else { break };
        if header.first_lsn > lsn {
            break;
        }
        if header.last_lsn() >= lsn {
            return Ok(Walk::Found(hash_block(&header, block)));
        }
        end = Walk::After;
        offset += header.block_len() as u64;
    }
    Ok(end)
}
