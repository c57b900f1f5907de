//! The cost of tokens: each is verified once per core, on whatever connection; an address pays for its junk.

use std::net::IpAddr;

use stampede_net::engine::counters::Count;
use stampede_net::engine::home::Client;
use stampede_net::http::conn::Conn;
use stampede_net::http::route::Listener;
use stampede_net::identity::Identity;
use stampede_net::identity::key::IdentityKey;
use stampede_net::identity::mint::{Claims, MintKey};

use crate::rig::{Base, Rig, Setup, connect};

/// RFC 8032 section 7.1, test 1: the private key, and the public one.
const ED_PRIVATE: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const ED_PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
/// Requests that an address may make at once, at a rate of one per second.
const BURST: u64 = 6;

fn token(sub: &str) -> String {
    let key = MintKey::parse("k", "EdDSA", ED_PRIVATE).unwrap();
    key.mint(&Claims { sub, exp_s: now_s() + 3_600, ..Claims::default() }).unwrap()
}

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// A token with another token's signature.
fn junk(number: usize) -> String {
    let (good, other) = (token(&format!("eve{number}")), token("mallory"));
    format!("{}.{}", good.rsplit_once('.').unwrap().0, other.rsplit_once('.').unwrap().1)
}

/// A token that expired a minute ago.
fn expired(sub: &str) -> String {
    let key = MintKey::parse("k", "EdDSA", ED_PRIVATE).unwrap();
    key.mint(&Claims { sub, exp_s: now_s() - 60, ..Claims::default() }).unwrap()
}

fn rig(ip_per_s: u32) -> Rig {
    limited(ip_per_s, Setup::default().bad_tokens_per_s)
}

fn limited(ip_per_s: u32, bad_tokens_per_s: u32) -> Rig {
    let key = IdentityKey::parse("k", "EdDSA", ED_PUBLIC).unwrap();
    let identity = Identity::jwt(vec![key], vec!["10.0.0.0/8".parse().unwrap()]).unwrap();
    let setup = Setup { ip_per_s, bad_tokens_per_s, identity, ..Setup::default() };
    Rig::on(Base::made(1, setup), 1, |_, _| {})
}

fn from(rig: &mut Rig, peer: &str) -> Client {
    let token = rig.homes[0].connections.enter();
    Client::new(token, Conn::new(Listener::Public, 0), peer.parse::<IpAddr>().unwrap())
}

/// Sends one request and returns the status of its response.
fn ask(rig: &mut Rig, client: &mut Client, call: &str, lines: &str) -> u16 {
    let text = format!("{call} HTTP/1.1\r\nHost: shop\r\n{lines}\r\n");
    let now_ms = rig.homes[0].mono_ms();
    assert_eq!(client.conn.feed(text.as_bytes(), now_ms), text.len());
    client.out.clear();
    rig.homes[0].serve(client);
    String::from_utf8_lossy(&client.out)[9..12].parse().unwrap()
}

fn look(rig: &mut Rig, client: &mut Client, token: &str) -> u16 {
    ask(rig, client, "GET /v1/orders", &format!("Authorization: Bearer {token}\r\n"))
}

fn verified(rig: &Rig) -> u64 {
    rig.homes[0].shared().state.counters[0].get(Count::TokensVerified)
}

#[test]
fn engine_tokens_of_many_buyers_on_one_connection_verify_once() {
    let mut rig = rig(0);
    let mut proxy = connect(&mut rig.homes[0]);
    let tokens: Vec<String> = (0..8).map(|n| token(&format!("b{n}"))).collect();
    for _ in 0..100 {
        for token in &tokens {
            assert_eq!(look(&mut rig, &mut proxy, token), 200);
        }
    }
    assert_eq!(verified(&rig), 8);
    // Another connection of the same core knows them as well; also in a cookie.
    let mut other = connect(&mut rig.homes[0]);
    for token in &tokens {
        assert_eq!(look(&mut rig, &mut other, token), 200);
    }
    assert_eq!(verified(&rig), 8);
    assert_eq!(look(&mut rig, &mut other, &tokens[0].replacen('.', "..", 1)), 401);
    assert_eq!(look(&mut rig, &mut other, &junk(1)), 401);
    assert_eq!(look(&mut rig, &mut other, &tokens[0]), 200);
}

