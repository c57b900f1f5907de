//! What was told of an order's money beside its payment: each late payment and each refund is a row of
//! `stock_payment`, once, whatever fails, and none of them keeps the others out.

use stampede_core::fact::Fact;
use stampede_core::item::OrderState;
use stampede_persist::export::{Alarm, ConnectOptions, Database, SCHEMA_VERSION, SchemaError, migrate};

use crate::export_bed::{
    self, FakeEngine, LOG, client, cluster, created, fresh_database, late, late_back, moved, order,
    part_back, placed_by,
};
use crate::export_sim::{assert_exported, drain, exporter, rows};
use crate::sim_database::{Fault, PaymentLine, Refusal, Rule, SimDatabase, at_call};

/// An item, one order of three units that is paid and partly refunded, one that expires and is paid late.
fn told() -> Vec<Fact<'static>> {
    use OrderState::{Expired, Held, Paid};
    let (ann, bob) = (order(1, 1), order(1, 2));
    vec![
        created(1, 100),
        placed_by(ann, 3, Held, "ann".to_owned()),
        placed_by(bob, 1, Held, "bob".to_owned()),
        moved(ann, 3, Held, Paid),
        moved(bob, 1, Held, Expired),
        late(bob, "pi_\\b"),
        part_back(ann, 3, (1, 1), "re_1"),
        late(ann, "pi_9"),
        part_back(ann, 3, (1, 2), ""),
        part_back(ann, 3, (1, 3), "re_3"),
        late_back(bob, "pi_\\b", "re_b"),
    ]
}

#[test]
fn late_payments_and_refunds_are_exported_once() {
    let facts = told();
    // In batches of one fact, and all in one.
    for at_a_time in [1, 3, facts.len()] {
        let (engine, database) = (FakeEngine::default(), SimDatabase::new(1));
        let mut machine = exporter(&engine, &database, 1);
        for facts in facts.chunks(at_a_time) {
            engine.append(facts.to_vec());
            drain(&mut machine, &engine, &database);
        }
        assert_exported(&engine, &database);
        let found = rows(&database.tables()).payments;
        let kinds: Vec<&str> = found.values().map(|row| row.1.as_str()).collect();
        assert_eq!(
            kinds,
            ["late_payment", "refund", "late_payment", "refund", "refund", "late_payment_returned"]
        );
        assert_eq!(found[&6].2, "pi_\\\\b", "as text");
        assert_eq!((&*found[&11].2, &*found[&11].3), ("pi_\\\\b", "re_b"));
        assert_eq!(engine.alarms(), vec![]);
    }
}

#[test]
fn whatever_call_fails_each_payment_is_there_once() {
    for fault in [Fault::Dies, Fault::DiesAfter, Fault::Conflicts] {
        for call in 1..80 {
            let (engine, database) = (FakeEngine::with(told()), SimDatabase::new(1));
            database.set_plan(Some(at_call(call, fault)));
            drain(&mut exporter(&engine, &database, 1), &engine, &database);
            assert_eq!(rows(&database.tables()), export_bed::model(&engine.facts()), "{fault:?} at {call}");
        }
    }
}

/// The database loses its last commits, or its cursor: what it lacks comes again, what is there stays.
#[test]
fn payments_come_again_and_never_twice() {
    let (engine, database) = (FakeEngine::with(told()[..6].to_vec()), SimDatabase::new(1));
    let mut machine = exporter(&engine, &database, 1);
    drain(&mut machine, &engine, &database);
    let backup = database.back_up();
    engine.append(told()[6..].to_vec());
    drain(&mut machine, &engine, &database);
    database.restore(&backup);
    drain(&mut exporter(&engine, &database, 2), &engine, &database);
    assert_exported(&engine, &database);
    assert!(database.edit_cursor(LOG, |row| row.lsn = stampede_core::types::Lsn(3)));
    assert!(database.edit_cursor(LOG, |row| row.chain = None));
    drain(&mut exporter(&engine, &database, 3), &engine, &database);
    assert_eq!(rows(&database.tables()).payments, export_bed::model(&engine.facts()).payments);
    let aside: Vec<String> = database.tables().set_aside.into_iter().map(|line| line.1).collect();
    assert!(!aside.contains(&"payment".to_owned()), "{aside:?}");
}

fn set_aside(engine: &FakeEngine) -> Vec<String> {
    let what = |alarm: &Alarm| match alarm {
        Alarm::SetAside { what, .. } => Some(what.clone()),
        _ => None,
    };
    engine.alarms().iter().filter_map(what).collect()
}

#[test]
fn a_payment_that_is_refused_keeps_nothing_else_out() {
    for deferred in [false, true] {
        let (engine, database) = (FakeEngine::with(told()), SimDatabase::new(1));
        let rule = Rule::Payment("pi_9".to_owned());
        database.refuse(Refusal { name: "not_nine".to_owned(), rule, deferred });
        drain(&mut exporter(&engine, &database, 1), &engine, &database);
        let (found, mut expected) = (rows(&database.tables()), export_bed::model(&engine.facts()));
        assert!(expected.payments.remove(&8).is_some());
        assert_eq!(found, expected, "deferred: {deferred}");
        let said = set_aside(&engine);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("payment order_id=4294967297 lsn=8 kind=late_payment"), "{said:?}");
        assert_eq!(engine.pauses(), vec![], "units are not at stake");
    }
}

