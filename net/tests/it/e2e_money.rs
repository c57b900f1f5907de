//! End to end: what the shop reports about payments and can read back: after a crash, from a
//! log of November 2026, and with Postgres. Each call about money is sent twice.

use std::path::Path;

use serde_json::{Value, json};

use crate::e2e_talk::{Talk, item};
use crate::server::{Bed, wait_for};

fn order(talk: &mut Talk<'_>, name: &str) -> Value {
    let answer = talk.say(&format!("shop GET /admin/orders/{name}"));
    answer.json()
}

/// The fields of an order that are about money.
fn money_of(order: &Value) -> Value {
    let mut order = order.clone();
    let fields = order.as_object_mut().expect("an object");
    for other in [
        "order_id",
        "item_id",
        "created_at_ms",
        "pay_by_ms",
        "lsn",
        "paid_at_ms",
        "refunded_at_ms",
        "ended_at_ms",
    ] {
        fields.remove(other);
    }
    for list in ["refunds", "late_payments"] {
        let rows = fields.get_mut(list).and_then(Value::as_array_mut);
        for row in rows.into_iter().flatten() {
            row.as_object_mut().expect("an object").retain(|name, _| name != "lsn" && name != "at_ms");
        }
    }
    order
}

#[test]
fn e2e_payments_and_refunds_are_distinct_and_readable() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let (plain, held) = (item(10, 5, "on_order", 0), item(10, 5, "hold", 300));
    talk.check(&format!(
        r#"
        shop  PUT /admin/items/1 {plain}                                -> 201 open 10=10+0+0
        shop  PUT /admin/items/2 {held}                                 -> 201 open 10=10+0+0
        alice POST /v1/items/1/orders {{"quantity":3}} #key-a             -> 201 confirmed x3 $a
        bob   POST /v1/items/2/orders {{"quantity":1}} #key-b             -> 201 held x1 $b
        shop  POST /admin/orders/$a/pay {{"payment_ref":"pi_1"}}          -> 200 paid x3 $a
        shop  POST /admin/orders/$a/pay {{"payment_ref":"pi_1"}}          -> 200 paid x3 $a
        shop  POST /admin/orders/$a/refund {{"payment_ref":"pi_2"}}       -> 409 other_payment
        shop  POST /admin/orders/$a/refund {{"quantity":1}}               -> 422 invalid_field field=refund_ref
        shop  POST /admin/orders/$a/refund {{"quantity":1,"refund_ref":"re_1"}} -> 200 paid x3 $a
        shop  POST /admin/orders/$a/refund {{"quantity":1,"refund_ref":"re_1"}} -> 200 paid x3 $a
        shop  GET /admin/items/1                                        -> 200 open 10=8+0+2
        shop  POST /admin/orders/$a/pay {{"payment_ref":"pi_9"}}          -> 409 already_paid
        shop  POST /admin/orders/$a/refund {{"payment_ref":"pi_1"}} #re_2 -> 200 refunded x3 $a
        shop  POST /admin/orders/$a/refund {{"payment_ref":"pi_1"}} #re_2 -> 200 refunded x3 $a
        shop  POST /admin/orders/$a/refund {{"refund_ref":"re_3"}}        -> 409 already_refunded
        // The shop must not return this money again.
        shop  POST /admin/orders/$a/pay {{"payment_ref":"pi_1"}}          -> 409 already_refunded
        shop  POST /admin/orders/$a/pay {{"payment_ref":"pi_1"}}          -> 409 already_refunded
        shop  PUT /admin/items/1 {{"price_minor":7}}                      -> 200 open 10=10+0+0
        "#
    ));
    wait_for("the hold's end", || {
        (talk.say("shop GET /admin/items/2").brief() == "200 open 10=10+0+0").then_some(())
    });
    talk.check(
        r#"
        shop  POST /admin/orders/$b/pay {"payment_ref":"pi_b"}          -> 409 hold_expired
        shop  POST /admin/orders/$b/pay {"payment_ref":"pi_b"}          -> 409 hold_expired
        shop  GET /admin/orders?late_payments=true                      -> 200 2 orders
        shop  GET /admin/orders?late_payments=true&item=2               -> 200 1 orders
        shop  GET /admin/orders?late_payments=yes                       -> 400 bad_request field=late_payments
        "#,
    );
    let before = [order(&mut talk, "$a"), order(&mut talk, "$b")];
    let price = before[0]["price_minor"].clone();
    assert!(price.as_u64().is_some_and(|price| price != 7), "{before:?}");
    assert_eq!(
        money_of(&before[0]),
        json!({
            "buyer": "alice", "quantity": 3, "state": "refunded", "refunded_quantity": 3,
            "price_minor": price, "currency": before[0]["currency"], "idempotency_key": "key-a",
            "payment_ref": "pi_1", "refund_ref": "re_2",
            "refunds": [{"refund_ref": "re_1", "quantity": 1}, {"refund_ref": "re_2", "quantity": 2}],
            "late_payments": [{"payment_ref": "pi_9"}],
        })
    );
    for time in ["paid_at_ms", "refunded_at_ms", "created_at_ms"] {
        assert!(before[0][time].as_u64().is_some(), "{time}: {before:?}");
    }
    assert_eq!(before[1]["late_payments"][0]["payment_ref"], "pi_b");
    // Nothing of it is lost in a crash.
    let orders = talk.into_orders();
    server.kill();
    let server = bed.start();
    let mut talk = Talk::resume(&server, orders);
    assert_eq!([order(&mut talk, "$a"), order(&mut talk, "$b")], before);
    talk.check(
        r#"
        shop  GET /admin/orders?late_payments=true                                -> 200 2 orders
        shop  POST /admin/orders/$b/pay {"payment_ref":"pi_b","take_again":true}  -> 200 paid x1 $b
        shop  POST /admin/orders/$b/pay {"payment_ref":"pi_b","take_again":true}  -> 200 paid x1 $b
        shop  GET /admin/items/2                                                  -> 200 open 10=9+0+1
        shop  GET /admin/orders?late_payments=true                                -> 200 1 orders
        "#,
    );
    assert_eq!(server.stop(), Some(0));
}

