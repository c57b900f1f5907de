//! Rows that Postgres refuses, and databases that the exporter refuses.

use std::time::Duration;

use postgres::Client;
use stampede_core::fact::Fact;
use stampede_core::item::OrderState::{Cancelled, Confirmed, Paid};
use stampede_core::types::{Lsn, UnixMillis};
use stampede_persist::export::{
    AttachError, Claim, ConnectOptions, Database, DatabaseId, ExportEvent, ExporterOptions, LogClaim, LogId,
    Nonce, SCHEMA_VERSION, Step, attach, migrate,
};

use crate::export_bed::{
    FakeEngine, LOG, assert_exported, client, cluster, created, drain, exporter, exporter_to, fresh_database,
    model, moved, order, placed_by, rows, sales, step_until,
};

#[test]
fn a_refused_row_is_set_aside_and_the_rest_flows() {
    for orders in [60, 5_000] {
        let database = fresh_database();
        let url = cluster().url_of(&database);
        let engine = FakeEngine::with([created(1, 100_000)]);
        drain(&mut exporter(&engine, &database), &engine);
        let mut shop = client(&url);
        shop.batch_execute(
            "ALTER TABLE stock_order ADD CHECK (buyer <> 'evil');
             CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN IF NEW.buyer = 'worse' THEN RAISE 'not him'; END IF; RETURN NEW; END $$;
             CREATE CONSTRAINT TRIGGER no AFTER INSERT ON stock_order DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION no()",
        )
        .expect("altered");
        engine.append(sales(1, 1, orders));
        engine.append([placed_by(order(1, orders + 1), 2, Confirmed, "evil".into())]);
        engine.append([placed_by(order(1, orders + 2), 1, Confirmed, "worse".into())]);
        engine.append(sales(1, orders + 3, 40));
        engine.append([moved(order(1, 1), 1, Confirmed, Paid)]);
        let mut exporter = exporter_to(&engine, url.clone(), |options| options.nonce = Nonce::new(2));
        drain(&mut exporter, &engine);
        let found = rows(&mut shop);
        let mut wanted = model(&engine.facts());
        for seq in [orders + 1, orders + 2] {
            wanted.orders.remove(&(order(1, seq).get() as i64)).expect("it is there");
        }
        assert!(found == wanted, "the others are there, and the stock row counts all");
        assert_eq!((engine.alarms().len(), exporter.status().set_aside()), (2, 2), "{}", engine.said());
        // An order that was set aside moves on: that is set aside too.
        engine.append([moved(order(1, orders + 1), 2, Confirmed, Paid)]);
        drain(&mut exporter, &engine);
        let kept =
            shop.query("SELECT kind, what, reason FROM stampede_set_aside ORDER BY id", &[]).expect("kept");
        let kept: Vec<(String, String)> = kept.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(
            kept.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(),
            ["order", "order", "order_move"]
        );
        assert!(kept[0].1.contains("buyer=evil quantity=2 state=confirmed"), "{kept:?}");
    }
}

#[test]
fn a_refused_stock_row_is_left_for_later() {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let engine = FakeEngine::with([created(1, 100), created(2, 100)]);
    drain(&mut exporter(&engine, &database), &engine);
    let mut shop = client(&url);
    shop.batch_execute("ALTER TABLE stock ADD CONSTRAINT many CHECK (id <> 1 OR count > 90)")
        .expect("altered");
    engine.append(sales(1, 1, 20));
    engine.append(sales(2, 1, 20));
    let mut next = exporter_to(&engine, url.clone(), |options| options.nonce = Nonce::new(2));
    drain(&mut next, &engine);
    let found = rows(&mut shop);
    assert_eq!((found.orders.len(), found.stock[&1], found.stock[&2]), (40, (100, 0, 0), (80, 0, 20)));
    assert_eq!((engine.alarms().len(), next.status().deferred()), (1, 1), "{}", engine.said());
    shop.batch_execute("ALTER TABLE stock DROP CONSTRAINT many").expect("altered");
    let mut next = exporter_to(&engine, url.clone(), |options| options.nonce = Nonce::new(3));
    step_until(&mut next, "settled", |_, _| rows(&mut shop).stock[&1] == (80, 0, 20));
    assert_exported(&engine, &url);
}

