//! Bodies: strict JSON objects into typed values, one function per kind of call.
//!
//! The rules of all of them: UTF-8 without a byte order mark, one object and
//! nothing behind it, no key twice (`bad_json`); no field that the call does
//! not know (`unknown_field`); integers are written as integers. A purchase
//! allocates nothing. What a value means is decided elsewhere: here it is only
//! read. Next: [`crate::http::problem`] for what a refusal says.

use std::borrow::Cow;

use stampede_core::command::ItemPatch;
use stampede_core::item::{ChallengeRule, Payment, TicketRule};
use stampede_core::limits::{PAYMENT_REF_BYTES_MAX, STOCK_MAX, UNIX_MILLIS_MAX};
use stampede_core::types::{Quantity, UnixMillis};

use crate::http::field::{Field, Name};
use crate::http::head::Head;
use crate::http::json::{FieldsError, Others, Text, Value, each_field};
use crate::http::problem::{Code, Problem};

/// Checks that a body is what it has to be read as: one that is coded would not be JSON, and one of
/// another type was meant for somebody else. JSON is taken without a type, and as a form's where it
/// begins as JSON does: so `curl -d` sends it.
///
/// # Errors
/// `unsupported_media_type`.
pub fn check_media(head: &Head<'_>, body: &[u8], wants_json: bool) -> Result<(), Problem> {
    const CODED: Problem = Code::UnsupportedMediaType
        .problem()
        .detail("Content-Encoding: bodies are read as they are, without a coding");
    const NO_JSON: Problem = Code::UnsupportedMediaType.problem().detail("Content-Type: application/json");
    match head.field(Name::ContentEncoding) {
        Field::Absent => {}
        Field::Once(coding) if coding.eq_ignore_ascii_case(b"identity") => {}
        _ => return Err(CODED),
    }
    let media = match head.field(Name::ContentType) {
        _ if !wants_json => return Ok(()),
        Field::Absent => return Ok(()),
        Field::Once(media) => media.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii(),
        Field::Repeated(_) => return Err(NO_JSON),
    };
    let is_json = media.eq_ignore_ascii_case(b"application/json")
        || media.eq_ignore_ascii_case(b"text/json")
        || media.last_chunk::<5>().is_some_and(|end| end.eq_ignore_ascii_case(b"+json"));
    let as_form = media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded");
    let begins_as_json = body.trim_ascii_start().starts_with(b"{");
    if is_json || as_form && begins_as_json { Ok(()) } else { Err(NO_JSON) }
}

/// What a buyer sends to buy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Purchase<'a> {
    /// How many units; one if it was not said.
    pub quantity: Quantity,
    /// The ticket as it was written. A ticket has no character that JSON escapes,
    /// so one with a backslash is none of ours.
    pub ticket: Option<&'a str>,
}

/// `{"quantity":1,"ticket":"…"}`, both optional; no body at all is `{}`.
///
/// # Errors
/// `bad_json`, `unknown_field`, `bad_quantity`, or `bad_request` when the
/// ticket is not a string.
pub fn purchase(body: &[u8]) -> Result<Purchase<'_>, Problem> {
    let mut purchase = Purchase { quantity: Quantity::ONE, ticket: None };
    if let Some(quantity) = plain_quantity(body) {
        return Ok(Purchase { quantity, ..purchase });
    }
    optional_fields(body, &["quantity", "ticket"], |index, value| {
        if index == 0 {
            purchase.quantity = value.as_u64().and_then(Quantity::new).ok_or(Code::BadQuantity.problem())?;
        } else {
            let text = value.as_text().ok_or(Code::BadRequest.problem().field("ticket"))?;
            purchase.ticket = Some(text.raw());
        }
        Ok(())
    })?;
    Ok(purchase)
}

/// The quantity of a body that says nothing else, to the letter as most clients write it: no need
/// to take such a one apart.
fn plain_quantity(body: &[u8]) -> Option<Quantity> {
    match body.strip_prefix(b"{\"quantity\":")? {
        &[digit @ b'1'..=b'9', b'}'] => Quantity::new(u64::from(digit - b'0')),
        _ => None,
    }
}

