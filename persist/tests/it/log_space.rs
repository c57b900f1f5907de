//! Room: the disk budget, the free-space reserve, trimming and recycling (I11).

use std::path::Path;

use stampede_core::types::Lsn;
use stampede_persist::log::control::{Control, KeptFor, read_control};
use stampede_persist::log::detach::{DetachError, detach, kept_for as kept_for_on};
use stampede_persist::log::dir::{LogOptions, Stepped};
use stampede_persist::log::journal::Step;
use stampede_persist::log::layout;
use stampede_persist::log::segment::list_segments;
use stampede_persist::log::snapshot::list_snapshots;

use super::log_sale::{DIR, Sale, append_next, recover_on, small, step_on};
use super::sim_disk::{Op, Part, SimDisk, Trouble};

/// Sells `facts` facts, or until the log does not accept any more; returns whether it still does.
fn sell(log: &mut Stepped, next: &mut u64, facts: u64) -> bool {
    let until = *next + facts;
    while *next < until && log.status.accepting() {
        while *next < until && log.queue.has_room() {
            append_next(&log.queue, next);
        }
        drain(log);
        while log.maintenance.prepare_spare().unwrap() {}
        log.journal.step();
    }
    log.status.accepting()
}

fn drain(log: &mut Stepped) {
    loop {
        match log.journal.step() {
            Step::Wrote { .. } => {}
            Step::Idle => return,
            Step::NeedsSegment => {
                assert!(log.maintenance.prepare_spare().unwrap(), "what was queued still fits");
            }
            Step::Failed => panic!("{}", log.status.failure().unwrap()),
        }
    }
}

fn tight() -> LogOptions {
    let options = small();
    LogOptions { log_bytes_max: options.log_bytes_least() + 4 * options.segment_bytes, ..options }
}

#[test]
fn a_full_budget_stops_selling_before_an_ack_could_not_be_kept() {
    let disk = SimDisk::new(1);
    let (_, mut log) = step_on(&disk, &tight()).unwrap();
    let mut next = 1;
    assert!(!sell(&mut log, &mut next, 100_000), "the budget is finite");
    assert!(log.status.is_full() && log.status.failure().is_none());
    assert!(log.status.disk_bytes() <= tight().log_bytes_max);
    // The worst: every owner had looked before the log said stop, and each fact comes alone.
    while log.queue.len() < log.queue.capacity() {
        append_next(&log.queue, &mut next);
    }
    drain(&mut log);
    assert_eq!(log.status.durable_lsn(), Lsn(next - 1), "what was queued was kept");
    assert!(disk.files().values().map(Vec::len).sum::<usize>() as u64 <= tight().log_bytes_max + 8192);
}

#[test]
fn trimming_makes_a_full_log_accept_again_and_reuses_its_files() {
    let disk = SimDisk::new(2);
    let (_, mut log) = step_on(&disk, &tight()).unwrap();
    let mut next = 1;
    for _ in 0..5 {
        assert!(!sell(&mut log, &mut next, 100_000));
        assert!(log.maintenance.wants_snapshot(), "a full log wants a snapshot");
        let lsn = log.maintenance.snapshot(&mut Sale::default()).unwrap();
        assert_eq!(lsn, Lsn(next - 1));
        assert!(log.maintenance.trim().unwrap() > 0);
        log.journal.step();
        assert!(log.status.accepting(), "room again");
        assert!(log.status.disk_bytes() <= tight().log_bytes_max);
        assert!(log.status.first_retained_lsn() > Lsn(1));
    }
    drop(log);
    // Recycled segments are full of old blocks; a restart takes none of them for new ones.
    let (sale, opened) = recover_on(&disk.after_kill(), &tight()).unwrap();
    assert_eq!(sale.lsn(), Lsn(next - 1));
    assert!(sale.rows > 0, "it began with a snapshot");
    assert_eq!(opened.warnings(), &[] as &[String], "and an old block is not a torn tail");
}

