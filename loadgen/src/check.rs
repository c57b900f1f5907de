//! The judge: weighs what clients were told against what the server and Postgres say.
//!
//! A pure function over collected evidence; it asks nobody and trusts neither side.
//! The promises have the numbers of docs/ARCHITECTURE.md (I1, I2, …). It earns trust
//! by its tests, which plant each fault and see it named. Next: [`crate::verify`],
//! which collects the evidence.

use std::collections::HashMap;
use std::fmt;

use crate::answer::{Class, Code};
use crate::history::{Entry, History};

/// Most violations that are kept in words; the rest is counted.
pub const VIOLATIONS_MAX: usize = 100;

/// Where an order stands, as the server or Postgres names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Units sold.
    Sold,
    /// Units set aside.
    Held,
    /// No units yet, but it counts against the cap.
    Pending,
    /// Decided, not durable yet: an item at rest has none.
    Accepted,
    /// Called off, expired or refunded: units given back.
    Gone,
}

impl State {
    /// The state with this name; `None` for one that the contract does not have.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "confirmed" | "paid" => Some(Self::Sold),
            "held" => Some(Self::Held),
            "pending" => Some(Self::Pending),
            "accepted" => Some(Self::Accepted),
            "cancelled" | "expired" | "refunded" => Some(Self::Gone),
            _ => None,
        }
    }
}

/// One order as the merchant's list or the table `stock_order` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderRow {
    /// Its number.
    pub order_id: u64,
    /// Whose it is.
    pub buyer: String,
    /// Its units.
    pub quantity: u32,
    /// Where it stands.
    pub state: State,
    /// Its idempotency key, where that is shown.
    pub key: Option<String>,
}

/// The item's totals as the merchant's page shows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Units granted so far.
    pub granted: i64,
    /// Of these, not taken.
    pub available: i64,
    /// Of these, set aside.
    pub held: i64,
    /// Of these, sold.
    pub sold: i64,
    /// Most units per buyer; 0 = not told.
    pub cap: u32,
}

/// What Postgres holds about the item.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PostgresRows {
    /// `count` of its stock row.
    pub count: i64,
    /// `held` of its stock row.
    pub held: i64,
    /// `sale` of its stock row.
    pub sale: i64,
    /// Its rows of `stock_order`.
    pub orders: Vec<OrderRow>,
}

/// All that is known about one item at rest.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What clients asked for and were told, if that was kept.
    pub history: Option<&'a History>,
    /// The merchant's totals.
    pub totals: Totals,
    /// The merchant's list of orders.
    pub orders: &'a [OrderRow],
    /// What Postgres holds, if it was asked.
    pub postgres: Option<&'a PostgresRows>,
}

/// A broken promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// I1: more units went out than were granted.
    Oversold {
        /// The order with which the limit was passed; 0 = only the totals show it.
        order_id: u64,
        /// Units out.
        out: i64,
        /// Units granted.
        granted: i64,
    },
    /// I2: an acked order is not there.
    LostAck {
        /// The order.
        order_id: u64,
        /// Its key.
        key: String,
    },
    /// I2: an acked order is there, but for another buyer or quantity.
    AckDiffers {
        /// The order.
        order_id: u64,
        /// How.
        how: String,
    },
    /// I4: a buyer has more than the cap.
    AboveCap {
        /// The order with which the cap was passed.
        order_id: u64,
        /// Whose.
        buyer: String,
        /// Units that the buyer has.
        units: u64,
        /// The cap.
        cap: u32,
    },
    /// I5: one key, answers that contradict each other.
    AnswersDiffer {
        /// The key.
        key: String,
        /// How.
        how: String,
    },
    /// I5: one key, two orders.
    KeyWithTwoOrders {
        /// The later order.
        order_id: u64,
        /// The key.
        key: String,
    },
    /// I7: an order for which nobody asked, or that was refused.
    Phantom {
        /// The order.
        order_id: u64,
        /// Whose it claims to be.
        buyer: String,
    },
    /// An order number is listed twice, or belongs to another place in the list.
    DuplicateOrder {
        /// The number.
        order_id: u64,
    },
    /// I8: granted is not available + held + sold.
    NotConserved {
        /// The totals.
        totals: Totals,
    },
    /// I8: the totals are not the sums of the orders.
    TotalsDiffer {
        /// How.
        how: String,
    },
    /// I19: buyers were told "sold out" although enough is left and nothing came back.
    Undersold {
        /// Units left.
        available: i64,
        /// A buyer's purchase that was refused.
        key: String,
    },
    /// I6: Postgres and the merchant's pages differ.
    PostgresDiffers {
        /// The first order that differs; 0 = the stock row.
        order_id: u64,
        /// How.
        how: String,
    },
}

