//! The seam to the log's second home: seal, append, read, trim.
//!
//! A ledger holds one chain of blocks. All calls block their thread, at most for the time that the implementation was
//! told; they are made from threads of their own, never from a core. One handle serves one thread. Next: [`super::etcd`].

use super::block::{Block, Position};
use super::error::ClusterError;
use super::records::LeaderRecord;

/// How full the store is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Room {
    /// Bytes of the store's file on the fullest member; what its quota counts.
    pub file_bytes: u64,
    /// Bytes of that file that are in use; the rest is reused before the file grows.
    pub used_bytes: u64,
    /// The quota, as the store or else our settings say it.
    pub quota_bytes: u64,
    /// Whether it has stopped taking writes.
    pub is_out: bool,
}

impl Room {
    /// How much of the quota is in use, in percent, rounded up; above 100 if more is.
    #[must_use]
    pub const fn used_percent(&self) -> u64 {
        match self.quota_bytes {
            0 => 100,
            quota => self.used_bytes.saturating_mul(100).div_ceil(quota),
        }
    }
}

/// The log's second home. Whoever implements it must pass the conformance suite (`persist/tests/cluster/suite.rs`).
pub trait Ledger {
    /// Makes sure that nobody before this leader can append any more, and says where the chain ends: nothing but
    /// this leader's own appends moves that end from here on. Repeatable.
    ///
    /// # Errors
    /// [`ClusterError::Fenced`] when it does not lead; else see [`ClusterError`].
    fn seal(&mut self, leader: &LeaderRecord) -> Result<Position, ClusterError>;

    /// Adds a block at the end of the chain, if this leader still leads and the chain ends where the block
    /// begins: both are compared in the same step that adds it. When this returns `Ok`, the block is on a
    /// majority of the store's disks. Repeatable: a block that is there already is not added again.
    ///
    /// # Errors
    /// - [`ClusterError::Fenced`]: another leads. Not a fact of this block may be acknowledged.
    /// - [`ClusterError::WentBack`]: the chain ends elsewhere, although this leader leads.
    /// - others, [`ClusterError::Unavailable`] above all: unknown, since an attempt without an answer may have come
    ///   about. Only the same block may be appended next.
    ///
    /// # Panics
    /// When the block is of another epoch than the leader.
    fn append(&mut self, leader: &LeaderRecord, block: &Block) -> Result<(), ClusterError>;

    /// Blocks from here on, in order and without a gap, at most `blocks_max` of them (and at most
    /// [`super::limits::READ_BLOCKS_MAX`]); none when the chain ends here. Each was checked: it follows the one
    /// before it, from `from` on, and its hash is right.
    ///
    /// # Errors
    /// [`ClusterError::Compacted`] when the place was trimmed, [`ClusterError::Corrupt`] when the chain has no place like it,
    /// [`ClusterError::WentBack`] when it ends before it.
    fn read(&mut self, from: Position, blocks_max: usize) -> Result<Vec<Block>, ClusterError>;

    /// The place that the chain begins with, and the one that it ends with.
    ///
    /// # Errors
    /// See [`ClusterError`].
    fn bounds(&mut self) -> Result<(Position, Position), ClusterError>;

    /// Removes the blocks up to and with this end of a block, and gives their space back. What was trimmed already
    /// is left alone. The caller has made sure that nobody needs them, and trims nothing that it has not been told to be
    /// added: whether a trimmed block was added can be told only of the last one of the chain.
    ///
    /// # Errors
    /// [`ClusterError::Fenced`] when `leader` does not lead; [`ClusterError::Corrupt`] when no block ends there.
    fn trim(&mut self, leader: &LeaderRecord, up_to: Position) -> Result<(), ClusterError>;

    /// How full the store is.
    ///
    /// # Errors
    /// See [`ClusterError`].
    fn room(&mut self) -> Result<Room, ClusterError>;
}
