//! End to end: clients that are slow, many, or do not read.

use std::time::{Duration, Instant};

use base64::Engine as _;
use stampede_net::identity::mint::{Claims, MintKey};

use crate::e2e_talk::{Http, Talk, item, now_ms};
use crate::server::{Bed, Server, TOKEN, wait_for};

fn stat(server: &Server, name: &str) -> u64 {
    Talk::with(server).say("shop GET /admin/stats").json()["totals"][name].as_u64().unwrap()
}

#[test]
fn e2e_half_a_request_is_cut_off_at_its_deadline() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut doors: Vec<Http> = (0..4).map(|_| Http::to(server.public)).collect();
    let began = Instant::now();
    doors.iter_mut().take(2).for_each(|door| door.send("GET /v1/time HTTP/1.1\r\nHost: a"));
    let half_a_body = "POST /v1/orders/1/cancel HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{";
    doors.iter_mut().skip(2).for_each(|door| door.send(half_a_body));
    // Another buyer is served meanwhile.
    assert_eq!(Talk::with(&server).say("anon GET /v1/time").status, 200);
    for mut door in doors {
        let answer = door.read(false);
        assert!(answer.is_none_or(|answer| answer.status == 408), "half a request was answered");
    }
    let waited = began.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(20)).contains(&waited), "{waited:?}");
    assert_eq!(stat(&server, "connections_overdue"), 4);
}

