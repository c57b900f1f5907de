//! Bodies of purchases: numbers, duplicates, nesting, encodings, unknown fields.

use crate::case::{Case, raw};

const NO: &str = "400 bad_json";
const NUMBER: &str = "400 bad_quantity";
const YES: &str = "201 confirmed";

/// What is framed well and has a bad body leaves the connection usable.
fn post(body: &str) -> String {
    let len = raw(body).len();
    format!("POST /v1/items/8/orders HTTP/1.1¶Host: a¶X-Buyer: b#######¶Content-Length: {len}¶¶{body}")
}

/// Numbers as a quantity.
const NUMBERS: [(&str, &str); 34] = [
    ("1", YES),
    ("2", YES),
    ("1000", YES),
    ("0", NUMBER),
    ("-0", NUMBER),
    ("-1", NUMBER),
    ("1.0", NUMBER),
    ("1.5", NUMBER),
    ("1e0", NUMBER),
    ("1E+0", NUMBER),
    ("10e-1", NUMBER),
    ("4294967297", NUMBER),
    ("18446744073709551617", NUMBER),
    ("1000000000000000000000000000000000000000", NUMBER),
    ("1e999", NUMBER),
    ("\"1\"", NUMBER),
    ("true", NUMBER),
    ("null", NUMBER),
    ("[1]", NUMBER),
    ("{}", NUMBER),
    ("\"\"", NUMBER),
    ("01", NO),
    ("+1", NO),
    ("1.", NO),
    (".5", NO),
    ("1e", NO),
    ("0x1", NO),
    ("1_0", NO),
    ("NaN", NO),
    ("Infinity", NO),
    ("-", NO),
    ("١", NO),
    ("1 0", NO),
    ("", NO),
];

const BODIES: [(&str, &str); 60] = [
    ("{}", YES),
    (" {} ", YES),
    ("\t\r\n{\n}\r\n", YES),
    ("{\"quantity\" : 1 }", YES),
    ("{\"quantity\":1,\"ticket\":\"x\"}", YES),
    ("{\"ticket\":\"\\u0041\",\"quantity\":1}", YES),
    // No body at all is the body whose every field has its default.
    ("", YES),
    (" ", NO),
    ("{", NO),
    ("}", NO),
    ("{}{}", NO),
    ("{},", NO),
    ("{}x", NO),
    ("[]", NO),
    ("[{}]", NO),
    ("1", NO),
    ("\"{}\"", NO),
    ("null", NO),
    ("true", NO),
    ("{\"quantity\":1", NO),
    ("{\"quantity\"}", NO),
    ("{\"quantity\":}", NO),
    ("{\"quantity\":1,}", NO),
    ("{,\"quantity\":1}", NO),
    ("{\"quantity\":1 \"ticket\":\"x\"}", NO),
    ("{\"quantity\":1;\"ticket\":\"x\"}", NO),
    ("{'quantity':1}", NO),
    ("{quantity:1}", NO),
    ("{\"quantity\":1}//", NO),
    ("{\"quantity\":/**/1}", NO),
    ("{\"quantity\":1}\0", NO),
    // The same key twice, whatever it says.
    ("{\"quantity\":1,\"quantity\":1}", NO),
    ("{\"quantity\":1,\"quantity\":2}", NO),
    ("{\"ticket\":\"x\",\"ticket\":\"x\"}", NO),
    ("{\"quantity\":1,\"ticket\":\"x\",\"quantity\":1}", NO),
    // Fields that the call does not know.
    ("{\"Quantity\":1}", "400 unknown_field"),
    ("{\"quantity \":1}", "400 unknown_field"),
    ("{\"quantity\\u0000\":1}", "400 unknown_field"),
    ("{\"\\u0071uantity\":1}", "400 unknown_field"),
    ("{\"\":1}", "400 unknown_field"),
    ("{\"quantity\":1,\"price_minor\":0}", "400 unknown_field"),
    ("{\"quantity\":1,\"__proto__\":{}}", "400 unknown_field"),
    ("{\"buyer\":\"someone\",\"quantity\":1}", "400 unknown_field"),
    // A ticket that is no string.
    ("{\"ticket\":1}", "400 bad_request"),
    ("{\"ticket\":null}", "400 bad_request"),
    ("{\"ticket\":[\"x\"]}", "400 bad_request"),
    // Encodings.
    ("‹ef›‹bb›‹bf›{}", NO),
    ("{\"ticket\":\"‹ff›\"}", NO),
    ("{\"ticket\":\"‹c0›‹80›\"}", NO),
    ("{\"ticket\":\"‹ed›‹a0›‹80›\"}", NO),
    ("{\"ticket\":\"‹f8›‹88›‹80›‹80›‹80›\"}", NO),
    ("‹fe›‹ff›‹00›{‹00›}", NO),
    ("{‹00›}‹00›", NO),
    ("{\"ticket\":\"\\ud800\"}", NO),
    ("{\"ticket\":\"\\udc00\\ud800\"}", NO),
    ("{\"ticket\":\"\\x41\"}", NO),
    ("{\"ticket\":\"\\u12\"}", NO),
    ("{\"ticket\":\"\u{1}\"}", NO),
    ("{\"ticket\":\"a\nb\"}", NO),
    ("{\"ticket\":\"unended}", NO),
];

pub(crate) fn cases() -> Vec<Case> {
    let number =
        |&(number, verdict): &(&str, &str)| Case::text(&post(&format!("{{\"quantity\":{number}}}")), verdict);
    let mut cases: Vec<Case> = NUMBERS.iter().map(number).collect();
    cases.extend(BODIES.iter().map(|(body, verdict)| Case::text(&post(body), verdict)));
    let nested = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let own = [
        (nested(16), "400 unknown_field"),
        (nested(17), NO),
        (nested(1_500), NO),
        ("{\"x\":".repeat(700), NO),
        (format!("{{\"ticket\":\"{}\"}}", "t".repeat(4_000)), YES),
        (format!("{{\"{}\":1}}", "k".repeat(4_000)), "400 unknown_field"),
    ];
    cases.extend(own.iter().map(|(body, verdict)| Case::text(&post(body), verdict)));
    cases
}
