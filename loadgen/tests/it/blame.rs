//! Whose limit it was: what the server does is not laid at the generator's door, and the other way round.
//!
//! The arithmetic is tested beside it (`record/measure.rs`); here the engine has to measure the right
//! things.

use std::time::Duration;

use stampede_loadgen::engine::{Mode, Outcome, RunConfig, Step, run};
use stampede_loadgen::meaning::Code;
use stampede_loadgen::record::{KeptUp, Record};
use stampede_loadgen::report::Report;
use stampede_loadgen::workload::{Flow, Workload};

use crate::fake::{Fake, Fault, ITEM, Setup};

fn open_loop(fake: &Fake, per_s: f64, seconds: u64) -> RunConfig {
    let mut config = RunConfig::closed(fake.public, Workload::purchases(ITEM, 13), 1);
    config.mode = Mode::open(per_s);
    (config.requests, config.duration) = (None, Some(Duration::from_secs(seconds)));
    config
}

fn record(config: &RunConfig, outcome: &Outcome) -> Record {
    Record::new(config, outcome, None)
}

/// With a connection per request, a server that hangs up holds up the requests behind it: no lag of ours.
#[test]
fn resets_are_not_the_generators_lateness() {
    let fake = Fake::with(Setup { stock: 1, fault: Fault::ResetEvery(1), ..Setup::default() });
    let mut config = open_loop(&fake, 200.0, 2);
    (config.keep_alive, config.connections, config.ride_out) = (false, 2, Duration::from_millis(300));
    let outcome = run(&config).unwrap();
    assert!(outcome.tally.tried_again[Code::Reset as usize] > 5);
    // Not the worst ones: a machine that is busy with other tests may make some requests late.
    let lag = outcome.tally.lag.value_at_quantile(0.75);
    assert!(lag < 5_000_000, "a quarter of the requests left {lag} ns late");
}

/// Proofs of work are done elsewhere, and counted apart: no page waits for them.
#[test]
fn proofs_of_work_are_a_step_of_their_own() {
    let fake = Fake::with(Setup { stock: 30, ticket: true, pow_bits: Some(12), ..Setup::default() });
    let mut config = open_loop(&fake, 60.0, 1);
    config.workload.flow = Flow::Whole;
    let outcome = run(&config).unwrap();
    let step = |step| outcome.tally.step(step).by_code[Code::Ok as usize];
    assert!(step(Step::Solve) >= 30, "{} were solved", step(Step::Solve));
    assert_eq!((step(Step::Challenge), step(Step::Ticket)), (step(Step::Solve), step(Step::Solve)));
    assert_eq!(outcome.tally.count(Code::Won), 30);
    let text = Report::of(record(&config, &outcome)).text(false);
    assert!(text.lines().any(|line| line.trim().starts_with("solve ")), "{text}");
}

/// A server that takes requests and does not answer them has nothing to do with us.
#[test]
fn a_server_that_is_slow_is_the_servers_limit() {
    let fake = Fake::start(1, Fault::Mute);
    let mut config = open_loop(&fake, 300.0, 1);
    (config.timeout, config.ride_out) = (Duration::from_secs(5), Duration::ZERO);
    config.connections = 2;
    let outcome = run(&config).unwrap();
    let kept_up = record(&config, &outcome).kept_up;
    assert!(matches!(kept_up, KeptUp::ServerLimit | KeptUp::Unknown), "{kept_up:?}");
}

/// Forty requests have a median and a longest one; a p99 of theirs is the longest by another name.
#[test]
fn few_requests_have_few_percentiles() {
    let fake = Fake::start(100, Fault::None);
    let config = RunConfig::closed(fake.public, Workload::purchases(ITEM, 3), 40);
    let record = record(&config, &run(&config).unwrap());
    let latency = record.latency_ns.all.clone().unwrap();
    assert_eq!((latency.named("p99"), latency.named("p99.99")), (None, None));
    assert!(latency.named("p95").is_some());
    let text = Report::of(record).text(false);
    let row = text.lines().find(|line| line.trim().starts_with("all ")).unwrap();
    assert_eq!(row.split_whitespace().filter(|&word| word == "-").count(), 3, "{row}");
}