/// A solved challenge, as it was written: neither part has a character that JSON escapes, so one
/// with a backslash is none of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Solved<'a> {
    /// The challenge.
    pub challenge: &'a str,
    /// The sum that it draws, or the number that its proof of work asks for.
    pub answer: &'a str,
}

/// `{}`, no body at all, or `{"challenge":"…","answer":"…"}`; the answer may be a number in plain digits, too.
///
/// # Errors
/// `bad_json`, `unknown_field`, or `bad_request` when one of the two is missing or of another type.
pub fn ticket(body: &[u8]) -> Result<Option<Solved<'_>>, Problem> {
    let (mut challenge, mut answer) = (None, None);
    optional_fields(body, &["challenge", "answer"], |index, value| {
        match (index, value) {
            (0, Value::Text(text)) => challenge = Some(text.raw()),
            (1, Value::Text(text)) => answer = Some(text.raw()),
            (1, Value::Number(digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                answer = Some(digits);
            }
            _ => return Err(missing(index)),
        }
        Ok(())
    })?;
    match (challenge, answer) {
        (Some(challenge), Some(answer)) => Ok(Some(Solved { challenge, answer })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(missing(0)),
        (Some(_), None) => Err(missing(1)),
    }
}

fn missing(index: usize) -> Problem {
    Code::BadRequest.problem().field(["challenge", "answer"][index])
}

/// The fields of `PUT /admin/items/{id}`, as the positions that [`put_field`] matches.
const ITEM_FIELDS: [&str; 15] = [
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

/// The settings of an item, all optional here: what is missing keeps its value, or
/// gets its default or a refusal when the item is created (see [`ItemPatch`]).
/// `name` receives the item's name if it was written with escapes.
///
/// # Errors
/// `bad_json`, `unknown_field`; `invalid_field` for a value of the wrong type or
/// out of the range of its type. What the values mean together is checked later.
pub fn item_patch<'a>(body: &'a [u8], name: &'a mut String) -> Result<ItemPatch<'a>, Problem> {
    let mut patch = ItemPatch::default();
    let mut given: Option<Text<'a>> = None;
    fields(body, &ITEM_FIELDS, |index, value| match ITEM_FIELDS[index] {
        "name" => {
            given = Some(value.as_text().ok_or(invalid("name", "must be a string"))?);
            Ok(())
        }
        field => put_field(&mut patch, field, value),
    })?;
    patch.name = given.map(|text| match text.decoded() {
        Cow::Borrowed(plain) => plain,
        Cow::Owned(decoded) => {
            *name = decoded;
            name.as_str()
        }
    });
    Ok(patch)
}

/// Times that are plausible in seconds alone: of the years 2000 to 2199, which are weeks of early 1970
/// in milliseconds.
const SECONDS_OF_OUR_TIME: std::ops::Range<u64> = 946_684_800..7_258_118_400;

/// What is wrong with such a time.
pub(crate) const IN_SECONDS: &str = "is in seconds, it seems: must be Unix milliseconds";

/// Whether a time was meant in seconds, though it is to be in milliseconds.
pub(crate) fn in_seconds(time: u64) -> bool {
    SECONDS_OF_OUR_TIME.contains(&time)
}

fn put_field(patch: &mut ItemPatch<'_>, field: &'static str, value: Value<'_>) -> Result<(), Problem> {
    let number = |max: u64, reason| value.as_u64().filter(|&n| n <= max).ok_or(invalid(field, reason));
    let narrow = || number(u64::from(u32::MAX), "must be an integer from 0 to 4294967295").map(|n| n as u32);
    let time = || match number(UNIX_MILLIS_MAX, "must be Unix milliseconds, before the year 10000")? {
        // In January or February 1970 no sale was open.
        seconds if in_seconds(seconds) => Err(invalid(field, IN_SECONDS)),
        ms => Ok(UnixMillis(ms)),
    };
    let word = value.as_text().and_then(Text::plain);
    match field {
        "price_minor" => patch.price_minor = Some(number(u64::MAX, "must be an integer from 0")?),
        "currency" => {
            let code = word.and_then(|text| text.as_bytes().try_into().ok());
            patch.currency = Some(code.ok_or(invalid(field, "must be three upper-case letters"))?);
        }
        "stock" => patch.stock = Some(number(STOCK_MAX, "must be an integer from 0 to 2^40")?),
        "opens_at_ms" => patch.opens_at_ms = Some(time()?),
        "closes_at_ms" => patch.closes_at_ms = Some(time()?),
        "cap" => patch.cap = Some(narrow()?),
        "payment" => {
            let rule = "must be \"on_order\", \"hold\" or \"on_payment\"";
            patch.payment = Some(word.and_then(Payment::from_name).ok_or(invalid(field, rule))?);
        }
        "hold_ms" => patch.hold_ms = Some(number(u64::MAX, "must be an integer from 0")?),
        "ticket" => {
            let rule = "must be \"never\" or \"required\"";
            patch.ticket = Some(word.and_then(TicketRule::from_name).ok_or(invalid(field, rule))?);
        }
        "challenge" => {
            let rule = "must be \"never\", \"suspicious\" or \"always\"";
            patch.challenge = Some(word.and_then(ChallengeRule::from_name).ok_or(invalid(field, rule))?);
        }
        "min_level" => patch.min_level = Some(number(255, "must be an integer from 0 to 255")? as u8),
        "min_account_age_s" => patch.min_account_age_s = Some(narrow()?),
        "admit_per_s" => patch.admit_per_s = Some(narrow()?),
        "draw_ms" => patch.draw_ms = Some(narrow()?),
        _ => return Err(invalid(field, "is not known")),
    }
    Ok(())
}

/// `{"add":n}`, where n may be negative but not zero.
///
/// # Errors
/// `bad_json`, `unknown_field`; `invalid_field` when it is missing or no such number.
pub fn restock(body: &[u8]) -> Result<i64, Problem> {
    const RANGE: &str = "must be an integer other than 0, from -2^40 to 2^40";
    let mut add = None;
    fields(body, &["add"], |_, value| {
        let fits = |n: &i64| *n != 0 && n.unsigned_abs() <= STOCK_MAX;
        add = Some(value.as_i64().filter(fits).ok_or(invalid("add", RANGE))?);
        Ok(())
    })?;
    add.ok_or(invalid("add", RANGE))
}

/// What a shop says of a payment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pay {
    /// Its reference.
    pub payment_ref: String,
    /// Whether units that went back are to be taken once more.
    pub take_again: bool,
}

/// `{"payment_ref":"…","take_again":false}`; the latter is optional.
///
/// # Errors
/// `bad_json`, `unknown_field`; `invalid_field` when the reference is missing, empty, longer
/// than 255 bytes, or has control characters, or when the other is no boolean.
pub fn pay(body: &[u8]) -> Result<Pay, Problem> {
    let (mut payment_ref, mut take_again) = (None, false);
    fields(body, &["payment_ref", "take_again"], |index, value| match index {
        0 => reference("payment_ref", value).map(|given| payment_ref = Some(given)),
        _ => {
            take_again = value.as_bool().ok_or(invalid("take_again", "must be true or false"))?;
            Ok(())
        }
    })?;
    let payment_ref = payment_ref.ok_or(invalid("payment_ref", REF_RULE))?;
    Ok(Pay { payment_ref, take_again })
}

/// What a shop gives back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refund {
    /// The payment; empty = not said.
    pub payment_ref: String,
    /// The refund's own reference; empty = none.
    pub refund_ref: String,
    /// How many units; `None` = all that are left.
    pub quantity: Option<Quantity>,
}