impl Violation {
    /// A short stable name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Oversold { .. } => "oversold",
            Self::LostAck { .. } => "lost_ack",
            Self::AckDiffers { .. } => "ack_differs",
            Self::AboveCap { .. } => "above_cap",
            Self::AnswersDiffer { .. } => "answers_differ",
            Self::KeyWithTwoOrders { .. } => "key_with_two_orders",
            Self::Phantom { .. } => "phantom",
            Self::DuplicateOrder { .. } => "duplicate_order",
            Self::NotConserved { .. } => "not_conserved",
            Self::TotalsDiffer { .. } => "totals_differ",
            Self::Undersold { .. } => "undersold",
            Self::PostgresDiffers { .. } => "postgres_differs",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name())?;
        match self {
            Self::Oversold { order_id: 0, out, granted } => {
                write!(f, "the item's totals have {out} units out of {granted} granted")
            }
            Self::Oversold { order_id, out, granted } => {
                write!(f, "order {order_id} makes it {out} units out of {granted} granted")
            }
            Self::LostAck { order_id, key } => {
                write!(f, "order {order_id} was acked to key {key} and is gone")
            }
            Self::AckDiffers { order_id, how } => write!(f, "order {order_id}: {how}"),
            Self::AboveCap { order_id, buyer, units, cap } => {
                write!(f, "order {order_id} gives buyer {buyer} {units} units, the cap is {cap}")
            }
            Self::AnswersDiffer { key, how } => write!(f, "key {key}: {how}"),
            Self::KeyWithTwoOrders { order_id, key } => {
                write!(f, "order {order_id} is a second one for key {key}")
            }
            Self::Phantom { order_id, buyer } => {
                write!(f, "order {order_id} of buyer {buyer} answers no request that won or is unknown")
            }
            Self::DuplicateOrder { order_id } => {
                write!(f, "order {order_id} is listed twice or out of order")
            }
            Self::NotConserved { totals } => {
                let Totals { granted, available, held, sold, .. } = totals;
                write!(f, "granted {granted} is not available {available} + held {held} + sold {sold}")
            }
            Self::TotalsDiffer { how } => f.write_str(how),
            Self::Undersold { available, key } => {
                write!(
                    f,
                    "key {key} was refused as sold out, yet {available} units are left and none came back"
                )
            }
            Self::PostgresDiffers { order_id: 0, how } => f.write_str(how),
            Self::PostgresDiffers { order_id, how } => write!(f, "order {order_id}: {how}"),
        }
    }
}

/// What the evidence shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// The first [`VIOLATIONS_MAX`] broken promises.
    pub violations: Vec<Violation>,
    /// How many there are in all.
    pub violations_total: u64,
    /// Orders looked at.
    pub orders: u64,
    /// Acks that were held against them.
    pub acks: u64,
    /// Rows of Postgres that were compared.
    pub postgres_orders: Option<u64>,
}

impl Verdict {
    /// Whether no promise is broken.
    pub const fn is_fine(&self) -> bool {
        self.violations_total == 0
    }
    fn add(&mut self, violation: Violation) {
        self.violations_total += 1;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { orders, acks, .. } = self;
        match self.violations.first() {
            None => write!(f, "fine: {orders} orders, {acks} acks held against them")?,
            Some(first) => write!(f, "VIOLATION ({} in all) {first}", self.violations_total)?,
        }
        self.postgres_orders.map_or(Ok(()), |rows| write!(f, "; {rows} rows of Postgres compared"))
    }
}

/// Weighs the evidence.
pub fn check(evidence: &Evidence<'_>) -> Verdict {
    let mut verdict = Verdict { orders: evidence.orders.len() as u64, ..Verdict::default() };
    check_list(evidence.orders, &mut verdict);
    check_stock(evidence, &mut verdict);
    check_cap(evidence, &mut verdict);
    if let Some(history) = evidence.history {
        check_acks(history, evidence.orders, &mut verdict);
        check_keys(history, &mut verdict);
        check_phantoms(history, evidence.orders, &mut verdict);
        check_undersell(history, evidence, &mut verdict);
    }
    if let Some(postgres) = evidence.postgres {
        check_postgres(evidence, postgres, &mut verdict);
    }
    verdict
}

/// Order numbers only grow; a key that is shown has one order.
fn check_list(orders: &[OrderRow], verdict: &mut Verdict) {
    for pair in orders.windows(2) {
        if pair[0].order_id >= pair[1].order_id {
            verdict.add(Violation::DuplicateOrder { order_id: pair[1].order_id });
        }
    }
    let mut keys = HashMap::new();
    for row in orders {
        let Some(key) = row.key.as_deref().filter(|key| !key.is_empty()) else { continue };
        if keys.insert((row.buyer.as_str(), key), row.order_id).is_some() {
            verdict.add(Violation::KeyWithTwoOrders { order_id: row.order_id, key: key.to_owned() });
        }
    }
}

