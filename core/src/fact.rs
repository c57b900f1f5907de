//! What the log holds: things that were decided, never requests.
//!
//! A fact carries all that its readers (replay, the exporter, an auditor) need, so
//! that none of them has to decide anything again. Its layout in bytes is the
//! log's business (`persist`). Next: [`crate::command`].

use crate::draw::DrawSeed;
use crate::item::{ItemSpec, OrderState, coded};
use crate::money::Price;
use crate::types::{ItemId, OrderId, Quantity, UnixMillis};

/// One decided thing. Every fact says when it was decided, on the sale clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact<'a> {
    /// An item was created, with `granted` units all available.
    ItemCreated {
        /// When.
        at_ms: UnixMillis,
        /// Which.
        item: ItemId,
        /// Its settings.
        spec: ItemSpec<'a>,
        /// Its stock.
        granted: u64,
        /// The seed of its draw; none without one.
        seed: DrawSeed,
        /// Who created it.
        actor: &'a str,
    },
    /// Settings of an item were replaced (never its stock or payment kind).
    ItemChanged {
        /// When.
        at_ms: UnixMillis,
        /// Which.
        item: ItemId,
        /// Its new settings, all of them.
        spec: ItemSpec<'a>,
        /// The seed of its draw: once there is one it stays.
        seed: DrawSeed,
        /// Who changed them.
        actor: &'a str,
    },
    /// Units were granted (positive) or withdrawn (negative, only available ones).
    StockAdjusted {
        /// When.
        at_ms: UnixMillis,
        /// Which.
        item: ItemId,
        /// How many.
        delta: i64,
        /// Who asked for it; [`ACTOR_POSTGRES`] when it was found in the database.
        actor: &'a str,
        /// The idempotency key of the call; empty = none.
        key: &'a [u8],
    },
    /// The item was paused, resumed, closed for good, or its window ran out.
    ItemSwitched {
        /// When.
        at_ms: UnixMillis,
        /// Which.
        item: ItemId,
        /// To what.
        switch: Switch,
        /// Who; [`ACTOR_CLOCK`] for [`Switch::Ended`].
        actor: &'a str,
        /// The idempotency key of the call; empty = none.
        key: &'a [u8],
    },
    /// A buyer placed an order.
    OrderPlaced {
        /// When; inside the item's window.
        at_ms: UnixMillis,
        /// Which; sequence numbers of an item have no gaps.
        order: OrderId,
        /// How many units.
        quantity: Quantity,
        /// Its first state, which says where its units are.
        state: OrderState,
        /// When it expires unpaid; zero = never.
        pay_by_ms: UnixMillis,
        /// The buyer.
        subject: &'a [u8],
        /// The idempotency key; empty = none was given.
        key: &'a [u8],
        /// The price of that moment; unknown in facts of November 2026 and before: the item's.
        price: Price,
    },
    /// An order changed its state; a refund is [`Fact::OrderRefunded`].
    OrderMoved {
        /// When.
        at_ms: UnixMillis,
        /// Which.
        order: OrderId,
        /// Its units, repeated so that a reader needs no table of orders.
        quantity: Quantity,
        /// From which state.
        from: OrderState,
        /// To which state.
        to: OrderState,
        /// The payment's reference; empty = none. In facts of November 2026 and before a refund
        /// has its reference here, and takes the place of the payment's.
        payment_ref: &'a [u8],
        /// Who moved it: [`ACTOR_BUYER`], [`ACTOR_CLOCK`], or the merchant.
        actor: &'a str,
    },
    /// Units of a paid order were refunded, all or some; with the last of them its state is `refunded`.
    OrderRefunded {
        /// When.
        at_ms: UnixMillis,
        /// Which.
        order: OrderId,
        /// Its units, repeated so that a reader needs no table of orders.
        quantity: Quantity,
        /// Units of this refund.
        units: Quantity,
        /// Units given back in all, these included.
        refunded: Quantity,
        /// The refund's own reference; empty = none.
        refund_ref: &'a [u8],
        /// Who.
        actor: &'a str,
    },
    /// A payment came that the order could not accept. It is recorded, and nothing else changed.
    PaymentLate {
        /// When.
        at_ms: UnixMillis,
        /// Which order it was for.
        order: OrderId,
        /// Its reference.
        payment_ref: &'a [u8],
        /// Who reported it.
        actor: &'a str,
    },
    /// A payment that came too late was refunded. The order is as it was.
    LatePaymentReturned {
        /// When.
        at_ms: UnixMillis,
        /// Which order it was for.
        order: OrderId,
        /// Its reference.
        payment_ref: &'a [u8],
        /// The refund's own reference; empty = none.
        refund_ref: &'a [u8],
        /// Who reported it.
        actor: &'a str,
    },
    /// An unpaid order got more time to pay.
    HoldExtended {
        /// When.
        at_ms: UnixMillis,
        /// Which.
        order: OrderId,
        /// Its units and the state in which it stays, repeated for readers without a table.
        quantity: Quantity,
        /// Its state: held or pending.
        state: OrderState,
        /// Its new deadline.
        pay_by_ms: UnixMillis,
        /// Who.
        actor: &'a str,
    },
    /// An item's draw was held: its inputs are fixed, and the seed is public from now on.
    /// A [`Fact::EntryDrawn`] for each entry follows, in order of rank.
    DrawHeld {
        /// When; not before the end of the draw phase.
        at_ms: UnixMillis,
        /// Which.
        item: ItemId,
        /// Entries that take part.
        entries: u32,
        /// Units to be won: what was available, or none if the sale was over.
        units: u64,
        /// The seed.
        seed: DrawSeed,
    },
    /// An entry was drawn.
    EntryDrawn {
        /// When.
        at_ms: UnixMillis,
        /// Which.
        order: OrderId,
        /// Its units, repeated so that a reader needs no table of orders.
        quantity: Quantity,
        /// The state in which a purchase begins if it won, else [`OrderState::Lost`].
        to: OrderState,
        /// When it expires unpaid; zero = never.
        pay_by_ms: UnixMillis,
    },
    /// A buyer was put on the blocklist or taken off it.
    BuyerBlocked {
        /// When.
        at_ms: UnixMillis,
        /// The buyer.
        subject: &'a [u8],
        /// On or off.
        blocked: bool,
        /// Who did it.
        actor: &'a str,
    },
    /// An order that was only in Postgres was imported before the sale.
    OrderImported {
        /// When it was imported.
        at_ms: UnixMillis,
        /// Which.
        order: OrderId,
        /// How many units.
        quantity: Quantity,
        /// Where it stands.
        state: OrderState,
        /// When it was placed.
        created_at_ms: UnixMillis,
        /// When it expires unpaid; zero = never.
        pay_by_ms: UnixMillis,
        /// The buyer.
        subject: &'a [u8],
        /// Its idempotency key; empty = none.
        key: &'a [u8],
        /// Its payment's reference; empty = none.
        payment_ref: &'a [u8],
        /// What else is known of its money.
        money: ImportedMoney<'a>,
    },
    /// Nothing happened, but this much time has passed: keeps the sale clock from
    /// running backwards over a restart.
    ClockMark {
        /// When.
        at_ms: UnixMillis,
    },
}

