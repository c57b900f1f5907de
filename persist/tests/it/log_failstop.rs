//! A write or sync of the log that fails: no further ack, no second try (I10).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stampede_persist::log::journal::{Step, Waker};

use super::log_sale::{Sale, append_next, recover_on, small};
use super::sim_disk::{Rng, SimDisk, Trouble};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Fails the `op`-th operation after the start and goes on stepping. True if the log failed.
fn fail_at(seed: u64, op: u64, trouble: Trouble) -> bool {
    let what = format!("seed {seed} op {op} {trouble:?}");
    let disk = SimDisk::new(seed);
    let (_, opened) = recover_on(&disk, &small()).unwrap();
    let wakes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&wakes);
    let waker: Waker = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let mut log = opened.start_stepped(vec![waker]).unwrap();
    disk.plan(op, trouble);
    let (mut rng, mut next, mut groups) = (Rng(seed), 1, 0);
    for round in 0..30 {
        for _ in 0..rng.below(40) {
            if log.queue.has_room() {
                append_next(&log.queue, &mut next);
            }
        }
        let before = log.status.durable_lsn();
        match log.journal.step() {
            Step::Wrote { .. } => groups += 1,
            Step::NeedsSegment => drop(log.maintenance.prepare_spare()),
            Step::Failed => assert_eq!(log.status.durable_lsn(), before, "{what}: no ack for what failed"),
            Step::Idle => {}
        }
        if round % 5 == 4 {
            log.journal.write_control(false);
        }
        assert_eq!(wakes.load(Ordering::Relaxed), groups, "{what}: one wake per durable group");
    }
    assert_eq!(disk.writes_after_failure(), 0, "{what}: a file that failed is left alone");
    let failed = log.status.failure().is_some();
    assert!(!(failed && log.status.accepting()), "{what}: a failed log accepts nothing");
    let acked = log.status.durable_lsn();
    drop(log);
    // What was acked survives the process, and a power cut on top.
    let after = disk.after_crash();
    let sale: Sale = recover_on(&after, &small()).unwrap_or_else(|error| panic!("{what}: {error}")).0;
    assert!(sale.lsn() >= acked && sale.lsn().0 < next.max(2), "{what}: {} acked {acked}", sale.lsn());
    failed
}

#[test]
fn an_error_at_any_operation_stops_the_log_for_good() {
    let mut failures = 0;
    for (seed, trouble) in [
        (1, Trouble::Fail(EIO)),
        (2, Trouble::Fail(ENOSPC)),
        (3, Trouble::Tear(EIO)),
        (4, Trouble::Tear(ENOSPC)),
    ] {
        failures += (1..40).filter(|op| fail_at(seed, *op, trouble)).count();
    }
    assert!(failures > 80, "most operations of a running log are its own writes: {failures}");
}