/// A late payment that the shop returned is ticked off: once, with its key or reference, and for good.
#[test]
fn e2e_a_late_payment_that_went_back_is_ticked_off() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let plain = item(10, 5, "on_order", 0);
    talk.check(&format!(
        r#"
        shop  PUT /admin/items/1 {plain}                                  -> 201 open 10=10+0+0
        alice POST /v1/items/1/orders {{"quantity":3}} #a                   -> 201 confirmed x3 $a
        bob   POST /v1/items/1/orders {{"quantity":1}} #b                   -> 201 confirmed x1 $b
        shop  POST /admin/orders/$a/pay {{"payment_ref":"pi_1"}}            -> 200 paid x3 $a
        shop  POST /admin/orders/$a/pay {{"payment_ref":"pi_9"}}            -> 409 already_paid
        bob   POST /v1/orders/$b/cancel                                   -> 200 cancelled x1 $b
        shop  POST /admin/orders/$b/pay {{"payment_ref":"pi_b"}}            -> 409 hold_expired
        shop  GET /admin/orders?late_payments=true                        -> 200 2 orders
        shop  POST /admin/orders/$a/refund {{"payment_ref":"pi_7"}}         -> 409 other_payment
        shop  POST /admin/orders/$b/refund {{"payment_ref":"pi_7"}}         -> 409 not_refundable
        shop  POST /admin/orders/$a/refund {{"payment_ref":"pi_9","quantity":1}} #x -> 422 invalid_field field=quantity
        shop  POST /admin/orders/$a/refund {{"payment_ref":"pi_9"}} #back   -> 200 paid x3 $a
        shop  POST /admin/orders/$a/refund {{"payment_ref":"pi_9"}} #back   -> 200 paid x3 $a
        shop  POST /admin/orders/$a/refund {{"payment_ref":"pi_9"}} #other  -> 409 already_refunded
        shop  POST /admin/orders/$a/refund {{"payment_ref":"pi_1"}} #back   -> 422 idempotency_key_reused
        shop  GET /admin/orders?late_payments=true                        -> 200 1 orders
        shop  POST /admin/orders/$b/refund {{"payment_ref":"pi_b","refund_ref":"re_b"}} -> 200 cancelled x1 $b
        shop  GET /admin/orders?late_payments=true                        -> 200 0 orders
        // The provider reports the payment again, but its money was returned.
        shop  POST /admin/orders/$b/pay {{"payment_ref":"pi_b"}}            -> 409 already_refunded
        shop  POST /admin/orders/$b/pay {{"payment_ref":"pi_b","take_again":true}} -> 409 already_refunded
        shop  GET /admin/items/1                                          -> 200 open 10=7+0+3
        "#
    ));
    let before = [order(&mut talk, "$a"), order(&mut talk, "$b")];
    let late = |order: &Value| order["late_payments"][0].clone();
    assert_eq!(
        (&late(&before[0])["payment_ref"], &late(&before[0])["refund_ref"]),
        (&json!("pi_9"), &json!("back"))
    );
    assert_eq!(
        (&late(&before[1])["payment_ref"], &late(&before[1])["refund_ref"]),
        (&json!("pi_b"), &json!("re_b"))
    );
    assert!(before.iter().all(|order| late(order)["refunded_at_ms"].as_u64().is_some()), "{before:?}");
    assert!(before[0]["ended_at_ms"].is_null(), "{}", before[0]);
    let times = ["created_at_ms", "ended_at_ms"].map(|name| before[1][name].as_u64().expect(name));
    assert!(times[0] <= times[1], "{}", before[1]);
    assert!(before[0]["refunds"].is_null(), "no unit of the order went back: {}", before[0]);
    let audit = talk.say("shop GET /admin/audit?order=newest").body;
    assert!(audit.contains("late_payment_returned"), "{audit}");
    let orders = talk.into_orders();
    server.kill();
    let server = bed.start();
    let mut talk = Talk::resume(&server, orders);
    assert_eq!([order(&mut talk, "$a"), order(&mut talk, "$b")], before);
    talk.check(
        r#"
        shop  GET /admin/orders?late_payments=true                        -> 200 0 orders
        shop  POST /admin/orders/$a/refund {"payment_ref":"pi_9"} #back   -> 200 paid x3 $a
        shop  POST /admin/orders/$a/refund {"payment_ref":"pi_1"}         -> 200 refunded x3 $a
        "#,
    );
    assert_eq!(server.stop(), Some(0));
}

