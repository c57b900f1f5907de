//! The log on the real file system, with its threads, as the engine runs it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stampede_core::fact::Fact;
use stampede_core::state_row::StateRow;
use stampede_core::types::Lsn;
use stampede_persist::log::dir::{DataDir, LogOptions, OpenError, Opened};
use stampede_persist::log::inspect::inspect;
use stampede_persist::log::journal::Waker;
use stampede_persist::log::rebuild::Rebuild;
use stampede_persist::log::verify::{VerifyError, verify};

use super::log_sale::{Sale, append_next, small};

const DEADLINE: Duration = Duration::from_secs(20);

fn options() -> LogOptions {
    LogOptions { allow_volatile: true, ..small() }
}

fn open(dir: &Path) -> (Sale, Opened) {
    let mut sale = Sale::default();
    let opened = DataDir::open(dir, &options()).unwrap().recover(&mut sale).unwrap();
    (sale, opened)
}

/// Waits for a condition, without sleeping on a guess.
fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::yield_now();
    }
}

#[test]
fn facts_become_durable_cores_are_woken_and_a_restart_finds_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut next = 1;
    for life in 0..3 {
        let wakes = Arc::new(AtomicU64::new(0));
        let (sale, opened) = open(dir.path());
        assert_eq!(sale.lsn().next(), Lsn(next), "life {life}");
        assert_eq!(opened.control().epoch, life + 1);
        assert_eq!(opened.last_ms().0, if next == 1 { 0 } else { 1000 + next - 1 });
        let counted = Arc::clone(&wakes);
        let waker: Waker = Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let mut started = opened.start(vec![waker], |reason| panic!("{reason}")).unwrap();
        started.journal.start_snapshotter(|| Box::new(Sale::default())).unwrap();
        for _ in 0..300 {
            wait_for("room", || started.queue.has_room() && started.status.accepting());
            append_next(&started.queue, &mut next);
            started.queue.flush();
        }
        wait_for("durability", || started.status.durable_lsn() == Lsn(next - 1));
        let groups = started.status.groups();
        assert!(groups > 0, "life {life}");
        wait_for("a wake per group", || wakes.load(Ordering::Relaxed) >= groups);
        wait_for("the control file", || started.journal.maintenance().control().durable_lsn == Lsn(next - 1));
        assert_eq!(verify(dir.path()).unwrap().wrong, None, "verified while it runs");
        if life == 1 {
            drop(started); // as a crash would
        } else {
            started.journal.shutdown(DEADLINE).unwrap();
        }
    }
    let verdict = verify(dir.path()).unwrap();
    assert_eq!((verdict.wrong, verdict.last_lsn, verdict.control.clean), (None, Lsn(900), true));
    let totals = verdict.items.values().next().unwrap();
    assert_eq!((totals.sold, totals.orders, totals.last_seq), (899, 899, 899));
}

#[test]
fn the_snapshotter_makes_snapshots_and_trims_on_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (_, opened) = open(dir.path());
    let mut started = opened.start(Vec::new(), |reason| panic!("{reason}")).unwrap();
    started.journal.start_snapshotter(|| Box::new(Sale::default())).unwrap();
    let mut next = 1;
    let deadline = Instant::now() + DEADLINE;
    while started.status.first_retained_lsn() == Lsn(1) {
        assert!(Instant::now() < deadline, "trimmed in time; durable {}", started.status.durable_lsn());
        if started.queue.has_room() && started.status.accepting() && next < 200_000 {
            append_next(&started.queue, &mut next);
            started.queue.flush();
        } else {
            std::thread::yield_now();
        }
    }
    started.journal.shutdown(DEADLINE).unwrap();
    let (sale, _) = open(dir.path());
    assert_eq!(sale.lsn(), Lsn(next - 1));
    assert_eq!(verify(dir.path()).unwrap().wrong, None, "from the oldest snapshot on");
}

/// A state that takes no fact, as one whose tables are full.
struct Full;