#[test]
fn engine_tokens_that_are_invalid_are_charged_to_their_address() {
    let good = token("bob");
    // Every endpoint that needs to know the buyer.
    let calls = [
        "GET /v1/orders",
        "GET /v1/orders/4294967297",
        "POST /v1/orders/4294967297/cancel",
        "POST /v1/items/1/ticket",
        "GET /v1/items/1/challenge",
        "POST /v1/items/1/orders",
        "GET /sale/1/order/4294967297",
    ];
    for call in calls {
        let mut rig = rig(1);
        let call = call.replace("items/1/", &format!("items/{}/", rig.item));
        let body = if call.starts_with('P') { "Content-Length: 2\r\n" } else { "" };
        let bytes = if call.starts_with('P') { "{}" } else { "" };
        let mut client = connect(&mut rig.homes[0]);
        let mut statuses = Vec::new();
        for number in 0..200 {
            let lines = format!("Authorization: Bearer {}\r\n{body}", junk(number));
            let status = {
                let text = format!("{call} HTTP/1.1\r\nHost: shop\r\n{lines}\r\n{bytes}");
                client.conn.feed(text.as_bytes(), rig.homes[0].mono_ms());
                client.out.clear();
                rig.homes[0].serve(&mut client);
                String::from_utf8_lossy(&client.out)[9..12].parse::<u16>().unwrap()
            };
            statuses.push(status);
        }
        let refused = statuses.iter().filter(|&&status| status == 429).count();
        assert!(verified(&rig) <= BURST, "{call}: {} of 200 were verified", verified(&rig));
        assert_eq!(refused as u64, 200 - BURST, "{call}: {statuses:?}");
        assert_eq!(
            look(&mut rig, &mut client, &good),
            429,
            "{call}: not seen before, and the address is over"
        );
    }
}

#[test]
fn engine_tokens_junk_of_one_address_costs_no_other() {
    let mut rig = rig(1);
    let (good, known) = (token("bob"), token("ann"));
    let (mut eve, mut bob) = (from(&mut rig, "192.0.2.1"), from(&mut rig, "192.0.2.2"));
    assert_eq!(look(&mut rig, &mut eve, &known), 200);
    for number in 0..50 {
        look(&mut rig, &mut eve, &junk(number));
    }
    assert_eq!(look(&mut rig, &mut bob, &good), 200, "another address");
    assert_eq!(look(&mut rig, &mut eve, &known), 200, "a token that was verified before always passes");
    // Behind a proxy the client's address pays.
    let mut proxy = from(&mut rig, "10.0.0.1");
    let via =
        |token: &str, client: &str| format!("Authorization: Bearer {token}\r\nX-Forwarded-For: {client}\r\n");
    for number in 0..50 {
        ask(&mut rig, &mut proxy, "GET /v1/orders", &via(&junk(100 + number), "192.0.2.3"));
    }
    let stranger = token("cid");
    assert_eq!(ask(&mut rig, &mut proxy, "GET /v1/orders", &via(&stranger, "192.0.2.3")), 429);
    assert_eq!(ask(&mut rig, &mut proxy, "GET /v1/orders", &via(&stranger, "192.0.2.4")), 200);
}

/// If addresses have no rate limit, failures have their own budget. The rig's clock stands still.
#[test]
fn engine_tokens_junk_has_a_budget_where_no_address_has() {
    let (good, known) = (token("bob"), token("ann"));
    let mut rig = limited(0, 20);
    let mut eve = from(&mut rig, "192.0.2.1");
    assert_eq!(look(&mut rig, &mut eve, &known), 200);
    let statuses: Vec<u16> = (0..1_000).map(|number| look(&mut rig, &mut eve, &junk(number))).collect();
    // Three seconds' worth, and then about one in 64.
    assert_eq!(statuses[..60], [401; 60]);
    let refused = statuses.iter().filter(|&&status| status == 429).count();
    assert!((880..940).contains(&refused), "{refused}");
    assert_eq!(verified(&rig), 1 + 1_000 - refused as u64);
    while look(&mut rig, &mut eve, &junk(1)) != 429 {}
    let said = String::from_utf8_lossy(&eve.out).into_owned();
    assert!(said.contains("Retry-After: 1 ") && said.contains("rate_limited"), "{said}");
    // A token that this core knows passes, and another address has its own budget.
    assert_eq!(look(&mut rig, &mut eve, &known), 200);
    let mut bob = from(&mut rig, "192.0.2.2");
    assert_eq!(look(&mut rig, &mut bob, &good), 200);
    // Behind a proxy the client's address pays.
    let mut proxy = from(&mut rig, "10.0.0.1");
    let via =
        |token: &str, client: &str| format!("Authorization: Bearer {token}\r\nX-Forwarded-For: {client}\r\n");
    let of_one = (0..200).filter(|&number| {
        ask(&mut rig, &mut proxy, "GET /v1/orders", &via(&junk(number), "192.0.2.3")) == 429
    });
    assert!(of_one.count() > 100);
    assert_eq!(ask(&mut rig, &mut proxy, "GET /v1/orders", &via(&token("cid"), "192.0.2.4")), 200);
    let shared = rig.homes[0].shared().clone();
    let alarms = shared.alarms();
    assert_eq!(alarms.len(), 1, "one a minute: {alarms:?}");
    assert!(alarms[0].contains("192.0.2.1") && alarms[0].contains("identity.trusted_proxies"), "{alarms:?}");
    assert!(shared.state.counters[0].get(Count::TokensRefused) > 900);
}

