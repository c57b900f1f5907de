//! Each planted fault is seen by a client, through HTTP, and called by its name.

use std::process::Command;
use std::time::Duration;

use stampede_loadgen::check::{Verdict, Violation};
use stampede_loadgen::engine::{Mode, Outcome, RunConfig, Schedule, run};
use stampede_loadgen::meaning::{Class, Code};
use stampede_loadgen::record::Record;
use stampede_loadgen::report::Report;
use stampede_loadgen::units::show_ns;
use stampede_loadgen::verify::{Merchant, VerifyConfig, verify};
use stampede_loadgen::workload::{Auth, Items, Target, Workload};

use crate::fake::{Fake, Fault, ITEM, Setup, TOKEN};

const STOCK: u64 = 40;
const DEMAND: u64 = 200;

fn verdict(fake: &Fake, outcome: &Outcome) -> Verdict {
    let merchant = Merchant::new(&fake.admin, TOKEN);
    let history = outcome.history.as_ref();
    verify(&VerifyConfig { history, ..VerifyConfig::of_merchant(&merchant, ITEM) }).unwrap()
}

/// Runs a sale against a server with a fault and tells what the verifier names.
fn sale(fault: Fault, change: impl FnOnce(&mut RunConfig)) -> (Outcome, String) {
    let fake = Fake::start(STOCK, fault);
    let workload = Workload { repeat: 0.2, ..Workload::purchases(ITEM, 11) };
    let mut config = RunConfig::closed(fake.public, workload, DEMAND);
    change(&mut config);
    let outcome = run(&config).unwrap();
    let verdict = verdict(&fake, &outcome);
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
    assert!(verdict(&fake, &second).is_fine());
}

/// What clients see of a sale without the merchant: the verdict, and the names of what is broken.
fn without_merchant(
    fault: Fault,
    stock_told: Option<u64>,
    change: impl FnOnce(&mut RunConfig),
) -> (Verdict, String) {
    let fake = Fake::start(STOCK, fault);
    let workload = Workload { repeat: 0.2, ..Workload::purchases(ITEM, 12) };
    let mut config = RunConfig::closed(fake.public, workload, DEMAND);
    change(&mut config);
    let outcome = run(&config).unwrap();
    let history = outcome.history.as_ref().unwrap();
    let verdict =
        verify(&VerifyConfig { stock: stock_told, ..VerifyConfig::of_clients(&config, history) }).unwrap();
    let mut names: Vec<_> = verdict.violations.iter().map(Violation::name).collect();
    names.dedup();
    let names = names.join(" ");
    eprintln!("seed {}, {fault:?}: {verdict}", config.workload.seed);
    (verdict, names)
}

#[test]
fn without_a_merchant_each_order_is_asked_back() {
    let token = |config: &mut RunConfig| {
        config.workload.auth = Auth::Jwt { key: vec![7; 32], kid: None };
    };
    let changes: [fn(&mut RunConfig); 3] = [|_| {}, token, |config| config.keep_alive = false];
    for change in changes {
        let (verdict, names) = without_merchant(Fault::None, Some(STOCK), change);
        assert_eq!((names.as_str(), verdict.recalled, verdict.has_orders), ("", STOCK, false));
        assert_eq!(verdict.not_asked, ["the merchant's orders (give --admin)"]);
    }
}

#[test]
fn faults_that_clients_can_see_are_named_without_a_merchant() {
    let named = |fault, stock| without_merchant(fault, stock, |_| {}).1;
    assert_eq!(named(Fault::LoseAckedOrder, None), "lost_ack");
    assert_eq!(named(Fault::OversellByOne, Some(STOCK)), "oversold");
    assert_eq!(named(Fault::OversellByOne, None), "", "nobody said how many there are");
    // The second number is not only another response: no buyer has an order of that number.
    assert!(named(Fault::AnswerTwiceDifferently, None).starts_with("answers_differ above_cap lost_ack"));
    assert!(named(Fault::ForgetKeys, None).contains("answers_differ"));
    let few = |config: &mut RunConfig| config.workload.users = Some(20);
    assert_eq!(without_merchant(Fault::IgnoreCap, None, few).1, "above_cap");
}

/// More orders than are asked for: the rest is told, once over all items.
#[test]
fn of_many_orders_a_sample_is_asked_back() {
    let fake = Fake::with(Setup { items: 2, stock: 10_000, ..Setup::default() });
    let target = Target::Purchase { items: Items { first: ITEM, count: 2, zipf: 0.0 } };
    let config = RunConfig::closed(fake.public, Workload { target, ..Workload::purchases(ITEM, 4) }, 1_200);
    let history = run(&config).unwrap().history.unwrap();
    let verdict = verify(&VerifyConfig::of_clients(&config, &history)).unwrap();
    assert_eq!((verdict.is_fine(), verdict.acks, verdict.recalled), (true, 1_200, 1_000));
    let expected = ["the merchant's orders (give --admin)", "200 of the acked orders (a sample was)"];
    assert_eq!(verdict.not_asked, expected);
}

