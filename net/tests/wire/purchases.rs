//! Item ids, subjects that look alike, idempotency keys, and who may name a buyer.

use crate::case::Case;

const YES: &str = "201 confirmed";
const NOBODY: &str = "401 unauthenticated";
const BAD_KEY: &str = "400 bad_header";

fn buy(item: &str, lines: &str) -> String {
    format!("POST /v1/items/{item}/orders HTTP/1.1¶Host: a¶{lines}Content-Length: 2¶¶{{}}")
}

/// Ids of items that are none, and of items that sell nothing.
const IDS: [(&str, &str); 26] = [
    ("7", YES),
    ("8", YES),
    ("0", "422 invalid_field"),
    ("07", "404 not_found"),
    ("007", "404 not_found"),
    ("+7", "404 not_found"),
    ("-7", "404 not_found"),
    ("7.0", "404 not_found"),
    ("7e0", "404 not_found"),
    ("0x7", "404 not_found"),
    ("%37", "404 not_found"),
    ("7%20", "404 not_found"),
    ("7%00", "404 not_found"),
    ("7;8", "404 not_found"),
    ("7,8", "404 not_found"),
    ("", "404 not_found"),
    ("99", "404 not_found"),
    ("2147483647", "404 not_found"),
    ("2147483648", "422 invalid_field"),
    ("4294967303", "422 invalid_field"),
    ("18446744073709551623", "422 invalid_field"),
    ("99999999999999999999999999", "422 invalid_field"),
    ("seven", "404 not_found"),
    ("11", "403 not_open"),
    ("12", "403 ended"),
    ("13", "409 sold_out"),
];

/// Lines that name a buyer, or fail to.
const NAMES: [(&str, &str); 20] = [
    ("X-Buyer: b#######¶", YES),
    ("x-BUYER:b#######¶", YES),
    ("X-Buyer:   b#######\t¶", YES),
    ("X-Buyer: b#######¶X-Buyer-Level: 255¶", YES),
    ("", NOBODY),
    ("X-Buyer:¶", NOBODY),
    ("X-Buyer: a b#######¶", NOBODY),
    ("X-Buyer: b#######¶X-Buyer: b#######¶", NOBODY),
    ("X-Buyer: b#######¶x-buyer: c#######¶", NOBODY),
    ("X-Buyer: ‹ff›#######¶", NOBODY),
    ("X-Buyer: ‹c0›‹80›#######¶", NOBODY),
    ("X-Buyer: \u{85}#######¶", NOBODY),
    ("X-Buyer: b\t#######¶", NOBODY),
    ("X_Buyer: b#######¶", NOBODY),
    ("X-Buyer : b#######¶", "400 bad_request, closes"),
    ("X-Buyer: b#######¶X-Buyer-Level: 256¶", NOBODY),
    ("X-Buyer: b#######¶X-Buyer-Level: -1¶", NOBODY),
    ("X-Buyer: b#######¶X-Buyer-Level: 01¶", NOBODY),
    ("X-Buyer: b#######¶X-Buyer-Level: 1¶X-Buyer-Level: 1¶", NOBODY),
    ("Authorization: Bearer b#######¶", NOBODY),
];

/// Subjects that look alike, two at a time: the second is another buyer, and gets an order of its own.
const ALIKE: [(&str, &str); 10] = [
    ("b#######", "B#######"),
    ("b#######", "b#######."),
    ("b#######", "\u{432}#######"),
    ("a#######", "\u{430}#######"),
    ("\u{e9}#######", "e\u{301}#######"),
    ("\u{212b}#######", "\u{c5}#######"),
    ("\u{fb01}#######", "fi#######"),
    ("b#######", "b#######\u{200b}"),
    ("\u{3a9}#######", "\u{2126}#######"),
    ("b0#######", "b\u{ff10}#######"),
];

