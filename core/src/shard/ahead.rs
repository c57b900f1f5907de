//! Looking ahead over a batch of purchases: what their decisions will read is read here first.
//!
//! A decision waits for memory a dozen times, one after the other, in tables that are far larger
//! than a cache. Looked up for many purchases in a row, with nothing depending on what is found,
//! the same memory is fetched for several of them at a time; the decision then finds it near.
//! Decides nothing and changes nothing: with or without it every outcome is the same.

use core::hint::black_box;

use super::state::Shard;
use crate::types::{BuyerHash, ItemId, OrderId};

/// What a decision will look up.
#[derive(Clone, Copy, Debug)]
pub enum Ahead {
    /// A purchase: of which item, by whom.
    Purchase(ItemId, BuyerHash),
    /// An order that is to move on.
    Order(OrderId),
}

/// Orders whose rows are looked up in one go, once their places are known.
const ROWS_AT_ONCE: usize = 64;

impl Shard {
    /// Reads what decisions about these will read.
    pub fn look_ahead(&self, asks: impl Iterator<Item = Ahead>) {
        let (mut rows, mut len, mut found) = ([0; ROWS_AT_ONCE], 0, false);
        for ask in asks {
            match ask {
                Ahead::Purchase(item, buyer) => found ^= self.look_at(item, buyer),
                Ahead::Order(order) => {
                    let Some(slot) = self.orders.find(order) else { continue };
                    (rows[len], len) = (slot, len + 1);
                    if len == ROWS_AT_ONCE {
                        found ^= self.orders.look_at_holdings(&rows);
                        len = 0;
                    }
                }
            }
        }
        black_box(found ^ self.orders.look_at_holdings(&rows[..len]));
    }

    fn look_at(&self, item: ItemId, buyer: BuyerHash) -> bool {
        let held = self.gauge(item).is_some_and(|gauge| gauge.may_hold(buyer));
        held ^ self.orders.look_at_buyer(buyer)
    }
}
