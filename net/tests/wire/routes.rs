//! Every route there is: who may keep its answer. A cache in front keeps what says nothing for as
//! long as it likes, and gives it to whoever asks next.

use std::collections::BTreeSet;

use stampede_net::http::conn::{Conn, Next};
use stampede_net::http::problem::Code;
use stampede_net::http::route::site::SiteCall;
use stampede_net::http::route::{Listener, Route};
use stampede_net::site::assets::SCRIPT;

use crate::engine::{ADMIN_TOKEN, Engine, Naming, Run};

/// How many kinds of routes [`kind`] tells apart.
const KINDS: usize = 44;

/// A number for each kind of route. A route that is added here needs a line in [`CALLS`].
fn kind(route: &Route) -> usize {
    match route {
        Route::Time => 0,
        Route::Items(_) => 1,
        Route::Item(_) => 2,
        Route::Challenge(_) => 3,
        Route::Ticket(_) => 4,
        Route::Draw(_) => 5,
        Route::Buy(_) => 6,
        Route::Orders(_) => 7,
        Route::Order { .. } => 8,
        Route::CancelOrder(_) => 9,
        Route::Site(SiteCall::List) => 10,
        Route::Site(SiteCall::Sale(_)) => 11,
        Route::Site(SiteCall::Buy { .. }) => 12,
        Route::Site(SiteCall::Order(_)) => 13,
        Route::Site(SiteCall::Cancel(_)) => 14,
        Route::Site(SiteCall::Pay(_)) => 15,
        Route::Site(SiteCall::Asset(_)) => 16,
        Route::Site(SiteCall::Favicon) => 17,
        Route::Site(SiteCall::Session) => 18,
        Route::Site(SiteCall::PayOwn(_)) => 19,
        Route::PutItem(_) => 20,
        Route::AdminItems(_) => 21,
        Route::AdminItem(_) => 22,
        Route::Restock(_) => 23,
        Route::PauseItem(_) => 24,
        Route::ResumeItem(_) => 25,
        Route::CloseItem(_) => 26,
        Route::Books(_) => 27,
        Route::Mismatch(_) => 28,
        Route::AdminOrders(_) => 29,
        Route::AdminOrder(_) => 30,
        Route::PayOrder(_) => 31,
        Route::RefundOrder(_) => 32,
        Route::AdminCancelOrder(_) => 33,
        Route::ExtendOrder(_) => 43,
        Route::Batch => 34,
        Route::Block(_) => 35,
        Route::Unblock(_) => 36,
        Route::Stats => 37,
        Route::Audit(_) => 38,
        Route::Metrics => 39,
        Route::Healthz | Route::Readyz => 40,
        Route::PublicHealthz | Route::PublicReadyz => 41,
        Route::Options(_) => 42,
        Route::Blocklist(_) => 43,
    }
}

/// Nobody may keep it.
const NEVER: &str = "no-store";
/// Everybody, for a second.
const READ: &str = "max-age=1";
const PAGE: &str = "public, max-age=1";
const FILE: &str = "public, max-age=86400";
const FILE_FOR_EVER: &str = "public, max-age=31536000, immutable";

