//! End to end with a real Postgres: a start without it, in the middle of the log's life.

use stampede_loadgen::batch::{Format, Mode, Plan, run};
use stampede_loadgen::throwaway::{ClusterOptions, PostgresCluster, StopMode};

use crate::e2e_talk::{Talk, item};
use crate::server::{Bed, Server, TOKEN, wait_for};

/// The item that everybody buys.
const ITEM: u32 = 1;
const STOCK: u64 = 4_000_000;
/// Purchases of one round.
const ROUND: u64 = 150_000;
/// So many bytes of log ask for a snapshot: some more than 16 segments of 4 MiB.
const SNAPSHOT_BYTES: u64 = 80 << 20;

fn cluster() -> PostgresCluster {
    PostgresCluster::new(ClusterOptions::default()).unwrap()
}

fn ask(cluster: &PostgresCluster, sql: &str) -> String {
    cluster.psql("postgres", sql).unwrap().trim().to_owned()
}

fn open_item(server: &Server) {
    let put = format!("shop PUT /admin/items/{ITEM} {}", item(STOCK, 1, "on_order", 0));
    assert_eq!(Talk::with(server).say(&put).status, 201);
}

/// A number out of `GET /admin/stats`.
fn stat(server: &Server, part: &str, name: &str) -> u64 {
    Talk::with(server).say("shop GET /admin/stats").json()[part][name].as_u64().unwrap()
}

/// Purchases by buyers whose names nobody else has.
fn buy(server: &Server, count: u64, tag: u16) {
    let plan = Plan {
        addr: server.admin,
        token: TOKEN.to_owned(),
        item: ITEM,
        items: 1,
        stock: STOCK,
        count,
        batch: 8_000,
        pipeline: 3,
        format: Format::Binary,
        mode: Mode::Winners,
        tag,
    };
    assert_eq!(run(&plan).unwrap().winners, count);
}

/// Sells until a second snapshot covers facts: what stands in the log before the first may go then.
/// Returns how many were sold.
fn sell_past_two_snapshots(server: &Server) -> u64 {
    let mut sold = 0;
    for _ in 0..2 {
        let (written, snapshot) = (stat(server, "log", "bytes_written"), stat(server, "log", "snapshot_lsn"));
        while stat(server, "log", "bytes_written") < written + SNAPSHOT_BYTES {
            assert!(sold < STOCK / 2, "{sold} orders do not fill so much log");
            buy(server, ROUND, 100 + (sold / ROUND) as u16);
            sold += ROUND;
        }
        wait_for("a snapshot", || (stat(server, "log", "snapshot_lsn") != snapshot).then_some(()));
    }
    sold
}

fn wait_for_rows(cluster: &PostgresCluster, server: &Server, orders: u64) {
    let last = stat(server, "log", "durable_lsn").to_string();
    wait_for("the cursor", || (ask(cluster, "SELECT lsn FROM stampede_cursor") == last).then_some(()));
    let rows = ask(cluster, "SELECT count(*), count(DISTINCT buyer) FROM stock_order");
    assert_eq!(rows, format!("{orders}|{orders}"));
    let sql = format!("SELECT count, held, sale FROM stock WHERE id = {ITEM}");
    assert_eq!(ask(cluster, &sql), format!("{}|0|{orders}", STOCK - orders));
}

/// I11: whatever the flags of a start in between, Postgres gets every fact.
#[test]
fn e2e_a_start_without_postgres_keeps_what_postgres_lacks() {
    let mut cluster = cluster();
    let mut bed = Bed::new().flag("--postgres", &cluster.url());
    let server = bed.start();
    open_item(&server);
    wait_for("the item in Postgres", || (ask(&cluster, "SELECT count(*) FROM stock") == "1").then_some(()));
    cluster.stop(StopMode::Immediate).unwrap();
    buy(&server, 10_000, 1);
    server.kill();
    // The flag is forgotten.
    let mut bed = bed.without_flags();
    let mut server = bed.start();
    let sold = 10_000 + sell_past_two_snapshots(&server);
    let mut talk = Talk::with(&server);
    let ready = talk.say("shop GET /readyz");
    let note = ready.json()["weakened"].to_string();
    assert!(ready.status == 200 && note.contains("the log is kept for database"), "{ready:?}");
    let alarms = talk.say("shop GET /admin/stats").json()["alarms"].to_string();
    assert!(alarms.contains("the log is kept for database"), "{alarms}");
    assert!(server.said().contains("WEAKENED:  no postgres.url"), "{}", server.said());
    assert_eq!(stat(&server, "log", "first_retained_lsn"), 1, "nothing has gone");
    server.kill();
    cluster.start().unwrap();
    let mut bed = bed.flag("--postgres", &cluster.url());
    let server = bed.start();
    wait_for_rows(&cluster, &server, sold);
    // And what is exported may go.
    wait_for("the log to be trimmed", || (stat(&server, "log", "first_retained_lsn") > 1).then_some(()));
    assert_eq!(server.stop(), Some(0));
}
