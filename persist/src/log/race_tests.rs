//! The whole log with all its threads at once: owners, journal, spares, snapshots, tails, readers.
//!
//! It asserts little; it is for ThreadSanitizer (`make test-tsan`), which reports every pair of
//! unordered accesses, and also runs as a plain test. The small cases that loom explores
//! exhaustively are in [`super::queue`]. Next: [`super::thread`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stampede_core::fact::Fact;
use stampede_core::sample::{Order, item_id};
use stampede_core::shard::{Accepted, FactSink as _};
use stampede_core::state_row::StateRow;
use stampede_core::types::{Lsn, OrderId, UnixMillis};

use super::dir::{DataDir, LogOptions, Started};
use super::journal::Waker;
use super::maintenance::Maintenance;
use super::queue::FactQueue;
use super::rebuild::Rebuild;
use super::status::LogStatus;
use crate::feed::FactFeed as _;

const OWNERS: u64 = 3;
const EACH: u64 = 3_000;
const DEADLINE: Duration = Duration::from_secs(120);

/// A state that counts facts, and has no rows to show.
#[derive(Default)]
struct Count(u64);

impl Rebuild for Count {
    fn row(&mut self, _: &StateRow<'_>) -> Result<(), String> {
        Ok(())
    }
    fn fact(&mut self, _: Lsn, _: &Fact<'_>) -> Result<(), String> {
        self.0 += 1;
        Ok(())
    }
    fn rows(&self, _: &mut dyn FnMut(StateRow<'_>)) {}
}

fn start(dir: &Path, wakes: &Arc<AtomicU64>) -> Started {
    let options = LogOptions {
        segment_bytes: 128 << 10,
        log_bytes_max: 16 << 20,
        free_bytes_min: 0,
        queue_slots: 256,
        queue_reserve: 64,
        allow_volatile: true,
        snapshot_segments: 1,
        ..LogOptions::default()
    };
    let wakes = Arc::clone(wakes);
    let waker: Waker = Arc::new(move || {
        wakes.fetch_add(1, Ordering::Relaxed);
    });
    let opened = DataDir::open(dir, &options).unwrap().recover(&mut Count::default()).unwrap();
    let mut started = opened.start(vec![waker], |reason| panic!("{reason}")).unwrap();
    started.journal.start_snapshotter(|| Box::new(Count::default())).unwrap();
    started
}

/// An owner: checks for room, decides a few facts, wakes the journal, waits until they are durable.
fn own(queue: &Arc<FactQueue>, status: &LogStatus, owner: u64, until: Instant) {
    let mut producer = queue.producer();
    let subject = format!("buyer-{owner}");
    for seq in 1..=EACH {
        while !producer.has_room() || !status.accepting() {
            assert!(Instant::now() < until, "room in time");
            producer.flush();
            std::thread::yield_now();
        }
        let order = OrderId::new(item_id(owner + 1), seq as u32);
        let order = Order { at_ms: UnixMillis(seq), subject: subject.as_bytes(), ..Order::new(order) };
        let lsn = producer.append(Accepted::forged(&order.placed()));
        if seq % 16 == 0 {
            producer.flush();
        }
        if seq % 512 == 0 {
            while status.durable_lsn() < lsn {
                assert!(Instant::now() < until, "durable in time");
                std::thread::yield_now();
            }
        }
    }
    producer.flush();
}

/// Reads the files and every figure, as the exporter and the merchant's pages do.
fn follow(log: &Maintenance, status: &LogStatus, until: Instant) -> u64 {
    let (mut tail, mut seen) = (log.tail(Lsn::ZERO), 0);
    while seen < OWNERS * EACH {
        assert!(Instant::now() < until, "followed in time");
        match tail.read(Lsn(u64::MAX), 256, &mut |_, _| ()) {
            Ok(read) => seen += read as u64,
            // Trimmed before it was read: an exporter would have held the trimmer back.
            Err(_) => {
                let durable = status.durable_lsn();
                (tail, seen) = (log.tail(durable), durable.0);
            }
        }
        let figures = status.groups() + status.facts() + status.bytes_written() + status.disk_bytes();
        let marks = status.snapshot_lsn().max(status.first_retained_lsn());
        assert!(marks.0 <= figures + OWNERS * EACH + 1 && status.failure().is_none());
        std::thread::yield_now();
    }
    seen
}

#[test]
fn every_thread_of_the_log_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (wakes, until) = (Arc::new(AtomicU64::new(0)), Instant::now() + DEADLINE);
    let log = start(dir.path(), &wakes);
    std::thread::scope(|scope| {
        let (queue, status, log) = (&log.queue, &*log.status, &**log.journal.maintenance());
        (0..OWNERS).for_each(|owner| {
            scope.spawn(move || own(queue, status, owner, until));
        });
        (0..2).for_each(|_| {
            scope.spawn(move || assert_eq!(follow(log, status, until), OWNERS * EACH));
        });
    });
    assert!(wakes.load(Ordering::Relaxed) > 0);
    log.journal.shutdown(DEADLINE).unwrap();
    let mut count = Count::default();
    let opened = DataDir::open(dir.path(), &LogOptions { allow_volatile: true, ..LogOptions::default() });
    assert_eq!(opened.unwrap().recover(&mut count).unwrap().next_lsn(), Lsn(OWNERS * EACH + 1));
}
