//! The checker: compares what clients were told with what the server and Postgres say.
//!
//! A pure function over collected evidence; it reads nothing itself and trusts neither side.
//! The promises have the numbers of docs/ARCHITECTURE.md (I1, I2, …). It earns trust
//! by its tests, which plant each fault and see it named. Next: [`crate::verify`],
//! which collects the evidence.

mod evidence;
mod refused;
mod verdict;
mod violation;

use std::collections::HashMap;

use crate::history::{Entry, History};
use crate::meaning::{Class, Code};
use crate::workload::ItemPicker;

pub use evidence::{Evidence, OrderRow, PostgresRows, Public, Recalled, State, Totals};
pub use refused::nothing_let_in;
pub use verdict::{Ruling, VIOLATIONS_MAX, Verdict};
pub use violation::{Broken, Violation};

/// Weighs the evidence: what the merchant says where that is known, else what buyers can see.
pub fn check(evidence: &Evidence<'_>) -> Verdict {
    let mut verdict = Verdict { has_orders: evidence.orders.is_some(), ..Verdict::default() };
    match (evidence.totals, evidence.orders) {
        (Some(totals), Some(orders)) => {
            check_merchant(evidence, &MerchantData { totals, orders }, &mut verdict);
        }
        _ => {
            verdict.not_asked.push("the merchant's orders (give --admin)".to_owned());
            if let Some(history) = evidence.history {
                check_clients(history, &evidence.public, &mut verdict);
            }
        }
    }
    verdict
}

/// What the merchant says.
struct MerchantData<'a> {
    totals: Totals,
    orders: &'a [OrderRow],
}

fn check_merchant(evidence: &Evidence<'_>, merchant: &MerchantData<'_>, verdict: &mut Verdict) {
    verdict.orders = merchant.orders.len() as u64;
    check_list(merchant.orders, verdict);
    check_stock(merchant, verdict);
    check_cap(merchant, verdict);
    if let Some(history) = evidence.history {
        check_acks(history, merchant.orders, verdict);
        check_keys(history, verdict);
        check_phantoms(history, merchant.orders, verdict);
        check_undersell(history, merchant, verdict);
        check_window(history, merchant, verdict);
    }
    if let Some(postgres) = evidence.postgres {
        check_postgres(merchant, postgres, verdict);
    }
}

/// What acks alone can show: no more units than there are, no buyer above the cap, and each
/// order still there when its buyer requests it.
fn check_clients(history: &History, public: &Public<'_>, verdict: &mut Verdict) {
    let mut acked: Vec<&Entry> = winners(history).collect();
    verdict.acks += acked.len() as u64;
    verdict.recalled += public.recalled.len() as u64;
    check_keys(history, verdict);
    acked.sort_by_key(|entry| (entry.order_id, entry.done_10us));
    acked.dedup_by_key(|entry| entry.order_id);
    // An entry takes no units, and may lose its place under the cap.
    acked.retain(|entry| entry.code != Code::Entered);
    acked.sort_by_key(|entry| entry.done_10us);
    if !public.units_return {
        check_acked_units(&acked, public.stock, verdict);
        check_acked_cap(history, &acked, public.cap, verdict);
    }
    for recalled in public.recalled {
        let Recalled { purchase, order_id, quantity, found } = *recalled;
        match found {
            None => verdict.add(Broken::LostAck { order_id, key: history.names.key(purchase) }),
            Some(shown) if shown != quantity => {
                let how = format!("{quantity} units acked, {shown} shown to its buyer");
                verdict.add(Broken::AckDiffers { order_id, how });
            }
            Some(_) => {}
        }
    }
}

/// I1, as far as acks show it: `acked` has each order once, in the order of the responses.
fn check_acked_units(acked: &[&Entry], stock: Option<u64>, verdict: &mut Verdict) {
    let Some(stock) = stock.and_then(|stock| i64::try_from(stock).ok()) else { return };
    let out: i64 = acked.iter().map(|entry| i64::from(entry.quantity)).sum();
    let mut sum = 0;
    let passes = |entry: &&&Entry| {
        sum += i64::from(entry.quantity);
        sum > stock
    };
    if let Some(entry) = acked.iter().find(passes) {
        verdict.add(Broken::Oversold { order_id: entry.order_id, out, granted: stock });
    }
}

