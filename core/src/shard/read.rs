//! The queries of a shard. Nothing here changes anything.
//!
//! A result may depend on facts that are not durable yet; the caller waits for
//! [`OrderView::state_lsn`] or [`ItemView::lsn`] before it shows it (I3).

use super::state::Shard;
use crate::command::{ItemView, OrderView};
use crate::draw::DrawEntry;
use crate::item::OrderState;
use crate::items::Item;
use crate::limits::{ALARM_PERCENT, SCAN_ORDERS_MAX};
use crate::money::{MoneyKind, MoneyRow};
use crate::place::Place;
use crate::seqs::Seqs;
use crate::state_row::AuditRow;
use crate::types::{BuyerHash, ItemId, Lsn, OrderId, UnixMillis};
use alloc::vec::Vec;
use core::cmp::Ordering;

/// How many tables [`Shard::fullness`] covers.
pub const TABLES: usize = TABLE_NAMES.len();
/// Their names, as statistics show them.
pub const TABLE_NAMES: [&str; 7] =
    ["items", "orders", "buyers", "buyer_name_bytes", "order_text_bytes", "blocked_buyers", "order_numbers"];

/// How full a table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fullness {
    /// Its name, as statistics show it.
    pub table: &'static str,
    /// What it holds.
    pub used: u64,
    /// What it can hold; 0 = not known yet.
    pub max: u64,
}

impl Fullness {
    /// Whether to raise an alarm: well before the table is full.
    pub const fn is_alarming(&self) -> bool {
        self.max > 0 && self.used as u128 * 100 >= self.max as u128 * ALARM_PERCENT as u128
    }
}

/// An order with its buyer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnedOrder<'a> {
    /// The order.
    pub order: OrderView,
    /// The buyer's subject.
    pub subject: &'a [u8],
    /// Its idempotency key; empty = none, or only its hash is known.
    pub key: &'a [u8],
}

/// Which orders belong on a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OrderFilter {
    /// Only of this item.
    pub item: Option<ItemId>,
    /// Only of this buyer.
    pub buyer: Option<BuyerHash>,
    /// Only in this state.
    pub state: Option<OrderState>,
    /// Only with this payment reference, as [`crate::types::HashSecret::reference`] has it.
    pub payment_ref_hash: Option<u64>,
    /// Only created at or after this time; 0 = any.
    pub from_ms: UnixMillis,
    /// Only created before this time; 0 = any.
    pub to_ms: UnixMillis,
    /// The newest first: of one item only.
    pub newest: bool,
}

impl OrderFilter {
    fn takes(&self, order: &OrderView, payment_ref_hash: u64) -> bool {
        let created = order.created_at_ms;
        self.state.is_none_or(|state| state == order.state)
            && self.payment_ref_hash.is_none_or(|wanted| wanted == payment_ref_hash)
            && self.from_ms <= created
            && (self.to_ms.0 == 0 || created < self.to_ms)
    }
}

/// A page of orders.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OrderPage<'a> {
    /// The orders, in the order that was asked for.
    pub orders: Vec<OwnedOrder<'a>>,
    /// The last order that was looked at, if more follow.
    pub looked_to: Option<OrderId>,
}

