//! Power cuts and kills at every disk operation: acked ⊆ recovered, and what is
//! recovered is a prefix of what was decided (I2, I9).

use std::path::Path;
use std::sync::Arc;

use stampede_core::types::Lsn;
use stampede_persist::disk::Disk as _;
use stampede_persist::log::dir::{DataDir, LogOptions, OpenError, Stepped};
use stampede_persist::log::journal::Step;
use stampede_persist::log::verify::verify_on;

use super::log_sale::{DIR, Sale, append_next, new_log, recover_on, small, step_on};
use super::sim_disk::{Rng, SimDisk, Trouble};

/// What was promised and what was begun.
#[derive(Default, Clone, Copy, Debug)]
struct Ledger {
    acked: Lsn,
    next: u64,
}

/// Runs a sale until it is over or the disk dies; notes what was acked.
fn run(disk: &SimDisk, rng: &mut Rng, rounds: u64, ledger: &mut Ledger) -> Result<(), String> {
    let (sale, mut log) = step_on(disk, &small()).map_err(|error| error.to_string())?;
    check_recovered(&sale, ledger)?;
    // What was recovered is durable now; what is decided next follows it.
    ledger.acked = log.status.durable_lsn();
    ledger.next = ledger.acked.next().0;
    for _ in 0..rounds {
        let burst = 1 + rng.below(40);
        for _ in 0..burst {
            if log.queue.has_room() && log.status.accepting() {
                append_next(&log.queue, &mut ledger.next);
            }
        }
        loop {
            let step = log.journal.step();
            ledger.acked = log.status.durable_lsn();
            match step {
                Step::Wrote { .. } => {}
                Step::Idle => break,
                Step::NeedsSegment => {
                    log.maintenance.prepare_spare().map_err(|e| e.to_string())?;
                }
                Step::Failed => return Err(log.status.failure().unwrap_or("no reason").to_owned()),
            }
        }
        match rng.below(12) {
            0 => {
                log.journal.write_control(false);
            }
            1 => {
                log.maintenance.snapshot(&mut Sale::default()).map_err(|e| e.to_string())?;
            }
            2 => {
                log.maintenance.trim().map_err(|e| e.to_string())?;
            }
            3 => {
                log.maintenance.prepare_spare().map_err(|e| e.to_string())?;
            }
            _ => {}
        }
    }
    log.journal.write_control(true);
    Ok(())
}

