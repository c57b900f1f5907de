//! A buyer's whole flow, and what winners do afterwards, against a server that insists on each step.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use stampede_loadgen::check::{Verdict, Violation};
use stampede_loadgen::engine::{Mode, Outcome, RunConfig, Schedule, ShopSide, Step, run};
use stampede_loadgen::meaning::{Class, Code};
use stampede_loadgen::request::Shop;
use stampede_loadgen::verify::{Merchant, VerifyConfig, verify};
use stampede_loadgen::workload::{Auth, Fate, Fates, Flow, Workload};

use crate::fake::{Fake, Fault, ITEM, Setup, TOKEN};

const SEED: u64 = 77;

fn whole_flow() -> Workload {
    Workload { flow: Flow::Whole, ..Workload::purchases(ITEM, SEED) }
}

fn config(fake: &Fake, workload: Workload, requests: u64) -> RunConfig {
    let host = fake.admin.replace("http://", "");
    let shop = Shop { host: host.clone(), token: TOKEN.to_owned() };
    let mut config = RunConfig::closed(fake.public, workload, requests);
    config.shop = Some(ShopSide { addr: host.parse().unwrap(), shop });
    config
}

/// The verdict with the merchant's data, and the names of what is broken.
fn verify_all(fake: &Fake, outcome: &Outcome) -> (Verdict, String) {
    let merchant = Merchant::new(&fake.admin, TOKEN);
    let history = outcome.history.as_ref();
    let verdict = verify(&VerifyConfig { history, ..VerifyConfig::of_merchant(&merchant, ITEM) }).unwrap();
    let mut names: Vec<_> = verdict.violations.iter().map(Violation::name).collect();
    names.dedup();
    let names = names.join(" ");
    eprintln!("seed {SEED}: {verdict}");
    (verdict, names)
}

fn step(outcome: &Outcome, step: Step, code: Code) -> u64 {
    outcome.tally.step(step).by_code[code as usize]
}

#[test]
fn a_ticket_that_needs_a_proof_of_work_is_won_step_by_step() {
    let tokens = Workload { auth: Auth::Jwt { key: vec![3; 32], kid: None }, ..whole_flow() };
    for workload in [whole_flow(), tokens] {
        let fake = Fake::with(Setup { stock: 20, ticket: true, pow_bits: Some(6), ..Setup::default() });
        let outcome = run(&config(&fake, workload, 60)).unwrap();
        let tally = &outcome.tally;
        assert_eq!((tally.count(Code::Won), tally.count(Code::SoldOut), tally.total()), (20, 40, 60));
        assert_eq!(step(&outcome, Step::State, Code::Ok) + step(&outcome, Step::State, Code::SoldOut), 60);
        let tickets = step(&outcome, Step::Ticket, Code::Ok);
        assert!(tickets >= 20 && step(&outcome, Step::Challenge, Code::Ok) == tickets, "{tickets}");
        assert_eq!(verify_all(&fake, &outcome).1, "");
    }
}

/// A buyer who skips a step is refused, once for each purchase.
#[test]
fn a_purchase_alone_is_refused_where_a_ticket_is_needed() {
    let fake = Fake::with(Setup { ticket: true, ..Setup::default() });
    let outcome = run(&config(&fake, Workload::purchases(ITEM, SEED), 30)).unwrap();
    assert_eq!((outcome.tally.count(Code::TicketRequired), fake.orders()), (30, 0));
}

#[test]
fn an_order_that_is_accepted_first_is_waited_for() {
    let fake = Fake::with(Setup { stock: 20, is_asynchronous: true, ..Setup::default() });
    let outcome = run(&config(&fake, whole_flow(), 50)).unwrap();
    assert_eq!((outcome.tally.count(Code::Won), outcome.tally.total()), (20, 50));
    assert_eq!((step(&outcome, Step::Wait, Code::Won), fake.count("confirmed")), (20, 20));
    assert_eq!(verify_all(&fake, &outcome).1, "");
}

