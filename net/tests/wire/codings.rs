//! `Transfer-Encoding` in any form: chunked is taken, strictly; no other coding is, and none is
//! overlooked.

use crate::case::Case;

const REFUSED: &str = "400 bad_request, closes";
const BOUGHT: &str = "201 confirmed";
const LONG: &str = "413 body_too_large, closes";
const NONE: &str = "501 not_implemented, closes";

/// A chunked purchase with these header lines, whose chunks are a request of their own for
/// whoever takes the length from elsewhere.
fn post(lines: &str) -> String {
    format!("POST /v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶{lines}¶2¶{{}}¶0¶¶")
}

const CHUNKED: [&str; 4] = ["chunked", "Chunked", "CHUNKED", "\tchunked "];

const OTHERS: [&str; 11] = [
    "identity",
    "gzip, chunked",
    "chunked, chunked",
    "xchunked",
    "",
    "chunked;q=1",
    "\"chunked\"",
    "chunked,",
    ",chunked",
    "deflate",
    "trailers",
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in CHUNKED.into_iter().chain(OTHERS) {
        let verdict = if CHUNKED.contains(&value) { BOUGHT } else { NONE };
        cases.push(Case::text(&post(&format!("Transfer-Encoding: {value}¶")), verdict));
        let before = format!("Transfer-Encoding: {value}¶Content-Length: 2¶");
        cases.push(Case::text(&post(&before), REFUSED));
        let behind = format!("Content-Length: 2¶transfer-encoding: {value}¶");
        cases.push(Case::text(&post(&behind), REFUSED));
    }
    let own = [
        (post("Transfer-Encoding: chunked¶Transfer-Encoding: identity¶"), NONE),
        (post("Transfer-Encoding : chunked¶"), REFUSED),
        (post(" Transfer-Encoding: chunked¶"), REFUSED),
        (post("Transfer-Encoding: chun¶ ked¶"), REFUSED),
        (post("Transfer-Encoding:¶ chunked¶Content-Length: 2¶"), REFUSED),
        // Said otherwise it is not said: the chunks begin the next request.
        (post("Transfer_Encoding: chunked¶"), "201 confirmed | 400 bad_request, closes"),
        (post("X: y¶Transfer-Encoding: chunked\u{b}¶"), REFUSED),
        (post("Transfer-Encoding\0: chunked¶"), REFUSED),
        (post("Transfer-Encoding: chunked\nX: y¶"), REFUSED),
        ("GET /v1/time HTTP/1.0¶Transfer-Encoding: chunked¶¶".to_owned(), REFUSED),
        (post("Transfer-Encoding: chunked¶").replace("HTTP/1.1", "HTTP/1.0"), REFUSED),
        ("GET /v1/time HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶¶".to_owned(), "200"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶1¶x¶0¶¶".to_owned(), REFUSED),
        (
            "DELETE /v1/time HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶¶".to_owned(),
            "405 method_not_allowed",
        ),
        ("GET /v1/time HTTP/1.1¶Host: a¶TE: trailers¶¶".to_owned(), "200"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Trailer: X¶¶".to_owned(), "200"),
    ];
    cases.extend(own.iter().map(|(text, verdict)| Case::text(text, verdict)));
    cases.extend(bodies());
    cases
}

/// A purchase in these chunks.
fn chunks(text: &str) -> String {
    format!("POST /v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶Transfer-Encoding: chunked¶¶{text}")
}

/// Chunks themselves: where each begins and ends, and what stands around them.
fn bodies() -> Vec<Case> {
    const SECOND: &str = "GET /v1/time HTTP/1.1¶Host: a¶¶";
    let quantity = "{\"quantity\":1}";
    let each: String = quantity.chars().map(|byte| format!("1¶{byte}¶")).collect();
    let padded = format!("1000¶{{\"quantity\":1{}}}¶0¶¶", " ".repeat(4_096 - 14));
    let long = "y".repeat(1_024);
    let fields = |number: usize| format!("0¶{}¶", "X: y¶".repeat(number));
    let rows = [
        ("0¶¶".to_owned(), BOUGHT),
        ("000¶¶".to_owned(), BOUGHT),
        (format!("E¶{quantity}¶0¶¶"), BOUGHT),
        (format!("e¶{quantity}¶0¶¶"), BOUGHT),
        (format!("000000000000000e¶{quantity}¶0¶¶"), BOUGHT),
        (format!("{each}0¶¶"), BOUGHT),
        (padded, BOUGHT),
        (format!("2;a=b;c=\"d; e\";‹e4›¶{{}}¶0;last¶¶{SECOND}"), "201 confirmed | 200"),
        (
            format!("2¶{{}}¶0¶Content-Length: 99¶Transfer-Encoding: x¶Host: b¶¶{SECOND}"),
            "201 confirmed | 200",
        ),
        (format!("2;{long}¶{{}}¶0¶¶"), BOUGHT),
        (fields(64), BOUGHT),
        // A body that is none, and a purchase all the same.
        ("1¶{¶0¶¶".to_owned(), "400 bad_json"),
        // Longer than is taken, at once or in all.
        ("1001¶".to_owned(), LONG),
        ("FFFFFFFFFFFFFFFF¶".to_owned(), LONG),
        ("ffffffffffffffff2¶{}¶0¶¶".to_owned(), LONG),
        (format!("fff¶{}¶2¶", "b".repeat(4_095)), LONG),
        (format!("2;{long}y¶{{}}¶0¶¶"), REFUSED),
        (fields(65), "431 headers_too_large, closes"),
        (format!("0¶X: {}", "y".repeat(9_000)), "431 headers_too_large, closes"),
        // Sizes that two readers may read differently.
        ("00000000000000002¶{}¶0¶¶".to_owned(), REFUSED),
        ("+2¶{}¶0¶¶".to_owned(), REFUSED),
        ("-2¶{}¶0¶¶".to_owned(), REFUSED),
        ("0x2¶{}¶0¶¶".to_owned(), REFUSED),
        ("2h¶{}¶0¶¶".to_owned(), REFUSED),
        ("2_0¶{}¶0¶¶".to_owned(), REFUSED),
        ("2,2¶{}¶0¶¶".to_owned(), REFUSED),
        (" 2¶{}¶0¶¶".to_owned(), REFUSED),
        ("2 ¶{}¶0¶¶".to_owned(), REFUSED),
        ("2\t¶{}¶0¶¶".to_owned(), REFUSED),
        ("2 ;x¶{}¶0¶¶".to_owned(), REFUSED),
        (";x¶{}¶0¶¶".to_owned(), REFUSED),
        ("¶2¶{}¶0¶¶".to_owned(), REFUSED),
        ("٢¶{}¶0¶¶".to_owned(), REFUSED),
        // Lines that do not end as lines end.
        ("2\n{}¶0¶¶".to_owned(), REFUSED),
        ("2\r{}¶0¶¶".to_owned(), REFUSED),
        ("2\r\r\n{}¶0¶¶".to_owned(), REFUSED),
        ("2;x\n{}¶0¶¶".to_owned(), REFUSED),
        ("2;x\ry¶{}¶0¶¶".to_owned(), REFUSED),
        ("2;\0¶{}¶0¶¶".to_owned(), REFUSED),
        ("2¶{}\n0¶¶".to_owned(), REFUSED),
        ("2¶{}\r0¶¶".to_owned(), REFUSED),
        ("2¶{}0¶¶".to_owned(), REFUSED),
        ("2¶{} ¶0¶¶".to_owned(), REFUSED),
        ("1¶{}¶0¶¶".to_owned(), REFUSED),
        ("3¶{}¶0¶¶".to_owned(), REFUSED),
        ("2¶{}¶0\n\n".to_owned(), REFUSED),
        ("2¶{}¶0¶\n".to_owned(), REFUSED),
        ("2¶{}¶0¶\rx".to_owned(), REFUSED),
        ("2¶{}¶0¶ X: y¶¶".to_owned(), REFUSED),
        ("2¶{}¶0¶X: y\n¶".to_owned(), REFUSED),
        ("2¶{}¶0¶X : y¶¶".to_owned(), REFUSED),
        ("2¶{}¶0¶X¶¶".to_owned(), REFUSED),
        ("2¶{}¶0¶: y¶¶".to_owned(), REFUSED),
        ("2¶{}¶0¶X: \0¶¶".to_owned(), REFUSED),
        ("2¶{}¶0¶GET /v1/time HTTP/1.1¶Host: a¶¶".to_owned(), REFUSED),
        // Cut off: what follows belongs to it, and is never a purchase.
        ("2¶{}¶0¶".to_owned(), "waits >> 400 bad_request, closes"),
        ("2¶{}¶".to_owned(), "waits >> 400 bad_request, closes"),
        ("2¶{".to_owned(), "waits >> 400 bad_request, closes"),
        ("2".to_owned(), "waits >> 400 bad_request, closes"),
        ("2;".to_owned(), "waits >> 400 bad_request, closes"),
        ("200¶".to_owned(), "waits >> waits"),
    ];
    rows.iter().map(|(text, verdict)| Case::text(&chunks(text), verdict)).collect()
}
