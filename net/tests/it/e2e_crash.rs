//! End to end: the server is killed or stopped in mid-sale, and restarted.

use std::path::Path;
use std::process::Command;

use crate::e2e_sale::{STOCK, judge, open_sale, rush, wait_for_sold};
use crate::e2e_talk::{Talk, item};
use crate::server::{Bed, wait_for};

/// `kill -9` in the middle of a sale; the next start uses `cores_after`.
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
    assert!(outcome.tally.reconnects > 0, "the buyers have noticed nothing");
    judge(&server, &outcome, None);
    // Again, without hurry: what was recovered once is recovered again.
    server.kill();
    let server = bed.start();
    judge(&server, &outcome, None);
    assert_eq!(server.stop(), Some(0));
    check_log(&bed.dir);
}

/// `log verify` accepts the log.
fn check_log(dir: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede"));
    let output = command.args(["log", "verify"]).arg(dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let books = format!("item 1: granted {STOCK} = available 0 + held 0 + sold {STOCK}; {STOCK} orders");
    assert!(said.contains(&books), "{said}");
}

#[test]
fn e2e_killed_in_mid_sale_it_loses_nothing_and_sells_all() {
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
fn e2e_stopped_in_mid_sale_it_answers_everybody() {
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
    assert!(outcome.tally.reconnects > 0, "the buyers have noticed nothing");
    judge(&server, &outcome, None);
    assert_eq!(server.stop(), Some(0));
    check_log(&bed.dir);
}

/// Every response before a crash still holds after it, on another number of cores.
#[test]
fn e2e_what_was_said_holds_after_a_crash() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let (plain, held) = (item(10, 2, "on_order", 0), item(1, 1, "hold", 500));
    talk.check(&format!(
        r#"
        shop  PUT /admin/items/1 {plain}                       -> 201 open 10=10+0+0
        shop  PUT /admin/items/2 {plain}                       -> 201 open 10=10+0+0
        shop  PUT /admin/items/3 {plain}                       -> 201 open 10=10+0+0
        shop  PUT /admin/items/4 {held}                        -> 201 open 1=1+0+0
        alice POST /v1/items/1/orders {{"quantity":2}} #k        -> 201 confirmed x2 $a
        bob   POST /v1/items/1/orders {{"quantity":1}} #k        -> 201 confirmed x1 $b
        bob   POST /v1/orders/$b/cancel                        -> 200 cancelled x1 $b
        shop  POST /admin/orders/$a/pay {{"payment_ref":"p"}}    -> 200 paid x2 $a
        shop  POST /admin/items/1/restock {{"add":-3}}           -> 200 open 7=5+0+2
        shop  POST /admin/items/2/pause                        -> 200 paused 10=10+0+0
        shop  POST /admin/items/3/close                        -> 200 ended 10=10+0+0
        carol POST /v1/items/4/orders {{"quantity":1}} #k        -> 201 held x1 $c
        "#
    ));
    let audit = talk.say("shop GET /admin/audit").body;
    let orders = talk.into_orders();
    server.kill();
    bed.cores = "1";
    let server = bed.start();
    let mut talk = Talk::resume(&server, orders);
    assert_eq!(talk.say("shop GET /admin/audit").body, audit);
    talk.check(
        r#"
        shop  GET /admin/items/1                               -> 200 open 7=5+0+2
        alice POST /v1/items/1/orders {"quantity":2} #k        -> 201 confirmed x2 again $a
        alice POST /v1/items/1/orders {"quantity":1} #k        -> 422 idempotency_key_reused
        alice POST /v1/items/1/orders {"quantity":1} #l        -> 409 cap_reached $a
        shop  POST /admin/orders/$a/pay {"payment_ref":"p"}    -> 200 paid x2 $a
        shop  POST /admin/orders/$a/pay {"payment_ref":"q"}    -> 409 already_paid
        bob   POST /v1/items/1/orders {"quantity":1} #k        -> 201 confirmed x1 again $b
        bob   GET /v1/orders/$b                                -> 200 cancelled x1 $b
        bob   POST /v1/items/1/orders {"quantity":2} #l        -> 201 confirmed x2 $d
        bob   POST /v1/items/2/orders {"quantity":1}           -> 409 paused
        bob   POST /v1/items/3/orders {"quantity":1}           -> 403 ended
        "#,
    );
    // The hold continues through the crash, and its unit goes back once.
    wait_for("the hold's end", || {
        (talk.say("shop GET /admin/items/4").brief() == "200 open 1=1+0+0").then_some(())
    });
    talk.check(
        r#"
        carol GET /v1/orders/$c                                -> 200 expired x1 $c
        shop  POST /admin/orders/$c/pay {"payment_ref":"p"}    -> 409 hold_expired
        "#,
    );
    assert_eq!(server.stop(), Some(0));
}