#[test]
fn a_row_of_somebody_else_stands_and_the_order_is_set_aside() {
    // An order of the shop's own, one of another log for the same item, one of another item, and one of
    // another log for the same item and buyer.
    let theirs = [
        (5, "VALUES ($1, 1, 'buyer-1-5', 9, 'paid', 0)"),
        (6, "VALUES ($1, 1, 'somebody', 1, 'paid', 77)"),
        (7, "VALUES ($1, 2, 'buyer-1-7', 1, 'paid', 77)"),
        (8, "VALUES ($1, 1, 'buyer-1-8', 1, 'paid', 77)"),
    ];
    for orders in [10, 5_000] {
        let database = fresh_database();
        let url = cluster().url_of(&database);
        let engine = FakeEngine::with([created(1, 100_000), created(2, 10)]);
        drain(&mut exporter(&engine, &database), &engine);
        let mut shop = client(&url);
        for (seq, values) in theirs {
            let sql = format!("INSERT INTO stock_order (id, sid, buyer, quantity, state, lsn) {values}");
            shop.execute(&sql, &[&(order(1, seq).get() as i64)]).expect("inserted");
        }
        let rows_of = |shop: &mut Client| {
            let sql = "SELECT id, sid, buyer, quantity, state, lsn, update_time::text FROM stock_order \
                 WHERE id = ANY($1) ORDER BY id";
            let ids: Vec<i64> = theirs.map(|(seq, _)| order(1, seq).get() as i64).into();
            let rows = shop.query(sql, &[&ids]).expect("rows");
            let text = |row: &postgres::Row| {
                let (id, sid, lsn): (i64, i64, i64) = (row.get(0), row.get(1), row.get(5));
                let (buyer, state, time): (String, String, String) = (row.get(2), row.get(4), row.get(6));
                format!("{id} {sid} {buyer} {} {state} {lsn} {time}", row.get::<_, i32>(3))
            };
            rows.iter().map(text).collect::<Vec<_>>()
        };
        let before = rows_of(&mut shop);
        engine.append(sales(1, 1, orders));
        let mut next = exporter_to(&engine, url.clone(), |options| options.nonce = Nonce::new(2));
        drain(&mut next, &engine);
        assert_eq!(rows_of(&mut shop), before, "{orders} orders");
        assert_eq!((engine.pauses(), next.status().set_aside()), (vec![1], 4), "{}", engine.said());
        assert!(engine.said().contains("stock_order holds a row of somebody else"), "{}", engine.said());
        // What becomes of them is not written to the rows of others either; the rest flows.
        engine.append([5, 6, 7, 8, 9].map(|seq| moved(order(1, seq), 1, Confirmed, Cancelled)));
        drain(&mut next, &engine);
        assert_eq!(rows_of(&mut shop), before, "{orders} orders");
        let mut wanted = model(&engine.facts());
        for (seq, _) in theirs {
            let id = order(1, seq).get() as i64;
            assert!(wanted.orders.remove(&id).is_some());
            shop.execute("DELETE FROM stock_order WHERE id = $1", &[&id]).expect("deleted");
        }
        assert!(rows(&mut shop) == wanted, "the others are there, and the stock row counts all");
        let kept =
            shop.query("SELECT kind, order_id FROM stampede_set_aside ORDER BY id", &[]).expect("kept");
        let kept: Vec<(String, bool)> =
            kept.iter().map(|row| (row.get(0), row.get::<_, Option<i64>>(1).is_some())).collect();
        let (order, moved) = (("order".to_owned(), true), ("order_move".to_owned(), false));
        assert_eq!(kept, [[(); 4].map(|()| order.clone()), [(); 4].map(|()| moved.clone())].concat());
    }
}

