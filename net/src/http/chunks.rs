//! Decodes a chunked body (RFC 9112 section 7.1) in place.
//!
//! ```text
//!        digits         CRLF          all of it        CRLF
//!  Size ────────▶ (Extension) ──▶ Data ────────▶ (DataEnd) ──▶ Size
//!    └── size 0, CRLF ──▶ Trailer: lines, each dropped ──empty line──▶ Over
//! ```
//!
//! Byte by byte, so that the verdict on a body never depends on how it was split into reads, and nothing but
//! the body is kept. What an extension or a trailer says has no effect; both are bounded, and are
//! read as strictly as a head: two readers that disagree on where a chunk ends disagree on where the
//! next request begins. Next: [`crate::http::conn`], which lends the bytes.

use crate::http::chars::{hex_value, is_token};
use crate::http::limits::{CHUNK_DIGITS_MAX, CHUNK_EXTENSION_BYTES_MAX, HEADERS_MAX, TRAILER_BYTES_MAX};
use crate::http::problem::{Code, Problem};

/// The decoder of one chunked body.
#[derive(Clone, Debug)]
pub(crate) struct Chunks {
    stage: Stage,
    /// Bytes of body so far.
    len: usize,
    /// The longest body that is taken, in bytes.
    len_max: usize,
    /// Bytes of extensions so far, of all chunks together.
    extension_bytes: usize,
    /// Lines and bytes of the trailer so far.
    trailer: (usize, usize),
}

/// What [`Chunks::take`] consumed.
pub(crate) struct Taken {
    /// Bytes consumed: all, unless the body has ended or is malformed.
    pub(crate) taken: usize,
    /// How many of them are body.
    pub(crate) kept: usize,
    /// 400, 413 or 431, if the next byte cannot follow. Nothing may be taken after it.
    pub(crate) broken: Option<Problem>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// In the size of a chunk: the number of digits and their value so far.
    Size { digits: usize, size: u64 },
    /// In an extension, after the semicolon that follows a size.
    Extension { size: u64 },
    /// Before the line feed that ends the line of a size.
    SizeEnd { size: u64 },
    /// In the data: so many bytes of this chunk are to come.
    Data { left: usize },
    /// Before the carriage return after the data, then before the line feed.
    DataEnd { returned: bool },
    /// Before a line of the trailer, or the empty line that ends the body.
    Trailer,
    /// In the name of a trailer field.
    TrailerName,
    /// In the value of a trailer field.
    TrailerValue,
    /// Before the line feed that ends a line of the trailer, or the whole body.
    TrailerEnd { last: bool },
    /// The body has ended.
    Over,
}

impl Chunks {
    /// A decoder for a body of at most `bytes_max` bytes.
    pub(crate) const fn new(len_max: usize) -> Self {
        let stage = Stage::Size { digits: 0, size: 0 };
        Self { stage, len: 0, len_max, extension_bytes: 0, trailer: (0, 0) }
    }

    /// Bytes of body so far.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Whether the body has ended.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Consumes `bytes`, which follow what was taken before, and moves what is body to their front.
    pub(crate) fn take(&mut self, bytes: &mut [u8]) -> Taken {
        let (mut taken, mut kept) = (0, 0);
        while taken < bytes.len() && !self.is_over() {
            if let Stage::Data { left } = self.stage {
                let len = left.min(bytes.len() - taken);
                bytes.copy_within(taken..taken + len, kept);
                (taken, kept) = (taken + len, kept + len);
                self.len += len;
                self.stage = match left - len {
                    0 => Stage::DataEnd { returned: false },
                    left => Stage::Data { left },
                };
            } else {
                match self.after(bytes[taken]) {
                    Ok(stage) => self.stage = stage,
                    Err(problem) => return Taken { taken, kept, broken: Some(problem) },
                }
                taken += 1;
            }
        }
        Taken { taken, kept, broken: None }
    }

