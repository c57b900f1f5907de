//! The books: what the durable log says, folded by hand and judged fact by fact.
//!
//! Written from the invariants, not from the shard: ordered maps, and every sum counted
//! afresh. Of the product it uses the words alone. It sees each durable fact once, in
//! order, and remembers a hash of it: what was durable once must never read otherwise.

use std::collections::{BTreeMap, BTreeSet};

use stampede_core::fact::{ACTOR_IMPORT, ACTOR_POSTGRES, Fact, Switch};
use stampede_core::item::{OrderState, Payment};
use stampede_core::money::{MoneyKind, Price};
use stampede_core::shard::Shard;
use stampede_persist::codec;

use crate::past::Past;

/// An invariant that does not hold, in words that begin with its number.
pub(crate) type Red = String;

/// Fails with a text that begins with the invariant's number.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}
pub(crate) use ensure;

#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) granted: i64,
    pub(crate) opens: u64,
    pub(crate) closes: u64,
    pub(crate) cap: u64,
    pub(crate) payment: Payment,
    pub(crate) draws_at: Option<u64>,
    pub(crate) paused: bool,
    pub(crate) closed: bool,
    pub(crate) ended: bool,
    pub(crate) drawn: bool,
    pub(crate) last_seq: u32,
    pub(crate) version: u64,
    /// Units by which an edit of the database's row was followed.
    pub(crate) followed: i64,
    /// Whether it was ever paused for the database's sake.
    pub(crate) stopped: bool,
    last_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) buyer: Box<[u8]>,
    pub(crate) key: Box<[u8]>,
    pub(crate) quantity: u64,
    /// Units given back while it is still paid.
    pub(crate) refunded: u64,
    pub(crate) state: OrderState,
    pub(crate) price: Price,
    /// What was told of its money: kind, reference, units, time.
    money: Vec<(MoneyKind, Box<[u8]>, u32, u64)>,
    /// Payments that came too late and neither were taken nor went back since.
    late: BTreeSet<Box<[u8]>>,
    pub(crate) created: u64,
    pub(crate) pay_by: u64,
    /// When it was cancelled or expired; 0 = not since the engine knows it.
    pub(crate) ended: u64,
    pub(crate) lsn: u64,
    pub(crate) state_lsn: u64,
    /// It was there before the engine.
    pub(crate) imported: bool,
}

/// What was told of money beside a payment: kind, the payment's reference, the refund's, units, time.
pub(crate) type Told = (MoneyKind, Box<[u8]>, Box<[u8]>, u32, u64);

#[derive(Default)]
pub(crate) struct Book {
    /// The last fact that was folded.
    pub(crate) lsn: u64,
    pub(crate) items: BTreeMap<u32, Item>,
    pub(crate) orders: BTreeMap<u64, Order>,
    pub(crate) blocked: BTreeSet<Box<[u8]>>,
    /// By order and fact.
    pub(crate) payments: BTreeMap<(u64, u64), Told>,
    pub(crate) last_ms: u64,
    /// The sale clock when this life began: nothing is dated earlier.
    pub(crate) life_began_ms: u64,
    /// What stood in the database before the engine first saw it.
    pub(crate) past: Past,
    hashes: Vec<u64>,
}

/// Whether units of the stock are set aside or sold in this state.
pub(crate) fn takes_stock(state: OrderState) -> bool {
    matches!(state, OrderState::Confirmed | OrderState::Held | OrderState::Paid)
}

fn is_live(state: OrderState) -> bool {
    takes_stock(state) || matches!(state, OrderState::Pending | OrderState::Entered)
}

/// Whether an order that was in one state may be in another later.
pub(crate) fn leads_to(from: OrderState, to: OrderState) -> bool {
    use OrderState::{Cancelled, Confirmed, Entered, Expired, Held, Lost, Paid, Pending, Refunded};
    from == to
        || match from {
            Entered => true,
            Confirmed | Held | Pending => matches!(to, Paid | Cancelled | Expired | Refunded),
            Paid => to == Refunded,
            // Taken again with a late payment, and refunded perhaps.
            Cancelled | Expired => matches!(to, Paid | Refunded),
            Refunded | Lost => false,
        }
}

/// A hash of a fact as it lies in the log.
fn hash(fact: &Fact<'_>) -> u64 {
    let mut bytes = [0; stampede_core::limits::FACT_BYTES_MAX];
    let len = codec::encode(fact, &mut bytes);
    mix(u64::from(codec::fact_kind(fact)), &bytes[..len])
}

