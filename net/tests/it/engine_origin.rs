//! CSRF and CORS: requests from pages of other sites, in every identity mode, and the headers that pages of named
//! origins get.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use stampede_net::engine::home::Client;
use stampede_net::http::conn::Conn;
use stampede_net::http::route::Listener;
use stampede_net::identity::Identity;
use stampede_net::identity::cors::Origins;
use stampede_net::identity::key::IdentityKey;
use stampede_net::identity::mint::{Claims, MintKey};
use stampede_net::identity::rules::TokenRules;

use crate::rig::{Base, Rig, Setup};

const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
const TOKEN: &str = "token-of-the-test-shop";
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The headers of a browser's request from a page of another site.
const FOREIGN: [&str; 7] = [
    "Sec-Fetch-Site: cross-site\r\n",
    "Sec-Fetch-Site: same-site\r\n",
    "Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.example\r\nContent-Type: application/x-www-form-urlencoded\r\n",
    "Sec-Fetch-Site: cross-site\r\nOrigin: http://shop\r\n",
    "Origin: https://evil.example\r\n",
    "Origin: null\r\n",
    "Origin: https://shop.example.evil\r\n",
];

fn header() -> Identity {
    Identity::header(HOME, vec![]).expect("loopback")
}

fn jwt() -> Identity {
    let key = IdentityKey::hs256("k", SECRET).expect("a key");
    // The tests' tokens never expire.
    let rules = TokenRules { life_max_ms: u64::MAX, ..TokenRules::default() };
    Identity::jwt(vec![key], vec![]).expect("one key").with_cookie("session").with_rules(rules)
}

fn token(sub: &str) -> String {
    let key = MintKey::hs256("k", SECRET).expect("a key");
    key.mint(&Claims { sub, exp_s: 4_102_444_800, ..Claims::default() }).expect("claims")
}

fn rig(identity: Identity) -> Rig {
    let setup = Setup { identity, admin_token: TOKEN.into(), ..Setup::default() };
    Rig::on(Base::made(1, setup), 1, |_, _| {})
}

/// The response to one request.
fn ask(rig: &mut Rig, listener: Listener, request: &str) -> String {
    let home = &mut rig.homes[0];
    let now_ms = home.read_clock().mono_ms;
    let token = home.connections.enter();
    let mut client = Client::new(token, Conn::new(listener, now_ms), HOME);
    assert_eq!(client.conn.feed(request.as_bytes(), now_ms), request.len());
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        home.serve(&mut client);
        if !client.out.is_empty() {
            break;
        }
        while home.pump() {}
        assert!(Instant::now() < deadline, "no answer to {request}");
        std::thread::yield_now();
    }
    home.connections.leave(token);
    String::from_utf8_lossy(&client.out).into_owned()
}

fn brief(answer: &str) -> String {
    let code = answer.split_once("\"code\":\"").and_then(|(_, rest)| rest.split('"').next());
    format!("{} {}", &answer[9..12], code.unwrap_or_default()).trim().to_owned()
}

fn act(rig: &mut Rig, call: &str, lines: &str) -> String {
    let listener = if call.contains(" /admin/") { Listener::Merchant } else { Listener::Public };
    ask(rig, listener, &format!("{call} HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n{lines}\r\n{{}}"))
}

/// Every call that changes something, on the public listener.
fn changes(rig: &Rig) -> Vec<String> {
    let (item, order) = (rig.item, u64::from(rig.item.get()) << 32 | 1);
    vec![
        format!("POST /v1/items/{item}/orders"),
        format!("POST /v1/items/{item}/ticket"),
        format!("POST /v1/orders/{order}/cancel"),
        format!("POST /v1/demo/orders/{order}/pay"),
        "POST /v1/demo/session".into(),
        format!("POST /sale/{item}"),
        format!("POST /sale/{item}/order/{order}/cancel"),
        format!("POST /sale/{item}/order/{order}/pay"),
    ]
}

