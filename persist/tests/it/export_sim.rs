//! The exporter over the simulated database: what no real server can be made to do on cue.
//! Every death, every lost answer, at every call of a transaction; then the rows must be
//! what the facts come to, once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stampede_core::fact::{ACTOR_POSTGRES, Fact, Switch};
use stampede_core::item::OrderState;
use stampede_core::types::UnixMillis;
use stampede_persist::export::{Alarm, ExportStatus, Exporter, ExporterOptions, Nonce, Step};

use stampede_persist::export::limits::{FENCE_PERIOD, SWEEP_PERIOD};

use crate::export_bed::{FakeEngine, LOG, Rows, created, created_by, item, model, moved, order, sales};
use crate::sim_database::{Call, Fault, PaymentLine, Refusal, Rule, SimDatabase, StockLine, Tables, at_nth};

pub(crate) fn exporter(engine: &FakeEngine, database: &SimDatabase, process: u128) -> Exporter<SimDatabase> {
    exporter_with(engine, database, process, |_| {})
}

pub(crate) fn exporter_with(
    engine: &FakeEngine,
    database: &SimDatabase,
    process: u128,
    change: impl FnOnce(&mut ExporterOptions<SimDatabase>),
) -> Exporter<SimDatabase> {
    let mut options = ExporterOptions::over(database.clone(), LOG, Nonce::new(process));
    change(&mut options);
    engine.0.lock().expect("lock").exported = Default::default();
    Exporter::over(options, Box::new(engine.clone()), Arc::new(ExportStatus::default()))
}

/// Steps, letting time pass where the exporter waits, until everything is exported and the
/// last look found nothing.
#[track_caller]
pub(crate) fn drain(exporter: &mut Exporter<SimDatabase>, engine: &FakeEngine, database: &SimDatabase) {
    for _ in 0..10_000 {
        match exporter.step() {
            Step::Idle if engine.exported() == engine.durable() => return,
            Step::Idle => database.advance(Duration::from_millis(10)),
            Step::Wait(wait) => database.advance(wait),
            Step::Exported(_) | Step::Again => {}
            Step::Stopped => panic!("stopped: {}", engine.said()),
        }
    }
    panic!("not drained: {}", engine.said());
}

#[track_caller]
pub(crate) fn until_stopped(exporter: &mut Exporter<SimDatabase>, database: &SimDatabase) {
    for _ in 0..100 {
        if exporter.step() == Step::Stopped {
            return;
        }
        database.advance(Duration::from_secs(1));
    }
    panic!("it goes on");
}

/// Steps until the planned fault has come about, or everything is exported without.
#[track_caller]
fn until_fault(exporter: &mut Exporter<SimDatabase>, engine: &FakeEngine, database: &SimDatabase) {
    for _ in 0..1_000 {
        if !database.counts().injected().is_empty() || engine.exported() == engine.durable() {
            return;
        }
        if let Step::Wait(wait) = exporter.step() {
            database.advance(wait);
        }
    }
    panic!("neither the fault nor the end: {}", engine.said());
}

/// The rows in the form of the model.
pub(crate) fn rows(tables: &Tables) -> Rows {
    let mut rows = Rows::default();
    for (id, line) in &tables.stock {
        let piles = line.row.piles;
        rows.stock.insert(*id, (piles.count, piles.held, piles.sale));
    }
    for (id, line) in &tables.orders {
        let row = line.record.clone();
        let money = (row.price_minor, row.currency, row.refund_ref, row.refunded, line.end_time_ms);
        let line = (row.quantity, row.state, row.buyer, row.payment_ref, row.idem_key, row.pay_by_ms, money);
        rows.orders.insert(*id, line);
    }
    rows.blocked = tables.blocked.keys().cloned().collect();
    for ((order, lsn), line) in &tables.payments {
        let PaymentLine { kind, payment_ref, refund_ref, quantity, create_time_ms, .. } = line.clone();
        rows.payments.insert(*lsn, (*order, kind, payment_ref, refund_ref, quantity, create_time_ms));
    }
    rows
}

