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
    let walk = match place {
        Some(place) => walk_from(disk, dir, begin.log_id, place, lsn)?,
        None => Walk::Before,
    };
    let found = match (walk, place) {
        (Walk::Found(hash), _) => Some(hash),
        // What lies up to the end of that segment is known not to hold it.
        (Walk::Behind, Some(place)) => search(disk, dir, begin.log_id, lsn, place.segment)?,
        (Walk::Before | Walk::Behind, _) => search(disk, dir, begin.log_id, lsn, 0)?,
    };
    if found.is_some() {
        return Ok(found);
    }
    // Trimmed while it was looked for.
    let now = control.current();
    Ok((lsn.next() == now.first_lsn).then_some(now.first_chain))
}

/// What a walk along the blocks of a segment came to.
enum Walk {
    /// The hash of the block that holds the LSN.
    Found(ChainHash),
    /// The LSN lies before the place, or nothing does.
    Before,
    /// The LSN lies behind the last block of the segment.
    Behind,
}

/// Looks for the block in the last segment that begins at or before the LSN, among those after `above`.
/// That one alone is walked: of later ones the first block is read, and earlier ones end before it.
fn search(disk: &dyn Disk, dir: &Path, log_id: LogId, lsn: Lsn, above: u64) -> io::Result<Option<ChainHash>> {
    let segments = list_segments(disk, dir)?;
    for segment in segments.into_iter().rev().take_while(|segment| *segment > above) {
        match walk_from(disk, dir, log_id, BlockPlace { segment, offset: 0 }, lsn)? {
            Walk::Found(hash) => return Ok(Some(hash)),
            Walk::Before => {}
            Walk::Behind => return Ok(None),
        }
    }
    Ok(None)
}

/// Walks the blocks from a place on to the one that holds the LSN.
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
        end = Walk::Behind;
        offset += header.block_len() as u64;
    }
    Ok(end)
}
