//! The commands to an owner core, and their outcomes.
//!
//! "Sold out" is an outcome, not an error; its number never changes. Next: [`crate::shard`].

use crate::draw::{DrawSeed, DrawView};
use crate::fact::Switch;
use crate::item::{ChallengeRule, FieldError, ItemSpec, OrderState, Payment, TicketRule};
use crate::limits::CURRENCY_BYTES;
use crate::money::Price;
use crate::types::{BuyerHash, ItemId, Lsn, OrderId, Quantity, UnixMillis};

/// A request to change something, decided by the item's owner.
#[derive(Clone, Copy, Debug)]
pub enum Command<'a> {
    /// A buyer buys.
    Purchase(Purchase<'a>),
    /// The buyer cancels an order; an order of another buyer is "not found".
    CancelOwn {
        /// Which order.
        order: OrderId,
        /// Who asks.
        buyer: BuyerHash,
    },
    /// The merchant changes the state of an order.
    Move {
        /// Which order.
        order: OrderId,
        /// How.
        movement: Movement,
        /// The payment's reference; empty = none.
        payment_ref: &'a [u8],
        /// Who asks.
        actor: &'a str,
    },
    /// The merchant reports a payment, and wants the order even if its units were given back.
    PayAgain {
        /// Which order.
        order: OrderId,
        /// The payment's reference.
        payment_ref: &'a [u8],
        /// Who asks.
        actor: &'a str,
    },
    /// The merchant refunds a paid order, in part or all that remains.
    Refund {
        /// Which order.
        order: OrderId,
        /// The payment that is refunded; empty = not said, else it must be the order's.
        payment_ref: &'a [u8],
        /// The refund's own reference; empty = none. The same one again is the same refund.
        refund_ref: &'a [u8],
        /// How many units; `None` = all that remain.
        units: Option<Quantity>,
        /// Who asks.
        actor: &'a str,
    },
    /// The merchant gives a buyer more time to pay.
    ExtendHold {
        /// Which order.
        order: OrderId,
        /// The new deadline.
        pay_by_ms: UnixMillis,
        /// Who asks.
        actor: &'a str,
    },
    /// The merchant creates an item or changes its settings.
    PutItem {
        /// Which.
        item: ItemId,
        /// What to change; a new item needs every setting that has no default.
        patch: ItemPatch<'a>,
        /// Fresh random bytes; kept if the item needs a seed now and has none yet.
        seed: DrawSeed,
        /// Who asks.
        actor: &'a str,
    },
    /// Units are granted or withdrawn.
    AdjustStock {
        /// Of which item.
        item: ItemId,
        /// How many; negative withdraws.
        delta: i64,
        /// Who asks.
        actor: &'a str,
        /// The idempotency key of the call; empty = none.
        key: &'a [u8],
    },
    /// The item is paused, resumed or closed.
    SwitchItem {
        /// Which.
        item: ItemId,
        /// To what; not [`Switch::Ended`], which is the clock's.
        switch: Switch,
        /// Who asks.
        actor: &'a str,
        /// The idempotency key of the call; empty = none.
        key: &'a [u8],
    },
    /// A buyer is put on the blocklist or taken off it. Decided by shard 0; the others
    /// [`crate::shard::Shard::follow_block`].
    BlockBuyer {
        /// Who.
        subject: &'a [u8],
        /// On or off.
        blocked: bool,
        /// Who asks.
        actor: &'a str,
    },
}

/// What the merchant does with an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Movement {
    /// It was paid.
    Pay,
    /// Its payment is refunded.
    Refund,
    /// It is cancelled before payment.
    Cancel,
}

/// One purchase.
#[derive(Clone, Copy, Debug)]
pub struct Purchase<'a> {
    /// What.
    pub item: ItemId,
    /// Who, as a hash.
    pub buyer: BuyerHash,
    /// Who, as the token says; 1 to 255 bytes.
    pub subject: &'a [u8],
    /// How many.
    pub quantity: Quantity,
    /// The idempotency key; at most 64 bytes, empty = none.
    pub key: &'a [u8],
    /// The home core's check of its ticket.
    pub ticket: Ticket,
}

/// The home core's check of a ticket. It travels with the purchase: the retry of a placed
/// purchase needs no ticket, and only the owner can tell a retry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ticket {
    /// Valid, or the item needs none.
    Good,
    /// The item needs one, and there is none.
    Missing,
    /// Not valid for this buyer and item at this time.
    Invalid,
}

