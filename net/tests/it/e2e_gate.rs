//! End to end: tickets, challenges and limits over real sockets, with honest and dishonest clients.

use std::sync::Barrier;

use sha2::{Digest as _, Sha256};
use stampede_loadgen::engine::{self, RunConfig};
use stampede_loadgen::verify::{self, VerifyConfig};
use stampede_loadgen::workload::{Flow, Workload};

use crate::e2e_talk::{Answer, Http, Talk, item, now_ms, sale};
use crate::server::{Bed, Server, wait_for};

/// Zero bits of the proof of work in these tests: a few hundred hashes.
const POW_BITS: u32 = 8;
const KEY_A: &str = "1:c2l4dGVlbiBhbmQgc2l4dGVlbiBieXRlcyBvZiBzZWNyZXQ=";
const KEY_B: &str = "2:YW5vdGhlciBzaXh0ZWVuIGFuZCBzaXh0ZWVuIGJ5dGVzISE=";

fn bed() -> Bed {
    Bed::new().set("gate.pow_bits", &POW_BITS.to_string())
}

/// An item's settings with some added.
fn with(body: &str, more: &str) -> String {
    format!("{},{more}}}", body.strip_suffix('}').unwrap())
}

fn put(talk: &mut Talk<'_>, id: u64, body: &str) {
    let answer = talk.say(&format!("shop PUT /admin/items/{id} {body}"));
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
}