fn check_recovered(sale: &Sale, ledger: &Ledger) -> Result<(), String> {
    let found = sale.lsn();
    if found < ledger.acked {
        return Err(format!("LOST: recovered up to LSN {found}, acked up to {}", ledger.acked));
    }
    if found.0 >= ledger.next.max(1) {
        return Err(format!("PHANTOM: recovered up to LSN {found}, decided below {}", ledger.next));
    }
    Ok(())
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
enum End {
    PowerCut,
    Kill,
    Either,
}

/// Lets a disk die again and again; in the end a run without trouble must find everything.
fn survive(seed: u64, crash_in_ops: u64, end: End) {
    let mut rng = Rng(seed);
    let mut disk = SimDisk::new(rng.next());
    let mut ledger = Ledger { acked: Lsn::ZERO, next: 1 };
    let mut crash_in_ops = crash_in_ops;
    for life in 0..3 {
        disk.plan(crash_in_ops, Trouble::Crash);
        let ended = run(&disk, &mut rng, 40, &mut ledger);
        if let Err(reason) = &ended {
            assert!(disk.crashed(), "seed {seed} life {life} op {crash_in_ops}: {reason}");
        }
        let cut = match end {
            End::PowerCut => true,
            End::Kill => false,
            End::Either => rng.coin(),
        };
        disk = if cut { disk.after_crash() } else { disk.after_kill() };
        crash_in_ops = 1 + rng.below(80);
    }
    let (sale, log) = step_on(&disk, &small()).unwrap_or_else(|error| panic!("seed {seed} {end:?}: {error}"));
    check_recovered(&sale, &ledger).unwrap_or_else(|error| panic!("seed {seed} {end:?}: {error}"));
    drop(log);
    let verdict = verify_on(&disk, DIR.as_ref()).unwrap();
    assert_eq!(verdict.wrong, None, "seed {seed}");
    assert_eq!(verdict.last_lsn, sale.lsn(), "seed {seed}");
}

fn operations_of_a_run(seed: u64) -> u64 {
    let mut rng = Rng(seed);
    let disk = SimDisk::new(rng.next());
    run(&disk, &mut rng, 40, &mut Ledger { acked: Lsn::ZERO, next: 1 }).unwrap();
    disk.ops()
}

fn survive_at_every_operation(seeds: std::ops::Range<u64>, end: End) {
    for seed in seeds {
        let ops = operations_of_a_run(seed);
        assert!(ops > 100, "the run is worth crashing: {ops} operations");
        (1..=ops).for_each(|op| survive(seed, op, end));
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_no_ack() {
    survive_at_every_operation(0..3, End::PowerCut);
}

#[test]
fn a_kill_at_any_operation_loses_no_ack() {
    survive_at_every_operation(70..71, End::Kill);
}

#[test]
fn kills_and_power_cuts_in_turn_lose_no_ack() {
    survive_at_every_operation(80..83, End::Either);
}

/// Logs one fact durably, then a group of `burst` facts that a power cut interrupts.
fn torn_group(seed: u64, options: &LogOptions, burst: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let (_, mut log) = step_on(&disk, options).unwrap();
    let mut next = 1;
    append_next(&log.queue, &mut next);
    assert_eq!(log.journal.step(), Step::Wrote { facts: 1 });
    (0..burst).for_each(|_| append_next(&log.queue, &mut next));
    disk.plan(1, Trouble::Crash);
    assert_eq!(log.journal.step(), Step::Failed);
    disk.after_crash()
}

/// Recovers twice: a torn tail is reported and copied the first time, and gone the second.
fn recover_twice(seed: u64, disk: &SimDisk, options: &LogOptions) -> (Sale, bool) {
    let (sale, opened) = recover_on(disk, options).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let copies = disk.files().into_keys().filter(|path| path.starts_with("/data/torn")).count();
    assert_eq!(copies, opened.warnings().len(), "seed {seed}: a copy for each warning");
    drop(opened);
    let (again, opened) = recover_on(disk, options).unwrap();
    assert_eq!((&again, opened.warnings().len()), (&sale, 0), "seed {seed}: cut once, clean afterwards");
    (sale, copies > 0)
}

#[test]
fn a_torn_tail_is_kept_cut_and_reported() {
    let options = LogOptions { queue_slots: 128, queue_reserve: 16, ..small() };
    let (mut whole, mut torn) = (0, 0);
    for seed in 0..60 {
        let disk = torn_group(seed, &options, 100);
        let (sale, was_torn) = recover_twice(seed, &disk, &options);
        let all = sale.lsn() == Lsn(101);
        assert!(all || sale.lsn() == Lsn(1), "seed {seed}: one block, whole or not at all");
        assert!(!(all && was_torn), "seed {seed}: what is whole is not torn");
        whole += u32::from(all);
        torn += u32::from(was_torn);
    }
    assert!(whole > 0 && torn > 5, "both happen: {whole} whole, {torn} torn");
}

#[test]
fn a_group_of_several_blocks_is_cut_at_the_first_torn_one() {
    let options = LogOptions {
        segment_bytes: 4 << 20,
        log_bytes_max: 1 << 30,
        queue_slots: 1 << 15,
        queue_reserve: 16,
        ..small()
    };
    for seed in 0..3 {
        let disk = torn_group(seed, &options, 20_000);
        let (sale, _) = recover_twice(seed, &disk, &options);
        assert!(sale.lsn() < Lsn(20_001), "seed {seed}: hundreds of sectors do not all land");
        let (_, mut log) = step_on(&disk, &options).unwrap();
        let mut next = sale.lsn().next().0;
        (0..100).for_each(|_| append_next(&log.queue, &mut next));
        assert_eq!(log.journal.step(), Step::Wrote { facts: 100 }, "seed {seed}: and the log goes on");
        drop(log);
        assert_eq!(recover_on(&disk, &options).unwrap().0.lsn().next(), Lsn(next), "seed {seed}");
    }
}

/// Opens a log in this directory; what it holds.
fn open_below(disk: &SimDisk, dir: &Path) -> Result<(Sale, Stepped), OpenError> {
    let mut sale = Sale::default();
    let data = DataDir::open_on(Arc::new(disk.clone()), dir, &small(), &new_log())?;
    let log = data.recover(&mut sale)?.start_stepped(Vec::new())?;
    Ok((sale, log))
}

/// Acks one fact more in a log that could be opened; how many it has found.
fn ack_one_below(disk: &SimDisk, dir: &Path) -> u64 {
    let (sale, mut log) = open_below(disk, dir).unwrap();
    append_next(&log.queue, &mut sale.lsn().next().0);
    assert_eq!(log.journal.step(), Step::Wrote { facts: 1 });
    sale.lsn().0
}

#[test]
fn a_parent_directory_that_cannot_be_synced_stops_no_start() {
    use std::io::ErrorKind::{InvalidInput, Other, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    let options = small();
    let start = |disk: &SimDisk, dir: &str| {
        DataDir::open_on(Arc::new(disk.clone()), Path::new(dir), &options, &new_log()).map(drop)
    };
    for kind in [InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported] {
        let disk = SimDisk::new(26);
        disk.create_dir(Path::new("/shop")).unwrap();
        disk.refuse_sync_dir("/", kind);
        start(&disk, "/shop/data").unwrap_or_else(|error| panic!("{kind}: {error}"));
        // The directory is there: the one above it need not say anything of it any more.
        disk.refuse_sync_dir("/shop", kind);
        start(&disk, "/shop/data").unwrap_or_else(|error| panic!("{kind}, once more: {error}"));
        // One that was just made has to be durable.
        assert!(start(&disk, "/shop/other").is_err(), "{kind}");
    }
    let disk = SimDisk::new(27);
    disk.create_dir(Path::new("/shop")).unwrap();
    disk.refuse_sync_dir("/", Other);
    assert!(start(&disk, "/shop/data").is_err(), "a disk that fails is not passed over");
}

#[test]
fn every_new_level_of_a_data_directory_outlives_a_power_cut() {
    let dir = Path::new("/srv/shop/data/one");
    let mut killed = 0;
    for op in 1.. {
        for seed in 0..8 {
            // A first start is killed at this operation; the second acks; then the power goes.
            let disk = SimDisk::new(seed);
            disk.plan(op, Trouble::Crash);
            let first = open_below(&disk, dir);
            killed += u64::from(first.is_err());
            let disk = disk.after_kill();
            let found = ack_one_below(&disk, dir);
            let disk = disk.after_crash();
            let again = ack_one_below(&disk, dir);
            assert!(again > found, "op {op} seed {seed}: LOST: {again} of {} facts", found + 1);
            if first.is_ok() && seed == 7 {
                // The whole start was gone through.
                assert!(killed > 8 * 10, "starts were killed: {killed}");
                return;
            }
        }
    }
}