#[test]
fn who_comes_early_waits_for_the_opening_or_is_refused() {
    let early = Setup { stock: 30, opens_in_ms: 700, ..Setup::default() };
    let fake = Fake::with(early.clone());
    let outcome = run(&config(&fake, whole_flow(), 30)).unwrap();
    assert_eq!((outcome.tally.count(Code::Won), outcome.tally.count(Code::NotOpen)), (30, 0));
    assert_eq!(verify_all(&fake, &outcome).1, "");

    let fake = Fake::with(early);
    let mut impatient = config(&fake, Workload::purchases(ITEM, SEED), 1);
    impatient.mode = Mode::Open(Schedule::constant(100.0));
    (impatient.requests, impatient.duration) = (None, Some(Duration::from_millis(1_400)));
    let outcome = run(&impatient).unwrap();
    let (early, won) = (outcome.tally.count(Code::NotOpen), outcome.tally.count(Code::Won));
    assert!(early > 10 && won > 10, "{early} came early, {won} won");
}

/// The shares of those who pay, pay late, cancel and forget follow from the seed, one by one.
#[test]
fn winners_pay_pay_late_cancel_or_forget() {
    const BUYERS: u64 = 60;
    let hold = Setup { stock: 100, payment: "hold", hold_ms: 400, ..Setup::default() };
    let fake = Fake::with(hold);
    let fates = Fates { pay: 0.4, pay_late: 0.2, cancel: 0.2 };
    let workload = Workload { fates, ..Workload::purchases(ITEM, SEED) };
    let config = config(&fake, workload, BUYERS);
    let outcome = run(&config).unwrap();
    let expected =
        |fate: Fate| (0..BUYERS as u32).filter(|&buyer| fates.of(SEED, buyer) == fate).count() as u64;
    let [pay, late, cancel, keep] = [Fate::Pay, Fate::PayLate, Fate::Cancel, Fate::Keep].map(expected);
    assert_eq!(outcome.tally.count(Code::Won), BUYERS);
    assert_eq!((fake.count("paid") as u64, fake.count("cancelled") as u64), (pay, cancel));
    assert_eq!(
        (step(&outcome, Step::Pay, Code::Ok), step(&outcome, Step::Pay, Code::HoldExpired)),
        (pay, late)
    );
    assert_eq!(step(&outcome, Step::Cancel, Code::Ok), cancel);
    assert!(late > 3 && keep > 3, "{late} late, {keep} keep");
    // Everybody had longer than the hold by then: late payers wait a second beyond it.
    let (_, names) = verify_all(&fake, &outcome);
    assert_eq!((names.as_str(), fake.count("expired") as u64), ("", late + keep));
    // Clients alone do not take sums of acks for units that went out.
    let history = outcome.history.as_ref().unwrap();
    let seen =
        verify(&VerifyConfig { stock: Some(10), ..VerifyConfig::of_clients(&config, history) }).unwrap();
    assert!(seen.is_fine() && seen.to_string().contains("orders may have given units back"), "{seen}");
}

/// Ctrl-C while buyers wait for the end of their holds: nobody pays any more, and the run ends.
#[test]
fn who_would_come_later_is_not_waited_for() {
    const BUYERS: u64 = 5;
    let fake = Fake::with(Setup { stock: 100, payment: "hold", hold_ms: 15_000, ..Setup::default() });
    let fates = Fates { pay_late: 1.0, ..Fates::default() };
    let mut config = config(&fake, Workload { fates, ..Workload::purchases(ITEM, SEED) }, BUYERS);
    // Longer than the holds: the end of the patience would not be what ends the run.
    (config.timeout, config.ride_out) = (Duration::from_secs(60), Duration::from_secs(60));
    let outcome = thread::scope(|scope| {
        let running = scope.spawn(|| run(&config).unwrap());
        let deadline = Instant::now() + Duration::from_secs(10);
        while (fake.orders() as u64) < BUYERS && Instant::now() < deadline {
            thread::yield_now();
        }
        config.stop.store(true, Ordering::Relaxed);
        running.join().unwrap()
    });
    assert!(outcome.interrupted);
    assert_eq!((outcome.tally.count(Code::Won), step(&outcome, Step::Pay, Code::Unsent)), (BUYERS, BUYERS));
    assert_eq!(outcome.tally.step(Step::Pay).total(), BUYERS);
}

