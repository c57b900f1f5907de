//! The reader of snapshots: it reads only what it would write the same way, and changed bytes never
//! pass for something else.
//!
//! The first byte chooses one of four checks for the rest.

use std::path::Path;
use std::sync::OnceLock;

use stampede_core::state_row::StateRow;
use stampede_core::types::{Lsn, UnixMillis};
use stampede_persist::codec::{ROW_BYTES_MAX, decode_row, encode_row};
use stampede_persist::log::identity::LogId;
use stampede_persist::log::layout;
use stampede_persist::log::snapshot::{SnapshotHeader, SnapshotWriter, read_snapshot};

use crate::forge::seal_snapshot;
use crate::log::state_after;
use crate::sim_disk::SimDisk;

const DIR: &str = "/data";
const HEADER: SnapshotHeader =
    SnapshotHeader { log_id: LogId(*b"a log of a test!"), lsn: Lsn(40), last_ms: UnixMillis(7_000) };

/// Runs the check.
///
/// # Panics
/// When the reader breaks a promise.
pub fn check(data: &[u8]) {
    let Some((&game, rest)) = data.split_first() else { return };
    match game % 4 {
        0 => check_rows(rest),
        1 => drop(read(rest)),
        2 => check_repaired(rest),
        _ => check_spoilt(rest),
    }
}

/// Rows, each after its length. Those that are rows make a snapshot: it is read as it was written, and
/// refused with a bit flipped.
fn check_rows(mut data: &[u8]) {
    let mut rows = Vec::new();
    let mut salt = 0usize;
    while let [len, rest @ ..] = data {
        let (row, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        if let Ok(row) = decode_row(row) {
            // One of an older kind is written as one of today's.
            rows.push(encoded(&row));
        }
        salt = salt.wrapping_mul(31).wrapping_add(usize::from(*len));
        data = rest;
    }
    let file = written(&rows);
    assert_eq!(read(&file), Some(rows), "a snapshot is read otherwise than it was written");
    for step in 0..8 {
        let bit = (salt + step * 2_654_435_761) % (file.len() * 8);
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&flipped).is_none(), "bit {bit} was flipped");
    }
}

/// A good snapshot, edited, with checksums that hold again: lengths and counts are not believed,
/// and what is read is written as it was read.
fn check_repaired(edits: &[u8]) {
    let mut file = spoilt(edits);
    seal_snapshot(&mut file);
    if let Some(rows) = read(&file) {
        assert_eq!(read(&written(&rows)), Some(rows));
    }
}

/// A good snapshot, edited: every change is found.
fn check_spoilt(edits: &[u8]) {
    let file = spoilt(edits);
    assert_eq!(read(&file).is_some(), file == *good(), "a change was not found");
}

/// The good snapshot after the edits: a place in two bytes, and a byte; beyond the end it is appended
/// or, as 0xff, cuts the file.
fn spoilt(edits: &[u8]) -> Vec<u8> {
    let mut file = good().clone();
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % (good().len() + 64);
        match file.get_mut(at) {
            Some(byte) => *byte = edit[2],
            None if edit[2] == 0xff => file.truncate(at.saturating_sub(good().len()) * 8),
            None => file.push(edit[2]),
        }
    }
    file
}

/// The rows of a snapshot file, encoded anew; `None` if it is none.
fn read(file: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (disk, dir) = (SimDisk::new(0), Path::new(DIR));
    disk.put(&layout::snapshot_file(dir, HEADER.lsn), file);
    let mut rows = Vec::new();
    let header = read_snapshot(&disk, dir, HEADER.lsn, HEADER.log_id, &mut |row| {
        rows.push(encoded(row));
        Ok(())
    });
    let header = header.ok()?;
    assert_eq!((header.log_id, header.lsn), (HEADER.log_id, HEADER.lsn));
    Some(rows)
}

fn encoded(row: &StateRow<'_>) -> Vec<u8> {
    let mut bytes = [0; ROW_BYTES_MAX];
    let len = encode_row(row, &mut bytes);
    bytes[..len].to_vec()
}

/// The file of a snapshot with these rows.
fn written(rows: &[Vec<u8>]) -> Vec<u8> {
    let (disk, dir) = (SimDisk::new(0), Path::new(DIR));
    let mut writer = SnapshotWriter::create(&disk, dir, &HEADER).expect("memory takes it");
    for row in rows {
        let row = decode_row(row).expect("a row");
        writer.row(&row).expect("memory takes it");
    }
    writer.finish().expect("memory takes it");
    disk.file(&layout::snapshot_file(dir, HEADER.lsn)).expect("a snapshot")
}

fn good() -> &'static Vec<u8> {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| written(&good_rows()))
}

/// An item, three orders, and who put it on sale.
fn good_rows() -> Vec<Vec<u8>> {
    let mut rows = Vec::new();
    state_after(4).rows(&mut |row| rows.push(encoded(row)));
    rows
}

/// Inputs out of a good snapshot.
pub fn seeds() -> Vec<Vec<u8>> {
    let one = |row: &Vec<u8>| [&[row.len() as u8], row.as_slice()].concat();
    let rows: Vec<Vec<u8>> = good_rows().iter().map(one).collect();
    let mut seeds: Vec<Vec<u8>> = rows.iter().map(|row| [&[0], row.as_slice()].concat()).collect();
    seeds.push([&[0], rows.concat().as_slice()].concat());
    seeds.push([&[1], good().as_slice()].concat());
    seeds.extend([vec![2, 0, 64, 5], vec![2, 0, 40, 5], vec![3], vec![3, 0, 70, 1], vec![0]]);
    seeds
}
