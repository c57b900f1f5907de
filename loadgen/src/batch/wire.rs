//! Batches as bytes, out and in: the server's docs/BATCH.md, read from the client's side.

use std::io::{self, Read, Write as _};
use std::net::TcpStream;

use super::answer::Answer;
use super::lines::{self, REFERENCE_BYTES, SUBJECT_BYTES};
use super::plan::{BatchError, Format, Plan};

/// Bytes of a binary record before its names.
const FIXED_BYTES: usize = 24;
const RECORD_BYTES: usize = FIXED_BYTES + SUBJECT_BYTES + REFERENCE_BYTES;
const HEADER_BYTES: usize = 16;
const ANSWER_BYTES: usize = 40;
/// The number of `sold_out` in a binary answer.
const SOLD_OUT: u8 = 14;
/// The number of the state `paid` in a binary answer.
const PAID: u8 = 3;
const KIND_PURCHASE: u8 = 1;
const KIND_PAY: u8 = 2;
/// Read at once.
const INBOX_BYTES: usize = 256 << 10;
const HEAD_BYTES_MAX: usize = 8 << 10;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The names of buyers: 16 bytes, of which the last twelve count.
pub(super) struct Names {
    tag: [u8; 4],
}

impl Names {
    pub(super) fn new(tag: u16) -> Self {
        let mut digits = [0; 4];
        hex(&mut digits, u64::from(tag));
        Self { tag: digits }
    }

    /// The buyer with this number; its last eight bytes are [`reference()`] of it, too.
    fn subject(&self, number: u64) -> [u8; SUBJECT_BYTES] {
        let mut name = [0; SUBJECT_BYTES];
        name[..4].copy_from_slice(&self.tag);
        hex(&mut name[4..], number);
        name
    }
}

fn hex(out: &mut [u8], number: u64) {
    let mut left = number;
    for digit in out.iter_mut().rev() {
        *digit = HEX[(left & 15) as usize];
        left >>= 4;
    }
}

fn reference(number: u64) -> [u8; REFERENCE_BYTES] {
    let mut name = [0; REFERENCE_BYTES];
    hex(&mut name, number);
    name
}

/// A request with purchases, from this number on.
pub(super) fn purchases(out: &mut Vec<u8>, plan: &Plan, names: &Names, first: u64, count: u64) {
    let item_of = |number: u64| plan.item + (number % u64::from(plan.items)) as u32;
    let mut purchase = lines::Purchase::new();
    request(out, plan, count as usize, |out| {
        for number in first..first + count {
            let (subject, item) = (names.subject(number), item_of(number));
            let key = subject.last_chunk().expect("shorter than the name");
            match plan.format {
                Format::Binary => {
                    let mut record = [0; RECORD_BYTES];
                    record[..3].copy_from_slice(&[KIND_PURCHASE, SUBJECT_BYTES as u8, REFERENCE_BYTES as u8]);
                    record[8..12].copy_from_slice(&item.to_le_bytes());
                    record[16] = 1;
                    record[FIXED_BYTES..FIXED_BYTES + SUBJECT_BYTES].copy_from_slice(&subject);
                    record[FIXED_BYTES + SUBJECT_BYTES..].copy_from_slice(key);
                    out.extend_from_slice(&record);
                }
                Format::Jsonl => out.extend_from_slice(purchase.of(item, &subject, key)),
            }
        }
    });
}

/// A request with payments of these orders.
pub(super) fn payments(out: &mut Vec<u8>, plan: &Plan, orders: &[u64]) {
    let mut payment = lines::Payment::new();
    request(out, plan, orders.len(), |out| {
        for &order in orders {
            let payment_ref = reference(order & 0xFFFF_FFFF);
            match plan.format {
                Format::Binary => {
                    let mut record = [0; RECORD_BYTES];
                    record[..3].copy_from_slice(&[KIND_PAY, 0, REFERENCE_BYTES as u8]);
                    record[8..16].copy_from_slice(&order.to_le_bytes());
                    record[FIXED_BYTES + SUBJECT_BYTES..].copy_from_slice(&payment_ref);
                    out.extend_from_slice(&record);
                }
                Format::Jsonl => out.extend_from_slice(payment.of(order, &payment_ref)),
            }
        }
    });
}

