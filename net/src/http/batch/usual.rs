//! Lines as gateways usually write them, read by direct comparison in one pass.
//!
//! ```text
//! {"item_id":1,"buyer":"alice","quantity":1,"key":"k","level":3,"since_s":1700000000,"ticket":"t"}
//! {"kind":"pay","order_id":"4294967297","payment_ref":"pi_3K"}
//! ```
//!
//! That is: fields in the order of docs/BATCH.md, no space, no escape, texts of printable ASCII.
//! Only valid records are read here. Whatever is written otherwise, or would be refused, is left to
//! [`super::lines`], so that there is one place that judges; this one never disagrees with it
//! (`usual_lines_are_read_as_all_others` and the fuzz target `batch`).

use stampede_core::command::Movement;
use stampede_core::limits::{
    IDEMPOTENCY_KEY_BYTES_MAX, PAYMENT_REF_BYTES_MAX, SUBJECT_BYTES_MAX, UNIX_MILLIS_MAX,
};
use stampede_core::types::{ItemId, OrderId, Quantity};

use super::record::{Purchase, Record};
use crate::http::conn::Left;
use crate::http::limits::BATCH_LINE_BYTES_MAX;

/// Most digits of a number here: as many as always fit in 64 bits.
const DIGITS_MAX: usize = 19;

/// The record at the start of `piece`, which is what has come of what is `left` of the body,
/// and how long its line is, line feed included. `None`: see the module, or it has not all come.
pub(super) fn read(piece: &[u8], left: Left) -> Option<(Record<'_>, usize)> {
    let mut line = Line { rest: piece };
    let record = match line.kind()? {
        None => line.purchase()?,
        Some(movement) => line.movement(movement)?,
    };
    line.expect(b"}")?;
    let len = piece.len() - line.rest.len();
    let ended = match line.rest.first() {
        Some(&byte) => (byte == b'\n').then_some(len + 1),
        None => (Left::Bytes(piece.len()) == left).then_some(len),
    };
    (len <= BATCH_LINE_BYTES_MAX).then_some((record, ended?))
}

/// The rest of a line, and what follows it.
struct Line<'a> {
    rest: &'a [u8],
}

impl<'a> Line<'a> {
    /// The brace and the kind, if there is one; `None` within is a purchase.
    #[inline]
    fn kind(&mut self) -> Option<Option<Movement>> {
        if !self.take(b"{\"kind\":\"") {
            return self.take(b"{").then_some(None);
        }
        match () {
            () if self.take(b"pay\",") => Some(Some(Movement::Pay)),
            () if self.take(b"refund\",") => Some(Some(Movement::Refund)),
            () if self.take(b"cancel\",") => Some(Some(Movement::Cancel)),
            () if self.take(b"purchase\",") => Some(None),
            () => None,
        }
    }

    /// The fields of a purchase, between the braces.
    #[inline]
    fn purchase(&mut self) -> Option<Record<'a>> {
        self.expect(b"\"item_id\":")?;
        let item = ItemId::new(self.number()?)?;
        self.expect(b",\"buyer\":\"")?;
        let subject = self.text(b' ', SUBJECT_BYTES_MAX)?;
        let quantity = match self.take(b",\"quantity\":") {
            true => Quantity::new(self.number()?)?,
            false => Quantity::ONE,
        };
        let key = match self.take(b",\"key\":\"") {
            true => self.text(b'!', IDEMPOTENCY_KEY_BYTES_MAX)?,
            false => b"",
        };
        let level = match self.take(b",\"level\":") {
            true => u8::try_from(self.number()?).ok()?,
            false => 0,
        };
        let since_s = match self.take(b",\"since_s\":") {
            true => Some(self.number().filter(|&since_s| since_s <= UNIX_MILLIS_MAX / 1_000)?),
            false => None,
        };
        let ticket = match self.take(b",\"ticket\":\"") {
            true => Some(str::from_utf8(self.text(b' ', BATCH_LINE_BYTES_MAX)?).ok()?),
            false => None,
        };
        Some(Record::Purchase(Purchase { item, subject, quantity, key, level, since_s, ticket }))
    }

    /// The fields of a movement, behind its kind.
    #[inline]
    fn movement(&mut self, movement: Movement) -> Option<Record<'a>> {
        self.expect(b"\"order_id\":\"")?;
        let order = OrderId::from_u64(self.number()?)?;
        self.expect(b"\"")?;
        let reference = match self.take(b",\"payment_ref\":\"") {
            true => self.text(b' ', PAYMENT_REF_BYTES_MAX)?,
            false if movement == Movement::Pay => return None,
            false => b"",
        };
        Some(Record::Move { order, movement, reference })
    }

    #[inline]
    fn take(&mut self, expected: &[u8]) -> bool {
        let rest = self.rest.strip_prefix(expected);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    #[inline]
    fn expect(&mut self, expected: &[u8]) -> Option<()> {
        self.take(expected).then_some(())
    }

    /// A decimal number without sign or leading zeros.
    #[inline]
    fn number(&mut self) -> Option<u64> {
        let (mut value, mut len) = (0u64, 0);
        while let Some(digit) =
            self.rest.get(len).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10)
        {
            // Wraps only behind more digits than are taken.
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            len += 1;
        }
        let canonical = (1..=DIGITS_MAX).contains(&len) && (len == 1 || self.rest[0] != b'0');
        self.rest = &self.rest[len..];
        canonical.then_some(value)
    }

    /// 1 to `bytes_max` characters of printable ASCII from `first` on, and the quote behind them.
    #[inline]
    fn text(&mut self, first: u8, bytes_max: usize) -> Option<&'a [u8]> {
        let (text, rest) = self.rest.split_at_checked(plain_len(self.rest, first))?;
        self.rest = rest;
        self.expect(b"\"")?;
        (1..=bytes_max).contains(&text.len()).then_some(text)
    }
}

