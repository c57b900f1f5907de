//! A database that is filled from the beginning of a log with a past: another one in the place of one
//! that was lost, an old backup of it, or the same one whose cursor is gone.

use stampede_core::fact::{ACTOR_IMPORT, ACTOR_POSTGRES, Fact, Switch};
use stampede_core::item::OrderState::{Cancelled, Confirmed, Held, Paid};
use stampede_core::item::{OrderState, Pile};
use stampede_core::sample::{Item, Order};
use stampede_core::types::UnixMillis;
use stampede_persist::export::{Alarm, DatabaseId, Exporter, Nonce};
use std::time::Duration;

use crate::export_bed::{
    self, FakeEngine, T0, adjusted, assert_exported, client, cluster, created, exporter_to, fresh_database,
    item, model, moved, order, order_in, placed, rows, sales, spec,
};
use crate::export_sim;
use crate::sim_database::{SimDatabase, StockLine};

const CREATED_MS: u64 = 1_700_000_000_123;

fn imported_item(id: u64, granted: u64, actor: &'static str) -> Fact<'static> {
    Item { at_ms: UnixMillis(T0), spec: spec("imported"), actor, ..Item::new(item(id), granted) }.created()
}

fn imported(id: u64, seq: u32, state: OrderState) -> Fact<'static> {
    let pay_by_ms = UnixMillis(if state.pile() == Pile::Held { CREATED_MS + 60_000 } else { 0 });
    let order = Order { at_ms: UnixMillis(CREATED_MS), pay_by_ms, ..order_in(id, seq, state) };
    order.imported(UnixMillis(CREATED_MS + 1_000))
}

fn switched(id: u64, switch: Switch, actor: &'static str) -> Fact<'static> {
    Fact::ItemSwitched { at_ms: UnixMillis(CREATED_MS + 2_000), item: item(id), switch, actor, key: b"" }
}

/// A log that took items over from a database, and sold them, its own and what a merchant added there.
fn past() -> Vec<Fact<'static>> {
    let mut facts = vec![created(3, 50), imported_item(1, 100, ACTOR_IMPORT)];
    facts.extend((1..=12).map(|seq| imported(1, seq, if seq % 3 == 0 { Held } else { Confirmed })));
    facts.extend([imported(1, 20, Cancelled), switched(1, Switch::Resumed, ACTOR_IMPORT)]);
    facts.push(imported_item(2, 30, ACTOR_POSTGRES));
    facts.extend([imported_item(4, 9, ACTOR_IMPORT), imported(4, 1, Paid)]);
    facts.extend([switched(4, Switch::Closed, ACTOR_POSTGRES), switched(4, Switch::Paused, ACTOR_IMPORT)]);
    for id in 1..=3 {
        facts.extend(sales(id, 100, 7));
    }
    facts.extend([
        moved(order(1, 3), 1, Held, Paid),
        moved(order(1, 4), 1, Confirmed, Cancelled),
        adjusted(2, 40, ACTOR_POSTGRES),
        adjusted(3, -5, ACTOR_POSTGRES),
        adjusted(1, 11, "merchant"),
    ]);
    facts.extend(sales(2, 200, 4));
    facts
}

/// Batches that end everywhere in an import, and one that holds everything.
const BATCHES: [usize; 4] = [1, 2, 5, 1_000];

fn sim(
    engine: &FakeEngine,
    database: &SimDatabase,
    process: u128,
    facts_max: usize,
) -> Exporter<SimDatabase> {
    export_sim::exporter_with(engine, database, process, |options| options.facts_per_batch_max = facts_max)
}

