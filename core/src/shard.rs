//! One owner core's part of the sale: its items, their orders, and every decision
//! about them.
//!
//! `decide(now, command)` judges, appends the fact and books it; `apply(fact)` books
//! a fact that was decided before, and refuses one that cannot be; `tick(now)` lets
//! time pass. All three end in the same booking functions, so that a replay reaches
//! the same state. The only difference: a decision takes stock first and then
//! writes the fact, a replay reads the fact and then takes the stock.
//!
//! Never here: a clock, a lock, a wait. Next: [`decide`](self::decide) for the rules,
//! [`apply`](self::apply) for replay, [`ahead`](self::ahead) for batches, [`read`](self::read) for what can be asked.

mod ahead;
mod apply;
mod decide;
mod drawing;
mod read;
mod rows;

pub use ahead::Ahead;
pub use apply::ApplyError;
pub use read::OwnedOrder;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BinaryHeap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::audit::Audit;
use crate::catalogue::Catalogue;
use crate::draw::Ranking;
use crate::fact::{Fact, FactSink};
use crate::filter::Filter;
use crate::gauge::Gauge;
use crate::item::OrderState;
use crate::items::{Items, NewItem};
use crate::orders::{NewOrder, OrderBook};
use crate::planted::{Bug, planted};
use crate::types::{BuyerHash, HashSecret, ItemId, Lsn, OrderId, Quantity, UnixMillis};

/// Orders for which room is kept ahead, so that a purchase rarely allocates.
const HEADROOM_ORDERS: usize = 16_384;
/// Room made at once when an item is created: enough for its stock, up to this many orders.
const CREATION_RESERVE_MAX: u64 = 1 << 20;

/// Stock from which on the filter of holders is made with the item, whole, rather than at the
/// first purchase: making a large one would hold up the opening.
const HOLDERS_AHEAD_MIN: u64 = 1 << 16;
/// Buyers for which a smaller item's filter is made at first; most items sell little. Of one
/// with a draw the stock says nothing about the number of entries.
const HOLDERS_FIRST_MAX: u64 = 1 << 12;

/// Something that falls due: when, and the row (order or item) that it concerns.
type Due = Reverse<(UnixMillis, u32)>;

/// The state of one owner core.
pub struct Shard {
    index: usize,
    secret: HashSecret,
    catalogue: Arc<Catalogue>,
    items: Items,
    orders: OrderBook,
    blocked: BTreeMap<BuyerHash, Box<[u8]>>,
    audit: Audit,
    holds: BinaryHeap<Due>,
    windows: BinaryHeap<Due>,
    draws: BinaryHeap<Due>,
    /// Items whose draw was held and is being worked off, in turn.
    drawing: VecDeque<u32>,
    /// The ranking of the first of them, made when it is needed.
    ranking: Option<Ranking>,
    /// Holds that fell due in the middle of a draw and wait for its end.
    postponed: Vec<Due>,
    clock: UnixMillis,
    lsn: Lsn,
}

impl Shard {
    /// An empty shard: the `index`-th owner of the catalogue.
    ///
    /// # Panics
    /// If the catalogue serves no such owner.
    pub fn new(index: usize, secret: HashSecret, catalogue: Arc<Catalogue>) -> Self {
        assert!(index < catalogue.cores(), "owner {index} of {}", catalogue.cores());
        Self {
            index,
            secret,
            catalogue,
            items: Items::new(),
            orders: OrderBook::new(),
            blocked: BTreeMap::new(),
            audit: Audit::new(),
            holds: BinaryHeap::new(),
            windows: BinaryHeap::new(),
            draws: BinaryHeap::new(),
            drawing: VecDeque::new(),
            ranking: None,
            postponed: Vec::new(),
            clock: UnixMillis(0),
            lsn: Lsn::ZERO,
        }
    }

    /// The latest time that any fact of this shard carries; decisions are never dated earlier.
    pub const fn clock(&self) -> UnixMillis {
        self.clock
    }

