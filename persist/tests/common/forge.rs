//! Forges logs: bytes whose checksums hold, although no engine wrote them like this.
//!
//! [`write_block`] makes a block of any facts. [`rewrite_log`] changes facts of a whole log and keeps
//! its chain. [`seal_block`] and [`seal_snapshot`] make the checksums hold again after an edit. Their
//! offsets are those of docs/WAL_FORMAT.md, written down a second time, so that no change of the
//! format goes unnoticed. See [`super::sim_disk`] for damage that no checksum covers up.

use std::path::Path;

use stampede_core::fact::Fact;
use stampede_core::limits::FACT_BYTES_MAX;
use stampede_core::types::Lsn;
use stampede_persist::codec;
use stampede_persist::disk::SECTOR_BYTES;
use stampede_persist::disk::real::RealDisk;
use stampede_persist::log::block::{
    BLOCK_HEADER_BYTES, BlockBuilder, BlockHeader, ChainHash, END_MARK, Records, check_block, peek_header,
};
use stampede_persist::log::control::read_control;
use stampede_persist::log::layout::segment_file;
use stampede_persist::log::limits::BLOCK_BYTES_MAX;
use stampede_persist::log::record::{RECORD_HEADER_BYTES, Record};

/// A fact as it stands in a record: its kind and its bytes.
pub(crate) type Encoded = (u16, Vec<u8>);

/// Encodes a fact.
pub(crate) fn encoded(fact: &Fact<'_>) -> Encoded {
    let mut bytes = [0; FACT_BYTES_MAX];
    let len = codec::encode(fact, &mut bytes);
    (codec::fact_kind(fact), bytes[..len].to_vec())
}

/// Writes a block of these facts at the start of `out`, whose length is a multiple of the sector.
/// Returns its header, with the number and the length of the facts filled in, and its hash.
///
/// # Panics
/// When there is no fact, or when they do not fit.
pub(crate) fn write_block(
    out: &mut [u8],
    header: BlockHeader,
    facts: impl IntoIterator<Item = Encoded>,
) -> (BlockHeader, ChainHash) {
    let room = out.len().min(BLOCK_BYTES_MAX);
    let mut block = BlockBuilder::new(&mut out[..room]);
    for (lsn, (kind, payload)) in (header.first_lsn.0..).zip(facts) {
        assert!(block.push(&Record { lsn: Lsn(lsn), kind, payload: &payload }), "the facts fit the block");
    }
    let (_, hash) = block.finish(header);
    (peek_header(out).expect("a block was written"), hash)
}

/// Replaces facts of the log in a directory, in place: all checksums and the chain hold. `change`
/// returns what stands in a fact's place, if anything else does.
///
/// # Panics
/// When there is no log, or when a block would change its length.
pub(crate) fn rewrite_log(dir: &Path, change: impl Fn(&Fact<'_>) -> Option<Encoded>) {
    let control = read_control(&RealDisk, dir).expect("readable").expect("a control file");
    let mut prev_hash = control.first_chain;
    for segment in control.first_segment..=control.last_segment {
        let path = segment_file(dir, segment);
        let mut bytes = std::fs::read(&path).expect("a segment");
        let mut rest = bytes.as_mut_slice();
        while let Ok(header) = check_block(rest, control.log_id, segment) {
            let (block, after) = rest.split_at_mut(header.block_len());
            let old = block.to_vec();
            let facts = Records::new(&header, &old).map(|record| {
                let Record { kind, payload, .. } = record.expect("a record");
                let fact = codec::decode(kind, payload).expect("a fact");
                change(&fact).unwrap_or_else(|| (kind, payload.to_vec()))
            });
            let (new, hash) = write_block(block, BlockHeader { prev_hash, ..header }, facts);
            assert_eq!(new.block_len(), header.block_len(), "a block keeps its length");
            (prev_hash, rest) = (hash, after);
        }
        std::fs::write(&path, bytes).expect("written");
    }
}

/// Makes the block at the start of `bytes` whole again after an edit: the checksums of its records,
/// everything that follows them, and its own checksums. Does nothing where no block can be found.
pub(crate) fn seal_block(bytes: &mut [u8]) {
    let Ok(header) = peek_header(bytes) else { return };
    let Some(block) = bytes.get_mut(..header.block_len()) else { return };
    let (records_end, content_end) = (header.records_end(), header.content_end());
    seal_records(&mut block[BLOCK_HEADER_BYTES..records_end]);
    block[records_end..].fill(0);
    block[content_end - 1] = END_MARK;
    for (sector, at) in (records_end..content_end - 1).step_by(4).enumerate() {
        let from = ((sector + 1) * SECTOR_BYTES).min(records_end);
        put_crc(block, at, &[(from, (from + SECTOR_BYTES).min(records_end))]);
    }
    put_crc(block, 104, &[(records_end, content_end)]);
    put_crc(block, 108, &[(0, 108)]);
    put_crc(block, 124, &[(0, 124), (BLOCK_HEADER_BYTES, SECTOR_BYTES)]);
}

/// Makes the checksums of the records hold, as far as records can be found.
fn seal_records(mut bytes: &mut [u8]) {
    while let Some(len) = length(bytes).filter(|len| *len <= FACT_BYTES_MAX) {
        let Some((record, rest)) = bytes.split_at_mut_checked(RECORD_HEADER_BYTES + len) else { return };
        put_crc(record, 4, &[(0, 4), (8, record.len())]);
        bytes = rest;
    }
}

/// Makes the checksums of a snapshot hold again after an edit, as far as its chunks can be found.
pub(crate) fn seal_snapshot(file: &mut [u8]) {
    let Some((header, mut bytes)) = file.split_at_mut_checked(64) else { return };
    put_crc(header, 60, &[(0, 60)]);
    while let Some(len) = length(bytes) {
        let Some((chunk, rest)) = bytes.split_at_mut_checked(16 + len) else { return };
        put_crc(chunk, 12, &[(0, 12), (16, chunk.len())]);
        bytes = rest;
    }
}

fn length(bytes: &[u8]) -> Option<usize> {
    let len = bytes.get(..4)?;
    Some(u32::from_le_bytes(len.try_into().expect("four bytes")) as usize)
}

/// Puts the checksum of these parts of `bytes`, each from a byte until before another, at `at`.
fn put_crc(bytes: &mut [u8], at: usize, parts: &[(usize, usize)]) {
    let crc = parts.iter().fold(0, |crc, &(from, to)| crc32c::crc32c_append(crc, &bytes[from..to]));
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}
