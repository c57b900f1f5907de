//! End to end, a wall clock that is set forward and back by an hour (I14): no sale is reopened, no
//! ticket revived, no limit refilled. libfaketime stands between the server and the clock of the
//! wall, and leaves the monotonic one alone.

use std::path::{Path, PathBuf};

use crate::e2e_talk::{Talk, item, now_ms, sale};
use crate::server::{Bed, wait_for};

const HOUR_MS: u64 = 3_600_000;

fn libfaketime() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib").expect("a system with /usr/lib");
    let found = places.flatten().map(|place| place.path().join("faketime/libfaketime.so.1"));
    found.into_iter().find(|path| path.exists()).expect("libfaketime is missing: make deps installs it")
}

/// Sets the wall clock that the server sees.
fn set_clock(file: &Path, offset: &str) {
    std::fs::write(file, offset).unwrap();
}

/// A bed whose wall clock is in a file.
fn bed() -> (Bed, PathBuf) {
    let bed = Bed::new();
    let file = bed.beside("clock");
    set_clock(&file, "+0s");
    let bed = bed
        .var("LD_PRELOAD", libfaketime().to_str().unwrap())
        .var("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap())
        .var("FAKETIME_NO_CACHE", "1")
        .var("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    (bed, file)
}

fn sale_clock(talk: &mut Talk<'_>) -> u64 {
    talk.say("anon GET /v1/time").json()["now_ms"].as_u64().unwrap()
}

/// The file is looked at: with it an hour ahead at the start, so is the sale.
#[test]
fn e2e_the_clock_of_these_tests_can_be_set() {
    let (mut bed, file) = bed();
    set_clock(&file, "+3600s");
    let server = bed.start();
    let shown = sale_clock(&mut Talk::with(&server));
    assert!(shown > now_ms() + HOUR_MS - 60_000, "{shown}");
}

#[test]
fn e2e_a_clock_that_jumps_while_the_sale_runs_changes_nothing() {
    let (bed, file) = bed();
    let mut bed = bed.set("limits.buyer_per_s", "1");
    bed.cores = "1";
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let later = sale(5, 1, "on_order", 0, now_ms() + HOUR_MS / 2, now_ms() + HOUR_MS);
    let ticketed = item(5, 1, "on_order", 0).replace('}', r#","ticket":"required"}"#);
    for (id, body) in [(1, ticketed), (2, later), (3, item(5, 1, "hold", 1_200_000))] {
        assert_eq!(talk.say(&format!("shop PUT /admin/items/{id} {body}")).status, 201);
    }
    talk.check(r#"ann POST /v1/items/3/orders {"quantity":1} -> 201 held x1 $h"#);
    let ticket = talk.say("ann POST /v1/items/1/ticket {}").json()["ticket"].as_str().unwrap().to_owned();
    let exhaust = |talk: &mut Talk<'_>| {
        wait_for("the end of the burst", || {
            (talk.say(r#"eve POST /v1/items/3/orders {"quantity":9}"#).status == 429).then_some(())
        });
    };
    for jump in ["+3600s", "-3600s", "+0s"] {
        exhaust(&mut talk);
        let before = sale_clock(&mut talk);
        set_clock(&file, jump);
        let after = sale_clock(&mut talk);
        assert!((before..before + 60_000).contains(&after), "{jump}: {before} to {after}");
        let refilled =
            (0..4).filter(|_| talk.say(r#"eve POST /v1/items/3/orders {"quantity":9}"#).status != 429);
        assert!(refilled.count() <= 1, "{jump}: a limit was refilled");
        talk.check(
            r#"
            anon GET /v1/items/2       -> 200 upcoming plenty
            ann  GET /v1/orders/$h     -> 200 held x1 $h
            "#,
        );
    }
    talk.check(&format!(
        r#"ann POST /v1/items/1/orders {{"quantity":1,"ticket":"{ticket}"}} -> 201 confirmed x1 $a"#
    ));
}

#[test]
fn e2e_a_clock_set_back_before_a_restart_revives_nothing() {
    let (bed, file) = bed();
    let mut bed = bed.set("gate.ticket_ms", "1000");
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let ticketed = item(5, 1, "on_order", 0).replace('}', r#","ticket":"required"}"#);
    let short = sale(5, 1, "on_order", 0, now_ms() - 1_000, now_ms() + 500);
    for (id, body) in [(1, ticketed), (2, short)] {
        assert_eq!(talk.say(&format!("shop PUT /admin/items/{id} {body}")).status, 201);
    }
    let issued = talk.say("ann POST /v1/items/1/ticket {}").json();
    let (ticket, until_ms) =
        (issued["ticket"].as_str().unwrap().to_owned(), issued["expires_at_ms"].as_u64().unwrap());
    let buy = format!(r#"ann POST /v1/items/1/orders {{"quantity":1,"ticket":"{ticket}"}}"#);
    // The time is noted in the log as long as a ticket is out, and a moment longer.
    wait_for("the time in the log", || {
        let lsn = talk.say("shop GET /admin/items/1").json()["durable_lsn"].as_u64().unwrap();
        (sale_clock(&mut talk) > until_ms + 1_000 && lsn > 3).then_some(())
    });
    talk.check("bob POST /v1/items/2/orders {} -> 403 ended");
    server.kill();
    set_clock(&file, "-3600s");
    let server = bed.start();
    let mut talk = Talk::with(&server);
    assert!(sale_clock(&mut talk) >= until_ms, "the sale clock has run back");
    talk.check(&format!("{buy} -> 403 ticket_invalid"));
    talk.check(
        r#"
        bob  POST /v1/items/2/orders {} -> 403 ended
        anon GET  /v1/items/2           -> 200 ended plenty
        shop GET  /admin/items/1        -> 200 open 5=5+0+0
        "#,
    );
}
