//! Which log this is: a number drawn when the data directory is made, in every file.
//!
//! It keeps the blocks of two logs apart, on one disk and in one database.
//! Next: [`super::control`].

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::block::ChainHash;

/// The identity of a log: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub [u8; 16]);

impl LogId {
    /// The hash that the first block of this log names as the one before it.
    pub fn genesis(self) -> ChainHash {
        Sha256::digest(self.0).into()
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}