#[track_caller]
pub(crate) fn assert_exported(engine: &FakeEngine, database: &SimDatabase) {
    assert_eq!(rows(&database.tables()), model(&engine.facts()));
    assert_eq!(database.cursor(LOG), Some(engine.durable()));
}

#[test]
fn a_trace_is_exported() {
    let (engine, database) = (FakeEngine::with(crate::export_bed::trace(3, 3_000)), SimDatabase::new(1));
    let mut exporter = exporter(&engine, &database, 1);
    drain(&mut exporter, &engine, &database);
    assert_exported(&engine, &database);
}

/// What a faultless run and one with a fault are compared by.
#[derive(PartialEq, Debug)]
struct Outcome {
    tables: Tables,
    asked: Vec<(u32, i64)>,
    pauses: Vec<u32>,
    alarms: Vec<Alarm>,
}

/// A database on which a batch waits that has something of every kind to do, for the rows of
/// items that somebody else has been at.
fn bed() -> (FakeEngine, SimDatabase) {
    let (engine, database) = (FakeEngine::default(), SimDatabase::new(1));
    engine.append((1..=6).map(|id| created(id, 100)));
    engine.append((1..=6).flat_map(|id| sales(id, 1, 5)));
    engine.append([blocked("late", true)]);
    let mut before = exporter(&engine, &database, 1);
    drain(&mut before, &engine, &database);
    assert_exported(&engine, &database);
    // 1 restocked by hand, 2 deleted, 3 locked, 4 tampered with, 5 without books, 6 refused.
    database.edit_stock(1, |line| line.row.piles.count += 7);
    database.delete_stock(2);
    database.lock_stock(3, true);
    database.edit_stock(4, |line| line.row.piles.sale += 1);
    database.delete_books(5);
    database.refuse(refusal("six", Rule::CountUpTo { id: 6, count: 94 }));
    // 7 is there before it is created, 8 comes from Postgres; one order is there, one gone.
    database.insert_stock(7, StockLine::new("theirs", 3));
    database.insert_stock(8, StockLine::new("shop's", 50));
    let order_one = order(1, 1).get() as i64;
    let mut foreign = database.orders()[&order_one].clone();
    foreign.record.id = order(1, 6).get() as i64;
    database.insert_order(foreign);
    database.delete_order(order(2, 2).get() as i64);
    database.refuse(refusal("him", Rule::Buyer("buyer-4-6".to_owned())));
    engine.append([created(7, 40), created(9, 10), created_by(8, 50, ACTOR_POSTGRES)]);
    engine.append((1..=9).flat_map(|id| sales(id, 6, 2)));
    engine.append([
        moved(order(1, 1), 1, OrderState::Confirmed, OrderState::Paid),
        moved(order(2, 2), 1, OrderState::Confirmed, OrderState::Cancelled),
        moved(order(3, 6), 1, OrderState::Confirmed, OrderState::Cancelled),
        blocked("late", false),
        blocked("rude", true),
        Fact::ItemSwitched {
            at_ms: UnixMillis(1),
            item: item(9),
            switch: Switch::Paused,
            actor: "merchant",
            key: b"",
        },
    ]);
    (engine, database)
}

fn refusal(name: &str, rule: Rule) -> Refusal {
    Refusal { name: name.to_owned(), rule, deferred: false }
}