#[test]
fn a_server_without_pages_is_not_accused() {
    let (verdict, names) = without_merchant(Fault::NoPages, None, |_| {});
    assert_eq!((names.as_str(), verdict.recalled), ("", 0));
    let text = verdict.to_string();
    for words in ["as far as clients can see", "the cap (the server has no item page)", "no order page"] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn several_items_are_checked_one_by_one() {
    for (fault, expected) in
        [(Fault::None, ""), (Fault::OversellByOne, "oversold"), (Fault::Undersell, "undersold")]
    {
        let fake = Fake::with(Setup { items: 3, stock: 20, fault, ..Setup::default() });
        let target = Target::Purchase { items: Items { first: ITEM, count: 3, zipf: 0.5 } };
        let workload = Workload { target, repeat: 0.1, ..Workload::purchases(ITEM, 31) };
        let config = RunConfig::closed(fake.public, workload, 400);
        let outcome = run(&config).unwrap();
        let (merchant, history) = (Merchant::new(&fake.admin, TOKEN), outcome.history.unwrap());
        let with_merchant = VerifyConfig {
            items: history.items,
            history: Some(&history),
            ..VerifyConfig::of_merchant(&merchant, ITEM)
        };
        let verdict = verify(&with_merchant).unwrap();
        let mut names: Vec<_> = verdict.violations.iter().map(Violation::name).collect();
        names.dedup();
        assert_eq!(names.join(" "), expected, "{verdict}");
        if fault == Fault::OversellByOne {
            let items: Vec<_> = verdict.violations.iter().filter_map(|found| found.item).collect();
            assert_eq!((items.first(), items.last(), verdict.orders), (Some(&1), Some(&3), 63));
            assert!(verdict.to_string().contains("oversold: item 1: order"), "{verdict}");
        }
        let public =
            verify(&VerifyConfig { stock: Some(20), ..VerifyConfig::of_clients(&config, &history) }).unwrap();
        assert_eq!(public.is_fine(), fault != Fault::OversellByOne, "{public}");
    }
}

/// `verify` checks the items of the history it is given, all of them or none.
#[test]
fn the_command_verifies_the_items_of_a_history() {
    let fake = Fake::with(Setup { items: 3, stock: 5, fault: Fault::OversellByOne, ..Setup::default() });
    let target = Target::Purchase { items: Items { first: ITEM, count: 3, zipf: 0.0 } };
    let config = RunConfig::closed(fake.public, Workload { target, ..Workload::purchases(ITEM, 8) }, 100);
    let history = run(&config).unwrap().history.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (token, file) = (dir.path().join("token"), dir.path().join("history"));
    std::fs::write(&token, TOKEN).unwrap();
    history.write(&mut std::fs::File::create(&file).unwrap()).unwrap();
    for (items, code, words) in [
        ("--item 1", 3, "oversold: item 1: order 4294967302"),
        ("--item 1 --items 3", 3, "oversold: item 3: order 12884901894"),
        ("--item 1 --items 2", 2, "the history is of items 1 to 3, not of items 1 to 2"),
        ("--item 2", 2, "the history is of items 1 to 3"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stampede-loadgen"));
        command.arg("verify").args(items.split(' ')).args(["--admin", &fake.admin, "--admin-token-file"]);
        let output = command.arg(&token).arg("--history").arg(&file).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "`{items}` said {text}");
        assert!(text.contains(words), "`{items}` said {text}");
    }
}

#[test]
fn the_last_order_is_found_without_reading_them_all() {
    for stock in [0, 1, 6, 7, 8, 40] {
        let fake = Fake::start(stock, Fault::None);
        run(&RunConfig::closed(fake.public, Workload::purchases(ITEM, 5), stock + 1)).unwrap();
        let merchant = Merchant::new(&fake.admin, TOKEN);
        let last = fake.rows().iter().map(|row| row.0).max().unwrap_or(0);
        assert_eq!((fake.orders() as u64, merchant.last_order_id(ITEM).unwrap()), (stock, last));
        assert_eq!(merchant.baseline(ITEM).unwrap().granted, stock as i64);
    }
}

/// A stall of a second is not a broken promise, but the open loop shows it, and the report says it.
#[test]
fn a_stall_shows_in_the_figures_and_the_report() {
    let stall = Fault::StallOnce { after: 50, length: Duration::from_secs(1) };
    let fake = Fake::start(STOCK, stall);
    let mut config = RunConfig::closed(fake.public, Workload::purchases(ITEM, 11), DEMAND);
    (config.mode, config.connections) = (Mode::Open(Schedule::constant(200.0)), 2);
    let outcome = run(&config).unwrap();
    let verdict = verdict(&fake, &outcome);
    assert!(verdict.is_fine(), "{verdict}");
    let all = outcome.tally.latency_all();
    assert!(all.value_at_quantile(0.99) >= 500_000_000, "p99 is {}", all.value_at_quantile(0.99));
    assert!(all.max() >= 950_000_000, "max is {}", all.max());
    // Every request after the stall began waits less than the one before it: no gap hides it.
    assert!(all.value_at_quantile(0.8) >= 100_000_000, "p80 is {}", all.value_at_quantile(0.8));
    let text = Report::of(Record::new(&config, &outcome, Some(&verdict))).text(false);
    let row = text.lines().find(|line| line.trim().starts_with("all ")).unwrap_or_else(|| panic!("{text}"));
    let max = show_ns(all.max());
    assert!(row.contains(&max) && text.contains("coordinated omission: corrected"), "no {max} in\n{text}");
}
