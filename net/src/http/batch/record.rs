//! One record of a batch, in either format.
//!
//! Next: [`super::binary`] and [`super::lines`], which read it.

use stampede_core::command::Movement;
use stampede_core::types::{ItemId, OrderId, Quantity};

use crate::http::problem::{Code, Problem};

/// One record, borrowed from the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record<'a> {
    /// A buyer buys.
    Purchase(Purchase<'a>),
    /// The merchant changes an order's state.
    Move {
        /// The order.
        order: OrderId,
        /// The movement.
        movement: Movement,
        /// The payment's reference; empty = none, which a payment cannot have.
        reference: &'a [u8],
    },
}

/// A purchase, authenticated by the gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Purchase<'a> {
    /// The item.
    pub item: ItemId,
    /// The buyer: 1 to 255 bytes of UTF-8 without control characters.
    pub subject: &'a [u8],
    /// Units.
    pub quantity: Quantity,
    /// The idempotency key; empty = none.
    pub key: &'a [u8],
    /// The account's level; 0 if it was not said.
    pub level: u8,
    /// When the account was opened, in Unix seconds; `None` counts as just now.
    pub since_s: Option<u64>,
    /// The ticket as received.
    pub ticket: Option<&'a str>,
}

/// What comes next in a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// A whole record of so many bytes, or why it is refused.
    Record(Result<Record<'a>, Code>, usize),
    /// So many bytes that belong to no record.
    Skip(usize),
    /// The next record is incomplete.
    NeedMore,
    /// The record boundaries are in doubt: the batch is refused. Only in a chunked one can records have come
    /// before this is noticed.
    Refused(Problem),
}

/// Whether these bytes can be an idempotency key: 1 to 255 visible characters but the quote.
pub(super) fn is_key(bytes: &[u8]) -> bool {
    let fits = (1..=stampede_core::limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&bytes.len());
    fits && bytes.iter().all(|&byte| crate::http::chars::is_visible(byte) && byte != b'"')
}

/// Whether these bytes can name a buyer or a payment: 1 to 255 bytes of UTF-8 without control
/// characters. Most names are ASCII, which is told without decoding.
pub(super) fn is_name(bytes: &[u8]) -> bool {
    if bytes.is_empty() || bytes.len() > stampede_core::limits::SUBJECT_BYTES_MAX {
        return false;
    }
    let plain = bytes.iter().fold(true, |plain, &byte| plain & (byte.wrapping_sub(0x20) < 0x5F));
    plain || str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(char::is_control))
}

const _: () = assert!(
    stampede_core::limits::PAYMENT_REF_BYTES_MAX == stampede_core::limits::SUBJECT_BYTES_MAX,
    "one check serves both"
);