    /// The last fact of this shard.
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The gauges of all items of all owners.
    pub const fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// Whether the buyer is on the blocklist.
    pub fn is_blocked(&self, buyer: BuyerHash) -> bool {
        !self.blocked.is_empty() && self.blocked.contains_key(&buyer)
    }

    /// When [`Self::tick`] next has something to do, if ever.
    pub fn next_due(&self) -> Option<UnixMillis> {
        let due = |heap: &BinaryHeap<Due>| heap.peek().map(|Reverse((due, _))| *due);
        let drawing = (!self.drawing.is_empty()).then_some(UnixMillis(0));
        [due(&self.holds), due(&self.windows), due(&self.draws), drawing].into_iter().flatten().min()
    }

    /// Makes room for that many orders before a replay, so that no table has to grow under it.
    /// Memory that is then not used is not touched either.
    pub fn expect_orders(&mut self, orders: usize) {
        self.orders.reserve(orders);
    }

    /// Makes room for more orders if little is left, so that purchases rarely allocate.
    /// Called between requests.
    pub fn keep_headroom(&mut self) {
        self.orders.keep_headroom(HEADROOM_ORDERS);
    }

    // ---- booking: state follows a fact that stands ----

    fn note(&mut self, lsn: Lsn, at_ms: UnixMillis) {
        self.clock = self.clock.max(at_ms);
        self.lsn = lsn;
    }

    fn book_item(&mut self, lsn: Lsn, new: &NewItem<'_>) -> u32 {
        let (others, granted) = (self.items.len(), new.granted);
        let slot = self.items.insert(new);
        let row = self.items.get_mut(slot);
        row.touch(lsn);
        self.catalogue.insert(row.gauge.clone(), others);
        if granted >= HOLDERS_AHEAD_MIN {
            row.gauge.publish_holders(Filter::for_buyers(granted));
        }
        self.windows.push(Reverse((new.spec.closes_at_ms, slot)));
        self.expect_draw(slot);
        self.orders.reserve(granted.min(CREATION_RESERVE_MAX) as usize);
        slot
    }

    /// The stock, if the order's state needs any, was taken before.
    fn book_order(&mut self, item: u32, new: &NewOrder<'_>) -> u32 {
        let slot = self.orders.insert(new);
        if new.pay_by_ms.0 != 0 && matches!(new.state, OrderState::Held | OrderState::Pending) {
            self.holds.push(Reverse((new.pay_by_ms, slot)));
        }
        self.items.add_order(item, new.id.seq());
        let row = self.items.get_mut(item);
        row.repile(u64::from(new.quantity.get()), crate::item::Pile::Available, new.state.pile());
        if new.state == OrderState::Entered {
            row.count_entered(1);
        }
        row.touch(new.state_lsn);
        slot
    }

    /// The stock, if it moves out of `Available`, was taken before.
    fn book_move(&mut self, lsn: Lsn, slot: u32, to: OrderState, payment_ref_hash: u64) {
        let order = self.orders.view(slot);
        self.orders.set_state(slot, to, lsn, payment_ref_hash);
        let item = self.items.find(order.order.item()).expect("an order has its item");
        let row = self.items.get_mut(item);
        row.repile(u64::from(order.quantity.get()), order.state.pile(), to.pile());
        if order.state == OrderState::Entered {
            row.count_entered(-1);
        }
        row.touch(lsn);
    }

    /// Enters a buyer among the holders of an item, before the stock can show zero.
    fn enter_holder(&mut self, item: u32, buyer: BuyerHash) {
        let row = self.items.get(item);
        if row.holders_outgrown() {
            let size = match row.last_seq {
                0 if row.draws_at_ms().is_some() => HOLDERS_AHEAD_MIN,
                0 => row.granted.clamp(1, HOLDERS_FIRST_MAX),
                orders => row.granted.max(4 * u64::from(orders)),
            };
            let filter = Filter::for_buyers(size);
            for seq in 1..=row.last_seq {
                let slot = self.orders.find(OrderId::new(row.id(), seq));
                slot.into_iter().for_each(|slot| filter.insert(self.orders.buyer(slot)));
            }
            row.gauge.publish_holders(filter);
        }
        row.gauge.holders().expect("made above").insert(buyer);
    }