/// Replaces `out` by a whole request around the body that `fill` appends.
fn request(out: &mut Vec<u8>, plan: &Plan, records: usize, fill: impl FnOnce(&mut Vec<u8>)) {
    const ROOM: usize = 10;
    out.clear();
    let media = match plan.format {
        Format::Binary => "application/vnd.stampede.batch",
        Format::Jsonl => "application/x-ndjson",
    };
    out.extend_from_slice(b"POST /v1/orders/batch HTTP/1.1\r\nHost: ");
    out.extend_from_slice(plan.addr.to_string().as_bytes());
    out.extend_from_slice(b"\r\nAuthorization: Bearer ");
    out.extend_from_slice(plan.token.as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: ");
    out.extend_from_slice(media.as_bytes());
    out.extend_from_slice(b"\r\nContent-Length: ");
    let length_at = out.len();
    out.extend_from_slice(&[b' '; ROOM]);
    out.extend_from_slice(b"\r\n\r\n");
    let body_at = out.len();
    if plan.format == Format::Binary {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(b"SBAT");
        header[4..7].copy_from_slice(&[1, SUBJECT_BYTES as u8, REFERENCE_BYTES as u8]);
        header[8..12].copy_from_slice(&(records as u32).to_le_bytes());
        out.extend_from_slice(&header);
    }
    fill(out);
    let len = out.len() - body_at;
    // Spaces before a number are no part of it.
    let mut room = &mut out[length_at..length_at + ROOM];
    let _fits = write!(room, "{len:>ROOM$}");
}

/// The bytes that came.
pub(super) struct Inbox {
    socket: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the present body that were not taken.
    left: usize,
}

impl Inbox {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, buffer: vec![0; INBOX_BYTES], start: 0, end: 0, left: 0 }
    }

    /// Reads the head of an answer, and what stands before its first record.
    pub(super) fn begin(&mut self, format: Format, records: u64) -> Result<(), BatchError> {
        let (head_len, length) = loop {
            let come = &self.buffer[self.start..self.end];
            let mut fields = [httparse::EMPTY_HEADER; 32];
            let mut head = httparse::Response::new(&mut fields);
            let parsed = head.parse(come).map_err(|error| BatchError::Refused(error.to_string()))?;
            if let httparse::Status::Complete(len) = parsed {
                if head.code != Some(200) {
                    return Err(BatchError::Refused(String::from_utf8_lossy(come).into_owned()));
                }
                let length =
                    head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
                let length = length.and_then(|field| str::from_utf8(field.value).ok()?.parse().ok());
                break (len, length.ok_or_else(|| BatchError::Refused("no length".to_owned()))?);
            }
            if come.len() > HEAD_BYTES_MAX {
                return Err(BatchError::Refused("a head without end".to_owned()));
            }
            self.read_more()?;
        };
        self.start += head_len;
        self.left = length;
        if format == Format::Binary {
            let header = self.take(HEADER_BYTES)?;
            let counted = header[8..12].first_chunk().map_or(0, |count| u32::from_le_bytes(*count));
            if header[..5] != *b"SBAN\x01" || u64::from(counted) != records {
                return Err(BatchError::Broken(format!("{counted} answers to {records} records")));
            }
        }
        Ok(())
    }

    /// The next answer.
    pub(super) fn answer(&mut self, format: Format) -> Result<Answer, BatchError> {
        match format {
            Format::Binary => self.take(ANSWER_BYTES).map(binary),
            Format::Jsonl => loop {
                match lines::read(&self.buffer[self.start..self.end]) {
                    Some((answer, len)) => return self.take(len).map(|_line| answer),
                    None => self.read_more()?,
                }
            },
        }
    }

    /// Makes sure that the answer ends here.
    pub(super) fn end(&self) -> Result<(), BatchError> {
        match self.left {
            0 => Ok(()),
            left => Err(BatchError::Broken(format!("{left} bytes behind the last answer"))),
        }
    }

    fn take(&mut self, len: usize) -> Result<&[u8], BatchError> {
        if len > self.left {
            return Err(BatchError::Broken("fewer answers than records".to_owned()));
        }
        while self.end - self.start < len {
            self.read_more()?;
        }
        self.left -= len;
        self.start += len;
        Ok(&self.buffer[self.start - len..self.start])
    }

    fn read_more(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match self.socket.read(&mut self.buffer[self.end..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => {
                self.end += len;
                Ok(())
            }
        }
    }
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
    fn names_differ() {
        let names = Names::new(0xAB);
        assert_eq!(&names.subject(0x1F), b"00ab00000000001f");
        assert_eq!(&reference(0x1_0000_0002), b"00000002");
    }
}
