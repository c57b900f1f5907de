//! What a shard holds, and the booking that decisions and replay share.
//!
//! Nothing here judges a command or appends a fact. Next: [`super::decide`], [`super::apply`].

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;

use crate::audit::Audit;
use crate::catalogue::Catalogue;
use crate::command::OrderView;
use crate::draw::Ranking;
use crate::due::{Due, DueHeap};
use crate::filter::Filter;
use crate::gauge::Gauge;
use crate::item::OrderState;
use crate::items::{Items, NewItem};
use crate::limits::{Bounds, FILTER_PARTS_AT_ONCE};
use crate::money::{MoneyKind, MoneyRow};
use crate::orders::{NewOrder, OrderBook};
use crate::slab::Slab;
use crate::types::{BuyerHash, HashSecret, ItemId, Lsn, OrderId, Quantity, UnixMillis};

/// Orders for which room is kept ahead, so that a purchase rarely allocates.
const HEADROOM_ORDERS: usize = 16_384;

/// Most orders of a new item for which room is made ahead, between requests; otherwise it is as
/// many as its stock.
const EXPECTED_MAX: u64 = 1 << 20;
/// From this stock on, the filter of holders is made ahead, part by part after the item's creation;
/// below it, at the first purchase.
const HOLDERS_AHEAD_MIN: u64 = 1 << 16;
/// Most buyers for which a smaller item's first filter is made: most items sell little. If the item
/// has a draw, its stock says nothing about the number of entries.
const HOLDERS_FIRST_MAX: u64 = 1 << 12;

/// The state of one owner core.
pub struct Shard {
    pub(super) index: usize,
    pub(super) secret: HashSecret,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) items: Items,
    pub(super) orders: OrderBook,
    /// Orders with a payment that came too late and was not accepted since.
    pub(super) late: BTreeSet<OrderId>,
    pub(super) blocked: BTreeMap<BuyerHash, Box<[u8]>>,
    pub(super) audit: Audit,
    pub(super) holds: DueHeap,
    pub(super) windows: DueHeap,
    pub(super) draws: DueHeap,
    /// Items whose draw was held and whose entries are being drawn, in turn.
    pub(super) drawing: VecDeque<u32>,
    /// The ranking of the first of them, made when it is needed.
    pub(super) ranking: Option<Ranking>,
    /// Holds that fell due in the middle of a draw and wait for its end.
    pub(super) postponed: Slab<Due>,
    /// Holds that have waited long enough, to be put back into `holds`.
    pub(super) released: Slab<Due>,
    /// Whether all `postponed` holds have waited long enough.
    pub(super) release_all: bool,
    /// Items whose filter of holders is being made ahead, and with which part to go on.
    pub(super) preparing: VecDeque<(u32, usize)>,
    pub(super) bounds: Bounds,
    pub(super) clock: UnixMillis,
    pub(super) lsn: Lsn,
}

impl Shard {
    /// An empty shard: the `index`-th owner of the catalogue.
    ///
    /// # Panics
    /// If the catalogue serves no such owner.
    pub fn new(index: usize, secret: HashSecret, catalogue: Arc<Catalogue>) -> Self {
        Self::with_bounds(index, secret, catalogue, Bounds::DEFAULT)
    }

