//! End to end with a real Postgres: a start without it in the middle of the log's life, and a
//! database that lacks what the log no longer holds.

use stampede_loadgen::batch::{Format, Mode, Plan, run};
use stampede_testkit::{ClusterOptions, PostgresCluster, StopMode};

use crate::e2e_talk::{Talk, item};
use crate::server::{Bed, Server, TOKEN, wait_for};

/// The item that everybody buys.
const ITEM: u32 = 1;
const STOCK: u64 = 1_000_000;
/// Purchases of one round, one after the other: each is a group in the log, padded to 4 KiB,
/// so a few of them fill many segments.
const ROUND: u64 = 4_000;
/// So many bytes of log trigger a snapshot: a little more than 16 segments of 4 MiB.
const SNAPSHOT_BYTES: u64 = 72 << 20;

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

/// A number from `GET /admin/stats`.
fn stat(server: &Server, part: &str, name: &str) -> u64 {
    Talk::with(server).say("shop GET /admin/stats").json()[part][name].as_u64().unwrap()
}

/// Purchases by buyers with names that nobody else has.
fn buy(server: &Server, count: u64, tag: u16) {
    let plan = Plan {
        addr: server.admin,
        token: TOKEN.to_owned(),
        item: ITEM,
        items: 1,
        stock: STOCK,
        count,
        batch: 1,
        pipeline: 1,
        format: Format::Binary,
        mode: Mode::Winners,
        tag,
    };
    assert_eq!(run(&plan).unwrap().winners, count);
}

/// Sells until a second snapshot covers facts: the log before the first may be trimmed then.
/// Returns how many were sold.
fn sell_past_two_snapshots(server: &Server) -> u64 {
    let mut sold = 0;
    for _ in 0..2 {
        let (written, snapshot) = (stat(server, "log", "bytes_written"), stat(server, "log", "snapshot_lsn"));
        while stat(server, "log", "bytes_written") < written + SNAPSHOT_BYTES {
            assert!(sold < STOCK * 3 / 4, "{sold} orders do not fill so much log");
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
    buy(&server, 1_000, 1);
    server.kill();
    // A start without the flag.
    let mut bed = bed.without_flags();
    let mut server = bed.start();
    let sold = 1_000 + sell_past_two_snapshots(&server);
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
    // And exported segments may be trimmed.
    wait_for("the log to be trimmed", || (stat(&server, "log", "first_retained_lsn") > 1).then_some(()));
    assert_eq!(server.stop(), Some(0));
}

/// Runs a command with the bed's settings; returns exit code and output.
fn command(bed: &Bed, name: &str, args: &[&str]) -> (Option<i32>, String) {
    let output = bed.command(name).args(args).output().expect("the binary runs");
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(told).unwrap())
}

#[track_caller]
fn check_refused(bed: &Bed, words: &str) {
    let (code, said) = bed.start_refused();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(words), "no `{words}` in {said}");
}

/// Fills the bed's database, starts with it, and compares memory, log and Postgres.
fn fill_and_start(bed: &mut Bed, orders: u64) -> Server {
    let (code, told) = command(bed, "export", &["--from-snapshot"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&format!("{orders} orders, 2 items, 1 blocked buyers")), "{told}");
    let (code, told) = command(bed, "export", &["--from-snapshot"]);
    assert_eq!(code, Some(1), "a second time there is nothing to do: {told}");
    assert!(told.contains("nothing is missing"), "{told}");
    let server = bed.start();
    let (code, told) = command(bed, "reconcile", &["--no-pause"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("memory, log and Postgres equal"), "{told}");
    server
}

/// I12 and its remedy: a database from before the beginning of the log is refused, filled, and then accepted.
#[test]
fn e2e_a_database_from_before_the_log_is_filled() {
    let cluster = cluster();
    let mut bed = Bed::new().flag("--postgres", &cluster.url());
    let server = bed.start();
    open_item(&server);
    let mut talk = Talk::with(&server);
    talk.check(&format!(
        r#"
        shop  PUT /admin/items/2 {}                       -> 201 open 9=9+0+0
        alice POST /v1/items/2/orders {{"quantity":1}} #k   -> 201 pending x1 $a
        shop  POST /admin/orders/$a/pay {{"payment_ref":"early"}} -> 200 paid x1 $a
        shop  PUT /admin/blocklist/mallory               -> 200
        "#,
        item(9, 2, "on_payment", 0)
    ));
    let orders = talk.into_orders();
    // The backup must have everything: a server that stops right after its start may not have exported yet.
    wait_for("the export", || (stat(&server, "export", "lag") == 0).then_some(()));
    assert_eq!(server.stop(), Some(0));
    cluster.psql("template1", "CREATE DATABASE old TEMPLATE postgres").unwrap();

    let server = bed.start();
    let mut talk = Talk::resume(&server, orders);
    talk.check(
        r#"
        bob   POST /v1/items/2/orders {"quantity":1} #k   -> 201 pending x1 $b
        shop  POST /admin/orders/$b/pay {"payment_ref":"lost"} -> 200 paid x1 $b
        "#,
    );
    let sold = sell_past_two_snapshots(&server);
    talk.check(r#"carol POST /v1/items/2/orders {"quantity":1} #k -> 201 pending x1 $c"#);
    wait_for("the log to be trimmed", || (stat(&server, "log", "first_retained_lsn") > 5).then_some(()));
    let orders = talk.into_orders();
    assert_eq!(server.stop(), Some(0));

    // An old backup was restored.
    let mut bed = bed.without_flags().flag("--postgres", &cluster.url_of("old"));
    check_refused(&bed, "stampede export --from-snapshot");
    let server = fill_and_start(&mut bed, sold + 3);
    let texts = "SELECT buyer, coalesce(idem_key, '-'), coalesce(payment_ref, '-') FROM stock_order \
                 WHERE sid = 2 ORDER BY id";
    let known = cluster.psql("old", texts).unwrap();
    assert_eq!(known.trim(), "alice|k|early\nbob|k|lost\ncarol|k|-", "the snapshot has what the log lost");
    Talk::resume(&server, orders)
        .check(r#"bob POST /v1/items/2/orders {"quantity":1} #k -> 201 pending x1 again $b"#);
    assert_eq!(server.stop(), Some(0));

    // The database is lost, and there is a new one.
    cluster.psql("postgres", "CREATE DATABASE fresh").unwrap();
    let mut bed = bed.without_flags().flag("--postgres", &cluster.url_of("fresh"));
    check_refused(&bed, "stampede detach");
    let (code, told) = command(&bed, "export", &["--from-snapshot"]);
    assert_eq!(code, Some(1), "only a detached log takes another database: {told}");
    let dir = bed.dir.to_str().unwrap().to_owned();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_stampede"))
        .args(["detach", &dir, "--yes"])
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    check_refused(&bed, "stampede export --from-snapshot");
    let server = fill_and_start(&mut bed, sold + 3);
    buy(&server, 1_000, 99);
    let last = stat(&server, "log", "durable_lsn").to_string();
    wait_for("the cursor", || {
        let cursor = cluster.psql("fresh", "SELECT lsn FROM stampede_cursor").unwrap();
        (cursor.trim() == last).then_some(())
    });
    let count =
        cluster.psql("fresh", "SELECT count(*), count(DISTINCT (buyer, sid)) FROM stock_order").unwrap();
    assert_eq!(count.trim(), format!("{0}|{0}", sold + 1_003));
    assert_eq!(cluster.psql("fresh", "SELECT buyer FROM stampede_blocked").unwrap().trim(), "mallory");
    assert_eq!(server.stop(), Some(0));
}
