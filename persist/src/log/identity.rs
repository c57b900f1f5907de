//! The identity of a log: a number that is drawn with the data directory and stands in every file.
//!
//! It keeps the blocks of two logs apart, on one disk and in one database.
//! Next: [`super::control`].

use std::fmt;

use sha2::{Digest as _, Sha256};

/// SHA-256 of a block ([`super::block`]): header and records, without the padding.
pub type ChainHash = [u8; 32];

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
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |at: usize| char::from(DIGITS[usize::from(self.0[at / 2] >> (4 * (1 - at % 2)) & 15)]);
        let mut text = [0; 32];
        (0..32).for_each(|at| text[at] = digit(at) as u8);
        f.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}
