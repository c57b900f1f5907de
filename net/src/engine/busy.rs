//! Why an owner takes no decision at present.

/// Why an owner decides nothing at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Busy {
    /// Too many facts wait for the disk.
    Overloaded,
    /// The log's disk budget is used up.
    LogFull,
}
