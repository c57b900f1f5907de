//! End to end: a wall clock that is set forward and back by hours (I14). The sale clock follows it forward.
//! Set back, it reopens no sale, revives no ticket and refills no limit, and the difference is reported.
//! libfaketime changes the wall clock that the server sees, and leaves the monotonic clock alone.

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

/// The file works: if it is an hour ahead at the start, so is the sale.
#[test]
fn e2e_the_clock_of_these_tests_can_be_set() {
    let (mut bed, file) = bed();
    set_clock(&file, "+3600s");
    let server = bed.start();
    let shown = sale_clock(&mut Talk::with(&server));
    assert!(shown > now_ms() + HOUR_MS - 60_000, "{shown}");
}

/// A clock set back changes nothing except what the engine reports.
#[test]
fn e2e_a_clock_that_jumps_back_in_mid_sale_changes_nothing() {
    let (bed, file) = bed();
    let mut bed = bed.set("limits.buyer_per_s", "1");
    bed.cores = "1";
    let mut server = bed.start();
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
    for jump in ["-3600s", "-7200s", "+0s"] {
        exhaust(&mut talk);
        let before = sale_clock(&mut talk);
        set_clock(&file, jump);
        let is_back = jump != "+0s";
        wait_for("what the engine says of the clock", || (is_told_ahead(&mut talk) == is_back).then_some(()));
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
    wait_for("the words for the operator", || {
        let said = server.said();
        let is_told = |ahead: &str| said.contains(&format!("alarm: the sale clock is {ahead} ahead"));
        (is_told("59m 59s") || is_told("1h 0m 0s")).then_some(())
    });
}

/// Waits until readiness, metrics and alarms agree whether the sale clock is ahead.
fn is_told_ahead(talk: &mut Talk<'_>) -> bool {
    wait_for("one answer of all", || {
        let ready = talk.say("shop GET /readyz");
        assert_eq!(ready.status, 200, "a clock must not make the engine unready: {}", ready.body);
        let reason = ready.json()["reasons"].as_array().unwrap().iter().any(|reason| reason == "clock_ahead");
        let metrics = talk.say("shop GET /metrics").body;
        let line = metrics.lines().find(|line| line.starts_with("stampede_clock_ahead_milliseconds "));
        let ahead_ms: u64 = line.unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        (reason == (ahead_ms > 1_000)).then_some(reason)
    })
}

/// NTP corrects a slow clock, or a machine wakes from sleep: the sale follows at once.
#[test]
fn e2e_a_clock_that_jumps_forward_is_followed() {
    let (mut bed, file) = bed();
    set_clock(&file, "-1800s");
    bed.cores = "1";
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let soon = sale(5, 1, "on_order", 0, now_ms() - 1_000, now_ms() + HOUR_MS);
    let later = sale(5, 1, "on_order", 0, now_ms() + HOUR_MS / 2, now_ms() + HOUR_MS);
    let held = sale(5, 1, "hold", 1_200_000, now_ms() - HOUR_MS, now_ms() + HOUR_MS);
    for (id, body) in [(1, soon), (2, later), (3, held)] {
        assert_eq!(talk.say(&format!("shop PUT /admin/items/{id} {body}")).status, 201);
    }
    talk.check("ann POST /v1/items/1/orders {} -> 403 not_open");
    talk.check(r#"ann POST /v1/items/3/orders {"quantity":1} -> 201 held x1 $h"#);
    set_clock(&file, "+0s");
    wait_for("the sale clock to follow", || (sale_clock(&mut talk) + 1_000 > now_ms()).then_some(()));
    talk.check(
        r#"
        ann POST /v1/items/1/orders {} -> 201 confirmed x1 $a
        anon GET /v1/items/2           -> 200 upcoming plenty
        "#,
    );
    wait_for("the end of the hold", || {
        (talk.say("ann GET /v1/orders/$h").json()["state"] == "expired").then_some(())
    });
    assert!(!is_told_ahead(&mut talk));
    // Again, while it runs.
    set_clock(&file, "+2700s");
    wait_for("the opening", || (talk.say("ann POST /v1/items/2/orders {}").status == 201).then_some(()));
}

/// Started under a clock that was eight hours ahead: everything opens early, and still does after a restart,
/// which says so, by how much, and what to do; and doing that helps.
#[test]
fn e2e_a_log_that_lies_ahead_is_reported_with_a_remedy() {
    let (mut bed, file) = bed();
    set_clock(&file, "+28800s");
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let (tonight, night) = (now_ms() + HOUR_MS, now_ms() + 12 * HOUR_MS);
    for id in [1, 2] {
        let body = sale(5, 1, "on_order", 0, tonight, night);
        assert_eq!(talk.say(&format!("shop PUT /admin/items/{id} {body}")).status, 201);
    }
    talk.check("ann POST /v1/items/1/orders {} -> 201 confirmed x1 $a");
    assert_eq!(server.stop(), Some(0));
    set_clock(&file, "+0s");

    let mut server = bed.start();
    let mut talk = Talk::with(&server);
    assert!(is_told_ahead(&mut talk));
    assert!(sale_clock(&mut talk) >= tonight, "it never runs backwards");
    assert!(talk.say("shop GET /admin/stats").body.contains("the log's last fact lies"), "no alarm");
    let said = server.said();
    let line = said.lines().find(|line| line.contains("the log's last fact lies")).expect(&said);
    assert!(line.contains("7h 59m") || line.contains("8h 0m"), "{line}");
    assert!(line.contains("--clock wall") && line.contains("docs/CONFIG.md"), "{line}");
    assert_eq!(server.stop(), Some(0));

    let mut bed = bed.flag("--clock", "wall");
    for _ in 0..2 {
        let server = bed.start();
        let mut talk = Talk::with(&server);
        let shown = sale_clock(&mut talk);
        assert!(shown.abs_diff(now_ms()) < HOUR_MS / 60, "{shown}");
        assert!(!is_told_ahead(&mut talk));
        talk.check(
            r#"
            bob  POST /v1/items/2/orders {} -> 403 not_open
            anon GET  /v1/items/2           -> 200 upcoming plenty
            shop GET  /admin/items/1        -> 200 upcoming 5=4+0+1
            "#,
        );
        assert!(talk.say("shop GET /readyz").body.contains("clock=wall: the sale clock begins"));
        assert_eq!(server.stop(), Some(0));
    }
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
    // The time is logged while a ticket is valid, and a moment longer.
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
