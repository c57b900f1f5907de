//! The table of raw requests: each with its verdict, cut at every position, and
//! with a purchase pipelined behind it that must come out exactly where the
//! connection stays usable.

use stampede_net::http::route::Listener;

use crate::http_conn::{CANARY, CANARY_SHOWN, transcript_cut_everywhere};

/// In the table `¶` stands for CRLF, and nothing else is changed.
fn raw(text: &str) -> Vec<u8> {
    text.replace('¶', "\r\n").into_bytes()
}

fn check(raw: &[u8], expected: &str) {
    let shown = transcript_cut_everywhere(Listener::Public, raw);
    assert_eq!(shown, expected, "{}", raw.escape_ascii());
    if expected.ends_with("partial") {
        return;
    }
    let closes = expected.contains("reject") || expected.ends_with("close");
    let behind = if closes { expected.to_owned() } else { format!("{expected} | {CANARY_SHOWN}") };
    let with_canary = [raw, CANARY].concat();
    assert_eq!(transcript_cut_everywhere(Listener::Public, &with_canary), behind, "{}", raw.escape_ascii());
}

fn check_table(table: &[(&str, &str)]) {
    for (text, expected) in table {
        check(&raw(text), expected);
    }
}

#[test]
fn request_lines() {
    check_table(&[
        ("GET /v1/time HTTP/1.1¶Host: a¶¶", "Time"),
        ("GET /v1/time HTTP/1.0¶¶", "Time close"),
        ("GET /v1/time HTTP/1.0¶Host: a¶¶", "Time close"),
        ("HEAD /v1/time HTTP/1.1¶Host: a¶¶", "Time"),
        ("¶GET /v1/time HTTP/1.1¶Host: a¶¶", "Time"),
        ("¶¶GET /v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("\nGET /v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("\rGET /v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        (" GET /v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET  /v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/time  HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1 ¶Host: a¶¶", "reject 400"),
        ("GET\t/v1/time\tHTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1\nHost: a\n\n", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a\n\r\n", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶\n", "reject 400"),
        ("GET /v1/time HTTP/1.1\rHost: a\r\r", "partial"),
        ("GET /v1/time HTTP/1.1\rX: ¶Host: a¶¶", "reject 400"),
        ("GET /v1/time\r HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/time¶Host: a¶¶", "reject 400"),
        ("GET¶¶", "reject 400"),
        ("/v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/time HTTP/0.9¶Host: a¶¶", "reject 505"),
        ("GET /v1/time HTTP/1.2¶Host: a¶¶", "reject 505"),
        ("GET /v1/time HTTP/2.0¶Host: a¶¶", "reject 505"),
        ("PRI * HTTP/2.0¶¶SM¶¶", "reject 505"),
        ("GET /v1/time HTTP/1.10¶Host: a¶¶", "reject 400"),
        ("GET /v1/time HTTP/11¶Host: a¶¶", "reject 400"),
        ("GET /v1/time http/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/time HTTPS/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.x¶Host: a¶¶", "reject 400"),
        ("GET /v1/time HTTP/1,1¶Host: a¶¶", "reject 400"),
        ("G<T /v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("G\0T /v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GÄT /v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("get /v1/time HTTP/1.1¶Host: a¶¶", "reject 501"),
        ("BREW /v1/time HTTP/1.1¶Host: a¶¶", "reject 501"),
        ("CONNECT a:80 HTTP/1.1¶Host: a:80¶¶", "reject 501"),
        ("\u{16}\u{3}\u{1}\0¥", "reject 400"),
        ("POST /v1/items/7/orders HTTP/1.1¶Host: a", "partial"),
        ("G", "partial"),
    ]);
    // An empty line alone is skipped; nothing has begun.
    assert_eq!(transcript_cut_everywhere(Listener::Public, b"\r\n"), "");
}

#[test]
fn targets() {
    check_table(&[
        ("GET / HTTP/1.1¶Host: a¶¶", "Site(List)"),
        ("GET /v1/time? HTTP/1.1¶Host: a¶¶", "Time"),
        ("GET /v1/time?a=1 HTTP/1.1¶Host: a¶¶", "400"),
        ("GET /v1/time#x HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/time?#x HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/%74ime HTTP/1.1¶Host: a¶¶", "404"),
        ("GET /v1/items/%31 HTTP/1.1¶Host: a¶¶", "404"),
        ("GET /v1/../v1/time HTTP/1.1¶Host: a¶¶", "404"),
        ("GET /v1/./time HTTP/1.1¶Host: a¶¶", "404"),
        ("GET //v1/time HTTP/1.1¶Host: a¶¶", "404"),
        ("GET /v1/time/ HTTP/1.1¶Host: a¶¶", "404"),
        ("GET /v1/time%2 HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/time% HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/time%zz HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/%00 HTTP/1.1¶Host: a¶¶", "404"),
        ("GET /v1/ti\0me HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/ti\u{7f}me HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/zeit-ä HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/time\\x HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/{id} HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/<x> HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /v1/\"x\" HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET ?x=1 HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET a:80 HTTP/1.1¶Host: a:80¶¶", "reject 400"),
        ("GET * HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("OPTIONS * HTTP/1.1¶Host: a¶¶", "405"),
        ("OPTIONS /v1/time HTTP/1.1¶Host: a¶¶", "405"),
        ("TRACE /v1/time HTTP/1.1¶Host: a¶¶", "405"),
        ("GET http://a/v1/time HTTP/1.1¶Host: a¶¶", "Time"),
        ("GET HTTP://A:80/v1/time HTTP/1.1¶Host: a:80¶¶", "Time"),
        ("GET http://a HTTP/1.1¶Host: a¶¶", "Site(List)"),
        ("GET http://a?x=1 HTTP/1.1¶Host: a¶¶", "Site(List)"),
        ("GET http://b/v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET http://a/v1/time HTTP/1.1¶¶", "reject 400"),
        ("GET http:///v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET http://u@a/v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET https://a/v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET http:/v1/time HTTP/1.1¶Host: a¶¶", "reject 400"),
        ("GET /admin/items HTTP/1.1¶Host: a¶¶", "404"),
        ("GET /metrics HTTP/1.1¶Host: a¶¶", "404"),
        ("PUT /admin/items/1 HTTP/1.1¶Host: a¶Content-Length: 2¶¶{}", "404 body=2"),
    ]);
}

#[test]
fn header_lines() {
    check_table(&[
        ("GET /v1/time HTTP/1.1¶Host:a¶¶", "Time"),
        ("GET /v1/time HTTP/1.1¶Host: \t a \t ¶¶", "Time"),
        ("GET /v1/time HTTP/1.1¶HOST: a¶¶", "Time"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X:¶¶", "Time"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: grün¶¶", "Time"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: \ta\tb¶¶", "Time"),
        ("GET /v1/time HTTP/1.1¶Host : a¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X : b¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X\t: b¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶ Host: a¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b¶ c¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b¶\tc¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b\n c¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶: b¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X y: b¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X\"y: b¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Xü: b¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X(y): b¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b\0c¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b\u{1}c¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b\u{7f}c¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b\rc¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X: b\r¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶X\0: b¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶\0¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Expect: 100-continue¶¶", "Time"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Expect: 200-maybe¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Expect: 100-continue¶Expect: 100-continue¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Upgrade: h2c¶Connection: upgrade¶¶", "Time"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Connection: close¶¶", "Time close"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Connection: keep-alive, CLOSE¶¶", "Time close"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Connection: keep-alive¶Connection: close¶¶", "Time close"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Connection: not-close¶¶", "Time"),
        ("GET /v1/time HTTP/1.0¶Connection: keep-alive¶¶", "Time"),
        ("GET /v1/time HTTP/1.0¶Connection: Keep-Alive, close¶¶", "Time close"),
    ]);
}

#[test]
fn hosts() {
    for host in
        ["a", "a.example", "A.EXAMPLE:7070", "127.0.0.1:1", "[::1]", "[::1]:7070", "a%20b", "x_y", "a:"]
    {
        check(&raw(&format!("GET /v1/time HTTP/1.1¶Host: {host}¶¶")), "Time");
    }
    let bad = [
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
    ];
    for host in bad {
        check(&raw(&format!("GET /v1/time HTTP/1.1¶Host: {host}¶¶")), "reject 400");
        check(&raw(&format!("GET /v1/time HTTP/1.0¶Host: {host}¶¶")), "reject 400");
    }
    check_table(&[
        ("GET /v1/time HTTP/1.1¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶X: y¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Host: a¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.1¶Host: a¶hOsT: b¶¶", "reject 400"),
        ("GET /v1/time HTTP/1.0¶Host: a¶Host: a¶¶", "reject 400"),
    ]);
}

#[test]
fn content_lengths() {
    let post =
        |fields: &str, body: &str| raw(&format!("POST /v1/items/7/orders HTTP/1.1¶Host: a¶{fields}¶{body}"));
    check(&post("Content-Length: 2¶", "{}"), "Buy(ItemId(7)) body=2");
    check(&post("content-LENGTH:2¶", "{}"), "Buy(ItemId(7)) body=2");
    check(&post("Content-Length: 0¶", ""), "Buy(ItemId(7))");
    check(&post("Content-Length: 3¶", "{}"), "partial");
    check(&post("", ""), "reject 411");
    let bad = [
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
    ];
    for value in bad {
        check(&post(&format!("Content-Length: {value}¶"), "{}"), "reject 400");
    }
    for value in ["4097", "65537", "18446744073709551615", "18446744073709551618", "99999999999999999999999"]
    {
        check(&post(&format!("Content-Length: {value}¶"), "{}"), "reject 413");
    }
    check(&post("Content-Length: 2¶Content-Length: 2¶", "{}"), "reject 400");
    check(&post("Content-Length: 2¶Content-Length: 3¶", "{}"), "reject 400");
    check(&post("Content-Length: 2¶content-length: 2¶", "{}"), "reject 400");
    check(&post("Content-Length : 2¶", "{}"), "reject 400");
    check(&post("Content_Length: 2¶", "{}"), "reject 411");
    check_table(&[
        ("POST /v1/items/7/orders HTTP/1.0¶¶", "reject 411"),
        ("PUT /v1/items/7 HTTP/1.1¶Host: a¶¶", "reject 411"),
        ("PATCH /v1/items/7 HTTP/1.1¶Host: a¶¶", "reject 411"),
        ("PATCH /v1/items/7 HTTP/1.1¶Host: a¶Content-Length: 1¶¶x", "405 body=1"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Content-Length: 0¶¶", "Time"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Content-Length: 1¶¶x", "reject 400"),
        ("HEAD /v1/time HTTP/1.1¶Host: a¶Content-Length: 1¶¶x", "reject 400"),
        ("DELETE /v1/time HTTP/1.1¶Host: a¶Content-Length: 1¶¶x", "reject 400"),
        ("DELETE /v1/time HTTP/1.1¶Host: a¶¶", "405"),
    ]);
}

#[test]
fn transfer_encodings() {
    let post = |fields: &str| raw(&format!("POST /v1/items/7/orders HTTP/1.1¶Host: a¶{fields}¶2¶{{}}¶0¶¶"));
    for value in
        ["chunked", "Chunked", "identity", "gzip, chunked", "chunked, chunked", "xchunked", "", "\tchunked"]
    {
        check(&post(&format!("Transfer-Encoding: {value}¶")), "reject 501");
        check(&post(&format!("Transfer-Encoding: {value}¶Content-Length: 2¶")), "reject 400");
        check(&post(&format!("Content-Length: 2¶transfer-encoding: {value}¶")), "reject 400");
    }
    check(&post("Transfer-Encoding: chunked¶Transfer-Encoding: identity¶"), "reject 501");
    check(&post("Transfer-Encoding : chunked¶"), "reject 400");
    check(&post("Transfer-Encoding: chun¶ ked¶"), "reject 400");
    check(&post("Transfer_Encoding: chunked¶"), "reject 411");
    check(&post("X: y¶Transfer-Encoding: chunked\u{b}¶"), "reject 400");
    check(&raw("GET /v1/time HTTP/1.0¶Transfer-Encoding: chunked¶¶"), "reject 501");
}

/// A head with a field that makes it exactly so long.
fn head_of(len: usize) -> Vec<u8> {
    let begin = "GET /v1/time HTTP/1.1\r\nHost: a\r\nX: ";
    format!("{begin}{}\r\n\r\n", "y".repeat(len - begin.len() - 4)).into_bytes()
}

#[test]
fn limits_of_the_head() {
    check(&head_of(8_192), "Time");
    check(&head_of(8_193), "reject 431");
    check(&head_of(20_000), "reject 431");
    check(&head_of(8_300)[..8_190], "partial");
    let with_fields = |fields: usize| {
        let fields: String = (1..fields).map(|index| format!("X{index}: y¶")).collect();
        raw(&format!("GET /v1/time HTTP/1.1¶Host: a¶{fields}¶"))
    };
    check(&with_fields(64), "Time");
    check(&with_fields(65), "reject 431");
    check(&with_fields(100), "reject 431");
    let with_target = |len: usize| raw(&format!("GET /{} HTTP/1.1¶Host: a¶¶", "t".repeat(len - 1)));
    check(&with_target(2_048), "404");
    check(&with_target(2_049), "reject 414");
    check(&with_target(2_100), "reject 414");
    check(&with_target(5_000), "reject 414");
    check(&with_target(20_000), "reject 414");
    check("M".repeat(5_000).as_bytes(), "reject 400");
    check("M".repeat(2_000).as_bytes(), "partial");
    check(&[b"GET /", "t".repeat(9_000).as_bytes()].concat(), "reject 414");
    check(&[b"GET ", " ".repeat(9_000).as_bytes()].concat(), "reject 414");
}

#[test]
fn limits_of_the_body() {
    let post = |path: &str, len: usize| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
        [head.as_bytes(), &vec![b'b'; len]].concat()
    };
    check(&post("/v1/items/7/orders", 4_096), "Buy(ItemId(7)) body=4096");
    check(&post("/v1/items/7/orders", 4_097), "reject 413");
    check(&post("/v1/items/7/orders?", 4_097), "reject 413");
    check(&post("/v1/orders/4294967297/cancel", 65_536), "CancelOrder(OrderId(4294967297)) body=65536");
    check(&post("/v1/orders/4294967297/cancel", 65_537), "reject 413");
    check(&post("/nowhere", 65_536), "404 body=65536");
}

#[test]
fn the_verdict_of_a_pipeline_is_that_of_its_parts() {
    let good = "GET /v1/time HTTP/1.1¶Host: a¶¶";
    let buy = "POST /v1/items/7/orders HTTP/1.1¶Host: a¶Content-Length: 2¶¶{}";
    let bad = "GET /v1/time HTTP/1.1¶¶";
    check(&raw(&[good, buy, good].concat()), "Time | Buy(ItemId(7)) body=2 | Time");
    check(&raw(&[good, bad, good].concat()), "Time | reject 400");
    check(&raw(&[buy, "¶", buy, "¶"].concat()), "Buy(ItemId(7)) body=2 | Buy(ItemId(7)) body=2");
    // One byte more of body than announced begins the next request.
    check(&raw(&[buy, "}", good].concat()), "Buy(ItemId(7)) body=2 | reject 400");
    check(&raw(&[buy, "X", good].concat()), "Buy(ItemId(7)) body=2 | reject 501");
    // One byte less swallows the first of the next.
    let short = "POST /v1/items/7/orders HTTP/1.1¶Host: a¶Content-Length: 3¶¶{}";
    check(&raw(&[short, good].concat()), "Buy(ItemId(7)) body=3 | reject 501");
}