const KEYS: [(&str, &str); 26] = [
    ("k", YES),
    ("\"k\"", YES),
    ("!~", YES),
    ("a,b;c=d", YES),
    (
        "012345678901234567890123456789012345678901234567890123456789012301234567890123456789012345678901234567890123456789012345678901230123456789012345678901234567890123456789012345678901234567890123012345678901234567890123456789012345678901234567890123456789012",
        YES,
    ),
    (
        "\"012345678901234567890123456789012345678901234567890123456789012301234567890123456789012345678901234567890123456789012345678901230123456789012345678901234567890123456789012345678901234567890123012345678901234567890123456789012345678901234567890123456789012\"",
        YES,
    ),
    ("", BAD_KEY),
    ("\"\"", BAD_KEY),
    ("\"", BAD_KEY),
    ("\"k", BAD_KEY),
    ("k\"", BAD_KEY),
    ("k\"k", BAD_KEY),
    ("\"k\"k\"", BAD_KEY),
    ("\"k\\\"", BAD_KEY),
    ("\"k\\\"k\"", BAD_KEY),
    ("a b", BAD_KEY),
    ("a\tb", BAD_KEY),
    ("k\u{e9}", BAD_KEY),
    ("‹ff›", BAD_KEY),
    (
        "0123456789012345678901234567890123456789012345678901234567890123012345678901234567890123456789012345678901234567890123456789012301234567890123456789012345678901234567890123456789012345678901230123456789012345678901234567890123456789012345678901234567890123",
        BAD_KEY,
    ),
    (
        "\"0123456789012345678901234567890123456789012345678901234567890123012345678901234567890123456789012345678901234567890123456789012301234567890123456789012345678901234567890123456789012345678901230123456789012345678901234567890123456789012345678901234567890123\"",
        BAD_KEY,
    ),
    ("k¶Idempotency-Key: k", BAD_KEY),
    ("k¶idempotency-key: l", BAD_KEY),
    ("k\0", "400 bad_request, closes"),
    ("k\u{7f}", "400 bad_request, closes"),
    ("k¶ l", "400 bad_request, closes"),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let named = |item: &str| buy(item, "X-Buyer: b#######¶");
    cases.extend(IDS.iter().map(|(id, verdict)| Case::text(&named(id), verdict)));
    cases.extend(NAMES.iter().map(|(lines, verdict)| Case::text(&buy("7", lines), verdict)));
    for (one, other) in ALIKE {
        let both = buy("7", &format!("X-Buyer: {one}¶")) + &buy("7", &format!("X-Buyer: {other}¶"));
        cases.push(Case::text(&both, "201 confirmed | 201 confirmed"));
        let again = buy("7", &format!("X-Buyer: {one}¶")).repeat(2);
        cases.push(Case::text(&again, "201 confirmed | 409 cap_reached"));
    }
    let keyed = |key: &str| buy("7", &format!("X-Buyer: b#######¶Idempotency-Key: {key}¶"));
    cases.extend(KEYS.iter().map(|(key, verdict)| Case::text(&keyed(key), verdict)));
    let long = |len: usize| buy("7", &format!("X-Buyer: b#######{}¶", "x".repeat(len - 8)));
    cases.push(Case::text(&long(255), YES));
    cases.push(Case::text(&long(256), NOBODY));
    cases.extend(retries());
    cases
}

/// The same key again: bare and quoted are one key, another payload is refused, another item
/// and another buyer are other purchases.
fn retries() -> Vec<Case> {
    let order = |item: u32, who: char, key: &str, body: &str| {
        format!(
            "POST /v1/items/{item}/orders HTTP/1.1¶Host: a¶X-Buyer: {who}#######¶\
             Idempotency-Key: {key}¶Content-Length: {}¶¶{body}",
            body.len()
        )
    };
    let (one, two) = ("{\"quantity\":1}", "{\"quantity\":2}");
    let rows = [
        ([order(8, 'b', "k", one), order(8, 'b', "k", one)], "201 confirmed | 201 confirmed again"),
        ([order(8, 'b', "k", one), order(8, 'b', "\"k\"", one)], "201 confirmed | 201 confirmed again"),
        ([order(8, 'b', "k", one), order(8, 'b', "k", "{}")], "201 confirmed | 201 confirmed again"),
        ([order(8, 'b', "k", one), order(8, 'b', "k", two)], "201 confirmed | 422 idempotency_key_reused"),
        ([order(8, 'b', "k", one), order(8, 'b', "K", one)], "201 confirmed | 201 confirmed"),
        ([order(8, 'b', "k", one), order(8, 'c', "k", one)], "201 confirmed | 201 confirmed"),
        ([order(8, 'b', "k", one), order(7, 'b', "k", one)], "201 confirmed | 201 confirmed"),
        ([order(7, 'b', "k", one), order(7, 'b', "l", one)], "201 confirmed | 409 cap_reached"),
        ([order(7, 'b', "k", two), order(7, 'b', "k", one)], "400 bad_quantity | 201 confirmed"),
    ];
    rows.iter().map(|(two, verdict)| Case::text(&two.concat(), verdict)).collect()
}