#[test]
fn little_free_space_stops_selling_until_there_is_more() {
    let options = LogOptions { free_bytes_min: 1 << 20, ..small() };
    let disk = SimDisk::new(3);
    let (_, mut log) = step_on(&disk, &options).unwrap();
    assert!(log.status.accepting());
    for (free, accepting) in [(1 << 19, false), (1 << 30, true)] {
        disk.set_free_bytes(free);
        log.maintenance.prepare_spare().unwrap();
        log.journal.step();
        assert_eq!(log.status.accepting(), accepting, "{free} bytes free");
    }
}

#[test]
fn nothing_is_trimmed_that_postgres_does_not_hold() {
    let options = LogOptions { exports: true, ..small() };
    let disk = SimDisk::new(4);
    let (_, mut log) = step_on(&disk, &options).unwrap();
    let mut next = 1;
    for _ in 0..2 {
        sell(&mut log, &mut next, 500);
        log.maintenance.snapshot(&mut Sale::default()).unwrap();
    }
    assert_eq!(log.maintenance.trim().unwrap(), 0, "nothing was exported");
    let exported = log.status.exported_watermark();
    exported.store(450, std::sync::atomic::Ordering::Release);
    assert!(log.maintenance.trim().unwrap() > 0);
    let first = log.status.first_retained_lsn();
    assert!(first <= Lsn(451), "LSN 451 is still there: the log begins at {first}");
    assert_eq!(log.maintenance.trim().unwrap(), 0, "a second time there is nothing left to do");
}

/// Sells, makes two snapshots so that both cover facts, and returns how many segments went.
fn sell_and_trim(log: &mut Stepped, next: &mut u64) -> usize {
    for _ in 0..2 {
        sell(log, next, 500);
        log.maintenance.snapshot(&mut Sale::default()).unwrap();
    }
    log.maintenance.trim().unwrap()
}

/// A log that has a database keeps its facts for it, whatever a later start is told: what one
/// forgotten flag let go would be in neither of the two.
#[test]
fn a_start_without_its_database_keeps_what_that_one_lacks() {
    for attached in [false, true] {
        let disk = SimDisk::new(6);
        let mut next = 1;
        let (_, mut log) = step_on(&disk, &LogOptions { exports: true, ..small() }).unwrap();
        if attached {
            log.maintenance.set_database([9; 16]).unwrap();
        }
        sell(&mut log, &mut next, 10);
        drop(log);
        for start in 0..2 {
            let (_, mut log) = step_on(&disk, &small()).unwrap();
            let gone = sell_and_trim(&mut log, &mut next);
            assert_eq!(gone, 0, "start {start}, attached {attached}");
            assert_eq!(log.status.first_retained_lsn(), Lsn(1));
            assert!(log.maintenance.control().keeps_facts_for().is_some());
        }
        // With the database again, what it holds may go.
        let (_, mut log) = step_on(&disk, &LogOptions { exports: true, ..small() }).unwrap();
        log.status.exported_watermark().store(next - 1, std::sync::atomic::Ordering::Release);
        assert!(sell_and_trim(&mut log, &mut next) > 0);
    }
}

#[test]
fn a_full_log_is_not_trimmed_for_want_of_a_database_either() {
    let disk = SimDisk::new(7);
    let mut next = 1;
    let (_, log) = step_on(&disk, &LogOptions { exports: true, ..tight() }).unwrap();
    drop(log);
    let (_, mut log) = step_on(&disk, &tight()).unwrap();
    assert!(!sell(&mut log, &mut next, 100_000), "the budget is finite");
    log.maintenance.snapshot(&mut Sale::default()).unwrap();
    assert_eq!(log.maintenance.trim().unwrap(), 0);
    assert!(log.status.is_full(), "it stops selling instead");
}

