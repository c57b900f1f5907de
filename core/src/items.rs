//! The items of a shard, each with its three piles of units: available (in the gauge), held, sold.
//!
//! `granted = available + held + sold` is asserted after every change. Knows nothing
//! of orders. Next: [`crate::shard`].

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use crate::command::ItemView;
use crate::draw::{Draw, DrawRow, DrawSeed, DrawView, HeldDraw};
use crate::filter::Filter;
use crate::gauge::{Gauge, Rules};
use crate::item::{ChallengeRule, ItemSpec, Payment, Pile, TicketRule};
use crate::limits::{CALL_KEYS_PER_ITEM, CURRENCY_BYTES};
use crate::money::Price;
use crate::place::Place;
use crate::seqs::Seqs;
use crate::slab::Slab;
use crate::state_row::CallRow;
use crate::types::{BuyerHash, ItemId, Lsn, UnixMillis};

/// An item and its present state.
pub(crate) struct Item {
    pub(crate) gauge: Arc<Gauge>,
    name: Box<str>,
    price_minor: u64,
    opens_at_ms: UnixMillis,
    closes_at_ms: UnixMillis,
    pub(crate) granted: u64,
    pub(crate) held: u64,
    pub(crate) sold: u64,
    pub(crate) version: u64,
    pub(crate) lsn: Lsn,
    /// The last fact that changed what a page shows of it, apart from the stock.
    shown_lsn: Lsn,
    pub(crate) last_seq: u32,
    seqs: Seqs,
    /// The prices of its orders, each with the first sequence number that has it.
    prices: Vec<(u32, Price)>,
    /// The latest merchant calls with an idempotency key, oldest first.
    calls: VecDeque<CallRow>,
    /// How many more buyers the newest filter of holders takes.
    holders_room: u32,
    epoch: u32,
    hold_ms: u32,
    cap: u32,
    min_account_age_s: u32,
    admit_per_s: u32,
    draw_ms: u32,
    draw: Option<Box<Draw>>,
    currency: [u8; CURRENCY_BYTES],
    payment: Payment,
    ticket: TicketRule,
    challenge: ChallengeRule,
    min_level: u8,
    flags: u8,
}

impl Item {
    pub(crate) fn id(&self) -> ItemId {
        self.gauge.item()
    }

