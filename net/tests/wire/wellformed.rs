//! What is right is taken: a table that only refuses would prove nothing.

use crate::case::{Case, texts};

pub(crate) fn cases() -> Vec<Case> {
    texts(&[
        ("GET /v1/time HTTP/1.1¶Host: a¶¶", "200"),
        ("GET /v1/items HTTP/1.1¶Host: a¶¶", "200 open"),
        ("GET /v1/items/7 HTTP/1.1¶Host: a¶¶", "200 open"),
        ("HEAD /v1/items/7 HTTP/1.1¶Host: a¶¶", "200"),
        ("GET /v1/items/11 HTTP/1.1¶Host: a¶¶", "200 upcoming"),
        ("GET /v1/items/12 HTTP/1.1¶Host: a¶¶", "200 ended"),
        ("GET /v1/items/7 HTTP/1.1¶Host: a¶If-None-Match: *¶¶", "304"),
        ("GET / HTTP/1.1¶Host: a¶¶", "200"),
        ("GET /sale/7 HTTP/1.1¶Host: a¶¶", "200"),
        ("GET /sale/7?utm_source=mail HTTP/1.1¶Host: a¶¶", "200"),
        ("GET /favicon.ico HTTP/1.1¶Host: a¶¶", "200"),
        ("GET /v1/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶¶", "200"),
        ("GET /v1/orders?limit=5 HTTP/1.1¶Host: a¶X-Buyer: b#######¶¶", "200"),
        ("GET /v1/orders/30064771073 HTTP/1.1¶Host: a¶X-Buyer: b#######¶¶", "404 not_found"),
        ("GET /v1/orders/30064771073?wait_ms=1 HTTP/1.1¶Host: a¶X-Buyer: b#######¶¶", "404 not_found"),
        (
            "POST /v1/orders/30064771073/cancel HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 0¶¶",
            "404 not_found",
        ),
        (
            "POST /v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 14¶¶{\"quantity\":1}",
            "201 confirmed",
        ),
        ("POST /v1/items/7/orders HTTP/1.0¶X-Buyer: b#######¶Content-Length: 2¶¶{}", "201 confirmed, closes"),
        (
            "POST /v1/items/7/orders HTTP/1.0¶Connection: keep-alive¶X-Buyer: b#######¶Content-Length: 2¶¶{}",
            "201 confirmed",
        ),
        (
            "POST /v1/items/7/orders HTTP/1.1¶Host: a¶Connection: close¶X-Buyer: b#######¶Content-Length: 2¶¶{}",
            "201 confirmed, closes",
        ),
        (
            "POST http://a/v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 2¶¶{}",
            "201 confirmed",
        ),
        (
            "POST /v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶Expect: 100-continue¶Content-Length: 2¶¶{}",
            "201 confirmed",
        ),
        (
            "POST /v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Type: application/json; charset=utf-8¶Content-Length: 2¶¶{}",
            "201 confirmed",
        ),
        (
            "POST /v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶X: ‹ff›‹80›¶Content-Length: 2¶¶{}",
            "201 confirmed",
        ),
        (
            "¶POST /v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 2¶¶{}",
            "201 confirmed",
        ),
        ("POST /sale/7 HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 0¶¶", "400"),
    ])
}
