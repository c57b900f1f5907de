//! The options of a log: sizes and budgets, and which of them fit together.
//!
//! Next: [`super::dir`], which opens a log with them.

use stampede_core::limits::{CORES_MAX, JOURNAL_SLOTS, OWNER_BATCH_MAX};

use super::journal::resume_bytes;
use super::limits::{
    FREE_BYTES_MIN_DEFAULT, LOG_BYTES_MAX_DEFAULT, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, SNAPSHOT_SEGMENTS_DEFAULT,
};
use crate::disk::SECTOR_BYTES;

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Size of each segment in bytes: 32 KiB to 1 GiB, a multiple of 4096. Used when the directory
    /// is made; afterwards it keeps its size.
    pub segment_bytes: u64,
    /// Disk budget of all segments in bytes, spares included.
    pub log_bytes_max: u64,
    /// Free space in bytes below which nothing new is sold.
    pub free_bytes_min: u64,
    /// Slots of the queue to the journal; a power of two.
    pub queue_slots: usize,
    /// Slots of these that stay free for owners that have checked for room and not yet appended.
    pub queue_reserve: usize,
    /// Whether a directory in memory is allowed (I17).
    pub allow_volatile: bool,
    /// Whether this start has a database to export to. The control file keeps that for all later
    /// starts: from then on nothing is trimmed that the database does not hold (I11).
    pub exports: bool,
    /// Segments after the last snapshot at which a new one is made.
    pub snapshot_segments: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            log_bytes_max: LOG_BYTES_MAX_DEFAULT,
            free_bytes_min: FREE_BYTES_MIN_DEFAULT,
            queue_slots: JOURNAL_SLOTS,
            queue_reserve: CORES_MAX * OWNER_BATCH_MAX,
            allow_volatile: false,
            exports: false,
            snapshot_segments: SNAPSHOT_SEGMENTS_DEFAULT,
        }
    }
}

impl LogOptions {
    /// Spares that have to be ready so that the whole queue fits without another one.
    pub(super) fn spares(&self, segment_bytes: u64) -> usize {
        resume_bytes(self.queue_slots).div_ceil(segment_bytes) as usize
    }
    /// The least [`LogOptions::log_bytes_max`] that the other settings allow.
    pub fn log_bytes_least(&self) -> u64 {
        (self.spares(self.segment_bytes) as u64 + 2) * self.segment_bytes
    }
    /// Checks each option; the error names the first bad one and its range.
    pub(super) fn check(&self) -> Result<(), String> {
        let sizes = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
        if !sizes.contains(&self.segment_bytes) || !self.segment_bytes.is_multiple_of(SECTOR_BYTES as u64) {
            return Err("segment_bytes must be a multiple of 4096 from 32 KiB to 1 GiB".into());
        }
        if !self.queue_slots.is_power_of_two() || self.queue_reserve >= self.queue_slots {
            return Err("queue_slots must be a power of two above queue_reserve".into());
        }
        if self.log_bytes_max < self.log_bytes_least() {
            let least = self.log_bytes_least();
            return Err(format!("log_bytes_max must be at least {least} bytes"));
        }
        Ok(())
    }
}
