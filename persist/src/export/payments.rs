//! What was told of an order's money, as rows of `stock_payment`.

use stampede_core::money::MoneyKind;
use stampede_core::types::{Lsn, OrderId, UnixMillis};

/// Something that was told of an order's money, for `stock_payment`. Texts are as
/// [`super::text`] writes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PaymentRow<'a> {
    /// Of which order.
    pub order: OrderId,
    /// The fact.
    pub lsn: Lsn,
    /// What was told.
    pub kind: MoneyKind,
    /// The late payment's reference; empty = none.
    pub payment_ref: &'a str,
    /// The refund's own reference; empty = none.
    pub refund_ref: &'a str,
    /// Units given back.
    pub units: u32,
    /// When it was told.
    pub at_ms: UnixMillis,
}

/// What became of rows of `stock_payment`; each is told by its order and its fact.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PaymentsPut {
    /// Those in whose place somebody else's row stands, which was left as it is.
    pub foreign: Vec<(OrderId, Lsn)>,
    /// Those that the database took without a word and did not write.
    pub swallowed: Vec<(OrderId, Lsn)>,
}
