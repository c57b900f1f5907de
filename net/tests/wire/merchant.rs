//! The shop's paths: not there for buyers, and closed to everybody without the merchant's token.

use crate::case::Case;
use crate::engine::ADMIN_TOKEN;

const HIDDEN: &str = "404 not_found";
const NOBODY: &str = "401 unauthenticated";

const READS: [&str; 7] = [
    "/admin/items",
    "/admin/items/7",
    "/admin/orders",
    "/admin/orders/30064771073",
    "/admin/stats",
    "/admin/audit",
    "/admin/orders?item=7&limit=10",
];
const ACTS: [&str; 7] = [
    "POST /admin/items/7/restock",
    "POST /admin/items/7/pause",
    "POST /admin/items/7/close",
    "POST /admin/orders/30064771073/pay",
    "POST /admin/orders/30064771073/refund",
    "PUT /admin/items/7",
    "PUT /admin/blocklist/victim",
];

fn read(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1¶Host: a¶{lines}¶")
}

fn act(call: &str, lines: &str) -> String {
    let body = if call.ends_with("restock") { "{\"add\":1}" } else { "{}" };
    format!("{call} HTTP/1.1¶Host: a¶{lines}Content-Length: {}¶¶{body}", body.len())
}

/// On the buyers' listener: as if they did not exist, also for who has the token.
pub(crate) fn on_the_public_listener() -> Vec<Case> {
    let token = format!("Authorization: Bearer {ADMIN_TOKEN}¶");
    let mut cases = Vec::new();
    for lines in ["X-Buyer: b#######¶", &token] {
        cases.extend(READS.map(|path| Case::text(&read(path, lines), HIDDEN)));
        cases.extend(ACTS.map(|call| Case::text(&act(call, lines), HIDDEN)));
    }
    let others = [
        "/metrics",
        "/v1/../admin/items",
        "/v1/%2e%2e/admin/items",
        "/%61dmin/items",
        "//admin/items",
        "/admin//items",
        "/ADMIN/items",
        "/admin/items/",
        "/admin",
        "/admin;x=1/items",
    ];
    cases.extend(others.map(|path| Case::text(&read(path, &token), HIDDEN)));
    let absolute = format!("GET http://a/admin/items HTTP/1.1¶Host: a¶{token}¶");
    cases.push(Case::text(&absolute, HIDDEN));
    // What some gateways rewrite a path by changes nothing.
    for line in ["X-Original-URL: /admin/items¶", "X-Rewrite-URL: /admin/items¶"] {
        cases.push(Case::text(&read("/v1/time", &format!("{token}{line}")), "200"));
    }
    cases.push(Case::text(&act("POST /v1/time", "X-HTTP-Method-Override: GET¶"), "405 method_not_allowed"));
    cases
}

