//! Who may write: the identities of the database and the process, and the claim that the database granted.
//!
//! Next: [`super::attach`] for the rules.

use std::fmt;

use stampede_core::types::Lsn;

use crate::log::identity::LogId;

/// The identity of a database: 16 random bytes, drawn when it was first migrated.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatabaseId(pub [u8; 16]);

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseId({self})")
    }
}

impl DatabaseId {
    /// The identity written as 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let number = u128::from_str_radix(text, 16).ok()?;
        (text.len() == 32).then_some(Self(number.to_be_bytes()))
    }
}

/// A random number that names one process, drawn at its start.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(u128);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({self})")
    }
}

impl Nonce {
    /// The nonce of the process that has drawn this number.
    pub fn new(drawn: u128) -> Self {
        Self(drawn)
    }

    /// A random seed for things that may differ from process to process.
    pub(super) const fn seed(self) -> u64 {
        self.0 as u64
    }

    /// The number written as 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32).map(Self)
    }
}

/// The right to write that the database has given to a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The epoch under which the process may write.
    pub epoch: u64,
    /// When it was given, by the database's clock: microseconds since 1970. If another process has the
    /// row, and the row was changed later than this, then that process got it later.
    pub since_us: i64,
    /// Where this process left the cursor.
    pub left: Lsn,
}

/// What attaching has to know of the log and the process.
#[derive(Clone, Copy, Debug)]
pub struct LogClaim {
    /// The log.
    pub log_id: LogId,
    /// The process.
    pub nonce: Nonce,
    /// The claim that this process has; `None` = it was never attached.
    pub held: Option<Claim>,
    /// The first LSN that the log still holds (1 in a new log).
    pub first_retained: Lsn,
    /// The last durable LSN.
    pub durable: Lsn,
    /// The database that this log has exported to so far; `None` = none.
    pub database: Option<DatabaseId>,
}
