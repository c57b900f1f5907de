//! Distinguishes a torn write from later damage, sector by sector.
//!
//! A sector of a segment holds zeros until it is written, once. So a group whose sync
//! never returned has left each of its sectors either as zeros or as written; on a
//! disk that writes in smaller units, the same holds for each unit of 512 bytes. A
//! sector that is neither was complete once and was changed later: it may have been
//! durable, and is never cut. A sector that was lost as a whole cannot be detected.
//! Reads only.
//!
//! A group is one write of blocks in a chain. The present journal adds another block only
//! after one that is as large as possible; older versions also did after a smaller one,
//! so blocks of any size are accepted here:
//!
//! ```text
//!  end of the chain
//!  | block         | a block without its first sector | block  |  zeros to the end of the segment
//!     its header      its length is unknown; its other    must follow the one before it:
//!     describes all   sectors hold records whose LSNs     position, LSN, hash, group
//!     its sectors     must belong here
//! ```
//!
//! Next: [`super::recovery`], which uses it.

use std::io;

use stampede_core::types::Lsn;

use super::block::{
    BlockHeader, ChainHash, END_MARK, hash_block, header_is_whole, is_zero, peek_header,
    sector_checks_are_whole, sector_is_whole,
};
use super::chain::ChainEnd;
use super::identity::LogId;
use super::limits::GROUP_BYTES_MAX;
use super::record::{RECORD_HEADER_BYTES, read_record};
use super::segment::SegmentReader;
use crate::disk::SECTOR_BYTES;

/// The smallest unit that any disk writes whole, in bytes.
const UNIT_BYTES: usize = 512;
/// An upper bound for the records that begin in a sector.
const SECTOR_RECORDS_MAX: u64 = (SECTOR_BYTES / RECORD_HEADER_BYTES) as u64;

/// What a segment holds after the end of the chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Tail {
    /// Zeros, or up to this offset what an unfinished write can leave.
    Unfinished(u64),
    /// Something that no unfinished write can leave.
    Damaged(Damage),
}

/// A sector that no unfinished write can leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Damage {
    /// Where in the segment the sector begins.
    pub(super) offset: u64,
    /// What is wrong with it.
    pub(super) reason: String,
}

impl Damage {
    fn at(offset: u64, reason: impl Into<String>) -> Self {
        Self { offset, reason: reason.into() }
    }
}

/// Examines everything in the segment after the end of the chain. `known` is the highest LSN that is
/// durable by the control file or a snapshot.
///
/// # Errors
/// What the file system answers.
pub(super) fn scan_tail(
    reader: &mut SegmentReader,
    log_id: LogId,
    end: &ChainEnd,
    known: Lsn,
) -> io::Result<Tail> {
    let mut scan = Scan::new(log_id, end, known);
    let group_end = reader.size().min(end.offset + GROUP_BYTES_MAX as u64);
    while scan.at < group_end {
        if let Err(damage) = scan.step(reader)? {
            return Ok(Tail::Damaged(damage));
        }
    }
    Ok(match reader.first_not_empty(scan.at)? {
        None => Tail::Unfinished(scan.unfinished),
        Some(offset) => {
            let reason =
                format!("the sector at byte {offset} is not empty, although no group reaches that far");
            Tail::Damaged(Damage::at(offset, reason))
        }
    })
}

/// A walk over the place of the unfinished group.
struct Scan<'a> {
    log_id: LogId,
    end: &'a ChainEnd,
    /// The highest LSN that is durable by the control file or a snapshot.
    known: Lsn,
    /// The next sector.
    at: u64,
    /// Whether a block must begin there, if the sector is not empty.
    at_block: bool,
    /// The last place where a block is known to begin.
    anchor: Anchor,
    /// No record from here on has a lower LSN.
    lowest: Lsn,
    /// The durable LSN and the epoch, which are the same in all blocks of the group.
    group: Option<(Lsn, u64)>,
    /// Blocks that lack their last sector, to recognise it in a wrong place.
    without_end: Vec<(BlockHeader, Vec<u8>)>,
    /// Where the last non-empty sector ends.
    unfinished: u64,
}

/// A place where a block begins, and what must be in it.
struct Anchor {
    at: u64,
    next_lsn: Lsn,
    /// The hash of the block before it, if that one is complete.
    chain: Option<ChainHash>,
}