impl Rebuild for Full {
    fn row(&mut self, _: &StateRow<'_>) -> Result<(), String> {
        Err("a table is full".to_owned())
    }
    fn fact(&mut self, _: Lsn, _: &Fact<'_>) -> Result<(), String> {
        Err("a table is full".to_owned())
    }
    fn rows(&self, _: &mut dyn FnMut(StateRow<'_>)) {}
}

#[test]
fn a_failed_snapshot_is_reported_until_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let (_, opened) = open(dir.path());
    let mut started = opened.start(Vec::new(), |reason| panic!("{reason}")).unwrap();
    let full = Arc::new(AtomicBool::new(true));
    let is_full = Arc::clone(&full);
    let empty = move || -> Box<dyn Rebuild> {
        if is_full.load(Ordering::Relaxed) { Box::new(Full) } else { Box::new(Sale::default()) }
    };
    started.journal.start_snapshotter(empty).unwrap();
    assert_eq!(started.status.snapshot_failure(), None, "none was tried");
    let mut next = 1;
    let mut append_until = |what: &str, condition: &dyn Fn() -> bool| {
        let deadline = Instant::now() + DEADLINE;
        while !condition() {
            assert!(Instant::now() < deadline, "{what} did not come");
            if started.queue.has_room() && started.status.accepting() && next < 200_000 {
                append_next(&started.queue, &mut next);
                started.queue.flush();
            } else {
                std::thread::yield_now();
            }
        }
    };
    append_until("a failure", &|| started.status.snapshots_fail());
    let why = started.status.snapshot_failure().unwrap();
    assert!(why.contains("LSN 1") && why.contains("a table is full"), "{why}");
    assert_eq!(started.status.snapshot_lsn(), Lsn::ZERO);
    full.store(false, Ordering::Relaxed);
    append_until("a snapshot", &|| started.status.snapshot_lsn() > Lsn::ZERO);
    append_until("the end of the failure", &|| started.status.snapshot_failure().is_none());
    started.journal.shutdown(DEADLINE).unwrap();
}

#[test]
fn a_directory_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let (_, first) = open(dir.path());
    let error = DataDir::open(dir.path(), &options()).unwrap_err();
    let named = format!("in use by process {}", std::process::id());
    assert!(error.to_string().contains(&named), "{error}");
    drop(first);
    open(dir.path());
}

#[test]
fn an_unusable_directory_is_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    std::fs::write(&file, "x").unwrap();
    let error = DataDir::open(&file.join("data"), &options()).unwrap_err();
    assert!(matches!(error, OpenError::Unwritable { .. }), "{error}");
    let wrong = LogOptions { segment_bytes: 5000, ..options() };
    assert!(matches!(DataDir::open(dir.path(), &wrong).unwrap_err(), OpenError::Options(_)));
    let wrong = LogOptions { log_bytes_max: 1 << 16, ..options() };
    let error = DataDir::open(dir.path(), &wrong).unwrap_err().to_string();
    assert!(error.contains("must be at least"), "{error}");
    assert!(matches!(verify(dir.path()), Err(VerifyError::NoLog(_))));
}

#[test]
fn a_directory_in_memory_is_refused_unless_allowed() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("every Linux has it");
    let strict = LogOptions { allow_volatile: false, ..options() };
    let error = DataDir::open(dir.path(), &strict).unwrap_err();
    assert!(matches!(error, OpenError::Volatile { .. }), "{error}");
    // Where it is allowed it works, too: no direct writes there on older kernels.
    let (_, opened) = open(dir.path());
    let started = opened.start(Vec::new(), |reason| panic!("{reason}")).unwrap();
    append_next(&started.queue, &mut 1);
    started.queue.flush();
    started.journal.shutdown(DEADLINE).unwrap();
    assert_eq!(open(dir.path()).0.lsn(), Lsn(1));
}

#[test]
fn inspect_prints_every_layer() {
    let dir = tempfile::tempdir().unwrap();
    let started = open(dir.path()).1.start(Vec::new(), |reason| panic!("{reason}")).unwrap();
    let mut next = 1;
    (0..3).for_each(|_| append_next(&started.queue, &mut next));
    started.queue.flush();
    wait_for("durability", || started.status.durable_lsn() == Lsn(3));
    started.journal.maintenance().snapshot(&mut Sale::default()).unwrap();
    started.journal.shutdown(DEADLINE).unwrap();
    let mut text = Vec::new();
    inspect(dir.path(), true, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for wanted in [
        "epoch 1",
        "shut down in order",
        "snapshot LSN 3 rows 3",
        "segment 1 32768 bytes",
        "block LSN 1..=",
        "1 item_created at 1001 item 7 granted 1073741824 name \"phone\" by shop",
        "order_placed at 1002 order 30064771073 quantity 1 confirmed buyer buyer-1-x key",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is missing from:\n{text}");
    }
}
