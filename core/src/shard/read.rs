//! What can be asked of a shard. Nothing here changes anything.
//!
//! What an answer shows may rest on facts that are not durable yet; the caller
//! waits for [`OrderView::state_lsn`] or [`ItemView::lsn`] before it shows it (I3).

use super::Shard;
use crate::command::{ItemView, OrderView};
use crate::draw::DrawEntry;
use crate::item::OrderState;
use crate::items::Item;
use crate::limits::{ALARM_PERCENT, SCAN_ORDERS_MAX};
use crate::money::{MoneyKind, MoneyRow};
use crate::seqs::Seqs;
use crate::state_row::AuditRow;
use crate::types::{BuyerHash, ItemId, Lsn, OrderId};
use alloc::vec::Vec;
use core::cmp::Ordering;

/// How many tables [`Shard::fullness`] tells of.
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
    /// Whether somebody has to be told: long before it takes no more.
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

impl Shard {
    /// An item of this shard.
    pub fn item(&self, item: ItemId) -> Option<ItemView<'_>> {
        self.items.find(item).map(|slot| self.items.get(slot).view())
    }

    /// This shard's items with numbers above `after`, in ascending order, at most `limit`.
    pub fn items_after(&self, after: u32, limit: usize) -> impl Iterator<Item = ItemView<'_>> {
        self.items.after(after).take(limit).map(|item| item.view())
    }

    /// How many items and orders it keeps.
    pub fn counts(&self) -> (usize, usize) {
        (self.items.len(), self.orders.len())
    }

    /// How full its tables are, each with the number at which it takes no more: every bound whose
    /// end would refuse something.
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

    /// Most rows of an index that one call has moved so far: what growing costs at a time.
    pub fn rows_moved_max(&self) -> usize {
        self.orders.moved_max()
    }

    /// An order, whoever's it is.
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

    /// Orders with a payment that came too late and was not taken since, with numbers above `after`,
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

    /// An order of this buyer; somebody else's does not exist.
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

    /// The entries that an item's draw drew, with numbers above `after`, ascending, at most
    /// `limit`; and if there may be more, the number after which to go on. `None` until the
    /// draw is over.
    ///
    /// Looks at [`SCAN_ORDERS_MAX`] orders at most: others may lie between.
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

    fn owned(&self, slot: u32) -> OwnedOrder<'_> {
        let (subject, key) = (self.orders.subject(slot), self.orders.key(slot));
        OwnedOrder { order: self.order_view(slot), subject, key }
    }
}

/// Up to which sequence number an item's orders are done for who goes on after the number
/// `after`. Any number may be asked for, so not by way of `OrderId`.
fn seqs_done(item: ItemId, after: u64) -> u32 {
    match u64::from(item.get()).cmp(&(after >> 32)) {
        Ordering::Less => u32::MAX,
        Ordering::Equal => after as u32,
        Ordering::Greater => 0,
    }
}