/// A log that is exported once more from its beginning meets its own rows, and those it writes anew.
#[test]
fn rows_of_the_log_itself_are_written_anew() {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let engine = FakeEngine::with([created(1, 100)]);
    engine.append(sales(1, 1, 20));
    engine.append([moved(order(1, 3), 1, Confirmed, Cancelled)]);
    drain(&mut exporter(&engine, &database), &engine);
    client(&url).batch_execute("DELETE FROM stampede_cursor").expect("deleted");
    let mut again = exporter_to(&engine, url.clone(), |options| options.nonce = Nonce::new(2));
    drain(&mut again, &engine);
    assert_exported(&engine, &url);
    assert_eq!((again.status().set_aside(), engine.pauses()), (0, vec![]), "{}", engine.said());
}

/// Steps until the first failure and returns what was said.
#[track_caller]
fn complaint(url: String, change: impl FnOnce(&mut ExporterOptions)) -> String {
    let engine = FakeEngine::with([created(1, 1)]);
    let mut exporter = exporter_to(&engine, url, change);
    step_until(&mut exporter, "a failure", |step, _| matches!(step, Step::Wait(_) | Step::Stopped));
    let said = engine.said();
    assert!(said.contains(&exporter.status().last_error().expect("an error")), "{said}");
    said
}

#[test]
fn what_is_wrong_is_said_in_words() {
    let own = fresh_database();
    let mut admin = client(&cluster().url());
    let poor = format!("poor_{own}");
    admin.batch_execute(&format!("CREATE USER {poor} PASSWORD 'x'")).expect("created");
    let said = complaint(cluster().url_as(&poor, "wrong", &own), |_| {});
    assert!(said.contains("refused the login") && said.contains("correct user and password"), "{said}");
    assert!(!said.contains("wrong"), "{said}");
    let said = complaint(cluster().url_of("nowhere"), |_| {});
    assert!(said.contains("no such database") && said.contains("createdb"), "{said}");
    let said = complaint(cluster().url_as(&poor, "x", &own), |_| {});
    assert!(said.contains("lacks a privilege") && said.contains("GRANT"), "{said}");
    let said = complaint(cluster().url_of(&own), |options| options.migrate = false);
    assert!(said.contains("run `stampede migrate`"), "{said}");
    let said = complaint(format!("{}?sslmode=require", cluster().url_of(&own)), |_| {});
    assert!(said.contains("TLS to Postgres failed"), "{said}");

    client(&cluster().url_of(&own)).batch_execute("CREATE TABLE stock (id int)").expect("created");
    let said = complaint(cluster().url_of(&own), |_| {});
    assert!(said.contains("a table named stock is already there"), "{said}");
    for bad in ["postgresql://u@/db", "postgresql://h/db", "http://u@h/db", "postgresql://u@h/db?nonsense=1"]
    {
        let error = ConnectOptions::new(bad).target().expect_err(bad).to_string();
        assert!(error.contains("the Postgres URL is not usable"), "{error}");
    }
    let hidden = format!("{:?}", ConnectOptions::new("postgresql://u:geheim@h/db"));
    assert!(hidden.contains("h:5432/db") && !hidden.contains("geheim"), "{hidden}");
}

#[test]
fn a_newer_schema_is_refused() {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let mut connection = Database::connect(&ConnectOptions::new(url.clone())).expect("connected");
    assert_eq!(migrate(&mut connection).expect("migrated"), 0);
    assert_eq!(migrate(&mut connection).expect("nothing to do"), SCHEMA_VERSION);
    client(&url).batch_execute("UPDATE stampede_schema SET version = 99").expect("updated");
    let error = migrate(&mut connection).expect_err("too new").to_string();
    assert!(error.contains("version 99") && error.contains("use the newer program"), "{error}");
    assert!(complaint(url, |_| {}).contains("version 99"));
}

