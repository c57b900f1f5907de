//! Each planted fault is seen by a client, through HTTP, and called by its name.

use std::time::Duration;

use stampede_loadgen::answer::{Class, Code};
use stampede_loadgen::check::{Verdict, Violation};
use stampede_loadgen::engine::{Outcome, RunConfig, run};
use stampede_loadgen::verify::{Merchant, VerifyConfig, verify};
use stampede_loadgen::workload::Workload;

use crate::fake::{Fake, Fault, ITEM, TOKEN};

const STOCK: u64 = 40;
const DEMAND: u64 = 200;

fn judge(fake: &Fake, outcome: &Outcome) -> Verdict {
    let merchant = Merchant::new(&fake.admin, TOKEN);
    let history = outcome.history.as_ref();
    let export_wait = Duration::from_secs(1);
    verify(&VerifyConfig { merchant: &merchant, postgres: None, item: ITEM, history, export_wait }).unwrap()
}

/// Runs a sale against a server with a fault and tells what the judge names.
fn sale(fault: Fault, change: impl FnOnce(&mut RunConfig)) -> (Outcome, String) {
    let fake = Fake::start(STOCK, fault);
    let workload = Workload { repeat: 0.2, ..Workload::purchases(ITEM, 11) };
    let mut config = RunConfig::closed(fake.public, workload, DEMAND);
    change(&mut config);
    let outcome = run(&config).unwrap();
    let verdict = judge(&fake, &outcome);
    let mut names: Vec<_> = verdict.violations.iter().map(Violation::name).collect();
    names.dedup();
    eprintln!("seed {}, {fault:?}: {verdict}", config.workload.seed);
    (outcome, names.join(" "))
}

fn check(fault: Fault, expected: &str) {
    assert_eq!(sale(fault, |_| {}).1, expected, "{fault:?}");
}

#[test]
fn a_fair_sale_is_fine() {
    let (outcome, names) = sale(Fault::None, |_| {});
    let tally = &outcome.tally;
    assert_eq!(names, "");
    assert_eq!((tally.count(Code::Won), tally.total()), (STOCK, DEMAND));
    assert_eq!(tally.class_count(Class::Unknown), 0);
    assert!(tally.count(Code::Replayed) > 0 && tally.count(Code::SoldOut) > 0);
    assert!(tally.elapsed_ns() > 1 && tally.cpu_ns > 0);
}

#[test]
fn planted_faults_are_called_by_name() {
    check(Fault::OversellByOne, "oversold");
    check(Fault::LoseAckedOrder, "lost_ack undersold");
    check(Fault::AnswerTwiceDifferently, "lost_ack answers_differ");
    check(Fault::Undersell, "undersold");
    check(Fault::ForgetKeys, "above_cap answers_differ");
}

#[test]
fn a_cap_that_is_not_looked_at() {
    let (_, names) = sale(Fault::IgnoreCap, |config| config.workload.users = Some(20));
    assert_eq!(names, "above_cap");
}

#[test]
fn resets_and_server_errors_are_asked_again_with_the_same_key() {
    for (fault, code) in [(Fault::ResetEvery(7), Code::Reset), (Fault::FailEvery(7), Code::ServerError)] {
        let (outcome, names) = sale(fault, |config| config.pipeline = 3);
        let tally = &outcome.tally;
        assert_eq!(names, "", "{fault:?}");
        assert_eq!((tally.class_count(Class::Unknown), tally.total()), (0, DEMAND));
        assert!(tally.tried_again[code as usize] > 0, "{fault:?}");
        assert_eq!(outcome.history.unwrap().orders_acked() as u64, STOCK);
    }
}

#[test]
fn a_server_that_never_answers_leaves_unknowns_and_an_end() {
    let (outcome, names) = sale(Fault::Mute, |config| {
        config.requests = Some(20);
        config.timeout = Duration::from_millis(50);
        config.ride_out = Duration::from_millis(200);
    });
    // Decided and never told: rows without an ack belong to unknowns, which is no fault.
    assert_eq!(names, "");
    assert_eq!(outcome.tally.class_count(Class::Unknown), 20);
    assert_eq!(outcome.tally.latency(Class::Unknown).len(), 20, "time-outs count among the latencies");
    assert!(outcome.tally.latency_all().min() >= 50_000_000);
}

#[test]
fn threads_share_the_work() {
    let (outcome, names) = sale(Fault::None, |config| config.threads = 3);
    assert_eq!((names.as_str(), outcome.tally.count(Code::Won), outcome.tally.total()), ("", STOCK, DEMAND));
}

/// The same seed buys nothing new: every earlier winner is told its order again.
#[test]
fn a_run_can_be_repeated() {
    let fake = Fake::start(STOCK, Fault::None);
    let config = RunConfig::closed(fake.public, Workload::purchases(ITEM, 5), STOCK / 2);
    let (first, second) = (run(&config).unwrap(), run(&config).unwrap());
    assert_eq!(first.tally.count(Code::Won), STOCK / 2);
    assert_eq!(second.tally.count(Code::Replayed), STOCK / 2);
    assert_eq!(fake.orders() as u64, STOCK / 2);
    assert!(judge(&fake, &second).is_fine());
}
