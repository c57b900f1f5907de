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
const FILE_BYTES: usize = 64 << 20;

/// Median of one synced write in microseconds, on the file system of `dir`.
pub(crate) fn synced_append_p50_us(dir: &Path, during: Duration) -> f64 {
    let path = dir.join("probe");
    let zeros = vec![0; 1 << 20];
    let mut file = File::create(&path).expect("a file for the probe");
    for _ in 0..FILE_BYTES / zeros.len() {
        file.write_all(&zeros).expect("zeros");
    }
    file.sync_all().expect("synced");
    let direct = libc::O_DIRECT | libc::O_DSYNC;
    let file = OpenOptions::new().write(true).custom_flags(direct).open(&path).expect("O_DIRECT");
    let mut room = vec![7; 2 * BLOCK_BYTES];
    let at = room.as_ptr().align_offset(BLOCK_BYTES);
    let mut took = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < during {
        let offset = took.len() * BLOCK_BYTES % FILE_BYTES;
        room[at] = took.len() as u8;
        let one = Instant::now();
        file.write_all_at(&room[at..at + BLOCK_BYTES], offset as u64).expect("written");
        took.push(one.elapsed());
    }
    std::fs::remove_file(&path).expect("removed");
    took.sort_unstable();
    took[took.len() / 2].as_secs_f64() * 1e6
}
