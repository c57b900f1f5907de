//! What latency means: the open loop sees a stall that the closed loop hides.
//!
//! No tight times: only what must hold on a machine that is busy with other tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use stampede_classic::bare::{Manner, Running};
use stampede_loadgen::engine::{Mode, Outcome, RunConfig, RunError, Schedule, run};
use stampede_loadgen::meaning::{Class, Code};
use stampede_loadgen::record::{KeptUp, Record, Silence};
use stampede_loadgen::report::Report;
use stampede_loadgen::workload::Workload;

use crate::fake::{Fake, Fault, ITEM};

const STALL: Duration = Duration::from_secs(1);
const RATE: f64 = 500.0;
const REQUESTS: u64 = 1_000;

/// A run against a server that stands still once, and the silence that its record names.
fn stalled(mode: Mode) -> (Outcome, Silence) {
    let fake = Fake::start(REQUESTS, Fault::StallOnce { after: 200, length: STALL });
    let mut config = RunConfig::closed(fake.public, Workload::purchases(ITEM, 3), REQUESTS);
    (config.mode, config.connections) = (mode, 4);
    let outcome = run(&config).unwrap();
    let record = Record::new(&config, &outcome, None);
    let silence = record.silence().expect("a stall of a second is a silence");
    assert!(Report::of(record).text(false).contains("silence    no response for"));
    (outcome, silence)
}

fn quantile_ms(outcome: &Outcome, quantile: f64) -> u64 {
    outcome.tally.latency(Class::Winner).value_at_quantile(quantile) / 1_000_000
}

#[test]
fn the_open_loop_shows_a_stall() {
    let (outcome, silence) = stalled(Mode::Open(Schedule::constant(RATE)));
    assert_eq!(outcome.tally.count(Code::Won), REQUESTS);
    // A second of it, to the slices of 100 ms that lie within.
    assert!(silence.length_ms >= 800 && silence.waiting >= 4, "{silence}");
    // 500 requests were due while it stalled, half of all: their waits run from 1 s down to 0.
    assert!((800..5_000).contains(&quantile_ms(&outcome, 0.99)), "{}", quantile_ms(&outcome, 0.99));
    assert!(quantile_ms(&outcome, 0.75) >= 300, "{}", quantile_ms(&outcome, 0.75));
    // The generator had no free connection, so this is not its own lag.
    assert!(outcome.tally.lag.value_at_quantile(0.5) < 300_000_000);
}

#[test]
fn the_closed_loop_hides_it() {
    let (outcome, silence) = stalled(Mode::Closed);
    assert_eq!(outcome.tally.count(Code::Won), REQUESTS);
    assert!(silence.length_ms >= 800 && silence.waiting == 4, "{silence}");
    // Only the four requests that were under way saw it.
    assert!(quantile_ms(&outcome, 0.99) < 800, "{}", quantile_ms(&outcome, 0.99));
    assert!(outcome.tally.latency(Class::Winner).max() >= 900_000_000);
}

#[test]
fn bare_answers_everything_pipelined_or_not() {
    let bare = Running::start(Manner::default()).unwrap();
    for (pipeline, connections) in [(1, 8), (16, 3), (1, 1)] {
        let mut config = RunConfig::closed(bare.addr, Workload::get("/"), 5_000);
        (config.pipeline, config.connections) = (pipeline, connections);
        let outcome = run(&config).unwrap();
        assert_eq!((outcome.tally.count(Code::Ok), outcome.tally.total()), (5_000, 5_000));
        assert_eq!(outcome.tally.by_status[200], 5_000);
        assert!(outcome.history.is_none());
    }
}

#[test]
fn a_short_open_run_makes_what_was_due_and_no_nan() {
    let bare = Running::start(Manner::default()).unwrap();
    let mut config = RunConfig::closed(bare.addr, Workload::get("/"), 1);
    config.mode = Mode::Open(Schedule::constant(1_000.0));
    (config.requests, config.duration) = (None, Some(Duration::from_millis(50)));
    let outcome = run(&config).unwrap();
    assert_eq!(outcome.tally.total(), 50, "due, sent or not");
    let report = Report::of(Record::new(&config, &outcome, None));
    assert!(!report.text(false).contains("NaN") && !report.text(false).contains("inf"));
    assert!(report.text(false).contains("coordinated omission: corrected"));
    assert!(report.record().achieved_per_s.is_finite() && report.record().generator.busy_share <= 1.0);
    assert!(!serde_json::to_value(report.record()).unwrap()["kept_up"].is_null());
}