#[test]
fn two_migrations_at_once_are_one() {
    let url = cluster().url_of(&fresh_database());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let options = ConnectOptions::new(url.clone());
            std::thread::spawn(move || migrate(&mut Database::connect(&options).expect("connected")))
        })
        .collect();
    // What each of them has found: one nothing, and the others what that one has made.
    let mut found: Vec<i32> =
        threads.into_iter().map(|thread| thread.join().expect("no panic").expect("migrated")).collect();
    found.sort_unstable();
    assert_eq!(found, [0, SCHEMA_VERSION, SCHEMA_VERSION, SCHEMA_VERSION]);
}

#[test]
fn a_database_that_is_not_ours_is_refused() {
    let url = cluster().url_of(&fresh_database());
    let mut connection = Database::connect(&ConnectOptions::new(url.clone())).expect("connected");
    migrate(&mut connection).expect("migrated");
    let (nonce, held, database) = (Nonce::new(5), None, None);
    let claim = LogClaim { log_id: LOG, nonce, held, first_retained: Lsn(1), durable: Lsn(100), database };
    let mut try_it = |claim: &LogClaim| attach(&mut connection, claim, &mut |_| Ok([7; 32]));
    let ours = try_it(&claim).expect("attached");
    assert_eq!((ours.cursor, ours.claim.epoch), (Lsn::ZERO, 1));
    let known = LogClaim { database: Some(ours.database), held: Some(ours.claim), ..claim };
    let held = |epoch| Some(Claim { epoch, ..ours.claim });
    assert_eq!(try_it(&known), Ok(ours), "a second time by the same process");
    let chain = "07".repeat(32);
    let mut shop = client(&url);
    shop.execute("UPDATE stampede_cursor SET lsn = 50, chain = $1", &[&chain]).expect("updated");
    shop.execute("UPDATE stampede_cursor SET epoch = 3", &[]).expect("updated");

    let expected = DatabaseId([1; 16]);
    let found = ours.database;
    let theirs = LOG.to_string();
    let other = LogId([8; 16]);
    let late = LogClaim { nonce: Nonce::new(4), ..known };
    for (claim, error) in [
        (LogClaim { database: Some(expected), ..known }, AttachError::OtherDatabase { expected, found }),
        (LogClaim { log_id: other, ..known }, AttachError::OtherLog { ours: other, theirs, lsn: Lsn(50) }),
        (LogClaim { held: held(2), ..late }, AttachError::Fenced { ours: 2, theirs: 3 }),
        (LogClaim { held: held(3), ..late }, AttachError::Fenced { ours: 3, theirs: 3 }),
        (LogClaim { held: held(4), ..late }, AttachError::Fenced { ours: 4, theirs: 3 }),
        (
            LogClaim { first_retained: Lsn(52), ..known },
            AttachError::Behind { cursor: Lsn(50), first_retained: Lsn(52) },
        ),
        (LogClaim { durable: Lsn(49), ..known }, AttachError::Ahead { cursor: Lsn(50), durable: Lsn(49) }),
    ] {
        let found = try_it(&claim).expect_err("refused");
        assert_eq!(found, error);
        assert!(found.to_string().contains(';'), "no remedy in: {found}");
    }
    let just = LogClaim { first_retained: Lsn(51), durable: Lsn(50), ..known };
    let mut epoch_of = |claim: &LogClaim| try_it(claim).map(|taken| (taken.cursor, taken.claim.epoch));
    assert_eq!(epoch_of(&just), Ok((Lsn(50), 3)), "just right");
    let next = LogClaim { nonce: Nonce::new(6), held: None, ..known };
    assert_eq!(epoch_of(&next), Ok((Lsn(50), 4)), "the next process");
    // A row that was touched before this process was given it is one from the past, and is taken again,
    // under a number that nobody was given.
    let since_us = i64::MAX;
    let lost = LogClaim { held: Some(Claim { epoch: 9, since_us, left: Lsn(70) }), ..late };
    assert_eq!(epoch_of(&lost), Ok((Lsn(50), 10)), "it went back");
}

