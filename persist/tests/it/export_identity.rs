//! Whose database it is: two engines on copies of one directory never both write to it, and the one
//! whose history the database does not hold stays out (I12, I13).

use std::sync::Arc;

use stampede_core::types::Lsn;
use stampede_persist::export::limits::SWEEP_PERIOD;
use stampede_persist::export::{
    Alarm, AttachError, ExportEvent, ExportStatus, Exporter, ExporterOptions, Nonce, SCHEMA_VERSION, Step,
};

use crate::export_bed::{
    FakeEngine, LOG, assert_exported, client, cluster, created, drain, exporter_to, fresh_database, sales,
    step_until,
};
use crate::export_sim;
use crate::sim_database::{Backup, Call, Fault, SimDatabase, at_call, at_nth};

fn process(engine: &FakeEngine, database: &SimDatabase, drawn: u128) -> Exporter<SimDatabase> {
    let options = ExporterOptions::over(database.clone(), LOG, Nonce::new(drawn));
    engine.0.lock().expect("lock").exported = Lsn::ZERO;
    Exporter::over(options, Box::new(engine.clone()), Arc::new(ExportStatus::default()))
}

/// Why the exporter has stopped.
#[track_caller]
fn refusal(exporter: &mut Exporter<SimDatabase>, engine: &FakeEngine, database: &SimDatabase) -> AttachError {
    export_sim::until_stopped(exporter, database);
    match engine.events().pop() {
        Some(ExportEvent::Refused(error)) => error,
        other => panic!("stopped, and last said {other:?}"),
    }
}

/// Two engines on copies of one directory: both held the same 11 facts, then each sold for itself.
/// The second one's sales are in the database.
fn parted() -> (SimDatabase, FakeEngine, FakeEngine, Exporter<SimDatabase>) {
    let database = SimDatabase::new(1);
    let first = FakeEngine::with([created(1, 100)]);
    first.append(sales(1, 1, 10));
    let mut old = process(&first, &database, 1);
    export_sim::drain(&mut old, &first, &database);
    let second = FakeEngine::with(first.facts());
    let mut new = process(&second, &database, 2);
    export_sim::drain(&mut new, &second, &database);
    first.append(sales(1, 11, 3));
    second.append(sales(1, 11, 2));
    second.append(sales(1, 14, 4));
    export_sim::drain(&mut new, &second, &database);
    (database, first, second, old)
}

#[test]
fn of_two_engines_on_copies_only_the_later_one_writes() {
    let (database, first, second, mut old) = parted();
    let error = refusal(&mut old, &first, &database);
    assert_eq!(error, AttachError::Fenced { ours: 1, theirs: 2 });
    export_sim::assert_exported(&second, &database);
}

#[test]
fn an_engine_with_other_facts_is_refused_after_a_restart() {
    let (database, first, second, old) = parted();
    drop(old);
    // Its log goes far beyond the cursor: only the hash can tell.
    first.append(sales(1, 14, 30));
    let before = database.tables();
    for drawn in [3, 4] {
        let mut again = process(&first, &database, drawn);
        let error = refusal(&mut again, &first, &database);
        let AttachError::OtherHistory { cursor, ref theirs, ref ours } = error else { panic!("{error}") };
        assert_eq!(cursor, second.durable());
        assert_ne!(theirs, ours);
        assert!(error.to_string().contains("start the engine on that one's directory"), "{error}");
        assert_eq!(database.tables(), before, "a refusal changes nothing");
    }
    // The other one goes on, also in a new process.
    second.append(sales(1, 18, 2));
    let mut new = process(&second, &database, 5);
    export_sim::drain(&mut new, &second, &database);
    export_sim::assert_exported(&second, &database);
}

#[test]
fn a_copy_without_sales_may_take_over_but_an_older_one_not() {
    let (database, _, second, _) = parted();
    let equal = FakeEngine::with(second.facts());
    let mut machine = process(&equal, &database, 6);
    export_sim::drain(&mut machine, &equal, &database);
    let older = FakeEngine::with(second.facts().into_iter().take(15));
    let mut machine = process(&older, &database, 7);
    let error = refusal(&mut machine, &older, &database);
    assert_eq!(error, AttachError::Ahead { cursor: second.durable(), durable: Lsn(15) });
}

