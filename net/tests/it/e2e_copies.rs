//! End to end: two engines on copies of one data directory and one database. The later one gets it. The
//! earlier one stops selling as soon as it notices, and cannot come back with other facts.

use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use stampede_testkit::{ClusterOptions, PostgresCluster, StopMode};

use crate::e2e_talk::{Talk, item};
use crate::server::{Bed, Server, get, wait_for};

fn ask(cluster: &PostgresCluster, sql: &str) -> String {
    cluster.psql("postgres", sql).unwrap().trim().to_owned()
}

fn wait_for_row(cluster: &PostgresCluster, sql: &str, expected: &str) {
    wait_for(&format!("`{sql}` to be {expected}"), || (ask(cluster, sql) == expected).then_some(()));
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success());
}

/// Two beds, one database: the first bed creates an item with one unit, then its directory is copied.
fn copies() -> (PostgresCluster, Bed, Bed) {
    let cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    let mut first = Bed::new().flag("--postgres", &cluster.url());
    let second = Bed::new().flag("--postgres", &cluster.url());
    let server = first.start();
    let put = item(1, 1, "on_order", 0);
    Talk::with(&server).check(&format!("shop PUT /admin/items/1 {put} -> 201 open 1=1+0+0"));
    wait_for_row(&cluster, "SELECT count FROM stock", "1");
    assert_eq!(server.stop(), Some(0));
    copy(&first.dir, &second.dir);
    (cluster, first, second)
}

fn wait_until_stopped_selling(server: &mut Server) {
    let ready = wait_for("the first engine to stop selling", || {
        get(server.admin, "/readyz").filter(|answer| answer.contains("selling_stopped"))
    });
    assert!(ready.contains("another engine has taken over this database"), "{ready}");
    server.wait_until_told("selling_stopped");
}

#[test]
fn e2e_copies_the_later_engine_gets_the_database() {
    let (cluster, mut first, mut second) = copies();
    let mut old = first.start();
    let new = second.start();
    // It sells nothing, and notices all the same.
    wait_until_stopped_selling(&mut old);
    Talk::with(&old).check(r#"alice POST /v1/items/1/orders {"quantity":1} #a -> 503 log_full"#);
    Talk::with(&new).check(r#"bob POST /v1/items/1/orders {"quantity":1} #b -> 201 confirmed x1 $b"#);
    wait_for_row(&cluster, "SELECT buyer FROM stock_order", "bob");
    // It sold nothing that the other does not have, but lacks what the other sold: a directory from the past.
    assert_eq!(old.stop(), Some(0));
    let (code, said) = first.start_refused();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the data directory is from the past"), "{said}");
    wait_for_row(&cluster, "SELECT count, held, sale FROM stock", "0|0|1");
    assert!(get(new.admin, "/readyz").unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn e2e_copies_an_engine_with_other_facts_stays_out() {
    let (mut cluster, mut first, mut second) = copies();
    let mut old = first.start();
    // Cut off from the database, the first one sells the last unit, which is only in its log.
    cluster.stop(StopMode::Immediate).unwrap();
    Talk::with(&old).check(r#"alice POST /v1/items/1/orders {"quantity":1} #a -> 201 confirmed x1 $a"#);
    let process = Pid::from_raw(old.pid() as i32).expect("a process");
    kill_process(process, Signal::STOP).unwrap();
    cluster.start().unwrap();
    let new = second.start();
    Talk::with(&new).check(r#"bob POST /v1/items/1/orders {"quantity":1} #b -> 201 confirmed x1 $b"#);
    wait_for_row(&cluster, "SELECT buyer FROM stock_order", "bob");
    kill_process(process, Signal::CONT).unwrap();
    wait_until_stopped_selling(&mut old);
    Talk::with(&old).check(
        r#"
        carol POST /v1/items/1/orders {"quantity":1} #c -> 409 sold_out
        alice POST /v1/items/1/orders {"quantity":1} #a -> 503 log_full
        shop  GET /admin/items/1                         -> 200 sold_out 1=0+0+1
        "#,
    );
    assert_eq!(ask(&cluster, "SELECT buyer FROM stock_order"), "bob");
    // After a restart its facts give it away, again and again.
    assert_eq!(old.stop(), Some(0));
    for _ in 0..2 {
        let (code, said) = first.start_refused();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("the database and this log hold different facts"), "{said}");
    }
    assert_eq!(ask(&cluster, "SELECT buyer FROM stock_order"), "bob");
    assert_eq!(new.stop(), Some(0));
    let new = second.start();
    assert!(get(new.admin, "/readyz").unwrap().starts_with("HTTP/1.1 200"));
}