#[test]
fn a_payment_of_somebody_else_stands() {
    let (engine, database) = (FakeEngine::with([created(1, 100)]), SimDatabase::new(1));
    let mut machine = exporter(&engine, &database, 1);
    drain(&mut machine, &engine, &database);
    let theirs = PaymentLine {
        sid: 1,
        kind: "late_payment".to_owned(),
        payment_ref: "theirs".to_owned(),
        refund_ref: String::new(),
        quantity: 0,
        create_time_ms: 1,
    };
    // The same LSN of another order is another row: a log before this one may have left it.
    let (ours, other) = ((order(1, 2).get() as i64, 6), (order(1, 7).get() as i64, 6));
    database.insert_payment(ours, theirs.clone());
    database.insert_payment(other, theirs.clone());
    engine.append(told()[1..].to_vec());
    drain(&mut machine, &engine, &database);
    let tables = database.tables();
    assert_eq!((&tables.payments[&ours], &tables.payments[&other]), (&theirs, &theirs));
    assert_eq!(tables.payments.len(), 7);
    let said = set_aside(&engine);
    assert!(said.len() == 1 && said[0].contains("lsn=6"), "{said:?}");
}

/// The same on a real server, where a trigger can swallow a row without a word.
#[test]
fn postgres_keeps_payments_as_the_simulated_database_does() {
    let name = fresh_database();
    let url = cluster().url_of(&name);
    let engine = FakeEngine::with(told()[..6].to_vec());
    let mut machine = export_bed::exporter(&engine, &name);
    export_bed::drain(&mut machine, &engine);
    export_bed::assert_exported(&engine, &url);
    let mut shop = client(&url);
    shop.batch_execute(
        "ALTER TABLE stock_payment ADD CONSTRAINT known CHECK (refund_ref <> 're_1');
         CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER swallow BEFORE INSERT ON stock_payment FOR EACH ROW
             WHEN (NEW.refund_ref = 're_3') EXECUTE FUNCTION swallow();
         INSERT INTO stock_payment (order_id, lsn, sid, kind, create_time) VALUES ((1::bigint << 32) + 1, 8, 1, 'mine', now())",
    )
    .expect("altered");
    engine.append(told()[6..].to_vec());
    export_bed::drain(&mut machine, &engine);
    let (found, mut expected) = (export_bed::rows(&mut shop), export_bed::model(&engine.facts()));
    for lsn in [7, 10] {
        expected.payments.remove(&lsn);
    }
    assert_eq!(found.payments[&8].1, "mine");
    expected.payments.insert(8, found.payments[&8].clone());
    assert_eq!(found, expected);
    let kept = shop.query("SELECT lsn FROM stampede_set_aside WHERE kind = 'payment' ORDER BY lsn", &[]);
    let kept: Vec<i64> = kept.expect("kept").iter().map(|row| row.get(0)).collect();
    assert_eq!(kept, [7, 8, 10]);
}

/// A database of version 3 gets the table, says from where on it is whole, and a table of that name that
/// is somebody else's is refused in words.
#[test]
fn a_database_of_version_3_gets_the_table() {
    let name = fresh_database();
    let url = cluster().url_of(&name);
    let engine = FakeEngine::with(told()[..6].to_vec());
    export_bed::drain(&mut export_bed::exporter(&engine, &name), &engine);
    let mut shop = client(&url);
    let back = "DROP TABLE stock_payment; ALTER TABLE stampede_cursor DROP COLUMN payments_after; \
         ALTER TABLE stock_order DROP COLUMN end_time; \
         UPDATE stampede_schema SET version = 3";
    shop.batch_execute(back).expect("as version 3");
    shop.batch_execute("CREATE TABLE stock_payment (mine integer)").expect("made");
    let refused = migrate(&mut Database::connect(&ConnectOptions::new(&*url)).expect("connected"));
    assert!(
        matches!(&refused, Err(SchemaError::InTheWay { table }) if table == "stock_payment"),
        "{refused:?}"
    );
    shop.batch_execute("DROP TABLE stock_payment").expect("dropped");
    engine.append(told()[6..].to_vec());
    export_bed::drain(&mut export_bed::exporter(&engine, &name), &engine);
    let row = shop.query_one("SELECT version, payments_after FROM stampede_schema, stampede_cursor", &[]);
    let row = row.expect("a row");
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i64>(1)), (SCHEMA_VERSION, 6));
    let mut expected = export_bed::model(&engine.facts());
    expected.payments.retain(|lsn, _| *lsn > 6);
    // What ended before is not made up.
    expected.orders.values_mut().for_each(|row| row.6.4 = 0);
    assert_eq!(export_bed::rows(&mut shop), expected);
}