/// How many bytes stand before the first that is no printable ASCII from `first` on, a quote or
/// a backslash. Looks at eight of them at a time.
///
/// A byte of `odd` has its highest bit set where a byte was found, and perhaps where one follows
/// such a byte: the lowest is right.
#[inline]
fn plain_len(bytes: &[u8], first: u8) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const TOPS: u64 = u64::from_le_bytes([0x80; 8]);
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word;
    let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let mut len = 0;
    while let Some(chunk) = bytes[len..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        // One more than 0x7E has its highest bit set, as all above has already.
        let high = word | word.wrapping_add(ONES);
        let odd = (high | below(word, first) | is(word, b'"') | is(word, b'\\')) & TOPS;
        if odd != 0 {
            return len + odd.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    let is_plain = |&byte: &u8| (first..0x7F).contains(&byte) && byte != b'"' && byte != b'\\';
    len + bytes[len..].iter().take_while(|byte| is_plain(byte)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Step;
    use super::super::lines::Reader;
    use super::*;

    /// Every step through a body whose bytes come `cut` at a time, as text; `by_rules`: without
    /// this module.
    fn steps(body: &[u8], cut: usize, by_rules: bool) -> Vec<String> {
        let (mut reader, mut seen, mut at, mut come) = (Reader::default(), Vec::new(), 0, 0);
        while at < body.len() {
            let (piece, left) = (&body[at..come], Left::Bytes(body.len() - at));
            let step = if by_rules { reader.next_by_rules(piece, left) } else { reader.next(piece, left) };
            match step {
                Step::Record(record, len) => {
                    seen.push(format!("{len} {record:?}"));
                    at += len;
                }
                Step::Skip(len) => {
                    seen.push(format!("skip {len}"));
                    at += len;
                }
                Step::NeedMore => come = (come + cut).min(body.len()),
                Step::Refused(problem) => panic!("{problem:?}"),
            }
        }
        seen
    }

    /// A field as gateways write it, or nearly so: numbers around every bound, texts with all that
    /// a text may not have.
    fn field() -> impl Strategy<Value = String> {
        let number = prop_oneof![
            4 => (0u64..300).prop_map(|number| number.to_string()),
            1 => any::<u64>().prop_map(|number| number.to_string()),
            1 => prop::sample::select(vec![
                "00", "07", "-1", "1.0", "1e3", "2147483647", "2147483648", "4294967297",
                "253402300799", "253402300800", "9999999999999999999", "10000000000000000000",
                "18446744073709551616", "null", "\"7\"", " 7", "",
            ]).prop_map(str::to_owned),
        ];
        let text = prop_oneof![
            4 => "[a-z0-9-]{1,20}",
            1 => "[ -~]{0,70}",
            1 => prop::sample::select(vec![
                "", "\\u0061", "\\n", "\\\"", "\u{e9}", "\u{7f}", "\u{80}", "\t", "a b", "30064771073",
                "9223372032559808513", "99999999999999999999",
            ]).prop_map(str::to_owned),
            1 => (60usize..70).prop_map(|len| "x".repeat(len)),
        ];
        let names = prop::sample::select(vec![
            ("item_id", true),
            ("buyer", false),
            ("quantity", true),
            ("key", false),
            ("level", true),
            ("since_s", true),
            ("ticket", false),
            ("order_id", false),
            ("payment_ref", false),
            ("x", true),
        ]);
        (names, number, text).prop_map(|((name, is_number), number, text)| match is_number {
            true => format!("\"{name}\":{number}"),
            false => format!("\"{name}\":\"{text}\""),
        })
    }

    /// A line in the order of the documents with some fields left out, or of any fields.
    fn line() -> impl Strategy<Value = String> {
        let order = prop_oneof![Just("30064771073"), Just("9223372032559808513"), Just("7")];
        let kind = prop::sample::select(vec!["pay", "refund", "cancel", "purchase", "steal"]);
        let movement = (kind, order, prop::option::of("[!-~]{1,66}")).prop_map(|(kind, order, reference)| {
            let reference = reference.map_or_else(String::new, |text| format!(",\"payment_ref\":\"{text}\""));
            format!("{{\"kind\":\"{kind}\",\"order_id\":\"{order}\"{reference}}}")
        });
        let more = [
            ",\"quantity\":2",
            ",\"key\":\"k-1\"",
            ",\"level\":3",
            ",\"since_s\":1700000000",
            ",\"ticket\":\"t\"",
        ];
        let usual = (prop::sample::subsequence(more.to_vec(), 0..=5), any::<bool>(), "[a-z]{1,64}").prop_map(
            |(more, with_kind, buyer)| {
                let kind = if with_kind { "\"kind\":\"purchase\"," } else { "" };
                format!("{{{kind}\"item_id\":7,\"buyer\":\"{buyer}\"{}}}", more.concat())
            },
        );
        let any_fields =
            prop::collection::vec(field(), 0..6).prop_map(|fields| format!("{{{}}}", fields.join(",")));
        let begun = prop::collection::vec(field(), 0..4).prop_map(|fields| {
            let more: String = fields.iter().map(|field| format!(",{field}")).collect();
            format!("{{\"item_id\":7,\"buyer\":\"ann\"{more}}}")
        });
        prop_oneof![3 => usual, 2 => movement, 2 => begun, 1 => any_fields]
    }

    /// What may happen to a byte of a line.
    fn spoil(body: &mut Vec<u8>, at: usize, how: u8, byte: u8) {
        match how % 4 {
            0 => body[at] = byte,
            1 => body.insert(at, byte),
            2 => drop(body.remove(at)),
            _ => body[at] = b"\"\\ ,:{}\n\r0\x7F\x80"[usize::from(byte) % 12],
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Written as usual or not, spoiled anywhere and cut anywhere: the same steps as by the
        /// rules alone.
        #[test]
        fn usual_lines_are_read_as_all_others(
            lines in prop::collection::vec((line(), prop::sample::select(vec!["\n", "\r\n", " \n"])), 1..4),
            spoils in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<u8>()), 0..3),
            cut in 1usize..300,
            unended in any::<bool>(),
        ) {
            let mut body = lines.iter().map(|(line, end)| format!("{line}{end}")).collect::<String>().into_bytes();
            if unended {
                body.pop();
            }
            for (at, how, byte) in &spoils {
                let at = at.index(body.len());
                spoil(&mut body, at, *how, *byte);
            }
            for cut in [cut, body.len().max(1)] {
                prop_assert_eq!(steps(&body, cut, false), steps(&body, cut, true));
            }
        }
    }

    #[test]
    fn usual_lines_are_taken_here() {
        let lines = [
            r#"{"item_id":1,"buyer":"alice"}"#,
            r#"{"item_id":2147483647,"buyer":"a b","quantity":1,"key":"order-17"}"#,
            r#"{"item_id":1,"buyer":"bob","key":"k","level":255,"since_s":0,"ticket":"AbC-_9"}"#,
            r#"{"kind":"purchase","item_id":1,"buyer":"alice","key":"order-17"}"#,
            r#"{"kind":"pay","order_id":"4294967297","payment_ref":"pi_3K"}"#,
            r#"{"kind":"refund","order_id":"4294967297"}"#,
            r#"{"kind":"cancel","order_id":"9223372032559808513","payment_ref":"why not"}"#,
        ];
        for line in lines {
            let ended = format!("{line}\n{{");
            let (record, len) = read(ended.as_bytes(), Left::Bytes(ended.len() + 9)).expect("as usual");
            assert_eq!(len, line.len() + 1);
            assert_eq!(
                steps(line.as_bytes(), 1, true),
                [format!("{} {:?}", line.len(), Ok::<_, ()>(record))]
            );
            assert_eq!(
                read(line.as_bytes(), Left::Bytes(line.len())),
                Some((record, line.len())),
                "the last of all"
            );
            for left in [Left::Bytes(line.len() + 1), Left::Unknown] {
                assert_eq!(read(line.as_bytes(), left), None, "more may come");
            }
        }
    }

    /// One thing is not as usual in each, at the start of a body, at its end and behind a line that
    /// is too long: the rules judge.
    #[test]
    fn what_is_nearly_usual_is_left_to_the_rules() {
        let long = "x".repeat(BATCH_LINE_BYTES_MAX + 9);
        let fields = [
            "\"quantity\":01",
            "\"quantity\":0",
            "\"quantity\":00",
            "\"quantity\":",
            "\"quantity\":-1",
            "\"quantity\":1.0",
            "\"quantity\":1e0",
            "\"quantity\":18446744073709551617",
            "\"quantity\":\"1\"",
            "\"key\":\"\"",
            "\"key\":\"a b\"",
            "\"key\":\"\u{7f}\"",
            "\"key\":\"\\u0061\"",
            "\"key\":\"a",
            "\"key\":1",
            "\"level\":256",
            "\"level\":007",
            "\"since_s\":253402300800",
            "\"since_s\":00",
            "\"ticket\":\"\"",
            "\"ticket\":\"\u{e9}\"",
            "\"ticket\":\"t\\",
            " \"key\":\"k\"",
            "\"key\":\"k\",",
            "\"key\":\"k\" ",
            "\"key\":\"k\",\"key\":\"k\"",
            "\"key\":\"k\",\"quantity\":1",
            "\"order_id\":\"30064771073\"",
            "\"x\":1",
        ];
        let purchases = fields.iter().map(|field| format!("{{\"item_id\":7,\"buyer\":\"ann\",{field}}}"));
        let others = [
            r#"{"item_id":07,"buyer":"ann"}"#,
            r#"{"item_id":0,"buyer":"ann"}"#,
            r#"{"item_id":7}"#,
            r#"{"item_id":7,"buyer":"ann"}}"#,
            r#"{"item_id":7,"buyer":"ann"} "#,
            r#"{"item_id":7,"buyer":"ann""#,
            r#"{"kind":"pay","order_id":"030064771073","payment_ref":"r"}"#,
            r#"{"kind":"pay","order_id":"18446744103774322689","payment_ref":"r"}"#,
            r#"{"kind":"pay","order_id":30064771073,"payment_ref":"r"}"#,
            r#"{"kind":"pay","order_id":"30064771073"}"#,
            r#"{"kind":"pay","order_id":"7","payment_ref":"r"}"#,
            r#"{"kind":"refund","order_id":"30064771073","payment_ref":""}"#,
            r#"{"kind":"steal","order_id":"30064771073"}"#,
            r#"{"kind":"pay"}"#,
            "{}",
            "{",
            "",
        ];
        for line in purchases.chain(others.map(str::to_owned)) {
            let usual = r#"{"item_id":7,"buyer":"ann"}"#;
            for body in [format!("{line}\n{usual}\n"), line.clone(), format!("{long}\n{line}\n{usual}")] {
                assert_eq!(steps(body.as_bytes(), 11, false), steps(body.as_bytes(), 11, true), "{line}");
            }
            assert_eq!(read(line.as_bytes(), Left::Bytes(line.len())), None, "{line}");
        }
        let hidden = format!("{}{}", " ".repeat(BATCH_LINE_BYTES_MAX), r#"{"item_id":7,"buyer":"ann"}"#);
        for cut in [11, BATCH_LINE_BYTES_MAX, hidden.len()] {
            let seen = steps(hidden.as_bytes(), cut, false);
            assert_eq!(seen, steps(hidden.as_bytes(), cut, true), "the end of a line that is too long");
        }
    }

    #[test]
    fn the_bound_of_a_line_is_that_of_the_rules() {
        for (ticket_bytes, taken) in [(BATCH_LINE_BYTES_MAX - 39, true), (BATCH_LINE_BYTES_MAX - 38, false)] {
            let ticket = "t".repeat(ticket_bytes);
            let body = format!("{{\"item_id\":7,\"buyer\":\"ann\",\"ticket\":\"{ticket}\"}}\n");
            assert_eq!(
                read(body.as_bytes(), Left::Bytes(body.len())).is_some(),
                taken,
                "{} bytes",
                body.len()
            );
            assert_eq!(steps(body.as_bytes(), 777, false), steps(body.as_bytes(), 777, true));
        }
    }

    #[test]
    fn every_byte_is_judged_at_every_place() {
        for first in [b' ', b'!'] {
            for byte in 0..=255u8 {
                let plain = (first..0x7F).contains(&byte) && byte != b'"' && byte != b'\\';
                for at in 0..20 {
                    let mut text = [b'~'; 20];
                    text[at] = byte;
                    assert_eq!(plain_len(&text, first), if plain { 20 } else { at }, "{byte:#x} at {at}");
                    text[19] = 0xFF;
                    let expected = if plain { 19 } else { at };
                    assert_eq!(plain_len(&text, first), expected, "{byte:#x} at {at}, and another behind");
                }
            }
        }
    }
}
