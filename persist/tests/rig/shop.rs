//! What the rig sells: a few items, orders by several producers, and a state that holds each fact
//! against the book of what was appended.

use std::collections::BTreeMap;
use std::sync::Arc;

use stampede_core::fact::Fact;
use stampede_core::sample::{Item, Order, item_id};
use stampede_core::shard::{Accepted, FactSink as _};
use stampede_core::state_row::StateRow;
use stampede_core::types::{ItemId, Lsn, OrderId, UnixMillis};
use stampede_persist::codec;
use stampede_persist::log::queue::Producer;
use stampede_persist::log::rebuild::Rebuild;

use super::sim_disk::Rng;

/// Producers at most, each with an item of its own.
pub(crate) const ITEMS: u32 = 4;
const GRANTED: u64 = 1 << 30;

pub(crate) fn item(number: u32) -> ItemId {
    item_id(u64::from(number) + 1)
}

/// A fact as the log holds it: kind and payload.
pub(crate) type Encoded = (u16, Box<[u8]>);

fn encoded(fact: &Fact<'_>) -> Encoded {
    let mut payload = [0; stampede_core::limits::FACT_BYTES_MAX];
    let len = codec::encode(fact, &mut payload);
    (codec::fact_kind(fact), payload[..len].into())
}

/// Everything that was appended, by LSN: what the log may hold.
#[derive(Default, Clone)]
pub(crate) struct Book(BTreeMap<u64, Encoded>);

impl Book {
    pub(crate) fn add(&mut self, appended: impl IntoIterator<Item = (u64, Encoded)>) {
        self.0.extend(appended);
    }
    /// Forgets what came after this LSN: a crash has taken it.
    pub(crate) fn cut_after(&mut self, lsn: Lsn) {
        self.0.split_off(&(lsn.0 + 1));
    }
    fn check(&self, lsn: Lsn, fact: &Fact<'_>) -> Result<(), String> {
        match self.0.get(&lsn.0) {
            Some(expected) if *expected == encoded(fact) => Ok(()),
            Some(_) => Err(format!("{} is not what was appended as LSN {lsn}", fact.kind_name())),
            None => Err(format!("nothing was appended as LSN {lsn}, yet there is {}", fact.kind_name())),
        }
    }
    /// The orders up to this LSN, as a database numbers them.
    pub(crate) fn orders_until(&self, lsn: Lsn) -> Vec<i64> {
        let order = |(kind, payload): &Encoded| match codec::decode(*kind, payload) {
            Ok(Fact::OrderPlaced { order, .. }) => Some(order.get().cast_signed()),
            _ => None,
        };
        let mut orders: Vec<_> = self.0.range(..=lsn.0).filter_map(|(_, fact)| order(fact)).collect();
        orders.sort_unstable();
        orders
    }
}

/// One producer's end of the queue; notes what it appends.
pub(crate) struct Seller {
    pub(crate) producer: Producer,
    number: u32,
    next_seq: u32,
    rng: Rng,
    pub(crate) appended: Vec<(u64, Encoded)>,
}

impl Seller {
    pub(crate) fn new(producer: Producer, number: u32, last_seq: u32, seed: u64) -> Self {
        Self { producer, number, next_seq: last_seq + 1, rng: Rng(seed), appended: Vec::new() }
    }

    fn append(&mut self, fact: &Fact<'_>) -> Lsn {
        let lsn = self.producer.append(Accepted::forged(fact));
        self.appended.push((lsn.0, encoded(fact)));
        lsn
    }

    /// Puts the item on sale.
    pub(crate) fn open_item(&mut self) {
        self.append(&Item::new(item(self.number), GRANTED).created());
    }

    /// Sells one unit to a new buyer.
    pub(crate) fn sell(&mut self) -> Lsn {
        let seq = self.next_seq;
        self.next_seq += 1;
        let salt = self.rng.next();
        let pad = "x".repeat((salt % 30) as usize);
        let (subject, key) = (format!("b{}-{seq}-{salt:x}{pad}", self.number), format!("k{salt:x}{pad}"));
        let order = Order {
            at_ms: UnixMillis(1000 + u64::from(seq)),
            subject: subject.as_bytes(),
            key: key.as_bytes(),
            ..Order::new(OrderId::new(item(self.number), seq))
        };
        self.append(&order.placed())
    }
}

