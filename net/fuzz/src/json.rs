//! The JSON reader, against serde_json: what both take says the same, and what ours refuses
//! alone it refuses for a reason of its own.
//!
//! The first byte says for which call the rest is the body.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use stampede_net::http::body;
use stampede_net::http::problem::{Code, Problem};

/// Deepest nesting that ours takes, below the object itself.
const DEPTH: usize = 16;

/// The fields of an object, in order, with those that stand twice.
struct Fields(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Fields(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

impl Fields {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
    fn twice(&self) -> bool {
        self.0.iter().enumerate().any(|(at, (name, _))| self.0[..at].iter().any(|(other, _)| other == name))
    }
    fn only(&self, names: &[&str]) -> bool {
        self.0.iter().all(|(name, _)| names.contains(&name.as_str()))
    }
}

/// Reads a body with both readers.
///
/// # Panics
/// When they disagree.
pub fn check(data: &[u8]) {
    let Some((&call, body)) = data.split_first() else { return };
    match call % 5 {
        0 => check_purchase(body),
        1 => check_ticket(body),
        2 => check_restock(body),
        3 => check_payment(body),
        _ => check_patch(body),
    }
}

/// Judges a refusal; gives back the fields of a body that was taken.
fn judge(body: &[u8], names: &[&str], refused: Option<&Problem>) -> Option<Fields> {
    let theirs = serde_json::from_slice::<Fields>(body);
    match (refused, theirs) {
        (None, Err(error)) => panic!("taken, and to serde_json {error}"),
        (None, Ok(fields)) => {
            assert!(fields.only(names) && !fields.twice(), "taken with a field that is not known, or twice");
            Some(fields)
        }
        (Some(problem), theirs) => {
            judge_refusal(body, names, problem, theirs);
            None
        }
    }
}

fn judge_refusal(body: &[u8], names: &[&str], problem: &Problem, theirs: Result<Fields, serde_json::Error>) {
    match (problem.code, theirs) {
        (Code::BadJson, Ok(fields)) => {
            assert!(fields.twice() || depth(body) > DEPTH, "JSON to serde_json, and not to us");
        }
        (Code::UnknownField, Ok(fields)) => {
            let escaped = body.contains(&b'\\');
            assert!(escaped || !fields.only(names), "every field is known");
        }
        // A number beyond all floats is JSON to us, and none to serde_json.
        (Code::BadJson, Err(_)) => {}
        (_, Err(error)) => assert!(is_huge(&error), "JSON to us, and not to serde_json: {error}"),
        (_, Ok(_)) => {}
    }
}

fn is_huge(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("number out of range")
}

/// How deep brackets stand in one another, those in strings aside; the object itself is not counted.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for &byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest.saturating_sub(1)
}

/// Where every field has a default, no body at all is an empty object.
const fn or_empty(body: &[u8]) -> &[u8] {
    if body.is_empty() { b"{}" } else { body }
}

fn check_purchase(body: &[u8]) {
    let taken = body::purchase(body);
    let fields = judge(or_empty(body), &["quantity", "ticket"], taken.as_ref().err());
    let (Ok(purchase), Some(fields)) = (taken, fields) else { return };
    let quantity = fields.get("quantity").map_or(Some(1), Value::as_u64);
    assert_eq!(Some(u64::from(purchase.quantity.get())), quantity, "another quantity");
    match (purchase.ticket, fields.get("ticket")) {
        (None, None) => {}
        (Some(ours), Some(Value::String(theirs))) => {
            assert!(ours == theirs || ours.contains('\\'), "another ticket");
        }
        pair => panic!("another ticket: {pair:?}"),
    }
}

fn check_ticket(body: &[u8]) {
    let taken = body::ticket(body);
    let fields = judge(or_empty(body), &["challenge", "answer"], taken.as_ref().err());
    let (Ok(solved), Some(fields)) = (taken, fields) else { return };
    assert_eq!(solved.is_some(), fields.get("challenge").is_some(), "another challenge");
    assert_eq!(solved.is_some(), fields.get("answer").is_some(), "another answer");
}

fn check_restock(body: &[u8]) {
    let taken = body::restock(body);
    let fields = judge(body, &["add"], taken.as_ref().err());
    let (Ok(add), Some(fields)) = (taken, fields) else { return };
    assert_eq!(Some(add), fields.get("add").and_then(Value::as_i64), "another number");
}

fn check_payment(body: &[u8]) {
    let taken = body::pay(body);
    let fields = judge(body, &["payment_ref", "take_again"], taken.as_ref().err());
    let (Ok(pay), Some(fields)) = (taken, fields) else { return };
    assert_eq!(
        Some(pay.payment_ref.as_str()),
        fields.get("payment_ref").and_then(Value::as_str),
        "another reference"
    );
}

fn check_patch(body: &[u8]) {
    const NAMES: [&str; 15] = [
        "name",
        "price_minor",
        "currency",
        "stock",
        "opens_at_ms",
        "closes_at_ms",
        "cap",
        "payment",
        "hold_ms",
        "ticket",
        "challenge",
        "min_level",
        "min_account_age_s",
        "admit_per_s",
        "draw_ms",
    ];
    let mut scratch = String::new();
    let taken = body::item_patch(body, &mut scratch);
    let fields = judge(body, &NAMES, taken.as_ref().err());
    let (Ok(patch), Some(fields)) = (taken, fields) else { return };
    assert_eq!(patch.name, fields.get("name").and_then(Value::as_str), "another name");
    let numbers = [
        ("price_minor", patch.price_minor),
        ("stock", patch.stock),
        ("opens_at_ms", patch.opens_at_ms.map(|time| time.0)),
        ("closes_at_ms", patch.closes_at_ms.map(|time| time.0)),
        ("cap", patch.cap.map(u64::from)),
        ("hold_ms", patch.hold_ms),
        ("min_level", patch.min_level.map(u64::from)),
        ("min_account_age_s", patch.min_account_age_s.map(u64::from)),
        ("admit_per_s", patch.admit_per_s.map(u64::from)),
        ("draw_ms", patch.draw_ms.map(u64::from)),
    ];
    for (name, ours) in numbers {
        assert_eq!(ours, fields.get(name).and_then(Value::as_u64), "another {name}");
    }
}

/// The values that an object has under these names, the last of each; of the others serde_json says
/// only that they are JSON, so that a number beyond all floats may be among them.
pub(crate) fn members(text: &[u8], names: &'static [&'static str]) -> serde_json::Result<Map<String, Value>> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let members = Named(names).deserialize(&mut reader)?;
    reader.end()?;
    Ok(members)
}

