//! The messages between cores: requests to an owner, and its replies.
//!
//! Values, no references. The hot ones (a purchase and its outcome) are carried
//! inline; the rest is boxed. Next: [`crate::engine::mesh`].

use stampede_core::command::{ItemPatch, ItemView, Movement, OrderView, Outcome, Ticket};
use stampede_core::fact::Switch;
use stampede_core::item::ItemSpec;
use stampede_core::money::MoneyRow;
use stampede_core::place::Place;
use stampede_core::shard::OrderFilter;
use stampede_core::state_row::AuditRow;
use stampede_core::types::{BuyerHash, ItemId, Lsn, OrderId, Quantity, ShortBytes, Subject, UnixMillis};

use super::batch::Chunk;
use super::books::BooksReply;
pub use super::busy::Busy;
use crate::http::cursor::Age;
use crate::http::draw::DrawPage;

/// A connection of a core. Its place in the table may be used again, by another generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnId {
    /// Its place in the core's table.
    pub place: u32,
    /// How many connections used that place before.
    pub generation: u32,
}

/// Where a reply goes on the core that asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyTo {
    /// To a connection, for this one of its requests.
    Slot(ConnId, u32),
    /// To a response that several owners give parts of.
    Gather(u32),
    /// To a batch, by its number on that core.
    Batch(u32),
    /// Nowhere.
    Nobody,
}

/// An idempotency key by value; empty = none.
#[derive(Clone)]
pub struct Key(ShortBytes);

impl Key {
    /// No key.
    pub fn none() -> Self {
        Self::new(&[])
    }
    /// The key with these bytes.
    ///
    /// # Panics
    /// With more than 255 bytes; the HTTP side has checked.
    pub fn new(bytes: &[u8]) -> Self {
        Self(ShortBytes::new(bytes).expect("a key that was read keeps its bound"))
    }
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// A request to the owner core of an item.
pub enum Ask {
    /// A buyer buys.
    Purchase(PurchaseAsk),
    /// A buyer cancels an order.
    CancelOwn(OrderId, BuyerHash),
    /// A buyer reads an order.
    OrderOf(OrderId, BuyerHash),
    /// Records of a batch; the chunk comes back with their answers.
    Batch(Box<Chunk>),
    /// Anything that is not hot.
    Rare(Box<RareAsk>),
}

/// A purchase.
pub struct PurchaseAsk {
    /// What.
    pub item: ItemId,
    /// Who, as a hash.
    pub buyer: BuyerHash,
    /// Who, as the token says.
    pub subject: Subject,
    /// How many.
    pub quantity: Quantity,
    /// The idempotency key.
    pub key: Key,
    /// What the home core found its ticket to be.
    pub ticket: Ticket,
}

/// Requests that are not frequent.
pub enum RareAsk {
    /// A merchant creates or changes an item. The name travels beside the patch.
    /// With an LSN: only if that fact was the last to change the item's settings.
    PutItem(ItemId, OwnedPatch, Option<Lsn>),
    /// A merchant adds or withdraws units, or somebody did so in the database.
    Adjust(ItemId, i64, Who, Key),
    /// A merchant pauses, resumes or closes an item; or a tampered row or a mismatch pauses it.
    SwitchItem(ItemId, Switch, Who, Key),
    /// A merchant pays, refunds or cancels an order.
    Move(OrderId, Movement, String),
    /// A merchant received a payment, and wants the order even if its units were given back.
    PayAgain(OrderId, String),
    /// A merchant refunds units.
    Refund(OrderId, RefundAsk),
    /// A merchant gives a buyer more time to pay.
    Extend(OrderId, UnixMillis),
    /// Orders with a late payment, of one item or all: above this number, at most that many.
    LatePayments(Option<ItemId>, u64, usize),
    /// A merchant blocks or unblocks a buyer. To owner 0.
    Block(Subject, bool),
    /// Owner 0 has done so; the others apply it.
    FollowBlock(Subject, bool),
    /// An item, as the merchant sees it.
    Item(ItemId),
    /// Items with numbers above this one, at most that many; `true`: below it (0 = all), the highest first.
    Items(u32, usize, bool),
    /// Items after this place in the list for buyers, at most that many.
    Listed(Option<Place>, usize),
    /// An order of any buyer.
    Order(OrderId),
    /// A buyer's orders, of one item or all: above this number, at most that many.
    OrdersOf(BuyerHash, Option<ItemId>, u64, usize),
    /// A buyer's orders, the newest first: after this one, at most that many.
    NewestOf(BuyerHash, Option<Age>, usize),
    /// Orders that match a filter: after this number, at most that many.
    Orders(OrderFilter, u64, usize),
    /// The draw of an item: its entries above this number, at most that many.
    Draw(ItemId, u64, usize),
    /// The audit trail above this LSN, at most that many; `true`: below it (0 = all), the newest first.
    Audit(Lsn, usize, bool),
    /// The database's row of an item differs: adjust, or pause if that cannot be.
    FollowPostgres {
        /// Which item.
        item: ItemId,
        /// How many more units the row has.
        delta: i64,
        /// The exported LSN to which `delta` refers.
        as_of: Lsn,
    },
    /// Time has passed without a fact: record the time in the log.
    MarkClock,
    /// A buyer reads an order together with its item.
    OrderPage(OrderId, BuyerHash),
    /// A buyer pays their own order; only in the demo, where payments are simulated.
    PayOwn(OrderId, BuyerHash),
    /// An item's totals and orders, for `stampede reconcile`: orders above this sequence number, at most that
    /// many numbers; `true`: each order, not only their digest.
    Books(ItemId, u32, u32, bool),
}

/// What a merchant wants to refund.
pub struct RefundAsk {
    /// The payment; empty = not given.
    pub payment_ref: String,
    /// The refund's own reference; empty = none.
    pub refund_ref: String,
    /// How many units; `None` = all that are left.
    pub units: Option<Quantity>,
}

/// Who asks for a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// The merchant API.
    Merchant,
    /// The exporter, for the database.
    Postgres,
    /// `stampede reconcile`, which has found a mismatch.
    Reconcile,
}

