//! Tells a write that landed in part from one that was damaged later, sector by sector.
//!
//! A sector of a segment holds zeros until it is written, once. So a group whose sync
//! never returned has left each of its sectors either as zeros or as written; on a
//! disk that writes in smaller units, each unit of 512 bytes. A sector that is
//! neither was whole once, and was changed: it may have been durable, and is never
//! cut. What cannot be seen is a sector lost as a whole. Reads only.
//!
//! A group is one write of blocks in a chain. The present journal goes on to a further
//! block only when the one before is as large as can be; older ones also went on after
//! a smaller block, so blocks of any size are taken here:
//!
//! ```text
//!  end of the chain
//!  | block         | a block without its first sector | block  |  zeros to the end of the segment
//!     its header      its length is unknown; its other    must follow the one before it:
//!     tells all of    sectors hold records whose LSNs     position, LSN, hash, group
//!     its sectors     must belong here
//! ```
//!
//! Next: [`super::recovery`], which asks.

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
/// More records than a sector can hold the beginnings of.
const SECTOR_RECORDS_MAX: u64 = (SECTOR_BYTES / RECORD_HEADER_BYTES) as u64;

/// What stands in a segment behind the end of the chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// Zeros, or what a write that never finished can have left, up to this offset.
    Unfinished(u64),
    /// Something that no unfinished write leaves.
    Damaged(Damage),
}

/// A sector that no unfinished write leaves.
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

/// Looks at everything in the segment behind the end of the chain. `known` is the highest LSN that
/// the control file or a snapshot knows to be durable.
///
/// # Errors
/// What the file system answers.
pub(super) fn look_behind(
    reader: &mut SegmentReader,
    log_id: LogId,
    end: &ChainEnd,
    known: Lsn,
) -> io::Result<Rest> {
    let mut scan = Scan::new(log_id, end, known);
    let group_end = reader.size().min(end.offset + GROUP_BYTES_MAX as u64);
    while scan.at < group_end {
        if let Err(damage) = scan.step(reader)? {
            return Ok(Rest::Damaged(damage));
        }
    }
    Ok(match reader.first_not_empty(scan.at)? {
        None => Rest::Unfinished(scan.unfinished),
        Some(offset) => {
            let reason = format!("the sector at byte {offset} is not empty, and no group reaches so far");
            Rest::Damaged(Damage::at(offset, reason))
        }
    })
}

/// A walk over the place of the group that did not finish.
struct Scan<'a> {
    log_id: LogId,
    end: &'a ChainEnd,
    /// The highest LSN that is known to be durable from elsewhere.
    known: Lsn,
    /// The sector that comes next.
    at: u64,
    /// Whether a block begins there, if anything stands there at all.
    at_block: bool,
    /// The last place where a block was known to begin.
    anchor: Anchor,
    /// No record from here on has a lower LSN.
    lowest: Lsn,
    /// What all blocks of the group say alike: durable LSN and epoch.
    group: Option<(Lsn, u64)>,
    /// Blocks without their last sector, to know that one if it stands elsewhere.
    without_end: Vec<(BlockHeader, Vec<u8>)>,
    /// Where the last sector ends that is not empty.
    unfinished: u64,
}

/// A place where a block begins, and what it must say.
struct Anchor {
    at: u64,
    next_lsn: Lsn,
    /// The hash of the block before it, if that one is whole.
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

    /// Goes over one sector, or over a block whose header is whole.
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

    /// A block of which the first sector landed, at least the part with its header.
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

    /// A sector of a block whose first sector is lost, or the place where the first one was.
    fn lone_sector(&mut self, sector: &[u8]) -> Result<(), Damage> {
        let at = self.at;
        if is_zero(sector) {
            // Nothing landed here. Most sectors behind an end are so, and looking for records is dear.
            self.at += SECTOR_BYTES as u64;
            self.at_block = false;
            return Ok(());
        }
        // What stands here can be no further than so many records.
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
        // Without a lost unit only the last sector of a block holds no whole record.
        let ends_block = sector.iter().rfind(|byte| **byte != 0) == Some(&END_MARK);
        if records == 0 && !in_part && !ends_block {
            let reason = format!("the sector at byte {at} holds neither records nor the end of a block");
            return Err(Damage::at(at, reason));
        }
        let missed_by = if records == 0 && ends_block { self.missed_by(sector) } else { None };
        if let Some(first) = missed_by {
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

    /// The first LSN of a block that lacks its last sector, which this is.
    fn missed_by(&mut self, sector: &[u8]) -> Option<Lsn> {
        self.without_end.iter_mut().find_map(|(header, block)| {
            let last = block.len() / SECTOR_BYTES - 1;
            block[last * SECTOR_BYTES..].copy_from_slice(sector);
            let fits = sector_checks_are_whole(header, block) && sector_is_whole(header, block, last);
            fits.then_some(header.first_lsn)
        })
    }

    /// Why a block with this header was not written here by the group that did not finish.
    fn misplaced(&self, header: &BlockHeader) -> Option<String> {
        let (at, first, end) = (self.at, header.first_lsn, self.end);
        if header.log_id != self.log_id {
            Some(format!("a block of another log, {}, stands at byte {at}", header.log_id))
        } else if header.segment != end.segment {
            Some(format!("a block that was written for segment {} stands at byte {at}", header.segment))
        } else if header.durable_lsn >= end.next_lsn {
            Some(format!("the block at byte {at} knows LSN {} to be durable", header.durable_lsn))
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

    /// Whether a block that begins with this LSN may stand here: every sector since the last place
    /// that is known holds the beginning of one record at least, by the average over a block.
    fn follows(&self, first: Lsn) -> bool {
        let sectors = (self.at - self.anchor.at) / SECTOR_BYTES as u64;
        let records = first.0.checked_sub(self.anchor.next_lsn.0);
        first >= self.lowest
            && records.is_some_and(|records| (sectors..=sectors * SECTOR_RECORDS_MAX).contains(&records))
    }

    /// Whether the block is of the group that begins at the end of the chain, or of the last one in
    /// the chain. That one is not unfinished if any LSN of it is known to be durable.
    fn is_of_the_group(&self, header: &BlockHeader) -> bool {
        let (says, end) = ((header.durable_lsn, header.epoch), self.end);
        let begins_here = says.0.next() == end.next_lsn;
        let goes_on = says == (end.durable_lsn, end.epoch) && end.offset > 0 && self.known <= end.durable_lsn;
        (begins_here || goes_on) && self.group.is_none_or(|group| group == says)
    }
}

/// The LSNs of the records that stand whole in this sector, wherever they begin.
fn whole_records(sector: &[u8]) -> impl Iterator<Item = Lsn> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at + RECORD_HEADER_BYTES <= sector.len() {
            match read_record(&sector[at..]) {
                // The sector may begin inside a payload. What comes over HTTP into one has no control characters, and
                // so not these two zeros: no buyer can write what passes for a record. A subject, key or
                // reference that was taken over from the database may; whoever writes there is the shop.
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