#[test]
fn a_cursor_that_somebody_moved_stops_the_export() {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let engine = FakeEngine::with([created(1, 1_000)]);
    engine.append(sales(1, 1, 10));
    let mut exporter = exporter_to(&engine, url.clone(), |options| {
        options.connect.call_wait_max = Duration::from_secs(20);
    });
    drain(&mut exporter, &engine);
    client(&url).batch_execute("UPDATE stampede_cursor SET lsn = 3, chain = NULL").expect("updated");
    engine.append(sales(1, 11, 1));
    step_until(&mut exporter, "stopped", |step, _| step == Step::Stopped);
    let last = engine.events().pop();
    let moved = AttachError::CursorMoved { left: Lsn(11), found: Lsn(3) };
    assert_eq!(last, Some(ExportEvent::Refused(moved)));
}

/// Every SQLSTATE of the classes "data exception", "integrity constraint violation" and of PL/pgSQL.
const CODES: &str = "22000 22001 22002 22003 22004 22005 22007 22008 22009 2200B 2200C 2200D 2200F 2200G 2200H 2200L \
     2200M 2200N 2200S 2200T 22010 22011 22012 22013 22014 22015 22016 22018 22019 2201B 2201E 2201F 2201G 2201W \
     2201X 22021 22022 22023 22024 22025 22026 22027 2202E 2202G 2202H 22030 22031 22032 22033 22034 22035 22036 \
     22037 22038 22039 2203A 2203B 2203C 2203D 2203E 2203F 2203G 22P01 22P02 22P03 22P04 22P05 22P06 23000 23001 \
     23502 23503 23505 23514 23P01 P0000 P0001 P0002 P0003 P0004";

#[test]
fn whatever_a_row_is_refused_for_the_rest_flows() {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let engine = FakeEngine::with([created(1, 100_000)]);
    let mut machine = exporter(&engine, &database);
    drain(&mut machine, &engine);
    client(&url)
        .batch_execute(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.buyer LIKE 'code-%' THEN
                     RAISE EXCEPTION 'not this one' USING ERRCODE = substr(NEW.buyer, 6); END IF;
                 RETURN NEW; END $$;
             CREATE TRIGGER no BEFORE INSERT ON stock_order FOR EACH ROW EXECUTE FUNCTION no()",
        )
        .expect("a trigger");
    let codes: Vec<&str> = CODES.split_whitespace().collect();
    for (at, code) in codes.iter().enumerate() {
        let (bad, good) = (order(1, 2 * at as u32 + 1), order(1, 2 * at as u32 + 2));
        engine.append([placed_by(bad, 1, Confirmed, format!("code-{code}"))]);
        engine.append([placed_by(good, 1, Confirmed, format!("buyer of {good}"))]);
    }
    drain(&mut machine, &engine);
    let mut wanted = model(&engine.facts());
    for at in 0..codes.len() as u32 {
        wanted.orders.remove(&(order(1, 2 * at + 1).get() as i64)).expect("it is there");
    }
    assert!(rows(&mut client(&url)) == wanted, "the others are there");
    assert_eq!(machine.status().set_aside(), codes.len() as u64);
}

/// What somebody has made, so that `$table` refuses, or swallows, what concerns item 2 and its buyers.
fn meddle(shop: &mut Client, table: &str, event: &str, condition: &str, deed: &str) {
    let sql = format!(
        "CREATE FUNCTION f_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF {condition} THEN {deed}; END IF;
             IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$;
         CREATE TRIGGER f_{table} BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION f_{table}()"
    );
    shop.batch_execute(&sql).expect(&sql);
}

