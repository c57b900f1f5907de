//! `Content-Length` in all its broken forms, and bodies that are longer or shorter than it says.

use crate::case::{Case, texts};

const REFUSED: &str = "400 bad_request, closes";
const LONG: &str = "413 body_too_large, closes";

/// A purchase with these header lines in place of its `Content-Length`.
fn post(lines: &str, body: &str) -> String {
    format!("POST /v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶{lines}¶{body}")
}

const BROKEN: [&str; 28] = [
    "",
    "+2",
    "-2",
    "-0",
    "2,2",
    "2, 2",
    "2 2",
    "0x2",
    "2.0",
    "2e0",
    "02",
    "00",
    "٢",
    "²",
    "2\u{b}",
    "two",
    "\"2\"",
    "2;",
    "0000000000000000000000002",
    "1844674407370955161x",
    "2\0",
    "2\u{c}",
    "2_0",
    "0o2",
    "2,",
    ",2",
    "2\u{a0}",
    "NaN",
];

const HUGE: [&str; 7] = [
    "4097",
    "65536",
    "65537",
    "4294967298",
    "18446744073709551615",
    "18446744073709551618",
    "99999999999999999999999",
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> =
        BROKEN.map(|value| Case::text(&post(&format!("Content-Length: {value}¶"), "{}"), REFUSED)).into();
    cases.extend(HUGE.map(|value| Case::text(&post(&format!("Content-Length: {value}¶"), "{}"), LONG)));
    let own = [
        (post("Content-Length: 2¶", "{}"), "201 confirmed"),
        (post("content-LENGTH:2¶", "{}"), "201 confirmed"),
        (post("Content-Length:  \t2\t ¶", "{}"), "201 confirmed"),
        (post("Content-Length: 0¶", ""), "201 confirmed"),
        (post("", ""), "201 confirmed"),
        (post("Content-Length: 2¶Content-Length: 2¶", "{}"), REFUSED),
        (post("Content-Length: 2¶Content-Length: 3¶", "{}"), REFUSED),
        (post("Content-Length: 2¶content-length: 2¶", "{}"), REFUSED),
        (post("Content-Length: 2¶X: y¶Content-Length: 2¶", "{}"), REFUSED),
        (post("Content-Length: 0¶Content-Length: 2¶", "{}"), REFUSED),
        (post("Content-Length : 2¶", "{}"), REFUSED),
        (post(" Content-Length: 2¶", "{}"), REFUSED),
        (post("Content-Length:¶ 2¶", "{}"), REFUSED),
        // Said otherwise it is not said: what follows begins the next request.
        (post("Content_Length: 2¶", "{}"), "201 confirmed | 400 bad_request, closes"),
        (post("Content-Lengt: 2¶", "{}"), "201 confirmed | 400 bad_request, closes"),
        (post("Content\\Length: 2¶", "{}"), REFUSED),
        // One byte more of body than was announced begins the next request.
        (post("Content-Length: 1¶", "{}"), "400 bad_json | 400 bad_request, closes"),
        (post("Content-Length: 2¶", "{}}"), "201 confirmed | 400 bad_request, closes"),
        // One less swallows the first of the next.
        (post("Content-Length: 3¶", "{}"), "waits >> 400 bad_json | 501 not_implemented, closes"),
    ];
    cases.extend(own.iter().map(|(text, verdict)| Case::text(text, verdict)));
    cases.extend(texts(&[
        ("POST /v1/items/7/orders HTTP/1.0¶X-Buyer: b#######¶¶", "201 confirmed, closes"),
        ("POST /v1/orders/30064771073/cancel HTTP/1.1¶Host: a¶X-Buyer: b#######¶¶", "404 not_found"),
        ("POST /sale/7 HTTP/1.1¶Host: a¶X-Buyer: b#######¶¶", "400"),
        ("PUT /v1/items/7 HTTP/1.1¶Host: a¶¶", "405 method_not_allowed"),
        ("PATCH /v1/items/7 HTTP/1.1¶Host: a¶¶", "405 method_not_allowed"),
        ("PATCH /v1/items/7 HTTP/1.1¶Host: a¶Content-Length: 1¶¶x", "405 method_not_allowed"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Content-Length: 0¶¶", "200"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Content-Length: 1¶¶x", REFUSED),
        ("HEAD /v1/time HTTP/1.1¶Host: a¶Content-Length: 1¶¶x", REFUSED),
        ("DELETE /v1/time HTTP/1.1¶Host: a¶Content-Length: 1¶¶x", REFUSED),
        ("OPTIONS /v1/time HTTP/1.1¶Host: a¶Content-Length: 1¶¶x", REFUSED),
        ("TRACE /v1/time HTTP/1.1¶Host: a¶Content-Length: 1¶¶x", REFUSED),
        ("DELETE /v1/time HTTP/1.1¶Host: a¶¶", "405 method_not_allowed"),
    ]));
    cases
}
