//! The bounds of the cluster's records and calls, in one place; relations are checked when this compiles.

use crate::log::limits::BLOCK_BYTES_MAX;

/// What etcd takes in one request unless its `--max-request-bytes` says otherwise.
pub const ETCD_REQUEST_BYTES_MAX: usize = 1536 << 10;
/// Room in a request for everything besides the block's bytes: keys, comparisons, records. The most is some 4 KiB.
pub const REQUEST_OVERHEAD_BYTES_MAX: usize = 16 << 10;
/// Most bytes of one block in the ledger.
pub const LEDGER_BLOCK_BYTES_MAX: usize = ETCD_REQUEST_BYTES_MAX - REQUEST_OVERHEAD_BYTES_MAX;
/// Most blocks that one read gives.
pub const READ_BLOCKS_MAX: usize = 16;
/// Most bytes of one answer that is taken from etcd: a read of the largest blocks, and room for their records.
pub const ANSWER_BYTES_MAX: usize = READ_BLOCKS_MAX * (LEDGER_BLOCK_BYTES_MAX + 4096);
/// Longest name of a cluster or node, in bytes.
pub const NAME_BYTES_MAX: usize = 32;
/// Longest address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Longest version of a node, in bytes.
pub const VERSION_BYTES_MAX: usize = 64;
/// Most nodes of a cluster.
pub const NODES_MAX: usize = 64;
/// Most endpoints of etcd that a node is told.
pub const ENDPOINTS_MAX: usize = 16;
/// Shortest and longest life of a node's presence without a sign of it, in seconds.
pub const PRESENCE_S: std::ops::RangeInclusive<u32> = 1..=600;

const _: () = {
    // A full block of the log is one block of the ledger.
    assert!(LEDGER_BLOCK_BYTES_MAX >= BLOCK_BYTES_MAX);
    assert!(REQUEST_OVERHEAD_BYTES_MAX >= 8 * (NAME_BYTES_MAX + ADDRESS_BYTES_MAX + VERSION_BYTES_MAX + 256));
};