impl<'a> Scan<'a> {
    fn new(log_id: LogId, end: &'a ChainEnd, known: Lsn) -> Self {
        Self {
            log_id,
            end,
            known,
            at: end.offset,
            at_block: true,
            anchor: Anchor { at: end.offset, next_lsn: end.next_lsn, chain: Some(end.chain) },
            lowest: end.next_lsn,
            group: None,
            without_end: Vec::new(),
            unfinished: end.offset,
        }
    }

    /// Examines one sector, or a block whose header is intact.
    fn step(&mut self, reader: &mut SegmentReader) -> io::Result<Result<(), Damage>> {
        let (at, size) = (self.at, reader.size());
        let sector = &reader.bytes_at(at, SECTOR_BYTES)?[..SECTOR_BYTES];
        let first_unit_lost = is_zero(&sector[..UNIT_BYTES]);
        let header = peek_header(sector).ok().filter(|_| !first_unit_lost);
        let Some(header) = header.filter(|_| header_is_whole(sector)) else {
            if self.at_block && !first_unit_lost {
                let reason = format!("the sector at byte {at} is neither empty nor the beginning of a block");
                return Ok(Err(Damage::at(at, reason)));
            }
            if header.is_some_and(|header| header.log_id == self.log_id) {
                return Ok(Err(Damage::at(at, format!("the header of the block at byte {at} is damaged"))));
            }
            return Ok(self.lone_sector(sector));
        };
        if let Some(reason) = self.misplaced(&header) {
            return Ok(Err(Damage::at(at, reason)));
        }
        if at + header.block_len() as u64 > size {
            return Ok(Err(Damage::at(at, "the block would end beyond its segment")));
        }
        let len = header.block_len();
        Ok(self.block(&header, &reader.bytes_at(at, len)?[..len]))
    }

    /// Examines a block whose header was written.
    fn block(&mut self, header: &BlockHeader, block: &[u8]) -> Result<(), Damage> {
        if let Some(sector) = damaged_sector(header, block) {
            let offset = self.at + (sector * SECTOR_BYTES) as u64;
            let reason = format!(
                "the sector at byte {offset}, of the block of LSN {}, is neither empty nor what was written",
                header.first_lsn
            );
            return Err(Damage::at(offset, reason));
        }
        let sectors = block.len() / SECTOR_BYTES;
        let whole = (0..sectors).all(|sector| sector_is_whole(header, block, sector))
            && sector_checks_are_whole(header, block);
        if !whole && block[block.len() - SECTOR_BYTES..].chunks(UNIT_BYTES).any(is_zero) {
            self.without_end.push((*header, block.to_vec()));
        }
        let landed =
            block.chunks(SECTOR_BYTES).rposition(|sector| !is_zero(sector)).map_or(0, |last| last + 1);
        self.unfinished = self.at + (landed * SECTOR_BYTES) as u64;
        self.at += block.len() as u64;
        self.at_block = true;
        self.group = Some((header.durable_lsn, header.epoch));
        self.lowest = header.last_lsn().next();
        let chain = whole.then(|| hash_block(header, block));
        self.anchor = Anchor { at: self.at, next_lsn: self.lowest, chain };
        Ok(())
    }

    /// Examines a sector of a block whose first sector is lost, or the place of the first one.
    fn lone_sector(&mut self, sector: &[u8]) -> Result<(), Damage> {
        let at = self.at;
        if is_zero(sector) {
            // Nothing was written here. That is so for most sectors, and a search for records is slow.
            self.at += SECTOR_BYTES as u64;
            self.at_block = false;
            return Ok(());
        }
        // The highest LSN that can be here, with the most records in every sector so far.
        let sectors = (at - self.end.offset) / SECTOR_BYTES as u64 + 1;
        let highest = Lsn(self.end.next_lsn.0 + sectors * SECTOR_RECORDS_MAX);
        let mut records = 0;
        for lsn in whole_records(sector) {
            if lsn < self.lowest || lsn > highest {
                let reason =
                    format!("the record of LSN {lsn} stands at byte {at}, where it was never written");
                return Err(Damage::at(at, reason));
            }
            self.lowest = lsn.next();
            records += 1;
        }
        let in_part = sector.chunks(UNIT_BYTES).any(is_zero);
        // If no unit is lost, only the last sector of a block holds no complete record.
        let ends_block = sector.iter().rfind(|byte| **byte != 0) == Some(&END_MARK);
        if records == 0 && !in_part && !ends_block {
            let reason = format!("the sector at byte {at} holds neither records nor the end of a block");
            return Err(Damage::at(at, reason));
        }
        let owner = if records == 0 && ends_block { self.block_without_this_end(sector) } else { None };
        if let Some(first) = owner {
            let reason = format!(
                "the end of the block of LSN {first} stands at byte {at}, where it was never written"
            );
            return Err(Damage::at(at, reason));
        }
        self.at += SECTOR_BYTES as u64;
        self.at_block = false;
        self.unfinished = self.at;
        Ok(())
    }