impl Ticket {
    /// Whether a purchase may proceed with it.
    ///
    /// # Errors
    /// [`Refusal::TicketRequired`] or [`Refusal::TicketInvalid`].
    pub const fn check(self) -> Result<(), Refusal> {
        match self {
            Self::Good => Ok(()),
            Self::Missing => Err(Refusal::TicketRequired),
            Self::Invalid => Err(Refusal::TicketInvalid),
        }
    }
}

/// Settings to change; `None` keeps what is there, or takes the default on creation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the fields of ItemSpec, which says what they mean")]
pub struct ItemPatch<'a> {
    pub name: Option<&'a str>,
    pub price_minor: Option<u64>,
    pub currency: Option<[u8; CURRENCY_BYTES]>,
    /// The stock of a new item; later it must equal what is granted already.
    pub stock: Option<u64>,
    pub opens_at_ms: Option<UnixMillis>,
    pub closes_at_ms: Option<UnixMillis>,
    pub cap: Option<u32>,
    pub payment: Option<Payment>,
    pub hold_ms: Option<u64>,
    pub ticket: Option<TicketRule>,
    pub challenge: Option<ChallengeRule>,
    pub min_level: Option<u8>,
    pub min_account_age_s: Option<u32>,
    pub admit_per_s: Option<u32>,
    pub draw_ms: Option<u32>,
}

impl<'a> ItemPatch<'a> {
    /// The settings of a new item: price 0, currency CNY, cap 1, payment on order, no gate,
    /// no draw.
    ///
    /// # Errors
    /// Names a field that has no default and is missing.
    pub(crate) fn create(&self) -> Result<(ItemSpec<'a>, u64), FieldError> {
        let missing = |field| FieldError { field, reason: "is needed to create an item" };
        let stock = self.stock.ok_or(missing("stock"))?;
        let blank = ItemSpec {
            name: self.name.ok_or(missing("name"))?,
            price_minor: 0,
            currency: *b"CNY",
            opens_at_ms: self.opens_at_ms.ok_or(missing("opens_at_ms"))?,
            closes_at_ms: self.closes_at_ms.ok_or(missing("closes_at_ms"))?,
            cap: 1,
            payment: self.payment.unwrap_or(Payment::OnOrder),
            hold_ms: 0,
            ticket: TicketRule::Never,
            challenge: ChallengeRule::Never,
            min_level: 0,
            min_account_age_s: 0,
            admit_per_s: 0,
            draw_ms: 0,
        };
        Ok((self.apply_to(&blank), stock))
    }

    /// `spec` with the patch applied. The payment kind never changes.
    pub(crate) fn apply_to(&self, spec: &ItemSpec<'a>) -> ItemSpec<'a> {
        ItemSpec {
            name: self.name.unwrap_or(spec.name),
            price_minor: self.price_minor.unwrap_or(spec.price_minor),
            currency: self.currency.unwrap_or(spec.currency),
            opens_at_ms: self.opens_at_ms.unwrap_or(spec.opens_at_ms),
            closes_at_ms: self.closes_at_ms.unwrap_or(spec.closes_at_ms),
            cap: self.cap.unwrap_or(spec.cap),
            payment: spec.payment,
            hold_ms: self.hold_ms.unwrap_or(spec.hold_ms),
            ticket: self.ticket.unwrap_or(spec.ticket),
            challenge: self.challenge.unwrap_or(spec.challenge),
            min_level: self.min_level.unwrap_or(spec.min_level),
            min_account_age_s: self.min_account_age_s.unwrap_or(spec.min_account_age_s),
            admit_per_s: self.admit_per_s.unwrap_or(spec.admit_per_s),
            draw_ms: self.draw_ms.unwrap_or(spec.draw_ms),
        }
    }
}

/// What an owner decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The order was placed.
    Placed(OrderView),
    /// The same purchase was placed before; this is the order as it was then.
    Replayed(OrderView),
    /// The order changed its state, or was in that state already.
    Moved(OrderView),
    /// Done; may be shown once that LSN is durable. `changed` is false if nothing had to change.
    Done {
        /// The last fact about what was asked.
        lsn: Lsn,
        /// Whether a fact was decided.
        changed: bool,
    },
    /// Refused; nothing changed.
    Refused(Refusal),
    /// Refused, but recorded: a payment that came too late. May be shown once that LSN is durable.
    Noted(Refusal, Lsn),
}

