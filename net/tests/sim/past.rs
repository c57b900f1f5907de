//! What stood in the database before the engine first saw it: a shop that has sold before.
//!
//! Some histories begin with rows of items that are to be sold, with orders of their own (every state,
//! gaps between their numbers, buyers who will come again) and a blocklist. The engine has to take all of
//! that over before it sells anything: until then the database may be down, the process may die, the disk
//! may fail. The choices come from a generator of their own, so that histories without a past stay the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use stampede_core::item::OrderState;
use stampede_persist::export::store::{OrderRecord, Piles};

use crate::book::takes_stock;
use crate::sim_database::{OrderLine, SimDatabase, Spec, StockLine};
use crate::sim_disk::Rng;

/// Most orders of an item: all facts of an import have to fit into the journal's queue, which takes no step meanwhile.
const ORDERS_MAX: u64 = 4;
const HOUR_MS: u64 = 3_600_000;
/// How many buyers there are, who buy from the engine as well.
const BUYERS: u64 = 6;

/// An item as it is going to be sold.
pub(crate) struct Before<'a> {
    pub(crate) id: u32,
    pub(crate) stock: u64,
    pub(crate) opens: u64,
    pub(crate) closes: u64,
    pub(crate) cap: u64,
    pub(crate) payment: &'a str,
    pub(crate) hold_ms: u64,
}

/// An order that was there before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    pub(crate) buyer: String,
    pub(crate) key: String,
    pub(crate) quantity: u64,
    pub(crate) state: OrderState,
    pub(crate) created: u64,
    pub(crate) pay_by: u64,
}

/// Everything that was there before; what the checker of the log expects to be taken over.
#[derive(Clone, Default, Debug)]
pub(crate) struct Past {
    /// Units granted, by item.
    pub(crate) items: BTreeMap<u32, u64>,
    /// By id.
    pub(crate) orders: BTreeMap<u64, Order>,
}

impl Past {
    /// A past for about one history of five that has a database, as it stood at that time.
    pub(crate) fn of(seed: u64, now_ms: u64, items: &[Before<'_>]) -> Option<Self> {
        let mut rng = Rng(seed ^ 0x7061_7374);
        if rng.below(5) > 0 {
            return None;
        }
        let mut past = Self::default();
        for item in items {
            past.add(&mut rng, now_ms, item);
        }
        (!past.items.is_empty()).then_some(past)
    }

    fn add(&mut self, rng: &mut Rng, now_ms: u64, item: &Before<'_>) {
        self.items.insert(item.id, item.stock);
        let (mut left, mut number) = (item.stock, 0);
        for n in 0..rng.below(ORDERS_MAX + 1) {
            number += 1 + [0, 0, 1, 1_000_000][rng.below(4) as usize];
            let quantity = 1 + rng.below(item.cap);
            let state = Self::state(rng, item.payment);
            if takes_stock(state) {
                if quantity > left {
                    continue;
                }
                left -= quantity;
            }
            let created = now_ms - 1 - rng.below(HOUR_MS);
            // Some run out as soon as the engine looks at them.
            let pay_by = if item.payment == "hold" { created + 1 + rng.below(2 * HOUR_MS) } else { 0 };
            let buyer = format!("b{}", rng.below(BUYERS));
            let key = if rng.coin() { format!("before{n}") } else { String::new() };
            let id = u64::from(item.id) << 32 | number;
            self.orders.insert(id, Order { buyer, key, quantity, state, created, pay_by });
        }
    }

    fn state(rng: &mut Rng, payment: &str) -> OrderState {
        use OrderState::{Cancelled, Confirmed, Expired, Held, Paid, Pending, Refunded};
        let open = match payment {
            "hold" => Held,
            "on_payment" => Pending,
            _ => Confirmed,
        };
        let over = if payment == "hold" { Expired } else { Cancelled };
        [open, open, Paid, Cancelled, Refunded, over][rng.below(6) as usize]
    }

    /// Writes it all into the database, as a shop's own program did.
    pub(crate) fn write(&self, database: &SimDatabase, items: &[Before<'_>]) {
        for item in items {
            let of_item = self.orders.iter().filter(|(id, _)| (**id >> 32) as u32 == item.id);
            let units = |wanted: fn(OrderState) -> bool| -> i64 {
                of_item.clone().filter(|(_, o)| wanted(o.state)).map(|(_, o)| o.quantity as i64).sum()
            };
            let held = units(|state| state == OrderState::Held);
            let sale = units(takes_stock) - held;
            let mut line = StockLine::new("n", item.stock as i64 - held - sale);
            line.row.piles = Piles { held, sale, ..line.row.piles };
            line.spec = Arc::new(Spec {
                price_minor: 1,
                opens_at_ms: item.opens as i64,
                closes_at_ms: item.closes as i64,
                cap: item.cap as i32,
                payment: item.payment.to_owned(),
                hold_ms: item.hold_ms as i64,
                ..Spec::named("n")
            });
            database.insert_stock(item.id.into(), line);
        }
        for (id, order) in &self.orders {
            database.insert_order(OrderLine {
                sid: (id >> 32) as i64,
                name: Some("n".to_owned()),
                record: OrderRecord {
                    id: *id as i64,
                    quantity: order.quantity as i32,
                    state: order.state.name().to_owned(),
                    create_time_ms: order.created as i64,
                    pay_by_ms: order.pay_by as i64,
                    buyer: order.buyer.clone(),
                    idem_key: order.key.clone(),
                    payment_ref: String::new(),
                    price_minor: 0,
                    currency: String::new(),
                    refund_ref: String::new(),
                    refunded: 0,
                    has_null: false,
                },
                update_time_ms: order.created as i64,
                end_time_ms: 0,
                lsn: 0,
            });
        }
    }
}
