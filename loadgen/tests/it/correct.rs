//! The verifier never accuses a correct server, whatever it refuses, resets, delays or dies of; and it
//! does not call a run fine that shows nothing.
//!
//! The fake server follows the contract here; every case is drawn from a seed, which a red run
//! prints (`CORRECT_SEED=` repeats it). Its counterpart, that each planted fault is named, is in
//! `faults.rs`.

use std::process::Command;
use std::time::Duration;

use stampede_loadgen::check::{Ruling, Verdict, Violation};
use stampede_loadgen::engine::{Mode, Outcome, RunConfig, ShopSide, run};
use stampede_loadgen::history::Baseline;
use stampede_loadgen::meaning::Code;
use stampede_loadgen::request::Shop;
use stampede_loadgen::verify::{Merchant, VerifyConfig, verify};
use stampede_loadgen::workload::{Fates, Flow, Items, Target, Workload};

use crate::fake::{Fake, Fault, ITEM, Setup, TOKEN};

/// Cases of one run of the test.
const CASES: u64 = 80;

/// A small generator of choices: the same seed makes the same ones (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[(self.roll() % choices.len() as u64) as usize]
    }
}

/// A correct server: every limit, delay and death that the contract allows.
fn server(dice: &mut Dice) -> Setup {
    Setup {
        items: dice.of(&[1, 1, 3]),
        stock: dice.of(&[4, 25, 200]),
        cap: dice.of(&[1, 2, 3]),
        payment: dice.of(&["on_order", "on_order", "hold", "on_payment"]),
        hold_ms: 100,
        ticket: dice.of(&[false, false, true]),
        pow_bits: dice.of(&[None, None, Some(3)]),
        min_level: dice.of(&[0, 0, 1]),
        opens_in_ms: dice.of(&[0, 0, 60]),
        open_ms: dice.of(&[3_600_000, 3_600_000, 120]),
        limit_every: dice.of(&[0, 2, 5]),
        block_after: dice.of(&[u64::MAX, u64::MAX, 40]),
        is_asynchronous: dice.of(&[false, true]),
        fault: dice.of(&[
            Fault::None,
            Fault::ResetEvery(5),
            Fault::FailEvery(4),
            Fault::LateEvery(4),
            Fault::DieAfter(9),
        ]),
    }
}

fn load(dice: &mut Dice, fake: &Fake, setup: &Setup) -> RunConfig {
    let count = setup.items;
    let workload = Workload {
        target: Target::Purchase { items: Items { first: ITEM, count, zipf: 0.5 } },
        flow: dice.of(&[Flow::Purchase, Flow::Whole]),
        repeat: dice.of(&[0.0, 0.4]),
        double_click: dice.of(&[0.0, 0.3]),
        users: dice.of(&[None, Some(15)]),
        quantity: dice.of(&[1, 1, 2]).min(setup.cap as u32),
        levels: Some(3),
        fates: dice.of(&[
            Fates::default(),
            Fates { cancel: 0.5, ..Fates::default() },
            Fates { pay: 0.5, cancel: 0.2, ..Fates::default() },
        ]),
        ..Workload::purchases(ITEM, dice.roll() >> 11)
    };
    let host = fake.admin.replace("http://", "");
    let mut config = RunConfig::closed(fake.public, workload, dice.of(&[30, 120]));
    config.shop =
        Some(ShopSide { addr: host.parse().unwrap(), shop: Shop { host, token: TOKEN.to_owned() } });
    config.connections = 8;
    config.keep_alive = dice.of(&[true, true, false]);
    config.pipeline = if config.keep_alive { dice.of(&[1, 4]) } else { 1 };
    (config.timeout, config.ride_out) = (Duration::from_millis(600), Duration::from_millis(150));
    config
}

/// What the merchant API and then the clients alone say of a run.
fn verdicts(fake: &Fake, config: &RunConfig, outcome: &Outcome, stock: u64) -> [Verdict; 2] {
    let merchant = Merchant::new(&fake.admin, TOKEN);
    let history = outcome.history.as_ref().unwrap();
    let with_merchant = VerifyConfig {
        items: history.items,
        history: Some(history),
        ..VerifyConfig::of_merchant(&merchant, history.items.first)
    };
    let clients = VerifyConfig { stock: Some(stock), ..VerifyConfig::of_clients(config, history) };
    [verify(&with_merchant).unwrap(), verify(&clients).unwrap()]
}

