//! The tail follows the journal through the files, and never ahead of it.

use stampede_core::types::Lsn;
use stampede_persist::feed::{FactFeed as _, FeedError};
use stampede_persist::log::journal::Step;
use stampede_persist::log::rebuild::Rebuild as _;

use super::log_sale::{Sale, append_next, small, step_on};
use super::sim_disk::{Rng, SimDisk};

#[test]
fn it_follows_across_segments_while_the_journal_writes() {
    let mut rng = Rng(21);
    let disk = SimDisk::new(21);
    let (_, mut log) = step_on(&disk, &small()).unwrap();
    let mut tail = log.maintenance.tail(Lsn::ZERO);
    let (mut sale, mut next) = (Sale::default(), 1);
    for round in 0..200 {
        (0..rng.below(30)).filter(|_| log.queue.has_room()).for_each(|_| append_next(&log.queue, &mut next));
        if rng.coin() {
            while log.journal.step() == Step::NeedsSegment {
                log.maintenance.prepare_spare().unwrap();
            }
            log.maintenance.prepare_spare().unwrap();
        }
        let durable = log.status.durable_lsn();
        let max = 1 + rng.below(60) as usize;
        let read = tail.read(Lsn(u64::MAX), max, &mut |lsn, fact| {
            assert!(lsn <= durable, "round {round}: LSN {lsn} is not durable");
            sale.fact(lsn, fact).unwrap();
        });
        assert!(read.unwrap() <= max, "round {round}");
        assert_eq!(tail.next_lsn(), sale.lsn().next());
    }
    let durable = log.status.durable_lsn();
    assert!(durable > Lsn(1500), "several segments: {durable}");
    while sale.lsn() < durable {
        tail.read(durable, 100, &mut |lsn, fact| sale.fact(lsn, fact).unwrap()).unwrap();
    }
}