/// Folds bytes into a running hash (multiply and rotate; only chance is to be kept out).
pub(crate) fn mix(seed: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x51_7C_C1_B7_27_22_0A_95);
    let mut chunks = bytes.chunks_exact(8);
    let mut hash = step(seed, bytes.len() as u64);
    for chunk in &mut chunks {
        hash = step(hash, u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
    }
    chunks.remainder().iter().fold(hash, |hash, byte| step(hash, u64::from(*byte)))
}

impl Book {
    fn of_item(&self, item: u32) -> impl Iterator<Item = (&u64, &Order)> {
        let first = u64::from(item) << 32;
        self.orders.range(first..first + (1 << 32))
    }

    /// Units that orders hold.
    pub(crate) fn taken(&self, item: u32) -> i64 {
        let taking = self.of_item(item).filter(|(_, order)| takes_stock(order.state));
        taking.map(|(_, order)| (order.quantity - order.refunded) as i64).sum()
    }

    pub(crate) fn available(&self, item: u32) -> i64 {
        self.items.get(&item).map_or(0, |row| row.granted - self.taken(item))
    }

    /// A durable fact was read: an old one must be what it was, a new one is judged.
    pub(crate) fn read(&mut self, lsn: u64, fact: &Fact<'_>) -> Result<(), Red> {
        let hash = hash(fact);
        if let Some(known) = self.hashes.get(lsn as usize - 1) {
            ensure!(*known == hash, "I2 LSN {lsn} was another fact before: now {fact:?}");
            return Ok(());
        }
        ensure!(lsn == self.lsn + 1, "I9 LSN {lsn} follows {}", self.lsn);
        let at = fact.at_ms().0;
        ensure!(
            at >= self.life_began_ms,
            "I14 LSN {lsn} is dated {at}, this life began at {}",
            self.life_began_ms
        );
        self.fold(lsn, at, fact).map_err(|red| format!("{red} (LSN {lsn}: {fact:?})"))?;
        self.hashes.push(hash);
        (self.lsn, self.last_ms) = (lsn, self.last_ms.max(at));
        Ok(())
    }