    fn reference(&self, reference: &[u8]) -> u64 {
        if reference.is_empty() { 0 } else { self.secret.reference(reference) }
    }

    /// Lets time pass: holds draws and draws their entries, expires unpaid orders, ends
    /// windows, until nothing is due or `budget` facts were appended; the sink must have
    /// room for them. Returns how many they were.
    ///
    /// A large draw leaves at least half of the budget to what else is due.
    pub fn tick(&mut self, now: UnixMillis, budget: usize, sink: &mut impl FactSink) -> usize {
        let now = now.max(self.clock);
        let mut appended = 0;
        loop {
            let before = appended;
            appended += self.hold_draws(now, budget - appended, sink);
            appended += self.draw_entries_due(now, (budget - appended).div_ceil(2), sink);
            appended += self.expire_due(now, budget - appended, sink);
            appended += self.end_windows(now, budget - appended, sink);
            if appended == before {
                return appended;
            }
        }
    }

    fn expire_due(&mut self, now: UnixMillis, budget: usize, sink: &mut impl FactSink) -> usize {
        let mut appended = 0;
        while appended < budget {
            let Some(slot) = pop_due(&mut self.holds, now) else { break };
            appended += usize::from(self.expire(now, slot, sink));
        }
        appended
    }

    fn end_windows(&mut self, now: UnixMillis, budget: usize, sink: &mut impl FactSink) -> usize {
        let mut appended = 0;
        while appended < budget {
            let Some(slot) = pop_due(&mut self.windows, now) else { break };
            appended += usize::from(self.end_window(now, slot, sink));
        }
        appended
    }

    fn gauge(&self, item: ItemId) -> Option<&Gauge> {
        self.catalogue.find(item).filter(|_| item.owner(self.catalogue.cores()) == self.index)
    }
}

fn pop_due(heap: &mut BinaryHeap<Due>, now: UnixMillis) -> Option<u32> {
    let Reverse((due, slot)) = *heap.peek()?;
    if due > now {
        return None;
    }
    heap.pop();
    Some(slot)
}

/// The order that a fact places, as a row.
fn placed<'a>(fact: &Fact<'a>, lsn: Lsn, secret: &HashSecret) -> Option<NewOrder<'a>> {
    let lost = |reference: &[u8]| reference.is_empty() || planted(Bug::KeysInMemory);
    let hash = |reference: &[u8]| if lost(reference) { 0 } else { secret.reference(reference) };
    let row = |id: OrderId,
               quantity: Quantity,
               state: OrderState,
               at: (UnixMillis, UnixMillis),
               refs: (&[u8], &[u8]),
               subject| NewOrder {
        id,
        quantity,
        state,
        created_at_ms: at.0,
        pay_by_ms: at.1,
        lsn,
        state_lsn: lsn,
        key_hash: hash(refs.0),
        payment_ref_hash: hash(refs.1),
        entry: matches!(state, OrderState::Entered | OrderState::Lost),
        drawn: false,
        buyer: secret.buyer(subject),
        subject,
    };
    match *fact {
        Fact::OrderPlaced { at_ms, order, quantity, state, pay_by_ms, subject, key } => {
            Some(row(order, quantity, state, (at_ms, pay_by_ms), (key, &[]), subject))
        }
        Fact::OrderImported {
            order,
            quantity,
            state,
            created_at_ms,
            pay_by_ms,
            subject,
            key,
            payment_ref,
            ..
        } => Some(row(order, quantity, state, (created_at_ms, pay_by_ms), (key, payment_ref), subject)),
        _ => None,
    }
}
