//! The search for the highest rate, against a server whose limit is known, and at the command line.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use stampede_classic::bare::{Manner, Running};
use stampede_loadgen::assert::Assertion;
use stampede_loadgen::capacity::{End, Limits, Plan, find};
use stampede_loadgen::engine::RunConfig;
use stampede_loadgen::workload::Workload;

use crate::fake::{Fake, Fault};

const DELAY: Duration = Duration::from_millis(40);
const CONNECTIONS: u32 = 4;

/// By Little's law 4 connections with responses after 40 ms carry 100 requests a second. Nothing else
/// limits it here: no latency in a second of overload comes near the objective.
#[test]
fn the_limit_of_a_few_slow_connections_is_found() {
    let slow = Running::start(Manner { delay: DELAY, stall: None }).unwrap();
    let mut config = RunConfig::closed(slow.addr, Workload::get("/"), 1);
    config.connections = CONNECTIONS;
    let limits = Limits { from_per_s: 10.0, to_per_s: 10_000.0, precision: 0.1 };
    let objectives = vec![Assertion::parse("p90<10s").unwrap()];
    let plan = Plan { config, objectives, limits, step_time: Duration::from_millis(1_000) };
    // A machine that is busy with other things shows less, or nothing: it is asked again. It never shows more.
    let deadline = Instant::now() + Duration::from_secs(100);
    let (found, per_s, above) = loop {
        let mut told = 0;
        let found = find(&plan, |_| told += 1).unwrap();
        let tried: Vec<_> = found.probes.iter().map(|probe| (probe.per_s, probe.words())).collect();
        eprintln!("{:?} after {tried:?}", found.end);
        assert_eq!(told, found.probes.len());
        match found.end {
            Some(End::Found { per_s, fails_at_per_s: Some(above) }) if per_s >= 60.0 => {
                break (found, per_s, above);
            }
            Some(End::Found { fails_at_per_s: None, .. }) => panic!("found no limit after {tried:?}"),
            _ => assert!(Instant::now() < deadline, "not found in time, last after {tried:?}"),
        }
    };
    assert!(per_s <= 110.0, "{per_s} is more than there can be");
    assert!(above > per_s && found.probes.last().unwrap().confirms);
    let mut seeds: Vec<_> = found.probes.iter().map(|probe| probe.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), found.probes.len(), "each try has buyers of its own");
    let json = found.json(&plan);
    assert_eq!((json["end"]["end"].as_str(), json["end"]["per_s"].as_f64()), (Some("found"), Some(per_s)));
    assert_eq!(json["probes"].as_array().unwrap().len(), found.probes.len());
}

fn call(flags: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede-loadgen"));
    let output: Output = command.args(flags.split_whitespace()).output().unwrap();
    let words =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), words)
}

/// The same, again as long as the machine is too busy for the generator to keep up.
fn call_in_peace(flags: &str) -> (Option<i32>, String) {
    let deadline = Instant::now() + Duration::from_secs(100);
    loop {
        let (code, words) = call(flags);
        if !words.contains("not known: the generator") || Instant::now() >= deadline {
            return (code, words);
        }
    }
}

#[test]
fn the_command_tells_each_try_and_the_result() {
    let fake = Fake::start(50, Fault::None);
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("c");
    let url = format!("http://{}", fake.public);
    let flags = format!(
        "capacity {url} --item 1 --slo p99<5s --slo errors<50% --from 20 --to 40 --step-time 300ms -c 4 --json {}",
        json.display()
    );
    let (code, words) = call_in_peace(&flags);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("capacity: at least 40/s (p99 < 5s and errors < 50% held twice"), "{words}");
    assert_eq!(words.matches("holds").count(), 3, "20, 40 and 40 again:\n{words}");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(json["probes"][2]["confirms"], true, "{json}");
}

#[test]
fn a_target_missed_at_the_lowest_rate_is_told_in_one_line() {
    let slow = Running::start(Manner { delay: DELAY, stall: None }).unwrap();
    let flags = format!("capacity http://{} --get / --slo p50<1ms --from 20 --step-time 300ms", slow.addr);
    let (code, words) = call_in_peace(&flags);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.ends_with("no capacity: p50 < 1ms does not hold at 20/s; lower --from\n"), "{words}");
    assert!(words.contains("not p50 < 1ms (40"), "{words}");
}

#[test]
fn flags_that_make_no_sense_get_one_line() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (flags, code, expected) in [
        ("--get /", 2, "--slo"),
        ("--get / --slo p99<5ms -R 5", 2, "capacity chooses the rate"),
        ("--get / --slo p99<5ms --closed", 2, "capacity chooses the rate"),
        ("--get / --slo p99<5ms -d 5s", 2, "capacity chooses the rate"),
        ("--get / --slo p98<5ms", 2, "is not a metric"),
        ("--get / --slo p99<5ms --from 10 --to 5", 2, "at most --to"),
        ("--get / --slo p99<5ms --step-time 1ms", 2, "--step-time has to be"),
        ("--get / --slo p99<5ms --precision 0", 2, "--precision has to be"),
        ("--get / --slo p99<5ms -c 1 -t 2", 2, "each thread needs a connection"),
        ("--get / --slo p99<5ms", 1, "cannot reach"),
    ] {
        let (status, words) = call(&format!("capacity http://{closed} {flags}"));
        assert_eq!(status, Some(code), "`{flags}` said {words}");
        assert!(words.lines().last().is_some_and(|line| line.contains(expected)), "`{flags}` said {words}");
    }
}
