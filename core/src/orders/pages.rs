//! Pages of a buyer's orders: each reads the orders it returns and about [`CHAIN_MAX`](super::CHAIN_MAX) more.
//!
//! `by_item` has the items of a buyer with many of them, in ascending order, and `long` the orders of a
//! holding with more than may be placed today, which only an older log has. All others are
//! short chains. Nothing here changes an order. Next: [`super`].

use alloc::vec::Vec;

use super::{OrderBook, WALK_MAX};
use crate::types::{BuyerHash, ItemId};

impl OrderBook {
    /// Records an order of a holding with more than [`CHAIN_MAX`](super::CHAIN_MAX).
    pub(super) fn note_long(&mut self, holding: u32, slot: u32) {
        if let Some(orders) = self.long.get_mut(&holding) {
            orders.push(slot);
            return;
        }
        let mut orders: Vec<u32> = self.chain(holding).collect();
        orders.reverse();
        self.long.insert(holding, orders);
    }

    /// The slots of a buyer's orders, of one item or of all, with numbers above `after`, in
    /// ascending order, at most `limit`.
    ///
    /// Reads no more orders than it returns and two holdings have.
    pub(crate) fn of_buyer(
        &self,
        buyer: BuyerHash,
        item: Option<ItemId>,
        after: u64,
        limit: usize,
    ) -> Vec<u32> {
        let mut slots = Vec::new();
        let holdings = match item {
            Some(item) => self.holding(buyer, item).into_iter().collect(),
            None => self.holdings_from(buyer, (after >> 32) as u32, limit),
        };
        for holding in holdings {
            if slots.len() == limit {
                break;
            }
            self.orders_of_holding(holding, after, limit - slots.len(), &mut slots);
        }
        slots
    }

    /// A buyer's holdings of items from this number on, by item; each has an order at least, so
    /// that one more than `limit` is enough.
    fn holdings_from(&self, buyer: BuyerHash, item: u32, limit: usize) -> Vec<u32> {
        let Some(first) = self.first_holding(buyer) else { return Vec::new() };
        let Some(from) = ItemId::new(u64::from(item.max(1))) else { return Vec::new() };
        if self.holdings.get(first).siblings > WALK_MAX {
            let of_buyer = self.by_item.range((first, from)..).take_while(|((of, _), _)| *of == first);
            return of_buyer.map(|(_, &at)| at).take(limit.saturating_add(1)).collect();
        }
        let mut few: Vec<u32> = self.siblings(first).collect();
        few.retain(|&at| self.holdings.get(at).item >= from);
        few.sort_unstable_by_key(|&at| self.holdings.get(at).item);
        few
    }

    /// Adds the slots of a holding's orders with numbers above `after`, ascending, at most `limit`.
    fn orders_of_holding(&self, holding: u32, after: u64, limit: usize, slots: &mut Vec<u32>) {
        let is_done = |slot: u32| self.orders.get(slot).id.get() <= after;
        if let Some(orders) = self.long.get(&holding) {
            let first = orders.partition_point(|&slot| is_done(slot));
            return slots.extend(orders[first..].iter().take(limit));
        }
        let mut newest_first: Vec<u32> = self.chain(holding).take_while(|&slot| !is_done(slot)).collect();
        newest_first.reverse();
        slots.extend(newest_first.iter().take(limit));
    }
}
