//! Prefetching for a batch of purchases: reads first what their decisions will read.
//!
//! A decision waits for memory a dozen times, one wait after the other, in tables far larger than
//! a cache. Lookups for many purchases in a row, where nothing depends on what is found, fetch the
//! memory for several of them at the same time; the decisions then find it in the cache. Changes
//! nothing: every outcome is the same with and without it.

use core::hint::black_box;

use super::state::Shard;
use crate::types::{BuyerHash, ItemId, OrderId};

/// What a decision will look up.
#[derive(Clone, Copy, Debug)]
pub enum Ahead {
    /// A purchase: of which item, by whom.
    Purchase(ItemId, BuyerHash),
    /// An order whose state is to change.
    Order(OrderId),
}

/// Orders whose rows are read in one go, once their slots are known.
const ROWS_AT_ONCE: usize = 64;

impl Shard {
    /// Reads what the decisions about these will read.
    pub fn look_ahead(&self, asks: impl Iterator<Item = Ahead>) {
        let (mut rows, mut len, mut found) = ([0; ROWS_AT_ONCE], 0, false);
        for ask in asks {
            match ask {
                Ahead::Purchase(item, buyer) => found ^= self.prefetch(item, buyer),
                Ahead::Order(order) => {
                    let Some(slot) = self.orders.find(order) else { continue };
                    (rows[len], len) = (slot, len + 1);
                    if len == ROWS_AT_ONCE {
                        found ^= self.orders.prefetch_holdings(&rows);
                        len = 0;
                    }
                }
            }
        }
        black_box(found ^ self.orders.prefetch_holdings(&rows[..len]));
    }

    fn prefetch(&self, item: ItemId, buyer: BuyerHash) -> bool {
        let held = self.gauge(item).is_some_and(|gauge| gauge.may_hold(buyer));
        held ^ self.orders.prefetch_buyer(buyer)
    }
}