/// Table, event, what is hit, and what is then set aside.
const PLACES: [(&str, &str, &str, &str); 7] = [
    ("stock_order", "INSERT", "NEW.sid = 2", "order"),
    ("stock_order", "UPDATE", "NEW.sid = 2", "order_move"),
    ("stock", "INSERT", "NEW.id = 2", "stock"),
    ("stock", "UPDATE", "NEW.id = 2", "stock"),
    ("stampede_blocked", "INSERT", "NEW.buyer = 'evil'", "blocked"),
    ("stampede_blocked", "DELETE", "OLD.buyer = 'evil'", "blocked"),
    ("stampede_item", "INSERT OR UPDATE", "NEW.name LIKE 'phone 2%'", "item"),
];

fn blocks(buyer: &'static str, blocked: bool) -> Fact<'static> {
    Fact::BuyerBlocked { at_ms: UnixMillis(1), subject: buyer.as_bytes(), blocked, actor: "merchant" }
}

#[test]
fn one_row_refused_or_dropped_is_noticed_and_the_rest_flows() {
    for swallows in [false, true] {
        for orders in [5, 3_000] {
            for (table, event, condition, kind) in PLACES {
                // Books that a trigger swallows are met as books that are gone.
                if swallows && kind == "item" {
                    continue;
                }
                let place = format!("{event} on {table}, {orders} orders, swallows: {swallows}");
                let database = fresh_database();
                let url = cluster().url_of(&database);
                let engine = FakeEngine::with([created(1, 100_000)]);
                let mut machine = exporter(&engine, &database);
                drain(&mut machine, &engine);
                let mut shop = client(&url);
                let deed = if swallows { "RETURN NULL" } else { "RAISE 'not this one'" };
                meddle(&mut shop, table, event, condition, deed);
                engine.append([created(2, 100_000), blocks("evil", true), blocks("bad", true)]);
                engine.append(sales(1, 1, orders));
                engine.append(sales(2, 1, orders));
                drain(&mut machine, &engine);
                engine.append((1..=2).map(|item| moved(order(item, 1), 1, Confirmed, Paid)));
                engine.append([blocks("evil", false), blocks("bad", false), created(3, 7)]);
                engine.append(sales(2, orders + 1, 1));
                drain(&mut machine, &engine);
                let (found, wanted) = (rows(&mut shop), model(&engine.facts()));
                let of_item = |rows: &crate::export_bed::Rows, item: i64| {
                    rows.orders.iter().filter(|(id, _)| **id >> 32 == item).count()
                };
                assert_eq!(found.stock.get(&1), wanted.stock.get(&1), "{place}");
                assert_eq!(found.stock.get(&3), wanted.stock.get(&3), "{place}");
                assert_eq!(of_item(&found, 1), orders as usize, "{place}");
                if kind != "order" {
                    assert_eq!(of_item(&found, 2), orders as usize + 1, "{place}");
                }
                if kind == "item" {
                    assert_eq!(found.stock.get(&2), wanted.stock.get(&2), "{place}");
                }
                assert!(!found.blocked.contains(&"bad".to_owned()), "{place}");
                let kept = shop.query("SELECT DISTINCT kind FROM stampede_set_aside", &[]).expect("kept");
                let kept: Vec<String> = kept.iter().map(|row| row.get(0)).collect();
                assert!(kept.contains(&kind.to_owned()), "{place}: {kept:?}");
                assert!(!engine.alarms().is_empty(), "{place}");
                assert_eq!(engine.pauses(), Vec::<u32>::new(), "{place}: {}", engine.said());
                let said = if swallows { "swallows what is written" } else { "not this one" };
                assert!(engine.said().contains(said), "{place}: {}", engine.said());
            }
        }
    }
}

#[test]
fn a_refused_note_about_a_refused_row_still_has_its_alarm() {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let engine = FakeEngine::with([created(1, 100)]);
    let mut machine = exporter(&engine, &database);
    drain(&mut machine, &engine);
    let mut shop = client(&url);
    meddle(&mut shop, "stock_order", "INSERT", "NEW.buyer = 'evil'", "RAISE 'not him'");
    meddle(&mut shop, "stampede_set_aside", "INSERT", "true", "RAISE 'nothing'");
    engine.append([placed_by(order(1, 1), 1, Confirmed, "evil".into())]);
    engine.append(sales(1, 2, 5));
    drain(&mut machine, &engine);
    assert_eq!(rows(&mut shop).orders.len(), 5);
    assert!(engine.said().contains("buyer=evil") && engine.said().contains("not him"), "{}", engine.said());
}

#[test]
fn a_stuck_cursor_raises_an_alarm_and_is_retried_with_pauses() {
    let database = fresh_database();
    let engine = FakeEngine::with([created(1, 100)]);
    let mut machine = exporter(&engine, &database);
    drain(&mut machine, &engine);
    let mut shop = client(&cluster().url_of(&database));
    meddle(&mut shop, "stampede_cursor", "UPDATE", "true", "RETURN NULL");
    engine.append(sales(1, 1, 5));
    for _ in 0..2 {
        step_until(&mut machine, "it waits", |step, _| matches!(step, Step::Wait(_)));
    }
    assert!(engine.said().contains("the cursor in stampede_cursor does not move"), "{}", engine.said());
    shop.batch_execute("DROP TRIGGER f_stampede_cursor ON stampede_cursor").expect("dropped");
    drain(&mut machine, &engine);
    assert_exported(&engine, &cluster().url_of(&database));
}

/// A database of this encoding; its name.
fn encoded(encoding: &str) -> String {
    let name = format!("{}_{}", fresh_database(), encoding.to_lowercase());
    let sql = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING {encoding} LOCALE 'C'");
    client(&cluster().url()).batch_execute(&sql).expect("created");
    name
}

#[test]
fn a_database_that_cannot_work_is_refused_in_words() {
    for encoding in ["LATIN1", "WIN1252", "EUC_CN"] {
        let said = complaint(cluster().url_of(&encoded(encoding)), |_| {});
        assert!(said.contains(&format!("has the encoding {encoding}")) && said.contains("UTF8"), "{said}");
    }
    // This one takes bytes as they come.
    let url = cluster().url_of(&encoded("SQL_ASCII"));
    let engine = FakeEngine::with([created(1, 10)]);
    engine.append([placed_by(order(1, 1), 1, Confirmed, "张三".into())]);
    drain(&mut exporter_to(&engine, url, |_| {}), &engine);

    let partitioned = "ALTER TABLE stock_order RENAME TO plain;
         CREATE TABLE stock_order (LIKE plain) PARTITION BY RANGE (id);
         CREATE TABLE part PARTITION OF stock_order DEFAULT";
    let view = "ALTER TABLE stock RENAME TO plain; CREATE VIEW stock AS TABLE plain";
    let rule = "CREATE RULE quiet AS ON INSERT TO stock_order DO INSTEAD NOTHING";
    for (sql, said) in [
        (partitioned, "stock_order is a partitioned table"),
        (view, "stock is a view"),
        ("ALTER TABLE stock_order SET UNLOGGED", "stock_order is unlogged"),
        ("ALTER TABLE stampede_cursor SET UNLOGGED", "stampede_cursor is unlogged"),
        (rule, "stock_order is rewritten by a rule"),
    ] {
        let database = fresh_database();
        let url = cluster().url_of(&database);
        let engine = FakeEngine::with([created(1, 10)]);
        drain(&mut exporter(&engine, &database), &engine);
        client(&url).batch_execute(sql).expect(sql);
        let found = complaint(url, |options| options.nonce = Nonce::new(2));
        assert!(found.contains(said), "{sql}: {found}");
    }
}
