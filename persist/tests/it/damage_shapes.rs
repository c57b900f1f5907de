//! Groups of blocks of any size, as journals before November 2026 wrote them: each subset of the
//! sectors of a torn one boots, and damage in one that was durable is refused.
//!
//! The present journal ends a group at its first block that is not full, so these groups are built
//! here, block by block, behind a log that the journal has begun. See [`super::damage_torn`] for
//! the groups that it writes now.

use std::sync::Arc;

use stampede_core::types::Lsn;
use stampede_persist::log::block::{BlockHeader, ChainHash, check_block, hash_block};
use stampede_persist::log::dir::LogOptions;
use stampede_persist::log::journal::Step;

use super::damage_log::{Image, SECTOR, UNIT, disk_with, image_of, segment};
use super::forge::{encoded, seal_block, write_block};
use super::log_sale::{append_next, new_log, recover_on, small, step_on, with_fact};

fn options() -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, ..small() }
}

/// A block of a group: where it stands in the segment, its length, its last LSN.
#[derive(Clone, Copy, Debug)]
struct Placed {
    offset: usize,
    len: usize,
    last: u64,
}

/// A log of one segment that goes on behind what the journal wrote.
struct Log {
    image: Image,
    /// What the next block says.
    header: BlockHeader,
    offset: usize,
    chain: ChainHash,
}

impl Log {
    /// One fact, written by the journal; the control file knows of none.
    fn begin() -> Self {
        let disk = disk_with(&Image::new());
        let (_, mut log) = step_on(&disk, &options()).unwrap();
        append_next(&log.queue, &mut 1);
        assert_eq!(log.journal.step(), Step::Wrote { facts: 1 });
        let image = image_of(&disk);
        let bytes = image[&segment(1)].to_vec();
        let header = check_block(&bytes, new_log().log_id, 1).unwrap();
        Self { image, header, offset: header.block_len(), chain: hash_block(&header, &bytes) }
    }

    /// Adds a group of blocks with so many facts each, in one write.
    fn add_group(&mut self, facts: &[u64]) -> Vec<Placed> {
        let durable_lsn = self.header.last_lsn();
        let mut bytes = self.image[&segment(1)].to_vec();
        let placed = facts.iter().map(|facts| self.add_block(&mut bytes, durable_lsn, *facts)).collect();
        self.image.insert(segment(1), Arc::new(bytes));
        placed
    }

    fn add_block(&mut self, bytes: &mut [u8], durable_lsn: Lsn, facts: u64) -> Placed {
        let (offset, first_lsn) = (self.offset, self.header.last_lsn().next());
        let header = BlockHeader { first_lsn, durable_lsn, prev_hash: self.chain, ..self.header };
        let facts = (first_lsn.0..).take(facts as usize).map(|lsn| with_fact(lsn, encoded));
        (self.header, self.chain) = write_block(&mut bytes[offset..], header, facts);
        let len = self.header.block_len();
        self.offset = offset + len;
        Placed { offset, len, last: self.header.last_lsn().0 }
    }
}

/// Groups that a journal may have written that went on after a block that was not full.
const SHAPES: [&[u64]; 7] =
    [&[1, 1], &[1, 1, 1], &[60, 1, 1, 60], &[1, 100, 1], &[100, 60], &[1, 2, 3, 4, 5, 6], &[1, 200, 1]];

/// The image in which only those pieces of the group landed that `landed` names.
fn torn(image: &Image, group: &[Placed], piece: usize, landed: impl Fn(usize) -> bool) -> Image {
    let mut bytes = image[&segment(1)].to_vec();
    let (from, to) = (group[0].offset, group[group.len() - 1].offset + group[group.len() - 1].len);
    for (number, at) in (from..to).step_by(piece).enumerate() {
        if !landed(number) {
            bytes[at..at + piece].fill(0);
        }
    }
    let mut image = image.clone();
    image.insert(segment(1), Arc::new(bytes));
    image
}