/// On the shop's listener; there a canary is a path that does not exist.
pub(crate) fn on_its_own_listener() -> Vec<Case> {
    let then = |verdict: &str| match verdict {
        closes if closes.ends_with("closes") => closes.to_owned(),
        stays => format!("{stays} >> {stays} | 404 not_found"),
    };
    let case = |text: String, verdict: &str| Case::merchant(&text, &then(verdict));
    let shown = |token: &str| format!("Authorization: Bearer {token}¶");
    let mut wrong = vec![
        String::new(),
        shown(""),
        shown("x"),
        shown(&ADMIN_TOKEN[..1]),
        shown(&ADMIN_TOKEN[..ADMIN_TOKEN.len() - 1]),
        shown(&format!("{ADMIN_TOKEN}x")),
        shown(&format!("{ADMIN_TOKEN} x")),
        shown(&ADMIN_TOKEN.to_uppercase()),
        shown(&ADMIN_TOKEN.repeat(2)),
        format!("Authorization: Basic {ADMIN_TOKEN}¶"),
        shown(ADMIN_TOKEN).repeat(2),
        format!("{}{}", shown("x"), shown(ADMIN_TOKEN)),
        format!("X-Admin-Token: {ADMIN_TOKEN}¶"),
        format!("Cookie: session={ADMIN_TOKEN}¶Sec-Fetch-Site: same-origin¶"),
        "X-Buyer: shop¶".to_owned(),
    ];
    let mut cases: Vec<Case> =
        wrong.drain(..).map(|lines| case(read("/admin/items/7", &lines), NOBODY)).collect();
    cases.extend(READS.map(|path| case(read(path, ""), NOBODY)));
    cases.extend(ACTS.map(|call| case(act(call, ""), NOBODY)));
    let token = shown(ADMIN_TOKEN);
    for (path, verdict) in
        [("/admin/items", "200 open"), ("/admin/items/7", "200 open"), ("/admin/orders", "200")]
    {
        cases.push(case(read(path, &token), verdict));
    }
    cases.push(case(read("/healthz", ""), "200"));
    cases.push(case(read("/admin/orders/30064771073", &token), "404 not_found"));
    cases.push(case(read("/admin/items/99", &token), "404 not_found"));
    cases.push(case(read("/admin/orders?limit=0", &token), "400 bad_request"));
    cases.push(case(read("/admin/orders?buyer=a+b", &token), "400 bad_request"));
    cases.push(case(read("/admin/items?limit=1&limit=1", &token), "400 bad_request"));
    let put = |body: &str| {
        let len = body.len();
        format!("PUT /admin/items/7 HTTP/1.1¶Host: a¶{token}Content-Length: {len}¶¶{body}")
    };
    cases.push(case(put("{\"cap\":-1}"), "422 invalid_field"));
    cases.push(case(put("{\"cap\":1.0}"), "422 invalid_field"));
    cases.push(case(put("{\"stock\":18446744073709551616}"), "422 invalid_field"));
    cases.push(case(put("{\"cap\":1,\"cap\":2}"), "400 bad_json"));
    cases.push(case(put("{\"granted\":1}"), "400 unknown_field"));
    cases.push(case(put("{\"name\":\"\\ud800\"}"), "400 bad_json"));
    cases.push(case(put("{}"), "200 open"));
    cases.push(case(act("POST /admin/items/8/pause", &token), "200 paused"));
    cases.push(case(act("POST /admin/items/8/resume", &token), "200 open"));
    cases.push(case(read("/admin/items/7", &token).replace("Host: a¶", ""), "400 bad_request, closes"));
    // Of no length and in chunks; an empty body is no settings.
    let bare = |call: &str, rest: &str| format!("{call} HTTP/1.1¶Host: a¶{token}{rest}");
    cases.push(case(bare("POST /admin/items/8/pause", "¶"), "200 paused"));
    cases.push(case(bare("POST /admin/items/8/resume", "Transfer-Encoding: chunked¶¶0¶¶"), "200 open"));
    let chunks = "Transfer-Encoding: chunked¶¶1¶{¶1;x¶}¶0¶X: y¶¶";
    cases.push(case(bare("PUT /admin/items/7", chunks), "200 open"));
    cases.push(case(bare("PUT /admin/items/7", "¶"), "400 bad_json"));
    cases.push(case(bare("POST /admin/items/8/restock", "¶"), "400 bad_json"));
    // The merchant's queries stay strict.
    cases.push(case(read("/admin/items?_=1", &token), "400 bad_request"));
    cases.push(case(read("/admin/orders?buyer=|", &token), "400 bad_request"));
    cases.push(case(read("/admin/orders?buyer=ä", &token), "400 bad_request"));
    cases.push(case(read("/healthz?_=1", &token), "400 bad_request"));
    cases.push(case(bare("OPTIONS /admin/items/7", "¶"), "204"));
    cases.push(case(
        act("PUT /admin/items/7", &format!("{token}Transfer-Encoding: chunked¶")),
        "400 bad_request, closes",
    ));
    cases
}

