//! End to end with a real Postgres: exactly-once export, sales without it, and its edits.

use std::process::Command;

use stampede_testkit::{ClusterOptions, PostgresCluster, StopMode};

use crate::e2e_sale::{STOCK, judge, open_sale, rush, wait_for_sold};
use crate::e2e_talk::{Talk, item};
use crate::server::{Bed, Server, get, wait_for};

fn cluster() -> PostgresCluster {
    PostgresCluster::new(ClusterOptions::default()).unwrap()
}

fn ask(cluster: &PostgresCluster, sql: &str) -> String {
    cluster.psql("postgres", sql).unwrap().trim().to_owned()
}

fn wait_for_row(cluster: &PostgresCluster, sql: &str, expected: &str) {
    let mut last = String::new();
    wait_for(&format!("`{sql}` to be {expected}"), || {
        let seen = ask(cluster, sql);
        if seen != last {
            eprintln!("{sql}: {seen}");
            last.clone_from(&seen);
        }
        (seen == expected).then_some(())
    });
}

fn check_rows(cluster: &PostgresCluster) {
    assert_eq!(
        ask(cluster, "SELECT count(*), count(DISTINCT buyer) FROM stock_order"),
        format!("{STOCK}|{STOCK}")
    );
    assert_eq!(ask(cluster, "SELECT count, held, sale FROM stock WHERE id = 1"), format!("0|0|{STOCK}"));
}

#[test]
fn e2e_killed_in_mid_sale_postgres_gets_every_order_once() {
    let cluster = cluster();
    let mut bed = Bed::new().flag("--postgres", &cluster.url());
    let server = bed.start();
    open_sale(&server);
    let (server, outcome) = rush(server, 21, |server| {
        wait_for_sold(&server, STOCK as i64 / 4);
        server.kill();
        bed.start()
    });
    assert!(outcome.tally.reconnects > 0, "the buyers have noticed nothing");
    judge(&server, &outcome, Some(&cluster.url()));
    check_rows(&cluster);
    assert_eq!(server.stop(), Some(0));
    let server = bed.start();
    judge(&server, &outcome, Some(&cluster.url()));
}

#[test]
fn e2e_without_postgres_the_sale_goes_on_and_is_exported_later() {
    let mut cluster = cluster();
    let mut bed = Bed::new().flag("--postgres", &cluster.url());
    let server = bed.start();
    open_sale(&server);
    let (server, outcome) = rush(server, 22, |server| {
        wait_for_sold(&server, STOCK as i64 / 4);
        cluster.stop(StopMode::Immediate).unwrap();
        wait_for_sold(&server, STOCK as i64);
        server
    });
    assert_eq!(outcome.tally.reconnects, 0, "buyers must not notice");
    judge(&server, &outcome, None);
    assert_eq!(Talk::with(&server).say("shop GET /readyz").status, 200);
    // A start without Postgres still sells.
    server.kill();
    let server = bed.start();
    judge(&server, &outcome, None);
    Talk::with(&server)
        .check(&format!("shop PUT /admin/items/2 {} -> 201 open 9=9+0+0", item(9, 1, "on_order", 0)));
    cluster.start().unwrap();
    judge(&server, &outcome, Some(&cluster.url()));
    check_rows(&cluster);
}

