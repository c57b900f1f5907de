//! The compact format: a header of 16 bytes, then records of one size, little-endian.
//!
//! The sender chooses how wide subjects, references and tickets are in its batch, so that short
//! names make short records. Every length is checked before it is used. docs/BATCH.md draws it.

use stampede_core::command::Movement;
use stampede_core::limits::{IDEMPOTENCY_KEY_BYTES_MAX, SUBJECT_BYTES_MAX};
use stampede_core::types::{ItemId, OrderId, Quantity};

use super::record::{Purchase, Record, Step, is_key, is_name};
use crate::http::conn::Left;
use crate::http::limits::BATCH_RECORDS_MAX;
use crate::http::problem::{Code, Problem};

/// Bytes before the first record, in a request and in an answer.
pub const HEADER_BYTES: usize = 16;
/// Bytes of a record before its subject.
pub const FIXED_BYTES: usize = 24;
/// How a request begins.
pub const MAGIC: [u8; 4] = *b"SBAT";
/// The only version there is.
pub const VERSION: u8 = 1;

/// The record kinds, as their first byte has them.
pub mod kind {
    /// A purchase.
    pub const PURCHASE: u8 = 1;
    /// A payment.
    pub const PAY: u8 = 2;
    /// A refund.
    pub const REFUND: u8 = 3;
    /// A cancellation by the merchant.
    pub const CANCEL: u8 = 4;
}

/// What the header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    subject_width: usize,
    reference_width: usize,
    ticket_width: usize,
}

impl Layout {
    const fn stride(&self) -> usize {
        FIXED_BYTES + self.subject_width + self.reference_width + self.ticket_width
    }
}

/// Reads a body; see the module.
#[derive(Debug, Default)]
pub struct Reader {
    layout: Option<Layout>,
    /// Records still to come.
    records: usize,
}

impl Reader {
    /// See [`super::Decoder::next`].
    pub fn next<'a>(&mut self, piece: &'a [u8], left: Left) -> Step<'a> {
        let Some(layout) = self.layout else { return self.header(piece, left) };
        match piece.get(..layout.stride()) {
            // Only a chunked body gets here: it has no length that could be checked beforehand.
            _ if self.records == 0 && !piece.is_empty() => Step::Refused(wrong("longer than its records")),
            None if left == Left::Bytes(piece.len()) => Step::Refused(SHORT),
            None => Step::NeedMore,
            Some(record) => {
                self.records -= 1;
                Step::Record(parse(record, &layout), record.len())
            }
        }
    }

    /// See [`super::Decoder::finish`].
    pub fn finish(&self) -> Result<(), Problem> {
        if self.records == 0 { Ok(()) } else { Err(SHORT) }
    }

    fn header<'a>(&mut self, piece: &[u8], left: Left) -> Step<'a> {
        let Some(header) = piece.first_chunk::<HEADER_BYTES>() else {
            let is_short = matches!(left, Left::Bytes(left) if left < HEADER_BYTES);
            return if is_short { Step::Refused(wrong("shorter than its header")) } else { Step::NeedMore };
        };
        let [subject_width, reference_width, ticket_width] = [5, 6, 7].map(|at| usize::from(header[at]));
        let layout = Layout { subject_width, reference_width, ticket_width };
        let records = u32_at(header, 8) as usize;
        if header[..4] != MAGIC || header[4] != VERSION || u32_at(header, 12) != 0 {
            return Step::Refused(wrong("not a batch of version 1"));
        }
        if subject_width > SUBJECT_BYTES_MAX || reference_width > IDEMPOTENCY_KEY_BYTES_MAX {
            return Step::Refused(wrong("a width is above its bound"));
        }
        if !(1..=BATCH_RECORDS_MAX).contains(&records) {
            return Step::Refused(wrong("not 1 to 8192 records"));
        }
        let bytes = HEADER_BYTES + records * layout.stride();
        if matches!(left, Left::Bytes(left) if left != bytes) {
            return Step::Refused(wrong("not as long as its records"));
        }
        (self.layout, self.records) = (Some(layout), records);
        Step::Skip(HEADER_BYTES)
    }
}

const SHORT: Problem = wrong("shorter than its records");

const fn wrong(detail: &'static str) -> Problem {
    Problem::new(Code::BadRequest).detail(detail)
}