impl Outcome {
    /// The fact that must be durable before this outcome may be shown (I3); zero if none.
    pub fn shown_after(&self) -> Lsn {
        match self {
            Self::Placed(order) | Self::Replayed(order) => order.lsn,
            Self::Moved(order) => order.state_lsn,
            Self::Done { lsn, .. } => *lsn,
            Self::Noted(_, lsn) => *lsn,
            Self::Refused(_) => Lsn::ZERO,
        }
    }
}

/// Why something was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is no such item, or no such order for this buyer.
    NotFound,
    /// The buyer is blocked, or the account's level or age is below what the item asks.
    NotEligible,
    /// The sale begins later.
    NotOpen {
        /// Milliseconds until then.
        opens_in_ms: u64,
    },
    /// The sale is over.
    Ended,
    /// The merchant has paused the item.
    Paused,
    /// Too many requests: of this buyer, of this address, or for this item.
    RateLimited {
        /// Milliseconds until a request would be accepted.
        retry_after_ms: u64,
    },
    /// The item needs a ticket, and there is none.
    TicketRequired,
    /// The ticket is not valid for this buyer and item at this time.
    TicketInvalid,
    /// More units than the cap of the item.
    BadQuantity,
    /// Fewer units are left.
    SoldOut,
    /// The buyer has used the cap.
    CapReached {
        /// A live order that used it, where one was found quickly.
        order: Option<OrderId>,
    },
    /// The buyer has placed as many orders of the item as one buyer may, in whatever state they are.
    OrdersUsedUp,
    /// The key was used with another quantity.
    KeyReused,
    /// The order can no longer be cancelled.
    NotCancellable,
    /// The units were given back before the payment came.
    HoldExpired,
    /// It was paid under another reference.
    AlreadyPaid,
    /// That payment was accepted and refunded since; or, for a refund: everything is refunded.
    AlreadyRefunded,
    /// The refund names a payment that is not this order's.
    OtherPayment,
    /// The order does not wait for a payment.
    NotExtendable,
    /// It is an entry that has not been drawn yet.
    NotDrawn,
    /// A withdrawal above what is available.
    StockInUse {
        /// Units available.
        available: u64,
    },
    /// An invalid setting.
    Invalid(FieldError),
    /// A table is full, or the item's draw is running: nothing changed, try again.
    Overloaded,
}

/// An order as its readers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrderView {
    /// Which.
    pub order: OrderId,
    /// Its units.
    pub quantity: Quantity,
    /// Where it stands.
    pub state: OrderState,
    /// When it was placed.
    pub created_at_ms: UnixMillis,
    /// When it expires unpaid; zero = never.
    pub pay_by_ms: UnixMillis,
    /// What a unit of it costs.
    pub price: Price,
    /// Units given back.
    pub refunded: u32,
    /// The fact that placed it.
    pub lsn: Lsn,
    /// The last fact that changed it.
    pub state_lsn: Lsn,
}

/// An item as the merchant sees it: everything, exact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ItemView<'a> {
    /// Which.
    pub item: ItemId,
    /// Its settings.
    pub spec: ItemSpec<'a>,
    /// Units granted, withdrawals taken off.
    pub granted: u64,
    /// Units for sale.
    pub available: u64,
    /// Units reserved for unpaid orders.
    pub held: u64,
    /// Units sold.
    pub sold: u64,
    /// Orders accepted, in whatever state they are.
    pub accepted: u32,
    /// Its draw, if it has one.
    pub draw: Option<DrawView>,
    /// Paused, closed, ended, drawn: see [`crate::gauge::Rules`].
    pub flags: u8,
    /// How often its window moved or it was closed: a ticket is good for one epoch.
    pub epoch: u32,
    /// How many facts changed it.
    pub version: u64,
    /// The version of its gauge when this was read.
    pub shown_version: u32,
    /// The last fact that changed what a page shows of it, apart from the stock: two pages with
    /// the same such LSN show the same, also after restarts and on other machines with this log.
    pub shown_lsn: Lsn,
    /// The last fact that changed it.
    pub lsn: Lsn,
}
