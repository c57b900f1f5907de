//! A block of the ledger: the facts of one append, and its place in the chain.
//!
//! The ledger has a chain of its own: SHA-256 over the hash before, the epoch, the LSNs and the bytes. So a reader can
//! check a block without knowing what is in it, whoever sent it, and however each node cuts its own log
//! into segments. What the bytes mean is the caller's business: nothing here looks into them. Next: [`super::ledger`].

use sha2::{Digest as _, Sha256};
use stampede_core::types::Lsn;

use super::limits::LEDGER_BLOCK_BYTES_MAX;
use super::names::Epoch;
use crate::log::identity::{ChainHash, LogId};

/// A place between two blocks of the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The last LSN before it; [`Lsn::ZERO`] at the beginning.
    pub lsn: Lsn,
    /// The hash of the chain up to here.
    pub hash: ChainHash,
}

impl Position {
    /// The beginning of this log.
    #[must_use]
    pub fn start_of(log_id: LogId) -> Self {
        Self { lsn: Lsn::ZERO, hash: log_id.genesis() }
    }
}

/// Why a block cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BlockRefused {
    /// It has no bytes, or its last LSN lies before its first.
    #[error("a block holds at least one fact")]
    Empty,
    /// It is larger than a ledger takes.
    #[error(
        "a block of {bytes} bytes is larger than {LEDGER_BLOCK_BYTES_MAX}, the most that fits one append"
    )]
    TooLarge {
        /// How large.
        bytes: usize,
    },
}

/// A block with the hash that it leads to. Cannot be changed once it is made.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    epoch: Epoch,
    before: Position,
    last_lsn: Lsn,
    after: ChainHash,
    bytes: Vec<u8>,
}

impl Block {
    /// The block of this epoch that follows `before`, up to and with `last_lsn`.
    ///
    /// # Errors
    /// [`BlockRefused`]: empty, or more than [`LEDGER_BLOCK_BYTES_MAX`] bytes.
    pub fn new(epoch: Epoch, before: Position, last_lsn: Lsn, bytes: Vec<u8>) -> Result<Self, BlockRefused> {
        if bytes.is_empty() || last_lsn <= before.lsn {
            return Err(BlockRefused::Empty);
        }
        if bytes.len() > LEDGER_BLOCK_BYTES_MAX {
            return Err(BlockRefused::TooLarge { bytes: bytes.len() });
        }
        let after = hash_of(epoch, before, last_lsn, &bytes);
        Ok(Self { epoch, before, last_lsn, after, bytes })
    }

    /// The epoch whose leader made it.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The LSN of its first fact.
    #[must_use]
    pub const fn first_lsn(&self) -> Lsn {
        self.before.lsn.next()
    }

    /// The LSN of its last fact.
    #[must_use]
    pub const fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// Where it begins.
    #[must_use]
    pub const fn before(&self) -> Position {
        self.before
    }

    /// Where it ends.
    #[must_use]
    pub const fn after(&self) -> Position {
        Position { lsn: self.last_lsn, hash: self.after }
    }

    /// Its facts.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its facts, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Without the facts, which name buyers.
impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, last, epoch) = (self.first_lsn(), self.last_lsn, self.epoch);
        write!(f, "Block({first}..={last}, epoch {epoch}, {} bytes)", self.bytes.len())
    }
}

/// Every field has its own width, and the bytes stand last: no two blocks hash the same input.
fn hash_of(epoch: Epoch, before: Position, last_lsn: Lsn, bytes: &[u8]) -> ChainHash {
    let mut sha = Sha256::new();
    sha.update(b"stampede ledger block 1\0");
    sha.update(before.hash);
    for number in [epoch.0, before.lsn.0, last_lsn.0, bytes.len() as u64] {
        sha.update(number.to_le_bytes());
    }
    sha.update(bytes);
    sha.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Position = Position { lsn: Lsn(7), hash: [3; 32] };

    #[test]
    fn the_hash_covers_every_field() {
        let block = |epoch, before, last, bytes: &[u8]| {
            Block::new(Epoch(epoch), before, Lsn(last), bytes.to_vec()).expect("a block").after().hash
        };
        let all = [
            block(1, BEFORE, 9, b"ab"),
            block(2, BEFORE, 9, b"ab"),
            block(1, Position { lsn: Lsn(6), ..BEFORE }, 9, b"ab"),
            block(1, Position { hash: [4; 32], ..BEFORE }, 9, b"ab"),
            block(1, BEFORE, 10, b"ab"),
            block(1, BEFORE, 9, b"abc"),
            block(1, BEFORE, 9, b"ac"),
        ];
        for (at, hash) in all.iter().enumerate() {
            assert!(!all[..at].contains(hash), "{at}");
        }
    }

    #[test]
    fn a_block_is_neither_empty_nor_too_large() {
        let block = |last, len| Block::new(Epoch(1), BEFORE, Lsn(last), vec![0; len]);
        assert_eq!(block(7, 1), Err(BlockRefused::Empty));
        assert_eq!(block(8, 0), Err(BlockRefused::Empty));
        assert!(block(8, LEDGER_BLOCK_BYTES_MAX).is_ok());
        let bytes = LEDGER_BLOCK_BYTES_MAX + 1;
        assert_eq!(block(8, bytes), Err(BlockRefused::TooLarge { bytes }));
    }
}
