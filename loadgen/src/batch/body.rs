//! The body of a response to a batch: an answer for each record, and nothing else. Next: `batch/lines.rs`.

use super::answer::Answer;
use super::lines;
use super::shape::{Format, Trouble};

const HEADER_BYTES: usize = 16;
const ANSWER_BYTES: usize = 40;
/// The number of `sold_out` in a binary answer.
const SOLD_OUT: u8 = 14;
/// The number of the state `paid` in a binary answer.
const PAID: u8 = 3;

/// The answers that were not taken yet.
pub(super) struct Body<'a> {
    format: Format,
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    /// The body of the response to so many records.
    pub(super) fn new(format: Format, bytes: &'a [u8], records: u64) -> Result<Self, Trouble> {
        let mut body = Self { format, rest: bytes };
        if format == Format::Binary {
            let header = body.take(HEADER_BYTES)?;
            let counted = header[8..12].first_chunk().map_or(0, |count| u32::from_le_bytes(*count));
            if header[..5] != *b"SBAN\x01" || u64::from(counted) != records {
                return Err(Trouble::Broken(format!("{counted} answers to {records} records")));
            }
        }
        Ok(body)
    }

    /// The next answer.
    pub(super) fn answer(&mut self) -> Result<Answer, Trouble> {
        match self.format {
            Format::Binary => self.take(ANSWER_BYTES).map(binary),
            Format::Jsonl => {
                let (answer, length) = lines::read(self.rest).ok_or_else(too_few)?;
                self.take(length).map(|_line| answer)
            }
        }
    }

    /// Makes sure that the last answer was taken.
    pub(super) fn end(&self) -> Result<(), Trouble> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(Trouble::Broken(format!("{left} bytes after the last answer"))),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Trouble> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(too_few)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn too_few() -> Trouble {
    Trouble::Broken("fewer answers than records".to_owned())
}

fn binary(bytes: &[u8]) -> Answer {
    let number = |at: usize| bytes[at..].first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
    let status = u16::from_le_bytes([bytes[0], bytes[1]]);
    match (status, bytes[2]) {
        (409, SOLD_OUT) => Answer::SoldOut,
        (200..=202, 0) => Answer::Order { status, order: number(8), paid: bytes[3] == PAID },
        (_, code) => Answer::Other(format!("{status}, code {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let order = Answer::Order { status: 201, order: 30_064_771_073, paid: false };
        let mut bytes = [0; ANSWER_BYTES];
        bytes[..2].copy_from_slice(&201u16.to_le_bytes());
        bytes[8..16].copy_from_slice(&30_064_771_073u64.to_le_bytes());
        assert_eq!(binary(&bytes), order);
        bytes[..3].copy_from_slice(&[0x99, 1, SOLD_OUT]);
        assert_eq!(binary(&bytes), Answer::SoldOut);
        bytes[2] = 10;
        assert!(matches!(binary(&bytes), Answer::Other(_)));
    }

    #[test]
    fn a_body_has_an_answer_for_each_record_and_nothing_else() {
        let line = b"{\"status\":409,\"code\":\"sold_out\"}\n";
        let two = line.repeat(2);
        let mut body = Body::new(Format::Jsonl, &two, 2).unwrap();
        assert_eq!((body.answer(), body.end().is_err()), (Ok(Answer::SoldOut), true));
        assert_eq!((body.answer(), body.end().is_ok()), (Ok(Answer::SoldOut), true));
        assert_eq!(body.answer(), Err(too_few()));
        let mut binary = b"SBAN\x01\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
        assert!(Body::new(Format::Binary, &binary, 1).is_err());
        binary.extend_from_slice(&[0; ANSWER_BYTES]);
        let mut body = Body::new(Format::Binary, &binary, 2).unwrap();
        assert!(body.answer().is_ok());
        assert_eq!(body.answer(), Err(too_few()));
    }
}