    /// The first LSN of the block that lacks its last sector, if this sector is the one.
    fn block_without_this_end(&mut self, sector: &[u8]) -> Option<Lsn> {
        self.without_end.iter_mut().find_map(|(header, block)| {
            let last = block.len() / SECTOR_BYTES - 1;
            block[last * SECTOR_BYTES..].copy_from_slice(sector);
            let fits = sector_checks_are_whole(header, block) && sector_is_whole(header, block, last);
            fits.then_some(header.first_lsn)
        })
    }

    /// Why a block with this header cannot be of the unfinished group at this place.
    fn misplaced(&self, header: &BlockHeader) -> Option<String> {
        let (at, first, end) = (self.at, header.first_lsn, self.end);
        if header.log_id != self.log_id {
            Some(format!("a block of another log, {}, stands at byte {at}", header.log_id))
        } else if header.segment != end.segment {
            Some(format!("a block that was written for segment {} stands at byte {at}", header.segment))
        } else if header.durable_lsn >= end.next_lsn {
            Some(format!("in the block at byte {at}, LSN {} is durable already", header.durable_lsn))
        } else if !self.follows(first) {
            Some(format!("the block of LSN {first} stands at byte {at}, where it was never written"))
        } else if self.anchor.at == at && self.anchor.chain.is_some_and(|chain| chain != header.prev_hash) {
            Some(format!("the block at byte {at} does not follow the one before it"))
        } else if header.epoch < end.epoch {
            Some(format!("the block at byte {at} is of an older epoch"))
        } else if !self.is_of_the_group(header) {
            Some(format!("the block at byte {at} belongs to no group that may have been unfinished"))
        } else {
            None
        }
    }

    /// Whether a block that begins with this LSN may be here: since the last known place, each
    /// sector holds the beginning of at least one record, on average over a block.
    fn follows(&self, first: Lsn) -> bool {
        let sectors = (self.at - self.anchor.at) / SECTOR_BYTES as u64;
        let records = first.0.checked_sub(self.anchor.next_lsn.0);
        first >= self.lowest
            && records.is_some_and(|records| (sectors..=sectors * SECTOR_RECORDS_MAX).contains(&records))
    }

    /// Whether the block is of the group that begins at the end of the chain, or continues the last
    /// group in the chain. The latter is finished if any of its LSNs is known to be durable.
    fn is_of_the_group(&self, header: &BlockHeader) -> bool {
        let (says, end) = ((header.durable_lsn, header.epoch), self.end);
        let begins_here = says.0.next() == end.next_lsn;
        let goes_on = says == (end.durable_lsn, end.epoch) && end.offset > 0 && self.known <= end.durable_lsn;
        (begins_here || goes_on) && self.group.is_none_or(|group| group == says)
    }
}

/// The LSNs of the complete records in this sector, wherever they begin.
fn whole_records(sector: &[u8]) -> impl Iterator<Item = Lsn> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at + RECORD_HEADER_BYTES <= sector.len() {
            match read_record(&sector[at..]) {
                // The sector may begin inside a payload. Text from HTTP has no control characters, so it cannot
                // contain these two zeros: no buyer can forge a record. A subject, key or reference imported
                // from the database can; but there the shop itself writes.
                Ok((record, len)) if sector[at + 18..at + RECORD_HEADER_BYTES] == [0, 0] => {
                    at += len;
                    return Some(record.lsn);
                }
                _ => at += 1,
            }
        }
        None
    })
}

/// The first sector of a block that is not as written although none of its units is empty.
fn damaged_sector(header: &BlockHeader, block: &[u8]) -> Option<usize> {
    let content = |sector: usize| {
        let end = header.content_end();
        &block[(sector * SECTOR_BYTES).min(end)..((sector + 1) * SECTOR_BYTES).min(end)]
    };
    // No unit of a written block is all zeros, so an empty unit was not written.
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