fn ticketed(stock: u64, cap: u32) -> String {
    with(&item(stock, cap, "on_order", 0), r#""ticket":"required""#)
}

fn challenged(stock: u64, rule: &str) -> String {
    with(&item(stock, 1, "on_order", 0), &format!(r#""ticket":"required","challenge":"{rule}""#))
}

fn ticket(talk: &mut Talk<'_>, who: &str, id: u64) -> String {
    let answer = talk.say(&format!("{who} POST /v1/items/{id}/ticket {{}}"));
    assert_eq!((answer.status, answer.header("Cache-Control")), (201, Some("no-store")), "{answer:?}");
    answer.json()["ticket"].as_str().unwrap().to_owned()
}

fn order(ticket: &str) -> String {
    format!(r#"{{"quantity":1,"ticket":"{ticket}"}}"#)
}

fn available(talk: &mut Talk<'_>, id: u64) -> u64 {
    talk.say(&format!("shop GET /admin/items/{id}")).json()["available"].as_u64().unwrap()
}

#[test]
fn e2e_a_ticket_is_for_one_buyer_item_and_window() {
    let mut bed = bed();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    put(&mut talk, 1, &ticketed(5, 1));
    put(&mut talk, 2, &ticketed(5, 1));
    let hour_ms = 3_600_000;
    let later = sale(5, 1, "on_order", 0, now_ms() + hour_ms, now_ms() + 2 * hour_ms);
    put(&mut talk, 3, &with(&later, r#""ticket":"required""#));
    let (mine, elsewhere) = (ticket(&mut talk, "alice", 1), ticket(&mut talk, "alice", 2));
    let (good, other) = (order(&mine), order(&elsewhere));
    talk.check(&format!(
        r#"
        anon  GET /v1/items/1                                     -> 200 open plenty
        anon  POST /v1/items/1/ticket {{}}                        -> 401 unauthenticated
        alice POST /v1/items/1/ticket x                           -> 400 bad_json
        alice POST /v1/items/1/ticket                             -> 201
        alice POST /v1/items/1/ticket {{"x":1}}                   -> 400 unknown_field field=x
        alice POST /v1/items/9/ticket {{}}                        -> 404 not_found
        alice POST /v1/items/3/ticket {{}}                        -> 403 not_open
        alice GET  /v1/items/3/challenge                          -> 403 not_open
        alice POST /v1/items/1/orders {{"quantity":1}}            -> 403 ticket_required
        alice POST /v1/items/1/orders {{"ticket":""}}             -> 403 ticket_invalid
        alice POST /v1/items/1/orders {{"ticket":"a.b.c"}}        -> 403 ticket_invalid
        alice POST /v1/items/1/orders {other}                     -> 403 ticket_invalid
        bob   POST /v1/items/1/orders {good}                      -> 403 ticket_invalid
        Alice POST /v1/items/1/orders {good}                      -> 403 ticket_invalid
        shop  GET /admin/items/1                                  -> 200 open 5=5+0+0
        alice POST /v1/items/1/orders {good} #k                   -> 201 confirmed x1 $a
        // A retry needs no ticket, whatever it sends; a new purchase exceeds the cap.
        alice POST /v1/items/1/orders {{"quantity":1}} #k         -> 201 confirmed x1 again $a
        alice POST /v1/items/1/orders {other} #k                  -> 201 confirmed x1 again $a
        alice POST /v1/items/1/orders {good}                      -> 409 cap_reached $a
        alice POST /v1/items/1/orders {{"quantity":1}}            -> 403 ticket_required
        shop  PUT /admin/blocklist/carol                          -> 200
        carol POST /v1/items/1/ticket {{}}                        -> 403 not_eligible
        carol GET  /v1/items/1/challenge                          -> 403 not_eligible
        shop  POST /admin/items/1/pause                           -> 200 paused 5=4+0+1
        bob   POST /v1/items/1/ticket {{}}                        -> 409 paused
        shop  POST /admin/items/1/resume                          -> 200 open 5=4+0+1
        shop  POST /admin/items/1/restock {{"add":-4}}            -> 200 sold_out 1=0+0+1
        bob   POST /v1/items/1/ticket {{}}                        -> 409 sold_out
        "#
    ));
    let opens_in_ms = talk.say("alice POST /v1/items/3/ticket {}").json()["opens_in_ms"].as_u64();
    assert!(opens_in_ms.is_some_and(|ms| (hour_ms - 60_000..=hour_ms).contains(&ms)), "{opens_in_ms:?}");
    // The window of item 2 is moved: earlier tickets become invalid, and
    // moving it back does not help.
    let kept = talk.say("shop GET /admin/items/2").json()["closes_at_ms"].as_u64().unwrap();
    put(&mut talk, 2, &format!(r#"{{"closes_at_ms":{}}}"#, kept + 1));
    put(&mut talk, 2, &format!(r#"{{"closes_at_ms":{kept}}}"#));
    talk.check(&format!("alice POST /v1/items/2/orders {other} -> 403 ticket_invalid"));
    let fresh = order(&ticket(&mut talk, "alice", 2));
    talk.check(&format!(
        r#"
        shop  PUT /admin/items/2 {{"cap":2,"name":"renamed"}}     -> 200 open 5=5+0+0
        alice POST /v1/items/2/orders {fresh}                     -> 201 confirmed x1 $b
        shop  POST /admin/items/2/close                           -> 200 ended 5=4+0+1
        alice POST /v1/items/2/orders {fresh}                     -> 403 ended
        bob   POST /v1/items/2/ticket {{}}                        -> 403 ended
        "#
    ));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn e2e_every_bit_of_a_ticket_counts() {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bed = bed();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    put(&mut talk, 1, &ticketed(5, 1));
    let mine = ticket(&mut talk, "alice", 1);
    let mut spoilt: Vec<String> = (0..mine.len()).map(|len| mine[..len].to_owned()).collect();
    spoilt.extend([
        format!("{mine}A"),
        format!("{mine}="),
        mine.to_lowercase(),
        mine.replace(['-', '_'], "A"),
    ]);
    for (at, bit) in (0..mine.len()).flat_map(|at| (0..6).map(move |bit| (at, bit))) {
        let mut chars = mine.clone().into_bytes();
        let value = ALPHABET.iter().position(|&letter| letter == chars[at]).unwrap();
        chars[at] = ALPHABET[value ^ 1 << bit];
        spoilt.push(String::from_utf8(chars).unwrap());
    }
    spoilt.retain(|text| *text != mine);
    let mut http = Http::to(server.public);
    for batch in spoilt.chunks(32) {
        let requests = batch
            .iter()
            .map(|text| http.request("POST /v1/items/1/orders", &["X-Buyer: alice"], &order(text)))
            .collect::<String>();
        http.send(&requests);
        for text in batch {
            let answer = http.read(false).unwrap();
            assert_eq!(answer.brief(), "403 ticket_invalid", "{text}");
        }
    }
    assert!(spoilt.len() > 600 && available(&mut talk, 1) == 5);
    talk.check(&format!("alice POST /v1/items/1/orders {} -> 201 confirmed x1 $a", order(&mine)));
}

#[test]
fn e2e_tickets_outlive_a_crash_and_one_change_of_keys() {
    let mut bed = bed();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    put(&mut talk, 1, &ticketed(9, 1));
    let (a, b) = (ticket(&mut talk, "ann", 1), ticket(&mut talk, "bob", 1));
    talk.check(&format!("ann POST /v1/items/1/orders {} -> 201 confirmed x1 $a", order(&a)));
    let orders = talk.into_orders();
    server.kill();
    // The generated key is kept; a used ticket is limited by the cap, not by the gate.
    bed.cores = "1";
    let server = bed.start();
    let mut talk = Talk::resume(&server, orders);
    talk.check(&format!(
        r#"
        ann POST /v1/items/1/orders {} -> 409 cap_reached $a
        bob POST /v1/items/1/orders {} -> 201 confirmed x1 $b
        "#,
        order(&a),
        order(&b)
    ));
    assert_eq!(server.stop(), Some(0));
    let answers = |bed: &mut Bed, ticket: &str| {
        let server = bed.start();
        let mut talk = Talk::with(&server);
        let (old, new) = (
            talk.say(&format!("eve POST /v1/items/1/orders {}", order(ticket))).brief(),
            self::ticket(&mut talk, "eve", 1),
        );
        assert_eq!(server.stop(), Some(0));
        (old, new)
    };
    let mut bed = bed.set("gate.ticket_keys", KEY_A);
    let (_, under_a) = answers(&mut bed, "");
    let mut bed = bed.set("gate.ticket_keys", KEY_B);
    assert_eq!(answers(&mut bed, &under_a).0, "403 ticket_invalid", "under a key that is not live");
    let mut bed = bed.set("gate.ticket_keys", &format!("{KEY_B} {KEY_A}"));
    assert_eq!(answers(&mut bed, &under_a).0, "201 confirmed x1", "under the former key");
}

#[test]
fn e2e_a_ticket_expires() {
    let mut bed = bed().set("gate.ticket_ms", "1000");
    // One core checks the ticket and dates the order by one clock reading. With a hop the
    // owner's reading is later, and may be after the end of a ticket that was valid.
    bed.cores = "1";
    let server = bed.start();
    let mut talk = Talk::with(&server);
    put(&mut talk, 1, &ticketed(1_000_000, 1_000_000));
    let asked_ms = now_ms();
    let answer = talk.say("alice POST /v1/items/1/ticket {}");
    let until_ms = answer.json()["expires_at_ms"].as_u64().unwrap();
    assert!((asked_ms + 900..now_ms() + 1_100).contains(&until_ms), "{answer:?}");
    let body = order(answer.json()["ticket"].as_str().unwrap());
    wait_for("its end", || {
        match talk.say(&format!("alice POST /v1/items/1/orders {body}")).brief().as_str() {
            "201 confirmed x1" => None,
            "403 ticket_invalid" => Some(()),
            other => panic!("{other}"),
        }
    });
    let late = talk.say("shop GET /admin/orders?item=1&limit=1000").json();
    let created = late["orders"].as_array().unwrap().iter().map(|row| row["created_at_ms"].as_u64().unwrap());
    assert!(created.max().is_none_or(|last| last < until_ms), "bought with an expired ticket");
}

/// A challenge as the server sent it.
struct Posed {
    text: String,
    svg: String,
}

fn pose(talk: &mut Talk<'_>, who: &str, id: u64) -> Result<Posed, Answer> {
    let answer = talk.say(&format!("{who} GET /v1/items/{id}/challenge"));
    if answer.status != 200 {
        return Err(answer);
    }
    let json = answer.json();
    assert_eq!(json["pow"]["bits"].as_u64(), Some(POW_BITS.into()));
    let text = |name: &str| json[name].as_str().unwrap().to_owned();
    Ok(Posed { text: text("challenge"), svg: text("svg") })
}

/// The proof of work, as docs/GATE.md describes it.
fn work(challenge: &str) -> String {
    let fits = |number: &u64| {
        let hash = Sha256::digest(format!("{challenge}:{number}"));
        u64::from_be_bytes(hash[..8].try_into().unwrap()).leading_zeros() >= POW_BITS
    };
    (0..).find(fits).unwrap().to_string()
}

fn answered(challenge: &str, answer: &str) -> String {
    format!(r#"{{"challenge":"{challenge}","answer":"{answer}"}}"#)
}

#[test]
fn e2e_a_challenge_is_answered_once_by_its_buyer() {
    let mut bed = bed();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    put(&mut talk, 1, &challenged(5, "always"));
    put(&mut talk, 2, &challenged(5, "always"));
    talk.check("ann POST /v1/items/1/ticket {} -> 403 challenge_required");
    let posed = pose(&mut talk, "ann", 1).unwrap();
    assert!(posed.svg.starts_with("<svg") && posed.svg.ends_with("</svg>"), "{}", posed.svg);
    let solved = answered(&posed.text, &work(&posed.text));
    let wrong = pose(&mut talk, "bob", 1).unwrap().text;
    talk.check(&format!(
        r#"
        bob POST /v1/items/1/ticket {solved}               -> 403 challenge_failed
        ann POST /v1/items/2/ticket {solved}               -> 403 challenge_failed
        bob POST /v1/items/1/ticket {}                     -> 403 challenge_failed
        bob POST /v1/items/1/ticket {}                     -> 403 challenge_failed
        ann POST /v1/items/1/ticket {{"challenge":"x"}}    -> 400 bad_request field=answer
        "#,
        answered(&wrong, "1"),
        answered(&wrong, &work(&wrong)),
    ));
    let bought = talk.say(&format!("ann POST /v1/items/1/ticket {solved}"));
    assert_eq!(bought.status, 201, "{bought:?}");
    let body = order(bought.json()["ticket"].as_str().unwrap());
    talk.check(&format!(
        r#"
        ann POST /v1/items/1/ticket {solved}               -> 403 challenge_failed
        ann POST /v1/items/1/orders {body}                 -> 201 confirmed x1 $a
        "#
    ));
    // A challenge is not a ticket, and none survives the process.
    let posed = pose(&mut talk, "eve", 1).unwrap().text;
    talk.check(&format!("eve POST /v1/items/1/orders {} -> 403 ticket_invalid", order(&posed)));
    server.kill();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let late = answered(&posed, &work(&posed));
    talk.check(&format!("eve POST /v1/items/1/ticket {late} -> 403 challenge_failed"));
    assert_eq!(available(&mut talk, 1), 4);
}

#[test]
fn e2e_an_answer_raced_from_a_hundred_connections_counts_once() {
    let mut bed = bed();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    put(&mut talk, 1, &challenged(5, "always"));
    let posed = pose(&mut talk, "ann", 1).unwrap().text;
    let (body, start) = (answered(&posed, &work(&posed)), Barrier::new(100));
    let race = || {
        let mut http = Http::to(server.public);
        start.wait();
        http.call("POST /v1/items/1/ticket", &["X-Buyer: ann"], &body).brief()
    };
    let said: Vec<String> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..100).map(|_| scope.spawn(race)).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let times = |wanted: &str| said.iter().filter(|said| *said == wanted).count();
    assert_eq!(times("201"), 1, "{said:?}");
    assert_eq!(times("403 challenge_failed") + times("429 rate_limited"), 99, "{said:?}");
}

#[test]
fn e2e_a_guesser_is_slowed_down() {
    let mut bed = bed().set("gate.pow_bits", "32");
    let server = bed.start();
    let mut talk = Talk::with(&server);
    put(&mut talk, 1, &challenged(5, "always"));
    let (mut wrong, mut limited) = (0, 0);
    for _ in 0..1_000 {
        let answer = talk.say("eve GET /v1/items/1/challenge");
        if answer.status == 429 {
            assert!(answer.header("Retry-After").is_some_and(|s| s.parse::<u64>().is_ok()), "{answer:?}");
            limited += 1;
            continue;
        }
        let posed = answer.json()["challenge"].as_str().unwrap().to_owned();
        let guess = talk.say(&format!("eve POST /v1/items/1/ticket {}", answered(&posed, "500")));
        assert_eq!(guess.brief(), "403 challenge_failed");
        wrong += 1;
    }
    // Three at once and then one in ten seconds, on one connection and so on one core.
    assert!((3..50).contains(&wrong) && limited == 1_000 - wrong, "{wrong} guesses, {limited} refused");
    talk.check("bob POST /v1/items/1/ticket {} -> 403 challenge_required");
}

/// Speaks for clients at any address, like a proxy.
fn behind_proxy() -> Bed {
    bed().set("identity.trusted_proxies", "127.0.0.1")
}

#[test]
fn e2e_many_accounts_behind_one_address_have_to_solve() {
    let mut bed = behind_proxy().set("gate.suspicious_accounts", "4");
    bed.cores = "1";
    let server = bed.start();
    let mut talk = Talk::with(&server);
    put(&mut talk, 1, &challenged(5, "suspicious"));
    let mut ask = |buyer: usize, address: &str| {
        talk.say(&format!("b{buyer} POST /v1/items/1/ticket {{}} +X-Forwarded-For:{address}")).brief()
    };
    let farm: Vec<String> = (0..24).map(|buyer| ask(buyer, "192.0.2.7")).collect();
    let let_in = farm.iter().take_while(|said| *said == "201").count();
    assert!((3..=6).contains(&let_in), "{farm:?}");
    assert!(farm[let_in + 2..].iter().all(|said| said == "403 challenge_required"), "{farm:?}");
    assert_eq!(ask(100, "192.0.2.8"), "201", "another address is another address");
    assert_eq!(ask(0, "192.0.2.9"), "201", "and so is another one of the same buyer");
    // One account that requests without end.
    let often: Vec<String> = (0..80).map(|_| ask(200, "192.0.2.10")).collect();
    assert_eq!(often.iter().filter(|said| *said == "201").count(), 60, "{often:?}");
    // Eight addresses of one /64 count as one.
    let network: Vec<String> = (0..8).map(|n| ask(300 + n, &format!("2001:db8::{n}"))).collect();
    assert_eq!(network.last().unwrap(), "403 challenge_required", "{network:?}");
}

fn buy(talk: &mut Talk<'_>, who: &str, more: &str) -> Answer {
    talk.say(&format!(r#"{who} POST /v1/items/1/orders {{"quantity":1}} {more}"#))
}

/// How many of so many purchases in a row are not refused for their rate.
fn let_through(talk: &mut Talk<'_>, who: &str, more: &str, times: usize) -> usize {
    (0..times).filter(|_| buy(talk, who, more).status != 429).count()
}

#[test]
fn e2e_each_buyer_has_a_rate() {
    let mut bed = bed().set("limits.buyer_per_s", "1");
    bed.cores = "1";
    let server = bed.start();
    let mut talk = Talk::with(&server);
    let hour_ms = 3_600_000;
    put(&mut talk, 1, &sale(5, 1, "on_order", 0, now_ms() + hour_ms, now_ms() + 2 * hour_ms));
    // Requests before the opening use up nothing.
    assert_eq!(let_through(&mut talk, "ann", "", 50), 50);
    put(&mut talk, 1, &format!(r#"{{"opens_at_ms":{}}}"#, now_ms() - 1));
    let through = let_through(&mut talk, "ann", "", 40);
    assert!((6..20).contains(&through), "{through} of 40");
    let refused = buy(&mut talk, "ann", "#k");
    let wait_ms = refused.json()["retry_after_ms"].as_u64();
    assert_eq!(refused.brief(), "429 rate_limited");
    assert!(wait_ms.is_some_and(|ms| (1..=1_000).contains(&ms)), "{refused:?}");
    assert_eq!(refused.header("Retry-After"), Some("1"));
    assert_eq!(talk.say("ann POST /v1/items/1/ticket {}").brief(), "429 rate_limited");
    assert_eq!(buy(&mut talk, "bob", "").status, 201, "another buyer is another buyer");
    // A refused request changed nothing, and can be repeated.
    let answer = wait_for("the rate", || Some(buy(&mut talk, "ann", "#k")).filter(|a| a.status != 429));
    assert_eq!(answer.brief().split(' ').next(), Some("409"), "{answer:?}");
    // Reads use up nothing.
    assert!((0..50).all(|_| talk.say("ann GET /v1/orders").status == 200));
}

#[test]
fn e2e_each_address_has_a_rate() {
    let mut bed = behind_proxy().set("limits.ip_per_s", "1");
    bed.cores = "1";
    let server = bed.start();
    let mut talk = Talk::with(&server);
    put(&mut talk, 1, &item(1_000, 1, "on_order", 0));
    let mut through = |address: &dyn Fn(usize) -> String| {
        let ask = |n: usize, talk: &mut Talk<'_>| {
            buy(talk, &format!("b{n}"), &format!("+X-Forwarded-For:{}", address(n))).status
        };
        (0..40).filter(|&n| ask(n, &mut talk) != 429).count()
    };
    assert!((6..20).contains(&through(&|_| "192.0.2.7".to_owned())));
    assert!((6..20).contains(&through(&|n| format!("2001:db8:1:1::{n:x}"))), "one /64");
    assert_eq!(through(&|n| format!("2001:db8:2:{n:x}::1")), 40);
    // The last address that none of our proxies has added counts, not what the client claims.
    assert!((6..20).contains(&through(&|n| format!("203.0.113.{n},192.0.2.99"))));
    assert!((6..20).contains(&through(&|n| format!("not-an-address,{n}"))), "then the proxy's own counts");
    // Endpoints that need no buyer but cost something count, too.
    let pages =
        (0..40).filter(|_| talk.say("anon GET /v1/items/1/draw +X-Forwarded-For:192.0.2.55").status != 429);
    assert!((6..20).contains(&pages.count()));
}

#[test]
fn e2e_each_item_has_an_admission_rate() {
    let mut bed = bed();
    let server = bed.start();
    let mut talk = Talk::with(&server);
    put(&mut talk, 1, &with(&item(1_000_000, 1, "on_order", 0), r#""admit_per_s":20"#));
    put(&mut talk, 2, &item(1_000_000, 1, "on_order", 0));
    let begin_ms = now_ms();
    let mut admitted = 0;
    wait_for("two seconds of it", || {
        (0..50).for_each(|n| {
            let answer = buy(&mut talk, &format!("b{}-{n}", now_ms()), "");
            assert!(matches!(answer.status, 201 | 409 | 429), "{answer:?}");
            admitted += u64::from(answer.status != 429);
        });
        (now_ms() - begin_ms > 2_000).then_some(())
    });
    let lasted_ms = now_ms() - begin_ms;
    // Never more than the rate, a tenth of a second's worth at once, and one per core.
    assert!(admitted <= 20 * lasted_ms / 1_000 + 1 + 2 + 2, "{admitted} in {lasted_ms} ms");
    assert!(admitted > 5, "{admitted} in {lasted_ms} ms");
    assert_eq!(available(&mut talk, 1), 1_000_000 - admitted, "refused requests use up nothing");
    let free = talk.say(r#"x POST /v1/items/2/orders {"quantity":1}"#);
    assert_eq!(free.status, 201, "each item has its own rate");
}

#[test]
fn e2e_an_address_has_so_many_connections() {
    let mut bed = bed().set("limits.connections_per_ip", "4");
    bed.cores = "1";
    let server = bed.start();
    let mut shop = Talk::with(&server);
    put(&mut shop, 1, &item(5, 1, "on_order", 0));
    let time = |http: &mut Http| http.call("GET /v1/time", &[], "").status;
    let mut four: Vec<Http> = (0..4).map(|_| Http::to(server.public)).collect();
    assert!(four.iter_mut().all(|http| time(http) == 200));
    let turned_away = Http::to(server.public).read(false).expect("a word");
    assert_eq!(turned_away.brief(), "429 rate_limited");
    assert_eq!(turned_away.header("Connection"), Some("close"));
    assert_eq!(shop.say("shop GET /admin/items/1").status, 200, "the shop's own are not counted");
    four.pop();
    wait_for("a place", || {
        let mut http = Http::to(server.public);
        let request = http.request("GET /v1/time", &[], "");
        (http.try_send(&request) && http.read(false).is_some_and(|answer| answer.status == 200)).then_some(())
    });
}

#[test]
fn e2e_a_flood_of_addresses_grows_nothing() {
    const ADDRESSES: u32 = 60_000;
    let mut bed = behind_proxy().set("limits.ip_per_s", "1000").set("limits.buyer_per_s", "1000");
    bed.cores = "1";
    let server = bed.start();
    let mut talk = Talk::with(&server);
    put(&mut talk, 1, &challenged(1, "suspicious"));
    let flood = |from: u32, to: u32| {
        let mut http = Http::to(server.public);
        for batch in (from..to).collect::<Vec<_>>().chunks(48) {
            let request = |n: &u32| {
                let headers = [
                    format!("X-Buyer: b{n}"),
                    format!("X-Forwarded-For: {}", std::net::Ipv4Addr::from_bits(*n)),
                ];
                http.request("POST /v1/items/1/ticket", &[&headers[0], &headers[1]], "{}")
            };
            let requests: String = batch.iter().map(request).collect();
            http.send(&requests);
            batch.iter().for_each(|_| drop(http.read(false).expect("an answer")));
        }
    };
    // Filled once: keys that are spread over the whole table have touched all its pages.
    flood(1 << 24, (1 << 24) + ADDRESSES);
    let full = server.memory_bytes();
    flood(1 << 25, (1 << 25) + ADDRESSES);
    let grown = server.memory_bytes().saturating_sub(full);
    assert!(grown < 8 << 20, "{grown} bytes for {ADDRESSES} more addresses");
    assert_stays_up(&server, &mut talk);
}

fn assert_stays_up(server: &Server, talk: &mut Talk<'_>) {
    assert_eq!(available(talk, 1), 1);
    let answer = Http::to(server.public).call("GET /v1/items/1", &[], "");
    assert_eq!(answer.brief(), "200 open last");
}

/// The generator's buyers go through the whole flow: page, challenge by proof of work, ticket, purchase, wait.
#[test]
fn e2e_buyers_go_through_the_whole_gate() {
    const STOCK: u64 = 60;
    let mut bed = bed();
    let server = bed.start();
    put(&mut Talk::with(&server), 1, &challenged(STOCK, "always"));
    let workload = Workload { flow: Flow::Whole, ..Workload::purchases(1, 7) };
    let config = RunConfig { connections: 16, ..RunConfig::closed(server.public, workload, 3 * STOCK) };
    let outcome = engine::run(&config).expect("the buyers can start");
    assert_eq!(outcome.gave_up, None);
    let merchant = server.merchant();
    let history = outcome.history.as_ref();
    let config = VerifyConfig { history, ..VerifyConfig::of_merchant(&merchant, 1) };
    let verdict = verify::verify(&config).expect("a verdict");
    assert!(verdict.is_fine(), "{verdict}: {:#?}", verdict.violations);
    assert_eq!(verdict.orders, STOCK, "{verdict}");
    let stats = Talk::with(&server).say("shop GET /admin/stats").json();
    let total = |name: &str| stats["totals"][name].as_u64().unwrap();
    assert!(total("tickets_issued") >= STOCK && total("challenges_posed") >= STOCK, "{stats}");
}
