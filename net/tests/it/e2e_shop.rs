//! End to end, the merchant's side: payment, stock, blocklist, and the health endpoints.

use crate::e2e_talk::{Http, Talk, item};
use crate::server::{Bed, TOKEN, wait_for};

#[test]
fn e2e_a_hold_is_paid_or_goes_back_exactly_once() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let held = item(1, 1, "hold", 300);
    talk.check(&format!(
        r#"
        shop  PUT /admin/items/1 {held}                     -> 201 open 1=1+0+0
        alice POST /v1/items/1/orders {{"quantity":1}} #k   -> 201 held x1 $a
        // Later buyers may wait as long as the test takes.
        shop  PUT /admin/items/1 {{"hold_ms":3600000}}      -> 200 {}
        "#,
        talk_state(true)
    ));
    let mut tries = 0;
    wait_for("the hold's end", || {
        tries += 1;
        let bought = talk.say(&format!(r#"bob POST /v1/items/1/orders {{"quantity":1}} #k{tries}"#));
        (bought.brief() == "201 held x1").then_some(())
    });
    talk.check(&format!(
        r#"
        bob   POST /v1/items/1/orders {{"quantity":1}} #k{tries}              -> 201 held x1 again $b
        alice GET /v1/orders/$a                                    -> 200 expired x1 $a
        shop  POST /admin/orders/$a/pay {{"payment_ref":"late"}}     -> 409 hold_expired
        shop  GET /admin/items/1                                   -> 200 sold_out 1=0+1+0
        shop  POST /admin/orders/$b/pay {{"payment_ref":"p1"}}       -> 200 paid x1 $b
        shop  POST /admin/orders/$b/pay {{"payment_ref":"p1"}}       -> 200 paid x1 $b
        shop  POST /admin/orders/$b/pay {{"payment_ref":"p2"}}       -> 409 already_paid
        bob   POST /v1/orders/$b/cancel                            -> 409 not_cancellable
        shop  GET /admin/items/1                                   -> 200 sold_out 1=0+0+1
        shop  POST /admin/orders/$b/refund                         -> 200 refunded x1 $b
        shop  POST /admin/orders/$b/refund                         -> 200 refunded x1 $b
        shop  GET /admin/items/1                                   -> 200 open 1=1+0+0
        shop  POST /admin/orders/$a/refund                         -> 409 not_refundable
        shop  POST /admin/orders/4294967299/pay {{"payment_ref":"x"}} -> 404 not_found
        // Both have got the cap back.
        alice POST /v1/items/1/orders {{"quantity":1}} #k2           -> 201 held x1 $c
        alice POST /v1/orders/$c/cancel                            -> 200 cancelled x1 $c
        bob   POST /v1/items/1/orders {{"quantity":1}} #again        -> 201 held x1 $d
        shop  POST /admin/orders/$d/cancel                         -> 200 cancelled x1 $d
        shop  GET /admin/items/1                                   -> 200 open 1=1+0+0
        shop  GET /admin/orders?item=1                             -> 200 4 orders
        shop  GET /admin/orders?item=1&buyer=alice                 -> 200 2 orders
        shop  GET /admin/orders?item=1&limit=3                     -> 200 3 orders and more
        shop  GET /admin/orders?item=1&limit=3&after=$c            -> 200 1 orders
        shop  GET /admin/orders/$c                                 -> 200 cancelled x1 $c
        "#
    ));
}

/// The state of an item with one unit while that unit is held.
fn talk_state(held: bool) -> &'static str {
    if held { "sold_out 1=0+1+0" } else { "open 1=1+0+0" }
}

#[test]
fn e2e_on_payment_stock_goes_to_whoever_pays_first() {
    let mut bed = Bed::new();
    let server = bed.start();
    let unpaid = item(1, 1, "on_payment", 0);
    Talk::with(&server).check(&format!(
        r#"
        shop  PUT /admin/items/2 {unpaid}                        -> 201 open 1=1+0+0
        alice POST /v1/items/2/orders {{"quantity":1}}             -> 201 pending x1 $a
        bob   POST /v1/items/2/orders {{"quantity":1}}             -> 201 pending x1 $b
        shop  GET /admin/items/2                                 -> 200 open 1=1+0+0
        shop  POST /admin/orders/$b/pay {{"payment_ref":"p1"}}     -> 200 paid x1 $b
        shop  POST /admin/orders/$a/pay {{"payment_ref":"p2"}}     -> 409 sold_out
        alice GET /v1/orders/$a                                  -> 200 pending x1 $a
        carol POST /v1/items/2/orders {{"quantity":1}}             -> 409 sold_out
        shop  POST /admin/orders/$b/refund {{}}                    -> 200 refunded x1 $b
        shop  POST /admin/orders/$a/pay {{"payment_ref":"p2"}}     -> 200 paid x1 $a
        shop  GET /admin/items/2                                 -> 200 sold_out 1=0+0+1
        "#
    ));
}