    pub(crate) fn spec(&self) -> ItemSpec<'_> {
        ItemSpec {
            name: &self.name,
            price_minor: self.price_minor,
            currency: self.currency,
            opens_at_ms: self.opens_at_ms,
            closes_at_ms: self.closes_at_ms,
            cap: self.cap,
            payment: self.payment,
            hold_ms: u64::from(self.hold_ms),
            ticket: self.ticket,
            challenge: self.challenge,
            min_level: self.min_level,
            min_account_age_s: self.min_account_age_s,
            admit_per_s: self.admit_per_s,
            draw_ms: self.draw_ms,
        }
    }

    /// What a unit costs now.
    pub(crate) const fn price(&self) -> Price {
        Price { minor: self.price_minor, currency: self.currency }
    }

    /// What a unit of this order costs: the price at the time when it was placed.
    pub(crate) fn price_of(&self, seq: u32) -> Price {
        let after = self.prices.partition_point(|&(from, _)| from <= seq);
        after.checked_sub(1).map_or(Price::UNKNOWN, |at| self.prices[at].1)
    }

    /// Records the price of the next order. Orders with the same price share an entry.
    pub(crate) fn note_price(&mut self, seq: u32, price: Price) {
        if self.prices.last().is_none_or(|&(_, last)| last != price) {
            self.prices.push((seq, price));
        }
    }

    /// The call with this key, if it is among the latest.
    pub(crate) fn call(&self, key_hash: u64) -> Option<&CallRow> {
        self.calls.iter().rev().find(|call| call.key_hash == key_hash)
    }

    /// The latest calls with a key, oldest first.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &CallRow> {
        self.calls.iter()
    }

    /// Records a call with a key.
    pub(crate) fn note_call(&mut self, call: CallRow) {
        if self.calls.len() == CALL_KEYS_PER_ITEM {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }

    /// Its place in the list for buyers. Whatever may change that goes through [`Items`].
    fn place(&self) -> Place {
        Place::new(self.id(), self.opens_at_ms, self.closes_at_ms, self.over())
    }

    /// Takes new settings and shows them to all cores; a moved window begins a new epoch.
    fn change(&mut self, lsn: Lsn, spec: &ItemSpec<'_>) {
        let moved = spec.opens_at_ms != self.opens_at_ms || spec.closes_at_ms != self.closes_at_ms;
        self.epoch = self.epoch.wrapping_add(u32::from(moved));
        self.set_spec(lsn, spec);
    }

    fn set_spec(&mut self, lsn: Lsn, spec: &ItemSpec<'_>) {
        if *self.name != *spec.name {
            self.name = spec.name.into();
        }
        self.price_minor = spec.price_minor;
        self.currency = spec.currency;
        self.opens_at_ms = spec.opens_at_ms;
        self.closes_at_ms = spec.closes_at_ms;
        self.cap = spec.cap;
        self.hold_ms = spec.hold_ms as u32;
        self.ticket = spec.ticket;
        self.challenge = spec.challenge;
        self.min_level = spec.min_level;
        self.min_account_age_s = spec.min_account_age_s;
        self.admit_per_s = spec.admit_per_s;
        self.draw_ms = spec.draw_ms;
        self.show(lsn);
    }

    /// The sequence numbers of its orders: the only way to walk them.
    pub(crate) const fn seqs(&self) -> &Seqs {
        &self.seqs
    }

    pub(crate) const fn flags(&self) -> u8 {
        self.flags
    }
    pub(crate) const fn epoch(&self) -> u32 {
        self.epoch
    }
    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
    pub(crate) const fn over(&self) -> bool {
        self.has(Rules::CLOSED | Rules::ENDED)
    }
    pub(crate) const fn cap(&self) -> u32 {
        self.cap
    }
    pub(crate) const fn hold_ms(&self) -> u64 {
        self.hold_ms as u64
    }
    pub(crate) const fn payment(&self) -> Payment {
        self.payment
    }
    pub(crate) const fn opens_at_ms(&self) -> UnixMillis {
        self.opens_at_ms
    }
    pub(crate) const fn closes_at_ms(&self) -> UnixMillis {
        self.closes_at_ms
    }

    /// When an order placed now expires unpaid; zero = never.
    pub(crate) fn pay_by_ms(&self, now: UnixMillis) -> UnixMillis {
        match self.payment {
            Payment::OnOrder => UnixMillis(0),
            Payment::Hold | Payment::OnPayment if self.hold_ms == 0 => UnixMillis(0),
            Payment::Hold | Payment::OnPayment => UnixMillis(now.0 + u64::from(self.hold_ms)),
        }
    }

    // ---- its draw ----

    /// When its draw is held, if it has one.
    pub(crate) fn draws_at_ms(&self) -> Option<UnixMillis> {
        (self.draw_ms != 0).then(|| UnixMillis(self.opens_at_ms.0 + u64::from(self.draw_ms)))
    }

    /// Whether a purchase is an entry now.
    pub(crate) fn takes_entries(&self, now: UnixMillis) -> bool {
        let ahead = self.draws_at_ms().is_some_and(|draws_at| now < draws_at);
        ahead && now >= self.opens_at_ms && !self.has(Rules::DRAWN)
    }

    /// Whether its draw has begun, so that its time and length are fixed.
    pub(crate) const fn draw_has_begun(&self, now: UnixMillis) -> bool {
        self.draw_ms != 0 && now.0 >= self.opens_at_ms.0
    }

    /// Whether its draw has to be held now: it waits while the item is paused, unless the item is over.
    pub(crate) fn draw_is_due(&self, now: UnixMillis) -> bool {
        let due = self.draws_at_ms().is_some_and(|draws_at| draws_at <= now);
        due && !self.has(Rules::DRAWN) && (self.over() || !self.has(Rules::PAUSED))
    }

    /// Whether its draw was held and entries are left to be drawn.
    pub(crate) fn is_drawing(&self) -> bool {
        self.has(Rules::DRAWN) && self.entered() > 0
    }

    /// Whether its units and entries must not change now, so that the result of the draw
    /// depends on its inputs alone.
    pub(crate) fn is_frozen(&self, now: UnixMillis) -> bool {
        self.draw_is_due(now) || self.is_drawing()
    }

    /// Orders in the state `entered`.
    pub(crate) fn entered(&self) -> u32 {
        self.draw.as_ref().map_or(0, |draw| draw.entered)
    }

    pub(crate) fn seed(&self) -> DrawSeed {
        self.draw.as_ref().map_or(DrawSeed::NONE, |draw| draw.seed)
    }

    pub(crate) fn draw_row(&self) -> Option<DrawRow> {
        self.draw.as_ref().and_then(|draw| draw.row())
    }

    /// The draw that was held.
    pub(crate) fn held_draw(&self) -> Option<&HeldDraw> {
        self.draw.as_ref().and_then(|draw| draw.held.as_ref())
    }

    pub(crate) fn held_draw_mut(&mut self) -> Option<&mut HeldDraw> {
        self.draw.as_mut().and_then(|draw| draw.held.as_mut())
    }

    /// Keeps the seed; [`DrawSeed::NONE`] changes nothing.
    pub(crate) fn set_seed(&mut self, seed: DrawSeed) {
        if !seed.is_none() && seed != self.seed() {
            let entered = self.entered();
            let mut draw = Draw::new(self.id(), seed);
            draw.entered = entered;
            self.draw = Some(Box::new(draw));
        }
    }

    /// Counts orders that came into the state `entered` (positive) or left it (negative).
    pub(crate) fn count_entered(&mut self, more: i32) {
        let id = self.id();
        let draw = self.draw.get_or_insert_with(|| Box::new(Draw::new(id, DrawSeed::NONE)));
        draw.entered = draw.entered.checked_add_signed(more).expect("each entry is counted once");
    }

    /// Records that the draw was held.
    pub(crate) fn set_held(&mut self, lsn: Lsn, held: HeldDraw) {
        if let Some(draw) = &mut self.draw {
            draw.held = Some(held);
        }
        self.flags |= Rules::DRAWN;
        self.show(lsn);
    }

    /// Takes new flags and shows them to all cores; closing the item begins a new epoch.
    fn set_flags(&mut self, lsn: Lsn, flags: u8) {
        let closed = (flags ^ self.flags) & Rules::CLOSED != 0;
        self.epoch = self.epoch.wrapping_add(u32::from(closed));
        self.flags = flags;
        self.show(lsn);
    }

    /// Shows its settings and flags to all cores, under a new version, as the fact at `lsn` has
    /// left them. Pages are told apart by that LSN: versions start again with each process, and
    /// one version would name two pages.
    pub(crate) fn show(&mut self, lsn: Lsn) {
        self.shown_lsn = lsn;
        self.gauge.show(&self.spec(), self.flags, self.epoch);
    }

    /// Sets the sum of all granted units. The gauge has granted units already, and withdrawn
    /// ones no longer.
    pub(crate) fn set_granted(&mut self, granted: u64) {
        self.granted = granted;
        self.gauge.show_granted(granted);
    }

    /// Moves units from one pile to another. Those that leave `Available` were taken from
    /// the gauge before, by the compare-and-swap that decided it; those that come back are
    /// given to it here.
    pub(crate) fn move_units(&mut self, units: u64, from: Pile, to: Pile) {
        if from == to {
            return;
        }
        match from {
            Pile::Available => {}
            Pile::Held => self.held -= units,
            Pile::Sold => self.sold -= units,
        }
        match to {
            Pile::Available => self.gauge.stock.give(units),
            Pile::Held => self.held += units,
            Pile::Sold => self.sold += units,
        }
    }

    /// Records the fact that changed it, and asserts conservation (I8).
    pub(crate) fn touch(&mut self, lsn: Lsn) {
        self.version += 1;
        self.lsn = lsn;
        self.assert_conserved();
    }

    pub(crate) fn assert_conserved(&self) {
        let available = self.gauge.stock.available();
        let (held, sold) = (self.held, self.sold);
        assert!(
            self.granted == available + held + sold,
            "item {}: granted {} != available {available} + held {held} + sold {sold}",
            self.id(),
            self.granted,
        );
    }

    pub(crate) fn view(&self) -> ItemView<'_> {
        ItemView {
            item: self.id(),
            spec: self.spec(),
            granted: self.granted,
            available: self.gauge.stock.available(),
            held: self.held,
            sold: self.sold,
            accepted: self.last_seq,
            draw: self.draw_view(),
            flags: self.flags,
            epoch: self.epoch,
            version: self.version,
            shown_version: self.gauge.version(),
            shown_lsn: self.shown_lsn,
            lsn: self.lsn,
        }
    }

    fn draw_view(&self) -> Option<DrawView> {
        let draw = self.draw.as_ref().filter(|draw| !draw.seed.is_none())?;
        self.draws_at_ms().map(|draws_at_ms| draw.view(draws_at_ms))
    }

    /// Adds a filter of holders of at least this size, beside those that exist.
    pub(crate) fn add_holders(&mut self, size: u64) {
        let next = self.gauge.holders().map_or(size, |newest| newest.next_size().max(size));
        let filter = Filter::for_buyers(next);
        self.holders_room = filter.room() as u32;
        self.gauge.publish_holders(filter);
    }

    /// Enters a buyer among the holders; `false` if there is no filter with room.
    pub(crate) fn enter_holder(&mut self, buyer: BuyerHash) -> bool {
        let Some(left) = self.holders_room.checked_sub(1) else { return false };
        self.holders_room = left;
        self.gauge.holders().expect("made with its room").insert(buyer);
        true
    }
}