fn blocked(buyer: &'static str, blocked: bool) -> Fact<'static> {
    Fact::BuyerBlocked { at_ms: UnixMillis(1), subject: buyer.as_bytes(), blocked, actor: "merchant" }
}

/// Until whatever was put off has had its turn.
#[track_caller]
fn come_to_rest(exporter: &mut Exporter<SimDatabase>, engine: &FakeEngine, database: &SimDatabase) {
    for _ in 0..15 {
        drain(exporter, engine, database);
        database.advance(Duration::from_secs(10));
    }
    drain(exporter, engine, database);
}

fn outcome(engine: &FakeEngine, database: &SimDatabase) -> Outcome {
    let mut alarms = engine.alarms();
    alarms.retain(|alarm| !matches!(alarm, Alarm::Unreachable { .. } | Alarm::Stalled { .. }));
    Outcome { tables: database.tables(), asked: engine.asked(), pauses: engine.pauses(), alarms }
}

/// One run of the batch. The fault comes at the n-th call, counted from the first attach of
/// the second process on; `dies` says whether that process dies of it.
#[track_caller]
fn run(n: u64, fault: Option<Fault>, dies: bool) -> (Outcome, u64) {
    let (engine, database) = bed();
    let mut machine = exporter(&engine, &database, 2);
    database.set_plan(Some(Box::new(move |_, call| fault.filter(|_| call == n))));
    let facts = engine.durable();
    until_fault(&mut machine, &engine, &database);
    let calls = database.calls();
    assert_eq!(database.counts().injected().is_empty(), fault.is_none(), "{fault:?} at call {n}");
    if dies {
        machine = exporter(&engine, &database, 3);
    }
    drain(&mut machine, &engine, &database);
    database.refuse_no_more();
    database.lock_stock(3, false);
    come_to_rest(&mut machine, &engine, &database);
    assert_eq!(database.cursor(LOG), Some(facts));
    (outcome(&engine, &database), calls)
}

#[test]
fn the_batch_of_all_kinds_does_all_kinds_of_things() {
    let (outcome, calls) = run(0, None, false);
    assert!(calls > 40, "{calls} calls");
    assert_eq!((outcome.asked, outcome.pauses), (vec![(1, 7)], vec![5, 1, 2, 4, 7]));
    let (engine, _) = bed();
    let (rows, mut model) = (rows(&outcome.tables), model(&engine.facts()));
    // Refused for its own sake; deleted by somebody else, and so is its move.
    for lost in [order(4, 6), order(2, 2)] {
        assert!(model.orders.remove(&(lost.get() as i64)).is_some());
    }
    model.stock.get_mut(&1).expect("item 1").0 += 7;
    // Somebody else's rows stand.
    let foreign = order(1, 6).get() as i64;
    model.orders.insert(foreign, model.orders[&(order(1, 1).get() as i64)].clone());
    model.orders.get_mut(&foreign).expect("just inserted").1 = "confirmed".to_owned();
    model.orders.get_mut(&foreign).expect("just inserted").3.clear();
    model.stock.insert(7, (3, 0, 0));
    assert_eq!(rows, model);
    let kinds: Vec<&str> = outcome.tables.set_aside.iter().map(|line| line.1.as_str()).collect();
    assert_eq!(kinds, ["order", "order", "order_move", "stock", "stock"]);
}

#[test]
fn it_comes_out_the_same_whatever_call_fails() {
    let (right, calls) = run(0, None, false);
    for fault in Fault::ALL {
        for n in 1..=calls {
            let (found, _) = run(n, Some(fault), false);
            if fault == Fault::LockedOut {
                // Rows that were put off are written once less, or once more.
                assert_eq!(rows(&found.tables), rows(&right.tables), "{fault:?} at call {n}");
                continue;
            }
            assert_eq!(found, right, "{fault:?} at call {n}");
        }
    }
}

#[test]
fn it_comes_out_the_same_whatever_call_the_process_dies_at() {
    let (right, calls) = run(0, None, false);
    for fault in [Fault::Dies, Fault::DiesAfter] {
        for n in 1..=calls {
            let (mut found, _) = run(n, Some(fault), true);
            // One process more has been at work.
            let cursors = found.tables.cursors.values_mut().zip(right.tables.cursors.values());
            cursors.for_each(|(row, right)| (row.epoch, row.nonce) = (right.epoch, right.nonce));
            assert_eq!(found.tables, right.tables, "{fault:?} at call {n}");
            let asked: BTreeSet<_> = found.asked.iter().collect();
            assert_eq!(asked, right.asked.iter().collect(), "{fault:?} at call {n}");
            let pauses: BTreeSet<_> = found.pauses.iter().collect();
            assert_eq!(pauses, right.pauses.iter().collect(), "{fault:?} at call {n}");
        }
    }
}

#[test]
fn an_answer_to_commit_that_is_lost_is_found_out() {
    for (fault, committed) in
        [(Fault::Dies, false), (Fault::DiesAfter, true), (Fault::Stalls, false), (Fault::StallsAfter, true)]
    {
        let (engine, database) = (FakeEngine::with([created(1, 100)]), SimDatabase::new(1));
        let mut machine = exporter(&engine, &database, 1);
        drain(&mut machine, &engine, &database);
        engine.append(sales(1, 1, 10));
        database.set_plan(Some(at_nth(Call::Commit, 1, fault)));
        until_fault(&mut machine, &engine, &database);
        let orders = database.orders().len();
        assert_eq!((orders == 10, orders == 0), (committed, !committed), "{fault:?}");
        assert_eq!(engine.exported().0, 1, "not told before it is known");
        drain(&mut machine, &engine, &database);
        assert_exported(&engine, &database);
        // Once: a second time would have moved the version on.
        assert_eq!(database.stock()[&1].row.version, 2, "{fault:?}");
        assert_eq!((machine.status().batches(), machine.status().facts()), (2, 11));
    }
}

/// A database that answers and takes nothing is told of like one that is away: once, and again when it
/// was over in between.
#[test]
fn an_export_that_makes_no_progress_raises_an_alarm() {
    let stalls = |engine: &FakeEngine| {
        engine.alarms().iter().filter(|alarm| matches!(alarm, Alarm::Stalled { .. })).count()
    };
    for fault in [Fault::Complains, Fault::Conflicts, Fault::Dies, Fault::Stalls] {
        let (engine, database) = (FakeEngine::with([created(1, 100)]), SimDatabase::new(1));
        let mut machine = exporter(&engine, &database, 1);
        drain(&mut machine, &engine, &database);
        // Long idle: nothing waits, so nothing stands still.
        database.advance(Duration::from_secs(3_600));
        drain(&mut machine, &engine, &database);
        assert_eq!((stalls(&engine), machine.status().stalled_for()), (0, None), "{fault:?}");
        for round in 1..=2 {
            engine.append(sales(1, round * 10, 3));
            database.set_plan(Some(Box::new(move |call, _| (call == Call::InsertOrders).then_some(fault))));
            let begin = database.elapsed();
            while database.elapsed() - begin < Duration::from_secs(300) {
                match machine.step() {
                    Step::Wait(wait) => database.advance(wait),
                    Step::Stopped => panic!("{fault:?}: {}", engine.said()),
                    _ => database.advance(Duration::from_millis(10)),
                }
            }
            assert_eq!(stalls(&engine), round as usize, "{fault:?}, round {round}: {}", engine.said());
            assert!(engine.said().contains("3 facts are waiting: "), "{fault:?}: {}", engine.said());
            database.set_plan(None);
            drain(&mut machine, &engine, &database);
            assert_exported(&engine, &database);
        }
    }
}

#[test]
fn a_second_engine_fences_the_first() {
    let (engine, database) = (FakeEngine::with([created(1, 100)]), SimDatabase::new(1));
    let mut machine = exporter(&engine, &database, 1);
    drain(&mut machine, &engine, &database);
    database.take_over(LOG, Nonce::new(2));
    engine.append(sales(1, 1, 10));
    until_stopped(&mut machine, &database);
    assert!(engine.said().contains("another engine has taken over"), "{}", engine.said());
    assert!(database.orders().is_empty());
}

/// A sweep may have to wait for others' locks; whether another has taken over is seen all the same.
#[test]
fn a_second_engine_is_noticed_while_stock_rows_are_locked() {
    let (engine, database) = (FakeEngine::with([created(1, 100)]), SimDatabase::new(1));
    let mut machine = exporter(&engine, &database, 1);
    drain(&mut machine, &engine, &database);
    database.lock_stock_table(true);
    // The look that meets the lock puts stock rows off.
    database.advance(SWEEP_PERIOD);
    assert_eq!(machine.step(), Step::Idle);
    database.take_over(LOG, Nonce::new(2));
    database.advance(FENCE_PERIOD);
    machine.step();
    machine.step();
    assert_eq!(machine.step(), Step::Stopped, "{}", engine.said());
    assert!(engine.said().contains("another engine has taken over"), "{}", engine.said());
}

/// A stock row that cannot be mended is met again and again; the item is paused all the while.
#[test]
fn a_pause_that_stands_is_not_asked_for_again() {
    let (engine, database) = (FakeEngine::with([created(1, 100)]), SimDatabase::new(1));
    let mut machine = exporter(&engine, &database, 1);
    drain(&mut machine, &engine, &database);
    let edit = || assert!(database.edit_stock(1, |line| line.row.piles.sale += 1));
    edit();
    come_to_rest(&mut machine, &engine, &database);
    assert_eq!(engine.pauses(), vec![1]);
    engine.append([Fact::ItemSwitched {
        at_ms: UnixMillis(1),
        item: item(1),
        switch: Switch::Paused,
        actor: ACTOR_POSTGRES,
        key: b"",
    }]);
    come_to_rest(&mut machine, &engine, &database);
    edit();
    database.advance(Duration::from_secs(30));
    come_to_rest(&mut machine, &engine, &database);
    assert_eq!(engine.pauses(), vec![1]);
    // Once resumed, it is to stop again.
    engine.append([Fact::ItemSwitched {
        at_ms: UnixMillis(2),
        item: item(1),
        switch: Switch::Resumed,
        actor: "merchant",
        key: b"",
    }]);
    come_to_rest(&mut machine, &engine, &database);
    edit();
    database.advance(Duration::from_secs(30));
    come_to_rest(&mut machine, &engine, &database);
    assert_eq!(engine.pauses(), vec![1, 1]);
}

#[test]
fn void_units_raise_their_alarm_beside_a_refused_row_as_well() {
    for refused in [false, true] {
        let (engine, database) = (FakeEngine::with([created(1, 100)]), SimDatabase::new(1));
        let mut machine = exporter(&engine, &database, 1);
        drain(&mut machine, &engine, &database);
        // All 100 are withdrawn by hand while 30 of them are sold: 30 cannot be withdrawn.
        assert!(database.edit_stock(1, |line| line.row.piles.count = 0));
        if refused {
            database.refuse(refusal("him", Rule::Buyer("buyer-1-7".to_owned())));
        }
        engine.append(sales(1, 1, 30));
        drain(&mut machine, &engine, &database);
        let void = engine
            .said()
            .contains("withdrew 30 units that were sold already; that part of the withdrawal is void");
        assert!(void, "refused {refused}: {}", engine.said());
    }
}

#[test]
fn a_history_is_cheap_and_repeats() {
    let history = || {
        let (engine, database) = bed();
        database.set_plan(Some(Box::new(|_, call| {
            (call < 200 && call % 9 == 0).then_some(Fault::ALL[call as usize % 7])
        })));
        let mut machine = exporter(&engine, &database, 2);
        drain(&mut machine, &engine, &database);
        (database.counts(), database.elapsed(), outcome(&engine, &database))
    };
    let (first, second) = (history(), history());
    assert!(first.0.injected().len() > 5, "{:?}", first.0);
    assert_eq!((first.0, first.1), (second.0, second.1));
    assert_eq!(first.2, second.2);
}