#[test]
fn e2e_connections_above_the_limit_are_turned_away() {
    let mut bed = Bed::new().set("limits.connections", "4");
    bed.cores = "1";
    let server = bed.start();
    let body = item(10, 1, "on_order", 0);
    Talk::with(&server).check(&format!("shop PUT /admin/items/1 {body} -> 201 open 10=10+0+0"));
    let mut inside: Vec<Http> = (0..4).map(|_| Http::to(server.public)).collect();
    for door in &mut inside {
        assert_eq!(door.call("GET /v1/time", &[], "").status, 200);
    }
    for _ in 0..6 {
        let answer = Http::to(server.public).read(false).expect("an answer before the end");
        assert_eq!(answer.brief(), "503 overloaded");
        assert!(answer.header("Retry-After").is_some(), "{answer:?}");
    }
    for (number, door) in inside.iter_mut().enumerate() {
        let buyer = format!("X-Buyer: b{number}");
        let answer = door.call("POST /v1/items/1/orders", &[&buyer], r#"{"quantity":1}"#);
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    assert_eq!(stat(&server, "connections_turned_away"), 6);
    // A released place is free again.
    drop(inside.pop());
    wait_for("the free place", || {
        let mut door = Http::to(server.public);
        door.try_send("GET /v1/time HTTP/1.1\r\nHost: a\r\n\r\n");
        door.read(false).filter(|answer| answer.status == 200)
    });
}

#[test]
fn e2e_whoever_does_not_read_delays_nobody_else() {
    const ENOUGH: usize = 64 << 20;
    let mut bed = Bed::new();
    bed.cores = "1";
    let server = bed.start();
    let body = item(1_000_000, 1_000_000, "on_order", 0);
    Talk::with(&server).check(&format!("shop PUT /admin/items/1 {body} -> 201 open 1000000=1000000+0+0"));
    let mut deaf = Http::to(server.public);
    let page = deaf.request("GET /v1/items/1", &[], "").repeat(400);
    let buys = deaf.request("POST /v1/items/1/orders", &["X-Buyer: deaf"], r#"{"quantity":1}"#).repeat(100);
    let before = server.memory_bytes();
    let (mut sent, mut refused) = (0, 0);
    let mut friend = Http::to(server.public);
    // It ends once the server has accepted nothing for a while, though others are served.
    while refused < 50 && sent < ENOUGH {
        let took = deaf.try_send(&page) && deaf.try_send(&buys);
        (sent, refused) = if took { (sent + page.len() + buys.len(), 0) } else { (sent, refused + 1) };
        assert_eq!(friend.call("GET /v1/time", &[], "").status, 200);
    }
    assert!(sent < ENOUGH, "the server read {sent} bytes of requests though nobody reads the responses");
    let grown = server.memory_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "memory has grown by {grown} bytes");
    let sold = friend.call("POST /v1/items/1/orders", &["X-Buyer: friend"], r#"{"quantity":1}"#);
    assert_eq!(sold.status, 201, "{sold:?}");
}

#[test]
fn e2e_a_half_closed_client_still_gets_its_answers() {
    let mut bed = Bed::new();
    let server = bed.start();
    let body = item(100, 100, "on_order", 0);
    Talk::with(&server).check(&format!("shop PUT /admin/items/1 {body} -> 201 open 100=100+0+0"));
    for _ in 0..8 {
        let mut door = Http::to(server.public);
        let buy = door.request("POST /v1/items/1/orders", &["X-Buyer: a"], r#"{"quantity":1}"#);
        door.send(&buy.repeat(10));
        door.finish_sending();
        for number in 0..10 {
            let answer = door.read(false).unwrap_or_else(|| panic!("answer {number} is missing"));
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        assert!(door.read(false).is_none());
    }
}

/// With default settings: one address's junk is not all verified, a token that the core knows passes, and a
/// newcomer at the same address gets in while the junk continues.
#[test]
fn e2e_invalid_tokens_are_charged_to_their_address() {
    let material = base64::prelude::BASE64_STANDARD.encode([7; 32]);
    let mut bed = Bed::new().set("identity.mode", "jwt").set("identity.keys", &format!("k:HS256:{material}"));
    bed.cores = "1";
    let mut server = bed.start();
    let (key, other) = (MintKey::hs256("k", &[7; 32]).unwrap(), MintKey::hs256("k", &[8; 32]).unwrap());
    let exp_s = now_ms() / 1_000 + 3_600;
    let header = |key: &MintKey, sub: &str| {
        format!("Authorization: Bearer {}", key.mint(&Claims { sub, exp_s, ..Claims::default() }).unwrap())
    };
    let mut http = Http::to(server.public);
    let known = header(&key, "ann");
    assert_eq!(http.call("GET /v1/orders", &[&known], "").status, 200);
    let mut junk = |from: usize| {
        let request = |n| http.request("GET /v1/orders", &[&header(&other, &format!("eve{}", from + n))], "");
        let requests: String = (0..50).map(request).collect();
        http.send(&requests);
        (0..50).map(|_| http.read(false).expect("an answer")).collect::<Vec<_>>()
    };
    let answers: Vec<_> = (0..20).flat_map(|round| junk(round * 50)).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 401).collect();
    assert!(refused.len() > 500, "{} of 1000", refused.len());
    for answer in &refused {
        assert_eq!(answer.brief(), "429 rate_limited");
        assert!(answer.header("Retry-After").is_some_and(|s| s.parse::<u64>().is_ok_and(|s| s > 0)));
    }
    assert_eq!(stat(&server, "tokens_verified"), 1 + 1_000 - refused.len() as u64);
    assert_eq!(stat(&server, "tokens_refused"), refused.len() as u64);
    let mut buyer = Http::to(server.public);
    assert_eq!(buyer.call("GET /v1/orders", &[&known], "").status, 200);
    let (newcomer, mut from) = (header(&key, "bob"), 1_000);
    wait_for("a newcomer's turn", || {
        from += 50;
        junk(from);
        (buyer.call("GET /v1/orders", &[&newcomer], "").status == 200).then_some(())
    });
    assert!(server.said().contains("127.0.0.1 sends more invalid tokens than"), "{}", server.said());
    assert_eq!(server.stop(), Some(0));
}

/// A head of 20 KiB (a shop's cookies) is accepted on both listeners if the setting allows it, otherwise 431;
/// what follows it is the next request, or ignored.
#[test]
fn e2e_heads_are_as_long_as_the_setting_allows() {
    let cookies = format!("Cookie: a={}", "c".repeat(20 << 10));
    let shop = format!("Authorization: Bearer {TOKEN}");
    for (setting, status, kept) in
        [(None, 431, false), (Some("16KiB"), 431, false), (Some("32KiB"), 200, true)]
    {
        let mut bed = Bed::new();
        if let Some(bytes) = setting {
            bed = bed.set("limits.head_bytes", bytes);
        }
        let server = bed.start();
        let calls = [(server.public, "GET /v1/time"), (server.admin, "GET /admin/items")];
        for (address, call) in calls {
            let mut door = Http::to(address);
            let answer = door.call(call, &[&shop, &cookies], "");
            assert_eq!(answer.status, status, "{call} with {setting:?}: {answer:?}");
            assert_eq!(answer.header("Connection").is_none_or(|said| said != "close"), kept, "{answer:?}");
            if kept {
                assert_eq!(door.call(call, &[&shop], "").status, 200);
            } else {
                assert!(answer.brief().contains("headers_too_large"), "{answer:?}");
                door.try_send(&door.request(call, &[&shop], ""));
                assert!(door.read(false).is_none(), "a request after a refused head");
            }
        }
        // One byte more than the setting is too long, whatever it is.
        let longest = format!("Cookie: a={}", "c".repeat(32 << 10));
        assert_eq!(Http::to(server.public).call("GET /v1/time", &[&longest], "").status, 431);
    }
}
