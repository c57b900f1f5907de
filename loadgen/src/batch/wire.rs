//! Requests with batches, as bytes: the server's docs/BATCH.md, read from the client's side. Next:
//! `batch/body.rs` for what comes back.

use std::io::Write as _;

use super::lines::{self, REFERENCE_BYTES, SUBJECT_BYTES};
use super::shape::{Batch, Format};

/// Bytes of a binary record before its names.
const FIXED_BYTES: usize = 24;
pub(super) const HEADER_BYTES: usize = 16;
const RECORD_BYTES: usize = FIXED_BYTES + SUBJECT_BYTES + REFERENCE_BYTES;
const KIND_PURCHASE: u8 = 1;
const KIND_PAY: u8 = 2;
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

/// Appends a request with purchases, from this number on.
pub(super) fn purchases(
    out: &mut Vec<u8>,
    (batch, host): (&Batch, &str),
    names: &Names,
    first: u64,
    count: u64,
) {
    let item_of = |number: u64| batch.item + (number % u64::from(batch.items)) as u32;
    let mut purchase = lines::Purchase::new();
    request(out, (batch, host), count as usize, |out| {
        for number in first..first + count {
            let (subject, item) = (names.subject(number), item_of(number));
            let key = subject.last_chunk().expect("shorter than the name");
            match batch.format {
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

/// Appends a request with payments of these orders.
pub(super) fn payments(out: &mut Vec<u8>, (batch, host): (&Batch, &str), orders: &[u64]) {
    let mut payment = lines::Payment::new();
    request(out, (batch, host), orders.len(), |out| {
        for &order in orders {
            let payment_ref = reference(order & 0xFFFF_FFFF);
            match batch.format {
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

/// Appends a whole request around the body that `fill` appends.
fn request(
    out: &mut Vec<u8>,
    (batch, host): (&Batch, &str),
    records: usize,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    const ROOM: usize = 10;
    let media = match batch.format {
        Format::Binary => "application/vnd.stampede.batch",
        Format::Jsonl => "application/x-ndjson",
    };
    out.extend_from_slice(b"POST /v1/orders/batch HTTP/1.1\r\nHost: ");
    out.extend_from_slice(host.as_bytes());
    out.extend_from_slice(b"\r\nAuthorization: Bearer ");
    out.extend_from_slice(batch.token.as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: ");
    out.extend_from_slice(media.as_bytes());
    out.extend_from_slice(b"\r\nContent-Length: ");
    let length_at = out.len();
    out.extend_from_slice(&[b' '; ROOM]);
    out.extend_from_slice(b"\r\n\r\n");
    let body_at = out.len();
    if batch.format == Format::Binary {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let names = Names::new(0xAB);
        assert_eq!(&names.subject(0x1F), b"00ab00000000001f");
        assert_eq!(&reference(0x1_0000_0002), b"00000002");
    }
}