/// The body of `/refund`: none, or `{"payment_ref":"…","refund_ref":"…","quantity":1}`, each optional.
///
/// # Errors
/// `bad_json`, `unknown_field`; `invalid_field` as for [`pay`]; `bad_quantity`.
pub fn refund(body: &[u8]) -> Result<Refund, Problem> {
    let mut refund = Refund::default();
    optional_fields(body, &["payment_ref", "refund_ref", "quantity"], |index, value| match index {
        0 => reference("payment_ref", value).map(|given| refund.payment_ref = given),
        1 => reference("refund_ref", value).map(|given| refund.refund_ref = given),
        _ => {
            refund.quantity = value.as_u64().and_then(Quantity::new);
            refund.quantity.map(|_| ()).ok_or(Code::BadQuantity.problem())
        }
    })?;
    Ok(refund)
}

/// The body of `/cancel`: none, or `{"payment_ref":"…"}`, the payment that is called off with it.
///
/// # Errors
/// As [`refund`].
pub fn cancel(body: &[u8]) -> Result<String, Problem> {
    let mut payment_ref = String::new();
    optional_fields(body, &["payment_ref"], |_, value| {
        reference("payment_ref", value).map(|given| payment_ref = given)
    })?;
    Ok(payment_ref)
}

/// The body of `/extend`: `{"pay_by_ms":…}`.
///
/// # Errors
/// `bad_json`, `unknown_field`; `invalid_field` when it is missing or no time.
pub fn extend(body: &[u8]) -> Result<UnixMillis, Problem> {
    const RULE: &str = "must be Unix milliseconds, before the year 10000";
    let mut pay_by_ms = None;
    fields(body, &["pay_by_ms"], |_, value| {
        pay_by_ms = value.as_u64().filter(|&time| time <= UNIX_MILLIS_MAX);
        match pay_by_ms {
            Some(time) if in_seconds(time) => Err(invalid("pay_by_ms", IN_SECONDS)),
            _ => Ok(()),
        }
    })?;
    pay_by_ms.map(UnixMillis).ok_or(invalid("pay_by_ms", RULE))
}