#[test]
fn a_rate_that_the_server_cannot_serve_is_said_to_be_its_limit() {
    let fake = Fake::start(1, Fault::StallOnce { after: 1, length: Duration::from_millis(400) });
    let mut config = RunConfig::closed(fake.public, Workload::purchases(ITEM, 3), 1);
    (config.mode, config.connections) = (Mode::Open(Schedule::constant(1_000.0)), 2);
    (config.requests, config.duration) = (None, Some(Duration::from_millis(200)));
    let outcome = run(&config).unwrap();
    assert!(outcome.tally.count(Code::Unsent) > 100, "what was due and never sent is counted");
    assert_eq!(outcome.tally.total(), 200);
    assert_eq!(outcome.tally.latency(Class::Unsent).len(), outcome.tally.count(Code::Unsent));
    assert_ne!(Record::new(&config, &outcome, None).kept_up, KeptUp::Yes);
}

#[test]
fn a_stop_from_outside_still_gives_the_whole_outcome() {
    let bare = Running::start(Manner::default()).unwrap();
    let mut config = RunConfig::closed(bare.addr, Workload::get("/"), 1);
    (config.requests, config.duration) = (None, Some(Duration::from_secs(60)));
    let stop = Arc::clone(&config.stop);
    let stopper = thread::spawn(move || {
        thread::park_timeout(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
    });
    let outcome = run(&config).unwrap();
    stopper.join().unwrap();
    assert!(outcome.interrupted && outcome.tally.total() > 0 && outcome.tally.elapsed_ns() < 30_000_000_000);
}

#[test]
fn nobody_there_is_an_error() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = run(&RunConfig::closed(closed, Workload::get("/"), 1)).err().unwrap();
    assert!(matches!(error, RunError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("is the server up"));
}

#[test]
fn a_server_that_goes_and_comes_back_is_ridden_out() {
    let first = Fake::start(1_000, Fault::None);
    let addr = first.public;
    // A relay that can be cut stands for `kill -9` and a restart on the same port.
    let relay = Relay::start(addr);
    let mut config = RunConfig::closed(relay.addr, Workload::purchases(ITEM, 9), 400);
    (config.mode, config.connections) = (Mode::Open(Schedule::constant(400.0)), 8);
    let stopper = {
        let cut = Arc::clone(&relay.cut);
        thread::spawn(move || {
            thread::park_timeout(Duration::from_millis(300));
            cut.store(true, Ordering::Relaxed);
            thread::park_timeout(Duration::from_millis(400));
            cut.store(false, Ordering::Relaxed);
        })
    };
    let outcome = run(&config).unwrap();
    stopper.join().unwrap();
    assert_eq!(outcome.tally.count(Code::Won) + outcome.tally.count(Code::Replayed), 400);
    assert_eq!((outcome.tally.class_count(Class::Unknown), first.orders()), (0, 400));
    assert!(outcome.tally.reconnects > 0 && outcome.gave_up.is_none());
}

#[test]
fn a_server_that_stays_away_ends_the_run_with_a_reason() {
    let fake = Fake::start(10, Fault::None);
    let relay = Relay::start(fake.public);
    relay.cut.store(true, Ordering::Relaxed);
    let mut config = RunConfig::closed(relay.addr, Workload::purchases(ITEM, 2), 1_000_000);
    (config.timeout, config.ride_out) = (Duration::from_millis(100), Duration::from_secs(2));
    (config.requests, config.duration) = (None, Some(Duration::from_secs(60)));
    config.mode = Mode::Open(Schedule::constant(1_000.0));
    let outcome = run(&config).unwrap();
    assert_eq!(fake.orders(), 0);
    assert!(outcome.tally.class_count(Class::Winner) == 0 && outcome.tally.elapsed_ns() < 50_000_000_000);
    assert!(outcome.tally.total() > 0, "what was due while it was away is counted");
    assert!(outcome.gave_up.is_some());
}

/// Forwards connections; while cut, it breaks old ones and new ones alike.
struct Relay {
    addr: SocketAddr,
    cut: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Relay {
    fn start(to: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (cut, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let relay = Self { addr, cut: Arc::clone(&cut), over: Arc::clone(&over) };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let cut = Arc::clone(&cut);
                if !cut.load(Ordering::Relaxed)
                    && let Ok(server) = std::net::TcpStream::connect(to)
                {
                    let pairs = [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))];
                    for (from, to) in pairs {
                        let cut = Arc::clone(&cut);
                        thread::spawn(move || forward(from.unwrap(), to.unwrap(), &cut));
                    }
                }
            }
        });
        relay
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        drop(std::net::TcpStream::connect(self.addr));
    }
}

fn forward(mut from: std::net::TcpStream, mut to: std::net::TcpStream, cut: &AtomicBool) {
    use std::io::{Read, Write};
    let mut bytes = [0; 4096];
    from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    loop {
        if cut.load(Ordering::Relaxed) {
            break;
        }
        match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) if to.write_all(&bytes[..count]).is_err() => break,
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}
