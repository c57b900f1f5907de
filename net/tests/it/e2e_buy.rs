//! End to end, the buyer's side: every response of the public API over a real socket.

use stampede_core::types::ItemId;
use stampede_net::identity::mint::{Claims, MintKey};

use crate::e2e_talk::{Answer, Http, Talk, item, now_ms, sale};
use crate::server::{Bed, wait_for};

/// Enough items that each of two cores owns some.
const ITEMS: std::ops::RangeInclusive<u64> = 1..=8;

fn put(talk: &mut Talk<'_>, id: u64, body: &str) {
    let answer = talk.say(&format!("shop PUT /admin/items/{id} {body}"));
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[test]
fn e2e_one_item_from_first_order_to_sold_out_and_back() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    put(&mut talk, 1, &item(3, 2, "on_order", 0));
    talk.check(
        r#"
        alice POST /v1/items/1/orders {"quantity":1} #k1        -> 201 confirmed x1 $a
        alice POST /v1/items/1/orders {"quantity":1} #k1        -> 201 confirmed x1 again $a
        alice POST /v1/items/1/orders {"quantity":1} #"k1"      -> 201 confirmed x1 again $a
        alice POST /v1/items/1/orders {"quantity":2} #k1        -> 422 idempotency_key_reused
        alice POST /v1/items/1/orders {"quantity":3} #k2        -> 400 bad_quantity
        alice POST /v1/items/1/orders {"quantity":0} #k2        -> 400 bad_quantity
        alice POST /v1/items/1/orders {"quantity":2} #k2        -> 409 cap_reached $a
        // The same key of another buyer is a different key.
        bob   POST /v1/items/1/orders {"quantity":1} #k1        -> 201 confirmed x1 $b
        bob   POST /v1/items/1/orders {"quantity":1}            -> 201 confirmed x1 $c
        bob   POST /v1/items/1/orders {"quantity":1}            -> 409 cap_reached $c
        carol POST /v1/items/1/orders {"quantity":1} #k1        -> 409 sold_out
        alice POST /v1/items/1/orders {"quantity":1} #k1        -> 201 confirmed x1 again $a
        anon  POST /v1/items/1/orders {"quantity":1}            -> 401 unauthenticated
        alice POST /v1/items/99/orders {"quantity":1}           -> 404 not_found
        alice POST /v1/items/1/orders {"quantity":1,"x":2}      -> 400 unknown_field field=x
        alice POST /v1/items/1/orders {"quantity"               -> 400 bad_json
        alice PUT /v1/items/1/orders {"quantity":1}             -> 405 method_not_allowed
        shop  GET /admin/items/1                                -> 200 sold_out 3=0+0+3
        alice GET /v1/items/1                                   -> 200 sold_out none
        alice GET /v1/orders/$a                                 -> 200 confirmed x1 $a
        bob   GET /v1/orders/$a                                 -> 404 not_found
        bob   POST /v1/orders/$a/cancel                         -> 404 not_found
        anon  GET /v1/orders/$a                                 -> 401 unauthenticated
        alice POST /v1/orders/$a/cancel                         -> 200 cancelled x1 $a
        alice POST /v1/orders/$a/cancel                         -> 200 cancelled x1 $a
        shop  GET /admin/items/1                                -> 200 open 3=1+0+2
        // Stock and cap have been returned; the key still names the first order.
        alice POST /v1/items/1/orders {"quantity":1} #k1        -> 201 confirmed x1 again $a
        alice POST /v1/items/1/orders {"quantity":1} #k3        -> 201 confirmed x1 $d
        carol POST /v1/items/1/orders {"quantity":1} #k2        -> 409 sold_out
        alice GET /v1/orders                                    -> 200 2 orders
        carol GET /v1/orders                                    -> 200 0 orders
        "#,
    );
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn e2e_the_window_and_the_switches() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let hour_ms = 3_600_000;
    put(&mut talk, 1, &sale(5, 1, "on_order", 0, now_ms() + hour_ms, now_ms() + 2 * hour_ms));
    let early = talk.say(r#"alice POST /v1/items/1/orders {"quantity":1}"#);
    let opens_in_ms = early.json()["opens_in_ms"].as_u64().unwrap();
    assert!(
        early.brief() == "403 not_open" && (hour_ms - 60_000..=hour_ms).contains(&opens_in_ms),
        "{early:?}"
    );
    talk.check(&format!(
        r#"
        anon  GET /v1/items/1                                      -> 200 upcoming plenty
        shop  PUT /admin/items/1 {{"opens_at_ms":{}}}              -> 200 open 5=5+0+0
        alice POST /v1/items/1/orders {{"quantity":1}} #k          -> 201 confirmed x1 $a
        shop  POST /admin/items/1/pause                            -> 200 paused 5=4+0+1
        bob   POST /v1/items/1/orders {{"quantity":1}} #k          -> 409 paused
        alice POST /v1/items/1/orders {{"quantity":1}} #k          -> 201 confirmed x1 again $a
        anon  GET /v1/items/1                                      -> 200 paused plenty
        shop  POST /admin/items/1/resume                           -> 200 open 5=4+0+1
        bob   POST /v1/items/1/orders {{"quantity":1}} #k          -> 201 confirmed x1 $b
        shop  POST /admin/items/1/close                            -> 200 ended 5=3+0+2
        carol POST /v1/items/1/orders {{"quantity":1}} #k          -> 403 ended
        shop  POST /admin/items/1/resume                           -> 200 ended 5=3+0+2
        alice POST /v1/items/1/orders {{"quantity":1}} #k          -> 201 confirmed x1 again $a
        "#,
        now_ms() - 1
    ));
    // A sale that ends by the clock while purchases come in.
    put(&mut talk, 2, &sale(1_000_000, 1, "on_order", 0, 1, now_ms() + 1_500));
    talk.check(r#"alice POST /v1/items/2/orders {"quantity":1} #k -> 201 confirmed x1 $w"#);
    let mut buyer = 0;
    wait_for("the end of the sale", || {
        buyer += 1;
        let answer = talk.say(&format!(r#"late POST /v1/items/2/orders {{"quantity":1}} #k{buyer}"#));
        (answer.brief() == "403 ended").then_some(())
    });
    talk.check(r#"alice POST /v1/items/2/orders {"quantity":1} #k -> 201 confirmed x1 again $w"#);
    let end_ms = talk.say("shop GET /admin/items/2").json()["closes_at_ms"].as_u64().unwrap();
    let orders = talk.say("shop GET /admin/orders?item=2&limit=1000").json();
    let created =
        orders["orders"].as_array().unwrap().iter().map(|row| row["created_at_ms"].as_u64().unwrap());
    assert!(created.max().unwrap() < end_ms, "an order outside the window");
    // A later end reopens it.
    let later = talk.say(&format!(r#"shop PUT /admin/items/2 {{"closes_at_ms":{}}}"#, now_ms() + hour_ms));
    assert_eq!(later.json()["state"], "open", "{later:?}");
    talk.check(r#"dave POST /v1/items/2/orders {"quantity":1} #k -> 201 confirmed x1 $v"#);
}

#[test]
fn e2e_every_item_can_be_bought_from_every_core() {
    let owners: Vec<usize> = ITEMS.map(|id| ItemId::new(id).unwrap().owner(2)).collect();
    assert!(owners.contains(&0) && owners.contains(&1), "choose other items: {owners:?}");
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    ITEMS.for_each(|id| put(&mut talk, id, &item(1_000, 2, "on_order", 0)));
    let mut people = Vec::new();
    wait_for("connections on both cores", || {
        people.push(Http::to(server.public));
        let stats = talk.say("shop GET /admin/stats").json();
        let open = |core: usize| stats["cores"][core]["connections_open"].as_u64().unwrap();
        // The shop's own connection is on core 0.
        (people.len() >= 8 && open(0) > 2 && open(1) > 1).then_some(())
    });
    for (number, http) in people.iter_mut().enumerate() {
        // Sixteen purchases in one write; answered in order, whoever owns the items.
        let buyer = format!("X-Buyer: buyer-{number}");
        let ids: Vec<u64> = ITEMS.chain(ITEMS).collect();
        let calls = ids
            .iter()
            .map(|id| http.request(&format!("POST /v1/items/{id}/orders"), &[&buyer], r#"{"quantity":1}"#));
        let calls: String = calls.collect();
        http.send(&calls);
        for id in ids {
            let answer = http.read(false).expect("an answer for each");
            assert_eq!((answer.status, &answer.json()["item_id"]), (201, &id.into()), "{answer:?}");
        }
    }
    let buyers = people.len();
    for id in ITEMS {
        let left = 1_000 - 2 * buyers;
        talk.check(&format!("shop GET /admin/items/{id} -> 200 open 1000={left}+0+{}", 2 * buyers));
    }
    let stats = talk.say("shop GET /admin/stats").json();
    assert!(stats["totals"]["hops"].as_u64().unwrap() > 0, "{stats}");
}

#[test]
fn e2e_a_hundred_duplicates_at_once_are_one_order() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    for id in ITEMS {
        put(&mut talk, id, &item(1_000, 500, "on_order", 0));
        let mut doors: Vec<Http> = (0..100).map(|_| Http::to(server.public)).collect();
        let headers = ["X-Buyer: alice", "Idempotency-Key: once"];
        for door in &mut doors {
            let buy = door.request(&format!("POST /v1/items/{id}/orders"), &headers, r#"{"quantity":2}"#);
            door.send(&buy);
        }
        let answers: Vec<Answer> =
            doors.iter_mut().map(|door| door.read(false).expect("an answer")).collect();
        let first = answers.iter().filter(|answer| answer.brief() == "201 confirmed x2").count();
        let again = answers.iter().filter(|answer| answer.brief() == "201 confirmed x2 again").count();
        assert_eq!((first, again), (1, 99));
        assert!(answers.iter().all(|answer| answer.body == answers[0].body), "{answers:?}");
        talk.check(&format!("shop GET /admin/items/{id} -> 200 open 1000=998+0+2"));
    }
}

#[test]
fn e2e_nothing_after_a_malformed_request_is_done() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    put(&mut talk, 1, &item(10, 10, "on_order", 0));
    let broken = ["GET /v1/time HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "G\0T / HTTP/1.1\r\n\r\n"];
    for bad in broken {
        let mut door = Http::to(server.public);
        let buy = door.request("POST /v1/items/1/orders", &["X-Buyer: alice"], r#"{"quantity":1}"#);
        door.send(&format!("{buy}{bad}{buy}"));
        assert_eq!(door.read(false).expect("the first").brief(), "201 confirmed x1");
        assert_eq!(door.read(false).expect("the refusal").brief(), "400 bad_request");
        assert!(door.read(false).is_none(), "the connection goes on");
    }
    talk.check("shop GET /admin/items/1 -> 200 open 10=8+0+2");
}

#[test]
fn e2e_pages_come_by_get_and_head_and_304_when_unchanged() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    ITEMS.for_each(|id| put(&mut talk, id, &item(1_000, 1, "on_order", 0)));
    // Several connections, so that both cores render.
    for who in ["anon", "a", "b", "c", "d"] {
        talk.check(&format!("{who} GET /v1/items -> 200 8 items"));
        let page = talk.say(&format!("{who} GET /v1/items/3"));
        let tag = page.header("ETag").unwrap().to_owned();
        assert_eq!(page.header("Cache-Control"), Some("max-age=1"));
        let head = talk.say(&format!("{who} HEAD /v1/items/3"));
        assert_eq!(head.header("Content-Length").unwrap(), page.body.len().to_string(), "{head:?}");
        let unchanged = talk.say(&format!("{who} GET /v1/items/3 +If-None-Match:{tag}"));
        assert_eq!((unchanged.status, unchanged.header("ETag")), (304, Some(tag.as_str())));
        let time = talk.say(&format!("{who} GET /v1/time")).json()["now_ms"].as_u64().unwrap();
        assert!(time.abs_diff(now_ms()) < 60_000);
    }
    let tag = talk.say("anon GET /v1/items/3").header("ETag").unwrap().to_owned();
    talk.check(r#"shop PUT /admin/items/3 {"price_minor":1} -> 200 open 1000=1000+0+0"#);
    let changed = talk.say(&format!("anon GET /v1/items/3 +If-None-Match:{tag}"));
    assert_eq!((changed.status, changed.json()["price_minor"].as_u64()), (200, Some(1)), "{changed:?}");
    talk.check("anon GET /v1/items/77 -> 404 not_found");
}

#[test]
fn e2e_an_order_can_be_waited_for() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    for id in ITEMS {
        put(&mut talk, id, &item(10, 1, "on_order", 0));
        let buy = format!(r#"alice POST /v1/items/{id}/orders {{"quantity":1}} #k +Prefer:respond-async"#);
        let placed = talk.say(&buy);
        assert_eq!(placed.brief(), "202 accepted x1", "{placed:?}");
        let place = placed.header("Location").unwrap().to_owned();
        assert_eq!(place, format!("/v1/orders/{}", placed.order_id().unwrap()));
        let waited = talk.say(&format!("alice GET {place}?wait_ms=30000"));
        assert_eq!(waited.brief(), "200 confirmed x1");
        assert_eq!(talk.say(&buy).order_id(), placed.order_id());
    }
}

#[test]
fn e2e_own_orders_come_page_by_page() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    for id in ITEMS {
        put(&mut talk, id, &item(10, 2, "on_order", 0));
        for who in ["alice", "bob"] {
            talk.check(&format!(
                r#"{who} POST /v1/items/{id}/orders {{"quantity":1}} -> 201 confirmed x1 ${who}-{id}."#
            ));
        }
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = talk.say(&format!("alice GET /v1/orders?limit=3{after}")).json();
        let rows = page["orders"].as_array().unwrap();
        seen.extend(rows.iter().map(|row| row["order_id"].as_str().unwrap().parse::<u64>().unwrap()));
        after = format!("&after={}", seen.last().unwrap());
        if page["has_more"] == false {
            break;
        }
        assert_eq!(rows.len(), 3);
    }
    let mut ascending = seen.clone();
    ascending.sort_unstable();
    ascending.dedup();
    assert_eq!((seen.len(), &seen), (8, &ascending));
    talk.check("alice GET /v1/orders?limit=0 -> 400 bad_request field=limit");
}

#[test]
fn e2e_tokens_say_who_buys() {
    use base64::Engine as _;
    let secret = [7; 32];
    let material = base64::prelude::BASE64_STANDARD.encode(secret);
    let mut bed =
        Bed::new().set("identity.mode", "jwt").set("identity.keys", &format!("k1:HS256:{material}"));
    let server = bed.start();
    put(&mut Talk::with(&server), 1, &item(3, 1, "on_order", 0));
    let key = MintKey::hs256("k1", &secret).unwrap();
    let mint = |sub: &str, exp_s: u64| key.mint(&Claims { sub, exp_s, ..Claims::default() }).unwrap();
    let now_s = now_ms() / 1000;
    let mut http = Http::to(server.public);
    let mut buy = |token: &str| -> Answer {
        let header = format!("Authorization: Bearer {token}");
        http.call("POST /v1/items/1/orders", &[&header, "Idempotency-Key: k"], r#"{"quantity":1}"#)
    };
    let alice = mint("alice", now_s + 600);
    assert_eq!(buy(&alice).brief(), "201 confirmed x1");
    // Another token of the same buyer, and other buyers on the same connection.
    assert_eq!(buy(&mint("alice", now_s + 601)).brief(), "201 confirmed x1 again");
    assert_eq!(buy(&mint("bob", now_s + 600)).brief(), "201 confirmed x1");
    let (rest, last) = alice.split_at(alice.len() - 1);
    let broken = format!("{rest}{}", if last == "A" { "E" } else { "A" });
    let foreign = MintKey::hs256("k1", &[8; 32]).unwrap();
    let foreign = foreign.mint(&Claims { sub: "carol", exp_s: now_s + 600, ..Claims::default() }).unwrap();
    for wrong in [mint("carol", now_s - 600), broken, foreign, "x".to_owned()] {
        assert_eq!(buy(&wrong).brief(), "401 unauthenticated", "{wrong}");
    }
    let header = http.call("POST /v1/items/1/orders", &["X-Buyer: carol"], r#"{"quantity":1}"#);
    assert_eq!(header.brief(), "401 unauthenticated");
    Talk::with(&server).check("shop GET /admin/items/1 -> 200 open 3=1+0+2");
}
