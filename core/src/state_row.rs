//! The state of a shard as a sorted list of rows: what a snapshot holds.
//!
//! Rows leave a shard in this order, and enter one in the same order: items by id, orders by id
//! (each followed by its money), keys of calls by item and LSN, blocked buyers by subject, audit
//! entries by LSN. The piles of an item are not rows: they follow from its orders.

use crate::draw::DrawRow;
use crate::item::{ItemSpec, OrderState};
use crate::money::{MoneyRow, Price};
use crate::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};

/// One row of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StateRow<'a> {
    /// An item and its present state.
    Item {
        /// Which.
        item: ItemId,
        /// Its settings.
        spec: ItemSpec<'a>,
        /// Units granted so far, withdrawals taken off.
        granted: u64,
        /// Paused, closed, ended, drawn: bits 0, 1, 2, 3.
        flags: u8,
        /// How often its window moved or it was closed: tickets are bound to it.
        epoch: u32,
        /// Its draw, if it has a seed for one.
        draw: Option<DrawRow>,
        /// How many facts changed it.
        version: u64,
        /// The sequence number of its last order.
        last_seq: u32,
        /// The last fact that changed it.
        lsn: Lsn,
    },
    /// An order.
    Order {
        /// Which.
        order: OrderId,
        /// Its units.
        quantity: Quantity,
        /// Where it stands.
        state: OrderState,
        /// When it was placed.
        created_at_ms: UnixMillis,
        /// When it expires unpaid; zero = never.
        pay_by_ms: UnixMillis,
        /// The fact that placed it.
        lsn: Lsn,
        /// The last fact that changed it.
        state_lsn: Lsn,
        /// Keyed hash of its idempotency key; zero = none.
        key_hash: u64,
        /// Keyed hash of its payment's reference where its text is not known (a snapshot of
        /// November 2026 or older); zero otherwise.
        payment_ref_hash: u64,
        /// Its idempotency key; empty = none, or only its hash is known.
        key: &'a [u8],
        /// What a unit of it costs.
        price: Price,
        /// Units given back.
        refunded: u32,
        /// Whether it was placed as an entry in a draw.
        entry: bool,
        /// Whether it was drawn: an entry that was cancelled before was not.
        drawn: bool,
        /// The buyer.
        subject: &'a [u8],
    },
    /// A payment or refund of the order before it.
    Money(MoneyRow<'a>),
    /// The idempotency key of a call about an item.
    Call(CallRow),
    /// A buyer on the blocklist.
    Blocked {
        /// The buyer.
        subject: &'a [u8],
    },
    /// A merchant's change, for the audit trail.
    Audit(AuditRow<'a>),
}

/// A merchant's call about an item, with an idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CallRow {
    /// About which item.
    pub item: ItemId,
    /// Keyed hash of the key.
    pub key_hash: u64,
    /// What was asked: the units of a restock, or what an item was switched to.
    pub asked: i64,
    /// The fact that it led to.
    pub lsn: Lsn,
}

/// Who changed what, when, at which LSN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AuditRow<'a> {
    /// The fact that recorded it.
    pub lsn: Lsn,
    /// When.
    pub at_ms: UnixMillis,
    /// What was done.
    pub action: AuditAction,
    /// To which item; `None` for the blocklist.
    pub item: Option<ItemId>,
    /// To which order, if to one.
    pub order: Option<OrderId>,
    /// Units granted, added or given back; 0 = none.
    pub units: i64,
    /// Who.
    pub actor: &'a str,
    /// The buyer concerned; empty = none.
    pub subject: &'a [u8],
}

/// What a merchant can do that the audit trail shows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum AuditAction {
    /// Created an item.
    ItemCreated = 0,
    /// Changed an item's settings.
    ItemChanged = 1,
    /// Added or withdrew stock.
    StockAdjusted = 2,
    /// Paused an item.
    Paused = 3,
    /// Resumed it.
    Resumed = 4,
    /// Closed it.
    Closed = 5,
    /// Cancelled an order.
    OrderCancelled = 6,
    /// Refunded an order.
    OrderRefunded = 7,
    /// Blocked a buyer.
    BuyerBlocked = 8,
    /// Took a buyer off the blocklist.
    BuyerUnblocked = 9,
    /// Refunded a late payment.
    LatePaymentReturned = 10,
}

crate::item::coded!(AuditAction {
    ItemCreated = "item_created",
    ItemChanged = "item_changed",
    StockAdjusted = "stock_adjusted",
    Paused = "paused",
    Resumed = "resumed",
    Closed = "closed",
    OrderCancelled = "order_cancelled",
    OrderRefunded = "order_refunded",
    BuyerBlocked = "buyer_blocked",
    BuyerUnblocked = "buyer_unblocked",
    LatePaymentReturned = "late_payment_returned",
});