/// Each merchant call twice with one key: it counts once, also when it is sent again after a crash.
#[test]
fn e2e_every_merchants_call_counts_once() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let held = item(10, 5, "hold", 60_000);
    talk.check(&format!(
        r#"
        shop  PUT /admin/items/1 {held} #put                     -> 201 open 10=10+0+0
        alice POST /v1/items/1/orders {{"quantity":2}} #k          -> 201 held x2 $a
        bob   POST /v1/items/1/orders {{"quantity":1}} #k          -> 201 held x1 $b
        shop  POST /admin/items/1/restock {{"add":5}} #once        -> 200 open 15=12+3+0
        shop  POST /admin/items/1/restock {{"add":5}} #once        -> 200 open 15=12+3+0
        shop  POST /admin/items/1/restock {{"add":6}} #once        -> 422 idempotency_key_reused
        shop  PUT /admin/items/1 {{"cap":4}} #put2                 -> 200 open 15=12+3+0
        shop  PUT /admin/items/1 {{"cap":4}} #put2                 -> 200 open 15=12+3+0
        shop  POST /admin/items/1/pause #p                       -> 200 paused 15=12+3+0
        shop  POST /admin/items/1/pause #p                       -> 200 paused 15=12+3+0
        shop  POST /admin/items/1/resume #r                      -> 200 open 15=12+3+0
        shop  POST /admin/items/1/pause #p                       -> 200 open 15=12+3+0
        shop  POST /admin/orders/$a/pay {{"payment_ref":"p"}} #m   -> 200 paid x2 $a
        shop  POST /admin/orders/$a/pay {{"payment_ref":"p"}} #m   -> 200 paid x2 $a
        shop  POST /admin/orders/$b/cancel #c                    -> 200 cancelled x1 $b
        shop  POST /admin/orders/$b/cancel #c                    -> 200 cancelled x1 $b
        shop  POST /admin/orders/$a/refund {{"quantity":1}} #f     -> 200 paid x2 $a
        shop  POST /admin/orders/$a/refund {{"quantity":1}} #f     -> 200 paid x2 $a
        shop  PUT /admin/blocklist/mallory #l                    -> 200
        shop  PUT /admin/blocklist/mallory #l                    -> 200
        shop  DELETE /admin/blocklist/mallory #d                 -> 200
        shop  DELETE /admin/blocklist/mallory #d                 -> 200
        shop  GET /admin/items/1                                 -> 200 open 15=14+0+1
        "#
    ));
    let seen = talk.say("shop GET /admin/items/1").json()["settings_lsn"].to_string();
    let orders = talk.into_orders();
    server.kill();
    let server = bed.start();
    let mut talk = Talk::resume(&server, orders);
    talk.check(&format!(
        r#"
        shop  POST /admin/items/1/restock {{"add":5}} #once        -> 200 open 15=14+0+1
        shop  POST /admin/items/1/pause #p                       -> 200 open 15=14+0+1
        shop  POST /admin/orders/$a/refund {{"quantity":1}} #f     -> 200 paid x2 $a
        // Two editors: the second one has not seen the change of the first.
        shop  PUT /admin/items/1 {{"cap":3}} +If-Match:"{seen}"    -> 200 open 15=14+0+1
        shop  PUT /admin/items/1 {{"cap":2}} +If-Match:"{seen}"    -> 412 precondition_failed
        shop  PUT /admin/items/1 {{"cap":2}} +If-Match:*           -> 200 open 15=14+0+1
        shop  PUT /admin/items/1 {{"cap":2}} +If-Match:"x"         -> 400 bad_header
        shop  PUT /admin/items/9 {held} +If-Match:"1"            -> 404 not_found
        // A condition that would be ignored is refused, and nothing changes.
        shop  POST /admin/items/1/restock {{"add":5}} +If-Match:"{seen}" -> 400 bad_header
        shop  POST /admin/items/1/close +If-Match:*              -> 400 bad_header
        shop  POST /admin/orders/$a/refund +If-Match:"{seen}"     -> 400 bad_header
        shop  PUT /admin/blocklist/eve +If-Match:"{seen}"         -> 400 bad_header
        shop  GET /admin/items/1 +If-Match:"{seen}"              -> 200 open 15=14+0+1
        "#
    ));
    assert_eq!(server.stop(), Some(0));
}