    /// The state after one more byte that is not data.
    fn after(&mut self, byte: u8) -> Result<Stage, Problem> {
        Ok(match (self.stage, byte) {
            (Stage::Size { digits, size }, _) => return self.after_size(byte, digits, size),
            (Stage::Extension { size }, b'\r') => Stage::SizeEnd { size },
            (Stage::Extension { size }, _) => {
                self.extension_bytes += 1;
                let fits = self.extension_bytes <= CHUNK_EXTENSION_BYTES_MAX && is_field_text(byte);
                if !fits {
                    return Err(malformed("the extension of a chunk is malformed or too long"));
                }
                Stage::Extension { size }
            }
            (Stage::SizeEnd { size }, b'\n') => begin(size),
            (Stage::DataEnd { returned: false }, b'\r') => Stage::DataEnd { returned: true },
            (Stage::DataEnd { returned: true }, b'\n') => Stage::Size { digits: 0, size: 0 },
            (Stage::Trailer | Stage::TrailerName | Stage::TrailerValue | Stage::TrailerEnd { .. }, _) => {
                return self.after_trailer(byte);
            }
            _ => return Err(malformed("a chunk does not end where it says")),
        })
    }

    fn after_size(&self, byte: u8, digits: usize, size: u64) -> Result<Stage, Problem> {
        match (hex_value(byte), byte) {
            (Some(digit), _) if digits < CHUNK_DIGITS_MAX => {
                let size = size << 4 | u64::from(digit);
                let fits = size <= (self.len_max - self.len) as u64;
                if fits { Ok(Stage::Size { digits: digits + 1, size }) } else { Err(self.too_long()) }
            }
            (None, b';') if digits > 0 => Ok(Stage::Extension { size }),
            (None, b'\r') if digits > 0 => Ok(Stage::SizeEnd { size }),
            _ => Err(malformed("the size of a chunk is malformed")),
        }
    }

    fn too_long(&self) -> Problem {
        if self.len_max == 0 { malformed("a body where none can be") } else { Code::BodyTooLarge.problem() }
    }

    fn after_trailer(&mut self, byte: u8) -> Result<Stage, Problem> {
        self.trailer.1 += 1;
        if self.trailer.1 > TRAILER_BYTES_MAX {
            return Err(Code::HeadersTooLarge.problem());
        }
        Ok(match (self.stage, byte) {
            (Stage::Trailer, b'\r') => Stage::TrailerEnd { last: true },
            (Stage::Trailer, _) if is_token(byte) => {
                self.trailer.0 += 1;
                if self.trailer.0 > HEADERS_MAX {
                    return Err(Code::HeadersTooLarge.problem());
                }
                Stage::TrailerName
            }
            (Stage::TrailerName, b':') => Stage::TrailerValue,
            (Stage::TrailerName, _) if is_token(byte) => Stage::TrailerName,
            (Stage::TrailerValue, b'\r') => Stage::TrailerEnd { last: false },
            (Stage::TrailerValue, _) if is_field_text(byte) => Stage::TrailerValue,
            (Stage::TrailerEnd { last: true }, b'\n') => Stage::Over,
            (Stage::TrailerEnd { last: false }, b'\n') => Stage::Trailer,
            _ => return Err(malformed("the trailer is malformed")),
        })
    }
}

/// The state after the line with a chunk's size.
const fn begin(size: u64) -> Stage {
    match size as usize {
        0 => Stage::Trailer,
        left => Stage::Data { left },
    }
}

/// RFC 9110 section 5.5: visible characters, what is not ASCII, space and tab.
const fn is_field_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

