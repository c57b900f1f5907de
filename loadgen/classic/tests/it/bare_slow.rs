//! The server to compare with, slow to order: delays and stalls are what was asked for.
//!
//! Times have a lower bound that always holds and an upper one that only a dead machine breaks.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use stampede_classic::bare::{Manner, Running, Stall};
use stampede_loadgen::engine::{Mode, RunConfig, Schedule, run};
use stampede_loadgen::meaning::Code;
use stampede_loadgen::workload::Workload;

fn start(manner: Manner) -> Running {
    Running::start(manner).expect("a free port")
}

const fn delayed(ms: u64) -> Manner {
    Manner { delay: Duration::from_millis(ms), stall: None }
}

#[test]
fn each_response_is_delayed_and_delays_no_other_connection() {
    let slow = start(delayed(50));
    let mut config = RunConfig::closed(slow.addr, Workload::get("/"), 64);
    config.connections = 16;
    let began = Instant::now();
    let outcome = run(&config).unwrap();
    let all = outcome.tally.latency_all();
    assert_eq!(outcome.tally.count(Code::Ok), 64);
    assert!(all.min() >= 49_900_000, "a response came after {} ns", all.min());
    // 64 answers one after the other would take 3.2 s; 16 at a time take 0.2 s.
    assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
}

#[test]
fn pipelined_requests_are_delayed_side_by_side() {
    let slow = start(delayed(40));
    let mut config = RunConfig::closed(slow.addr, Workload::get("/"), 400);
    (config.connections, config.pipeline) = (2, 20);
    let began = Instant::now();
    let outcome = run(&config).unwrap();
    assert_eq!(outcome.tally.count(Code::Ok), 400);
    assert!(outcome.tally.latency_all().min() >= 39_900_000);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[test]
fn answers_of_a_connection_that_is_gone_go_to_nobody() {
    let slow = start(delayed(300));
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut gone = TcpStream::connect(slow.addr).unwrap();
    gone.write_all(request).unwrap();
    gone.shutdown(Shutdown::Write).unwrap();
    let mut bytes = [0; 1024];
    assert_eq!(gone.read(&mut bytes).unwrap(), 0, "who hangs up is not answered");
    // It takes the place of the one before and must not get its answer.
    let mut next = TcpStream::connect(slow.addr).unwrap();
    next.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    assert!(next.read(&mut bytes).is_err(), "a response came to which there is no request");
    next.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    next.write_all(request).unwrap();
    assert!(next.read(&mut bytes).unwrap() > 200);
}

#[test]
fn a_stall_holds_everything_back_and_then_lets_it_go() {
    let ms = Duration::from_millis;
    let stall = Some(Stall { length: ms(300), every: ms(1_000) });
    let slow = start(Manner { delay: ms(0), stall });
    let mut config = RunConfig::closed(slow.addr, Workload::get("/"), 1);
    config.mode = Mode::Open(Schedule::constant(500.0));
    (config.requests, config.duration) = (None, Some(ms(3_000)));
    let outcome = run(&config).unwrap();
    let all = outcome.tally.latency_all();
    assert_eq!(outcome.tally.count(Code::Ok), 1_500);
    // Two or three stalls of 300 ms in 3 s: a fifth to a third of the requests meet one.
    let share = all.iter_recorded().filter(|value| value.value_iterated_to() > 20_000_000);
    let share = share.map(|value| value.count_since_last_iteration()).sum::<u64>() as f64 / 1_500.0;
    assert!((0.15..0.6).contains(&share), "{share} of the requests met a stall");
    assert!((270_000_000..2_000_000_000).contains(&all.max()), "the longest waited {} ns", all.max());
}

#[test]
fn stalls_that_never_end_or_begin_get_one_line() {
    for (flags, words) in [
        ("--stall 1s --every 1s", "--stall has to be shorter than --every"),
        ("--stall 1s", "--every"),
        ("--every 1s", "--stall"),
        ("--delay x", "is not a length of time"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stampede-classic"));
        let output = command.arg("bare").args(flags.split_whitespace()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "`{flags}` said {text}");
        assert!(text.contains(words) && text.lines().count() == 1, "`{flags}` said {text}");
    }
}
