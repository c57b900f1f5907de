//! Why an owner decides nothing at present.

/// Why an owner decides nothing at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Busy {
    /// Too many facts are waiting for the disk.
    Overloaded,
    /// The log's disk budget is used up.
    LogFull,
}
