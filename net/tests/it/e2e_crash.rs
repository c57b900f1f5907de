//! End to end: the server is killed or stopped in mid-sale, and started again.

use std::path::Path;
use std::process::Command;

use crate::e2e_sale::{STOCK, judge, open_sale, rush, wait_for_sold};
use crate::server::Bed;

/// `kill -9` in the middle of a sale; the next start serves on `cores_after`.
fn kill_in_mid_sale(seed: u64, cores_before: &'static str, cores_after: &'static str) {
    let mut bed = Bed::new();
    bed.cores = cores_before;
    let server = bed.start();
    open_sale(&server);
    let (server, outcome) = rush(server, seed, |server| {
        wait_for_sold(&server, STOCK as i64 / 4);
        server.kill();
        bed.cores = cores_after;
        bed.start()
    });
    assert!(outcome.tally.reconnects > 0, "the crowd has noticed nothing");
    judge(&server, &outcome, None);
    // Once more without any haste: what was recovered once is recovered again.
    server.kill();
    let server = bed.start();
    judge(&server, &outcome, None);
    assert_eq!(server.stop(), Some(0));
    check_log(&bed.dir);
}

/// The log itself agrees.
fn check_log(dir: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede"));
    let output = command.args(["log", "verify"]).arg(dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let books = format!("item 1: granted {STOCK} = available 0 + held 0 + sold {STOCK}; {STOCK} orders");
    assert!(said.contains(&books), "{said}");
}

#[test]
fn e2e_killed_in_mid_sale_nothing_is_lost_and_everything_is_sold() {
    kill_in_mid_sale(11, "2", "2");
}

#[test]
fn e2e_killed_in_mid_sale_and_started_on_fewer_cores() {
    kill_in_mid_sale(12, "2", "1");
}

#[test]
fn e2e_killed_in_mid_sale_and_started_on_more_cores() {
    kill_in_mid_sale(13, "1", "2");
}

#[test]
fn e2e_stopped_in_mid_sale_it_owes_nobody_an_answer() {
    let mut bed = Bed::new();
    let server = bed.start();
    open_sale(&server);
    let (server, outcome) = rush(server, 14, |mut server| {
        wait_for_sold(&server, STOCK as i64 / 4);
        server.terminate();
        let status = server.wait_for_exit();
        assert_eq!(status.code(), Some(0), "{}", server.said());
        assert!(server.said().contains("stopped in order"), "{}", server.said());
        bed.start()
    });
    assert!(outcome.tally.reconnects > 0, "the crowd has noticed nothing");
    judge(&server, &outcome, None);
    assert_eq!(server.stop(), Some(0));
    check_log(&bed.dir);
}