/// Late payers of units that were sold again: refused, or the verifier says oversold.
#[test]
fn a_unit_that_came_back_is_sold_once() {
    for (fault, expected) in [(Fault::None, ""), (Fault::SellExpiredHolds, "oversold")] {
        let hold = Setup { stock: 5, payment: "hold", hold_ms: 150, fault, ..Setup::default() };
        let fake = Fake::with(hold);
        let fates = Fates { pay_late: 1.0, ..Fates::default() };
        let mut config = config(&fake, Workload { fates, ..Workload::purchases(ITEM, SEED) }, 1);
        config.mode = Mode::Open(Schedule::constant(100.0));
        (config.requests, config.duration) = (None, Some(Duration::from_millis(1_500)));
        let outcome = run(&config).unwrap();
        assert!(outcome.tally.count(Code::Won) > 10, "units did not come back");
        let paid = step(&outcome, Step::Pay, Code::Ok);
        assert_eq!(paid > 0, fault == Fault::SellExpiredHolds, "{paid} paid");
        assert_eq!(verify_all(&fake, &outcome).1, expected, "{fault:?}");
    }
}

#[test]
fn stock_that_is_taken_at_the_payment_may_be_gone_by_then() {
    let fake = Fake::with(Setup { stock: 10, payment: "on_payment", ..Setup::default() });
    let fates = Fates { pay: 1.0, ..Fates::default() };
    let outcome = run(&config(&fake, Workload { fates, ..Workload::purchases(ITEM, SEED) }, 40)).unwrap();
    // Orders that came before the tenth payment are pending; later ones are refused at once.
    let pending = fake.count("pending") as u64;
    assert_eq!((fake.count("paid"), pending + outcome.tally.count(Code::SoldOut)), (10, 30));
    assert_eq!(
        (step(&outcome, Step::Pay, Code::Ok), step(&outcome, Step::Pay, Code::SoldOut)),
        (10, pending)
    );
    assert_eq!(verify_all(&fake, &outcome).1, "");
}

#[test]
fn levels_decide_who_may_take_part() {
    let fake = Fake::with(Setup { stock: 1_000, min_level: 5, ..Setup::default() });
    let workload = Workload { levels: Some(10), ..Workload::purchases(ITEM, SEED) };
    let names = workload.names();
    let outcome = run(&config(&fake, workload, 200)).unwrap();
    let able = (0..200).filter(|&purchase| names.level(purchase, 10) >= 5).count() as u64;
    let (won, refused) = (outcome.tally.count(Code::Won), outcome.tally.count(Code::NotEligible));
    assert_eq!((won, refused), (able, 200 - able));
}

#[test]
fn double_clicks_buy_once_and_onlookers_are_counted_apart() {
    for (fault, is_fine) in [(Fault::None, true), (Fault::ForgetKeys, false)] {
        let fake = Fake::with(Setup { stock: 1_000, fault, ..Setup::default() });
        let workload = Workload { double_click: 0.5, browse: 0.5, ..Workload::purchases(ITEM, SEED) };
        let outcome = run(&config(&fake, workload, 200)).unwrap();
        let (verdict, names) = verify_all(&fake, &outcome);
        assert_eq!(verdict.is_fine(), is_fine, "{names}");
        let looks = outcome.tally.step(Step::Browse).class_count(Class::Winner);
        assert!((50..150).contains(&looks), "{looks} pages were read");
        if is_fine {
            let distinct = outcome.history.as_ref().unwrap().orders_acked() as u64;
            let replays = outcome.tally.count(Code::Replayed);
            assert!(
                replays > 30 && distinct == outcome.tally.count(Code::Won),
                "{replays} replays, {distinct} orders"
            );
            assert_eq!(fake.orders() as u64, distinct);
        }
    }
}