#[test]
fn e2e_stock_comes_and_goes() {
    let mut bed = Bed::new();
    let server = bed.start();
    let fresh = item(2, 1, "on_order", 0);
    Talk::with(&server).check(&format!(
        r#"
        shop  PUT /admin/items/3 {fresh}                         -> 201 open 2=2+0+0
        shop  PUT /admin/items/3 {fresh}                         -> 200 open 2=2+0+0
        alice POST /v1/items/3/orders {{"quantity":1}}             -> 201 confirmed x1 $a
        shop  POST /admin/items/3/restock {{"add":-2}}             -> 409 stock_out_of_range
        shop  POST /admin/items/3/restock {{"add":-1}}             -> 200 sold_out 1=0+0+1
        bob   POST /v1/items/3/orders {{"quantity":1}}             -> 409 sold_out
        shop  POST /admin/items/3/restock {{"add":5}}              -> 200 open 6=5+0+1
        bob   POST /v1/items/3/orders {{"quantity":1}}             -> 201 confirmed x1 $b
        shop  POST /admin/items/3/restock {{"add":0}}              -> 422 invalid_field field=add
        shop  POST /admin/items/4/restock {{"add":1}}              -> 404 not_found
        shop  PUT /admin/items/3 {{"payment":"hold"}}              -> 422 invalid_field field=payment
        shop  PUT /admin/items/3 {{"stock":3}}                     -> 422 invalid_field field=stock
        shop  PUT /admin/items/3 {{"stock":3,"price_minor":7}}     -> 422 invalid_field field=stock
        shop  PUT /admin/items/3 {{"opens_at_ms":1764086400}}      -> 422 invalid_field field=opens_at_ms
        shop  PUT /admin/items/3 {{"cap":0}}                       -> 422 invalid_field field=cap
        shop  PUT /admin/items/3 {{"challenge":"always"}}          -> 422 invalid_field field=challenge
        shop  PUT /admin/items/3 {{"cap":"1"}}                     -> 422 invalid_field field=cap
        shop  PUT /admin/items/3 {{"nmae":"x"}}                    -> 400 unknown_field field=nmae
        shop  PUT /admin/items/5 {{"name":"x"}}                    -> 422 invalid_field field=stock
        shop  GET /admin/items                                   -> 200 1 items
        "#
    ));
}