const REF_RULE: &str = "must be a string of 1 to 255 bytes without control characters";

fn reference(field: &'static str, value: Value<'_>) -> Result<String, Problem> {
    clean(value, PAYMENT_REF_BYTES_MAX).ok_or(invalid(field, REF_RULE))
}

/// A text of 1 to so many bytes without control characters.
fn clean(value: Value<'_>, bytes_max: usize) -> Option<String> {
    let text = value.as_text()?.decoded().into_owned();
    let fits = (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then_some(text)
}

/// `{"reason":"…"}`: why an item is paused.
///
/// # Errors
/// `bad_json`, `unknown_field`; `invalid_field` when it is missing, empty, longer than 1,000
/// bytes, or has control characters.
pub fn mismatch(body: &[u8]) -> Result<String, Problem> {
    const BYTES_MAX: usize = 1_000;
    const RULE: &str = "must be a string of 1 to 1000 bytes without control characters";
    let mut reason = None;
    fields(body, &["reason"], |_, value| {
        clean(value, BYTES_MAX).ok_or(invalid("reason", RULE)).map(|given| reason = Some(given))
    })?;
    reason.ok_or(invalid("reason", RULE))
}

/// The body of a call that has nothing to say: none, or `{}`.
///
/// # Errors
/// `bad_json`, `unknown_field`.
pub fn empty(body: &[u8]) -> Result<(), Problem> {
    optional_fields(body, &[], |_, _| Ok(()))
}

/// As [`fields`]; no body at all is `{}`.
#[inline]
fn optional_fields<'a>(
    body: &'a [u8],
    names: &[&str],
    take: impl FnMut(usize, Value<'a>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    if body.is_empty() { Ok(()) } else { fields(body, names, take) }
}

fn fields<'a>(
    body: &'a [u8],
    names: &[&str],
    take: impl FnMut(usize, Value<'a>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    each_field(body, names, Others::Refuse, take).map_err(|error| match error {
        FieldsError::Json => Code::BadJson.problem(),
        FieldsError::Unknown(name) => Code::UnknownField.problem().field(name),
        FieldsError::Refused(problem) => problem,
    })
}

fn invalid(field: &str, reason: &'static str) -> Problem {
    Problem::invalid_field(field, reason)
}
