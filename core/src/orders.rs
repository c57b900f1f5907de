//! The orders of a shard and the ways to find them: by number, by buyer and item
//! (for the cap), by buyer (for the buyer's list), by idempotency key.
//!
//! Compact, because a full sale keeps it in memory: an order takes 64 bytes, a holding
//! (one buyer's orders of one item) 40, and each index 6 to 11 bytes a row. An idempotency key takes
//! its length and a byte, a payment or a refund 40 bytes and its reference, and so does the end of an
//! order that is cancelled or expires.
//! It knows nothing of stock or rules. Next: [`crate::shard`].
//!
//! ```text
//! by_buyer ─▶ Holding(buyer, item A) ─next─▶ Holding(buyer, item B)
//!                 │ last                         │ last
//!                 ▼                              ▼
//!             Order ─previous─▶ Order        Order             by_id ─▶ Order
//! ```
//!
//! A purchase spends its time waiting for memory, and each index is one more wait. So the holdings
//! of a buyer are searched along `next`, and keys along `previous`; only a chain of more than
//! [`WALK_MAX`] rows is entered, as a whole, in `by_holding`, `by_item` and `by_key`. And
//! `by_id` keeps the orders of an item side by side: see [`hash_id`].
//!
//! Next: [`pages`], the lists of a buyer's orders.

mod pages;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::command::OrderView;
use crate::index::Index;
use crate::item::OrderState;
use crate::limits::{
    Bounds, MONEY_ROWS_PER_ORDER_MAX, ORDERS_PER_BUYER_AND_ITEM_MAX, TEXT_BYTES_PER_SHARD_MAX,
};
use crate::money::{Late, MoneyKind, MoneyRow, Price, tell};
use crate::slab::{Arena, Place, Slab};
use crate::types::{BuyerHash, ItemId, Lsn, OrderId, Quantity, UnixMillis};

/// Rows of a chain that are walked; a longer chain is found by index.
const WALK_MAX: u8 = 8;
/// "No row" in a link.
const NONE: u32 = u32::MAX;
/// Bits of `units_state` that hold the state; the marks lie above, the units above those.
const STATE_BITS: u32 = 4;
/// The mark of an order that was placed as an entry in a draw.
const ENTRY: u32 = 1 << STATE_BITS;
/// The mark of an entry that was drawn.
const DRAWN: u32 = 2 << STATE_BITS;
/// Where the units begin.
const UNITS_SHIFT: u32 = STATE_BITS + 2;
/// Bits of the units; the bits above hold what does not fit `key_at`.
const UNITS_BITS: u32 = 20;
/// Where the upper part of the key's position begins.
const KEY_SHIFT: u32 = UNITS_SHIFT + UNITS_BITS;
/// Bits of a time in milliseconds; the bits above hold what does not fit `pay_within_ms`.
const TIME_BITS: u32 = 48;
/// Orders searched for one that used the cap; a buyer who has cancelled more gets no hint.
const CAP_HINT_STEPS_MAX: usize = 64;
/// Orders of a holding that a page may have to look at; a longer one is in `long`.
const CHAIN_MAX: u8 = ORDERS_PER_BUYER_AND_ITEM_MAX;

struct Order {
    id: OrderId,
    lsn: Lsn,
    state_lsn: Lsn,
    /// The time, and above its [`TIME_BITS`] the upper part of the time to pay within.
    created_at_ms: u64,
    key_hash: u64,
    /// The lower part of its key's position.
    key_at: u32,
    /// The last entry of its money.
    money: u32,
    holding: u32,
    previous: u32,
    /// The lower part of `pay_by_ms - created_at_ms`; 0 in all = never expires. An entry may
    /// have been drawn long after it was placed.
    pay_within_ms: u32,
    units_state: u32,
}

/// A payment or a refund of an order: see [`MoneyRow`].
struct Money {
    at_ms: UnixMillis,
    lsn: Lsn,
    reference_hash: u64,
    reference: u32,
    reference_upper: u8,
    kind: MoneyKind,
    units: u32,
    previous: u32,
}