    fn fold(&mut self, lsn: u64, at: u64, fact: &Fact<'_>) -> Result<(), Red> {
        match *fact {
            Fact::ItemCreated { item, ref spec, granted, actor, .. } => {
                ensure!(!self.items.contains_key(&item.get()), "I8 an item is created twice");
                if let Some(before) = self.past.items.get(&item.get()) {
                    let taken_over = [ACTOR_POSTGRES, ACTOR_IMPORT].contains(&actor) && granted == *before;
                    ensure!(
                        taken_over,
                        "I1 an item of the database is created with {granted} units by {actor}"
                    );
                }
                let row = Item {
                    granted: granted as i64,
                    opens: spec.opens_at_ms.0,
                    closes: spec.closes_at_ms.0,
                    cap: spec.cap.into(),
                    payment: spec.payment,
                    draws_at: (spec.draw_ms > 0).then(|| spec.draws_at_ms().0),
                    // Until all its orders are there.
                    paused: actor == ACTOR_IMPORT,
                    closed: false,
                    ended: false,
                    drawn: false,
                    last_seq: 0,
                    version: 0,
                    followed: 0,
                    stopped: false,
                    last_ms: 0,
                };
                self.items.insert(item.get(), row);
                self.touch(item.get(), at)?;
            }
            Fact::ItemChanged { item, ref spec, .. } => {
                let row = self.touch(item.get(), at)?;
                (row.opens, row.closes, row.cap) = (spec.opens_at_ms.0, spec.closes_at_ms.0, spec.cap.into());
                row.draws_at = (spec.draw_ms > 0).then(|| spec.draws_at_ms().0);
                row.ended &= at >= row.closes;
            }
            Fact::StockAdjusted { item, delta, actor, .. } => {
                let row = self.touch(item.get(), at)?;
                row.granted += delta;
                row.followed += if actor == ACTOR_POSTGRES { delta } else { 0 };
                ensure!(self.available(item.get()) >= 0, "I1 more units withdrawn than were available");
            }
            Fact::ItemSwitched { item, switch, actor, .. } => {
                let row = self.touch(item.get(), at)?;
                row.stopped |= actor == ACTOR_POSTGRES;
                match switch {
                    Switch::Paused => row.paused = true,
                    Switch::Resumed => row.paused = false,
                    Switch::Closed => row.closed = true,
                    Switch::Ended => row.ended = true,
                }
            }
            Fact::OrderPlaced { .. } => self.placed(lsn, at, fact)?,
            Fact::OrderMoved { order, quantity, from, to, payment_ref, .. } => {
                self.moved(lsn, at, order.get(), (from, to), quantity.get().into())?;
                if to == OrderState::Paid || !payment_ref.is_empty() {
                    self.told(order.get(), (MoneyKind::Payment, payment_ref.into(), 0, at))?;
                    self.orders.get_mut(&order.get()).expect("just told").late.remove(payment_ref);
                }
                let buyer = self.orders[&order.get()].buyer.clone();
                let mine = self.of_item(order.item().get()).filter(|(_, other)| other.buyer == buyer);
                let live: u64 =
                    mine.filter(|(_, o)| is_live(o.state)).map(|(_, o)| o.quantity - o.refunded).sum();
                let again = matches!(from, OrderState::Expired | OrderState::Cancelled);
                let cap = self.items[&order.item().get()].cap;
                ensure!(!again || live <= cap, "I4 taken again: {live} units above the cap of {cap}");
            }
            Fact::OrderRefunded { order, quantity, units, refunded, refund_ref, .. } => {
                let (id, given) = (order.get(), u64::from(units.get()));
                let row = self.orders.get(&id).ok_or("I7 an order that was never placed")?;
                let said = (row.state, row.quantity, row.refunded + given);
                let is = (OrderState::Paid, u64::from(quantity.get()), u64::from(refunded.get()));
                ensure!(said == is && refunded <= quantity, "I8 a refund of {is:?}, it is {said:?}");
                if refunded == quantity {
                    self.moved(lsn, at, id, (OrderState::Paid, OrderState::Refunded), is.1)?;
                } else {
                    self.touch(order.item().get(), at)?;
                }
                let row = self.orders.get_mut(&id).expect("just seen");
                (row.refunded, row.state_lsn) = (is.2, lsn);
                self.told(id, (MoneyKind::Refund, refund_ref.into(), units.get(), at))?;
                let told = (MoneyKind::Refund, [].into(), refund_ref.into(), units.get(), at);
                self.payments.insert((id, lsn), told);
            }
            Fact::PaymentLate { order, payment_ref, .. } => {
                self.told(order.get(), (MoneyKind::LatePayment, payment_ref.into(), 0, at))?;
                let row = self.orders.get_mut(&order.get()).expect("just told");
                row.state_lsn = lsn;
                row.late.insert(payment_ref.into());
                let told = (MoneyKind::LatePayment, payment_ref.into(), [].into(), 0, at);
                self.payments.insert((order.get(), lsn), told);
            }
            Fact::LatePaymentReturned { order, payment_ref, refund_ref, .. } => {
                self.told(order.get(), (MoneyKind::LateReturned, refund_ref.into(), 0, at))?;
                let row = self.orders.get_mut(&order.get()).expect("just told");
                ensure!(row.late.remove(payment_ref), "I20 a payment goes back that was not late, or twice");
                row.state_lsn = lsn;
                let told = (MoneyKind::LateReturned, payment_ref.into(), refund_ref.into(), 0, at);
                self.payments.insert((order.get(), lsn), told);
            }
            Fact::HoldExtended { order, pay_by_ms, .. } => {
                let row = self.orders.get_mut(&order.get()).ok_or("I7 an order that was never placed")?;
                ensure!(pay_by_ms.0 > row.pay_by && at < row.pay_by, "I8 a hold that is over is extended");
                (row.pay_by, row.state_lsn) = (pay_by_ms.0, lsn);
            }
            Fact::DrawHeld { item, .. } => {
                let row = self.touch(item.get(), at)?;
                ensure!(!row.drawn && row.draws_at.is_some_and(|due| at >= due), "I7 a draw out of turn");
                row.drawn = true;
            }
            Fact::EntryDrawn { order, quantity, to, pay_by_ms, .. } => {
                self.moved(lsn, at, order.get(), (OrderState::Entered, to), quantity.get().into())?;
                self.orders.get_mut(&order.get()).expect("just moved").pay_by = pay_by_ms.0;
            }
            Fact::BuyerBlocked { subject, blocked, .. } => {
                if blocked {
                    self.blocked.insert(subject.into());
                } else {
                    self.blocked.remove(subject);
                }
            }
            Fact::OrderImported { .. } => self.imported(lsn, at, fact)?,
            Fact::ClockMark { .. } => {}
        }
        Ok(())
    }

