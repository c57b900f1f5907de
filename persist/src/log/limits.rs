//! The log's own bounds, in one place; those shared with other crates are in
//! [`stampede_core::limits`]. Relations are checked when this file compiles.

use stampede_core::limits::{CORES_MAX, OWNER_BATCH_MAX};

use crate::disk::SECTOR_BYTES;

/// Most bytes of one block, padding included.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;
/// Most bytes of one group: what one write makes durable.
pub const GROUP_BYTES_MAX: usize = 4 << 20;
/// Default size of a segment file.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// Smallest segment file.
pub const SEGMENT_BYTES_MIN: u64 = 32 << 10;
/// Largest segment file.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Default budget of all segment files.
pub const LOG_BYTES_MAX_DEFAULT: u64 = 8 << 30;
/// Default of the free space below which nothing new is sold.
pub const FREE_BYTES_MIN_DEFAULT: u64 = 256 << 20;
/// Default of the segments after which a new snapshot is made.
pub const SNAPSHOT_SEGMENTS_DEFAULT: u64 = 16;
/// How long the journal has to be idle before it updates the control file, in milliseconds.
pub const IDLE_MS_MIN: u64 = 2;
/// How long the control file may lag behind the log, however facts arrive, in milliseconds. Its write
/// begins after half of that at the latest: the rest is for the writes under way ([`super::lag`]).
pub const LAG_MS_MAX: u64 = 50;
/// Snapshots kept.
pub const SNAPSHOTS_KEPT: usize = 2;
/// Most bytes of rows in one chunk of a snapshot.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 1 << 20;
/// Facts that may still arrive, each in a group of its own, after the owners were told to stop.
pub const STRAGGLERS_MAX: usize = CORES_MAX * OWNER_BATCH_MAX;
/// Bytes read at once from a segment.
pub const READ_BYTES: usize = 1 << 20;

const _: () = {
    assert!(BLOCK_BYTES_MAX.is_multiple_of(SECTOR_BYTES) && GROUP_BYTES_MAX.is_multiple_of(BLOCK_BYTES_MAX));
    assert!(SEGMENT_BYTES_MIN.is_multiple_of(SECTOR_BYTES as u64));
    assert!(READ_BYTES >= BLOCK_BYTES_MAX);
    assert!(IDLE_MS_MIN < LAG_MS_MAX / 2);
};