/// I4, as far as acks show it.
fn check_acked_cap(history: &History, acked: &[&Entry], cap: u32, verdict: &mut Verdict) {
    if cap == 0 {
        return;
    }
    let mut units_of: HashMap<u32, u64> = HashMap::new();
    for entry in acked {
        let units = units_of.entry(history.names.buyer_number(entry.purchase)).or_default();
        *units += u64::from(entry.quantity);
        if *units > u64::from(cap) {
            let (order_id, buyer) = (entry.order_id, history.names.buyer(entry.purchase));
            verdict.add(Broken::AboveCap { order_id, buyer, units: *units, cap });
        }
    }
}

/// Order numbers only grow; a key that is shown has one order.
fn check_list(orders: &[OrderRow], verdict: &mut Verdict) {
    for pair in orders.windows(2) {
        if pair[0].order_id >= pair[1].order_id {
            verdict.add(Broken::DuplicateOrder { order_id: pair[1].order_id });
        }
    }
    let mut keys = HashMap::new();
    for row in orders {
        let Some(key) = row.key.as_deref().filter(|key| !key.is_empty()) else { continue };
        if keys.insert((row.buyer.as_str(), key), row.order_id).is_some() {
            verdict.add(Broken::KeyWithTwoOrders { order_id: row.order_id, key: key.to_owned() });
        }
    }
}

/// I1 and I8: by the orders, by the totals, and both against each other.
fn check_stock(merchant: &MerchantData<'_>, verdict: &mut Verdict) {
    let totals = merchant.totals;
    let (mut held, mut sold) = (0i64, 0i64);
    for row in merchant.orders {
        let units = i64::from(row.quantity);
        match row.state {
            State::Sold => sold += units,
            State::Held => held += units,
            State::Pending | State::Accepted | State::Gone | State::Lost => continue,
        }
        if held + sold > totals.granted && held + sold - units <= totals.granted {
            let (order_id, granted) = (row.order_id, totals.granted);
            verdict.add(Broken::Oversold { order_id, out: out_units(merchant.orders), granted });
        }
    }
    if totals.sold.saturating_add(totals.held) > totals.granted || totals.available < 0 {
        let out = totals.sold.saturating_add(totals.held);
        verdict.add(Broken::Oversold { order_id: 0, out, granted: totals.granted });
    }
    if i128::from(totals.granted) != [totals.available, totals.held, totals.sold].map(i128::from).iter().sum()
    {
        verdict.add(Broken::NotConserved { totals });
    }
    if (held, sold) != (totals.held, totals.sold) {
        let how = format!(
            "the orders add up to {held} held and {sold} sold, the item says {} and {}",
            totals.held, totals.sold
        );
        verdict.add(Broken::TotalsDiffer { how });
    }
}

fn out_units(orders: &[OrderRow]) -> i64 {
    let out = orders.iter().filter(|row| matches!(row.state, State::Sold | State::Held));
    out.map(|row| i64::from(row.quantity)).sum()
}

/// I4: what a buyer has, pending orders included.
fn check_cap(merchant: &MerchantData<'_>, verdict: &mut Verdict) {
    let cap = merchant.totals.cap;
    if cap == 0 {
        return;
    }
    let mut units_of: HashMap<&str, u64> = HashMap::new();
    let counts = |row: &&OrderRow| !matches!(row.state, State::Gone | State::Lost);
    for row in merchant.orders.iter().filter(counts) {
        let units = units_of.entry(&row.buyer).or_default();
        *units += u64::from(row.quantity);
        if *units > u64::from(cap) {
            let (order_id, buyer) = (row.order_id, row.buyer.clone());
            verdict.add(Broken::AboveCap { order_id, buyer, units: *units, cap });
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
            verdict.add(Broken::LostAck { order_id, key: history.names.key(entry.purchase) });
            continue;
        };
        let buyer = history.names.buyer(entry.purchase);
        if row.buyer != buyer {
            let how = format!("acked to buyer {buyer}, listed for {}", row.buyer);
            verdict.add(Broken::AckDiffers { order_id, how });
        }
        if row.quantity != entry.quantity || entry.quantity != history.quantity {
            let (asked, told) = (history.quantity, entry.quantity);
            let how = format!("{asked} units asked for, {told} acked, {} listed", row.quantity);
            verdict.add(Broken::AckDiffers { order_id, how });
        }
    }
}

fn winners(history: &History) -> impl Iterator<Item = &Entry> {
    history.entries().iter().filter(|entry| entry.code.class() == Class::Winner)
}