struct Holding {
    buyer: BuyerHash,
    item: ItemId,
    subject: u32,
    units: u32,
    last: u32,
    next: u32,
    subject_len: u8,
    subject_upper: u8,
    /// Orders of this holding, counted up to 255.
    orders: u8,
    /// In the first holding of a buyer: how many the buyer has, counted up to 255.
    siblings: u8,
}

const _: () = {
    assert!(size_of::<Order>() == 64);
    assert!(size_of::<Money>() == 40);
    assert!(size_of::<Holding>() == 40);
    assert!(crate::limits::QUANTITY_MAX < 1 << UNITS_BITS);
    assert!(2 * TEXT_BYTES_PER_SHARD_MAX <= 1 << (64 - KEY_SHIFT));
    assert!(WALK_MAX < CHAIN_MAX && CHAIN_MAX < u8::MAX);
    assert!(OrderState::COUNT <= 1 << STATE_BITS);
    assert!(crate::limits::UNIX_MILLIS_MAX + crate::limits::HOLD_MS_MAX < 1 << TIME_BITS);
};

impl Order {
    fn quantity(&self) -> Quantity {
        let units = self.units_state >> UNITS_SHIFT & ((1 << UNITS_BITS) - 1);
        Quantity::new(u64::from(units)).expect("checked when placed")
    }
    fn state(&self) -> OrderState {
        let code = self.units_state & ((1 << STATE_BITS) - 1);
        OrderState::from_code(code as u8).expect("set from a state")
    }
    fn set_state(&mut self, state: OrderState) {
        self.units_state = (self.units_state >> STATE_BITS) << STATE_BITS | u32::from(state.code());
    }
    const fn key(&self) -> Place {
        Place { lower: self.key_at, upper: (self.units_state >> KEY_SHIFT) as u8 }
    }
    const fn created_at_ms(&self) -> UnixMillis {
        UnixMillis(self.created_at_ms & ((1 << TIME_BITS) - 1))
    }
    fn pay_by_ms(&self) -> UnixMillis {
        let upper = self.created_at_ms >> TIME_BITS;
        match upper << 32 | u64::from(self.pay_within_ms) {
            0 => UnixMillis(0),
            within => UnixMillis(self.created_at_ms().0 + within),
        }
    }
    fn set_times(&mut self, created_at_ms: UnixMillis, pay_by_ms: UnixMillis) {
        let within = pay_by_ms.0.saturating_sub(created_at_ms.0);
        self.created_at_ms = within >> 32 << TIME_BITS | created_at_ms.0;
        self.pay_within_ms = within as u32;
    }
}

/// A row to add.
pub(crate) struct NewOrder<'a> {
    pub(crate) id: OrderId,
    pub(crate) quantity: Quantity,
    pub(crate) state: OrderState,
    pub(crate) created_at_ms: UnixMillis,
    pub(crate) pay_by_ms: UnixMillis,
    pub(crate) lsn: Lsn,
    pub(crate) state_lsn: Lsn,
    pub(crate) key_hash: u64,
    pub(crate) key: &'a [u8],
    pub(crate) price: Price,
    /// Units given back; their refunds are added after it.
    pub(crate) refunded: u32,
    pub(crate) entry: bool,
    pub(crate) drawn: bool,
    pub(crate) buyer: BuyerHash,
    pub(crate) subject: &'a [u8],
}

impl NewOrder<'_> {
    /// Units that were not given back.
    pub(crate) const fn live_units(&self) -> u32 {
        self.quantity.get() - self.refunded
    }
}

/// All orders of a shard.
pub(crate) struct OrderBook {
    orders: Slab<Order>,
    holdings: Slab<Holding>,
    subjects: Arena,
    /// Keys and references; the first one is empty.
    texts: Arena,
    money: Slab<Money>,
    by_id: Index,
    by_holding: Index,
    by_buyer: Index,
    by_key: Index,
    /// The holdings of buyers with many items: by the buyer's first holding, then by item.
    by_item: BTreeMap<(u32, ItemId), u32>,
    /// The orders of holdings with more than [`CHAIN_MAX`], ascending.
    long: BTreeMap<u32, Vec<u32>>,
    bounds: Bounds,
    /// Rows for which [`Self::keep_headroom`] makes room.
    expected: usize,
    /// The index that [`Self::keep_headroom`] looks at next.
    turn: usize,
}

