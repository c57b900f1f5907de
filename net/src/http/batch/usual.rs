//! Lines as gateways usually write them, read by direct comparison in one pass.
//!
//! ```text
//! {"item_id":1,"buyer":"alice","quantity":1,"key":"k","level":3,"since_s":1700000000,"ticket":"t"}
//! {"kind":"pay","order_id":"4294967297","payment_ref":"pi_3K"}
//! ```
//!
//! That is: fields in the order of docs/BATCH.md, no space, no escape, texts of printable ASCII.
//! Takes good records only. Whatever is written otherwise, or would be refused, is left to
//! [`super::lines`], so that there is one place that judges; this one never disagrees with it
//! (`usual_lines_are_read_as_all_others` and the fuzz target `batch`).

use stampede_core::command::Movement;
use stampede_core::limits::{
    IDEMPOTENCY_KEY_BYTES_MAX, PAYMENT_REF_BYTES_MAX, SUBJECT_BYTES_MAX, UNIX_MILLIS_MAX,
};
use stampede_core::types::{ItemId, OrderId, Quantity};

use super::{Purchase, Record};
use crate::http::limits::BATCH_LINE_BYTES_MAX;

/// Most digits of a number here: as many as always fit in 64 bits.
const DIGITS_MAX: usize = 19;

/// The record at the start of `piece`, which is what has come of the `left` bytes of the body,
/// and how long its line is, line feed included. `None`: see the module, or it has not all come.
pub(super) fn read(piece: &[u8], left: usize) -> Option<(Record<'_>, usize)> {
    let mut line = Line { rest: piece };
    let record = if line.take(b"{\"kind\":\"") {
        match () {
            () if line.take(b"pay\",") => line.movement(Movement::Pay)?,
            () if line.take(b"refund\",") => line.movement(Movement::Refund)?,
            () if line.take(b"cancel\",") => line.movement(Movement::Cancel)?,
            () if line.take(b"purchase\",") => line.purchase()?,
            () => return None,
        }
    } else {
        line.expect(b"{")?;
        line.purchase()?
    };
    line.expect(b"}")?;
    let len = piece.len() - line.rest.len();
    let ended = match line.rest.first() {
        Some(&byte) => (byte == b'\n').then_some(len + 1),
        None => (piece.len() == left).then_some(len),
    };
    (len <= BATCH_LINE_BYTES_MAX).then_some((record, ended?))
}

/// What was not read of a line, and what follows it.
struct Line<'a> {
    rest: &'a [u8],
}

impl<'a> Line<'a> {
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
