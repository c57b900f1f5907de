//! JSON lines: one object a line, ended by a line feed; the last line may go without.
//!
//! The rules of an object are those of every other body of this server ([`crate::http::body`]).
//! A line that is too long is one record, which is refused; it is skipped, never buffered. Most lines
//! are as gateways usually write them: [`super::usual`] reads those before they come here.

use stampede_core::command::Movement;
use stampede_core::limits::UNIX_MILLIS_MAX;
use stampede_core::types::{ItemId, OrderId, Quantity};

use super::record::{Purchase, Record, Step, is_key, is_name};
use super::usual;
use crate::http::chars::decimal;
use crate::http::conn::Left;
use crate::http::json::{FieldsError, Others, Text, Value, each_field};
use crate::http::limits::BATCH_LINE_BYTES_MAX;
use crate::http::problem::Code;

const FIELDS: [&str; 10] =
    ["item_id", "buyer", "quantity", "key", "level", "since_s", "ticket", "kind", "order_id", "payment_ref"];
/// Fields before this one are a purchase's own.
const KIND: usize = 7;

/// Reads a body; see the module.
#[derive(Debug, Default)]
pub struct Reader {
    /// The current line was refused for its length, and its end has not come.
    too_long: bool,
    /// Texts that were written with escapes, resolved.
    plain: [String; 2],
}

impl Reader {
    /// See [`super::Decoder::next`].
    pub fn next<'a>(&'a mut self, piece: &'a [u8], left: Left) -> Step<'a> {
        // What follows a line that is too long is no line.
        if !self.too_long
            && let Some((record, len)) = usual::read(piece, left)
        {
            return Step::Record(Ok(record), len);
        }
        self.next_by_rules(piece, left)
    }

    /// The same, slower: also of a usual line by the rules alone. Both give the same steps.
    #[inline(never)]
    pub fn next_by_rules<'a>(&'a mut self, piece: &'a [u8], left: Left) -> Step<'a> {
        let window = &piece[..piece.len().min(BATCH_LINE_BYTES_MAX + 1)];
        let (line, len) = match memchr::memchr(b'\n', window) {
            Some(at) => (&piece[..at], at + 1),
            None if piece.len() > BATCH_LINE_BYTES_MAX => return self.read_over(piece),
            None if Left::Bytes(piece.len()) == left => (piece, piece.len()),
            None => return Step::NeedMore,
        };
        if std::mem::take(&mut self.too_long) {
            return Step::Record(Err(Code::BadJson), len);
        }
        Step::Record(parse(line, &mut self.plain), len)
    }

    /// A line that is too long: what has come of it is discarded, and the answer comes with
    /// its end.
    fn read_over<'a>(&mut self, piece: &[u8]) -> Step<'a> {
        self.too_long = true;
        Step::Skip(BATCH_LINE_BYTES_MAX.min(piece.len()))
    }
}

/// The values of a line, as they came.
#[derive(Default)]
struct Given<'a> {
    kind: Option<&'a str>,
    target: [Option<u64>; 2],
    names: [Option<Text<'a>>; 3],
    quantity: Option<u64>,
    level: u8,
    since_s: Option<u64>,
    ticket: Option<&'a str>,
    /// Whether a field was given that only a purchase has, or only a movement.
    of: [bool; 2],
}

/// The indexes of the fields in [`Given`].
const BUYER: usize = 0;
const KEY: usize = 1;
const PAYMENT_REF: usize = 2;

impl<'a> Given<'a> {
    fn take(&mut self, index: usize, value: Value<'a>) -> Result<(), Code> {
        let bad = Code::BadRequest;
        match index {
            0 => self.target[0] = Some(value.as_u64().ok_or(bad)?),
            1 => self.names[BUYER] = Some(value.as_text().ok_or(bad)?),
            2 => self.quantity = Some(value.as_u64().ok_or(Code::BadQuantity)?),
            3 => self.names[KEY] = Some(value.as_text().ok_or(bad)?),
            4 => self.level = value.as_u64().and_then(|level| u8::try_from(level).ok()).ok_or(bad)?,
            5 => {
                let in_time = |&since_s: &u64| since_s <= UNIX_MILLIS_MAX / 1_000;
                self.since_s = Some(value.as_u64().filter(in_time).ok_or(bad)?);
            }
            6 => self.ticket = Some(value.as_text().ok_or(bad)?.raw()),
            KIND => self.kind = Some(value.as_text().and_then(Text::plain).ok_or(bad)?),
            8 => {
                let digits = value.as_text().and_then(Text::plain).ok_or(bad)?;
                self.target[1] = Some(decimal(digits.as_bytes()).ok_or(bad)?);
            }
            _ => self.names[PAYMENT_REF] = Some(value.as_text().ok_or(Code::InvalidField)?),
        }
        if index != KIND {
            self.of[usize::from(index > KIND)] = true;
        }
        Ok(())
    }
}