/// Everything is exported, and the looks at the rows that follow find nothing to say.
#[track_caller]
fn check(machine: &mut Exporter<SimDatabase>, engine: &FakeEngine, database: &SimDatabase) {
    export_sim::drain(machine, engine, database);
    for _ in 0..3 {
        database.advance(Duration::from_secs(30));
        export_sim::drain(machine, engine, database);
    }
    export_sim::assert_exported(engine, database);
    assert_eq!((engine.asked(), engine.pauses()), (vec![], vec![]), "{}", engine.said());
    // Its own orders are written anew, one by one, where they were there before.
    let other = |alarm: &Alarm| !matches!(alarm, Alarm::OrderReplaced { .. });
    assert_eq!(engine.alarms().into_iter().filter(other).collect::<Vec<_>>(), vec![]);
    assert!(database.books().values().all(|books| books.outside == 0));
}

#[test]
fn a_new_database_gets_what_was_imported_from_the_lost_one() {
    for facts_max in BATCHES {
        let (engine, database) = (FakeEngine::with(past()), SimDatabase::new(1));
        check(&mut sim(&engine, &database, 1, facts_max), &engine, &database);
        // And what becomes of its orders.
        engine.append([
            moved(order(1, 6), 1, Held, Cancelled),
            moved(order(4, 1), 1, Paid, OrderState::Refunded),
        ]);
        check(&mut sim(&engine, &database, 2, facts_max), &engine, &database);
    }
}

#[test]
fn a_new_postgres_gets_what_was_imported_from_the_lost_one() {
    for facts_max in [5, 1_000] {
        let url = cluster().url_of(&fresh_database());
        let engine = FakeEngine::with(past());
        let mut machine =
            exporter_to(&engine, url.clone(), |options| options.facts_per_batch_max = facts_max);
        export_bed::drain(&mut machine, &engine);
        assert_exported(&engine, &url);
        assert_eq!((engine.asked(), engine.pauses()), (vec![], vec![]), "{}", engine.said());
        let mut shop = client(&url);
        let row = "SELECT idem_key, (extract(epoch FROM create_time) * 1000)::bigint FROM stock_order WHERE id = $1";
        let row = shop.query_one(row, &[&(order(1, 1).get() as i64)]).expect("an imported order");
        assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), ("key-4294967297", CREATED_MS as i64));
    }
}

#[test]
fn an_import_that_is_still_under_way_leaves_the_stock_row_alone() {
    let (engine, database) = (FakeEngine::default(), SimDatabase::new(1));
    engine.append([imported_item(1, 100, ACTOR_IMPORT), imported(1, 1, Confirmed)]);
    let mut machine = sim(&engine, &database, 1, 1_000);
    export_sim::drain(&mut machine, &engine, &database);
    database.advance(Duration::from_secs(30));
    export_sim::drain(&mut machine, &engine, &database);
    assert!(database.stock().is_empty(), "its numbers are not whole yet");
    engine.append([
        imported(1, 2, Held),
        switched(1, Switch::Resumed, ACTOR_IMPORT),
        placed(1, 9, Confirmed),
    ]);
    check(&mut machine, &engine, &database);
}

#[test]
fn a_backup_from_before_the_import_is_caught_up() {
    for facts_max in BATCHES {
        let (engine, database) = (FakeEngine::with(past()), SimDatabase::new(1));
        let done = SimDatabase::new(2);
        check(&mut sim(&engine, &done, 1, 1_000), &engine, &done);
        // Tables of today, with the rows of the shop's own.
        drop(sim(&engine, &database, 1, 1_000));
        let fresh = FakeEngine::default();
        export_sim::drain(&mut sim(&fresh, &database, 1, 1_000), &fresh, &database);
        database.delete_cursors();
        let mut line = done.orders()[&(order(1, 1).get() as i64)].clone();
        (line.lsn, line.record.state) = (0, "held".to_owned());
        database.insert_order(line);
        let mut stock = StockLine::new("imported", 99);
        stock.row.piles.held = 1;
        database.insert_stock(1, stock);
        let mut machine = sim(&engine, &database, 2, facts_max);
        export_sim::drain(&mut machine, &engine, &database);
        assert_eq!(engine.pauses(), vec![1], "{facts_max}: somebody has to look at it: {}", engine.said());
        let (found, wanted) = (export_sim::rows(&database.tables()), model(&engine.facts()));
        assert_eq!(found.orders, wanted.orders, "{facts_max}");
    }
}