/// Batches: what is refused at the head closes, and the canary behind the body is not met.
pub(crate) fn batches() -> Vec<Case> {
    let token = format!("Authorization: Bearer {ADMIN_TOKEN}¶");
    let lines = "Content-Type: application/x-ndjson¶";
    let post = |fields: &str, body: &str| {
        format!("POST /v1/orders/batch HTTP/1.1¶Host: a¶{fields}Content-Length: {}¶¶{body}", body.len())
    };
    let buy = r#"{"item_id":13,"buyer":"gw"}"#;
    let chunked = |fields: &str, body: &str| {
        let fields = format!("{token}{fields}Transfer-Encoding: chunked¶");
        format!("POST /v1/orders/batch HTTP/1.1¶Host: a¶{fields}¶{body}")
    };
    let rows = [
        (post(&format!("{token}{lines}"), buy), "200 sold_out"),
        (post(&format!("{token}{lines}"), "{"), "200 bad_json"),
        (post(&format!("{token}Content-Type: Application/X-NDJSON; charset=utf-8¶"), buy), "200 sold_out"),
        (post(lines, buy), "401 unauthenticated, closes"),
        (post(&token, buy), "415 unsupported_media_type, closes"),
        (post(&format!("{token}Content-Type: application/json¶"), buy), "415 unsupported_media_type, closes"),
        (post(&format!("{token}{lines}Content-Encoding: gzip¶"), buy), "415 unsupported_media_type, closes"),
        (post(&format!("{token}{lines}Content-Encoding: identity¶"), buy), "200 sold_out"),
        (post(&format!("{token}{}", lines.repeat(2)), buy), "415 unsupported_media_type, closes"),
        (post(&format!("{token}{lines}"), ""), "400 bad_request, closes"),
        (
            post(&format!("{token}Content-Type: application/vnd.stampede.batch¶"), buy),
            "400 bad_request, closes",
        ),
        (post(&format!("{token}{lines}"), buy).replace("Length: ", "Length: 0"), "400 bad_request, closes"),
        (
            post(&format!("{token}{lines}"), buy).replace("Length: ", "Length: 999999"),
            "413 body_too_large, closes",
        ),
        (post(&format!("{token}{lines}Transfer-Encoding: chunked¶"), buy), "400 bad_request, closes"),
        (post(&format!("{token}{lines}"), buy).replace("batch", "batch?x=1"), "400 bad_request, closes"),
        (chunked(lines, "0¶¶"), "400 bad_request, closes"),
        (format!("POST /v1/orders/batch HTTP/1.1¶Host: a¶{token}{lines}¶"), "400 bad_request, closes"),
        (chunked(lines, &format!("{:x}¶{buy}¶0¶¶", buy.len())), "200 sold_out"),
        (
            chunked(lines, &format!("00{:X};a=\"b c\"¶{buy}¶000;x¶Content-Length: 9¶¶", buy.len())),
            "200 sold_out",
        ),
        (chunked(lines, &format!("9¶{}¶{:x}¶{}¶0¶¶", &buy[..9], buy.len() - 9, &buy[9..])), "200 sold_out"),
        (chunked(lines, "1¶{¶0¶¶"), "200 bad_json"),
        (
            chunked(&format!("{lines}Expect: 100-continue¶"), &format!("{:x}¶{buy}¶0¶¶", buy.len())),
            "200 sold_out",
        ),
        (chunked(lines, "800001¶"), "413 body_too_large, closes"),
        (chunked(lines, "-1¶"), "400 bad_request, closes"),
        (chunked(lines, "1 ¶{¶0¶¶"), "400 bad_request, closes"),
        (chunked(lines, "1¶{x¶0¶¶"), "400 bad_request, closes"),
        (chunked(lines, "1‹0a›{¶0¶¶"), "400 bad_request, closes"),
        (chunked(lines, "1¶{¶0¶X y¶¶"), "400 bad_request, closes"),
        (chunked(lines, &format!("1;{}¶{{¶0¶¶", "x".repeat(1_025))), "400 bad_request, closes"),
        (chunked(lines, &format!("1¶{{¶0¶{}¶", "X: y¶".repeat(65))), "431 headers_too_large, closes"),
        (chunked("Content-Type: application/vnd.stampede.batch¶", "4¶SBAT¶0¶¶"), "400 bad_request, closes"),
        (chunked("", &format!("{:x}¶{buy}¶0¶¶", buy.len())), "415 unsupported_media_type, closes"),
        (chunked(&format!("{lines}Transfer-Encoding: chunked¶"), "0¶¶"), "501 not_implemented, closes"),
        (chunked(lines, "0¶¶").replace(": chunked", ": gzip, chunked"), "501 not_implemented, closes"),
        (chunked(lines, "0¶¶").replace("HTTP/1.1", "HTTP/1.0"), "400 bad_request, closes"),
        (chunked(lines, "0¶¶").replace(&token, ""), "401 unauthenticated, closes"),
        (read("/v1/orders/batch", &token), "405 method_not_allowed"),
        (read("/v1/orders/batch/", &token), "404 not_found"),
    ];
    let then = |verdict: &str| match verdict {
        closes if closes.ends_with("closes") => closes.to_owned(),
        stays => format!("{stays} >> {stays} | 404 not_found"),
    };
    let mut cases: Vec<Case> =
        rows.iter().map(|(text, verdict)| Case::merchant(text, &then(verdict))).collect();
    // On the buyers' listener there is no such call.
    cases.push(Case::text(&post(&format!("{token}{lines}"), buy), HIDDEN));
    cases
}
