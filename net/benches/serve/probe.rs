//! The yardstick of a durable write: one aligned block, written and synced, into a file
//! that was filled with zeros before. It knows nothing of the log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of one write: what one purchase alone takes in the log.
const BLOCK_BYTES: usize = 4096;
/// Length of the file, which is written round and round.
const FILE_BYTES: usize = 4 << 20;

/// A file to measure with.
pub(crate) struct Probe {
    file: File,
    room: Vec<u8>,
    writes: usize,
}

impl Probe {
    /// Makes the file in `dir`, long before it is used: what it takes to fill it must not
    /// be in the way of what is measured.
    pub(crate) fn new(dir: &Path) -> Self {
        let path = dir.join("probe");
        let mut filled = File::create(&path).expect("a file for the probe");
        filled.write_all(&vec![0; FILE_BYTES]).expect("zeros");
        filled.sync_all().expect("synced");
        let direct = libc::O_DIRECT | libc::O_DSYNC;
        let file = OpenOptions::new().write(true).custom_flags(direct).open(&path).expect("O_DIRECT");
        Self { file, room: vec![7; 2 * BLOCK_BYTES], writes: 0 }
    }

    /// Median and p99 of one synced write, in microseconds.
    pub(crate) fn took_us(&mut self, during: Duration) -> [f64; 2] {
        let at = self.room.as_ptr().align_offset(BLOCK_BYTES);
        let mut took = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < during {
            let offset = self.writes * BLOCK_BYTES % FILE_BYTES;
            self.writes += 1;
            self.room[at] = self.writes as u8;
            let one = Instant::now();
            self.file.write_all_at(&self.room[at..at + BLOCK_BYTES], offset as u64).expect("written");
            took.push(one.elapsed());
        }
        took.sort_unstable();
        [took.len() / 2, took.len() * 99 / 100].map(|index| took[index].as_secs_f64() * 1e6)
    }
}
