//! The reader of batches: a body is the same records wherever it is cut, and a line is the same
//! record whether it is read by comparison or by the rules.
//!
//! The first byte says which format, and whether a binary header is made to fit its body, without
//! which hardly any record would be looked at; the second one how the body is cut.

use serde_json::Value;
use stampede_net::http::batch::{Decoder, Format, Record, Step, lines};
use stampede_net::http::conn::Left;
use stampede_net::http::problem::Code;

/// Bytes of the header of a binary body, and of a record before its texts.
const HEADER_BYTES: usize = 16;
const FIXED_BYTES: usize = 24;

/// Whichever reads.
enum Reader {
    Usual(Decoder),
    ByRules(lines::Reader),
}

impl Reader {
    fn is_lines(&self) -> bool {
        !matches!(self, Self::Usual(Decoder::Binary(_)))
    }

    fn next<'a>(&'a mut self, piece: &'a [u8], left: Left) -> Step<'a> {
        match self {
            Self::Usual(decoder) => decoder.next(piece, left),
            Self::ByRules(reader) => reader.next_by_rules(piece, left),
        }
    }
}

/// Reads a body in every way.
///
/// # Panics
/// When two of them disagree, or a line with serde_json.
pub fn check(data: &[u8]) {
    let Some((&[how, cut], body)) = data.split_first_chunk::<2>() else { return };
    let (cut, mut body) = (usize::from(cut) + 1, body.to_vec());
    let format = if how & 1 == 0 { Format::Lines } else { Format::Binary };
    if format == Format::Binary && how & 2 == 0 {
        fit(&mut body);
    }
    let whole = steps(Reader::Usual(Decoder::new(format)), &body, body.len(), false);
    assert_eq!(steps(Reader::Usual(Decoder::new(format)), &body, cut, false), whole, "cut into {cut}");
    let in_chunks = steps(Reader::Usual(Decoder::new(format)), &body, body.len(), true);
    assert_eq!(steps(Reader::Usual(Decoder::new(format)), &body, cut, true), in_chunks, "in chunks of {cut}");
    // What is refused is refused, at the end of its chunks at the latest; all else is the same.
    let refused = |seen: &[String]| seen.last().is_some_and(|last| last.starts_with("refused"));
    assert_eq!(refused(&in_chunks), refused(&whole), "in chunks and not: {in_chunks:?} {whole:?}");
    assert!(refused(&whole) || in_chunks == whole, "in chunks and not: {in_chunks:?} {whole:?}");
    if format == Format::Lines {
        let by_rules = steps(Reader::ByRules(lines::Reader::default()), &body, body.len(), false);
        assert_eq!(by_rules, whole, "by the rules, and as usual");
    }
}

/// Makes a binary body as long as its header says, and its header say how many records came.
fn fit(body: &mut Vec<u8>) {
    let Some(header) = body.first_chunk::<HEADER_BYTES>() else { return };
    let stride = FIXED_BYTES + header[5..8].iter().map(|&width| usize::from(width)).sum::<usize>();
    let records = (body.len() - HEADER_BYTES) / stride;
    body.truncate(HEADER_BYTES + records * stride);
    body[8..12].copy_from_slice(&(records as u32).to_le_bytes());
}

/// Every record of a body that comes `cut` bytes at a time, as text, with where it ends. In chunks it is
/// not known that all has come until more is wanted.
fn steps(mut reader: Reader, body: &[u8], cut: usize, chunked: bool) -> Vec<String> {
    let (mut seen, mut at, mut come, is_lines) = (Vec::new(), 0, 0, reader.is_lines());
    let mut is_over = !chunked;
    while at < body.len() {
        let piece = &body[at..come];
        let left = if is_over { Left::Bytes(body.len() - at) } else { Left::Unknown };
        match reader.next(piece, left) {
            Step::Record(record, len) => {
                assert!(0 < len && len <= piece.len(), "{len} bytes taken of {}", piece.len());
                if let Ok(record) = &record
                    && is_lines
                {
                    judge(&piece[..len], record);
                }
                at += len;
                seen.push(format!("{at}: {record:?}"));
            }
            Step::Skip(len) => {
                assert!(0 < len && len <= piece.len(), "{len} bytes skipped of {}", piece.len());
                at += len;
            }
            Step::NeedMore => {
                assert!(come < body.len() || !is_over, "all has come, and more is wanted");
                is_over |= come == body.len();
                come = (come + cut).min(body.len());
            }
            Step::Refused(problem) => {
                assert_eq!(problem.code, Code::BadRequest, "refused for another reason");
                seen.push(format!("refused {:?}", problem.detail));
                return seen;
            }
        }
    }
    if let Reader::Usual(decoder) = &reader {
        seen.extend(decoder.finish().err().map(|problem| format!("refused {:?}", problem.detail)));
    }
    seen
}

