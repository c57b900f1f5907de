//! What to send in batches, and why that may end early.

use std::io;
use std::net::SocketAddr;

/// Most records in a batch.
pub const RECORDS_MAX: u64 = 8_192;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Mode {
    /// Every purchase wins.
    Winners,
    /// All but the first few find it sold out.
    SoldOut,
    /// Every purchase holds a unit, and its order is paid in a later batch.
    HoldAndPay,
}

/// How records are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    /// Records of a fixed size.
    Binary,
    /// JSON lines.
    Jsonl,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The merchant listener.
    pub addr: SocketAddr,
    /// Its token.
    pub token: String,
    /// The first of the items that are bought in turn.
    pub item: u32,
    /// How many of them there are.
    pub items: u32,
    /// Units of each item.
    pub stock: u64,
    /// Purchases in all.
    pub count: u64,
    /// Purchases in a batch.
    pub batch: u64,
    /// How many batches may be open at a time.
    pub pipeline: usize,
    /// See [`Format`].
    pub format: Format,
    /// See [`Mode`].
    pub mode: Mode,
    /// What the names of this run's buyers begin with.
    pub tag: u16,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// Something does not add up.
    #[error("a promise was broken: {0}")]
    Broken(String),
    /// The server did not take a batch.
    #[error("the server answered {0}")]
    Refused(String),
}