/// I1 and I8: by the orders, by the totals, and both against each other.
fn check_stock(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let totals = evidence.totals;
    let (mut held, mut sold) = (0i64, 0i64);
    for row in evidence.orders {
        let units = i64::from(row.quantity);
        match row.state {
            State::Sold => sold += units,
            State::Held => held += units,
            State::Pending | State::Accepted | State::Gone => continue,
        }
        if held + sold > totals.granted && held + sold - units <= totals.granted {
            let (order_id, granted) = (row.order_id, totals.granted);
            verdict.add(Violation::Oversold { order_id, out: out_units(evidence.orders), granted });
        }
    }
    if totals.sold.saturating_add(totals.held) > totals.granted || totals.available < 0 {
        let out = totals.sold.saturating_add(totals.held);
        verdict.add(Violation::Oversold { order_id: 0, out, granted: totals.granted });
    }
    if i128::from(totals.granted) != [totals.available, totals.held, totals.sold].map(i128::from).iter().sum()
    {
        verdict.add(Violation::NotConserved { totals });
    }
    if (held, sold) != (totals.held, totals.sold) {
        let how = format!(
            "the orders add up to {held} held and {sold} sold, the item says {} and {}",
            totals.held, totals.sold
        );
        verdict.add(Violation::TotalsDiffer { how });
    }
}

fn out_units(orders: &[OrderRow]) -> i64 {
    let out = orders.iter().filter(|row| matches!(row.state, State::Sold | State::Held));
    out.map(|row| i64::from(row.quantity)).sum()
}

/// I4: what a buyer has, pending orders included.
fn check_cap(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let cap = evidence.totals.cap;
    if cap == 0 {
        return;
    }
    let mut units_of: HashMap<&str, u64> = HashMap::new();
    for row in evidence.orders.iter().filter(|row| row.state != State::Gone) {
        let units = units_of.entry(&row.buyer).or_default();
        *units += u64::from(row.quantity);
        if *units > u64::from(cap) {
            let (order_id, buyer) = (row.order_id, row.buyer.clone());
            verdict.add(Violation::AboveCap { order_id, buyer, units: *units, cap });
        }
    }
}

/// I2: every order that a client was told about is there, and is that client's.
fn check_acks(history: &History, orders: &[OrderRow], verdict: &mut Verdict) {
    let by_id: HashMap<u64, &OrderRow> = orders.iter().map(|row| (row.order_id, row)).collect();
    for entry in winners(history) {
        verdict.acks += 1;
        let order_id = entry.order_id;
        let Some(row) = by_id.get(&order_id) else {
            verdict.add(Violation::LostAck { order_id, key: history.names.key(entry.purchase) });
            continue;
        };
        let buyer = history.names.buyer(entry.purchase);
        if row.buyer != buyer {
            let how = format!("acked to buyer {buyer}, listed for {}", row.buyer);
            verdict.add(Violation::AckDiffers { order_id, how });
        }
        if row.quantity != entry.quantity || entry.quantity != history.quantity {
            let (asked, told) = (history.quantity, entry.quantity);
            let how = format!("{asked} units asked for, {told} acked, {} listed", row.quantity);
            verdict.add(Violation::AckDiffers { order_id, how });
        }
    }
}

fn winners(history: &History) -> impl Iterator<Item = &Entry> {
    history.entries().iter().filter(|entry| entry.code.class() == Class::Winner)
}

/// I5: all answers for one key name one order; no refusal is asked for after the ack was in.
fn check_keys(history: &History, verdict: &mut Verdict) {
    let mut first_of: HashMap<u32, &Entry> = HashMap::new();
    for entry in winners(history) {
        let first = *first_of.entry(entry.purchase).and_modify(|f| *f = earlier(f, entry)).or_insert(entry);
        let key = || history.names.key(entry.purchase);
        if first.order_id != entry.order_id {
            let how = format!("answered with order {} and with order {}", first.order_id, entry.order_id);
            verdict.add(Violation::AnswersDiffer { key: key(), how });
        } else if (first.quantity, first.created_low) != (entry.quantity, entry.created_low) {
            let how = format!("order {} has another quantity or time in the second answer", entry.order_id);
            verdict.add(Violation::AnswersDiffer { key: key(), how });
        }
    }
    for entry in history.entries().iter().filter(|entry| entry.code.class() == Class::Refusal) {
        let Some(win) = first_of.get(&entry.purchase) else { continue };
        if entry.invoked_10us > win.done_10us {
            let how = format!("order {} first, then refused as {}", win.order_id, entry.code.name());
            verdict.add(Violation::AnswersDiffer { key: history.names.key(entry.purchase), how });
        }
    }
    check_orders_shared(history, verdict);
}