fn parse<'a>(line: &'a [u8], plain: &'a mut [String; 2]) -> Result<Record<'a>, Code> {
    let mut given = Given::default();
    each_field(line, &FIELDS, Others::Refuse, |index, value| given.take(index, value)).map_err(|error| {
        match error {
            FieldsError::Json => Code::BadJson,
            FieldsError::Unknown(_) => Code::UnknownField,
            FieldsError::Refused(code) => code,
        }
    })?;
    let movement = match given.kind {
        None | Some("purchase") => return purchase(&given, plain),
        Some("pay") => Movement::Pay,
        Some("refund") => Movement::Refund,
        Some("cancel") => Movement::Cancel,
        Some(_) => return Err(Code::BadRequest),
    };
    if given.of[0] {
        return Err(Code::UnknownField);
    }
    let order = OrderId::from_u64(given.target[1].ok_or(Code::BadRequest)?).ok_or(Code::NotFound)?;
    let [scratch, _] = plain;
    let reference = given.names[PAYMENT_REF].map(|text| decoded(text, scratch));
    match reference {
        Some(reference) if !is_name(reference) => Err(Code::InvalidField),
        None if movement == Movement::Pay => Err(Code::InvalidField),
        reference => Ok(Record::Move { order, movement, reference: reference.unwrap_or_default() }),
    }
}

fn purchase<'a>(given: &Given<'a>, plain: &'a mut [String; 2]) -> Result<Record<'a>, Code> {
    let bad = Code::BadRequest;
    if given.of[1] {
        return Err(Code::UnknownField);
    }
    let [of_subject, of_key] = plain;
    let subject = decoded(given.names[BUYER].ok_or(bad)?, of_subject);
    let key = given.names[KEY].map(|text| decoded(text, of_key));
    if !is_name(subject) || key.is_some_and(|key| !is_key(key)) {
        return Err(bad);
    }
    let quantity = given.quantity.map_or(Some(Quantity::ONE), Quantity::new);
    Ok(Record::Purchase(Purchase {
        item: ItemId::new(given.target[0].ok_or(bad)?).ok_or(Code::InvalidField)?,
        subject,
        quantity: quantity.ok_or(Code::BadQuantity)?,
        key: key.unwrap_or_default(),
        level: given.level,
        since_s: given.since_s,
        ticket: given.ticket,
    }))
}

