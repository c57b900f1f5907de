//! Late payments and refunds, as rows of `stock_payment`.

use stampede_core::money::MoneyKind;
use stampede_core::types::{Lsn, OrderId, UnixMillis};

/// A late payment, its return, or a refund, for `stock_payment`. Texts are as [`super::text`]
/// writes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PaymentRow<'a> {
    /// Of which order.
    pub order: OrderId,
    /// The fact.
    pub lsn: Lsn,
    /// What was reported.
    pub kind: MoneyKind,
    /// The late payment's reference; empty = none.
    pub payment_ref: &'a str,
    /// The refund's own reference; empty = none.
    pub refund_ref: &'a str,
    /// Units given back.
    pub units: u32,
    /// When it was reported.
    pub at_ms: UnixMillis,
}

/// Which rows of `stock_payment` were not written; each is identified by its order and its fact.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PaymentsPut {
    /// Rows in whose place is a row of somebody else, which was left as it is.
    pub foreign: Vec<(OrderId, Lsn)>,
    /// Rows that the database accepted without an error and did not write.
    pub swallowed: Vec<(OrderId, Lsn)>,
}