/// Every call, and who may keep its answer where it is 200.
const CALLS: [(&str, &str); 48] = [
    ("GET /admin/blocklist", NEVER),
    ("GET /v1/time", NEVER),
    ("GET /v1/items", READ),
    ("GET /v1/items?limit=1&after=1", READ),
    ("GET /v1/items/7", READ),
    ("GET /v1/items/14/challenge", NEVER),
    ("POST /v1/items/9/ticket", NEVER),
    ("GET /v1/items/7/draw", READ),
    ("POST /v1/items/7/orders", NEVER),
    ("GET /v1/orders", NEVER),
    ("GET /v1/orders/30064771073", NEVER),
    ("POST /v1/orders/30064771073/cancel", NEVER),
    ("GET /", PAGE),
    ("GET /sale/7", PAGE),
    ("POST /sale/8", NEVER),
    ("GET /sale/7/order/30064771073", NEVER),
    ("POST /sale/7/order/30064771073/cancel", NEVER),
    ("POST /sale/7/order/30064771073/pay", NEVER),
    ("GET /assets/", FILE_FOR_EVER),
    ("GET /favicon.ico", FILE),
    ("POST /v1/demo/session", NEVER),
    ("POST /v1/demo/orders/30064771073/pay", NEVER),
    ("PUT /admin/items/7", NEVER),
    ("GET /admin/items", NEVER),
    ("GET /admin/items/7", NEVER),
    ("POST /admin/items/8/restock", NEVER),
    ("POST /admin/items/8/pause", NEVER),
    ("POST /admin/items/8/resume", NEVER),
    ("POST /admin/items/13/close", NEVER),
    ("GET /admin/items/7/books", NEVER),
    ("POST /admin/items/12/mismatch", NEVER),
    ("GET /admin/orders", NEVER),
    ("GET /admin/orders/30064771073", NEVER),
    ("POST /admin/orders/30064771073/pay", NEVER),
    ("POST /admin/orders/30064771073/refund", NEVER),
    ("POST /admin/orders/30064771073/cancel", NEVER),
    ("POST /admin/orders/30064771073/extend", NEVER),
    ("POST /v1/orders/batch", NEVER),
    ("PUT /admin/blocklist/x", NEVER),
    ("DELETE /admin/blocklist/x", NEVER),
    ("GET /admin/stats", NEVER),
    ("GET /admin/audit", NEVER),
    ("GET /metrics", NEVER),
    ("GET /readyz", NEVER),
    ("GET /healthz", NEVER),
    ("OPTIONS /v1/items", NEVER),
    ("OPTIONS *", NEVER),
    ("HEAD /v1/items/7", READ),
];

fn is_merchants(path: &str) -> bool {
    ["/admin/", "/metrics", "/v1/orders/batch"].iter().any(|begin| path.starts_with(begin))
}

/// The bytes of a call, as somebody makes it who may.
fn bytes(call: &str, listener: Listener, lines: &str) -> Vec<u8> {
    let call = call.replace("/assets/", SCRIPT.path);
    let body = match call.as_str() {
        call if call.ends_with("/restock") => "{\"add\":1}",
        call if call.ends_with("/mismatch") => "{\"reason\":\"x\"}",
        call if call.ends_with("/pay") && listener == Listener::Merchant => "{\"payment_ref\":\"x\"}",
        call if call.ends_with("/extend") => "{\"pay_by_ms\":1}",
        call if call.ends_with("/batch") => "{\"item_id\":13,\"buyer\":\"gw\"}",
        _ => "",
    };
    let media = match call.as_str() {
        call if call.ends_with("/batch") => "application/x-ndjson",
        call if call.starts_with("POST /sale/") => "application/x-www-form-urlencoded",
        _ => "application/json",
    };
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{call} HTTP/1.1\r\nHost: a\r\nContent-Type: {media}\r\n{lines}{length}\r\n{body}").into()
}

