//! Money on an order: its price, and what is known of its payments and refunds.
//!
//! The engine moves no money. It records what the shop reports, each payment and each refund
//! under its own reference, so that the shop can always tell which money belongs to which
//! order and which has to be refunded. Next: [`crate::shard`] for who decides.

use crate::item::coded;
use crate::limits::CURRENCY_BYTES;
use crate::types::{Lsn, OrderId, UnixMillis};

/// What one unit costs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Price {
    /// In minor units of the currency.
    pub minor: u64,
    /// Three upper-case letters (ISO 4217); all zero = the price is not known.
    pub currency: [u8; CURRENCY_BYTES],
}

impl Price {
    /// The price of an order that was placed before prices were kept.
    pub const UNKNOWN: Self = Self { minor: 0, currency: [0; CURRENCY_BYTES] };

    /// This price; `None` if it is not known.
    pub fn known(self) -> Option<Self> {
        (self != Self::UNKNOWN).then_some(self)
    }

    /// The currency as a text; empty = not known.
    pub fn currency(&self) -> &str {
        core::str::from_utf8(&self.currency).unwrap_or("").trim_end_matches('\0')
    }
}

/// A reference or its keyed hash; the empty one and zero mean "none".
pub trait Reference: Copy {
    /// Whether it is not "none".
    fn is_given(self) -> bool;
}

impl Reference for u64 {
    fn is_given(self) -> bool {
        self != 0
    }
}

impl Reference for &[u8] {
    fn is_given(self) -> bool {
        !self.is_empty()
    }
}

/// Of several references of one kind for an order, the last one given counts; "none" leaves the known one
/// in place. The engine's memory, the replica of the log and the database all follow this rule.
pub fn tell<R: Reference>(known: &mut R, told: R) {
    if told.is_given() {
        *known = told;
    }
}

/// The reference of this kind that counts ([`tell`]), and its keyed hash; empty and zero = none was
/// given. `rows` is an order's money, oldest first.
pub fn reference_of<'a>(rows: impl IntoIterator<Item = MoneyRow<'a>>, kind: MoneyKind) -> (&'a [u8], u64) {
    let (mut reference, mut hash) = (&[][..], 0);
    for row in rows.into_iter().filter(|row| row.kind == kind) {
        tell(&mut reference, row.reference);
        tell(&mut hash, row.reference_hash);
    }
    (reference, hash)
}

/// What happened to the money of an order, or ended the wait for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum MoneyKind {
    /// A payment was accepted for it; for a cancelled order: the payment that was called off.
    Payment = 0,
    /// Units and their money were given back.
    Refund = 1,
    /// A payment came that the order could not accept: the shop has to refund it.
    LatePayment = 2,
    /// The deadline was extended; the field for the reference's hash holds the old deadline.
    Extension = 3,
    /// A late payment was refunded. The reference is the refund's own; the hash is that of the
    /// payment's reference.
    LateReturned = 4,
    /// The order was cancelled, or expired: when. It has no reference.
    Ended = 5,
}

impl MoneyKind {
    /// Whether the hash of a row is something else than the hash of its reference.
    pub(crate) const fn has_its_own_hash(self) -> bool {
        matches!(self, Self::Extension | Self::LateReturned)
    }
}

/// The state of a payment that came too late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Late<'a> {
    /// The shop has to refund it.
    Open,
    /// It was refunded under this reference; empty = none.
    Returned(&'a [u8]),
}

coded!(MoneyKind {
    Payment = "payment",
    Refund = "refund",
    LatePayment = "late_payment",
    Extension = "extension",
    LateReturned = "late_payment_returned",
    Ended = "ended",
});

/// One entry of an order's money, oldest first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MoneyRow<'a> {
    /// Of which order.
    pub order: OrderId,
    /// What happened.
    pub kind: MoneyKind,
    /// When; zero = not known.
    pub at_ms: UnixMillis,
    /// The fact that says so.
    pub lsn: Lsn,
    /// Units given back; zero unless it is a refund.
    pub units: u32,
    /// Keyed hash of the reference; zero = none. See [`MoneyKind::Extension`], [`MoneyKind::LateReturned`].
    pub reference_hash: u64,
    /// The reference; empty = none, or only its hash is known (a snapshot of November 2026 or older).
    pub reference: &'a [u8],
}