#[test]
fn a_detached_log_keeps_its_facts_for_nobody() {
    let dir = Path::new(DIR);
    let disk = SimDisk::new(8);
    assert!(matches!(detach(&disk, dir), Err(DetachError::NoLog { .. })), "there is no log yet");
    assert_eq!(disk.files().len(), 0, "and none was made");
    let mut next = 1;
    let (_, mut log) = step_on(&disk, &LogOptions { exports: true, ..small() }).unwrap();
    log.maintenance.set_database([9; 16]).unwrap();
    sell(&mut log, &mut next, 10);
    assert!(matches!(detach(&disk, dir), Err(DetachError::Locked { .. })), "an engine runs");
    drop(log);
    let before = read_control(&disk, dir).unwrap().unwrap();
    let kept_for = Some(KeptFor::Database([9; 16]));
    assert_eq!(kept_for_on(&disk, dir).unwrap(), kept_for);
    assert_eq!(detach(&disk, dir).unwrap(), kept_for);
    disk.cut();
    assert_eq!(detach(&disk, dir).unwrap(), None, "it is durable, and twice is once");
    let after = read_control(&disk, dir).unwrap().unwrap();
    let expected = Control { generation: after.generation, database: None, exports: false, ..before };
    assert_eq!(after, expected, "nothing else has changed");
    let (_, mut log) = step_on(&disk, &small()).unwrap();
    assert!(sell_and_trim(&mut log, &mut next) > 0, "what a snapshot covers may go");
}

#[test]
fn the_log_reaches_back_to_the_older_snapshot() {
    let disk = SimDisk::new(5);
    let (_, mut log) = step_on(&disk, &small()).unwrap();
    let mut next = 1;
    for _ in 0..3 {
        sell(&mut log, &mut next, 400);
        log.maintenance.snapshot(&mut Sale::default()).unwrap();
        log.maintenance.trim().unwrap();
    }
    sell(&mut log, &mut next, 10);
    let snapshots = list_snapshots(&disk, Path::new(DIR)).unwrap();
    assert_eq!(snapshots, [Lsn(800), Lsn(1200)], "the last two are kept");
    let first = log.status.first_retained_lsn();
    assert!(first > Lsn(1) && first <= Lsn(801), "the log begins at {first}");
    drop(log);
    let newest = layout::snapshot_file(Path::new(DIR), Lsn(1200));
    let disk = disk.after_kill();
    disk.edit(&newest, |bytes| bytes[1000] ^= 1);
    let (sale, opened) = recover_on(&disk, &small()).unwrap();
    assert_eq!(sale.lsn(), Lsn(1210));
    assert!(opened.warnings()[0].contains("older snapshot was used"), "{:?}", opened.warnings());
    drop(opened);
    let older = layout::snapshot_file(Path::new(DIR), Lsn(800));
    disk.edit(&older, |bytes| bytes[1000] ^= 1);
    let before = disk.files();
    let error = recover_on(&disk, &small()).unwrap_err().to_string();
    assert!(error.contains("damaged at byte"), "{error}");
    assert!(disk.files() == before, "a refusal changes nothing");
}

#[test]
fn a_trimmed_segment_that_somebody_puts_back_does_not_count() {
    let disk = SimDisk::new(7);
    let (_, mut log) = step_on(&disk, &small()).unwrap();
    let mut next = 1;
    sell(&mut log, &mut next, 600);
    let first = layout::segment_file(Path::new(DIR), 1);
    let old = disk.files()[&first].clone();
    for _ in 0..2 {
        sell(&mut log, &mut next, 600);
        log.maintenance.snapshot(&mut Sale::default()).unwrap();
    }
    assert!(log.maintenance.trim().unwrap() > 0);
    drop(log);
    let disk = disk.after_kill();
    assert!(!disk.files().contains_key(&first), "trimmed");
    disk.put(&first, &old);
    assert_eq!(recover_on(&disk, &small()).unwrap().0.lsn(), Lsn(next - 1));
    assert!(!disk.files().contains_key(&first), "and gone again");
}

#[test]
fn spares_are_kept_over_a_restart() {
    let disk = SimDisk::new(6);
    let (_, log) = step_on(&disk, &small()).unwrap();
    let segments = list_segments(&disk, Path::new(DIR)).unwrap();
    drop(log);
    let before = disk.ops();
    let (_, log) = step_on(&disk, &small()).unwrap();
    assert_eq!(list_segments(&disk, Path::new(DIR)).unwrap(), segments);
    assert!(disk.ops() - before < 10, "nothing was made anew: {} operations", disk.ops() - before);
    drop(log);
}