/// A row to add, with all of `granted` available.
pub(crate) struct NewItem<'a> {
    pub(crate) id: ItemId,
    pub(crate) spec: ItemSpec<'a>,
    pub(crate) granted: u64,
    pub(crate) flags: u8,
    pub(crate) epoch: u32,
    pub(crate) draw: Option<DrawRow>,
}

/// The items of a shard, found by number.
pub(crate) struct Items {
    rows: Slab<Item>,
    by_id: BTreeMap<ItemId, u32>,
    /// In the order of the list for buyers.
    by_place: BTreeMap<Place, u32>,
    /// Those that have orders: a list of orders must not walk all the others. A bit for each of
    /// 64 neighbouring numbers, since shops number their items one after the other.
    with_orders: BTreeMap<u32, u64>,
    /// The highest sequence number of any order.
    seq_max: u32,
}

impl Items {
    pub(crate) const fn new() -> Self {
        Self {
            rows: Slab::new(),
            by_id: BTreeMap::new(),
            by_place: BTreeMap::new(),
            with_orders: BTreeMap::new(),
            seq_max: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds an item whose number is not there yet, as the fact at `lsn` has left it.
    pub(crate) fn insert(&mut self, lsn: Lsn, new: &NewItem<'_>) -> u32 {
        let NewItem { id, spec, granted, flags, epoch, draw } = *new;
        let gauge = Arc::new(Gauge::new(id, self.rows.len() as u32));
        gauge.stock.give(granted);
        let mut item = Item {
            gauge,
            name: spec.name.into(),
            price_minor: 0,
            opens_at_ms: UnixMillis(0),
            closes_at_ms: UnixMillis(0),
            granted: 0,
            held: 0,
            sold: 0,
            version: 0,
            lsn: Lsn::ZERO,
            shown_lsn: Lsn::ZERO,
            last_seq: 0,
            seqs: Seqs::new(),
            prices: Vec::new(),
            calls: VecDeque::new(),
            holders_room: 0,
            epoch,
            hold_ms: 0,
            cap: 0,
            min_account_age_s: 0,
            admit_per_s: 0,
            draw_ms: 0,
            draw: draw.map(|row| Box::new(Draw::from_row(id, &row))),
            currency: spec.currency,
            payment: spec.payment,
            ticket: spec.ticket,
            challenge: spec.challenge,
            min_level: 0,
            flags,
        };
        item.set_granted(granted);
        item.set_spec(lsn, &spec);
        let place = item.place();
        let slot = self.rows.push(item);
        self.by_id.insert(id, slot);
        self.by_place.insert(place, slot);
        slot
    }

    /// Changes the settings of an item; see [`Item::change`].
    pub(crate) fn change(&mut self, slot: u32, lsn: Lsn, spec: &ItemSpec<'_>) {
        self.replace(slot, |item| item.change(lsn, spec));
    }

    /// Changes the flags of an item; see [`Item::set_flags`].
    pub(crate) fn set_flags(&mut self, slot: u32, lsn: Lsn, flags: u8) {
        self.replace(slot, |item| item.set_flags(lsn, flags));
    }

    /// Changes an item and moves it to its new place in the list for buyers.
    fn replace(&mut self, slot: u32, change: impl FnOnce(&mut Item)) {
        let row = self.rows.get_mut(slot);
        let before = row.place();
        change(row);
        let after = row.place();
        if after != before {
            self.by_place.remove(&before);
            self.by_place.insert(after, slot);
        }
    }

    /// Records the number of an item's next order; it is above those before it.
    pub(crate) fn add_order(&mut self, slot: u32, seq: u32) {
        let row = self.rows.get_mut(slot);
        if row.seqs.last() == 0 {
            let id = row.id().get();
            *self.with_orders.entry(id / 64).or_default() |= 1 << (id % 64);
        }
        row.seqs.push(seq);
        row.last_seq = row.last_seq.max(seq);
        self.seq_max = self.seq_max.max(seq);
    }

    /// The highest sequence number of any order of any item.
    pub(crate) const fn seq_max(&self) -> u32 {
        self.seq_max
    }

    pub(crate) fn find(&self, id: ItemId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }
    pub(crate) fn get(&self, slot: u32) -> &Item {
        self.rows.get(slot)
    }
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Item {
        self.rows.get_mut(slot)
    }
    /// The items with numbers above `after`, in ascending order.
    pub(crate) fn after(&self, after: u32) -> impl Iterator<Item = &Item> {
        let first = ItemId::new(u64::from(after) + 1);
        let rows = first.map(|first| self.by_id.range(first..));
        rows.into_iter().flatten().map(|(_, &slot)| self.get(slot))
    }
    /// The items with numbers below `before`, in descending order; 0 = all.
    pub(crate) fn before(&self, before: u32) -> impl Iterator<Item = &Item> {
        let first = ItemId::new(before.into());
        let end = first.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range((Bound::Unbounded, end)).rev().map(|(_, &slot)| self.get(slot))
    }
    /// The items after this place of the list for buyers, in its order; `None` = all.
    pub(crate) fn after_place(&self, place: Option<Place>) -> impl Iterator<Item = &Item> {
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_place.range((from, Bound::Unbounded)).map(|(_, &slot)| self.get(slot))
    }
    /// The items that have orders, with numbers above `after`, in ascending order.
    pub(crate) fn with_orders_after(&self, after: u32) -> impl Iterator<Item = &Item> {
        let blocks = self.with_orders.range(after / 64..);
        let ids = blocks.flat_map(|(&block, &bits)| bits_of(bits).map(move |bit| block * 64 + bit));
        let ids = ids.filter(move |&id| id > after).filter_map(|id| ItemId::new(id.into()));
        ids.filter_map(|id| self.find(id)).map(|slot| self.get(slot))
    }
}

/// The positions of the bits that are set, ascending.
fn bits_of(bits: u64) -> impl Iterator<Item = u32> {
    let some = |bits: u64| (bits != 0).then_some(bits);
    core::iter::successors(some(bits), move |rest| some(rest & (rest - 1))).map(u64::trailing_zeros)
}

impl ItemView<'_> {
    /// Its place in the list for buyers.
    pub const fn place(&self) -> Place {
        let is_over = self.flags & (Rules::CLOSED | Rules::ENDED) != 0;
        Place::new(self.item, self.spec.opens_at_ms, self.spec.closes_at_ms, is_over)
    }
}
