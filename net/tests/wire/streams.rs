//! Pipelines and their floods; requests that are cut off; what begins where another ends.

use crate::case::{Case, texts};

const TIME: &str = "GET /v1/time HTTP/1.1¶Host: a¶¶";
/// A purchase of any number of units by the run's own buyer.
const SWEET: &str = "POST /v1/items/8/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 2¶¶{}";
const PHONE: &str = "POST /v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 2¶¶{}";
const HOSTLESS: &str = "GET /v1/time HTTP/1.1¶¶";
const CLOSING: &str = "GET /v1/time HTTP/1.1¶Host: a¶Connection: close¶¶";

fn joined(parts: &[&str]) -> String {
    parts.concat()
}

fn times(answer: &str, number: usize) -> String {
    vec![answer; number].join(" | ")
}

pub(crate) fn cases() -> Vec<Case> {
    let rows = [
        (joined(&[TIME, PHONE, TIME]), "200 | 201 confirmed | 200".to_owned()),
        (joined(&[PHONE, PHONE]), "201 confirmed | 409 cap_reached".to_owned()),
        (joined(&[SWEET, "¶", SWEET, "¶"]), "201 confirmed | 201 confirmed".to_owned()),
        (joined(&[SWEET, "¶¶", SWEET]), "201 confirmed | 400 bad_request, closes".to_owned()),
        (joined(&[TIME, HOSTLESS, TIME]), "200 | 400 bad_request, closes".to_owned()),
        (joined(&[PHONE, HOSTLESS, PHONE]), "201 confirmed | 400 bad_request, closes".to_owned()),
        (joined(&[TIME, CLOSING, TIME]), "200 | 200, closes".to_owned()),
        (joined(&[SWEET, CLOSING, SWEET]), "201 confirmed | 200, closes".to_owned()),
        (joined(&[SWEET, "}", TIME]), "201 confirmed | 400 bad_request, closes".to_owned()),
        (joined(&[SWEET, "X", TIME]), "201 confirmed | 501 not_implemented, closes".to_owned()),
        (joined(&[SWEET, "\0", TIME]), "201 confirmed | 400 bad_request, closes".to_owned()),
        (joined(&[TIME, " ", TIME]), "200 | 400 bad_request, closes".to_owned()),
        (joined(&[TIME, "\n", TIME]), "200 | 400 bad_request, closes".to_owned()),
        (joined(&[TIME, "\r", TIME]), "200 | 400 bad_request, closes".to_owned()),
        // Floods: more than may be outstanding, each answered, in order.
        (TIME.repeat(200), times("200", 200)),
        (SWEET.repeat(66), times("201 confirmed", 66)),
        (
            joined(&[&TIME.repeat(70), SWEET, HOSTLESS, &SWEET.repeat(70)]),
            times("200", 70) + " | 201 confirmed | 400 bad_request, closes",
        ),
        (joined(&[&[TIME, SWEET].concat().repeat(9)]), times("200 | 201 confirmed", 9)),
    ];
    let mut cases: Vec<Case> = rows.iter().map(|(text, verdict)| Case::text(text, verdict)).collect();
    cases.extend(truncated());
    cases
}

/// A request that is cut off: what follows belongs to it, and is never a purchase.
fn truncated() -> Vec<Case> {
    texts(&[
        ("", ""),
        ("¶", ""),
        ("G", "waits >> 501 not_implemented, closes"),
        ("GET", "waits >> 501 not_implemented, closes"),
        ("GET ", "waits >> 400 bad_request, closes"),
        ("GET /v1/time", "waits >> 400 bad_request, closes"),
        ("GET /v1/time HTTP/1.", "waits >> 400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1", "waits >> 400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1\r", "waits >> 400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶", "waits >> 400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a", "waits >> 400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶", "waits >> 400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶\r", "waits >> 400 bad_request, closes"),
        (
            "POST /v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 200¶¶{",
            "waits >> waits",
        ),
        // The canary is the body of what stands before it, to its last byte.
        (
            "POST /v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 103¶¶",
            "waits >> 400 bad_json",
        ),
        (
            "POST /v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 4096¶¶",
            "waits >> waits",
        ),
    ])
}
