//! The batch that is read while the database works on the one in front of it: when it is read, how
//! much, and what becomes of it when the one in front fails at any call, is refused, or may be
//! committed. Over the simulated database, whose every call lets the exporter wait once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use stampede_core::fact::{Fact, Switch};
use stampede_core::item::OrderState;
use stampede_core::types::{Lsn, UnixMillis};
use stampede_persist::export::limits::COPY_ROWS_MIN;
use stampede_persist::export::{ExportStatus, Exporter, ExporterOptions, Nonce, Step};

use crate::export_bed::{Break, FakeEngine, LOG, created, item, model, moved, order, sales, trace};
use crate::export_sim::{assert_exported, drain, rows, until_stopped};
use crate::sim_database::{Call, Fault, Refusal, Rule, SimDatabase, at_nth};

/// Facts of one batch, in most tests here.
const FEW: usize = 8;

fn exporter(
    engine: &FakeEngine,
    database: &SimDatabase,
    process: u128,
    facts: usize,
) -> Exporter<SimDatabase> {
    let mut options = ExporterOptions::over(database.clone(), LOG, Nonce::new(process));
    options.facts_per_batch_max = facts;
    engine.0.lock().expect("lock").exported = Default::default();
    Exporter::over(options, Box::new(engine.clone()), Arc::new(ExportStatus::default()))
}

/// Five batches of [`FEW`], in which orders are placed, and moved by a later batch than theirs.
fn sale() -> Vec<Fact<'static>> {
    let mut facts = vec![created(1, 100), created(2, 100)];
    for seq in (1..=15).step_by(3) {
        facts.extend(sales(1, seq, 3));
        facts.extend(sales(2, seq, 3));
        let back = |id| moved(order(id, seq), 1, OrderState::Confirmed, OrderState::Cancelled);
        facts.extend([back(1), back(2)]);
    }
    facts.truncate(5 * FEW);
    facts
}

/// What was read, and what was exported, at each call.
type Seen = Arc<Mutex<Vec<(Call, Lsn, Lsn)>>>;

fn watch(engine: &FakeEngine, database: &SimDatabase) -> Seen {
    let seen = Seen::default();
    let (engine, noted) = (engine.clone(), Arc::clone(&seen));
    database.set_plan(Some(Box::new(move |call, _| {
        let shared = engine.0.lock().expect("lock");
        noted.lock().expect("lock").push((call, shared.read, shared.exported));
        None
    })));
    seen
}

#[test]
fn the_next_batch_is_read_while_the_database_works_on_this_one() {
    for facts in [FEW, COPY_ROWS_MIN] {
        let engine = FakeEngine::with([created(1, 1 << 20)]);
        engine.append(sales(1, 1, 4 * facts as u32 - 1));
        let database = SimDatabase::new(1);
        let seen = watch(&engine, &database);
        let mut machine = exporter(&engine, &database, 1, facts);
        drain(&mut machine, &engine, &database);
        assert_exported(&engine, &database);
        let seen = seen.lock().expect("lock");
        // The first two commits are those of the migration and of attaching.
        let commits: Vec<_> = seen.iter().filter(|(call, ..)| *call == Call::Commit).skip(2).collect();
        let facts = facts as u64;
        let due = |batch: u64| (Call::Commit, Lsn((4 * facts).min((batch + 2) * facts)), Lsn(batch * facts));
        assert_eq!(commits, (0..4).map(due).collect::<Vec<_>>().iter().collect::<Vec<_>>());
        // One batch ahead, no more.
        assert!(seen.iter().all(|(_, read, exported)| read.0 <= exported.0 + 2 * facts), "{seen:?}");
    }
}

/// One fault at the n-th call after the first attach; `dies`: the process does, too. How many
/// calls there were.
#[track_caller]
fn run(n: u64, fault: Option<Fault>, dies: bool) -> u64 {
    let (engine, database) = (FakeEngine::default(), SimDatabase::new(1));
    drain(&mut exporter(&engine, &database, 1, FEW), &engine, &database);
    engine.append(sale());
    let mut machine = exporter(&engine, &database, 2, FEW);
    database.set_plan(Some(Box::new(move |_, call| fault.filter(|_| call == n))));
    while database.counts().injected().is_empty() && engine.exported() < engine.durable() {
        if let Step::Wait(wait) = machine.step() {
            database.advance(wait);
        }
    }
    let calls = database.calls();
    assert_eq!(database.counts().injected().is_empty(), fault.is_none(), "{fault:?} at call {n}");
    // The sale goes on meanwhile.
    engine.append(sales(1, 100, 5));
    if dies {
        machine = exporter(&engine, &database, 3, FEW);
    }
    drain(&mut machine, &engine, &database);
    // Rows that were put off have their turn.
    for _ in 0..3 {
        database.advance(Duration::from_secs(10));
        drain(&mut machine, &engine, &database);
    }
    assert_exported(&engine, &database);
    calls
}