/// Every response that shows or changes an item has the tag for the `If-Match` of the next change.
#[test]
fn e2e_items_show_the_tag_of_their_settings() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let tag_of = |talk: &mut Talk<'_>, call: &str| {
        let answer = talk.say(&format!("shop {call}"));
        let tag = answer.header("ETag").unwrap_or_else(|| panic!("{call}: {}", answer.head)).to_owned();
        assert_eq!(tag, format!("\"{}\"", answer.json()["settings_lsn"]), "{call}");
        tag
    };
    let mut tags = vec![tag_of(&mut talk, &format!("PUT /admin/items/1 {}", item(10, 5, "on_order", 0)))];
    for call in [
        r#"PUT /admin/items/1 {"cap":4}"#,
        "POST /admin/items/1/pause",
        "POST /admin/items/1/resume",
        r#"POST /admin/items/1/mismatch {"reason":"a_test"}"#,
        "POST /admin/items/1/resume",
        r#"PUT /admin/items/1 {"price_minor":3}"#,
    ] {
        let (seen, call) = (tags.last().expect("one"), call.to_owned());
        let named = if call.starts_with("PUT") { format!("{call} +If-Match:{seen}") } else { call };
        let tag = tag_of(&mut talk, &named);
        assert!(!tags.contains(&tag), "{named}: {tag} names two states of it: {tags:?}");
        tags.push(tag);
    }
    // Stock is not a setting: an order and a restock do not change the tag.
    let last = tags.last().expect("one").clone();
    talk.check(r#"alice POST /v1/items/1/orders {"quantity":1} -> 201 confirmed x1 $a"#);
    assert_eq!(tag_of(&mut talk, r#"POST /admin/items/1/restock {"add":1}"#), last);
    assert_eq!(tag_of(&mut talk, "GET /admin/items/1"), last);
    assert!(talk.say("shop GET /admin/items").header("ETag").is_none(), "a list has no one tag");
    drop(talk);
    server.kill();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    assert_eq!(tag_of(&mut talk, "GET /admin/items/1"), last);
    talk.check(&format!(
        r#"
        shop  PUT /admin/items/1 {{"cap":3}} +If-Match:{}   -> 412 precondition_failed
        shop  PUT /admin/items/1 {{"cap":3}} +If-Match:{last} -> 200 open 11=10+0+1
        "#,
        tags[0],
    ));
    assert_ne!(tag_of(&mut talk, "POST /admin/items/1/close"), last);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn e2e_a_hold_is_extended_within_its_bound() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let (held, plain) = (item(2, 2, "hold", 60_000), item(2, 2, "on_order", 0));
    talk.check(&format!(
        r#"
        shop  PUT /admin/items/1 {held}                   -> 201 open 2=2+0+0
        shop  PUT /admin/items/2 {plain}                  -> 201 open 2=2+0+0
        alice POST /v1/items/1/orders {{"quantity":1}} #k   -> 201 held x1 $a
        alice POST /v1/items/2/orders {{"quantity":1}} #k   -> 201 confirmed x1 $p
        "#
    ));
    let placed = order(&mut talk, "$a");
    let pay_by = placed["pay_by_ms"].as_u64().expect("held");
    wait_for("a later moment", || {
        let extended =
            talk.say(&format!(r#"shop POST /admin/orders/$a/extend {{"pay_by_ms":{}}}"#, pay_by + 1));
        (extended.brief().starts_with("200 held x1")).then_some(())
    });
    talk.check(&format!(
        r#"
        shop  POST /admin/orders/$a/extend {{"pay_by_ms":{0}}}       -> 200 held x1 $a
        shop  POST /admin/orders/$a/extend {{"pay_by_ms":{1}}}       -> 422 invalid_field field=pay_by_ms
        shop  POST /admin/orders/$a/extend {{"pay_by_ms":{pay_by}}}  -> 422 invalid_field field=pay_by_ms
        shop  POST /admin/orders/$p/extend {{"pay_by_ms":{0}}}       -> 409 not_extendable
        "#,
        pay_by + 1,
        pay_by + 3_600_000,
    ));
    let again = talk.say(r#"alice POST /v1/items/1/orders {"quantity":1} #k"#).json();
    assert_eq!(again["pay_by_ms"], placed["pay_by_ms"], "a retry is answered as before");
    assert_eq!(order(&mut talk, "$a")["pay_by_ms"], pay_by + 1);
    assert_eq!(server.stop(), Some(0));
}

/// A data directory written by the program of 30 November 2026: everything is read, and what it did not
/// store is not invented.
#[test]
fn e2e_a_log_of_november_is_read() {
    let mut bed = Bed::new();
    bed.cores = "1";
    unpack(&bed.dir);
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let of = |item: u64, seq: u64| (item << 32 | seq).to_string();
    let alice = order(&mut talk, &of(1, 1));
    assert_eq!((&alice["state"], &alice["price_minor"]), (&json!("refunded"), &json!(1_000)), "{alice}");
    assert_eq!((&alice["idempotency_key"], &alice["currency"]), (&json!("k-alice"), &json!("EUR")));
    let fred = order(&mut talk, &of(1, 3));
    assert_eq!(fred["price_minor"], 1_500, "bought after the price had changed: {fred}");
    let gina = order(&mut talk, &of(2, 4));
    assert_eq!((&gina["state"], &gina["payment_ref"]), (&json!("paid"), &json!("pi_gina")), "{gina}");
    talk.check(&format!(
        r#"
        shop  GET /admin/items/1                                       -> 200 open 105=104+0+1
        shop  POST /admin/orders/{0}/pay {{"payment_ref":"pi_gina"}}     -> 200 paid x2 $g
        shop  POST /admin/orders/{0}/refund {{"payment_ref":"pi_x"}}     -> 409 other_payment
        shop  POST /admin/orders/{0}/refund {{"payment_ref":"pi_gina"}}  -> 200 refunded x2 $g
        gina  POST /v1/items/2/orders {{"quantity":2}} #k-gina           -> 201 held x2 again $g
        "#,
        of(2, 4)
    ));
    assert_eq!(server.stop(), Some(0));
}

/// The files of that directory, without the zeros at the end of a segment.
fn unpack(dir: &Path) {
    const SEGMENT: &[u8] = include_bytes!("data/log-of-november/0000000000000001.seg");
    const CONTROL: &[u8] = include_bytes!("data/log-of-november/control");
    for sub in ["log", "snap", "torn"] {
        std::fs::create_dir_all(dir.join(sub)).unwrap();
    }
    let mut segment = SEGMENT.to_vec();
    segment.resize(4 << 20, 0);
    std::fs::write(dir.join("log/0000000000000001.seg"), segment).unwrap();
    std::fs::write(dir.join("control"), CONTROL).unwrap();
}