/// How the items stand now.
fn baselines(fake: &Fake, items: Items) -> Vec<(u32, Baseline)> {
    let merchant = Merchant::new(&fake.admin, TOKEN);
    items.numbers().map(|item| (item, merchant.baseline(item).unwrap())).collect()
}

fn names(verdict: &Verdict) -> String {
    let mut names: Vec<_> = verdict.violations.iter().map(Violation::name).collect();
    names.dedup();
    names.join(" ")
}

#[test]
fn a_correct_server_is_never_accused() {
    let told = std::env::var("CORRECT_SEED").ok().map(|seed| seed.parse::<u64>().expect("a number"));
    let first = told.unwrap_or(1);
    let cases = if told.is_some() { 1 } else { CASES };
    let mut inconclusive = 0;
    for seed in first..first + cases {
        let mut dice = Dice(seed);
        let setup = server(&mut dice);
        let fake = Fake::with(setup.clone());
        let config = load(&mut dice, &fake, &setup);
        let items = config.workload.items().unwrap();
        let before = baselines(&fake, items);
        let mut outcome = run(&config).unwrap();
        outcome.history.as_mut().unwrap().baselines.extend(before);
        for verdict in verdicts(&fake, &config, &outcome, setup.stock) {
            assert_eq!(
                names(&verdict),
                "",
                "CORRECT_SEED={seed}: {verdict}\n{setup:#?}\n{:#?}",
                verdict.violations
            );
            inconclusive += u32::from(verdict.ruling() == Ruling::Inconclusive);
        }
    }
    eprintln!("{cases} cases, {inconclusive} of their verdicts are inconclusive");
}

/// A sale of `setup` under a load that `change` shapes, and the verdict with the merchant's data.
fn sale(setup: Setup, change: impl FnOnce(&mut RunConfig)) -> (Outcome, Verdict) {
    let stock = setup.stock;
    let fake = Fake::with(setup);
    let mut config = RunConfig::closed(fake.public, Workload::purchases(ITEM, 21), 200);
    (config.timeout, config.ride_out) = (Duration::from_secs(2), Duration::from_millis(200));
    change(&mut config);
    let before = baselines(&fake, Items::one(ITEM));
    let mut outcome = run(&config).unwrap();
    outcome.history.as_mut().unwrap().baselines.extend(before);
    let [verdict, _] = verdicts(&fake, &config, &outcome, stock);
    (outcome, verdict)
}

/// The rate limit comes before the key is looked up.
#[test]
fn a_rate_after_an_order_contradicts_nothing() {
    let setup = Setup { stock: 100, limit_every: 3, ..Setup::default() };
    let (outcome, verdict) = sale(setup, |config| config.workload.repeat = 0.4);
    assert!(outcome.tally.count(Code::RateLimited) > 20 && outcome.tally.count(Code::Replayed) > 5);
    assert!(verdict.is_fine(), "{verdict}");
}

/// The server dies after a 202, before anybody requests the order.
#[test]
fn a_purchase_that_was_accepted_was_sent() {
    let setup = Setup { stock: 100, is_asynchronous: true, fault: Fault::DieAfter(20), ..Setup::default() };
    let (outcome, verdict) = sale(setup, |config| {
        config.workload.flow = Flow::Whole;
        (config.pipeline, config.connections) = (8, 1);
    });
    assert_eq!(names(&verdict), "", "{verdict}");
    assert!(outcome.history.unwrap().entries().iter().any(|entry| entry.code == Code::TimedOut));
}

/// A block falls on buyers who have their orders.
#[test]
fn a_block_after_an_order_contradicts_nothing() {
    let setup = Setup { stock: 100, block_after: 60, ..Setup::default() };
    let (outcome, verdict) = sale(setup, |config| config.workload.repeat = 0.5);
    assert!(outcome.tally.count(Code::NotEligible) > 5);
    assert!(verdict.is_fine(), "{verdict}");
}

/// A page that says "sold out" says nothing about a key.
#[test]
fn a_sold_out_page_does_not_answer_a_retry() {
    let (outcome, verdict) = sale(Setup { stock: 20, ..Setup::default() }, |config| {
        (config.workload.flow, config.workload.repeat) = (Flow::Whole, 0.5);
    });
    assert!(outcome.tally.count(Code::SoldOut) > 20);
    assert!(verdict.is_fine(), "{verdict}");
}