struct Named(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Named {
    type Value = Map<String, Value>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Named {
    type Value = Map<String, Value>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if self.0.contains(&name.as_str()) {
                members.insert(name, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(members)
    }
}

/// Bodies that are right, and some that are nearly so.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts: [(u8, &str); 15] = [
        (0, r#"{"quantity":1,"ticket":"AbC-_9"}"#),
        (0, r#" { "quantity" : 2 } "#),
        (0, r#"{"quantity":1,"quantity":2}"#),
        (0, r#"{"ticket":"\u0041\ud83d\ude00\n"}"#),
        (0, r#"{"x":[1,-2.5e+3,true,false,null,{"y":[]}]}"#),
        (1, r#"{"challenge":"abc","answer":"12"}"#),
        (1, r#"{"challenge":"abc","answer":12}"#),
        (1, r#"{"challenge":"abc","answer":1e999}"#),
        (1, "{}"),
        (2, r#"{"add":-17}"#),
        (2, r#"{"add":1e3}"#),
        (3, r#"{"payment_ref":"pay-1"}"#),
        (3, r#"{"payment_ref":"\"\\\/\b\f\r\t"}"#),
        (4, r#"{"name":"phone","price_minor":499900,"currency":"CNY","stock":100,"cap":1,"payment":"hold"}"#),
        (4, r#"{"opens_at_ms":1,"closes_at_ms":2,"hold_ms":3,"ticket":"required","challenge":"always"}"#),
    ];
    texts.map(|(call, text)| [&[call], text.as_bytes()].concat()).into()
}
