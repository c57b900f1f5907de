//! End to end: `stampede reconcile` during a sale with a real Postgres. Equal while all is well;
//! each kind of planted difference pauses its own item and nothing else.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use stampede_core::fact::Fact;
use stampede_loadgen::engine::{self, Mode, Outcome, RunConfig};
use stampede_loadgen::workload::{Fates, Items, Target, Workload};
use stampede_persist::log::block::BLOCK_HEADER_BYTES;
use stampede_persist::log::layout::segment_file;
use stampede_testkit::{ClusterOptions, PostgresCluster, StopMode};

use crate::e2e_talk::{Talk, item, now_ms};
use crate::forge::{encoded, rewrite_log};
use crate::server::{Bed, PATIENCE, Server, wait_for};

/// Items that are sold; the last two hold and expire, and wait for payments.
const ITEMS: u32 = 8;
const STOCK: u64 = 1_000_000;

fn open_items(server: &Server) {
    let mut talk = Talk::with(server);
    for number in 1..=ITEMS {
        let body = match number {
            7 => item(STOCK, 5, "hold", 400),
            8 => item(STOCK, 5, "on_payment", 0),
            _ => item(STOCK, 5, "on_order", 0),
        };
        let state = format!("201 open {STOCK}={STOCK}+0+0");
        talk.check(&format!("shop PUT /admin/items/{number} {body} -> {state}"));
    }
}

/// Buyers that keep buying until it is dropped.
struct Crowd {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Outcome, engine::RunError>>>,
}

impl Crowd {
    fn come(server: &Server, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let items = Items { first: 1, count: ITEMS, zipf: 0.5 };
        let workload = Workload {
            target: Target::Purchase { items },
            fates: Fates { cancel: 0.2, ..Fates::default() },
            repeat: 0.1,
            ..Workload::purchases(1, seed)
        };
        let config = RunConfig {
            mode: Mode::open(1_500.0),
            connections: 40,
            ride_out: PATIENCE,
            timeout: Duration::from_secs(10),
            keep_history: false,
            stop: stop.clone(),
            ..RunConfig::closed(server.public, workload, 1_000_000)
        };
        Self { stop, thread: Some(std::thread::spawn(move || engine::run(&config))) }
    }