#[test]
fn engine_pages_of_other_sites_change_nothing_in_any_mode() {
    let cookie = format!("Cookie: session={}\r\n", token("bob"));
    for (identity, who) in [(header(), "X-Buyer: bob\r\n"), (jwt(), cookie.as_str()), (header(), "")] {
        let mut rig = rig(identity);
        for call in changes(&rig) {
            for foreign in FOREIGN {
                let said = act(&mut rig, &call, &format!("{who}{foreign}"));
                assert_eq!(&said[9..12], "403", "{call} with {who}{foreign}: {said}");
                let is_page = call.starts_with("POST /sale/");
                assert_eq!(said.contains("\"cross_site\""), !is_page, "{call}: {said}");
            }
        }
        // The same buyer from a page of this host, and reads from anywhere.
        let buy = changes(&rig).remove(0);
        if !who.is_empty() {
            assert_eq!(brief(&act(&mut rig, &buy, &format!("{who}Sec-Fetch-Site: same-origin\r\n"))), "201");
            let read = format!("GET /v1/orders HTTP/1.1\r\nHost: shop\r\n{who}{}\r\n", FOREIGN[0]);
            assert_eq!(brief(&ask(&mut rig, Listener::Public, &read)), "200");
        }
    }
}

#[test]
fn engine_an_authorization_header_counts_from_any_page() {
    let mut shop = rig(jwt());
    let buy = changes(&shop).remove(0);
    for (number, foreign) in FOREIGN.iter().enumerate() {
        let bearer = format!("Authorization: Bearer {}\r\n{foreign}", token(&format!("b{number}")));
        assert_eq!(brief(&act(&mut shop, &buy, &bearer)), "201", "{foreign}");
    }
    // In header mode the engine does not read that token, so it has no effect.
    let mut gateway = rig(header());
    let bearer = format!("X-Buyer: bob\r\nAuthorization: Bearer x\r\n{}", FOREIGN[0]);
    assert_eq!(brief(&act(&mut gateway, &buy, &bearer)), "403 cross_site");
    // The merchant's token always counts, and without it a page of another site learns no more than that.
    for rig in [&mut shop, &mut gateway] {
        let pause = format!("POST /admin/items/{}/pause", rig.item);
        assert_eq!(brief(&act(rig, &pause, FOREIGN[0])), "403 cross_site");
        let admin = format!("Authorization: Bearer {TOKEN}\r\n{}", FOREIGN[0]);
        assert_eq!(brief(&act(rig, &pause, &admin)), "200");
    }
    // No page has sent it: not a browser.
    assert_eq!(brief(&act(&mut gateway, &buy, "X-Buyer: curl\r\n")), "409 paused");
}

/// The CORS headers of a response, sorted.
fn cors(answer: &str) -> Vec<&str> {
    let head = answer.split_once("\r\n\r\n").map_or(answer, |(head, _)| head);
    let mut lines: Vec<&str> = head.lines().filter(|line| line.starts_with("Access-Control-")).collect();
    lines.sort_unstable();
    lines
}

const NAMED: &str = "https://www.shop.example";
const NAMED_TOO: &str = "http://127.0.0.1:3000";

fn preflight(rig: &mut Rig, path: &str, origin: &str) -> String {
    let asks = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: idempotency-key\r\n";
    ask(
        rig,
        Listener::Public,
        &format!("OPTIONS {path} HTTP/1.1\r\nHost: shop\r\nOrigin: {origin}\r\n{asks}\r\n"),
    )
}