/// How much of an order book's tables is used.
pub(crate) struct Used {
    pub(crate) orders: usize,
    pub(crate) buyers: usize,
    pub(crate) subject_bytes: u64,
    pub(crate) text_bytes: u64,
}

const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Orders of an item are placed one after the other, and so they lie in the index: blocks of 64
/// numbers go to one part and to neighbouring buckets, each block to another place. Tags depend
/// on the whole number.
fn hash_id(id: OrderId) -> u64 {
    const TAG: u64 = 0x7F << 57;
    let whole = id.get().wrapping_mul(SPREAD);
    let block = (id.get() >> 6).wrapping_mul(SPREAD);
    let block = block ^ (block >> 32);
    // Items with a few orders each do not all begin at the same bucket of their blocks.
    let turn = u64::from(id.item().get()).wrapping_mul(SPREAD) >> 58;
    whole & TAG | block & !TAG & !63 | (id.get() + turn) & 63
}
fn hash_holding(buyer: BuyerHash, item: ItemId) -> u64 {
    buyer.0[0] ^ u64::from(item.get()).wrapping_mul(SPREAD)
}
fn hash_key(holding: u32, key_hash: u64) -> u64 {
    key_hash ^ u64::from(holding).wrapping_mul(SPREAD)
}

impl OrderBook {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let mut texts = Arena::new();
        texts.push_text(&[]);
        Self {
            orders: Slab::new(),
            holdings: Slab::new(),
            subjects: Arena::new(),
            texts,
            money: Slab::new(),
            by_id: Index::new(),
            by_holding: Index::new(),
            by_buyer: Index::new(),
            by_key: Index::new(),
            by_item: BTreeMap::new(),
            long: BTreeMap::new(),
            bounds,
            expected: 0,
            turn: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.orders.len()
    }

    /// Whether one more order can be kept at all.
    pub(crate) fn has_room(&self) -> bool {
        self.orders.len() < self.bounds.orders
            && self.subjects.bytes() < self.bounds.subject_bytes
            && self.texts.bytes() < self.bounds.text_bytes
    }

    /// Whether one more payment or refund can be kept: those of existing orders go on when no new
    /// order is accepted any more.
    pub(crate) fn has_room_for_money(&self) -> bool {
        self.texts.bytes() < 2 * self.bounds.text_bytes
            && self.money.len() < self.bounds.orders.saturating_mul(2)
    }

    pub(crate) const fn used(&self) -> Used {
        let (orders, buyers) = (self.orders.len(), self.holdings.len());
        Used { orders, buyers, subject_bytes: self.subjects.bytes(), text_bytes: self.texts.bytes() }
    }

    /// Makes room for about this many orders before the first, so that placing them moves nothing.
    pub(crate) fn expect(&mut self, orders: usize) {
        self.orders.reserve(orders);
        self.holdings.reserve(orders);
        self.by_id.reserve(orders);
        self.by_buyer.reserve(orders);
    }

    /// Announces about this many more orders: room for them is made ahead.
    pub(crate) fn expect_more(&mut self, orders: usize) {
        self.expected = self.expected.max(self.orders.len() + orders);
    }