/// What was read is decided, also when the client has gone; a retry may be refused before that.
#[test]
fn a_request_that_is_decided_late_is_no_phantom() {
    let setup = Setup { stock: 500, fault: Fault::LateEvery(3), limit_every: 2, ..Setup::default() };
    let (_, verdict) = sale(setup, |config| config.keep_alive = false);
    assert_eq!(names(&verdict), "", "{verdict}");
}

/// Servers differ in whether they keep orders for retries after the end; the verdict says that this was not checked.
#[test]
fn a_retry_after_the_window_is_inconclusive() {
    let setup = Setup { stock: 1_000, open_ms: 150, ..Setup::default() };
    let (_, verdict) = sale(setup, |config| {
        config.workload.repeat = 0.5;
        config.mode = Mode::open(500.0);
    });
    assert_eq!((names(&verdict).as_str(), verdict.ruling()), ("", Ruling::Inconclusive), "{verdict}");
    assert!(verdict.to_string().starts_with("inconclusive, "), "{verdict}");
    assert!(verdict.to_string().contains("turned away for the window"), "{verdict}");
}

/// A cancelled order of an earlier run does not excuse what this run was told.
#[test]
fn an_earlier_run_excuses_nothing() {
    let fake = Fake::with(Setup { stock: 20, fault: Fault::Undersell, ..Setup::default() });
    let fates = Fates { cancel: 1.0, ..Fates::default() };
    let earlier = Workload { fates, ..Workload::purchases(ITEM, 1) };
    run(&RunConfig::closed(fake.public, earlier, 3)).unwrap();
    assert_eq!(fake.count("cancelled"), 3);
    let config = RunConfig::closed(fake.public, Workload::purchases(ITEM, 2), 60);
    let before = baselines(&fake, Items::one(ITEM));
    let mut outcome = run(&config).unwrap();
    outcome.history.as_mut().unwrap().baselines.extend(before);
    let [verdict, _] = verdicts(&fake, &config, &outcome, 20);
    assert_eq!(names(&verdict), "undersold", "{verdict}");
}

/// Units that came back during the run may be what is left; more than these were there all the time.
#[test]
fn what_came_back_excuses_as_much_and_no_more() {
    let cancelled = |stock: u64, fault| {
        let setup = Setup { stock, fault, ..Setup::default() };
        sale(setup, |config| config.workload.fates.cancel = 0.1).1
    };
    let verdict = cancelled(100, Fault::None);
    assert_eq!(names(&verdict), "", "{verdict}");
    let closed_shop = sale(Setup { stock: 60, fault: Fault::SellOnly(5), ..Setup::default() }, |config| {
        config.workload.fates.cancel = 0.3;
    });
    assert_eq!(names(&closed_shop.1), "undersold", "{}", closed_shop.1);
}

#[test]
fn orders_outside_the_window_are_named() {
    let early = Setup { opens_in_ms: 600_000, fault: Fault::IgnoreWindow, ..Setup::default() };
    let late = Setup { open_ms: 0, fault: Fault::IgnoreWindow, ..Setup::default() };
    for setup in [early, late] {
        let (_, verdict) = sale(setup, |_| {});
        assert_eq!(names(&verdict), "outside_window", "{verdict}");
    }
}

/// Nobody got in: that is a failure, and no proof of anything.
#[test]
fn a_run_in_which_nobody_got_in_is_not_fine() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    for (status, code) in [
        (401, "unauthenticated"),
        (429, "rate_limited"),
        (404, "not_found"),
        (403, "not_open"),
        (403, "ended"),
        (409, "paused"),
        (403, "ticket_required"),
        (403, "not_eligible"),
        (400, "bad_json"),
        (418, "a_code_of_its_own"),
        (503, "overloaded"),
    ] {
        let fake = Fake::with(Setup { fault: Fault::TurnAway(status, code), ..Setup::default() });
        for with_merchant in [true, false] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_stampede-loadgen"));
            command.args(["run", &format!("http://{}", fake.public)]);
            command.args("--item 1 --closed -n 50 -c 4 --ride-out 50ms".split(' '));
            if with_merchant {
                command.args(["--admin", &fake.admin, "--admin-token-file"]).arg(&token);
            }
            let output = command.output().unwrap();
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(1), "{code} said {text}");
            assert!(text.contains("NOTHING LET IN"), "{code} said {text}");
        }
    }
}