#[test]
fn an_idle_engine_notices_that_another_one_took_over() {
    let (engine, database) = (FakeEngine::with([created(1, 100)]), SimDatabase::new(1));
    let mut old = process(&engine, &database, 1);
    export_sim::drain(&mut old, &engine, &database);
    let copy = FakeEngine::with(engine.facts());
    export_sim::drain(&mut process(&copy, &database, 2), &copy, &database);
    // Two looks at most, and not one fact.
    for _ in 0..2 {
        database.advance(SWEEP_PERIOD);
        for _ in 0..3 {
            old.step();
        }
    }
    let last = engine.events().pop();
    assert_eq!(last, Some(ExportEvent::Refused(AttachError::Fenced { ours: 1, theirs: 2 })));
}

#[test]
fn a_lost_answer_to_an_attach_does_not_fence_its_own_process() {
    for fault in [Fault::Dies, Fault::DiesAfter, Fault::Stalls, Fault::StallsAfter] {
        let (engine, database) = (FakeEngine::with([created(1, 100)]), SimDatabase::new(1));
        export_sim::drain(&mut process(&engine, &database, 1), &engine, &database);
        engine.append(sales(1, 1, 5));
        let mut machine = process(&engine, &database, 2);
        database.set_plan(Some(at_nth(Call::Commit, 1, fault)));
        export_sim::drain(&mut machine, &engine, &database);
        export_sim::assert_exported(&engine, &database);
        let row = database.tables().cursors.into_values().next().expect("a cursor");
        assert_eq!((row.epoch, row.nonce), (2, Some(Nonce::new(2))), "{fault:?}");
    }
}

/// A log of some sales, and copies of its database from every stage: after the first process, after the
/// attach of the second one, after its first batch, and from before any.
fn stages() -> (FakeEngine, SimDatabase, Exporter<SimDatabase>, [Backup; 5]) {
    let (engine, database) = (FakeEngine::with([created(1, 100)]), SimDatabase::new(1));
    let mut before = process(&engine, &database, 1);
    assert_eq!(before.step(), Step::Again, "attached");
    let empty = database.back_up();
    export_sim::drain(&mut before, &engine, &database);
    engine.append(sales(1, 1, 10));
    let first = database.back_up();
    export_sim::drain(&mut process(&engine, &database, 2), &engine, &database);
    let second = database.back_up();
    engine.append(sales(1, 11, 5));
    let mut machine = process(&engine, &database, 3);
    assert_eq!(machine.step(), Step::Again, "attached");
    let attached = database.back_up();
    export_sim::drain(&mut machine, &engine, &database);
    engine.append(sales(1, 16, 4));
    let batch = database.back_up();
    export_sim::drain(&mut machine, &engine, &database);
    (engine, database, machine, [empty, first, second, attached, batch])
}

fn moves(engine: &FakeEngine) -> Vec<(Lsn, Lsn)> {
    let moved = |event: &ExportEvent| match event {
        ExportEvent::Moved { left, found } => Some((*left, *found)),
        _ => None,
    };
    engine.events().iter().filter_map(moved).collect()
}

#[test]
fn a_restored_database_is_caught_up_while_the_sale_goes_on() {
    let cursors = [0, 1, 11, 11, 16];
    for (stage, cursor) in cursors.into_iter().enumerate() {
        for sells in [false, true] {
            let (engine, database, mut machine, backups) = stages();
            let left = engine.durable();
            database.restore(&backups[stage]);
            if sells {
                engine.append(sales(1, 20, 3));
            }
            // One that sells nothing looks once a second.
            database.advance(SWEEP_PERIOD);
            let place = format!("stage {stage}, sells {sells}");
            for _ in 0..10_000 {
                match machine.step() {
                    Step::Wait(wait) => database.advance(wait),
                    Step::Stopped => panic!("{place}: {}", engine.said()),
                    Step::Idle if !moves(&engine).is_empty() => break,
                    _ => {}
                }
            }
            export_sim::drain(&mut machine, &engine, &database);
            export_sim::assert_exported(&engine, &database);
            assert_eq!(moves(&engine), [(left, Lsn(cursor))], "{place}");
            let alarms = engine.alarms();
            let told = alarms.iter().filter(|alarm| matches!(alarm, Alarm::Moved { .. })).count();
            assert_eq!(told, 1, "{place}: {alarms:?}");
            assert_eq!((machine.status().set_aside(), engine.pauses()), (0, vec![]), "{place}");
            // It is the one that may write, under a number that nobody was given before.
            let row = database.tables().cursors.into_values().next().expect("a cursor");
            assert_eq!(row.nonce, Some(Nonce::new(3)), "{place}");
            assert!(row.epoch == 3 || row.epoch > 3 && stage < 3, "{place}: epoch {}", row.epoch);
            // And it goes on, and back again.
            database.restore(&backups[stage]);
            engine.append(sales(1, 30, 2));
            export_sim::drain(&mut machine, &engine, &database);
            export_sim::assert_exported(&engine, &database);
        }
    }
}