#[test]
fn without_its_cursor_the_log_s_own_rows_are_recognized() {
    for (facts_max, knows_database) in [(1, true), (5, true), (5, false), (1_000, false)] {
        let (engine, database) = (FakeEngine::with([created(3, 50), created(1, 100)]), SimDatabase::new(1));
        engine.append(sales(1, 1, 40));
        engine.append([moved(order(1, 3), 1, Confirmed, Cancelled), adjusted(3, 5, ACTOR_POSTGRES)]);
        export_sim::drain(&mut sim(&engine, &database, 1, 1_000), &engine, &database);
        database.delete_cursors();
        if knows_database {
            // The log went on meanwhile, so no state of it is that of the rows.
            engine.append(sales(1, 100, 8));
        }
        engine.0.lock().expect("lock").events.clear();
        let known: Option<DatabaseId> = database.database().filter(|_| knows_database);
        let mut machine = export_sim::exporter_with(&engine, &database, 2, |options| {
            (options.facts_per_batch_max, options.database) = (facts_max, known);
        });
        check(&mut machine, &engine, &database);
        assert_eq!(machine.status().set_aside(), 0);
    }
}

#[test]
fn without_its_cursor_imported_items_are_recognized() {
    for facts_max in BATCHES {
        let (engine, database) = (FakeEngine::with(past()), SimDatabase::new(1));
        export_sim::drain(&mut sim(&engine, &database, 1, 1_000), &engine, &database);
        database.delete_cursors();
        engine.append(sales(1, 300, 3));
        let known = database.database();
        let mut machine = export_sim::exporter_with(&engine, &database, 2, |options| {
            (options.facts_per_batch_max, options.database) = (facts_max, known);
        });
        check(&mut machine, &engine, &database);
    }
}

/// The same on a real server, in the smallest pieces.
#[test]
fn without_its_cursor_rows_in_postgres_are_recognized() {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let engine = FakeEngine::with([created(1, 100)]);
    engine.append(sales(1, 1, 20));
    engine.append([moved(order(1, 3), 1, Confirmed, Cancelled)]);
    export_bed::drain(&mut export_bed::exporter(&engine, &database), &engine);
    client(&url).batch_execute("DELETE FROM stampede_cursor").expect("deleted");
    let mut again = exporter_to(&engine, url.clone(), |options| {
        (options.nonce, options.facts_per_batch_max) = (Nonce::new(2), 5);
    });
    export_bed::drain(&mut again, &engine);
    assert_exported(&engine, &url);
    assert_eq!((again.status().set_aside(), engine.pauses()), (0, vec![]), "{}", engine.said());
}

/// An order is told by everything that never changes in it.
#[test]
fn a_row_that_differs_in_anything_that_stays_is_somebody_elses() {
    let edits = [
        "quantity = 2",
        "create_time = create_time + interval '1 ms'",
        "create_time = 'infinity'",
        "buyer = 'buyer-1-99'",
        "lsn = 0",
    ];
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let engine = FakeEngine::with([created(1, 100)]);
    engine.append(sales(1, 1, 10));
    export_bed::drain(&mut export_bed::exporter(&engine, &database), &engine);
    let mut shop = client(&url);
    for (seq, edit) in (1..).zip(edits) {
        let id = order(1, seq).get();
        shop.batch_execute(&format!("UPDATE stock_order SET {edit}, state = 'paid' WHERE id = {id}"))
            .expect("edited");
    }
    shop.batch_execute("DELETE FROM stampede_cursor").expect("deleted");
    let before = rows(&mut shop);
    let mut again = exporter_to(&engine, url, |options| options.nonce = Nonce::new(2));
    export_bed::drain(&mut again, &engine);
    assert_eq!(rows(&mut shop).orders, before.orders);
    assert_eq!(
        (again.status().set_aside(), engine.pauses()),
        (edits.len() as u64, vec![1]),
        "{}",
        engine.said()
    );
}