fn decoded<'a>(text: Text<'a>, scratch: &'a mut String) -> &'a [u8] {
    match text.plain() {
        Some(plain) => plain.as_bytes(),
        None => {
            *scratch = text.decoded().into_owned();
            scratch.as_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::batch::Format;

    fn read(body: &[u8], cut: usize) -> Vec<String> {
        crate::http::batch::tests::read(Format::Lines, body, cut, false)
    }

    #[test]
    fn lines_do_not_depend_on_how_they_were_cut() {
        let body = concat!(
            r#"{"item_id":7,"buyer":"ann","key":"k1"}"#,
            "\n",
            r#"{"buyer":"\u0062ob","item_id":7,"quantity":2,"level":3,"since_s":9,"ticket":"t"}"#,
            "\r\n\n",
            r#"{"kind":"pay","order_id":"30064771073","payment_ref":"r\u0021"}"#,
            "\n",
            r#"{"kind":"refund","order_id":"30064771073"}"#,
            "\n",
            r#"{"kind":"cancel","order_id":"30064771073"}"#,
        );
        let whole = read(body.as_bytes(), body.len());
        assert_eq!(whole.len(), 6, "{whole:?}");
        assert!(whole[0].contains("[97, 110, 110]") && whole[1].contains("[98, 111, 98]"), "{whole:?}");
        assert_eq!(whole[2], "Err(BadJson)", "an empty line is a record that says nothing");
        assert!(whole[3].contains("Pay") && whole[3].contains("[114, 33]"), "{whole:?}");
        assert!(whole[4].contains("Refund") && whole[5].contains("Cancel"), "{whole:?}");
        (1..body.len()).for_each(|cut| assert_eq!(read(body.as_bytes(), cut), whole, "cut into {cut}"));
        // The line feed behind the last line begins no other.
        assert_eq!(read(format!("{body}\n").as_bytes(), 5), whole);
    }

    #[test]
    fn what_is_wrong_with_one_line_is_its_answer_alone() {
        let good = r#"{"item_id":7,"buyer":"ann"}"#;
        let long = format!(r#"{{"item_id":7,"buyer":"ann"}}{}"#, " ".repeat(BATCH_LINE_BYTES_MAX));
        let cases = [
            ("", "BadJson"),
            ("{", "BadJson"),
            ("[]", "BadJson"),
            (r#"{"item_id":7,"item_id":7,"buyer":"ann"}"#, "BadJson"),
            ("{}", "BadRequest"),
            (r#"{"item_id":7}"#, "BadRequest"),
            (r#"{"item_id":"7","buyer":"ann"}"#, "BadRequest"),
            (r#"{"item_id":0,"buyer":"ann"}"#, "InvalidField"),
            (r#"{"item_id":2147483648,"buyer":"ann"}"#, "InvalidField"),
            (r#"{"item_id":7,"buyer":""}"#, "BadRequest"),
            (r#"{"item_id":7,"buyer":"a\n"}"#, "BadRequest"),
            (r#"{"item_id":7,"buyer":"ann","key":""}"#, "BadRequest"),
            (r#"{"item_id":7,"buyer":"ann","key":"a b"}"#, "BadRequest"),
            (r#"{"item_id":7,"buyer":"ann","quantity":0}"#, "BadQuantity"),
            (r#"{"item_id":7,"buyer":"ann","quantity":1.0}"#, "BadQuantity"),
            (r#"{"item_id":7,"buyer":"ann","level":256}"#, "BadRequest"),
            (r#"{"item_id":7,"buyer":"ann","x":1}"#, "UnknownField"),
            (r#"{"item_id":7,"buyer":"ann","order_id":"1"}"#, "UnknownField"),
            (r#"{"kind":"pay","order_id":"30064771073"}"#, "InvalidField"),
            (r#"{"kind":"pay","order_id":"30064771073","payment_ref":""}"#, "InvalidField"),
            (r#"{"kind":"pay","order_id":30064771073,"payment_ref":"r"}"#, "BadRequest"),
            (r#"{"kind":"pay","order_id":"7","payment_ref":"r"}"#, "NotFound"),
            (r#"{"kind":"pay","order_id":"30064771073","payment_ref":"r","buyer":"ann"}"#, "UnknownField"),
            (r#"{"kind":"steal","order_id":"30064771073"}"#, "BadRequest"),
            (long.as_str(), "BadJson"),
        ];
        for (line, code) in cases {
            for cut in [3, 64, 3 * BATCH_LINE_BYTES_MAX] {
                let seen = read(format!("{good}\n{line}\n{good}").as_bytes(), cut);
                assert_eq!((seen.len(), &*seen[1]), (3, &*format!("Err({code})")), "{line}");
                assert!(seen[0].starts_with("Ok(") && seen[0] == seen[2], "{seen:?}");
            }
        }
    }

    #[test]
    fn the_bound_of_a_line_is_exact_however_it_is_cut() {
        for (more, fits) in [(0, true), (1, false)] {
            let head = r#"{"item_id":7,"buyer":"ann"}"#;
            let line = format!("{head}{}", " ".repeat(BATCH_LINE_BYTES_MAX + more - head.len()));
            for text in [line.clone(), format!("{line}\n"), format!("{line}\n{head}")] {
                for cut in [1, 1_000, text.len()] {
                    let seen = read(text.as_bytes(), cut);
                    assert_eq!(seen[0].starts_with("Ok("), fits, "{more} more, cut into {cut}");
                }
            }
        }
    }
}