/// An [`ItemPatch`] that owns its name.
pub struct OwnedPatch {
    name: Option<Box<str>>,
    rest: ItemPatch<'static>,
}

impl OwnedPatch {
    /// A copy of a borrowed one.
    pub fn new(patch: &ItemPatch<'_>) -> Self {
        Self { name: patch.name.map(Box::from), rest: ItemPatch { name: None, ..*patch } }
    }
    /// The patch.
    pub fn get(&self) -> ItemPatch<'_> {
        ItemPatch { name: self.name.as_deref(), ..self.rest }
    }
}

/// What an owner replies.
pub enum Reply {
    /// What was decided.
    Outcome(Outcome),
    /// The order, if it is this buyer's.
    Order(Option<OrderView>),
    /// Not now: nothing was changed, ask again later.
    Busy(Busy),
    /// The records of a batch, decided as far as there was room.
    Batch(Box<Chunk>),
    /// Anything that is not hot.
    Rare(Box<RareReply>),
}

/// Replies to [`RareAsk`].
pub enum RareReply {
    /// What was decided about an item, and how it stands now.
    Changed(Outcome, Option<OwnedItem>),
    /// The item's settings have changed since the caller read them.
    Stale(OwnedItem),
    /// An item.
    Item(Option<OwnedItem>),
    /// Items, in the order asked for.
    Items(Vec<OwnedItem>),
    /// An order and its buyer.
    Order(Option<OwnedOrder>),
    /// Orders and their buyers, in the order asked for.
    Orders(Vec<OwnedOrder>),
    /// The buyer has more orders than can be sorted by age.
    TooManyOrders,
    /// Orders and their buyers, in the order asked for, and the last order that was examined, if more follow.
    OrdersPage(Vec<OwnedOrder>, Option<OrderId>),
    /// A draw and a page of its entries.
    Draw(Option<DrawPage>),
    /// Audit entries, in the order asked for.
    Audit(Vec<OwnedAudit>),
    /// An order and its item, if it is this buyer's.
    OrderPage(Option<OrderOf>),
    /// An item's totals and orders.
    Books(Option<BooksReply>),
    /// Done.
    Followed,
}

/// An order and its buyer.
pub struct OwnedOrder {
    /// The order.
    pub order: OrderView,
    /// The buyer's subject.
    pub subject: Box<[u8]>,
    /// Its idempotency key; empty = none, or unknown.
    pub key: Box<[u8]>,
    /// Its payments and refunds, oldest first.
    pub money: Vec<OwnedMoney>,
}

/// A payment or a refund that owns its reference.
pub struct OwnedMoney {
    row: MoneyRow<'static>,
    reference: Box<[u8]>,
}

impl OwnedMoney {
    /// A copy of a borrowed one.
    pub fn new(row: &MoneyRow<'_>) -> Self {
        Self { row: MoneyRow { reference: &[], ..*row }, reference: row.reference.into() }
    }
    /// The payment or refund.
    pub fn get(&self) -> MoneyRow<'_> {
        MoneyRow { reference: &self.reference, ..self.row }
    }
}

/// An order and its item.
pub struct OrderOf {
    /// The order.
    pub order: OrderView,
    /// The item.
    pub item: OwnedItem,
}

/// An item that owns its name.
#[derive(Clone)]
pub struct OwnedItem {
    name: Box<str>,
    view: ItemView<'static>,
}

impl OwnedItem {
    /// A copy of a borrowed one.
    pub fn new(view: &ItemView<'_>) -> Self {
        let spec = ItemSpec { name: "", ..view.spec };
        Self { name: view.spec.name.into(), view: ItemView { spec, ..*view } }
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Hides the result of its draw while that is not durable; returns whether it was hidden.
    pub fn hide_draw(&mut self, shown: Lsn) -> bool {
        match &mut self.view.draw {
            Some(draw) if draw.held.is_some_and(|held| held.lsn > shown) => {
                draw.held = None;
                true
            }
            _ => false,
        }
    }
    /// The item.
    pub fn get(&self) -> ItemView<'_> {
        ItemView { spec: ItemSpec { name: &self.name, ..self.view.spec }, ..self.view }
    }
}

/// An audit entry that owns its texts.
pub struct OwnedAudit {
    row: AuditRow<'static>,
    actor: Box<str>,
    subject: Box<[u8]>,
}

impl OwnedAudit {
    /// A copy of a borrowed one.
    pub fn new(row: &AuditRow<'_>) -> Self {
        let unborrowed = AuditRow { actor: "", subject: &[], ..*row };
        Self { row: unborrowed, actor: row.actor.into(), subject: row.subject.into() }
    }
    /// The entry.
    pub fn get(&self) -> AuditRow<'_> {
        AuditRow { actor: &self.actor, subject: &self.subject, ..self.row }
    }
}