#[test]
fn e2e_a_blocked_buyer_is_blocked_on_every_core() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    for id in 1..=4 {
        let body = item(10, 9, "on_order", 0);
        talk.check(&format!("shop PUT /admin/items/{id} {body} -> 201 open 10=10+0+0"));
    }
    let mut doors: Vec<Http> = (0..12).map(|_| Http::to(server.public)).collect();
    let mut everywhere = |expected: u16| {
        for (number, door) in doors.iter_mut().enumerate() {
            let call = format!("POST /v1/items/{}/orders", 1 + number % 4);
            let answer = door.call(&call, &["X-Buyer: mallory"], r#"{"quantity":1}"#);
            assert_eq!(answer.status, expected, "{answer:?}");
        }
    };
    everywhere(201);
    talk.check("shop PUT /admin/blocklist/mallory -> 200");
    everywhere(403);
    talk.check(
        r#"
        mallory POST /v1/items/1/orders {"quantity":1} -> 403 not_eligible
        eve     POST /v1/items/1/orders {"quantity":1} -> 201 confirmed x1 $e
        shop    PUT /admin/blocklist/mallory           -> 200
        shop    DELETE /admin/blocklist/mallory        -> 200
        "#,
    );
    everywhere(201);
    talk.check("shop PUT /admin/blocklist/mallory -> 200");
    server.kill();
    let server = bed.start();
    Talk::with(&server).check(r#"mallory POST /v1/items/1/orders {"quantity":1} -> 403 not_eligible"#);
}

#[test]
fn e2e_the_shop_sees_everything_and_nobody_else_does() {
    let mut bed = Bed::new();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let body = item(5, 1, "on_order", 0);
    talk.check(&format!(
        r#"
        shop  PUT /admin/items/1 {body}                   -> 201 open 5=5+0+0
        alice POST /v1/items/1/orders {{"quantity":1}}      -> 201 confirmed x1 $a
        bob   POST /v1/items/9/orders {{"quantity":1}}      -> 404 not_found
        shop  POST /admin/items/1/restock {{"add":2}}       -> 200 open 7=6+0+1
        shop  POST /admin/items/1/pause                   -> 200 paused 7=6+0+1
        shop  GET /healthz                                -> 200
        shop  GET /readyz                                 -> 200
        // The public listener has no merchant API.
        alice GET /admin/items                            -> 404 not_found
        alice GET /metrics                                -> 404 not_found
        alice GET /healthz                                -> 200
        alice GET /admin/readyz                           -> 404 not_found
        shop  GET /v1/items                               -> 404 not_found
        "#
    ));
    audit_and_stats(&mut talk);
    check_metrics(&talk.say("shop GET /metrics").body);
    let mut door = Http::to(server.admin);
    for wrong in ["X-Other: 1", "Authorization: Bearer wrong-wrong-wrong-wrong", "Authorization: Basic eA=="]
    {
        for call in
            ["GET /admin/items", "PUT /admin/items/1", "GET /admin/stats", "POST /admin/items/1/close"]
        {
            assert_eq!(door.call(call, &[wrong], "").brief(), "401 unauthenticated", "{call} {wrong}");
        }
    }
    let good = format!("Authorization: Bearer {TOKEN}");
    assert_eq!(door.call("GET /admin/items/1", &[&good], "").brief(), "200 paused 7=6+0+1");
}

fn audit_and_stats(talk: &mut Talk<'_>) {
    let audit = talk.say("shop GET /admin/audit").json();
    let entries = audit["entries"].as_array().unwrap();
    let actions: Vec<&str> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions.len(), 3, "{audit}");
    let lsns: Vec<u64> = entries.iter().map(|entry| entry["lsn"].as_u64().unwrap()).collect();
    assert!(lsns.is_sorted() && entries.iter().all(|entry| entry["actor"] == "merchant"), "{audit}");
    let rest = talk.say(&format!("shop GET /admin/audit?limit=1&after={}", lsns[0])).json();
    assert_eq!((&rest["entries"][0]["lsn"], &rest["has_more"]), (&lsns[1].into(), &true.into()));
    let stats = talk.say("shop GET /admin/stats").json();
    assert_eq!(stats["refusals"]["not_found"], 5, "{stats}");
    assert!(stats["log"]["durable_lsn"].as_u64() >= Some(4) && stats["cores"].as_array().unwrap().len() == 2);
}

/// Every line is a comment or `name{labels} number`, and every sample belongs to a family.
fn check_metrics(text: &str) {
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            families.push(rest.split(' ').next().unwrap());
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').expect("name and value");
            assert!(families.contains(&name.split('{').next().unwrap()), "{line}");
            value.parse::<u64>().unwrap_or_else(|_| panic!("not a number: {line}"));
        }
    }
    assert!(
        families.contains(&"stampede_log_durable_lsn") && text.contains("\nstampede_ready 1\n"),
        "{text}"
    );
}

#[test]
fn e2e_memory_acks_are_reported_everywhere() {
    let mut bed = Bed::new().flag("--ack", "memory");
    let mut server = bed.start();
    let mut talk = Talk::with(&server);
    let body = item(5, 1, "on_order", 0);
    talk.check(&format!(
        r#"
        shop  PUT /admin/items/1 {body}               -> 201 open 5=5+0+0
        alice POST /v1/items/1/orders {{"quantity":1}}  -> 201 confirmed x1 $a
        "#
    ));
    let ready = talk.say("shop GET /readyz").json();
    assert!(ready["weakened"][0].as_str().unwrap().contains("ack=memory"), "{ready}");
    let metrics = talk.say("shop GET /metrics").body;
    assert!(metrics.contains("stampede_weakened{what=\"ack=memory"), "{metrics}");
    // How full its tables are, and that none is nearly full.
    assert_eq!(ready["filling"].as_array().map(Vec::len), Some(0), "{ready}");
    assert!(metrics.contains("stampede_table_used{core=\"0\",table=\"orders\"}"), "{metrics}");
    let stats = talk.say("shop GET /admin/stats").json();
    assert_eq!(stats["cores"][0]["tables"]["orders"]["max"].as_u64(), Some(1 << 30), "{stats}");
    wait_for("the banner", || server.said().contains("WEAKENED:  ack=memory").then_some(()));
}
