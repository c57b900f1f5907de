//! Tells a write that landed in part from one that was damaged later, sector by sector.
//!
//! A sector of a segment holds zeros until it is written, once. So a group whose sync
//! never returned has left each of its sectors either as zeros or as written; on a
//! disk that writes in smaller units, each unit of 512 bytes. A sector that is
//! neither was whole once, and was changed: it may have been durable, and is never
//! cut. What cannot be seen is a sector lost as a whole. Reads only.
//!
//! A group is blocks of the largest size and one more, of any size:
//!
//! ```text
//!  end of the chain
//!  | 1 MiB          | 1 MiB          | the last one |  zeros to the end of the segment
//! ```
//!
//! Next: [`super::recovery`], which asks.

use std::io;

use super::block::{
    BlockHeader, header_is_whole, is_zero, peek_header, sector_checks_are_whole, sector_is_whole,
};
use super::chain::ChainEnd;
use super::identity::LogId;
use super::limits::{BLOCK_BYTES_MAX, GROUP_BYTES_MAX};
use super::segment::SegmentReader;
use crate::disk::SECTOR_BYTES;

/// The smallest unit that any disk writes whole, in bytes.
const UNIT_BYTES: usize = 512;

/// What stands in a segment behind the end of the chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// Zeros, or what a write that never finished can have left, up to this offset.
    Unfinished(u64),
    /// Something that no unfinished write leaves.
    Damaged {
        /// Where in the segment the sector begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a place behind the end looks like where a block may begin.
enum Sight {
    /// Nothing landed there: whatever became of the rest of the block.
    Lost,
    /// A block of this many bytes, each sector of it as written or empty.
    Block(usize),
    Damaged(u64, String),
}

/// Looks at everything in the segment behind the end of the chain.
///
/// # Errors
/// What the file system answers.
pub(super) fn look_behind(reader: &mut SegmentReader, log_id: LogId, end: &ChainEnd) -> io::Result<Rest> {
    let (mut at, mut unfinished) = (end.offset, end.offset);
    let group_end = reader.size().min(end.offset + GROUP_BYTES_MAX as u64);
    while at < group_end {
        let len = match sight(reader, log_id, end, at)? {
            Sight::Damaged(offset, reason) => return Ok(Rest::Damaged { offset, reason }),
            Sight::Lost => BLOCK_BYTES_MAX,
            Sight::Block(len) => len,
        };
        let (begin, block_end) = (at, reader.size().min(at + len as u64));
        while at < block_end {
            let sector = &reader.bytes_at(at, SECTOR_BYTES)?[..SECTOR_BYTES];
            if at > begin && begins_block(sector, log_id) {
                let reason = format!("a block stands at byte {at}, where none was ever written");
                return Ok(Rest::Damaged { offset: at, reason });
            }
            let empty = is_zero(sector);
            at += SECTOR_BYTES as u64;
            if !empty {
                unfinished = at;
            }
        }
        if len < BLOCK_BYTES_MAX {
            break;
        }
    }
    Ok(match reader.first_not_empty(at)? {
        None => Rest::Unfinished(unfinished),
        Some(offset) => {
            let reason =
                format!("the sector at byte {offset} is not empty, behind the last block of a group");
            Rest::Damaged { offset, reason }
        }
    })
}

fn begins_block(sector: &[u8], log_id: LogId) -> bool {
    let header = peek_header(sector).ok().filter(|_| header_is_whole(sector));
    header.is_some_and(|header| header.log_id == log_id)
}

fn sight(reader: &mut SegmentReader, log_id: LogId, end: &ChainEnd, at: u64) -> io::Result<Sight> {
    let size = reader.size();
    let sector = &reader.bytes_at(at, SECTOR_BYTES)?[..SECTOR_BYTES];
    if is_zero(&sector[..UNIT_BYTES]) {
        return Ok(Sight::Lost);
    }
    let Some(header) = peek_header(sector).ok().filter(|_| header_is_whole(sector)) else {
        let reason = format!("the sector at byte {at} is neither empty nor the beginning of a block");
        return Ok(Sight::Damaged(at, reason));
    };
    let len = header.block_len();
    if let Some(reason) = misplaced(&header, log_id, end, at) {
        return Ok(Sight::Damaged(at, reason));
    }
    if at + len as u64 > size {
        return Ok(Sight::Damaged(at, "the block would end beyond its segment".to_owned()));
    }
    let block = &reader.bytes_at(at, len)?[..len];
    Ok(match damaged_sector(&header, block) {
        None => Sight::Block(len),
        Some(sector) => {
            let offset = at + (sector * SECTOR_BYTES) as u64;
            let reason = format!(
                "the sector at byte {offset}, of the block of LSN {}, is neither empty nor what was written",
                header.first_lsn
            );
            Sight::Damaged(offset, reason)
        }
    })
}

/// Why a block with this header was not written here by the group that did not finish.
fn misplaced(header: &BlockHeader, log_id: LogId, end: &ChainEnd, at: u64) -> Option<String> {
    let first = header.first_lsn;
    if header.log_id != log_id {
        Some(format!("a block of another log, {}, stands at byte {at}", header.log_id))
    } else if header.segment != end.segment {
        Some(format!("a block that was written for segment {} stands at byte {at}", header.segment))
    } else if header.durable_lsn >= end.next_lsn {
        Some(format!("the block at byte {at} knows LSN {} to be durable", header.durable_lsn))
    } else if first < end.next_lsn || (first == end.next_lsn) != (at == end.offset) {
        Some(format!("the block of LSN {first} stands at byte {at}, where it was never written"))
    } else if header.epoch < end.epoch {
        Some(format!("the block at byte {at} is of an older epoch"))
    } else {
        None
    }
}

/// The first sector of a block that is neither as written nor, wholly or in some unit, empty.
fn damaged_sector(header: &BlockHeader, block: &[u8]) -> Option<usize> {
    let content = |sector: usize| {
        let end = header.content_end();
        &block[(sector * SECTOR_BYTES).min(end)..((sector + 1) * SECTOR_BYTES).min(end)]
    };
    // Everything written is not zero in each of its units, so an empty one did not land.
    let in_part = |sector: usize| content(sector).chunks(UNIT_BYTES).any(is_zero);
    let padding = header.content_end();
    if !is_zero(&block[padding..]) {
        return Some(padding / SECTOR_BYTES);
    }
    let checks_are_whole = sector_checks_are_whole(header, block);
    let mut check_sectors = header.records_end() / SECTOR_BYTES..=(header.content_end() - 1) / SECTOR_BYTES;
    let first = *check_sectors.start();
    if !checks_are_whole && !check_sectors.any(in_part) {
        return Some(first);
    }
    (0..block.len() / SECTOR_BYTES).find(|sector| {
        let unknown = *sector > 0 && !checks_are_whole;
        !unknown && !sector_is_whole(header, block, *sector) && !in_part(*sector)
    })
}
