//! Every torn tail that was never durable boots, with every acked order, and a copy of
//! what was cut: each subset of the sectors of an unacked group, each subset of the units
//! of 512 bytes of a small one, each prefix. See [`super::damage_log`] for the log.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use stampede_persist::log::dir::{DataDir, LogOptions};
use stampede_persist::log::journal::Step;

use super::damage_disk::{Image, PlateDisk};
use super::damage_log::{Plan, RECORDS, SECTOR, UNIT, groups, open, segment, write};
use super::log_sale::{DIR, Sale, append_next, new_log, small};

/// The image in which, of the places from `offset` on, only those landed that `landed` names.
fn landed(image: &Image, offset: usize, places: usize, unit: usize, landed: impl Fn(usize) -> bool) -> Image {
    let mut bytes = image[&segment(2)].to_vec();
    for place in (0..places).filter(|place| !landed(*place)) {
        bytes[offset + place * unit..][..unit].fill(0);
    }
    let mut image = image.clone();
    image.insert(segment(2), Arc::new(bytes));
    image
}

/// Opens a log whose last group, from LSN 20 on, was never acked.
fn boots(image: Image, whole: &Image, what: &str) -> u64 {
    let is_whole = image[&segment(2)] == whole[&segment(2)];
    let traces = image[&segment(2)][SECTOR..].iter().any(|byte| *byte != 0);
    let cut = image[&segment(2)][SECTOR..].to_vec();
    let disk = PlateDisk::new(image);
    let (seen, opened) = open(&disk).unwrap_or_else(|text| panic!("{what}: {text}"));
    assert_eq!(seen.lsn, if is_whole { RECORDS } else { 19 }, "{what}");
    let copies: Vec<_> =
        disk.image().into_iter().filter(|(path, _)| path.starts_with("/data/torn")).collect();
    assert_eq!(copies.len(), usize::from(traces && !is_whole), "{what}: a copy of what was cut");
    assert_eq!(copies.len(), opened.warnings().len(), "{what}");
    for (path, copy) in &copies {
        assert!(cut.starts_with(copy), "{what}: {} is a copy", path.display());
        assert!(cut[copy.len()..].iter().all(|byte| *byte == 0), "{what}: nothing was left out");
    }
    drop(opened);
    let (again, opened) = open(&disk).unwrap();
    assert_eq!((again.lsn, opened.warnings().len()), (seen.lsn, 0), "{what}: cut once, clean afterwards");
    seen.lsn
}

#[test]
fn every_subset_of_an_unacked_groups_units_boots() {
    let mut booted = 0;
    for (settled, snapshot) in [(false, false), (true, false), (false, true)] {
        let whole = write(&Plan { settled, snapshot, ..Plan::default() }).image().clone();
        let last = *groups(&whole).last().unwrap();
        assert_eq!((last.offset, last.len, last.first), (SECTOR, 2 * SECTOR, 20));
        // Sectors first, then units: nine of the sixteen hold something.
        for subset in 0..1_u32 << (last.len / SECTOR) {
            let image = landed(&whole, last.offset, 2, SECTOR, |sector| subset >> sector & 1 == 1);
            boots(image, &whole, &format!("sectors {subset:#b}"));
            booted += 1;
        }
        for subset in 0..1_u32 << 9 {
            let image = landed(&whole, last.offset, 16, UNIT, |unit| unit < 9 && subset >> unit & 1 == 1);
            boots(image, &whole, &format!("units {subset:#b}"));
            booted += 1;
        }
        for prefix in (0..=last.len).step_by(UNIT) {
            let image = landed(&whole, last.offset, 16, UNIT, |unit| unit * UNIT < prefix);
            boots(image, &whole, &format!("the first {prefix} bytes"));
            booted += 1;
        }
    }
    let line = format!("damage: torn tails of 11 records: {booted} booted with every acked record\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// One acked fact, then a group of many sectors; the group's bytes and where they stand.
fn large_group(options: &LogOptions, facts: u64) -> (Image, usize) {
    let disk = PlateDisk::new(Image::new());
    let opened = recover(&disk, options).1;
    let mut log = opened.start_stepped(Vec::new()).unwrap();
    let mut next = 1;
    append_next(&log.queue, &mut next);
    assert_eq!(log.journal.step(), Step::Wrote { facts: 1 });
    (0..facts).for_each(|_| append_next(&log.queue, &mut next));
    assert_eq!(log.journal.step(), Step::Wrote { facts });
    let image = disk.image();
    let len = image[&segment(1)].iter().rposition(|byte| *byte != 0).unwrap() + 1 - SECTOR;
    (image, len.div_ceil(SECTOR))
}

fn recover(disk: &PlateDisk, options: &LogOptions) -> (Sale, stampede_persist::log::dir::Opened) {
    let mut sale = Sale::default();
    let data = DataDir::open_on(Arc::new(disk.clone()), Path::new(DIR), options, &new_log()).unwrap();
    let opened = data.recover(&mut sale).unwrap();
    (sale, opened)
}

#[test]
fn every_subset_of_the_sectors_of_a_larger_group_boots() {
    let options = LogOptions { queue_slots: 512, queue_reserve: 16, ..small() };
    let facts = 300;
    let (image, sectors) = large_group(&options, facts);
    assert!((6..8).contains(&sectors), "{sectors} sectors");
    let mut all = 0;
    for subset in 0..1_u32 << sectors {
        let mut bytes = image[&segment(1)].to_vec();
        for sector in (0..sectors).filter(|sector| subset >> sector & 1 == 0) {
            bytes[SECTOR * (1 + sector)..][..SECTOR].fill(0);
        }
        let mut damaged = image.clone();
        damaged.insert(segment(1), Arc::new(bytes));
        let disk = PlateDisk::new(damaged);
        let (sale, opened) = recover(&disk, &options);
        let is_all = subset + 1 == 1 << sectors;
        assert_eq!(sale.lsn().0, if is_all { 1 + facts } else { 1 }, "{subset:#b}");
        assert_eq!(opened.warnings().len(), usize::from(!is_all && subset != 0), "{subset:#b}");
        drop(opened);
        assert_eq!(recover(&disk, &options).1.warnings().len(), 0, "{subset:#b}: cut once");
        all += 1;
    }
    let line = format!("damage: torn tails of {facts} records in {sectors} sectors: {all} booted\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
