//! One fact in a block: a header of 20 bytes and its payload.
//!
//! ```text
//!  0       4       8               16    18    20
//!  | len   | crc   | lsn           | kind|  0  | payload (len bytes) …
//! ```
//!
//! The checksum is CRC-32C over everything but itself. A record must never cross a
//! block. Next: [`super::block`].

use stampede_core::limits::FACT_BYTES_MAX;
use stampede_core::types::Lsn;

/// Bytes before the payload.
pub const RECORD_HEADER_BYTES: usize = 20;

/// A record as it stands in a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Its place in the order.
    pub lsn: Lsn,
    /// The kind of its fact; see [`crate::codec`].
    pub kind: u16,
    /// The encoded fact.
    pub payload: &'a [u8],
}

/// Why bytes are not a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// The block ends inside it.
    #[error("a record ends after its block")]
    Short,
    /// Its length is above the bound.
    #[error("a record claims a length of {0} bytes")]
    Length(u32),
    /// Its checksum does not match.
    #[error("a record's checksum does not match")]
    Checksum,
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..])
}

/// Writes a record at the start of `out` and returns its length; `None` when it does not fit.
pub fn write_record(record: &Record<'_>, out: &mut [u8]) -> Option<usize> {
    let len = RECORD_HEADER_BYTES + record.payload.len();
    assert!(record.payload.len() <= FACT_BYTES_MAX, "a payload keeps its bound");
    let out = out.get_mut(..len)?;
    out[0..4].copy_from_slice(&(record.payload.len() as u32).to_le_bytes());
    out[8..16].copy_from_slice(&record.lsn.0.to_le_bytes());
    out[16..18].copy_from_slice(&record.kind.to_le_bytes());
    out[18..20].fill(0);
    out[20..].copy_from_slice(record.payload);
    let crc = checksum(out);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    Some(len)
}

/// Reads the record at the start of `bytes`, and how long it is.
///
/// # Errors
/// See [`RecordError`]; the length is checked before it is used.
pub fn read_record(bytes: &[u8]) -> Result<(Record<'_>, usize), RecordError> {
    let (header, rest) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>().ok_or(RecordError::Short)?;
    let payload_len = u32::from_le_bytes(header[0..4].try_into().expect("four bytes"));
    if payload_len as usize > FACT_BYTES_MAX {
        return Err(RecordError::Length(payload_len));
    }
    let payload = rest.get(..payload_len as usize).ok_or(RecordError::Short)?;
    let len = RECORD_HEADER_BYTES + payload.len();
    if checksum(&bytes[..len]) != u32::from_le_bytes(header[4..8].try_into().expect("four bytes")) {
        return Err(RecordError::Checksum);
    }
    let lsn = Lsn(u64::from_le_bytes(header[8..16].try_into().expect("eight bytes")));
    let kind = u16::from_le_bytes(header[16..18].try_into().expect("two bytes"));
    Ok((Record { lsn, kind, payload }, len))
}