/// Behind an unnamed proxy all buyers share one address: junk delays a newcomer but locks nobody out.
#[test]
fn engine_tokens_junk_locks_no_newcomer_out() {
    let mut rig = limited(0, 20);
    let mut proxy = from(&mut rig, "192.0.2.1");
    let junk: Vec<String> = (0..64).map(junk).collect();
    assert_eq!(junk.iter().filter(|junk| look(&mut rig, &mut proxy, junk) == 401).count() / 10, 6);
    // However much junk comes between two attempts, also in step with the tokens that pass.
    for between in [1, 7, 8, 63] {
        let good = token(&format!("b{between}"));
        let mut number = 0;
        let tries = (1..1_500).find(|_| {
            for _ in 0..between {
                number += 1;
                look(&mut rig, &mut proxy, &junk[number % junk.len()]);
            }
            look(&mut rig, &mut proxy, &good) == 200
        });
        assert!(tries.is_some(), "{between} between two tries keep a newcomer out");
        assert_eq!(look(&mut rig, &mut proxy, &good), 200, "the core knows it from now on");
    }
}

/// Expired tokens do not count as junk: at the beginning of a sale there are thousands of them.
#[test]
fn engine_tokens_that_have_expired_use_up_nothing() {
    let mut rig = limited(0, 20);
    let mut proxy = from(&mut rig, "192.0.2.1");
    let lapsed: Vec<String> = (0..200).map(|n| expired(&format!("b{n}"))).collect();
    for _ in 0..3 {
        for token in &lapsed {
            assert_eq!(look(&mut rig, &mut proxy, token), 401);
            assert!(String::from_utf8_lossy(&proxy.out).contains("the token has expired"));
        }
    }
    assert_eq!(verified(&rig), 200, "each is verified once");
    assert_eq!(look(&mut rig, &mut proxy, &token("bob")), 200);
}

/// A trusted proxy that sends no client addresses gives all buyers one address: that is an alarm.
#[test]
fn engine_tokens_a_proxy_without_addresses_is_an_alarm() {
    let mut rig = rig(1_000);
    let (good, shared) = (token("bob"), rig.homes[0].shared().clone());
    let via = |address: &str| format!("Authorization: Bearer {good}\r\n{address}");
    let mut proxy = from(&mut rig, "10.0.0.1");
    let fine =
        ["X-Forwarded-For: 192.0.2.1:443\r\n", "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.0.0.2\r\n"];
    for address in fine {
        assert_eq!(ask(&mut rig, &mut proxy, "GET /v1/orders", &via(address)), 200);
    }
    let mut direct = from(&mut rig, "192.0.2.9");
    assert_eq!(ask(&mut rig, &mut direct, "GET /v1/orders", &via("")), 200);
    assert_eq!(shared.alarms(), Vec::<String>::new());
    for address in ["", "X-Forwarded-For: unknown\r\n", "X-Real-IP: 192.0.2.1\r\n"] {
        assert_eq!(ask(&mut rig, &mut proxy, "GET /v1/orders", &via(address)), 200);
    }
    let alarms = shared.alarms();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert!(alarms[0].contains("10.0.0.1") && alarms[0].contains("X-Forwarded-For"), "{alarms:?}");
    assert!(shared.state.counters[0].get(Count::AddressesUnknown) >= 3);
}