/// A batch that may be committed, one that was read ahead, and a database that went back meanwhile.
#[test]
fn a_database_restored_at_any_call_of_a_batch_is_caught_up() {
    let mut calls = 0;
    for at in 1..100 {
        for fault in [Fault::Dies, Fault::DiesAfter] {
            let (engine, database, mut machine, backups) = stages();
            engine.append(sales(1, 20, 40));
            database.set_plan(Some(at_call(at, fault)));
            for _ in 0..20 {
                machine.step();
            }
            calls += usize::from(!database.counts().injected().is_empty());
            database.set_plan(None);
            database.restore(&backups[4]);
            engine.append(sales(1, 60, 1));
            export_sim::drain(&mut machine, &engine, &database);
            export_sim::assert_exported(&engine, &database);
        }
    }
    assert!(calls > 5, "{calls} calls");
}

#[test]
fn a_database_that_moved_forward_again_is_continued_there() {
    // The standby is given up, and the former primary comes back with all that it had.
    let (engine, database, mut machine, backups) = stages();
    let whole = database.back_up();
    database.restore(&backups[3]);
    engine.append(sales(1, 20, 1));
    for _ in 0..100 {
        if let Step::Wait(wait) = machine.step() {
            database.advance(wait);
        }
        if !moves(&engine).is_empty() {
            break;
        }
    }
    database.restore(&whole);
    engine.append(sales(1, 21, 1));
    export_sim::drain(&mut machine, &engine, &database);
    export_sim::assert_exported(&engine, &database);
    assert_eq!(moves(&engine), [(Lsn(20), Lsn(11)), (Lsn(11), Lsn(20))]);
}

#[test]
fn a_database_that_went_back_and_holds_other_facts_is_refused() {
    let (engine, database, mut machine, backups) = stages();
    database.restore(&backups[2]);
    assert!(database.edit_cursor(LOG, |row| row.chain = Some([9; 32])));
    engine.append(sales(1, 20, 1));
    let error = refusal(&mut machine, &engine, &database);
    assert!(matches!(error, AttachError::OtherHistory { cursor: Lsn(11), .. }), "{error}");
}

#[test]
fn a_database_older_than_the_log_reaches_is_refused() {
    let (engine, database, mut machine, backups) = stages();
    engine.0.lock().expect("lock").first = 13;
    database.restore(&backups[2]);
    let error = refusal(&mut machine, &engine, &database);
    assert_eq!(error, AttachError::Behind { cursor: Lsn(11), first_retained: Lsn(13) });
    // One LSN more, and nothing is missing.
    let (engine, database, mut machine, backups) = stages();
    engine.0.lock().expect("lock").first = 12;
    database.restore(&backups[2]);
    engine.append(sales(1, 20, 1));
    export_sim::drain(&mut machine, &engine, &database);
    export_sim::assert_exported(&engine, &database);
}

#[test]
fn a_restored_database_of_another_engine_is_left_to_it() {
    let cursors = 1..5;
    for stage in cursors {
        let (engine, database, mut machine, backups) = stages();
        database.restore(&backups[stage]);
        database.advance(SWEEP_PERIOD);
        database.take_over(LOG, Nonce::new(99));
        let before = database.tables();
        engine.append(sales(1, 20, 1));
        let error = refusal(&mut machine, &engine, &database);
        assert!(matches!(error, AttachError::Fenced { ours: 3, .. }), "stage {stage}: {error}");
        assert_eq!(database.tables(), before, "a refusal changes nothing");
    }
}

#[test]
fn a_moved_cursor_without_a_hash_is_refused_at_run_time() {
    for lsn in [3, 18] {
        let (engine, database, mut machine, _) = stages();
        assert!(database.edit_cursor(LOG, |row| (row.lsn, row.chain) = (Lsn(lsn), None)));
        let error = refusal(&mut machine, &engine, &database);
        assert_eq!(error, AttachError::CursorMoved { left: Lsn(20), found: Lsn(lsn) });
        assert!(error.to_string().contains("restart the engine"), "{error}");
    }
}

