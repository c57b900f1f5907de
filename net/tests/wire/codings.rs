//! `Transfer-Encoding` in any form: no coding is taken, and none is overlooked.

use crate::case::Case;

const REFUSED: &str = "400 bad_request, closes";
const NONE: &str = "501 not_implemented, closes";

/// A chunked purchase with these header lines, whose chunks are a request of their own for
/// whoever takes the length from elsewhere.
fn post(lines: &str) -> String {
    format!("POST /v1/items/7/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶{lines}¶2¶{{}}¶0¶¶")
}

const CODINGS: [&str; 14] = [
    "chunked",
    "Chunked",
    "identity",
    "gzip, chunked",
    "chunked, chunked",
    "xchunked",
    "",
    "\tchunked",
    "chunked;q=1",
    "\"chunked\"",
    "chunked,",
    ",chunked",
    "deflate",
    "trailers",
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in CODINGS {
        cases.push(Case::text(&post(&format!("Transfer-Encoding: {value}¶")), NONE));
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
        (post("Transfer_Encoding: chunked¶"), "411 length_required, closes"),
        (post("X: y¶Transfer-Encoding: chunked\u{b}¶"), REFUSED),
        (post("Transfer-Encoding\0: chunked¶"), REFUSED),
        (post("Transfer-Encoding: chunked\nX: y¶"), REFUSED),
        ("GET /v1/time HTTP/1.0¶Transfer-Encoding: chunked¶¶".to_owned(), NONE),
        ("GET /v1/time HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶0¶¶".to_owned(), NONE),
        ("GET /v1/time HTTP/1.1¶Host: a¶TE: trailers¶¶".to_owned(), "200"),
        ("GET /v1/time HTTP/1.1¶Host: a¶Trailer: X¶¶".to_owned(), "200"),
    ];
    cases.extend(own.iter().map(|(text, verdict)| Case::text(text, verdict)));
    cases
}