    fn touch(&mut self, item: u32, at: u64) -> Result<&mut Item, Red> {
        let row = self.items.get_mut(&item).ok_or("I7 an item that was never created")?;
        ensure!(at >= row.last_ms, "I14 the item's clock went back from {} to {at}", row.last_ms);
        row.last_ms = at;
        row.version += 1;
        Ok(row)
    }

    /// Something was told of an order's money.
    fn told(&mut self, id: u64, what: (MoneyKind, Box<[u8]>, u32, u64)) -> Result<(), Red> {
        let order = self.orders.get_mut(&id).ok_or("I7 money of an order that was never placed")?;
        order.money.push(what);
        Ok(())
    }

    fn placed(&mut self, lsn: u64, at: u64, fact: &Fact<'_>) -> Result<(), Red> {
        let Fact::OrderPlaced { order, quantity, state, pay_by_ms, subject, key, price, .. } = *fact else {
            return Ok(());
        };
        let (item, wanted) = (order.item().get(), u64::from(quantity.get()));
        ensure!(self.is_taken_over(item), "I1 sells before the orders of before are taken over");
        let row = self.touch(item, at)?;
        ensure!(order.seq() == row.last_seq + 1, "I6 sequence number after {}", row.last_seq);
        row.last_seq = order.seq();
        ensure!((row.opens..row.closes).contains(&at), "I14 outside [{}, {})", row.opens, row.closes);
        let may_sell = !row.paused && !row.closed && !row.ended;
        ensure!(may_sell, "I14 the item is paused, closed or ended");
        let cap = row.cap;
        let mine = || self.of_item(item).filter(|(_, order)| &*order.buyer == subject);
        let doubled = mine().find(|(_, order)| !key.is_empty() && &*order.key == key);
        ensure!(doubled.is_none(), "I5 the key has an order already: {doubled:?}");
        let live = mine().filter(|(_, o)| is_live(o.state));
        let live: u64 = live.map(|(_, order)| order.quantity - order.refunded).sum();
        ensure!(live + wanted <= cap, "I4 {live} and {wanted} units above the cap of {cap}");
        let row = Order {
            buyer: subject.into(),
            key: key.into(),
            quantity: wanted,
            refunded: 0,
            state,
            price,
            money: Vec::new(),
            late: BTreeSet::new(),
            created: at,
            pay_by: pay_by_ms.0,
            ended: 0,
            lsn,
            state_lsn: lsn,
            imported: false,
        };
        ensure!(self.orders.insert(order.get(), row).is_none(), "I6 the order exists");
        ensure!(self.available(item) >= 0, "I1 oversold: {} units available", self.available(item));
        Ok(())
    }

    /// An order of before is taken over as it stood.
    fn imported(&mut self, lsn: u64, at: u64, fact: &Fact<'_>) -> Result<(), Red> {
        let Fact::OrderImported {
            order, quantity, state, created_at_ms, pay_by_ms, subject, key, money, ..
        } = *fact
        else {
            return Ok(());
        };
        let (item, id) = (order.item().get(), order.get());
        let before = self.past.orders.get(&id).ok_or("I7 an order is taken over that was not there")?;
        let theirs = (before.quantity, before.state, before.created, before.pay_by);
        let ours = (u64::from(quantity.get()), state, created_at_ms.0, pay_by_ms.0);
        ensure!(ours == theirs, "I6 an order of before is taken over as {ours:?}, it was {theirs:?}");
        let same = before.buyer.as_bytes() == subject && before.key.as_bytes() == key;
        ensure!(same, "I7 an order of before is taken over as another buyer's, or with another key");
        let row = self.touch(item, at)?;
        ensure!(order.seq() > row.last_seq, "I6 sequence number after {}", row.last_seq);
        row.last_seq = order.seq();
        let row = Order {
            buyer: subject.into(),
            key: key.into(),
            quantity: ours.0,
            refunded: money.refunded.into(),
            state,
            price: money.price,
            money: Vec::new(),
            late: BTreeSet::new(),
            created: ours.2,
            pay_by: ours.3,
            ended: 0,
            lsn,
            state_lsn: lsn,
            imported: true,
        };
        ensure!(self.orders.insert(id, row).is_none(), "I6 the order exists");
        ensure!(self.available(item) >= 0, "I1 oversold: {} units available", self.available(item));
        Ok(())
    }

    /// Whether all orders of before are there.
    fn is_taken_over(&self, item: u32) -> bool {
        self.past
            .orders
            .keys()
            .filter(|id| (**id >> 32) as u32 == item)
            .all(|id| self.orders.contains_key(id))
    }