/// What Postgres knows of the money of an imported order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImportedMoney<'a> {
    /// The price of a unit.
    pub price: Price,
    /// The last refund's reference; empty = none.
    pub refund_ref: &'a [u8],
    /// Units given back.
    pub refunded: u32,
}

impl ImportedMoney<'_> {
    /// Nothing is known.
    pub const NONE: Self = ImportedMoney { price: Price::UNKNOWN, refund_ref: &[], refunded: 0 };
}

/// The actor of a change that a clock made.
pub const ACTOR_CLOCK: &str = "clock";
/// The actor of a change that the buyer made.
pub const ACTOR_BUYER: &str = "buyer";
/// The actor of a change that was found in the database.
pub const ACTOR_POSTGRES: &str = "postgres";
/// The actor that creates an item whose import goes on, above all with its orders. Such an item
/// begins paused; the import ends with a switch by the same actor.
pub const ACTOR_IMPORT: &str = "import";

/// What an item can be switched to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Switch {
    /// Sells nothing until it is resumed.
    Paused = 0,
    /// Sells again.
    Resumed = 1,
    /// Ended early, for good.
    Closed = 2,
    /// Its window ran out; only a later window reopens it.
    Ended = 3,
}

coded!(Switch { Paused = "paused", Resumed = "resumed", Closed = "closed", Ended = "ended" });

impl Fact<'_> {
    /// When it was decided.
    pub const fn at_ms(&self) -> UnixMillis {
        match *self {
            Fact::ItemCreated { at_ms, .. }
            | Fact::ItemChanged { at_ms, .. }
            | Fact::StockAdjusted { at_ms, .. }
            | Fact::ItemSwitched { at_ms, .. }
            | Fact::OrderPlaced { at_ms, .. }
            | Fact::OrderMoved { at_ms, .. }
            | Fact::OrderRefunded { at_ms, .. }
            | Fact::PaymentLate { at_ms, .. }
            | Fact::LatePaymentReturned { at_ms, .. }
            | Fact::HoldExtended { at_ms, .. }
            | Fact::DrawHeld { at_ms, .. }
            | Fact::EntryDrawn { at_ms, .. }
            | Fact::BuyerBlocked { at_ms, .. }
            | Fact::OrderImported { at_ms, .. }
            | Fact::ClockMark { at_ms } => at_ms,
        }
    }

    /// The item whose owner applies it; `None` for facts that concern all shards.
    pub const fn item(&self) -> Option<ItemId> {
        match *self {
            Fact::ItemCreated { item, .. }
            | Fact::ItemChanged { item, .. }
            | Fact::StockAdjusted { item, .. }
            | Fact::ItemSwitched { item, .. }
            | Fact::DrawHeld { item, .. } => Some(item),
            Fact::OrderPlaced { order, .. }
            | Fact::OrderMoved { order, .. }
            | Fact::OrderRefunded { order, .. }
            | Fact::PaymentLate { order, .. }
            | Fact::LatePaymentReturned { order, .. }
            | Fact::HoldExtended { order, .. }
            | Fact::EntryDrawn { order, .. }
            | Fact::OrderImported { order, .. } => Some(order.item()),
            Fact::BuyerBlocked { .. } | Fact::ClockMark { .. } => None,
        }
    }

    /// A short stable name of its kind.
    pub const fn kind_name(&self) -> &'static str {
        match self {
            Fact::ItemCreated { .. } => "item_created",
            Fact::ItemChanged { .. } => "item_changed",
            Fact::StockAdjusted { .. } => "stock_adjusted",
            Fact::ItemSwitched { .. } => "item_switched",
            Fact::OrderPlaced { .. } => "order_placed",
            Fact::OrderMoved { .. } => "order_moved",
            Fact::OrderRefunded { .. } => "order_refunded",
            Fact::PaymentLate { .. } => "payment_late",
            Fact::LatePaymentReturned { .. } => "late_payment_returned",
            Fact::HoldExtended { .. } => "hold_extended",
            Fact::DrawHeld { .. } => "draw_held",
            Fact::EntryDrawn { .. } => "entry_drawn",
            Fact::BuyerBlocked { .. } => "buyer_blocked",
            Fact::OrderImported { .. } => "order_imported",
            Fact::ClockMark { .. } => "clock_mark",
        }
    }
}