fn ready(server: &Server) -> String {
    wait_for("the engine to be ready", || {
        get(server.admin, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
    })
}

fn alarms(server: &Server) -> String {
    Talk::with(server).say("shop GET /admin/stats").json()["alarms"].to_string()
}

/// A promoted standby that lacks the last commits, or a restored copy of the files: the same
/// database, as it was a moment ago.
#[test]
fn e2e_a_postgres_that_lost_commits_gets_them_again() {
    for restarted in [false, true] {
        let mut cluster = cluster();
        let mut bed = Bed::new().flag("--postgres", &cluster.url());
        let server = bed.start();
        let put = item(9, 1, "on_order", 0);
        Talk::with(&server).check(&format!("shop PUT /admin/items/1 {put} -> 201 open 9=9+0+0"));
        Talk::with(&server).check(r#"ann POST /v1/items/1/orders {"quantity":1} #a -> 201 confirmed x1 $a"#);
        wait_for_row(&cluster, "SELECT count(*) FROM stock_order", "1");
        cluster.stop(StopMode::Fast).unwrap();
        let (data, standby) = (cluster.data_dir(), cluster.data_dir().with_extension("standby"));
        let copied = Command::new("cp").arg("-a").arg(&data).arg(&standby).status().expect("cp runs");
        assert!(copied.success());
        cluster.start().unwrap();
        // If this process attached after the copy was made, the standby lacks its claim, too.
        let server = if restarted {
            assert_eq!(server.stop(), Some(0));
            bed.start()
        } else {
            server
        };
        Talk::with(&server).check(r#"bob POST /v1/items/1/orders {"quantity":1} #b -> 201 confirmed x1 $b"#);
        wait_for_row(&cluster, "SELECT count(*) FROM stock_order", "2");
        cluster.stop(StopMode::Immediate).unwrap();
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(&standby, &data).unwrap();
        cluster.start().unwrap();
        // Nothing is sold, and it is noticed all the same.
        wait_for_row(&cluster, "SELECT count(*) FROM stock_order", "2");
        Talk::with(&server).check(r#"cid POST /v1/items/1/orders {"quantity":1} #c -> 201 confirmed x1 $c"#);
        wait_for_row(&cluster, "SELECT count(*), count(DISTINCT buyer) FROM stock_order", "3|3");
        wait_for_row(&cluster, "SELECT count, held, sale FROM stock", "6|0|3");
        ready(&server);
        let alarms = alarms(&server);
        assert!(alarms.contains("what it lacks is exported again"), "{alarms}");
        // After a restart there is nothing left to report.
        assert_eq!(server.stop(), Some(0));
        ready(&bed.start());
    }
}

/// A start whose database is reached and then fails at the first look at its rows (I18).
#[test]
fn e2e_a_known_database_that_fails_at_a_start_stops_no_sale() {
    let cluster = cluster();
    ask(&cluster, "CREATE ROLE shop LOGIN PASSWORD 'x'");
    ask(&cluster, "CREATE DATABASE shop OWNER shop");
    let mut bed = Bed::new().flag("--postgres", &cluster.url_as("shop", "x", "shop"));
    let server = bed.start();
    let put = item(9, 1, "on_order", 0);
    Talk::with(&server).check(&format!("shop PUT /admin/items/1 {put} -> 201 open 9=9+0+0"));
    assert_eq!(server.stop(), Some(0));
    cluster.psql("shop", "REVOKE SELECT ON stock FROM shop").unwrap();
    let mut server = bed.start();
    Talk::with(&server).check(r#"ann POST /v1/items/1/orders {"quantity":1} #a -> 201 confirmed x1 $a"#);
    assert!(server.said().contains("permission denied for table stock"), "{}", server.said());
    cluster.psql("shop", "GRANT SELECT ON stock TO shop").unwrap();
    wait_for("the order in the database", || {
        let orders = cluster.psql("shop", "SELECT count(*) FROM stock_order").unwrap();
        (orders.trim() == "1").then_some(())
    });
}

/// A dump is restored while the engine runs and is connected.
#[test]
fn e2e_a_dump_that_is_restored_gets_what_it_lacks() {
    let cluster = cluster();
    let mut bed = Bed::new().flag("--postgres", &cluster.url());
    let server = bed.start();
    let put = item(9, 1, "on_order", 0);
    Talk::with(&server).check(&format!("shop PUT /admin/items/1 {put} -> 201 open 9=9+0+0"));
    Talk::with(&server).check(r#"ann POST /v1/items/1/orders {"quantity":1} #a -> 201 confirmed x1 $a"#);
    wait_for_row(&cluster, "SELECT count(*) FROM stock_order", "1");
    // Row by row, as a dump has them.
    let tables = ["stampede_cursor", "stampede_item", "stock", "stock_order"];
    let kept = tables.map(|table| format!("CREATE TABLE kept_{table} AS TABLE {table};")).concat();
    ask(&cluster, &kept);
    Talk::with(&server).check(r#"bob POST /v1/items/1/orders {"quantity":1} #b -> 201 confirmed x1 $b"#);
    wait_for_row(&cluster, "SELECT count(*) FROM stock_order", "2");
    let back = tables.map(|table| {
        format!("TRUNCATE {table}; INSERT INTO {table} TABLE kept_{table}; DROP TABLE kept_{table};")
    });
    ask(&cluster, &format!("BEGIN; {} COMMIT", back.concat()));
    wait_for_row(&cluster, "SELECT count(*) FROM stock_order", "2");
    Talk::with(&server).check(r#"cid POST /v1/items/1/orders {"quantity":1} #c -> 201 confirmed x1 $c"#);
    wait_for_row(&cluster, "SELECT count(*) FROM stock_order", "3");
    wait_for_row(&cluster, "SELECT count, held, sale FROM stock", "6|0|3");
    ready(&server);
    let alarms = alarms(&server);
    assert!(alarms.contains("what it lacks is exported again"), "{alarms}");
}

#[test]
fn e2e_a_database_that_cannot_work_is_refused_at_the_start() {
    let cluster = cluster();
    ask(&cluster, "CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'");
    let (code, said) = Bed::new().flag("--postgres", &cluster.url_of("latin")).start_refused();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has the encoding LATIN1") && said.contains("createdb"), "{said}");
}

/// One buyer whom the database refuses, and an export that makes no progress because of its tables.
#[test]
fn e2e_what_the_database_refuses_is_reported() {
    let cluster = cluster();
    let mut bed = Bed::new().flag("--postgres", &cluster.url());
    let server = bed.start();
    let put = item(9, 1, "on_order", 0);
    Talk::with(&server).check(&format!("shop PUT /admin/items/1 {put} -> 201 open 9=9+0+0"));
    wait_for_row(&cluster, "SELECT count FROM stock", "9");
    ask(&cluster, "ALTER TABLE stock_order ADD CHECK (buyer <> 'evil')");
    Talk::with(&server).check(
        r#"
        evil POST /v1/items/1/orders {"quantity":1} #a -> 201 confirmed x1 $a
        ann  POST /v1/items/1/orders {"quantity":1} #b -> 201 confirmed x1 $b
        "#,
    );
    wait_for_row(&cluster, "SELECT buyer FROM stock_order", "ann");
    wait_for_row(&cluster, "SELECT count, held, sale FROM stock", "7|0|2");
    assert!(alarms(&server).contains("buyer=evil"), "{}", alarms(&server));
    // A missing table is no single row's fault: it is reported at once, with how long it has lasted.
    ask(&cluster, "ALTER TABLE stock_order RENAME TO away");
    Talk::with(&server).check(r#"bob POST /v1/items/1/orders {"quantity":1} #c -> 201 confirmed x1 $c"#);
    wait_for("the alarm", || alarms(&server).contains("stock_order").then_some(()));
    let said = wait_for("the error", || {
        get(server.admin, "/readyz").filter(|answer| answer.contains("export_error"))
    });
    assert!(said.starts_with("HTTP/1.1 200"), "the sale goes on: {said}");
    wait_for("the wait", || {
        Talk::with(&server).say("shop GET /admin/stats").json()["export"]["waits_ms"]
            .as_u64()
            .filter(|ms| *ms > 0)
    });
    ask(&cluster, "ALTER TABLE away RENAME TO stock_order");
    wait_for_row(&cluster, "SELECT count(*) FROM stock_order", "2");
}

#[test]
fn e2e_stock_rows_that_were_there_before_are_on_sale() {
    let cluster = cluster();
    let mut bed = Bed::new().flag("--postgres", &cluster.url());
    assert_eq!(bed.start().stop(), Some(0));
    ask(&cluster, "INSERT INTO stock (id, name, count) VALUES (5, 'by hand', 3)");
    let server = bed.start();
    Talk::with(&server).check(
        r#"
        shop  GET /admin/items/5                           -> 200 open 3=3+0+0
        alice POST /v1/items/5/orders {"quantity":1} #k    -> 201 confirmed x1 $a
        "#,
    );
    wait_for_row(&cluster, "SELECT count, held, sale FROM stock WHERE id = 5", "2|0|1");
    edit_by_hand(&cluster, &server);
    server.kill();
    let server = bed.start();
    Talk::with(&server).check(
        r#"
        shop  GET /admin/items/5                           -> 200 open 10=9+0+1
        alice POST /v1/items/5/orders {"quantity":1} #k    -> 201 confirmed x1 again $a
        "#,
    );
    wait_for_row(&cluster, "SELECT count, held, sale FROM stock WHERE id = 5", "9|0|1");
}

/// SQL adds seven units while the sale runs.
fn edit_by_hand(cluster: &PostgresCluster, server: &Server) {
    ask(cluster, "UPDATE stock SET count = count + 7 WHERE id = 5");
    let mut talk = Talk::with(server);
    wait_for("the shop to see the edit", || {
        (talk.say("shop GET /admin/items/5").brief() == "200 open 10=9+0+1").then_some(())
    });
    wait_for_row(cluster, "SELECT count, held, sale FROM stock WHERE id = 5", "9|0|1");
    let alarms = talk.say("shop GET /admin/stats").json()["alarms"].to_string();
    assert!(alarms.contains("changed by 7 units outside"), "{alarms}");
}

#[test]
fn e2e_a_database_of_another_log_is_refused() {
    let cluster = cluster();
    let mut bed = Bed::new().flag("--postgres", &cluster.url());
    assert_eq!(bed.start().stop(), Some(0));
    let other = Bed::new().flag("--postgres", &cluster.url());
    let (code, said) = other.start_refused();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("stampede: this database must not be used with this log"), "{said}");
    // Nor does the log accept another database.
    let elsewhere = self::cluster();
    let bed = bed.without_flags().flag("--postgres", &elsewhere.url());
    let (code, said) = bed.start_refused();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("stampede: this database must not be used with this log"), "{said}");
}

/// A shop takes over old orders: created "now", to be paid years ago. The log cannot hold
/// such a row.
#[test]
fn e2e_an_order_row_that_is_impossible_is_set_aside() {
    let cluster = cluster();
    let mut bed = Bed::new().flag("--postgres", &cluster.url());
    let server = bed.start();
    Talk::with(&server)
        .check(&format!("shop PUT /admin/items/2 {} -> 201 open 9=9+0+0", item(9, 1, "on_order", 0)));
    Talk::with(&server).check(r#"alice POST /v1/items/2/orders {"quantity":1} #k -> 201 confirmed x1 $a"#);
    assert_eq!(server.stop(), Some(0));
    ask(
        &cluster,
        "INSERT INTO stock (id, name, count, sale) VALUES (5, 'old', 3, 1), (6, 'new', 4, 0); \
         INSERT INTO stock_order (id, sid, buyer, quantity, state, pay_by) \
         VALUES (5::bigint << 32 | 1, 5, 'bob', 1, 'paid', '2020-01-01')",
    );
    let (odd, next) = (5_u64 << 32 | 1, bed.start());
    let mut talk = Talk::with(&next);
    talk.check(
        r#"
        shop  GET /admin/items/5                           -> 404 not_found
        shop  GET /admin/items/6                           -> 200 open 4=4+0+0
        alice POST /v1/items/2/orders {"quantity":1} #k    -> 201 confirmed x1 again $a
        "#,
    );
    let alarms = talk.say("shop GET /admin/stats").json()["alarms"].to_string();
    assert!(alarms.contains("stock row 5") && alarms.contains(&odd.to_string()), "{alarms}");
    // A table that has lost a constraint, and an invalid time.
    ask(
        &cluster,
        "ALTER TABLE stock_order ALTER buyer DROP NOT NULL; \
         INSERT INTO stock_order (id, sid, quantity, state, create_time) VALUES (77, 9, 1, 'paid', '-infinity')",
    );
    let compared = bed.command("reconcile").output().expect("the binary runs");
    assert!(compared.status.success(), "{compared:?}");
    next.kill();
    // Without the database as well, and `log verify` accepts the log.
    let verified =
        Command::new(env!("CARGO_BIN_EXE_stampede")).args(["log", "verify"]).arg(&bed.dir).output();
    let verified = verified.expect("the binary runs");
    assert!(verified.status.success(), "{verified:?}");
    drop(cluster);
    let alone = bed.start();
    Talk::with(&alone).check("shop GET /admin/items/2 -> 200 open 9=8+0+1");
}