/// I5: all responses for one key name one order, and once the ack was in nobody is told that there is
/// none. A rate, a block or a token that ran out is told before the key is looked at, and says nothing
/// of the order; whether a retry still needs window and ticket, servers see differently.
fn check_keys(history: &History, verdict: &mut Verdict) {
    let mut first_of: HashMap<u32, &Entry> = HashMap::new();
    for entry in winners(history) {
        let first = *first_of.entry(entry.purchase).and_modify(|f| *f = earlier(f, entry)).or_insert(entry);
        let key = || history.names.key(entry.purchase);
        if first.order_id != entry.order_id {
            let how = format!("answered with order {} and with order {}", first.order_id, entry.order_id);
            verdict.add(Broken::AnswersDiffer { key: key(), how });
        } else if (first.quantity, first.created_low) != (entry.quantity, entry.created_low) {
            let how = format!("order {} has another quantity or time in the second response", entry.order_id);
            verdict.add(Broken::AnswersDiffer { key: key(), how });
        }
    }
    let mut before_the_sale = 0;
    for entry in history.entries().iter().filter(|entry| entry.code.class() == Class::Refusal) {
        let Some(win) = first_of.get(&entry.purchase) else { continue };
        if entry.invoked_10us <= win.done_10us {
            continue;
        }
        before_the_sale += u64::from(entry.code.is_before_the_sale());
        if entry.code.denies_order() {
            let how = format!("order {} first, then refused as {}", win.order_id, entry.code.name());
            verdict.add(Broken::AnswersDiffer { key: history.names.key(entry.purchase), how });
        }
    }
    if before_the_sale > 0 {
        verdict.open(format!(
            "one key, one response: {before_the_sale} retries of orders were turned away for the window or a ticket"
        ));
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
            verdict.add(Broken::AnswersDiffer { key: history.names.key(entry.purchase), how });
        }
    }
}

/// I5 over all items of a run: keys of two items must not have been given the same order, which
/// a look at each item alone cannot see.
pub fn check_across_items(history: &History, verdict: &mut Verdict) {
    let picker = ItemPicker::new(history.items, history.names.seed);
    let mut key_of: HashMap<u64, u32> = HashMap::new();
    for entry in winners(history) {
        let holder = *key_of.entry(entry.order_id).or_insert(entry.purchase);
        if picker.item(holder) != picker.item(entry.purchase) {
            let (key, other) = (history.names.key(entry.purchase), history.names.key(holder));
            let how = format!("was given order {}, which key {other} of another item has", entry.order_id);
            verdict.add(Broken::AnswersDiffer { key, how });
        }
    }
}

/// I7: an order that no ack explains needs a purchase of that buyer whose end is unknown. One that was
/// refused in the end, but had a request before that was never answered, may have it, too: which of
/// the two was decided first cannot be seen.
fn check_phantoms(history: &History, orders: &[OrderRow], verdict: &mut Verdict) {
    let acked: HashMap<u64, ()> = winners(history).map(|entry| (entry.order_id, ())).collect();
    let mut left_of = Unexplained::of(history);
    let mut maybe = 0;
    for row in orders.iter().filter(|row| row.order_id > history.baseline().order_id) {
        if acked.contains_key(&row.order_id) || left_of.take(&row.buyer, false) {
            continue;
        }
        if left_of.take(&row.buyer, true) {
            maybe += 1;
        } else {
            verdict.add(Broken::Phantom { order_id: row.order_id, buyer: row.buyer.clone() });
        }
    }
    if maybe > 0 {
        verdict.open(format!(
            "no phantom: {maybe} orders are of keys that were refused after a request without a response"
        ));
    }
}

/// Purchases that may have an order which nobody was told about, by buyer.
struct Unexplained {
    unknown: HashMap<String, u32>,
    refused: HashMap<String, u32>,
}

impl Unexplained {
    fn of(history: &History) -> Self {
        let mut seen: HashMap<u32, ()> = winners(history).map(|entry| (entry.purchase, ())).collect();
        let mut of_kind = |wanted: fn(&Entry) -> bool| {
            let mut count_of: HashMap<String, u32> = HashMap::new();
            for entry in history.entries().iter().filter(|entry| wanted(entry)) {
                if seen.insert(entry.purchase, ()).is_none() {
                    *count_of.entry(history.names.buyer(entry.purchase)).or_default() += 1;
                }
            }
            count_of
        };
        let unknown = of_kind(|entry| match entry.code.class() {
            Class::Unknown => true,
            Class::Refusal => entry.doubted && !entry.code.denies_order(),
            Class::Winner | Class::Unsent => false,
        });
        let refused = of_kind(|entry| entry.doubted && entry.code.denies_order());
        Self { unknown, refused }
    }
    /// Whether this buyer has one left; it is used up.
    fn take(&mut self, buyer: &str, refused: bool) -> bool {
        let count_of = if refused { &mut self.refused } else { &mut self.unknown };
        match count_of.get_mut(buyer) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }
}

