//! The limits of head, target and body: the last size that is taken, and the first that is not.

use crate::case::Case;

const LARGE: &str = "431 headers_too_large, closes";
const LONG_TARGET: &str = "414 target_too_long, closes";
const LONG_BODY: &str = "413 body_too_large, closes";

/// A head with a field that makes it exactly so long.
fn head_of(len: usize) -> String {
    let begin = "GET /v1/time HTTP/1.1¶Host: a¶X: ";
    let fixed = begin.replace('¶', "\r\n").len() + 4;
    format!("{begin}{}¶¶", "y".repeat(len - fixed))
}

fn with_fields(fields: usize) -> String {
    let fields: String = (1..fields).map(|index| format!("X{index}: y¶")).collect();
    format!("GET /v1/time HTTP/1.1¶Host: a¶{fields}¶")
}

fn with_target(len: usize) -> String {
    format!("GET /{} HTTP/1.1¶Host: a¶¶", "t".repeat(len - 1))
}

fn with_body(path: &str, len: usize) -> String {
    format!("POST {path} HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: {len}¶¶{}", "b".repeat(len))
}

pub(crate) fn cases() -> Vec<Case> {
    let (buy, cancel) = ("/v1/items/7/orders", "/v1/orders/4294967297/cancel");
    let padded = |len: usize| format!("{{\"quantity\":1{}}}", " ".repeat(len - 14));
    let rows = [
        (head_of(8_192), "200"),
        (head_of(8_193), LARGE),
        (head_of(20_000), LARGE),
        (with_fields(63), "200"),
        (with_fields(64), "200"),
        (with_fields(65), LARGE),
        (with_fields(100), LARGE),
        (with_target(2_048), "404 not_found"),
        (with_target(2_049), LONG_TARGET),
        (with_target(2_100), LONG_TARGET),
        (with_target(5_000), LONG_TARGET),
        (with_target(20_000), LONG_TARGET),
        ("M".repeat(5_000), "400 bad_request, closes"),
        (format!("GET /{}", "t".repeat(9_000)), LONG_TARGET),
        (format!("GET {}", " ".repeat(9_000)), LONG_TARGET),
        (format!("GET /v1/time HTTP/1.1¶Host: a¶X: {}", "y".repeat(9_000)), LARGE),
        (format!("GET /v1/time HTTP/1.1¶Host: a¶{}", "X: y¶".repeat(2_000)), LARGE),
        (
            format!("POST {buy} HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: 4096¶¶{}", padded(4_096)),
            "201 confirmed",
        ),
        (with_body(buy, 4_096), "400 bad_json"),
        (with_body(buy, 4_097), LONG_BODY),
        (with_body(&format!("{buy}?"), 4_097), LONG_BODY),
        (with_body("/v1/items/7/ticket", 4_097), LONG_BODY),
        (with_body(cancel, 65_536), "400 bad_json"),
        (with_body(cancel, 65_537), LONG_BODY),
        (with_body("/nowhere", 65_536), "404 not_found"),
    ];
    rows.iter().map(|(text, verdict)| Case::text(text, verdict)).collect()
}