/// Opens an image whose last group is torn: the blocks up to the first that is not whole are there,
/// what stood behind them was kept, and the second opening finds nothing to do.
fn boots(image: &Image, whole: &Image, group: &[Placed], what: &str) {
    let (was, is) = (&whole[&segment(1)], &image[&segment(1)]);
    let is_whole = |block: &&Placed| {
        let range = block.offset..block.offset + block.len;
        was[range.clone()] == is[range]
    };
    let landed: Vec<_> = group.iter().take_while(is_whole).collect();
    let (end, last) =
        landed.last().map_or((group[0].offset, 1), |block| (block.offset + block.len, block.last));
    let traces = is[end..].iter().any(|byte| *byte != 0);
    let disk = disk_with(image);
    let (sale, opened) = recover_on(&disk, &options()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(sale.lsn(), Lsn(last), "{what}");
    let now = image_of(&disk);
    let copies: Vec<_> = now.iter().filter(|(path, _)| path.starts_with("/data/torn")).collect();
    assert_eq!((copies.len(), opened.warnings().len()), (usize::from(traces), usize::from(traces)), "{what}");
    for (_, copy) in copies {
        assert!(is[end..].starts_with(copy), "{what}: a copy of what was cut");
        assert!(is[end + copy.len()..].iter().all(|byte| *byte == 0), "{what}: nothing was left out");
    }
    drop(opened);
    let (again, opened) = recover_on(&disk, &options()).unwrap();
    assert_eq!((again.lsn(), opened.warnings().len()), (Lsn(last), 0), "{what}: cut once");
}

#[test]
fn sealing_a_block_restores_every_checksum() {
    for shape in SHAPES {
        let mut log = Log::begin();
        for Placed { offset, len, .. } in log.add_group(shape) {
            let whole = &log.image[&segment(1)][offset..offset + len];
            let records_end = check_block(whole, new_log().log_id, 1).unwrap().records_end();
            let mut block = whole.to_vec();
            // The first record's checksum, those of the header, and all that follows the records.
            for checksums in [132..136, 104..112, 124..128, records_end..len] {
                block[checksums].fill(0xA5);
            }
            seal_block(&mut block);
            assert!(block == whole, "{shape:?}: the block at {offset}");
        }
    }
}

#[test]
fn every_subset_of_sectors_of_a_torn_group_boots() {
    for shape in SHAPES {
        let mut log = Log::begin();
        let group = log.add_group(shape);
        let sectors: usize = group.iter().map(|block| block.len / SECTOR).sum();
        assert!((2..=10).contains(&sectors), "{shape:?}: {sectors} sectors");
        for subset in 0..1_u32 << sectors {
            let image = torn(&log.image, &group, SECTOR, |sector| subset >> sector & 1 == 1);
            boots(&image, &log.image, &group, &format!("{shape:?}, sectors {subset:#b}"));
        }
    }
}

#[test]
fn every_subset_of_units_of_torn_small_blocks_boots() {
    let mut log = Log::begin();
    let group = log.add_group(&[25, 14]);
    let (from, bytes) = (group[0].offset, &log.image[&segment(1)]);
    assert!(group.iter().all(|block| block.len == SECTOR));
    let holds_something = |unit: &usize| bytes[from + unit * UNIT..][..UNIT].iter().any(|byte| *byte != 0);
    let used: Vec<_> = (0..2 * SECTOR / UNIT).filter(holds_something).collect();
    assert!((6..=12).contains(&used.len()), "{used:?}");
    for subset in 0..1_u32 << used.len() {
        let lost =
            |unit: usize| used.iter().position(|one| *one == unit).is_some_and(|n| subset >> n & 1 == 0);
        let image = torn(&log.image, &group, UNIT, |unit| !lost(unit));
        boots(&image, &log.image, &group, &format!("units {subset:#b}"));
    }
}

/// Opens a damaged image of which everything was durable: it is refused, or all is there.
fn is_not_cut(image: &Image, last: u64, what: &str) -> bool {
    let disk = disk_with(image);
    match recover_on(&disk, &options()) {
        Ok((sale, _)) => {
            assert_eq!(sale.lsn(), Lsn(last), "{what}: durable facts were cut");
            false
        }
        Err(error) => {
            assert!(disk.take_changes() == 0, "{what}: the refusal changed something");
            assert!(error.to_string().contains(" byte "), "{what}: names no place: {error}");
            true
        }
    }
}

fn edited(image: &Image, edit: impl FnOnce(&mut Vec<u8>)) -> Image {
    let mut bytes = image[&segment(1)].to_vec();
    edit(&mut bytes);
    let mut image = image.clone();
    image.insert(segment(1), Arc::new(bytes));
    image
}

#[test]
fn a_lost_sector_of_a_durable_group_of_any_shape_is_refused() {
    for shape in SHAPES {
        let mut log = Log::begin();
        let group = log.add_group(shape);
        let end = log.offset;
        // The group behind it knows it to be durable.
        let last = log.add_group(&[1, 1])[1].last;
        for at in (group[0].offset..end).step_by(SECTOR) {
            let image = edited(&log.image, |bytes| bytes[at..at + SECTOR].fill(0));
            assert!(is_not_cut(&image, last, &format!("{shape:?}: lost at {at}")), "{shape:?}: {at}");
        }
    }
}

#[test]
fn a_changed_byte_in_the_last_group_is_no_torn_write() {
    for shape in SHAPES {
        let mut log = Log::begin();
        let group = log.add_group(shape);
        let last = group[group.len() - 1].last;
        for at in (group[0].offset..log.offset).step_by(13) {
            let image = edited(&log.image, |bytes| bytes[at] ^= 1 << (at % 8));
            assert!(is_not_cut(&image, last, &format!("{shape:?}: byte {at}")), "{shape:?}: {at}");
        }
    }
}

#[test]
fn swapped_sectors_of_the_last_group_are_refused() {
    for shape in SHAPES {
        let mut log = Log::begin();
        let group = log.add_group(shape);
        let last = group[group.len() - 1].last;
        let places: Vec<_> = (group[0].offset..log.offset + 2 * SECTOR).step_by(SECTOR).collect();
        for (number, one) in places.iter().enumerate() {
            for other in places[number + 1..].iter().take_while(|_| *one < log.offset) {
                let image = edited(&log.image, |bytes| {
                    let (left, right) = bytes.split_at_mut(*other);
                    left[*one..*one + SECTOR].swap_with_slice(&mut right[..SECTOR]);
                });
                let what = format!("{shape:?}: {one} and {other} changed places");
                let differ = image[&segment(1)] != log.image[&segment(1)];
                assert_eq!(is_not_cut(&image, last, &what), differ, "{what}");
            }
        }
    }
}

#[test]
fn a_block_of_another_history_behind_a_torn_one_is_refused() {
    // The same facts, but another hash before them: they were written behind another block.
    let mut log = Log::begin();
    let group = log.add_group(&[1, 1, 1]);
    let mut other = Log::begin();
    other.chain = [7; 32];
    other.add_group(&[1, 1, 1]);
    let foreign = other.image[&segment(1)].clone();
    let replaced = |bytes: &mut Vec<u8>, block: usize| {
        let range = group[block].offset..group[block].offset + group[block].len;
        bytes[range.clone()].copy_from_slice(&foreign[range]);
    };
    let image = edited(&log.image, |bytes| replaced(bytes, 0));
    assert!(is_not_cut(&image, group[2].last, "at the end of the chain"));
    let image = edited(&log.image, |bytes| {
        bytes[group[0].offset..group[0].offset + SECTOR].fill(0);
        replaced(bytes, 2);
    });
    assert!(is_not_cut(&image, group[2].last, "behind a whole block"));
}
