//! Header lines: colons, spaces, folding, control characters, lists.

use crate::case::{Case, texts};

/// What a body is said to be, and the body.
const MEDIA: [(&str, &str, &str); 24] = [
    ("", "{}", YES),
    ("Content-Type: application/json¶", "{}", YES),
    ("content-type:APPLICATION/JSON ; charset=utf-8¶", "{}", YES),
    ("Content-Type: text/json¶", "{}", YES),
    ("Content-Type: application/vnd.shop.order+json¶", "{}", YES),
    // So `curl -d` sends JSON.
    ("Content-Type: application/x-www-form-urlencoded¶", "{}", YES),
    ("Content-Type: application/x-www-form-urlencoded¶", " {}", YES),
    ("Content-Type: application/x-www-form-urlencoded¶", "quantity=1", NO_MEDIA),
    ("Content-Type: text/plain¶", "{}", NO_MEDIA),
    ("Content-Type: multipart/form-data; boundary=x¶", "--x--", NO_MEDIA),
    ("Content-Type: application/xml¶", "<q/>", NO_MEDIA),
    ("Content-Type: json¶", "{}", NO_MEDIA),
    ("Content-Type:¶", "{}", NO_MEDIA),
    ("Content-Type: application/json¶Content-Type: application/json¶", "{}", NO_MEDIA),
    ("Content-Type: application/json, text/plain¶", "{}", NO_MEDIA),
    ("Content-Encoding: gzip¶", "{}", NO_MEDIA),
    ("Content-Encoding: gzip¶", "‹1f›‹8b›‹08›‹00›", NO_MEDIA),
    ("content-encoding:BR¶", "{}", NO_MEDIA),
    ("Content-Encoding: identity, gzip¶", "{}", NO_MEDIA),
    ("Content-Encoding: identity¶Content-Encoding: gzip¶", "{}", NO_MEDIA),
    ("Content-Encoding:¶", "{}", NO_MEDIA),
    ("Content-Encoding: Identity¶", "{}", YES),
    // Nothing is coded, and nothing is of any type.
    ("Content-Encoding: gzip¶", "", YES),
    ("Content-Type: text/plain¶", "", YES),
];

const YES: &str = "201 confirmed";
const NO_MEDIA: &str = "415 unsupported_media_type";

pub(crate) fn cases() -> Vec<Case> {
    let media = MEDIA.iter().map(|(lines, body, verdict)| {
        let length = crate::case::raw(body).len();
        let lines = format!("X-Buyer: b#######¶{lines}Content-Length: {length}¶");
        Case::text(&format!("POST /v1/items/7/orders HTTP/1.1¶Host: a¶{lines}¶{body}"), verdict)
    });
    media.chain(fields()).collect()
}

fn fields() -> Vec<Case> {
    texts(&[
        ("GET /v1/time HTTP/1.1¶Host:a¶¶", "200"),
        ("GET /v1/time HTTP/1.1¶Host: \t a \t ¶¶", "200"),
        ("GET /v1/time HTTP/1.1¶HOST: a¶¶", "200"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X:¶¶", "200"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: grün¶¶", "200"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: \ta\tb¶¶", "200"),
        ("GET /v1/time HTTP/1.1¶Host : a¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X : b¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X\t: b¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶ Host: a¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b¶ c¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b¶\tc¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b\n c¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶: b¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X y: b¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X\"y: b¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Xü: b¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X(y): b¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b\0c¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b\u{1}c¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b\u{7f}c¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b\rc¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b\r¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X\0: b¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶\0¶¶", "400 bad_request, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Expect: 100-continue¶¶", "200"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Expect: 200-maybe¶¶", "417 expectation_failed, closes"),
        ("GET /v1/time HTTP/1.0¶Expect: 200-maybe¶¶", "417 expectation_failed, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Expect:¶¶", "417 expectation_failed, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Expect: 100-continue, x¶¶", "417 expectation_failed, closes"),
        (
            "GET /v1/time HTTP/1.1¶Host: a¶Expect: 100-continue¶Expect: 100-continue¶¶",
            "417 expectation_failed, closes",
        ),
        ("GET /v1/time HTTP/1.1¶Host: a¶Upgrade: h2c¶Connection: upgrade¶¶", "200"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Connection: close¶¶", "200, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Connection: keep-alive, CLOSE¶¶", "200, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Connection: keep-alive¶Connection: close¶¶", "200, closes"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Connection: not-close¶¶", "200"),
        ("GET /v1/time HTTP/1.0¶Connection: keep-alive¶¶", "200"),
        ("GET /v1/time HTTP/1.0¶Connection: Keep-Alive, close¶¶", "200, closes"),
    ])
}