    fn moved(
        &mut self,
        lsn: u64,
        at: u64,
        id: u64,
        (from, to): (OrderState, OrderState),
        units: u64,
    ) -> Result<(), Red> {
        let item = (id >> 32) as u32;
        self.touch(item, at)?;
        let order = self.orders.get_mut(&id).ok_or("I7 an order that was never placed")?;
        ensure!(order.state == from, "I8 the order is {:?}", order.state);
        ensure!(leads_to(from, to) && from != to, "I8 no way leads there");
        ensure!(order.quantity == units, "I8 the order has {} units", order.quantity);
        let expires = to == OrderState::Expired;
        ensure!(!expires || (order.pay_by != 0 && at >= order.pay_by), "I8 expires before its time");
        (order.state, order.state_lsn) = (to, lsn);
        if matches!(to, OrderState::Cancelled | OrderState::Expired) {
            order.ended = at;
            order.money.push((MoneyKind::Ended, [].into(), 0, at));
        }
        ensure!(self.available(item) >= 0, "I1 oversold: {} units available", self.available(item));
        Ok(())
    }

    /// Memory = log: the shards hold what the books say, no more and no less (I8).
    pub(crate) fn compare<'s>(&self, shards: impl Iterator<Item = &'s Shard>) -> Result<(), Red> {
        let (mut items, mut orders) = (0, 0);
        let mut late = Vec::new();
        for shard in shards {
            late.extend(shard.late_payments_after(None, 0, usize::MAX).iter().map(|o| o.order.order.get()));
            for view in shard.items_after(0, usize::MAX) {
                let id = view.item.get();
                let row = self.items.get(&id).ok_or_else(|| format!("I7 phantom item {id}"))?;
                items += 1;
                let conserved = view.granted == view.available + view.held + view.sold;
                ensure!(conserved, "I8 item {id}: {view:?}");
                let ours = (row.granted, row.granted - self.taken(id), row.version, row.last_seq);
                let theirs = (view.granted as i64, view.available as i64, view.version, view.accepted);
                ensure!(ours == theirs, "I8 item {id}: the log says {ours:?}, memory {theirs:?}");
                let flags = u8::from(row.paused) | u8::from(row.closed) << 1 | u8::from(row.ended) << 2;
                let (is, windows) = (view.flags & 7, (view.spec.opens_at_ms.0, view.spec.closes_at_ms.0));
                ensure!(is == flags, "I8 item {id}: flags {is}, the log says {flags}");
                ensure!(windows == (row.opens, row.closes), "I14 item {id}: window {windows:?}");
            }
            for owned in shard.orders_after(None, 0, usize::MAX) {
                let (view, id) = (owned.order, owned.order.order.get());
                let row = self.orders.get(&id).ok_or_else(|| format!("I7 phantom order {id}"))?;
                orders += 1;
                let ours = (row.quantity, row.state, row.created, row.pay_by, row.lsn, row.state_lsn);
                let pay_by = view.pay_by_ms.0;
                let theirs = (
                    u64::from(view.quantity.get()),
                    view.state,
                    view.created_at_ms.0,
                    pay_by,
                    view.lsn.0,
                    view.state_lsn.0,
                );
                ensure!(ours == theirs, "I8 order {id}: the log says {ours:?}, memory {theirs:?}");
                ensure!(owned.subject == &*row.buyer, "I8 order {id} is another buyer's");
                let told = (owned.key, view.price, u64::from(view.refunded));
                let ours = (&*row.key, row.price, row.refunded);
                ensure!(told == ours, "I20 order {id}: told {ours:?}, known {told:?}");
                let money = shard.money(view.order);
                let money = money.iter().filter(|row| row.kind != MoneyKind::Extension);
                let known: Vec<_> =
                    money.map(|row| (row.kind, row.reference.into(), row.units, row.at_ms.0)).collect();
                ensure!(known == row.money, "I20 order {id}: told {:?}, known {known:?}", row.money);
            }
        }
        late.sort_unstable();
        let open = self.orders.iter().filter(|(_, order)| !order.late.is_empty());
        let open: Vec<u64> = open.map(|(id, _)| *id).collect();
        ensure!(late == open, "I20 late payments are open of {open:?}, listed are {late:?}");
        ensure!(items == self.items.len(), "I8 {items} items in memory, {} in the log", self.items.len());
        ensure!(
            orders == self.orders.len(),
            "I2 {orders} orders in memory, {} in the log",
            self.orders.len()
        );
        Ok(())
    }
}