    /// The same with other ends of its tables.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn with_bounds(index: usize, secret: HashSecret, catalogue: Arc<Catalogue>, bounds: Bounds) -> Self {
        assert!(index < catalogue.cores(), "owner {index} of {}", catalogue.cores());
        Self {
            index,
            secret,
            catalogue,
            items: Items::new(),
            orders: OrderBook::new(bounds),
            late: BTreeSet::new(),
            blocked: BTreeMap::new(),
            audit: Audit::new(),
            holds: DueHeap::new(),
            windows: DueHeap::new(),
            draws: DueHeap::new(),
            drawing: VecDeque::new(),
            ranking: None,
            postponed: Slab::new(),
            released: Slab::new(),
            release_all: false,
            preparing: VecDeque::new(),
            bounds,
            clock: UnixMillis(0),
            lsn: Lsn::ZERO,
        }
    }

    /// Which owner of the catalogue it is.
    pub const fn index(&self) -> usize {
        self.index
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

    /// Makes room for this many orders before a replay, so that no table grows during it.
    /// Memory that is not used is not touched.
    pub fn expect_orders(&mut self, orders: usize) {
        self.orders.expect(orders);
    }

    /// Makes room for more orders if little is left, so that purchases rarely allocate, and
    /// prepares the next parts of filters. Called between requests.
    pub fn keep_headroom(&mut self) {
        self.orders.keep_headroom(HEADROOM_ORDERS);
        if let Some((slot, from)) = self.preparing.pop_front() {
            let holders = self.items.get(slot).gauge.holders();
            let next = holders.and_then(|filter| filter.prepare(from, FILTER_PARTS_AT_ONCE));
            self.preparing.extend(next.map(|next| (slot, next)));
        }
    }

    // ---- booking: the state follows a decided fact ----

    pub(super) fn note(&mut self, lsn: Lsn, at_ms: UnixMillis) {
        self.clock = self.clock.max(at_ms);
        self.lsn = lsn;
    }

    pub(super) fn book_item(&mut self, lsn: Lsn, new: &NewItem<'_>) -> u32 {
        let granted = new.granted;
        let slot = self.items.insert(lsn, new);
        let row = self.items.get_mut(slot);
        row.touch(lsn);
        self.catalogue.insert(row.gauge.clone());
        if granted >= HOLDERS_AHEAD_MIN {
            self.add_holders(slot, granted);
        }
        self.windows.push((new.spec.closes_at_ms, slot));
        self.expect_draw(slot);
        self.orders.expect_more(granted.min(EXPECTED_MAX) as usize);
        slot
    }

    /// The stock was taken before, if the order's state needs any.
    pub(super) fn book_order(&mut self, item: u32, new: &NewOrder<'_>) -> u32 {
        let slot = self.orders.insert(new);
        self.items.get_mut(item).note_price(new.id.seq(), new.price);
        if new.pay_by_ms.0 != 0 && matches!(new.state, OrderState::Held | OrderState::Pending) {
            self.holds.push((new.pay_by_ms, slot));
        }
        self.book_units(item, new.id, new.live_units(), new.state, new.state_lsn);
        slot
    }

    /// What a new order changes in its item.
    pub(super) fn book_units(&mut self, item: u32, order: OrderId, units: u32, state: OrderState, lsn: Lsn) {
        self.items.add_order(item, order.seq());
        let row = self.items.get_mut(item);
        row.move_units(u64::from(units), crate::item::Pile::Available, state.pile());
        if state == OrderState::Entered {
            row.count_entered(1);
        }
        row.touch(lsn);
    }

    /// The order as it is now.
    pub(super) fn order_view(&self, slot: u32) -> OrderView {
        let order = self.orders.view(slot);
        let item = self.items.find(order.order.item()).expect("an order has its item");
        let row = self.items.get(item);
        let price = row.price_of(order.order.seq());
        OrderView { price, ..order }
    }

    /// The stock was taken before, if units leave `Available`.
    pub(super) fn book_move(&mut self, lsn: Lsn, slot: u32, to: OrderState) {
        let order = self.orders.view(slot);
        self.orders.set_state(slot, to, lsn);
        let item = self.items.find(order.order.item()).expect("an order has its item");
        let row = self.items.get_mut(item);
        row.move_units(u64::from(order.quantity.get() - order.refunded), order.state.pile(), to.pile());
        if order.state == OrderState::Entered {
            row.count_entered(-1);
        }
        row.touch(lsn);
    }

    /// Records when an order was cancelled or expired.
    pub(super) fn book_end(&mut self, slot: u32, to: OrderState, (lsn, at_ms): (Lsn, UnixMillis)) {
        if matches!(to, OrderState::Cancelled | OrderState::Expired) {
            let (order, kind) = (self.orders.view(slot).order, MoneyKind::Ended);
            let row = MoneyRow { order, kind, at_ms, lsn, units: 0, reference_hash: 0, reference: &[] };
            self.orders.add_money(slot, &row);
        }
    }

    /// Gives units of a paid order back; it stays paid while some are left.
    pub(super) fn book_refund(
        &mut self,
        slot: u32,
        refund: &MoneyRow<'_>,
        quantity: Quantity,
        refunded: u32,
    ) {
        if refunded == quantity.get() {
            self.book_move(refund.lsn, slot, OrderState::Refunded);
        } else {
            let item = self.items.find(refund.order.item()).expect("an order has its item");
            let row = self.items.get_mut(item);
            row.move_units(u64::from(refund.units), crate::item::Pile::Sold, crate::item::Pile::Available);
            row.touch(refund.lsn);
            self.orders.touch(slot, refund.lsn);
        }
        self.orders.add_money(slot, refund);
    }

    /// Records a payment, accepted or too late.
    pub(super) fn book_payment(
        &mut self,
        slot: u32,
        (kind, lsn, at_ms): (MoneyKind, Lsn, UnixMillis),
        reference: &[u8],
    ) {
        let (order, reference_hash) = (self.orders.view(slot).order, self.reference(reference));
        self.book_money(slot, &MoneyRow { order, kind, at_ms, lsn, units: 0, reference_hash, reference });
    }

    /// Records that a late payment was refunded.
    pub(super) fn book_return(
        &mut self,
        slot: u32,
        (lsn, at_ms): (Lsn, UnixMillis),
        payment_ref: &[u8],
        refund_ref: &[u8],
    ) {
        let (order, reference_hash) = (self.orders.view(slot).order, self.reference(payment_ref));
        let (kind, reference) = (MoneyKind::LateReturned, refund_ref);
        self.book_money(slot, &MoneyRow { order, kind, at_ms, lsn, units: 0, reference_hash, reference });
    }

    pub(super) fn book_money(&mut self, slot: u32, row: &MoneyRow<'_>) {
        self.orders.add_money(slot, row);
        match row.kind {
            MoneyKind::LatePayment => {
                self.orders.touch(slot, row.lsn);
                self.late.insert(row.order);
            }
            MoneyKind::LateReturned => self.orders.touch(slot, row.lsn),
            MoneyKind::Payment | MoneyKind::Refund | MoneyKind::Extension | MoneyKind::Ended => {}
        }
        let settles = matches!(row.kind, MoneyKind::Payment | MoneyKind::LateReturned);
        if settles && self.late.contains(&row.order) && !self.orders.has_open_late(slot) {
            self.late.remove(&row.order);
        }
    }

    /// Sets a new deadline for an unpaid order. The old one still falls due, and changes nothing then.
    pub(super) fn book_deadline(
        &mut self,
        (lsn, at_ms): (Lsn, UnixMillis),
        slot: u32,
        pay_by_ms: UnixMillis,
    ) {
        let OrderView { order, pay_by_ms: before, .. } = self.orders.view(slot);
        // Only the first deadline is kept: a retry of the purchase gets the same answer as before.
        if self.orders.first_deadline(slot).is_none() {
            let (kind, reference_hash) = (MoneyKind::Extension, before.0);
            let row = MoneyRow { order, kind, at_ms, lsn, units: 0, reference_hash, reference: &[] };
            self.orders.add_money(slot, &row);
        }
        self.orders.set_deadline(slot, pay_by_ms);
        self.orders.touch(slot, lsn);
        self.holds.push((pay_by_ms, slot));
    }

    /// Enters a buyer among the holders of an item, before the stock can show zero.
    pub(super) fn enter_holder(&mut self, item: u32, buyer: BuyerHash) {
        let row = self.items.get_mut(item);
        if row.enter_holder(buyer) {
            return;
        }
        let size = match row.gauge.holders() {
            None if row.draws_at_ms().is_some() => HOLDERS_AHEAD_MIN,
            None => row.granted.min(HOLDERS_FIRST_MAX),
            Some(_) => row.granted,
        };
        self.add_holders(item, size);
        assert!(self.items.get_mut(item).enter_holder(buyer), "a new filter has room");
    }

    /// Adds a filter of holders; a large one is prepared ahead, part by part.
    pub(super) fn add_holders(&mut self, item: u32, size: u64) {
        let row = self.items.get_mut(item);
        row.add_holders(size);
        if row.gauge.holders().is_some_and(Filter::has_parts) {
            self.preparing.push_back((item, 0));
        }
    }

    /// Its share of the engine's items.
    pub(super) fn items_max(&self) -> usize {
        self.bounds.items / self.catalogue.cores()
    }

    pub(super) fn reference(&self, reference: &[u8]) -> u64 {
        if reference.is_empty() { 0 } else { self.secret.reference(reference) }
    }

    pub(super) fn gauge(&self, item: ItemId) -> Option<&Gauge> {
        self.catalogue.find(item).filter(|_| item.owner(self.catalogue.cores()) == self.index)
    }
}