fn route(listener: Listener, bytes: &[u8]) -> Option<Route> {
    let mut conn = Conn::new(listener, 0);
    conn.feed(bytes, 0);
    match conn.next() {
        Next::Request(request) => request.route.ok(),
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

#[test]
fn every_answer_says_who_may_keep_it() {
    let mut engine = Engine::new(Naming::Header);
    let buyer = "X-Buyer: bob\r\n".to_owned();
    let shop = format!("Authorization: Bearer {ADMIN_TOKEN}\r\n");
    let mut seen = BTreeSet::new();
    for (call, policy) in CALLS {
        let path = call.split(' ').nth(1).expect("a path");
        let both = matches!(path, "/healthz" | "/readyz" | "*");
        let listeners = match (both, is_merchants(path)) {
            (true, _) => vec![Listener::Public, Listener::Merchant],
            (false, true) => vec![Listener::Merchant],
            (false, false) => vec![Listener::Public],
        };
        for listener in listeners {
            let right = if listener == Listener::Merchant { &shop } else { &buyer };
            let route = route(listener, &bytes(call, listener, right)).expect(call);
            seen.insert(kind(&route));
            // As it should be, twice, by nobody in particular, by a stranger, and with a wrong query.
            let wrong = call.replacen(path, &format!("{path}?limit=x"), 1);
            let makes = [
                (call, right.as_str()),
                (call, right.as_str()),
                (call, ""),
                (call, "Sec-Fetch-Site: cross-site\r\n"),
                (call, "If-None-Match: *\r\n"),
                (wrong.as_str(), right.as_str()),
            ];
            for (call, lines) in makes {
                let bytes = bytes(call, listener, lines);
                let answers = engine.answers(&[Run { listener, bytes, cuts: vec![] }]);
                let head = answers[0].first_head();
                let status = &head[9..12];
                let kept = matches!(status, "200" | "304");
                let expected = if kept { policy } else { NEVER };
                let said: Vec<&str> =
                    head.lines().filter_map(|line| line.strip_prefix("Cache-Control: ")).collect();
                assert_eq!(said, [expected], "{call} with {lines:?}: {head}");
                let varies = head.contains("\r\nVary: ");
                assert!(varies || expected == NEVER, "{call} does not say what it depends on: {head}");
            }
        }
    }
    assert_eq!(seen, (0..KINDS).collect(), "a kind of route is missing in the list of calls");
}

/// The calls that docs/API.md lists in the tables of its two listeners.
fn documented(page: &str) -> Vec<(Listener, String)> {
    let mut calls = Vec::new();
    for (title, listener) in [("## Public", Listener::Public), ("## Merchant", Listener::Merchant)] {
        let section = page.split(title).nth(1).expect(title).split("\n## ").next().unwrap_or_default();
        for line in section.lines().filter(|line| line.starts_with("| `")) {
            let quoted = line.split('`').skip(1).step_by(2);
            let is_call = |text: &&str| {
                text.split_once(" /").is_some_and(|(method, _)| method == method.to_uppercase())
            };
            calls.extend(quoted.filter(is_call).map(|call| (listener, call.to_owned())));
        }
    }
    calls
}

#[test]
fn the_contract_lists_all_calls_and_no_others() {
    let page = include_str!("../../../docs/API.md");
    let mut known = BTreeSet::new();
    for (listener, call) in documented(page) {
        let id = if call.contains("/orders/{id}") { "4294967297" } else { "7" };
        let (path, query) = call.split_once('?').unwrap_or((&call, ""));
        let path = path.replace("{id}", id).replace("{sub}", "bob");
        let said = format!("{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        let said = if said.starts_with("POST /v1/orders/batch") { said.replace(": 0", ": 1") } else { said };
        let Some(route) = route(listener, said.as_bytes()) else { panic!("{call} is no call") };
        known.insert(kind(&route));
        // Each parameter is taken, alone.
        for name in query.split('&').filter(|name| !name.is_empty()) {
            let name = name.strip_suffix('=').expect(name);
            let value = match name {
                "after" if path.ends_with("/v1/orders") || path.ends_with("/admin/orders") => "4294967297",
                "after" if path.ends_with("/draw") => "30064771073",
                "order" => "oldest",
                "state" => "held",
                "rows" | "late_payments" => "true",
                _ => "7",
            };
            let asked = said.replacen(" HTTP/1.1", &format!("?{name}={value} HTTP/1.1"), 1);
            assert!(self::route(listener, asked.as_bytes()).is_some(), "{call} does not take {name}");
        }
    }
    // The sale page has a page of its own, and OPTIONS goes for all paths.
    let elsewhere = (10..20).chain([42]);
    assert_eq!(known, (0..KINDS).filter(|kind| !elsewhere.clone().any(|other| other == *kind)).collect());
}

#[test]
fn the_contract_lists_all_codes_with_their_status() {
    let page = include_str!("../../../docs/API.md");
    let table = page.split("## Errors").nth(1).expect("a table of errors");
    let mut listed = BTreeSet::new();
    for line in
        table.lines().filter(|line| line.starts_with("| ") && line[2..3].bytes().all(|b| b.is_ascii_digit()))
    {
        let (status, codes) = line[2..].split_once(" | ").expect(line);
        let codes = codes.split('`').skip(1).step_by(2);
        let is_code = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        listed.extend(
            codes.filter(is_code).filter(|word| *word != "order_id").map(|code| format!("{status} {code}")),
        );
    }
    let all = Code::ALL.iter().map(|code| format!("{} {}", code.status().number(), code.name()));
    assert_eq!(listed, all.collect());
}