#[test]
fn it_begins_anywhere_and_says_when_that_was_trimmed() {
    let disk = SimDisk::new(22);
    let (_, mut log) = step_on(&disk, &small()).unwrap();
    let mut next = 1;
    for round in 0..60 {
        (0..30).for_each(|_| append_next(&log.queue, &mut next));
        while log.journal.step() == Step::NeedsSegment {
            log.maintenance.prepare_spare().unwrap();
        }
        while log.maintenance.prepare_spare().unwrap() {}
        if round == 30 {
            log.maintenance.snapshot(&mut Sale::default()).unwrap();
        }
    }
    for after in [0, 1, 29, 30, 31, 777, 1799, 1800] {
        let mut first = None;
        let mut tail = log.maintenance.tail(Lsn(after));
        let read = tail.read(Lsn(u64::MAX), 1, &mut |lsn, _| first = Some(lsn)).unwrap();
        assert_eq!((first, read), if after < 1800 { (Some(Lsn(after + 1)), 1) } else { (None, 0) });
    }
    log.maintenance.snapshot(&mut Sale::default()).unwrap();
    assert!(log.maintenance.trim().unwrap() > 0);
    let retained = log.status.first_retained_lsn();
    match log.maintenance.tail(Lsn(5)).read(Lsn(u64::MAX), 10, &mut |_, _| ()) {
        Err(FeedError::Trimmed { wanted, first }) => assert_eq!((wanted, first), (Lsn(6), retained)),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// The hash at every LSN is that of its block, wherever a batch ends, however the tail came there, and
/// also where that block was trimmed.
#[test]
fn the_chain_is_known_at_every_lsn_from_before_the_first_on() {
    let disk = SimDisk::new(24);
    let (_, mut log) = step_on(&disk, &small()).unwrap();
    let (mut next, mut ends) = (1, Vec::new());
    for _ in 0..60 {
        (0..30).for_each(|_| append_next(&log.queue, &mut next));
        while log.journal.step() == Step::NeedsSegment {
            log.maintenance.prepare_spare().unwrap();
        }
        while log.maintenance.prepare_spare().unwrap() {}
        ends.push(log.status.durable_lsn().0);
    }
    let last = *ends.last().unwrap();
    let opened_at = |after: u64| log.maintenance.tail(Lsn(after)).chain().unwrap();
    let hashes: Vec<_> = (0..=last).map(opened_at).collect();
    let mut tail = log.maintenance.tail(Lsn::ZERO);
    while tail.next_lsn().0 <= last {
        tail.read(Lsn(u64::MAX), 7, &mut |_, _| ()).unwrap();
        let lsn = tail.next_lsn().0 - 1;
        assert_eq!(tail.chain().unwrap(), hashes[lsn as usize], "followed to LSN {lsn}");
    }
    // One hash per block, another one for each.
    assert!(ends.iter().all(|&end| end == last || hashes[end as usize] != hashes[end as usize + 1]));
    assert_eq!(hashes[32], hashes[59], "within a block");
    log.maintenance.snapshot(&mut Sale::default()).unwrap();
    (0..3).for_each(|_| append_next(&log.queue, &mut next));
    log.journal.step();
    log.maintenance.snapshot(&mut Sale::default()).unwrap();
    assert!(log.maintenance.trim().unwrap() > 0);
    let first = log.status.first_retained_lsn().0;
    for lsn in first - 1..=last {
        assert_eq!(
            log.maintenance.tail(Lsn(lsn)).chain().unwrap(),
            hashes[lsn as usize],
            "trimmed, LSN {lsn}"
        );
    }
    let gone = log.maintenance.tail(Lsn(first - 2)).chain();
    assert!(matches!(gone, Err(FeedError::Trimmed { .. })), "{gone:?}");
}

/// Looking for a block walks one segment, also where the log does not hold it.
#[test]
fn the_chain_is_looked_for_in_one_segment() {
    let disk = SimDisk::new(25);
    let (_, mut log) = step_on(&disk, &small()).unwrap();
    let mut next = 1;
    for _ in 0..120 {
        (0..30).for_each(|_| append_next(&log.queue, &mut next));
        while log.journal.step() == Step::NeedsSegment {
            log.maintenance.prepare_spare().unwrap();
        }
        while log.maintenance.prepare_spare().unwrap() {}
    }
    let last = log.status.durable_lsn();
    let reads = |lsn: Lsn| {
        let before = disk.reads();
        let known = log.maintenance.tail(lsn).chain().is_ok();
        (known, disk.reads() - before)
    };
    let (at_the_end, behind_it) = (reads(last), reads(last.next()));
    assert!(at_the_end.0 && !behind_it.0);
    assert!(behind_it.1 <= at_the_end.1 + 1, "{behind_it:?} reads behind the end, {at_the_end:?} at it");
    // A tail that stands in an early segment, and is told of a fact that the log does not hold yet.
    let mut tail = log.maintenance.tail(Lsn::ZERO);
    tail.read(Lsn(u64::MAX), 7, &mut |_, _| ()).unwrap();
    let before = disk.reads();
    tail.chain().unwrap();
    assert!(disk.reads() - before <= 1, "the block was just read");
}

#[test]
fn it_names_the_place_of_damage() {
    let disk = SimDisk::new(23);
    let (_, mut log) = step_on(&disk, &small()).unwrap();
    let mut next = 1;
    for _ in 0..4 {
        (0..30).for_each(|_| append_next(&log.queue, &mut next));
        log.journal.step();
    }
    let first = stampede_persist::log::layout::segment_file(super::log_sale::DIR.as_ref(), 1);
    disk.edit(&first, |bytes| bytes[2 * 4096 + 500] ^= 1);
    let mut seen = 0;
    match log.maintenance.tail(Lsn::ZERO).read(Lsn(u64::MAX), 1000, &mut |_, _| seen += 1) {
        Err(FeedError::Damaged { file, offset, .. }) => assert_eq!((file, offset, seen), (first, 8192, 60)),
        other => panic!("expected damage, got {other:?}"),
    }
}
