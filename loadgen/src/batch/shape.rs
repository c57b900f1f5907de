//! What a batch is of: how many records of which kind, and how they are written.

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

/// Purchases by the thousand in one request, as a workload of the engine.
#[derive(Clone, PartialEq, Debug)]
pub struct Batch {
    /// The token of the merchant API.
    pub token: String,
    /// The first of the items that are bought in turn.
    pub item: u32,
    /// How many of them there are.
    pub items: u32,
    /// Purchases in all.
    pub count: u64,
    /// Purchases in one request, 1 to [`RECORDS_MAX`].
    pub records: u64,
    /// See [`Format`].
    pub format: Format,
    /// See [`Mode`].
    pub mode: Mode,
    /// What the names of this run's buyers begin with.
    pub tag: u16,
}

impl Batch {
    /// How many purchases the request with this number makes; the last one may have fewer.
    pub fn records_of(&self, request: u32) -> u64 {
        self.records.min(self.count.saturating_sub(self.first_of(request)))
    }
    /// The number of the first of them.
    pub fn first_of(&self, request: u32) -> u64 {
        u64::from(request) * self.records
    }
    /// How many requests make all purchases.
    pub fn requests(&self) -> u64 {
        self.count.div_ceil(self.records.max(1))
    }
}

/// Why no further request is sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Trouble {
    /// Something does not add up.
    #[error("a promise was broken: {0}")]
    Broken(String),
    /// The server did not take a batch.
    #[error("the server responded with {0}")]
    Refused(String),
}