    /// Makes room for more orders where little is left, and for those that are expected, in one
    /// index at a time. Called between requests.
    pub(crate) fn keep_headroom(&mut self, headroom: usize) {
        if self.orders.len() == 0 && self.expected == 0 {
            return;
        }
        self.orders.keep_headroom(headroom, self.expected);
        self.holdings.keep_headroom(headroom, self.expected);
        self.money.keep_headroom(headroom, 0);
        let (orders, holdings, expected) = (&self.orders, &self.holdings, self.expected);
        let keyed = if self.by_key.is_empty() { 0 } else { expected };
        for _ in 0..4 {
            self.turn = (self.turn + 1) % 4;
            let moved = match self.turn {
                0 => self.by_id.keep_headroom(expected, |&slot| hash_id(orders.get(slot).id)),
                1 => self.by_holding.keep_headroom(0, |&at| rehash_holding(holdings, at)),
                2 => self.by_buyer.keep_headroom(expected, |&at| holdings.get(at).buyer.0[0]),
                _ => self.by_key.keep_headroom(keyed, |&slot| rehash_key(orders, slot)),
            };
            if moved {
                return;
            }
        }
    }

    /// Most rows that one call has moved so far.
    pub(crate) fn moved_max(&self) -> usize {
        let indexes = [&self.by_id, &self.by_holding, &self.by_buyer, &self.by_key];
        indexes.map(Index::moved_max).into_iter().max().unwrap_or(0)
    }

    /// The holding of this item by this buyer.
    pub(crate) fn holding(&self, buyer: BuyerHash, item: ItemId) -> Option<u32> {
        let first = self.first_holding(buyer)?;
        if self.holdings.get(first).siblings > WALK_MAX {
            let same = |&at: &u32| {
                let holding = self.holdings.get(at);
                holding.buyer == buyer && holding.item == item
            };
            return self.by_holding.find(hash_holding(buyer, item), same);
        }
        self.siblings(first).find(|&at| self.holdings.get(at).item == item)
    }

    fn first_holding(&self, buyer: BuyerHash) -> Option<u32> {
        self.by_buyer.find(buyer.0[0], |&at| self.holdings.get(at).buyer == buyer)
    }

    fn siblings(&self, first: u32) -> impl Iterator<Item = u32> {
        core::iter::successors(Some(first), |&at| some(self.holdings.get(at).next))
    }

    /// Whether the buyer has placed as many orders of the item as allowed, in whatever state they
    /// are: the bound, or one for each unit of a larger `cap`. Only a decision asks: a log may
    /// hold more.
    pub(crate) fn is_used_up(&self, holding: u32, cap: u32) -> bool {
        let bound = u32::from(self.bounds.orders_per_buyer_and_item).max(cap) as usize;
        self.placed(holding) >= bound
    }

    /// How many orders a buyer has placed of an item.
    fn placed(&self, holding: u32) -> usize {
        match self.holdings.get(holding).orders {
            orders if orders <= CHAIN_MAX => usize::from(orders),
            _ => self.long.get(&holding).map_or(usize::from(CHAIN_MAX) + 1, Vec::len),
        }
    }

    /// Units that count against the cap.
    pub(crate) fn units(&self, holding: u32) -> u32 {
        self.holdings.get(holding).units
    }

    /// The order that was placed with this key.
    pub(crate) fn find_key(&self, holding: u32, key_hash: u64) -> Option<u32> {
        if self.holdings.get(holding).orders <= WALK_MAX {
            return self.chain(holding).find(|&slot| self.orders.get(slot).key_hash == key_hash);
        }
        let same = |&slot: &u32| {
            let order = self.orders.get(slot);
            order.key_hash == key_hash && order.holding == holding
        };
        self.by_key.find(hash_key(holding, key_hash), same)
    }

    /// The entry of the holding that waits to be drawn; a buyer has one at most.
    pub(crate) fn entered(&self, holding: u32) -> Option<OrderId> {
        let newest_first = self.chain(holding).take(CAP_HINT_STEPS_MAX);
        let mut orders = newest_first.map(|slot| self.orders.get(slot));
        orders.find(|order| order.state() == OrderState::Entered).map(|order| order.id)
    }

    /// A live order of the holding, if one is near the end of its list.
    pub(crate) fn live_order(&self, holding: u32) -> Option<OrderId> {
        let newest_first = self.chain(holding).take(CAP_HINT_STEPS_MAX);
        newest_first.map(|slot| self.orders.get(slot)).find(|o| o.state().counts_to_cap()).map(|o| o.id)
    }