/// I19: "sold out" is only true if fewer units were left at that moment than were requested. What is
/// left at the end is at most that and what came back since, so that more than this is a lie.
fn check_undersell(history: &History, merchant: &MerchantData<'_>, verdict: &mut Verdict) {
    let (available, asked) = (merchant.totals.available, i64::from(history.quantity));
    if available < asked {
        return;
    }
    let kept = history.entries().iter().map(|entry| (entry.purchase, entry.code));
    let Some((purchase, _)) = kept.chain(history.refused()).find(|(_, code)| *code == Code::SoldOut) else {
        return;
    };
    let came_back = came_back_max(history, merchant);
    if available >= asked.saturating_add(came_back) {
        verdict.add(Broken::Undersold { available, key: history.names.key(purchase) });
    } else {
        verdict.open(format!(
            "no undersell: {available} units are left, and {came_back} may have come back after the last \"sold out\""
        ));
    }
}

/// The most units that can have come back, or been added, since the run began.
fn came_back_max(history: &History, merchant: &MerchantData<'_>) -> i64 {
    let baseline = history.baseline();
    let units = |counts: &dyn Fn(&&OrderRow) -> bool| -> i64 {
        merchant.orders.iter().filter(counts).map(|row| i64::from(row.quantity)).sum()
    };
    let is_old = |row: &OrderRow| row.order_id <= baseline.order_id;
    let of_new = units(&|row| !is_old(row) && row.state == State::Gone);
    // No units yet, but a server may count them as if they had some.
    let pending = units(&|row| row.state == State::Pending);
    let gone_of_old = units(&|row| is_old(row) && row.state == State::Gone);
    let out_of_old = units(&|row| is_old(row) && matches!(row.state, State::Sold | State::Held));
    // Units that were out and are not; where an old order may have taken its units meanwhile, the
    // difference hides others that came back.
    let of_old = match baseline.out {
        Some(out) if !merchant.totals.pays_first => out.saturating_sub(out_of_old).clamp(0, gone_of_old),
        _ => gone_of_old,
    };
    let added = match baseline.granted {
        0 => 0,
        granted => merchant.totals.granted.saturating_sub(granted).max(0),
    };
    of_new + of_old + pending + added
}

/// I7: every order of the run was placed while the item was on sale.
fn check_window(history: &History, merchant: &MerchantData<'_>, verdict: &mut Verdict) {
    let baseline = history.baseline();
    let mut new =
        merchant.orders.iter().filter(|row| row.order_id > baseline.order_id && row.created_at_ms > 0);
    match (baseline.window, merchant.totals.window) {
        (Some(before), Some(window)) if before == window => {
            for row in new.filter(|row| !window.has(row.created_at_ms)) {
                let (order_id, created_at_ms) = (row.order_id, row.created_at_ms);
                verdict.add(Broken::OutsideWindow { order_id, created_at_ms, window });
            }
        }
        (Some(before), Some(now))
            if new.any(|row| !(before.has(row.created_at_ms) || now.has(row.created_at_ms))) =>
        {
            verdict.open("no order outside the window: the window was moved while the sale ran".to_owned());
        }
        (Some(_), Some(_)) => {}
        _ => verdict.not_asked.push("the window (how the item stood before the run is not known)".to_owned()),
    }
}

/// I6: the stock row equals the totals, the rows equal the orders.
fn check_postgres(merchant: &MerchantData<'_>, postgres: &PostgresRows, verdict: &mut Verdict) {
    verdict.postgres_orders = Some(postgres.orders.len() as u64);
    let totals = merchant.totals;
    let (theirs, ours) =
        ((postgres.count, postgres.held, postgres.sale), (totals.available, totals.held, totals.sold));
    if theirs != ours {
        let how = format!("stock says count, held, sale = {theirs:?}, the merchant's page {ours:?}");
        verdict.add(Broken::PostgresDiffers { order_id: 0, how });
    }
    let differs = |order_id, how: &str| Broken::PostgresDiffers { order_id, how: how.to_owned() };
    let mut rows: HashMap<u64, &OrderRow> = HashMap::new();
    for row in &postgres.orders {
        if rows.insert(row.order_id, row).is_some() {
            verdict.add(differs(row.order_id, "is in Postgres twice"));
        }
    }
    for order in merchant.orders {
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
    keys.violations.into_iter().for_each(|violation| verdict.add(violation.broken));
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