const fn malformed(detail: &'static str) -> Problem {
    Problem::new(Code::BadRequest).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body with the mark of its end, and how many bytes are left behind it; or a status.
    type Read<'a> = Result<(&'a str, usize), u16>;

    /// What comes out of a body that comes `cut` bytes at a time, and what is left behind it.
    fn read(raw: &str, cut: usize) -> Result<(String, usize), u16> {
        let (mut chunks, mut body, mut left) = (Chunks::new(64), Vec::new(), 0);
        for piece in raw.as_bytes().chunks(cut) {
            let mut piece = piece.to_vec();
            let took = chunks.take(&mut piece);
            if let Some(problem) = took.broken {
                return Err(problem.code.status().number());
            }
            body.extend_from_slice(&piece[..took.kept]);
            left += piece.len() - took.taken;
        }
        assert_eq!(chunks.len(), body.len());
        let end = if chunks.is_over() { "." } else { "…" };
        Ok((String::from_utf8(body).expect("text") + end, left))
    }

    #[test]
    fn a_body_is_what_its_chunks_hold_however_it_is_cut() {
        let long = format!("0;{}\r\n\r\n", "x".repeat(CHUNK_EXTENSION_BYTES_MAX));
        let table: &[(&str, Read<'_>)] = &[
            ("0\r\n\r\n", Ok((".", 0))),
            ("2\r\n{}\r\n0\r\n\r\nGET", Ok(("{}.", 3))),
            ("1\r\n{\r\n01\r\n}\r\n000\r\n\r\n", Ok(("{}.", 0))),
            ("A;a=b;c=\"d e\"\r\n0123456789\r\n0;x\r\n\r\n", Ok(("0123456789.", 0))),
            ("a\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", Ok(("\r\n\r\n\r\n\r\n\r\n.", 0))),
            ("0\r\nContent-Length: 5\r\nX:\r\n\r\n12345", Ok((".", 5))),
            ("2\r\n{", Ok(("{…", 0))),
            ("", Ok(("…", 0))),
            (&long, Ok((".", 0))),
            ("41\r\n", Err(413)),
            ("40\r\n", Ok(("…", 0))),
            ("FFFFFFFFFFFFFFFF1", Err(413)),
            ("00000000000000002\r\n", Err(400)),
            ("\r\n", Err(400)),
            (" 2\r\n", Err(400)),
            ("2 \r\n", Err(400)),
            ("2 ;a\r\n", Err(400)),
            ("+2\r\n", Err(400)),
            ("0x2\r\n", Err(400)),
            ("g\r\n", Err(400)),
            ("2\n{}", Err(400)),
            ("2\r{}", Err(400)),
            ("2;a\n{}", Err(400)),
            ("2;a\rb", Err(400)),
            ("2;\0", Err(400)),
            ("2\r\n{}0", Err(400)),
            ("2\r\n{}\n0", Err(400)),
            ("2\r\n{}\r0", Err(400)),
            ("0\r\n\n", Err(400)),
            ("0\r\n X: y\r\n", Err(400)),
            ("0\r\nX\r\n", Err(400)),
            ("0\r\nX : y\r\n", Err(400)),
            ("0\r\n: y\r\n", Err(400)),
            ("0\r\nX: y\n", Err(400)),
            ("0\r\nX: \0\r\n", Err(400)),
        ];
        for (raw, expected) in table {
            let expected = expected.map(|(body, left)| (body.to_owned(), left));
            for cut in [1, 2, 3, 5, 1_000_000] {
                assert_eq!(read(raw, cut), expected, "{raw:?}, {cut} bytes at a time");
            }
        }
    }

    #[test]
    fn what_surrounds_a_body_is_bounded() {
        let many = |line: &str, times| format!("0\r\n{}\r\n", line.repeat(times));
        assert!(read(&many("X: y\r\n", HEADERS_MAX), 7).is_ok());
        assert_eq!(read(&many("X: y\r\n", HEADERS_MAX + 1), 7), Err(431));
        assert_eq!(read(&format!("0\r\nX: {}", "y".repeat(TRAILER_BYTES_MAX)), 7), Err(431));
        let extended = format!("1;{}\r\nx\r\n", "y".repeat(CHUNK_EXTENSION_BYTES_MAX / 8 + 1));
        assert_eq!(read(&extended.repeat(8), 7), Err(400), "all extensions count together");
    }

    #[test]
    fn where_no_body_can_be_an_empty_one_is_taken() {
        assert!(Chunks::new(0).take(&mut b"0\r\n\r\n".to_vec()).broken.is_none());
        let refused = Chunks::new(0).take(&mut b"1\r\n".to_vec()).broken;
        assert_eq!(refused.map(|problem| problem.code), Some(Code::BadRequest));
    }

    #[test]
    fn what_came_before_a_broken_chunk_is_body() {
        let (mut chunks, mut bytes) = (Chunks::new(9), b"1\r\na\r\n2\r\nbcx".to_vec());
        let Taken { taken, kept, broken } = chunks.take(&mut bytes);
        assert_eq!((taken, &bytes[..kept], broken.is_some()), (11, &b"abc"[..], true));
    }
}