    pub(crate) fn find(&self, id: OrderId) -> Option<u32> {
        self.by_id.find(hash_id(id), |&slot| self.orders.get(slot).id == id)
    }

    /// The order as it is now, without its price, which its item knows.
    pub(crate) fn view(&self, slot: u32) -> OrderView {
        let order = self.orders.get(slot);
        let refunded = if order.money == NONE { 0 } else { self.refunded(slot) };
        OrderView {
            order: order.id,
            quantity: order.quantity(),
            state: order.state(),
            created_at_ms: order.created_at_ms(),
            pay_by_ms: order.pay_by_ms(),
            price: Price::UNKNOWN,
            refunded,
            lsn: order.lsn,
            state_lsn: order.state_lsn,
        }
    }

    pub(crate) fn key_hash(&self, slot: u32) -> u64 {
        self.orders.get(slot).key_hash
    }
    /// The idempotency key; empty = none, or only its hash is known.
    pub(crate) fn key(&self, slot: u32) -> &[u8] {
        self.texts.text(self.orders.get(slot).key())
    }

    // ---- money ----

    /// The order's payments and refunds, newest first.
    pub(crate) fn money(&self, slot: u32) -> impl Iterator<Item = MoneyRow<'_>> {
        let order = self.orders.get(slot);
        let last = some(order.money);
        let entries = core::iter::successors(last, |&at| some(self.money.get(at).previous));
        entries.map(|at| {
            let money = self.money.get(at);
            let place = Place { lower: money.reference, upper: money.reference_upper };
            MoneyRow {
                order: order.id,
                kind: money.kind,
                at_ms: money.at_ms,
                lsn: money.lsn,
                units: money.units,
                reference_hash: money.reference_hash,
                reference: self.texts.text(place),
            }
        })
    }

    /// Units given back.
    pub(crate) fn refunded(&self, slot: u32) -> u32 {
        self.money(slot).map(|row| row.units).sum()
    }

    /// Whether one more refund or late payment of the order can be kept.
    pub(crate) fn has_room_for_row(&self, slot: u32) -> bool {
        self.has_room_for_money() && self.money(slot).count() < MONEY_ROWS_PER_ORDER_MAX
    }

    /// Its first deadline, if it got more time since.
    pub(crate) fn first_deadline(&self, slot: u32) -> Option<UnixMillis> {
        let moved = self.money(slot).find(|row| row.kind == MoneyKind::Extension);
        moved.map(|row| UnixMillis(row.reference_hash))
    }

    /// Units of the item that the order's buyer holds.
    pub(crate) fn units_of(&self, slot: u32) -> u32 {
        self.units(self.orders.get(slot).holding)
    }

    /// A live order of the order's buyer and item.
    pub(crate) fn live_order_of(&self, slot: u32) -> Option<OrderId> {
        self.live_order(self.orders.get(slot).holding)
    }

    /// Keyed hash of the reference of its payment, or its refund, that counts ([`tell`]); zero = none.
    pub(crate) fn reference_hash(&self, slot: u32, kind: MoneyKind) -> u64 {
        // The newest row comes first, so an older reference counts only where the newer rows have none.
        self.money(slot).filter(|row| row.kind == kind).fold(0, |newer, row| {
            let mut known = row.reference_hash;
            tell(&mut known, newer);
            known
        })
    }

    /// The state of the late payment with this hash; `None` = there is none, or it was accepted since.
    pub(crate) fn late(&self, slot: u32, payment_hash: u64) -> Option<Late<'_>> {
        let of = |row: &MoneyRow<'_>| payment_hash != 0 && row.reference_hash == payment_hash;
        self.money(slot).filter(of).find_map(|row| match row.kind {
            MoneyKind::LatePayment => Some(Some(Late::Open)),
            MoneyKind::LateReturned => Some(Some(Late::Returned(row.reference))),
            MoneyKind::Payment => Some(None),
            MoneyKind::Refund | MoneyKind::Extension | MoneyKind::Ended => None,
        })?
    }

    /// Whether a late payment of the order was neither accepted nor refunded since.
    pub(crate) fn has_open_late(&self, slot: u32) -> bool {
        let mut late = self.money(slot).filter(|row| row.kind == MoneyKind::LatePayment);
        late.any(|row| self.late(slot, row.reference_hash) == Some(Late::Open))
    }

    /// Records a payment or refund; refunded units no longer count against the cap.
    pub(crate) fn add_money(&mut self, slot: u32, row: &MoneyRow<'_>) {
        let place = match row.reference {
            [] => Place { lower: 0, upper: 0 },
            reference => self.texts.push_text(reference),
        };
        let order = self.orders.get_mut(slot);
        order.money = self.money.push(Money {
            at_ms: row.at_ms,
            lsn: row.lsn,
            reference_hash: row.reference_hash,
            reference: place.lower,
            reference_upper: place.upper,
            kind: row.kind,
            units: row.units,
            previous: order.money,
        });
        if row.units > 0 && order.state() == OrderState::Paid {
            self.holdings.get_mut(order.holding).units -= row.units;
        }
    }

    /// Whether the order was placed as an entry in a draw.
    pub(crate) fn is_entry(&self, slot: u32) -> bool {
        self.orders.get(slot).units_state & ENTRY != 0
    }
    /// Whether it is an entry that was drawn.
    pub(crate) fn is_drawn(&self, slot: u32) -> bool {
        self.orders.get(slot).units_state & DRAWN != 0
    }
    pub(crate) fn buyer(&self, slot: u32) -> BuyerHash {
        self.holdings.get(self.orders.get(slot).holding).buyer
    }
    pub(crate) fn subject(&self, slot: u32) -> &[u8] {
        let holding = self.holdings.get(self.orders.get(slot).holding);
        let place = Place { lower: holding.subject, upper: holding.subject_upper };
        self.subjects.get(place, holding.subject_len)
    }

    /// Reads the memory in which this buyer is looked up and booked; the result means nothing. See
    /// [`crate::shard::Shard::look_ahead`].
    pub(crate) fn prefetch_buyer(&self, buyer: BuyerHash) -> bool {
        self.by_buyer.find(buyer.0[0], |_| false).is_some()
    }

    /// Reads the rows of these orders, then the holdings that they point to; the result means nothing.
    pub(crate) fn prefetch_holdings(&self, slots: &[u32]) -> bool {
        let sum = slots.iter().fold(0, |sum: u32, &slot| sum ^ self.orders.get(slot).holding);
        let units = |&slot: &u32| self.holdings.get(self.orders.get(slot).holding).units;
        slots.iter().fold(sum, |sum, slot| sum ^ units(slot)) != 0
    }

    /// Adds an order whose number is not there yet.
    pub(crate) fn insert(&mut self, new: &NewOrder<'_>) -> u32 {
        let item = new.id.item();
        let holding = match self.holding(new.buyer, item) {
            Some(holding) => holding,
            None => self.insert_holding(new.buyer, item, new.subject),
        };
        let marks = if new.entry { ENTRY } else { 0 } | if new.drawn { DRAWN } else { 0 };
        let key = match new.key {
            [] => Place { lower: 0, upper: 0 },
            key => self.texts.push_text(key),
        };
        let units = new.quantity.get() << UNITS_SHIFT | u32::from(key.upper) << KEY_SHIFT;
        let mut order = Order {
            id: new.id,
            lsn: new.lsn,
            state_lsn: new.state_lsn,
            created_at_ms: 0,
            key_hash: new.key_hash,
            key_at: key.lower,
            money: NONE,
            holding,
            previous: self.holdings.get(holding).last,
            pay_within_ms: 0,
            units_state: units | marks | u32::from(new.state.code()),
        };
        order.set_times(new.created_at_ms, new.pay_by_ms);
        let slot = self.orders.push(order);
        let row = self.holdings.get_mut(holding);
        row.last = slot;
        row.orders = row.orders.saturating_add(1);
        // Only an order in a snapshot may have another state than its first one.
        if new.state.counts_to_cap() {
            row.units += new.quantity.get();
        }
        let orders = &self.orders;
        self.by_id.insert(hash_id(new.id), slot, |&slot| hash_id(orders.get(slot).id));
        match self.holdings.get(holding).orders {
            count if count <= WALK_MAX => {}
            count if count == WALK_MAX + 1 => {
                let chain: Vec<u32> = self.chain(holding).collect();
                chain.into_iter().for_each(|slot| self.index_key(slot));
            }
            _ => self.index_key(slot),
        }
        if self.holdings.get(holding).orders > CHAIN_MAX {
            self.note_long(holding, slot);
        }
        slot
    }

    fn index_key(&mut self, slot: u32) {
        let orders = &self.orders;
        let order = orders.get(slot);
        if order.key_hash != 0 {
            self.by_key.insert(rehash_key(orders, slot), slot, |&slot| rehash_key(orders, slot));
        }
    }

    fn insert_holding(&mut self, buyer: BuyerHash, item: ItemId, subject: &[u8]) -> u32 {
        let first = self.first_holding(buyer);
        let place = self.subjects.push(subject);
        let holding = self.holdings.push(Holding {
            buyer,
            item,
            subject: place.lower,
            units: 0,
            last: NONE,
            next: first.map_or(NONE, |first| self.holdings.get(first).next),
            subject_len: subject.len() as u8,
            subject_upper: place.upper,
            orders: 0,
            siblings: 1,
        });
        let Some(first) = first else {
            let holdings = &self.holdings;
            self.by_buyer.insert(buyer.0[0], holding, |&at| holdings.get(at).buyer.0[0]);
            return holding;
        };
        let row = self.holdings.get_mut(first);
        row.next = holding;
        row.siblings = row.siblings.saturating_add(1);
        match row.siblings {
            count if count <= WALK_MAX => {}
            count if count == WALK_MAX + 1 => {
                let all: Vec<u32> = self.siblings(first).collect();
                all.into_iter().for_each(|at| self.index_holding(first, at));
            }
            _ => self.index_holding(first, holding),
        }
        holding
    }

    fn index_holding(&mut self, first: u32, at: u32) {
        let holdings = &self.holdings;
        self.by_item.insert((first, holdings.get(at).item), at);
        self.by_holding.insert(rehash_holding(holdings, at), at, |&at| rehash_holding(holdings, at));
    }

    /// Changes the state of an order and the units that count against the cap.
    pub(crate) fn set_state(&mut self, slot: u32, state: OrderState, lsn: Lsn) {
        // Refunded units do not count any more.
        let refunded = if self.orders.get(slot).money == NONE { 0 } else { self.refunded(slot) };
        let order = self.orders.get_mut(slot);
        let (before, units) = (order.state(), order.quantity().get() - refunded);
        order.set_state(state);
        order.state_lsn = lsn;
        let holding = self.holdings.get_mut(order.holding);
        match (before.counts_to_cap(), state.counts_to_cap()) {
            (true, false) => holding.units -= units,
            (false, true) => holding.units += units,
            _ => {}
        }
    }

    /// Records the fact that changed an order, but not its state.
    pub(crate) fn touch(&mut self, slot: u32, lsn: Lsn) {
        let order = self.orders.get_mut(slot);
        order.state_lsn = order.state_lsn.max(lsn);
    }

    /// Sets another deadline.
    pub(crate) fn set_deadline(&mut self, slot: u32, pay_by_ms: UnixMillis) {
        let order = self.orders.get_mut(slot);
        order.set_times(order.created_at_ms(), pay_by_ms);
    }

    /// Marks an entry as drawn and sets its deadline; the caller sets its state.
    pub(crate) fn set_drawn(&mut self, slot: u32, pay_by_ms: UnixMillis) {
        let order = self.orders.get_mut(slot);
        order.units_state |= DRAWN;
        order.set_times(order.created_at_ms(), pay_by_ms);
    }

    fn chain(&self, holding: u32) -> impl Iterator<Item = u32> {
        let last = some(self.holdings.get(holding).last);
        core::iter::successors(last, |&slot| some(self.orders.get(slot).previous))
    }
}

