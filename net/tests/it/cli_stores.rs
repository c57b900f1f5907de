//! The commands that inspect the engine's data: a real log, a real database.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use stampede_core::fact::Fact;
use stampede_core::sample::{Item, Order, item_id};
use stampede_core::shard::Accepted;
use stampede_core::state_row::StateRow;
use stampede_core::types::{Lsn, OrderId};
use stampede_persist::log::dir::{DataDir, LogOptions};
use stampede_persist::log::rebuild::Rebuild;
use stampede_testkit::{ClusterOptions, PostgresCluster, StopMode};

/// Exit code and all output.
fn stampede(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_stampede")).args(args).output().expect("the binary runs");
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(told).unwrap())
}

/// A log can be written without a state, from facts alone.
struct Nothing;

impl Rebuild for Nothing {
    fn row(&mut self, _: &StateRow<'_>) -> Result<(), String> {
        Ok(())
    }
    fn fact(&mut self, _: Lsn, _: &Fact<'_>) -> Result<(), String> {
        Ok(())
    }
    fn rows(&self, _: &mut dyn FnMut(StateRow<'_>)) {}
}

/// One item with `granted` units and `orders` orders of one unit, in a log that is shut down.
fn write_log(dir: &Path, granted: u64, orders: u32) {
    let options = LogOptions {
        segment_bytes: 64 << 10,
        free_bytes_min: 0,
        queue_slots: 64,
        queue_reserve: 8,
        allow_volatile: true,
        ..LogOptions::default()
    };
    let opened = DataDir::open(dir, &options).unwrap().recover(&mut Nothing).unwrap();
    let log = opened.start(Vec::new(), |reason| panic!("{reason}")).unwrap();
    let item = item_id(7);
    log.queue.append(Accepted::forged(&Item::new(item, granted).created()));
    for seq in 1..=orders {
        let order = Order { subject: b"alice", ..Order::new(OrderId::new(item, seq)) };
        log.queue.append(Accepted::forged(&order.placed()));
    }
    log.queue.flush();
    log.journal.shutdown(Duration::from_secs(20)).unwrap();
}

#[test]
fn a_correct_log_verifies_and_can_be_inspected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    write_log(dir.path(), 10, 3);
    let (code, told) = stampede(&["log", "verify", path]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("item 7: granted 10 = available 7 + held 0 + sold 3; 3 orders\n"), "{told}");
    assert!(told.contains("right: "), "{told}");
    let (code, brief) = stampede(&["log", "inspect", path]);
    assert_eq!(code, Some(0), "{brief}");
    assert!(brief.contains("format 2") && !brief.contains("order_placed"), "{brief}");
    let (code, full) = stampede(&["log", "inspect", "--records", path]);
    assert_eq!(code, Some(0), "{full}");
    assert_eq!(full.matches("order_placed").count(), 3, "{full}");
}

#[test]
fn an_oversold_log_fails_verification() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 2, 3);
    let (code, told) = stampede(&["log", "verify", dir.path().to_str().unwrap()]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("WRONG: ") && told.contains("LSN 4"), "{told}");
}

#[test]
fn detach_asks_first_and_refuses_while_an_engine_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let (code, told) = stampede(&["detach", path, "--yes"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("holds no log"), "{told}");
    write_log(dir.path(), 10, 3);
    let (code, told) = stampede(&["detach", path]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("belongs to no database"), "{told}");
    let options = LogOptions { allow_volatile: true, exports: true, ..LogOptions::default() };
    let opened = DataDir::open(dir.path(), &options).unwrap().recover(&mut Nothing).unwrap();
    opened.set_database([0xab; 16]).unwrap();
    let (code, told) = stampede(&["detach", path, "--yes"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(&format!("in use by process {}", std::process::id())), "{told}");
    drop(opened);
    let database = "database abababababababababababababababab";
    let (code, told) = stampede(&["detach", path]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(database) && told.contains("Nothing was changed; add --yes to detach"), "{told}");
    let (code, told) = stampede(&["detach", path, "--yes"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(database), "{told}");
    let (code, told) = stampede(&["detach", path, "--yes"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("belongs to no database"), "{told}");
}

#[test]
fn migrate_makes_the_tables_once() {
    let cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    let url = cluster.url();
    let (code, told) = stampede(&["migrate", "--postgres", &url]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("has its tables now"), "{told}");
    let (code, told) = stampede(&["migrate", "--postgres", &url]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("already"), "{told}");
    let password = url.split(':').nth(2).and_then(|rest| rest.split('@').next()).unwrap();
    assert!(!told.contains(password), "{told}");
    cluster.psql("postgres", "UPDATE stampede_schema SET version = 9999").unwrap();
    let (code, told) = stampede(&["migrate", "--postgres", &url]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("version 9999") && told.lines().count() == 1, "{told}");
}

#[test]
fn doctor_asks_the_database_itself() {
    let mut cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    cluster.psql("postgres", "CREATE ROLE feed LOGIN PASSWORD 'as-it-should-be'").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data").display().to_string();
    let place = format!("127.0.0.1:{}", cluster.port());
    let doctor = |url: &str| {
        let (code, told) = stampede(&["doctor", "--demo", "--data-dir", &dir, "--postgres", url]);
        let line = told.lines().find(|line| line.split_whitespace().nth(1) == Some("postgres"));
        assert!(!told.contains("as-it-"), "{told}");
        (code, line.unwrap_or_else(|| panic!("no line about Postgres: {told}")).to_owned())
    };
    let url = format!("postgresql://feed:as-it-should-be@{place}/postgres");
    let (code, line) = doctor(&url);
    assert!(code == Some(0) && line.starts_with("ok") && line.contains(&place), "{line}");
    for (url, expected) in [
        (format!("postgresql://feed@{place}/postgres"), "asks for a password and the URL has none"),
        (format!("postgresql://feed:as-it-was@{place}/postgres"), "refused the login"),
        (format!("postgresql://feed:as-it-should-be@{place}/nowhere"), "no such database"),
        (format!("{url}?sslmode=require"), "TLS"),
    ] {
        let (code, line) = doctor(&url);
        assert!(code == Some(1) && line.starts_with("FAIL") && line.contains(expected), "{code:?} {line}");
    }
    // A database that is down stops nobody from starting.
    cluster.stop(StopMode::Fast).unwrap();
    let (code, line) = doctor(&url);
    assert!(code == Some(0) && line.starts_with("warn") && line.contains("unreachable"), "{code:?} {line}");
}