#[test]
fn engine_pages_of_named_origins_may_call_the_api() {
    for (identity, who) in
        [(header(), "X-Buyer: bob\r\n".to_owned()), (jwt(), format!("Cookie: session={}\r\n", token("bob")))]
    {
        let mut rig = rig(identity.with_origins(Origins::new(&[NAMED, NAMED_TOO]).expect("origins")));
        let path = format!("/v1/items/{}/orders", rig.item);
        for origin in [NAMED, NAMED_TOO] {
            let allows = format!("Access-Control-Allow-Origin: {origin}");
            let asked = preflight(&mut rig, &path, origin);
            assert!(asked.starts_with("HTTP/1.1 204 No Content\r\n"), "{asked}");
            assert!(!asked.contains("Content-Length"), "{asked}");
            let said = cors(&asked);
            assert!(said.contains(&allows.as_str()), "{asked}");
            assert!(said.contains(&"Access-Control-Allow-Credentials: true"), "{asked}");
            assert!(said.contains(&"Access-Control-Max-Age: 86400"), "{asked}");
            let allowed = |name: &str, word: &str| {
                said.iter().any(|line| line.starts_with(name) && line.contains(word))
            };
            assert!(allowed("Access-Control-Allow-Methods", "POST"), "{asked}");
            for header in ["Authorization", "Content-Type", "Idempotency-Key", "Prefer"] {
                assert!(allowed("Access-Control-Allow-Headers", header), "{asked}");
            }
            let from =
                format!("{who}Origin: {origin}\r\nSec-Fetch-Site: cross-site\r\nIdempotency-Key: k\r\n");
            let bought = act(&mut rig, &format!("POST {path}"), &from);
            assert_eq!(brief(&bought), "201", "{bought}");
            // All kinds of responses can be read: hot refusals, others, pages, 304.
            let reads = format!("GET /v1/items/{} HTTP/1.1\r\nHost: shop\r\nOrigin: {origin}\r\n", rig.item);
            let others = [
                bought,
                act(&mut rig, &format!("POST {path}"), &from.replace("Idempotency-Key: k\r\n", "")),
                act(&mut rig, "POST /v1/nowhere", &from),
                act(&mut rig, &format!("PUT {path}"), &from),
                ask(&mut rig, Listener::Public, &format!("{reads}\r\n")),
                ask(&mut rig, Listener::Public, &format!("{reads}If-None-Match: *\r\n\r\n")),
            ];
            let statuses: Vec<&str> = others.iter().map(|answer| &answer[9..12]).collect();
            assert_eq!(statuses, ["201", "409", "404", "405", "200", "304"]);
            for answer in &others {
                let said = cors(answer);
                assert!(said.contains(&allows.as_str()), "{answer}");
                assert!(said.contains(&"Access-Control-Allow-Credentials: true"), "{answer}");
                assert!(
                    said.iter().any(|line| line.starts_with("Access-Control-Expose-Headers: ")),
                    "{answer}"
                );
                let kept = !answer.contains("\r\nCache-Control: no-store\r\n");
                assert_eq!(kept, answer.contains("\r\nVary: Origin\r\n"), "{answer}");
            }
        }
        // No other origin: no CORS headers, and no change.
        for origin in
            ["https://evil.example", "null", "https://www.shop.example:444", "http://www.shop.example", "*"]
        {
            let asked = preflight(&mut rig, &path, origin);
            assert!(asked.starts_with("HTTP/1.1 204 ") && cors(&asked).is_empty(), "{asked}");
            let from = format!("{who}Origin: {origin}\r\n");
            let said = act(&mut rig, &format!("POST {path}"), &from);
            assert_eq!(brief(&said), "403 cross_site", "{origin}");
            assert!(cors(&said).is_empty(), "{said}");
        }
        let twice = format!("{who}Origin: {NAMED}\r\nOrigin: {NAMED}\r\n");
        assert_eq!(brief(&act(&mut rig, &format!("POST {path}"), &twice)), "403 cross_site");
        // Neither the sale page nor the merchant listener is open to other origins.
        for (listener, path) in [(Listener::Public, "/"), (Listener::Merchant, "/admin/items")] {
            let read = format!("GET {path} HTTP/1.1\r\nHost: shop\r\nOrigin: {NAMED}\r\n\r\n");
            assert!(cors(&ask(&mut rig, listener, &read)).is_empty(), "{path}");
        }
    }
}

#[test]
fn engine_an_asterisk_lets_everybody_read_without_cookies() {
    let cookie = format!("Cookie: session={}\r\n", token("bob"));
    let mut rig = rig(jwt().with_origins(Origins::new(&["*"]).expect("an asterisk")));
    let path = format!("/v1/items/{}/orders", rig.item);
    let asked = preflight(&mut rig, &path, "https://anybody.example");
    assert!(cors(&asked).contains(&"Access-Control-Allow-Origin: *"), "{asked}");
    assert!(!asked.contains("Credentials"), "{asked}");
    let from = "Origin: https://anybody.example\r\nSec-Fetch-Site: cross-site\r\n";
    let by_cookie = act(&mut rig, &format!("POST {path}"), &format!("{cookie}{from}"));
    assert_eq!(brief(&by_cookie), "403 cross_site");
    let bearer = format!("Authorization: Bearer {}\r\n{from}", token("bob"));
    assert_eq!(brief(&act(&mut rig, &format!("POST {path}"), &bearer)), "201");
}

#[test]
fn engine_without_origins_nothing_is_said_of_them() {
    let mut rig = rig(header());
    let asked = preflight(&mut rig, "/v1/time", NAMED);
    assert!(asked.starts_with("HTTP/1.1 204 ") && cors(&asked).is_empty(), "{asked}");
    assert!(asked.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"), "{asked}");
}