fn some(link: u32) -> Option<u32> {
    (link != NONE).then_some(link)
}
fn rehash_holding(holdings: &Slab<Holding>, at: u32) -> u64 {
    let holding = holdings.get(at);
    hash_holding(holding.buyer, holding.item)
}
fn rehash_key(orders: &Slab<Order>, slot: u32) -> u64 {
    let order = orders.get(slot);
    hash_key(order.holding, order.key_hash)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::types::HashSecret;

    const SECRET: HashSecret = HashSecret([3; 16]);

    fn item(number: u32) -> ItemId {
        ItemId::new(u64::from(number)).expect("valid")
    }

    fn place(book: &mut OrderBook, id: OrderId, subject: &[u8], key_hash: u64) -> u32 {
        let (lsn, at_ms) = (Lsn(1), UnixMillis(1));
        book.insert(&NewOrder {
            id,
            quantity: Quantity::ONE,
            state: OrderState::Confirmed,
            created_at_ms: at_ms,
            pay_by_ms: UnixMillis(0),
            lsn,
            state_lsn: lsn,
            key_hash,
            key: &[],
            price: Price::UNKNOWN,
            refunded: 0,
            entry: false,
            drawn: false,
            buyer: SECRET.buyer(subject),
            subject,
        })
    }

    /// A buyer with more and more items, each with more and more orders: below and above the length
    /// up to which chains are walked, everything is found, and nothing else.
    #[test]
    fn chains_are_found_whether_they_are_walked_or_not() {
        let mut book = OrderBook::new(Bounds::DEFAULT);
        let (ann, bob) = (SECRET.buyer(b"ann"), SECRET.buyer(b"bob"));
        let many = 3 * u32::from(WALK_MAX);
        for seq in 1..=many {
            for number in 1..=seq {
                place(&mut book, OrderId::new(item(number), seq), b"ann", u64::from(seq));
            }
            place(&mut book, OrderId::new(item(1_000), seq), b"bob", 0);
            for number in 1..=many {
                let holding = book.holding(ann, item(number));
                assert_eq!(holding.is_some(), number <= seq, "item {number} after {seq}");
                let Some(holding) = holding else { continue };
                assert_eq!(book.units(holding), seq + 1 - number);
                for key in 1..=many {
                    let order = book.find_key(holding, u64::from(key)).map(|slot| book.view(slot).order);
                    let expected = (number..=seq).contains(&key).then(|| OrderId::new(item(number), key));
                    assert_eq!(order, expected, "key {key} of item {number} after {seq}");
                }
            }
            assert!(book.holding(bob, item(1)).is_none() && book.holding(ann, item(1_000)).is_none());
        }
        assert_eq!(book.of_buyer(ann, None, 0, usize::MAX).len(), (many * (many + 1) / 2) as usize);
    }

    /// Orders of an item lie side by side in the index, and all of them are found.
    #[test]
    fn every_order_is_found_by_its_number() {
        let mut book = OrderBook::new(Bounds::DEFAULT);
        for seq in 1..=2_000 {
            for number in [1, 2, 77, 1 << 30] {
                place(&mut book, OrderId::new(item(number), seq), b"ann", 0);
            }
        }
        for number in [1, 2, 77, 1 << 30] {
            let found =
                |seq| book.find(OrderId::new(item(number), seq)).map(|slot| book.view(slot).order.seq());
            assert!((1..=2_000).all(|seq| found(seq) == Some(seq)));
            assert!((2_001..=4_000).all(|seq| found(seq).is_none()));
        }
        let part = |seq| crate::index::pattern(hash_id(OrderId::new(item(7), seq)), 19);
        assert!((64..128).all(|seq| part(seq) == part(64)), "a block lies in one part");
    }
}