/// A restore takes its time, and what stands there meanwhile is not to be built upon.
#[test]
fn tables_that_are_gone_are_waited_for_and_not_made_again() {
    let (engine, database, mut machine, backups) = stages();
    let empty = SimDatabase::new(1).back_up();
    database.restore(&empty);
    engine.append(sales(1, 20, 1));
    for _ in 0..50 {
        match machine.step() {
            Step::Wait(wait) => database.advance(wait),
            Step::Stopped => panic!("{}", engine.said()),
            _ => {}
        }
    }
    assert_eq!(database.database(), None, "nothing was made");
    assert!(engine.said().contains("the database has no Stampede tables"), "{}", engine.said());
    database.restore(&backups[4]);
    export_sim::drain(&mut machine, &engine, &database);
    export_sim::assert_exported(&engine, &database);
}

#[test]
fn an_older_cursor_gets_its_hash_with_the_next_batch() {
    let (engine, database) = (FakeEngine::with([created(1, 100)]), SimDatabase::new(1));
    export_sim::drain(&mut process(&engine, &database, 1), &engine, &database);
    // Before there was a nonce and a hash, the epoch was the directory's own count of starts.
    assert!(database.edit_cursor(LOG, |row| (row.epoch, row.nonce, row.chain) = (17, None, None)));
    let mut machine = process(&engine, &database, 2);
    let row = |database: &SimDatabase| database.tables().cursors.into_values().next().expect("a cursor");
    export_sim::drain(&mut machine, &engine, &database);
    assert_eq!((row(&database).epoch, row(&database).chain), (18, None), "nothing to export yet");
    engine.append(sales(1, 1, 3));
    export_sim::drain(&mut machine, &engine, &database);
    assert_eq!(row(&database).chain, Some(engine.chain_at(Lsn(4))));
}

#[test]
fn tables_of_version_1_are_migrated_and_keep_their_cursor() {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let mut shop = client(&url);
    shop.batch_execute(include_str!("../../src/export/schema/0001.sql")).expect("version 1");
    let log = LOG.to_string();
    shop.batch_execute(&format!(
        "CREATE TABLE stampede_schema (one boolean PRIMARY KEY DEFAULT true CHECK (one), version integer NOT NULL,
             database_id text NOT NULL, migrated timestamptz NOT NULL DEFAULT now());
         INSERT INTO stampede_schema (version, database_id) VALUES (1, '{id}');
         INSERT INTO stampede_cursor (log_id, epoch, lsn) VALUES ('{log}', 9, 0);
         INSERT INTO stampede_set_aside (lsn, kind, what, reason) VALUES (1, 'order', 'id=7', 'of old')",
        id = "ab".repeat(16),
    ))
    .expect("rows of version 1");
    let engine = FakeEngine::with([created(1, 100)]);
    engine.append(sales(1, 1, 10));
    let mut machine = exporter_to(&engine, url.clone(), |_| {});
    drain(&mut machine, &engine);
    assert_exported(&engine, &url);
    let row = shop.query_one("SELECT epoch, nonce, chain FROM stampede_cursor", &[]).expect("the cursor");
    let (epoch, nonce, chain): (i64, String, String) = (row.get(0), row.get(1), row.get(2));
    assert_eq!((epoch, nonce.len(), chain.len()), (10, 32, 64));
    let version: i32 = shop.query_one("SELECT version FROM stampede_schema", &[]).expect("it").get(0);
    assert_eq!(version, SCHEMA_VERSION);
}

#[test]
fn postgres_fences_and_compares_like_the_simulated_database() {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let first = FakeEngine::with([created(1, 100)]);
    first.append(sales(1, 1, 10));
    let as_process = |engine: &FakeEngine, drawn| {
        exporter_to(engine, url.clone(), |options| options.nonce = Nonce::new(drawn))
    };
    let mut old = as_process(&first, 1);
    drain(&mut old, &first);
    let second = FakeEngine::with(first.facts());
    let mut new = as_process(&second, 2);
    drain(&mut new, &second);
    let until_stopped = |machine: &mut Exporter| {
        step_until(machine, "stopped", |step, _| step == Step::Stopped);
    };
    // The old one has nothing to export; it notices all the same.
    until_stopped(&mut old);
    assert!(first.said().contains("another engine has taken over this database (epoch 2, ours is 1)"));
    first.append(sales(1, 11, 30));
    second.append(sales(1, 20, 5));
    drain(&mut new, &second);
    let mut again = as_process(&first, 3);
    until_stopped(&mut again);
    assert!(first.said().contains("hold different facts up to LSN 16"), "{}", first.said());
    assert_exported(&second, &url);
    drain(&mut as_process(&second, 4), &second);
}