/// What was taken of a line is what serde_json reads in it.
fn judge(line: &[u8], record: &Record<'_>) {
    let said: Value = serde_json::from_slice(line).expect("taken, and no JSON");
    let is = |name: &str, bytes: &[u8]| said[name].as_str().unwrap_or_default().as_bytes() == bytes;
    let number = |name: &str, otherwise: u64| match &said[name] {
        Value::Null => Some(otherwise),
        value => value.as_u64(),
    };
    match record {
        Record::Purchase(purchase) => {
            assert_eq!(said["item_id"].as_u64(), Some(u64::from(purchase.item.get())), "another item");
            assert!(is("buyer", purchase.subject) && is("key", purchase.key), "another name");
            assert_eq!(number("quantity", 1), Some(u64::from(purchase.quantity.get())), "another quantity");
            assert_eq!(number("level", 0), Some(u64::from(purchase.level)), "another level");
            assert_eq!(said["since_s"].as_u64(), purchase.since_s, "another time");
            let ticket = purchase.ticket.unwrap_or_default();
            assert!(is("ticket", ticket.as_bytes()) || ticket.contains('\\'), "another ticket");
        }
        Record::Move { order, reference, .. } => {
            let order = order.get().to_string();
            assert!(is("order_id", order.as_bytes()) && is("payment_ref", reference), "another order");
        }
    }
}

/// Bodies that are right, and some that are nearly so.
pub fn seeds() -> Vec<Vec<u8>> {
    let lines = [
        "{\"item_id\":1,\"buyer\":\"alice\",\"quantity\":1,\"key\":\"order-17\"}\n{\"item_id\":1,\"buyer\":\"bob\"}\n",
        "{\"item_id\":7,\"buyer\":\"b\",\"key\":\"k\",\"level\":3,\"since_s\":1700000000,\"ticket\":\"AbC-_9\"}",
        "{\"kind\":\"pay\",\"order_id\":\"4294967297\",\"payment_ref\":\"pi_3K\"}\n",
        "{\"kind\":\"refund\",\"order_id\":\"4294967297\"}\r\n{\"kind\":\"cancel\",\"order_id\":\"4294967298\"}",
        "{\"kind\":\"purchase\",\"item_id\":2147483647,\"buyer\":\"a b\",\"quantity\":02}\n\n{}\n",
        "{ \"buyer\":\"\\u0061\\n\", \"item_id\":7}\n{\"item_id\":7,\"buyer\":\"\u{e9}\"}\n[]\n",
        "{\"item_id\":7,\"buyer\":\"ann\",\"item_id\":7}\n{\"item_id\":7,\"buyer\":\"ann\",\"x\":1}\n",
    ];
    let line = |(number, text): (usize, &str)| [&[0, (number * 37) as u8], text.as_bytes()].concat();
    let mut seeds: Vec<_> = lines.into_iter().enumerate().map(line).collect();
    // A purchase, a payment, a refund and a cancellation of one size.
    let mut body = b"SBAT\x01\x04\x04\x02\x04\0\0\0\0\0\0\0".to_vec();
    for kind in 1..=4 {
        let (subject, ticket, quantity) = if kind == 1 { (3, 1, 2) } else { (0, 0, 0) };
        let [target, item] = if kind == 1 { [7, 0] } else { [3, 7] };
        body.extend_from_slice(&[kind, subject, 2, ticket, 0, 0, 0, 0]);
        body.extend_from_slice(&[target, 0, 0, 0, item, 0, 0, 0, quantity, 0, 0, 0, 0, 0, 0, 0]);
        body.extend_from_slice(b"ann\0k1\0\0t\0");
    }
    seeds.push([&[1, 9], &body[..]].concat());
    seeds.push([&[3, 200], &body[..]].concat());
    seeds.push([&[3, 0], &body[..body.len() - 1]].concat());
    seeds
}