struct Sold {
    lsn: Lsn,
    at_ms: UnixMillis,
    subject: Vec<u8>,
}

/// The state that is rebuilt.
#[derive(Default)]
pub(crate) struct Shop {
    /// What everything is held against; the engine's own snapshots do without.
    book: Option<Arc<Book>>,
    items: BTreeMap<ItemId, Lsn>,
    orders: BTreeMap<OrderId, Sold>,
}

impl Shop {
    pub(crate) fn against(book: &Arc<Book>) -> Self {
        Self { book: Some(Arc::clone(book)), ..Self::default() }
    }
    pub(crate) fn last_seq(&self, number: u32) -> u32 {
        let range = OrderId::new(item(number), 1)..=OrderId::new(item(number), u32::MAX);
        self.orders.range(range).next_back().map_or(0, |(order, _)| order.seq())
    }
    pub(crate) fn has_item(&self, number: u32) -> bool {
        self.items.contains_key(&item(number))
    }
    /// How many facts it knows.
    pub(crate) fn facts(&self) -> usize {
        self.items.len() + self.orders.len()
    }
    fn add(&mut self, lsn: Lsn, fact: &Fact<'_>) -> Result<(), String> {
        let twice = match *fact {
            Fact::ItemCreated { item, .. } => self.items.insert(item, lsn).is_some(),
            Fact::OrderPlaced { order, at_ms, subject, .. } => {
                let row = Sold { lsn, at_ms, subject: subject.to_vec() };
                self.orders.insert(order, row).is_some()
            }
            _ => return Err(format!("unexpected {}", fact.kind_name())),
        };
        if twice { Err(format!("LSN {lsn} comes twice")) } else { Ok(()) }
    }
}

impl Rebuild for Shop {
    fn row(&mut self, row: &StateRow<'_>) -> Result<(), String> {
        let book = self.book.clone();
        let (lsn, expected) = match *row {
            StateRow::Item { item, .. } => {
                let known = book.as_ref().is_none_or(|book| book.0.len() >= self.items.len());
                self.items.insert(item, Lsn::ZERO);
                return if known { Ok(()) } else { Err("more items than were appended".to_owned()) };
            }
            StateRow::Order { order, lsn, created_at_ms, subject, .. } => {
                let row = Sold { lsn, at_ms: created_at_ms, subject: subject.to_vec() };
                if self.orders.insert(order, row).is_some() {
                    return Err(format!("order {order} comes twice"));
                }
                let Some(book) = book else { return Ok(()) };
                let Some(fact) = book.0.get(&lsn.0).cloned() else {
                    return Err(format!("a row of LSN {lsn}, which was never appended"));
                };
                ((lsn, order, subject), fact)
            }
            _ => return Err("no such row in this shop".to_owned()),
        };
        match codec::decode(expected.0, &expected.1) {
            Ok(Fact::OrderPlaced { order, subject, .. }) if (order, subject) == (lsn.1, lsn.2) => Ok(()),
            _ => Err(format!("the row of LSN {} is not what was appended", lsn.0)),
        }
    }

    fn fact(&mut self, lsn: Lsn, fact: &Fact<'_>) -> Result<(), String> {
        if let Some(book) = &self.book {
            book.check(lsn, fact)?;
        }
        self.add(lsn, fact)
    }

    fn rows(&self, visit: &mut dyn FnMut(StateRow<'_>)) {
        for item in self.items.keys() {
            let last_seq = self.last_seq(item.get() - 1);
            let last = self.orders.get(&OrderId::new(*item, last_seq)).map_or(Lsn(1), |order| order.lsn);
            visit(Item::new(*item, GRANTED).row(last_seq, last));
        }
        for (order, row) in &self.orders {
            let kept = Order { at_ms: row.at_ms, subject: &row.subject, ..Order::new(*order) };
            visit(kept.row(row.lsn));
        }
    }
}