fn parse<'a>(record: &'a [u8], layout: &Layout) -> Result<Record<'a>, Code> {
    let bad = Code::BadRequest;
    let (fixed, names) = record.split_first_chunk::<FIXED_BYTES>().ok_or(bad)?;
    let [kind, subject_len, reference_len, ticket_len, level, zeros @ ..] =
        fixed.first_chunk::<8>().ok_or(bad)?;
    let (subject, names) = names.split_at_checked(layout.subject_width).ok_or(bad)?;
    let (reference, ticket) = names.split_at_checked(layout.reference_width).ok_or(bad)?;
    let subject = subject.get(..usize::from(*subject_len)).ok_or(bad)?;
    let reference = reference.get(..usize::from(*reference_len)).ok_or(bad)?;
    let ticket = ticket.get(..usize::from(*ticket_len)).ok_or(bad)?;
    let (target, quantity, since_s) = (u64_at(fixed, 8), u32_at(fixed, 16), u32_at(fixed, 20));
    if *zeros != [0; 3] {
        return Err(bad);
    }
    if *kind == kind::PURCHASE {
        if !is_name(subject) || !(reference.is_empty() || is_key(reference)) {
            return Err(bad);
        }
        return Ok(Record::Purchase(Purchase {
            item: ItemId::new(target).ok_or(Code::InvalidField)?,
            subject,
            quantity: Quantity::new(u64::from(quantity)).ok_or(Code::BadQuantity)?,
            key: reference,
            level: *level,
            since_s: (since_s != 0).then_some(u64::from(since_s)),
            // A ticket that is not even text cannot be one of ours, and is refused as such.
            ticket: (!ticket.is_empty()).then(|| str::from_utf8(ticket).unwrap_or("?")),
        }));
    }
    let movement = match *kind {
        kind::PAY => Movement::Pay,
        kind::REFUND => Movement::Refund,
        kind::CANCEL => Movement::Cancel,
        _ => return Err(bad),
    };
    let bare = subject.is_empty() && ticket.is_empty() && (*level, quantity, since_s) == (0, 0, 0);
    if !bare {
        return Err(bad);
    }
    let optional = movement != Movement::Pay;
    if !(is_name(reference) || optional && reference.is_empty()) {
        return Err(Code::InvalidField);
    }
    Ok(Record::Move { order: OrderId::from_u64(target).ok_or(Code::NotFound)?, movement, reference })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::batch::Format;

    /// A body with the widths 8, 8 and 0.
    fn body(records: &[[u8; 40]]) -> Vec<u8> {
        let mut body = Vec::from(*b"SBAT\x01\x08\x08\x00");
        body.extend_from_slice(&(records.len() as u32).to_le_bytes());
        body.extend_from_slice(&[0; 4]);
        records.iter().for_each(|record| body.extend_from_slice(record));
        body
    }

    fn record(kind: u8, target: u64, quantity: u32, subject: &[u8], reference: &[u8]) -> [u8; 40] {
        let mut record = [0; 40];
        (record[0], record[1], record[2]) = (kind, subject.len() as u8, reference.len() as u8);
        record[8..16].copy_from_slice(&target.to_le_bytes());
        record[16..20].copy_from_slice(&quantity.to_le_bytes());
        record[24..24 + subject.len()].copy_from_slice(subject);
        record[32..32 + reference.len()].copy_from_slice(reference);
        record
    }

    fn read(body: &[u8], cut: usize) -> Vec<String> {
        crate::http::batch::tests::read(Format::Binary, body, cut, false)
    }

    #[test]
    fn records_do_not_depend_on_how_they_were_cut() {
        let order = 7u64 << 32 | 3;
        let body = body(&[
            record(kind::PURCHASE, 7, 2, b"ann", b"k1"),
            record(kind::PAY, order, 0, b"", b"ref"),
            record(kind::REFUND, order, 0, b"", b""),
            record(kind::CANCEL, order, 0, b"", b"ref"),
        ]);
        let whole = read(&body, body.len());
        assert_eq!(whole.len(), 4);
        assert!(whole[0].contains("Purchase") && whole[0].contains("[97, 110, 110]"), "{whole:?}");
        assert!(whole[1].contains("Pay") && whole[2].contains("Refund") && whole[3].contains("Cancel"));
        (1..body.len()).for_each(|cut| assert_eq!(read(&body, cut), whole, "cut into {cut}"));
    }

    #[test]
    fn what_is_wrong_with_one_record_is_its_answer_alone() {
        let good = record(kind::PURCHASE, 7, 1, b"ann", b"k1");
        let spoil = |at: usize, byte: u8| {
            let mut record = good;
            record[at] = byte;
            record
        };
        let cases = [
            (spoil(0, 0), "BadRequest"),
            (spoil(0, 9), "BadRequest"),
            (spoil(1, 0), "BadRequest"),
            (spoil(1, 9), "BadRequest"),
            (spoil(2, 9), "BadRequest"),
            (spoil(3, 1), "BadRequest"),
            (spoil(5, 1), "BadRequest"),
            (spoil(7, 1), "BadRequest"),
            (spoil(8, 0), "InvalidField"),
            (spoil(15, 0x80), "InvalidField"),
            (spoil(16, 0), "BadQuantity"),
            (spoil(19, 0xFF), "BadQuantity"),
            (spoil(24, 7), "BadRequest"),
            (spoil(25, 0xFF), "BadRequest"),
            (spoil(32, b' '), "BadRequest"),
            (spoil(32, b'"'), "BadRequest"),
            (record(kind::PAY, 7 << 32 | 1, 0, b"", b""), "InvalidField"),
            (record(kind::PAY, 7 << 32 | 1, 1, b"", b"r"), "BadRequest"),
            (record(kind::PAY, 7 << 32 | 1, 0, b"ann", b"r"), "BadRequest"),
            (record(kind::PAY, 7, 0, b"", b"r"), "NotFound"),
            (record(kind::REFUND, 7 << 32 | 1, 0, b"", b"\n"), "InvalidField"),
        ];
        for (record, code) in cases {
            let seen = read(&body(&[good, record, good]), 64);
            assert_eq!((seen.len(), &*seen[1]), (3, &*format!("Err({code})")), "{record:?}");
            assert!(seen[0].starts_with("Ok(") && seen[0] == seen[2], "{seen:?}");
        }
    }

    #[test]
    fn a_header_that_leaves_doubt_refuses_the_batch() {
        let good = body(&[record(kind::PURCHASE, 7, 1, b"ann", b"k1")]);
        for (at, byte) in
            [(0, b'X'), (4, 2), (5, 65), (5, 9), (6, 65), (6, 7), (7, 1), (8, 0), (8, 2), (10, 1), (12, 1)]
        {
            let mut bad = good.clone();
            bad[at] = byte;
            for cut in [1, 16, 64] {
                let seen = read(&bad, cut);
                assert!(seen.len() == 1 && seen[0].starts_with("refused"), "byte {at}: {seen:?}");
            }
        }
        assert!(read(&good[..15], 4)[0].starts_with("refused"));
        assert!(read(&good[..40], 4)[0].starts_with("refused"));
    }
}