    fn go(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.thread.take().expect("it is there").join().unwrap();
        outcome.expect("the buyers could start");
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn reconcile(bed: &Bed, flags: &[&str]) -> (Option<i32>, String) {
    said(&bed.command("reconcile").args(flags).output().expect("the binary runs"))
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

/// As JSON, with the exit code.
fn report(bed: &Bed, flags: &[&str]) -> (Option<i32>, Value) {
    let (code, text) = reconcile(bed, &[flags, &["--json"]].concat());
    let line = text.lines().last().unwrap_or_default();
    (code, serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn is_equal(bed: &Bed) -> Value {
    let (code, report) = report(bed, &[]);
    assert_eq!((code, &report["equal"]), (Some(0), &Value::Bool(true)), "{report:#}");
    report
}

fn orders_of(server: &Server, number: u32) -> u64 {
    let answer = Talk::with(server).say(&format!("shop GET /admin/items/{number}"));
    answer.json()["accepted"].as_u64().expect("a number")
}

fn wait_for_orders(server: &Server, number: u32, orders: u64) {
    wait_for("orders", || (orders_of(server, number) >= orders).then_some(()));
}

fn state(server: &Server, number: u32) -> String {
    let answer = Talk::with(server).say(&format!("shop GET /admin/items/{number}"));
    answer.json()["state"].as_str().expect("a state").to_owned()
}

/// The order that a mismatch names, and who differs from the log.
fn found(report: &Value) -> Vec<(u64, String, Option<u64>)> {
    let mismatches = report["mismatches"].as_array().expect("a list");
    let number = |value: &Value| value.as_str().map(|id| id.parse().expect("a number"));
    let row = |mismatch: &Value| {
        let place = mismatch["place"].as_str().expect("a place").to_owned();
        (mismatch["item_id"].as_u64().expect("an item"), place, number(&mismatch["order_id"]))
    };
    mismatches.iter().map(row).collect()
}

const fn order(item: u64, seq: u64) -> u64 {
    item << 32 | seq
}

#[test]
fn e2e_reconcile_pauses_only_the_item_changed_in_postgres() {
    let cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    let mut bed = Bed::new().flag("--postgres", &cluster.url());
    let sql = |text: &str| cluster.psql("postgres", text).unwrap();
    assert!(bed.command("migrate").stdout(Stdio::null()).status().expect("the binary runs").success());
    put_by_hand(&cluster);
    let server = bed.start();
    open_items(&server);
    let crowd = Crowd::come(&server, 31);
    wait_for_orders(&server, 6, 50);
    let refused = refuse_and_draw(&server);
    let first = wait_for("the export of the refused order", || {
        let report = is_equal(&bed);
        report["known"].to_string().contains(&refused).then_some(report)
    });
    assert!(first["orders"].as_u64() > Some(100) && first["postgres_lsn"].as_u64() > Some(0), "{first:#}");
    let known = first["known"].to_string();
    assert!(known.contains(&format!("order {refused} was refused by Postgres")), "{known}");
    assert!(known.contains("row 78 of stock_order is of no item that is on sale"), "{known}");
    check_drawn(&server, &bed);
    // An edit that the engine can follow is not a mismatch, however recent: of an item that
    // is sold, and of one that nobody buys, whose row the exporter checks only once a second.
    sql("UPDATE stock SET count = count + 7 WHERE id IN (6, 20)");
    is_equal(&bed);
    sql(&format!(
        "UPDATE stock_order SET quantity = quantity + 1 WHERE id IN ({}, {})",
        order(1, 5),
        order(1, 9)
    ));
    sql(&format!("DELETE FROM stock_order WHERE id = {}", order(2, 3)));
    let far = order(3, 4_000_000);
    sql(&format!(
        "INSERT INTO stock_order (id, sid, buyer, quantity, state) VALUES ({far}, 3, 'x', 1, 'confirmed')"
    ));
    sql("INSERT INTO stock_order (id, sid, buyer, quantity, state) VALUES (77, 4, 'y', 1, 'confirmed')");
    // More than an item may ever be granted: the engine cannot take it over.
    sql("UPDATE stock SET count = count + 9000000000000000 WHERE id = 5");
    let (code, report) = report(&bed, &["--patience", "3"]);
    assert_eq!(code, Some(1), "{report:#}");
    let postgres = || "postgres".to_owned();
    let expected = vec![
        (1, postgres(), Some(order(1, 5))),
        (2, postgres(), Some(order(2, 3))),
        (3, postgres(), Some(far)),
        (4, postgres(), Some(77)),
        (5, postgres(), None),
    ];
    assert_eq!(found(&report), expected, "{report:#}");
    let first = &report["mismatches"][0];
    assert_eq!(
        (&first["log"]["order"]["quantity"], &first["postgres"]["order"]["quantity"]),
        (&"1".into(), &"2".into())
    );
    assert_eq!(first["memory"]["order"]["quantity"], "1", "{first:#}");
    assert!(report["mismatches"].as_array().unwrap().iter().all(|one| one["paused"] == true), "{report:#}");
    let states: Vec<String> = (1..=ITEMS).map(|number| state(&server, number)).collect();
    assert_eq!(states, ["paused", "paused", "paused", "paused", "paused", "open", "open", "open"]);
    // The others continue to sell.
    let sold = orders_of(&server, 6);
    wait_for_orders(&server, 6, sold + 20);
    let mut talk = Talk::with(&server);
    let audit = talk.say("shop GET /admin/audit?limit=1000").body;
    assert_eq!(audit.matches(r#""actor":"reconcile","action":"paused""#).count(), 4, "{audit}");
    let alarms = talk.say("shop GET /admin/stats").json()["alarms"].to_string();
    assert!(alarms.contains("item 2 is paused by reconcile"), "{alarms}");
    mend(&cluster, &server, &bed);
    crowd.go();
    assert_eq!(server.stop(), Some(0));
}

/// Rows from before the engine: an item with an order, an order of something else, and a rule
/// that refuses a buyer.
/// Late payments and refunds have a table of their own, which is compared like the orders.
#[test]
fn e2e_reconcile_compares_late_payments_and_refunds() {
    let cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    let sql = |text: &str| cluster.psql("postgres", text).unwrap().trim().to_owned();
    let mut bed = Bed::new().flag("--postgres", &cluster.url());
    let server = bed.start();
    let mut talk = Talk::with(&server);
    talk.check(&format!(
        r#"
        shop  PUT /admin/items/1 {}                                  -> 201 open 10=10+0+0
        ann   POST /v1/items/1/orders {{"quantity":3}} #k              -> 201 confirmed x3 $a
        shop  POST /admin/orders/$a/pay {{"payment_ref":"pi_1"}}       -> 200 paid x3 $a
        shop  POST /admin/orders/$a/pay {{"payment_ref":"pi_2"}}       -> 409 already_paid
        shop  POST /admin/orders/$a/refund {{"quantity":1}} #part      -> 200 paid x3 $a
        shop  POST /admin/orders/$a/refund {{"payment_ref":"pi_2"}}    -> 200 paid x3 $a
        "#,
        item(10, 5, "on_order", 0)
    ));
    const ROWS: &str = "SELECT string_agg(concat_ws(' ', kind, payment_ref, refund_ref, quantity), ', ' ORDER BY lsn) \
         FROM stock_payment WHERE sid = 1 AND create_time > now() - interval '1 hour'";
    let rows = "late_payment pi_2 0, refund part 1, late_payment_returned pi_2 0";
    wait_for("the rows", || (sql(ROWS) == rows).then_some(()));
    is_equal(&bed);
    // A row left by an earlier log is ignored.
    sql(
        "INSERT INTO stock_payment SELECT order_id, 77777, sid, kind, payment_ref, refund_ref, quantity, create_time \
         FROM stock_payment LIMIT 1",
    );
    let known = is_equal(&bed)["known"].to_string();
    assert!(known.contains("77777 of stock_payment was not written by this log"), "{known}");
    for (edit, what) in [
        ("UPDATE stock_payment SET quantity = 2 WHERE kind = 'refund'", "stock_payment has another row"),
        ("DELETE FROM stock_payment WHERE kind = 'late_payment'", "stock_payment lacks"),
    ] {
        sql(&format!("CREATE TABLE kept AS TABLE stock_payment; {edit}"));
        let (code, said) = reconcile(&bed, &["--no-pause"]);
        assert!(code == Some(1) && said.contains(what), "{edit}: {code:?}, {said}");
        sql("TRUNCATE stock_payment; INSERT INTO stock_payment TABLE kept; DROP TABLE kept");
        is_equal(&bed);
    }
    assert_eq!(server.stop(), Some(0));
}

fn put_by_hand(cluster: &PostgresCluster) {
    let id = order(20, 7);
    let sql = format!(
        "INSERT INTO stock (id, name, count, sale) VALUES (20, 'by hand', 3, 1); \
         INSERT INTO stock_order (id, sid, buyer, quantity, state, idem_key, payment_ref) \
         VALUES ({id}, 20, 'back\\\\slash', 1, 'paid', 'k', 'p'), (78, 99, 'z', 1, 'paid', NULL, NULL); \
         ALTER TABLE stock_order ADD CONSTRAINT nobody CHECK (buyer <> 'nobody')"
    );
    cluster.psql("postgres", &sql).unwrap();
}

/// An order that Postgres refuses, and a draw with more entries than units; returns the order.
fn refuse_and_draw(server: &Server) -> String {
    let opens_at_ms = now_ms() + 400;
    let body = serde_json::json!({
        "name": "drawn", "stock": 1, "cap": 1, "payment": "on_order", "opens_at_ms": opens_at_ms,
        "closes_at_ms": opens_at_ms + 3_600_000, "draw_ms": 1_500,
    });
    let mut talk = Talk::with(server);
    talk.check(&format!("shop PUT /admin/items/21 {body} -> 201 upcoming 1=1+0+0"));
    wait_for("the opening", || (state(server, 21) == "open").then_some(()));
    talk.check(
        r#"
        ann    POST /v1/items/21/orders {"quantity":1}         -> 202 entered x1 $a
        bob    POST /v1/items/21/orders {"quantity":1}         -> 202 entered x1 $b
        nobody POST /v1/items/6/orders {"quantity":1}          -> 201 confirmed x1 $n
        cy     POST /v1/items/20/orders {"quantity":1} #k      -> 201 confirmed x1 $c
        shop   POST /admin/orders/$c/pay {"payment_ref":"q"}   -> 200 paid x1 $c
        "#,
    );
    talk.into_orders()["$n"].clone()
}

fn check_drawn(server: &Server, bed: &Bed) {
    let mut talk = Talk::with(server);
    wait_for("the draw", || {
        let orders = talk.say("shop GET /admin/orders?item=21").body;
        (orders.contains("lost") && orders.contains("confirmed")).then_some(())
    });
    is_equal(bed);
}

/// Corrects the changes, and sells again.
fn mend(cluster: &PostgresCluster, server: &Server, bed: &Bed) {
    let sql = |text: &str| cluster.psql("postgres", text).unwrap();
    // One at a time, to see that the first of two was named, and that --item checks only one.
    sql(&format!("UPDATE stock_order SET quantity = quantity - 1 WHERE id = {}", order(1, 5)));
    let (code, text) = reconcile(bed, &["--item", "1", "--no-pause"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("order {}: Postgres has another quantity", order(1, 9))), "{text}");
    assert!(text.contains("item 1 was not paused") && text.contains(" 1 items, "), "{text}");
    sql(&format!("UPDATE stock_order SET quantity = quantity - 1 WHERE id = {}", order(1, 9)));
    sql(&format!("DELETE FROM stock_order WHERE id IN (77, {})", order(3, 4_000_000)));
    sql("UPDATE stock SET count = count - 9000000000000000 WHERE id = 5");
    let restored = format!(
        "INSERT INTO stock_order (id, sid, buyer, quantity, state, idem_key, lsn) \
         SELECT {id}, 2, '{buyer}', 1, '{state}', {key}, 0",
        id = order(2, 3),
        buyer = log_says(bed, 2, 3, "buyer"),
        state = log_says(bed, 2, 3, "state"),
        key = "NULL",
    );
    sql(&restored);
    let (code, report) = report(bed, &["--no-pause"]);
    // The key cannot be computed from its hash: that difference remains.
    assert_eq!(
        (code, found(&report)),
        (Some(1), vec![(2, "postgres".to_owned(), Some(order(2, 3)))]),
        "{report:#}"
    );
    assert!(report["mismatches"][0]["what"].to_string().contains("another key_hash"), "{report:#}");
    let mut talk = Talk::with(server);
    for number in [1, 3, 4, 5] {
        talk.say(&format!("shop POST /admin/items/{number}/resume"));
    }
    let sold = orders_of(server, 1);
    wait_for_orders(server, 1, sold + 5);
}

/// A field of an order, from the report that names it.
fn log_says(bed: &Bed, item: u64, seq: u64, field: &str) -> String {
    let (_, report) = report(bed, &["--item", &item.to_string(), "--no-pause"]);
    assert_eq!(found(&report)[0].2, Some(order(item, seq)), "{report:#}");
    report["mismatches"][0]["log"]["order"][field].as_str().expect("a text").to_owned()
}

#[test]
fn e2e_reconcile_survives_kills_and_says_what_it_cannot_compare() {
    let mut cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    let mut bed = Bed::new().flag("--postgres", &cluster.url());
    let server = bed.start();
    open_items(&server);
    let crowd = Crowd::come(&server, 32);
    wait_for_orders(&server, 6, 30);
    // The server is killed and restarted meanwhile; the command never reports a mismatch.
    let watching = Watching::start(&bed, &["--watch", "1", "--json", "--patience", "20"]);
    wait_for("a comparison", || (!watching.printed().is_empty()).then_some(()));
    server.kill();
    let server = bed.start();
    let sold = orders_of(&server, 6);
    wait_for_orders(&server, 6, sold + 30);
    is_equal(&bed);
    let before = watching.printed().len();
    wait_for("one comparison more", || (watching.printed().len() > before).then_some(()));
    for line in watching.printed() {
        let report: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(found(&report), [], "{report:#}");
    }
    // kill -9 of the command itself, at any moment.
    drop(watching);
    for _ in 0..3 {
        drop(Watching::start(&bed, &[]));
    }
    is_equal(&bed);
    crowd.go();
    cluster.stop(StopMode::Immediate).unwrap();
    let (code, text) = reconcile(&bed, &["--patience", "2"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("memory and log; Postgres could not be compared, equal: 8 items"), "{text}");
    let (code, text) = reconcile(&bed, &["--item", "99", "--patience", "2"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("neither the engine nor the log has an item 99"), "{text}");
    assert_eq!(server.stop(), Some(0));
    let (code, text) = reconcile(&bed, &["--patience", "1"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.starts_with("stampede: the engine at http://127.0.0.1:"), "{text}");
}

/// A comparison that continues until it is killed.
struct Watching {
    child: Child,
    printed: Arc<Mutex<Vec<String>>>,
}

impl Watching {
    fn start(bed: &Bed, flags: &[&str]) -> Self {
        let mut command = bed.command("reconcile");
        command.args(flags).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let printed = Arc::<Mutex<Vec<String>>>::default();
        let printing = printed.clone();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| printing.lock().unwrap().push(line));
        });
        Self { child, printed }
    }

    /// The lines that it has printed so far.
    fn printed(&self) -> Vec<String> {
        self.printed.lock().unwrap().clone()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _gone_already = self.child.wait();
    }
}

#[test]
fn e2e_reconcile_notices_a_log_that_differs_from_memory() {
    let mut bed = Bed::new();
    let server = bed.start();
    open_items(&server);
    let crowd = Crowd::come(&server, 33);
    wait_for_orders(&server, 6, 30);
    let (code, text) = reconcile(&bed, &["-v"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("memory and log; no Postgres is configured, equal: 8 items, "), "{text}");
    assert_eq!(text.matches("  equal\n").count(), 8, "{text}");
    // About another engine it says nothing, however much it differs.
    let stranger = Bed::new().start();
    let (code, text) = reconcile(&bed, &["--url", &format!("http://{}", stranger.admin)]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("writes to another data directory"), "{text}");
    assert_eq!(stranger.stop(), Some(0));
    crowd.go();
    let mut talk = Talk::with(&server);
    // Nothing is left that would expire later.
    wait_for("the last hold's end", || {
        (talk.say("shop GET /admin/items/7").json()["held"] == 0).then_some(())
    });
    assert_eq!(server.stop(), Some(0));
    // The same log, except for the buyers of two orders.
    let other = bed.beside("other");
    copy(&bed.dir, &other);
    rewrite_log(&other, |fact| match *fact {
        Fact::OrderPlaced { at_ms, order, quantity, state, pay_by_ms, subject, key, price }
            if order.item().get() == 2 && [4, 6].contains(&order.seq()) =>
        {
            let mut forged = subject.to_vec();
            forged[0] ^= 1;
            let fact =
                Fact::OrderPlaced { at_ms, order, quantity, state, pay_by_ms, subject: &forged, key, price };
            Some(encoded(&fact))
        }
        _ => None,
    });
    // First the log is the odd one out, then the engine's memory.
    for (serves, reads) in [(bed.dir.clone(), other.clone()), (other.clone(), bed.dir.clone())] {
        bed.dir.clone_from(&serves);
        let server = bed.start();
        bed.dir.clone_from(&reads);
        check_forged(&bed, &server);
        // A damaged log cannot be compared.
        if serves == other {
            check_damaged(&bed);
        }
        server.kill();
    }
}

fn check_forged(bed: &Bed, server: &Server) {
    let (code, report) = report(bed, &[]);
    let expected = [(2, "memory".to_owned(), Some(order(2, 4)))];
    assert_eq!((code, &*found(&report)), (Some(1), &expected[..]), "{report:#}");
    let first = &report["mismatches"][0];
    assert_ne!(first["memory"]["order"]["buyer"], first["log"]["order"]["buyer"], "{report:#}");
    assert_eq!(first["memory"]["order"]["lsn"], first["log"]["order"]["lsn"], "{report:#}");
    assert_eq!((state(server, 2), state(server, 1)), ("paused".to_owned(), "open".to_owned()));
    Talk::with(server).check(r#"zoe POST /v1/items/1/orders {"quantity":1} -> 201 confirmed x1 $z"#);
}

fn check_damaged(bed: &Bed) {
    let segment = segment_file(&bed.dir, 1);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[BLOCK_HEADER_BYTES + 40] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (code, text) = reconcile(bed, &["--patience", "1"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("WRONG: ") && text.contains("0000000000000001.seg at byte 0"), "{text}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &name);
        } else {
            std::fs::copy(&path, &name).unwrap();
        }
    }
}