/// A log of several segments that a snapshot covers, so that the next trim lets go of them.
fn covered(disk: &SimDisk, options: &LogOptions) -> (Stepped, u64) {
    let (_, mut log) = step_on(disk, options).unwrap();
    let mut next = 1;
    for _ in 0..2 {
        sell(&mut log, &mut next, 1_500);
        log.maintenance.snapshot(&mut Sale::default()).unwrap();
    }
    (log, next)
}

/// Bytes of all segment files, under whichever name.
fn bytes_of_segments(disk: &SimDisk) -> u64 {
    let files = disk.files().into_iter();
    files.filter(|(path, _)| path.starts_with("/data/log")).map(|(_, bytes)| bytes.len() as u64).sum()
}

#[test]
fn a_trimmed_segment_that_cannot_be_recycled_frees_its_room() {
    // Each step of making a spare of it, and of removing it; and of the third one, too.
    for op in [Op::Write, Op::Sync, Op::Rename, Op::SyncDir, Op::Remove] {
        let mut strikes = 0;
        for nth in 1..=3 {
            let disk = SimDisk::new(8);
            let (mut log, mut next) = covered(&disk, &small());
            let before = log.status.disk_bytes();
            assert_eq!(before, bytes_of_segments(&disk));
            disk.aim(op, Part::Log, nth, Trouble::Fail(5));
            let first = log.maintenance.trim();
            let struck = disk.take_struck().is_some();
            strikes += u32::from(struck);
            disk.calm();
            assert_eq!(first.is_err(), struck, "{op:?} {nth}: an error is told");
            let counted = log.status.disk_bytes();
            assert!(counted >= bytes_of_segments(&disk), "{op:?} {nth}: what is there counts");
            log.maintenance.trim().unwrap();
            let after = log.status.disk_bytes();
            assert_eq!(after, bytes_of_segments(&disk), "{op:?} {nth}: and what is gone does not");
            assert!(after < before, "{op:?} {nth}: {after} of {before} bytes");
            let (number, retained) =
                (list_segments(&disk, Path::new(DIR)).unwrap()[0], log.maintenance.control());
            assert_eq!(
                number, retained.first_segment,
                "{op:?} {nth}: none is left of those that were trimmed"
            );
            sell(&mut log, &mut next, 2_000);
            assert!(log.status.failure().is_none(), "{op:?} {nth}: the log goes on");
            drop(log);
            let (sale, _) = recover_on(&disk.after_kill(), &small()).unwrap();
            assert_eq!(sale.lsn(), Lsn(next - 1), "{op:?} {nth}");
        }
        assert!(strikes > 0, "{op:?} is no step of it");
    }
}

/// A trim that is killed may have written which segments count, and not have it durable: the next start sees it,
/// and a power cut in that start brings the older control file back, whose segments must be there.
#[test]
fn a_kill_in_a_trim_then_a_power_cut_at_start_lose_nothing() {
    let mut cuts = 0;
    for kill_at in 1.. {
        let disk = SimDisk::new(kill_at);
        let (log, next) = covered(&disk, &small());
        disk.plan(kill_at, Trouble::Crash);
        let ended = log.maintenance.trim();
        disk.calm();
        drop(log);
        let killed = disk.after_kill();
        for cut_at in 1.. {
            let disk = killed.copy();
            disk.reseed(cut_at);
            disk.plan(cut_at, Trouble::Crash);
            let started = step_on(&disk, &small());
            let is_through = !disk.crashed();
            drop(started);
            let (sale, _) = recover_on(&disk.after_crash(), &small())
                .unwrap_or_else(|error| panic!("killed at {kill_at}, cut at {cut_at}: {error}"));
            assert_eq!(sale.lsn(), Lsn(next - 1), "killed at {kill_at}, cut at {cut_at}");
            if is_through {
                break;
            }
            cuts += 1;
        }
        if ended.is_ok() {
            assert!(kill_at > 5 && cuts > 20, "{kill_at} kills, {cuts} cuts");
            return;
        }
    }
}
