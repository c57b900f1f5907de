//! What a server says to one record, in either format.

/// What a record was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// An order.
    Order { status: u16, order: u64, paid: bool },
    /// No unit was left.
    SoldOut,
    /// Anything else, in words.
    Other(String),
}