const fn earlier<'a>(a: &'a Entry, b: &'a Entry) -> &'a Entry {
    if b.done_10us < a.done_10us { b } else { a }
}

/// Two keys must not have been given the same order.
fn check_orders_shared(history: &History, verdict: &mut Verdict) {
    let mut key_of: HashMap<u64, u32> = HashMap::new();
    for entry in winners(history) {
        let holder = *key_of.entry(entry.order_id).or_insert(entry.purchase);
        if holder != entry.purchase {
            let how =
                format!("was given order {}, which key {} has", entry.order_id, history.names.key(holder));
            verdict.add(Violation::AnswersDiffer { key: history.names.key(entry.purchase), how });
        }
    }
}

/// I7: an order that no ack explains needs a purchase of that buyer whose end is unknown.
fn check_phantoms(history: &History, orders: &[OrderRow], verdict: &mut Verdict) {
    let acked: HashMap<u64, ()> = winners(history).map(|entry| (entry.order_id, ())).collect();
    let mut won_keys: HashMap<u32, ()> = winners(history).map(|entry| (entry.purchase, ())).collect();
    let mut unknown_of: HashMap<String, u32> = HashMap::new();
    for entry in history.entries().iter().filter(|entry| entry.code.class() == Class::Unknown) {
        if won_keys.insert(entry.purchase, ()).is_none() {
            *unknown_of.entry(history.names.buyer(entry.purchase)).or_default() += 1;
        }
    }
    for row in orders.iter().filter(|row| row.order_id > history.baseline_order_id) {
        if acked.contains_key(&row.order_id) {
            continue;
        }
        match unknown_of.get_mut(&row.buyer) {
            Some(left) if *left > 0 => *left -= 1,
            _ => verdict.add(Violation::Phantom { order_id: row.order_id, buyer: row.buyer.clone() }),
        }
    }
}

/// I19: "sold out" is only true if at the end less is left than was asked for, unless units
/// came back or were added meanwhile.
fn check_undersell(history: &History, evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let available = evidence.totals.available;
    let came_back = evidence.orders.iter().any(|row| matches!(row.state, State::Gone | State::Pending));
    let granted = evidence.totals.granted;
    let restocked = history.baseline_granted != 0 && history.baseline_granted != granted;
    if came_back || restocked || available < i64::from(history.quantity) {
        return;
    }
    let kept = history.entries().iter().map(|entry| (entry.purchase, entry.code));
    if let Some((purchase, _)) = kept.chain(history.refused()).find(|(_, code)| *code == Code::SoldOut) {
        verdict.add(Violation::Undersold { available, key: history.names.key(purchase) });
    }
}

/// I6: the stock row equals the totals, the rows equal the orders.
fn check_postgres(evidence: &Evidence<'_>, postgres: &PostgresRows, verdict: &mut Verdict) {
    verdict.postgres_orders = Some(postgres.orders.len() as u64);
    let totals = evidence.totals;
    let (theirs, ours) =
        ((postgres.count, postgres.held, postgres.sale), (totals.available, totals.held, totals.sold));
    if theirs != ours {
        let how = format!("stock says count, held, sale = {theirs:?}, the merchant's page {ours:?}");
        verdict.add(Violation::PostgresDiffers { order_id: 0, how });
    }
    let differs = |order_id, how: &str| Violation::PostgresDiffers { order_id, how: how.to_owned() };
    let mut rows: HashMap<u64, &OrderRow> = HashMap::new();
    for row in &postgres.orders {
        if rows.insert(row.order_id, row).is_some() {
            verdict.add(differs(row.order_id, "is in Postgres twice"));
        }
    }
    for order in evidence.orders {
        match rows.remove(&order.order_id) {
            None => verdict.add(differs(order.order_id, "is not in Postgres")),
            Some(row) if !same(row, order) => {
                verdict.add(differs(order.order_id, "differs in buyer, quantity or state"));
            }
            Some(_) => {}
        }
    }
    let mut extra: Vec<u64> = rows.into_keys().collect();
    extra.sort_unstable();
    extra.into_iter().for_each(|order_id| verdict.add(differs(order_id, "is in Postgres and nowhere else")));
    let keyed: Vec<OrderRow> = postgres.orders.iter().filter(|row| row.key.is_some()).cloned().collect();
    let mut keys = Verdict::default();
    check_list(&sorted(keyed), &mut keys);
    keys.violations.into_iter().for_each(|violation| verdict.add(violation));
}

fn sorted(mut rows: Vec<OrderRow>) -> Vec<OrderRow> {
    rows.sort_by_key(|row| row.order_id);
    rows.dedup_by_key(|row| row.order_id);
    rows
}

fn same(row: &OrderRow, order: &OrderRow) -> bool {
    (&row.buyer, row.quantity, row.state) == (&order.buyer, order.quantity, order.state)
}

#[cfg(test)]
mod tests;