impl Shard {
    /// An item of this shard.
    pub fn item(&self, item: ItemId) -> Option<ItemView<'_>> {
        self.items.find(item).map(|slot| self.items.get(slot).view())
    }

    /// This shard's items with numbers above `after`, in ascending order, at most `limit`.
    pub fn items_after(&self, after: u32, limit: usize) -> impl Iterator<Item = ItemView<'_>> {
        self.items.after(after).take(limit).map(|item| item.view())
    }

    /// The same with numbers below `before` (0 = all), in descending order.
    pub fn items_before(&self, before: u32, limit: usize) -> impl Iterator<Item = ItemView<'_>> {
        self.items.before(before).take(limit).map(|item| item.view())
    }

    /// This shard's items in the order of the list for buyers, at most `limit`, after this place of it
    /// (`None` = from the first).
    pub fn items_listed(&self, after: Option<Place>, limit: usize) -> impl Iterator<Item = ItemView<'_>> {
        self.items.after_place(after).take(limit).map(|item| item.view())
    }

    /// How many items and orders it keeps.
    pub fn counts(&self) -> (usize, usize) {
        (self.items.len(), self.orders.len())
    }

    /// How full its tables are, each with its bound: every bound that can refuse something.
    pub fn fullness(&self) -> [Fullness; TABLES] {
        let used = self.orders.used();
        let orders = self.bounds.orders as u64;
        let tables = [
            (self.items.len() as u64, self.items_max() as u64),
            (used.orders as u64, orders),
            (used.buyers as u64, orders),
            (used.subject_bytes, self.bounds.subject_bytes),
            (used.text_bytes, self.bounds.text_bytes),
            (self.blocked.len() as u64, self.bounds.blocked as u64),
            (u64::from(self.items.seq_max()), u64::from(u32::MAX)),
        ];
        core::array::from_fn(|n| Fullness { table: TABLE_NAMES[n], used: tables[n].0, max: tables[n].1 })
    }

    /// Most rows of an index that one call has moved so far: the cost of one step of growing.
    pub fn rows_moved_max(&self) -> usize {
        self.orders.moved_max()
    }

    /// An order of any buyer.
    pub fn order(&self, order: OrderId) -> Option<OwnedOrder<'_>> {
        self.orders.find(order).map(|slot| self.owned(slot))
    }

    /// What was paid and given back for an order, oldest first.
    pub fn money(&self, order: OrderId) -> Vec<MoneyRow<'_>> {
        let slot = self.orders.find(order);
        let mut rows: Vec<_> = slot.into_iter().flat_map(|slot| self.orders.money(slot)).collect();
        rows.reverse();
        rows
    }

    /// Orders with a payment that came too late and was not accepted since, with numbers above `after`,
    /// ascending, at most `limit`.
    pub fn late_payments_after(&self, item: Option<ItemId>, after: u64, limit: usize) -> Vec<OwnedOrder<'_>> {
        let late = self.late.iter().filter(|order| order.get() > after);
        let late = late.filter(|order| item.is_none_or(|item| order.item() == item)).take(limit);
        late.filter_map(|&order| self.order(order)).collect()
    }

    /// An order with the keyed hashes of its idempotency key, payment and refund reference.
    pub(crate) fn order_with_hashes(&self, order: OrderId) -> Option<(OwnedOrder<'_>, [u64; 3])> {
        let slot = self.orders.find(order)?;
        let of = |kind| self.orders.reference_hash(slot, kind);
        let hashes = [self.orders.key_hash(slot), of(MoneyKind::Payment), of(MoneyKind::Refund)];
        Some((self.owned(slot), hashes))
    }

    /// The sequence numbers of an item's orders.
    pub(crate) fn seqs(&self, item: ItemId) -> Option<&Seqs> {
        self.items.find(item).map(|slot| self.items.get(slot).seqs())
    }

    /// The rows of an item's orders with sequence numbers above `after`, ascending.
    pub(super) fn slots_after(&self, item: &Item, after: u32) -> impl Iterator<Item = u32> {
        let id = item.id();
        let orders = item.seqs().after(after).map(move |seq| OrderId::new(id, seq));
        orders.map(|order| self.orders.find(order).expect("a number that was noted has its order"))
    }

    /// An order of this buyer; `None` if it is another buyer's.
    pub fn order_of(&self, buyer: BuyerHash, order: OrderId) -> Option<OrderView> {
        let slot = self.orders.find(order)?;
        (self.orders.buyer(slot) == buyer).then(|| self.order_view(slot))
    }

    /// A buyer's orders in this shard, of one item or of all, with numbers above `after`,
    /// ascending, at most `limit`.
    pub fn orders_of(
        &self,
        buyer: BuyerHash,
        item: Option<ItemId>,
        after: u64,
        limit: usize,
    ) -> Vec<OwnedOrder<'_>> {
        let slots = self.orders.of_buyer(buyer, item, after, limit);
        slots.into_iter().map(|slot| self.owned(slot)).collect()
    }

    /// A buyer's orders in this shard, the newest first (by time, then number), after the order `last`,
    /// at most `limit`. `None` if the buyer has more than [`SCAN_ORDERS_MAX`] here: orders are not kept
    /// by time, so all of them have to be read.
    pub fn newest_orders_of(
        &self,
        buyer: BuyerHash,
        last: Option<(UnixMillis, OrderId)>,
        limit: usize,
    ) -> Option<Vec<OwnedOrder<'_>>> {
        let slots = self.orders.of_buyer(buyer, None, 0, SCAN_ORDERS_MAX + 1);
        if slots.len() > SCAN_ORDERS_MAX {
            return None;
        }
        let age = |slot: &u32| {
            let view = self.orders.view(*slot);
            (view.created_at_ms, view.order)
        };
        let mut slots: Vec<_> = slots.into_iter().map(|slot| (age(&slot), slot)).collect();
        slots.retain(|(age, _)| last.is_none_or(|last| *age < last));
        slots.sort_unstable_by(|one, other| other.cmp(one));
        slots.truncate(limit);
        Some(slots.into_iter().map(|(_, slot)| self.owned(slot)).collect())
    }

    /// Orders of one item, or of all items of this shard, with numbers above `after`,
    /// ascending, at most `limit`.
    pub fn orders_after(&self, item: Option<ItemId>, after: u64, limit: usize) -> Vec<OwnedOrder<'_>> {
        let one = item.map(|item| self.items.find(item).map(|slot| self.items.get(slot)));
        let first = ((after >> 32) as u32).saturating_sub(1);
        let all = item.is_none().then(|| self.items.with_orders_after(first));
        let items = one.into_iter().flatten().chain(all.into_iter().flatten());
        let orders = items.flat_map(|row| self.slots_after(row, seqs_done(row.id(), after)));
        orders.take(limit).map(|slot| self.owned(slot)).collect()
    }

    /// Orders that the filter lets through, after the order `after` (0 = from the first), at most `limit`.
    ///
    /// Reads at most [`SCAN_ORDERS_MAX`] orders: a page may be empty although more orders follow.
    pub fn orders_page(&self, filter: &OrderFilter, after: u64, limit: usize) -> OrderPage<'_> {
        let row = filter.item.and_then(|item| self.items.find(item)).map(|slot| self.items.get(slot));
        if filter.newest {
            let Some(row) = row else { return OrderPage::default() };
            let id = row.id();
            let before = if after == 0 { 0 } else { seqs_done(id, after).max(1) };
            let found = |seq| self.orders.find(OrderId::new(id, seq)).expect("a noted number has its order");
            return self.filtered(filter, limit, row.seqs().before(before).map(found));
        }
        if let Some(buyer) = filter.buyer {
            let slots = self.orders.of_buyer(buyer, filter.item, after, SCAN_ORDERS_MAX + 1);
            return self.filtered(filter, limit, slots.into_iter());
        }
        let first = ((after >> 32) as u32).saturating_sub(1);
        let all = filter.item.is_none().then(|| self.items.with_orders_after(first));
        let items = row.into_iter().chain(all.into_iter().flatten());
        let slots = items.flat_map(|row| self.slots_after(row, seqs_done(row.id(), after)));
        self.filtered(filter, limit, slots)
    }

    fn filtered(
        &self,
        filter: &OrderFilter,
        limit: usize,
        slots: impl Iterator<Item = u32>,
    ) -> OrderPage<'_> {
        let (mut orders, mut last, mut looked) = (Vec::new(), None, 0);
        for slot in slots {
            if looked == SCAN_ORDERS_MAX || orders.len() == limit {
                return OrderPage { orders, looked_to: last };
            }
            let view = self.orders.view(slot);
            let is_buyers = filter.buyer.is_none_or(|buyer| buyer == self.orders.buyer(slot));
            if is_buyers && filter.takes(&view, self.orders.reference_hash(slot, MoneyKind::Payment)) {
                orders.push(self.owned(slot));
            }
            (last, looked) = (Some(view.order), looked + 1);
        }
        OrderPage { orders, looked_to: None }
    }

    /// Blocked buyers, at most `limit`, after the one with this subject (empty = from the first), in the
    /// order of their hashes: each keeps its place, whoever is added or removed.
    pub fn blocked_after(&self, after: &[u8], limit: usize) -> impl Iterator<Item = &[u8]> {
        use core::ops::Bound;
        let from = match after {
            [] => Bound::Unbounded,
            after => Bound::Excluded(self.secret.buyer(after)),
        };
        self.blocked.range((from, Bound::Unbounded)).take(limit).map(|(_, subject)| &**subject)
    }

    /// The drawn entries of an item, with numbers above `after`, ascending, at most `limit`; and
    /// if there may be more, the number after which to go on. `None` until the draw is over.
    ///
    /// Reads at most [`SCAN_ORDERS_MAX`] orders: not all of them need be entries.
    pub fn draw_entries(
        &self,
        item: ItemId,
        after: u64,
        limit: usize,
    ) -> Option<(Vec<DrawEntry>, Option<OrderId>)> {
        let row = self.items.get(self.items.find(item)?);
        let last_seq = row.held_draw().filter(|_| !row.is_drawing())?.drawn.last_seq;
        let mut done = seqs_done(item, after);
        let (mut entries, mut seen) = (Vec::new(), 0);
        for slot in self.slots_after(row, done) {
            let OrderView { order, quantity, state, .. } = self.orders.view(slot);
            let is_drawn = self.orders.is_drawn(slot);
            if order.seq() > last_seq {
                break;
            }
            if seen == SCAN_ORDERS_MAX || (is_drawn && entries.len() == limit) {
                return Some((entries, Some(OrderId::new(item, done))));
            }
            (seen, done) = (seen + 1, order.seq());
            if is_drawn {
                entries.push(DrawEntry { order, quantity, won: state != OrderState::Lost });
            }
        }
        Some((entries, None))
    }

    /// The merchant's changes above `after`, oldest first.
    pub fn audit_after(&self, after: Lsn) -> impl Iterator<Item = AuditRow<'_>> {
        self.audit.after(after)
    }

    /// The merchant's changes before `before`, newest first; 0 = all.
    pub fn audit_before(&self, before: Lsn) -> impl Iterator<Item = AuditRow<'_>> {
        self.audit.before(before)
    }

    fn owned(&self, slot: u32) -> OwnedOrder<'_> {
        let (subject, key) = (self.orders.subject(slot), self.orders.key(slot));
        OwnedOrder { order: self.order_view(slot), subject, key }
    }
}

/// The last sequence number of an item's orders that a page after the order `after` leaves out.
/// `after` may be any number, so it is not an `OrderId`.
fn seqs_done(item: ItemId, after: u64) -> u32 {
    match u64::from(item.get()).cmp(&(after >> 32)) {
        Ordering::Less => u32::MAX,
        Ordering::Equal => after as u32,
        Ordering::Greater => 0,
    }
}