#[test]
fn whichever_call_fails_everything_is_exported_once() {
    let calls = run(0, None, false);
    assert!(calls > 30, "{calls} calls");
    for fault in Fault::ALL {
        for n in 1..=calls {
            run(n, Some(fault), false);
        }
    }
    for fault in [Fault::Dies, Fault::DiesAfter] {
        for n in 1..=calls {
            run(n, Some(fault), true);
        }
    }
}

#[test]
fn a_batch_that_may_be_committed_stays_as_it_is() {
    for fault in [Fault::Dies, Fault::DiesAfter, Fault::Stalls, Fault::StallsAfter] {
        let (engine, database) = (FakeEngine::with([created(1, 100)]), SimDatabase::new(1));
        let mut machine = exporter(&engine, &database, 1, FEW);
        drain(&mut machine, &engine, &database);
        engine.append(sales(1, 1, 3));
        database.set_plan(Some(at_nth(Call::Commit, 1, fault)));
        while database.counts().injected().is_empty() {
            machine.step();
        }
        // There would be room for these in it.
        engine.append(sales(1, 4, 3));
        drain(&mut machine, &engine, &database);
        assert_exported(&engine, &database);
        assert_eq!((machine.status().batches(), machine.status().facts()), (3, 7), "{fault:?}");
    }
}

#[test]
fn a_batch_behind_one_with_a_refused_row_is_not_harmed() {
    let (engine, database) = (FakeEngine::with(sale()), SimDatabase::new(1));
    let mut machine = exporter(&engine, &database, 1, FEW);
    assert_eq!(machine.step(), Step::Again, "attached");
    let refused =
        Refusal { name: "him".to_owned(), rule: Rule::Buyer("buyer-1-1".to_owned()), deferred: false };
    database.refuse(refused);
    drain(&mut machine, &engine, &database);
    let mut wanted = model(&engine.facts());
    assert!(wanted.orders.remove(&(order(1, 1).get() as i64)).is_some());
    assert_eq!(rows(&database.tables()), wanted);
    assert_eq!(machine.status().facts(), engine.durable().0);
}

#[test]
fn a_feed_that_breaks_while_it_reads_ahead_is_opened_anew() {
    let facts = sale();
    for lsn in 1..=facts.len() as u64 {
        let (engine, database) = (FakeEngine::with(facts.clone()), SimDatabase::new(1));
        engine.0.lock().expect("lock").breaks_at = Some((Lsn(lsn), Break::Once));
        let mut machine = exporter(&engine, &database, 1, FEW);
        drain(&mut machine, &engine, &database);
        assert!(engine.0.lock().expect("lock").breaks_at.is_none(), "LSN {lsn} was read");
        assert_exported(&engine, &database);
        assert_eq!(machine.status().facts(), engine.durable().0, "LSN {lsn}");
    }
}

#[test]
fn damage_ahead_stops_the_export_only_when_it_is_its_turn() {
    let (engine, database) = (FakeEngine::with(sale()), SimDatabase::new(1));
    engine.0.lock().expect("lock").breaks_at = Some((Lsn(2 * FEW as u64 + 3), Break::ForGood));
    let mut machine = exporter(&engine, &database, 1, FEW);
    let exported = Step::Exported(FEW);
    assert_eq!([machine.step(), machine.step(), machine.step()], [Step::Again, exported, exported]);
    assert_eq!(machine.status().last_error(), None, "what is in front is whole");
    until_stopped(&mut machine, &database);
    assert_eq!(database.cursor(LOG), Some(Lsn(2 * FEW as u64)));
    assert!(engine.said().contains("its checksum is wrong"), "{}", engine.said());
}

#[test]
fn rows_are_looked_at_although_a_batch_was_read_ahead() {
    let (engine, database) = (FakeEngine::with([created(1, 100), created(2, 100)]), SimDatabase::new(1));
    let mut machine = exporter(&engine, &database, 1, FEW);
    drain(&mut machine, &engine, &database);
    // Of the second item nothing is sold: only a sweep sees what was done to it.
    database.edit_stock(2, |line| line.row.piles.count += 7);
    engine.append(sales(1, 1, 6 * FEW as u32));
    database.advance(Duration::from_secs(60));
    while engine.exported().0 <= 3 * FEW as u64 {
        machine.step();
    }
    assert_eq!(engine.asked(), [(2, 7)], "before everything was exported");
    drain(&mut machine, &engine, &database);
    assert_eq!(database.cursor(LOG), Some(engine.durable()));
}

#[test]
fn a_trace_is_exported_in_batches_of_any_size() {
    for facts in [1, 2, 3, 5, 100, 1_500] {
        let (engine, database) = (FakeEngine::with(trace(5, 2_000)), SimDatabase::new(1));
        engine.append([Fact::ItemSwitched {
            at_ms: UnixMillis(1),
            item: item(1),
            switch: Switch::Paused,
            actor: "merchant",
            key: b"",
        }]);
        let mut machine = exporter(&engine, &database, 1, facts);
        drain(&mut machine, &engine, &database);
        assert_exported(&engine, &database);
        assert_eq!(machine.status().batches(), engine.durable().0.div_ceil(facts as u64));
    }
}
