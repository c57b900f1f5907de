//! Header lines: colons, spaces, folding, control characters, lists.

use crate::case::{Case, texts};

pub(crate) fn cases() -> Vec<Case> {
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
        ("GET /v1/time HTTP/1.1¶Host: a¶Expect: 200-maybe¶¶", "400 bad_header, closes"),
        (
            "GET /v1/time HTTP/1.1¶Host: a¶Expect: 100-continue¶Expect: 100-continue¶¶",
            "400 bad_header, closes",
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
