//! `Host`: what can be one, how often it stands, and what a target says beside it.

use crate::case::{Case, texts};

const GOOD: [&str; 9] =
    ["a", "a.example", "A.EXAMPLE:7070", "127.0.0.1:1", "[::1]", "[::1]:7070", "a%20b", "x_y", "a:"];

const BAD: [&str; 28] = [
    "",
    " ",
    "a b",
    "a,b",
    "a, a",
    "u@a",
    "a/b",
    "a:b",
    "a:80:80",
    "a:123456",
    ":80",
    "[::1",
    "::1",
    "[]",
    "[x]",
    "[::1]x",
    "a%2",
    "a%zz",
    "ä",
    "a\\b",
    "<a>",
    "a?b",
    "a#b",
    "\"a\"",
    "[::1]]:80",
    "a:-1",
    "a\u{1}",
    "http://a",
];

pub(crate) fn cases() -> Vec<Case> {
    const REFUSED: &str = "400 bad_request, closes";
    let get = |version: &str, host: &str| format!("GET /v1/time HTTP/{version}¶Host: {host}¶¶");
    let mut cases: Vec<Case> = GOOD.map(|host| Case::text(&get("1.1", host), "200")).into();
    cases.extend(BAD.map(|host| Case::text(&get("1.1", host), REFUSED)));
    cases.extend(BAD[..8].iter().map(|host| Case::text(&get("1.0", host), REFUSED)));
    cases.extend(texts(&[
        ("GET /v1/time HTTP/1.1¶¶", REFUSED),
        ("GET /v1/time HTTP/1.1¶X: y¶¶", REFUSED),
        ("GET /v1/time HTTP/1.1¶Host: a¶Host: a¶¶", REFUSED),
        ("GET /v1/time HTTP/1.1¶Host: a¶hOsT: b¶¶", REFUSED),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: y¶Host: a¶¶", REFUSED),
        ("GET /v1/time HTTP/1.0¶Host: a¶Host: a¶¶", REFUSED),
        ("GET /v1/time HTTP/1.0¶Connection: keep-alive¶¶", "200"),
    ]));
    cases
}
