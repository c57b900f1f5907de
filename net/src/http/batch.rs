//! Batches of a trusted gateway: decodes records from a body that comes in pieces, and encodes the
//! answers, in either of two formats.
//!
//! No socket and no decision here. A record is read whole or not at all, so that what is read
//! never depends on how the bytes were split. A malformed record whose end is known
//! gets an answer of its own; only where the record boundaries are in doubt is the batch refused.
//! docs/BATCH.md draws every byte. Next: [`binary`] and [`lines`] for the two formats,
//! [`answer`] for what is written back.

pub mod answer;
pub mod binary;
pub mod lines;
mod record;
mod usual;

pub use record::{Purchase, Record, Step};

use crate::http::body::check_media;
use crate::http::conn::Left;
use crate::http::field::Name;
use crate::http::head::Head;
use crate::http::problem::{Code, Problem};

/// How the records of a batch are written; the answers are written the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `application/vnd.stampede.batch`: records of one fixed size.
    Binary,
    /// `application/x-ndjson`: one JSON object a line.
    Lines,
}

impl Format {
    /// The format that a request names in its `Content-Type`; parameters do not count.
    ///
    /// # Errors
    /// `unsupported_media_type` for any other, none, or a coded body.
    pub fn of(head: &Head<'_>) -> Result<Self, Problem> {
        check_media(head, &[], false)?;
        let value = head.field(Name::ContentType).once().unwrap_or_default();
        let name = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        match name {
            _ if name.eq_ignore_ascii_case(b"application/vnd.stampede.batch") => Ok(Self::Binary),
            _ if name.eq_ignore_ascii_case(b"application/x-ndjson") => Ok(Self::Lines),
            _ => Err(Code::UnsupportedMediaType
                .problem()
                .detail("Content-Type: application/x-ndjson or application/vnd.stampede.batch, once")),
        }
    }
}

/// Reads records out of a body.
#[derive(Debug)]
pub enum Decoder {
    /// See [`Format::Binary`].
    Binary(binary::Reader),
    /// See [`Format::Lines`].
    Lines(lines::Reader),
}

impl Decoder {
    /// For a body in this format.
    pub fn new(format: Format) -> Self {
        match format {
            Format::Binary => Self::Binary(binary::Reader::default()),
            Format::Lines => Self::Lines(lines::Reader::default()),
        }
    }

    /// Which format it reads.
    pub const fn format(&self) -> Format {
        match self {
            Self::Binary(_) => Format::Binary,
            Self::Lines(_) => Format::Lines,
        }
    }

    /// What stands at the start of `piece`, which is what has come of what is `left` of the body.
    /// Not called once nothing is left.
    pub fn next<'a>(&'a mut self, piece: &'a [u8], left: Left) -> Step<'a> {
        match self {
            Self::Binary(reader) => reader.next(piece, left),
            Self::Lines(reader) => reader.next(piece, left),
        }
    }

    /// The body is over.
    ///
    /// # Errors
    /// `bad_request` if it had to hold more: only of one in chunks is that not seen at its beginning.
    pub fn finish(&self) -> Result<(), Problem> {
        match self {
            Self::Binary(reader) => reader.finish(),
            Self::Lines(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every step through a body whose bytes come `cut` at a time, as text. A chunked body is not known to have
    /// ended until more is asked for.
    pub(super) fn read(format: Format, body: &[u8], cut: usize, chunked: bool) -> Vec<String> {
        let (mut decoder, mut seen, mut at, mut come) = (Decoder::new(format), Vec::new(), 0, 0);
        let mut is_over = !chunked;
        while at < body.len() {
            let left = if is_over { Left::Bytes(body.len() - at) } else { Left::Unknown };
            match decoder.next(&body[at..come], left) {
                Step::Record(record, len) => {
                    seen.push(format!("{record:?}"));
                    at += len;
                }
                Step::Skip(len) => at += len,
                Step::NeedMore => {
                    assert!(come < body.len() || !is_over, "all has come, and more is wanted");
                    is_over |= come == body.len();
                    come = (come + cut).min(body.len());
                }
                Step::Refused(problem) => {
                    seen.push(format!("refused {:?}", problem.detail));
                    return seen;
                }
            }
            assert!(at <= come, "more was taken than has come");
        }
        seen.extend(decoder.finish().err().map(|problem| format!("refused {:?}", problem.detail)));
        seen
    }

    fn binary(records: u32) -> Vec<u8> {
        let mut body = Vec::from(*b"SBAT\x01\x04\x04\x02");
        body.extend_from_slice(&records.to_le_bytes());
        body.extend_from_slice(&[0; 4]);
        for n in 0..records {
            body.extend_from_slice(&[1 + (n % 4) as u8, 3, 2, 0, 0, 0, 0, 0]);
            body.extend_from_slice(&u64::from(7 + n).to_le_bytes());
            body.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
            body.extend_from_slice(b"ann\0k1\0\0\0\0");
        }
        body
    }

    const LINES: &str = concat!(
        r#"{"item_id":7,"buyer":"ann","quantity":2,"key":"k","level":1,"since_s":3,"ticket":"t"}"#,
        "\n",
        r#"{"kind":"pay","order_id":"30064771073","payment_ref":"\u0061"}"#,
        "\n",
    );

    proptest! {
        /// Spoiled anywhere and cut anywhere, a body reads the same, and nothing panics.
        #[test]
        fn spoiled_bodies_read_the_same_however_they_are_cut(
            spoils in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in 1usize..200,
            lines in any::<bool>(),
            keep in any::<prop::sample::Index>(),
        ) {
            let format = if lines { Format::Lines } else { Format::Binary };
            let mut body = if lines { LINES.repeat(3).into_bytes() } else { binary(5) };
            spoils.iter().for_each(|(at, byte)| { let at = at.index(body.len()); body[at] = *byte; });
            let len = body.len();
            for body in [&body[..], &body[..keep.index(len) + 1]] {
                let [whole, chunked] = [false, true].map(|chunked| read(format, body, body.len(), chunked));
                prop_assert_eq!(read(format, body, cut, false), &whole[..]);
                prop_assert_eq!(read(format, body, cut, true), &chunked[..]);
                // What is said of a whole body is said of the one in chunks, at its end at the latest.
                let is_refused = |seen: &[String]| seen.last().is_some_and(|last| last.starts_with("refused"));
                prop_assert_eq!(is_refused(&chunked), is_refused(&whole));
                prop_assert!(is_refused(&whole) || whole == chunked, "{whole:?} {chunked:?}");
            }
        }
    }
}
