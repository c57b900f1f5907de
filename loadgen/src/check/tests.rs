//! The checker checked: each fault is planted once and has to be called by its name.

use super::*;
use crate::history::Baseline;
use crate::workload::{Items, Names};

/// A fair sale of `stock` units, one each; `demand` buyers came, one of them twice.
struct Sale {
    history: History,
    totals: Totals,
    orders: Vec<OrderRow>,
    postgres: PostgresRows,
}

const STOCK: u32 = 5;
const DEMAND: u32 = 8;

fn entry(purchase: u32, code: Code, order_id: u64, at: u32) -> Entry {
    let quantity = u32::from(order_id > 0);
    Entry {
        purchase,
        code,
        attempts: 1,
        order_id,
        quantity,
        created_low: order_id as u32,
        invoked_10us: at,
        done_10us: at + 1,
        doubted: false,
    }
}

fn row(names: Names, purchase: u32, order_id: u64) -> OrderRow {
    let (buyer, key) = (names.buyer(purchase), Some(names.key(purchase)));
    OrderRow { order_id, buyer, quantity: 1, state: State::Sold, key, created_at_ms: 0 }
}

fn fair() -> Sale {
    let names = Names { seed: 3, users: None };
    let mut history = History::new(names, Items::one(1), 1);
    for purchase in 0..STOCK {
        history.push(entry(purchase, Code::Won, u64::from(purchase) + 100, purchase * 10));
    }
    history.push(entry(0, Code::Replayed, 100, 900));
    (STOCK..DEMAND).for_each(|purchase| history.push_refused(purchase, Code::SoldOut));
    let orders: Vec<_> = (0..STOCK).map(|purchase| row(names, purchase, u64::from(purchase) + 100)).collect();
    let stock = i64::from(STOCK);
    let postgres = PostgresRows { count: 0, held: 0, sale: stock, orders: orders.clone() };
    let totals = Totals { granted: stock, available: 0, held: 0, sold: stock, cap: 1, ..Totals::default() };
    Sale { history, totals, orders, postgres }
}

/// Plants a fault in a fair sale and tells which violations the checker names, each once.
fn named(plant: impl FnOnce(&mut Sale)) -> String {
    let mut sale = fair();
    plant(&mut sale);
    let evidence = Evidence {
        history: Some(&sale.history),
        totals: Some(sale.totals),
        orders: Some(&sale.orders),
        postgres: Some(&sale.postgres),
        ..Evidence::default()
    };
    let mut names: Vec<_> = check(&evidence).violations.iter().map(Violation::name).collect();
    names.dedup();
    names.join(" ")
}

/// Puts the merchant's list into Postgres as it is, so that only the planted fault is seen.
fn mirror(sale: &mut Sale) {
    let Totals { available, held, sold, .. } = sale.totals;
    sale.postgres = PostgresRows { count: available, held, sale: sold, orders: sale.orders.clone() };
}

#[test]
fn a_fair_sale_is_fine() {
    assert_eq!(named(|_| {}), "");
}

#[test]
fn an_unknown_may_or_may_not_have_an_order() {
    let unknown = |sale: &mut Sale| sale.history.push(entry(50, Code::Reset, 0, 5));
    assert_eq!(named(unknown), "");
    let landed = |sale: &mut Sale| {
        unknown(sale);
        sale.orders.push(row(sale.history.names, 50, 300));
        sale.totals = Totals { granted: 6, sold: 6, ..sale.totals };
        mirror(sale);
    };
    assert_eq!(named(landed), "");
    let twice = |sale: &mut Sale| {
        landed(sale);
        sale.totals = Totals { granted: 7, sold: 7, cap: 9, ..sale.totals };
        sale.orders.push(OrderRow { key: None, ..row(sale.history.names, 50, 301) });
        mirror(sale);
    };
    assert_eq!(named(twice), "phantom");
}

#[test]
fn oversold_by_one() {
    let plant = |sale: &mut Sale| {
        sale.history.push(entry(6, Code::Won, 200, 70));
        sale.orders.push(row(sale.history.names, 6, 200));
        sale.totals = Totals { available: -1, sold: 6, ..sale.totals };
        mirror(sale);
    };
    assert_eq!(named(plant), "oversold");
    // A server that hides it behind a granted figure of its own is caught by its sums.
    let hidden = |sale: &mut Sale| {
        plant(sale);
        sale.totals = Totals { available: 0, sold: 5, ..sale.totals };
        sale.postgres.count = 0;
        sale.postgres.sale = 5;
    };
    assert_eq!(named(hidden), "oversold totals_differ");
}

#[test]
fn lost_ack() {
    let plant = |sale: &mut Sale| {
        sale.orders.remove(2);
        sale.totals = Totals { granted: 4, sold: 4, ..sale.totals };
        mirror(sale);
    };
    assert_eq!(named(plant), "lost_ack");
}

#[test]
fn ack_of_another_buyer_or_quantity() {
    let buyer = |sale: &mut Sale| {
        sale.orders[1].buyer = sale.history.names.buyer(77);
        mirror(sale);
    };
    assert_eq!(named(buyer), "ack_differs");
    let quantity = |sale: &mut Sale| {
        sale.orders[1].quantity = 2;
        sale.totals = Totals { granted: 6, sold: 6, cap: 2, ..sale.totals };
        mirror(sale);
    };
    assert_eq!(named(quantity), "ack_differs");
}

#[test]
fn key_answered_twice_differently() {
    assert_eq!(
        named(|sale| sale.history.push(entry(0, Code::Replayed, 101, 950))),
        "ack_differs answers_differ"
    );
    let time = |sale: &mut Sale| {
        sale.history.push(Entry { created_low: 1, ..entry(0, Code::Replayed, 100, 950) });
    };
    assert_eq!(named(time), "answers_differ");
    assert_eq!(named(|sale| sale.history.push(entry(0, Code::SoldOut, 0, 950))), "answers_differ");
    // A refusal whose request left before the win was known proves nothing.
    assert_eq!(named(|sale| sale.history.push(entry(4, Code::SoldOut, 0, 20))), "");
}

/// With one buyer behind both keys, buyer and quantity fit, and only the number gives it away.
#[test]
fn two_keys_with_one_order() {
    let plant = |sale: &mut Sale| {
        sale.history.names.users = Some(1);
        sale.totals.cap = 9;
        let buyer = sale.history.names.buyer(0);
        sale.orders.iter_mut().for_each(|order| order.buyer.clone_from(&buyer));
        mirror(sale);
    };
    assert_eq!(named(plant), "");
    let shared = |sale: &mut Sale| {
        plant(sale);
        sale.history.push(entry(6, Code::Won, 100, 70));
    };
    assert_eq!(named(shared), "answers_differ");
}

#[test]
fn buyer_above_the_cap() {
    let plant = |sale: &mut Sale| {
        let order = OrderRow { buyer: sale.history.names.buyer(0), ..row(sale.history.names, 6, 200) };
        sale.history.names.users = None;
        sale.orders.push(order);
        sale.totals = Totals { granted: 6, sold: 6, ..sale.totals };
        mirror(sale);
    };
    assert_eq!(named(plant), "above_cap phantom");
    // Orders that gave their units back do not count.
    let gone = |sale: &mut Sale| {
        plant(sale);
        sale.history.push(entry(0, Code::Replayed, 200, 0));
        sale.orders[5].state = State::Gone;
        sale.totals.sold = 5;
        sale.totals.available = 1;
        mirror(sale);
    };
    assert_eq!(named(gone), "answers_differ");
}

#[test]
fn phantom_order() {
    let plant = |sale: &mut Sale| {
        sale.orders.push(row(sale.history.names, 6, 200));
        sale.totals = Totals { granted: 6, sold: 6, ..sale.totals };
        mirror(sale);
    };
    assert_eq!(named(plant), "phantom");
    // Orders from before the run are not its business.
    let before = |sale: &mut Sale| {
        plant(sale);
        sale.history.baselines.insert(1, Baseline { order_id: 200, ..Baseline::default() });
    };
    assert_eq!(named(before), "");
}

#[test]
fn conservation_broken() {
    let plant = |sale: &mut Sale| {
        sale.totals.granted = 6;
    };
    assert_eq!(named(plant), "not_conserved");
}

#[test]
fn key_with_two_orders_and_number_used_twice() {
    let keys = |sale: &mut Sale| {
        sale.totals = Totals { granted: 6, sold: 6, cap: 2, ..sale.totals };
        sale.orders.push(row(sale.history.names, 0, 200));
        mirror(sale);
        sale.postgres.orders.iter_mut().for_each(|row| row.key = None);
    };
    assert_eq!(named(keys), "key_with_two_orders phantom");
    let numbers = |sale: &mut Sale| {
        sale.totals = Totals { granted: 6, sold: 6, cap: 2, ..sale.totals };
        mirror(sale);
        let again = OrderRow { key: None, ..sale.orders[4].clone() };
        sale.orders.push(again);
    };
    assert_eq!(named(numbers), "duplicate_order postgres_differs");
}

/// A draw: everybody entered, the first five by number won, the others lost.
fn drawn(sale: &mut Sale) {
    let names = sale.history.names;
    let mut history = History::new(names, Items::one(1), 1);
    for purchase in 0..DEMAND {
        history.push(entry(purchase, Code::Entered, u64::from(purchase) + 100, purchase * 10));
    }
    sale.history = history;
    let lost = |purchase| OrderRow { state: State::Lost, ..row(names, purchase, u64::from(purchase) + 100) };
    sale.orders.extend((STOCK..DEMAND).map(lost));
    mirror(sale);
}

#[test]
fn entries_are_orders_and_losers_have_nothing() {
    assert_eq!(named(drawn), "");
    let forgotten = |sale: &mut Sale| {
        drawn(sale);
        sale.orders.pop();
        mirror(sale);
    };
    assert_eq!(named(forgotten), "lost_ack");
    let one_too_many = |sale: &mut Sale| {
        drawn(sale);
        sale.orders[6].state = State::Sold;
        mirror(sale);
    };
    assert_eq!(named(one_too_many), "oversold totals_differ");
    // That some have lost does not excuse a "sold out" while units were left.
    let unsold = |sale: &mut Sale| {
        drawn(sale);
        sale.history.push_refused(DEMAND + 1, Code::SoldOut);
        sale.totals = Totals { granted: 6, available: 1, ..sale.totals };
        mirror(sale);
    };
    assert_eq!(named(unsold), "undersold");
}

#[test]
fn a_loser_may_buy_what_is_left() {
    let mut sale = fair();
    drawn(&mut sale);
    let loser = sale.orders.pop().expect("the last one lost");
    sale.orders[4].state = State::Lost;
    sale.orders.push(loser.clone());
    sale.orders.push(OrderRow { order_id: 200, state: State::Sold, key: None, ..loser });
    let evidence = Evidence { totals: Some(sale.totals), orders: Some(&sale.orders), ..Evidence::default() };
    assert!(check(&evidence).is_fine(), "{:?}", check(&evidence).violations);
}

#[test]
fn undersold() {
    let plant = |sale: &mut Sale| {
        sale.totals = Totals { granted: 6, available: 1, ..sale.totals };
        mirror(sale);
    };
    assert_eq!(named(plant), "undersold");
    let restocked = |sale: &mut Sale| {
        plant(sale);
        sale.history.baselines.insert(1, Baseline { granted: 5, ..Baseline::default() });
    };
    assert_eq!(named(restocked), "");
}

#[test]
fn postgres_differs() {
    assert_eq!(named(|sale| sale.postgres.sale = 4), "postgres_differs");
    assert_eq!(named(|sale| drop(sale.postgres.orders.remove(0))), "postgres_differs");
    assert_eq!(named(|sale| sale.postgres.orders[0].state = State::Gone), "postgres_differs");
    let extra = |sale: &mut Sale| sale.postgres.orders.push(row(sale.history.names, 60, 999));
    assert_eq!(named(extra), "postgres_differs");
}

/// What is left of a fair sale when nobody asks the merchant; each order was requested again.
fn seen_by_clients(plant: impl FnOnce(&mut Sale, &mut Vec<Recalled>, &mut Public<'_>)) -> (String, Verdict) {
    let mut sale = fair();
    let mut recalled: Vec<_> = winners(&sale.history)
        .filter(|entry| entry.code == Code::Won)
        .map(|entry| Recalled {
            purchase: entry.purchase,
            order_id: entry.order_id,
            quantity: entry.quantity,
            found: Some(1),
        })
        .collect();
    let mut public = Public { cap: 1, stock: Some(u64::from(STOCK)), ..Public::default() };
    plant(&mut sale, &mut recalled, &mut public);
    let public = Public { recalled: &recalled, ..public };
    let verdict = check(&Evidence { history: Some(&sale.history), public, ..Evidence::default() });
    let names: Vec<_> = verdict.violations.iter().map(Violation::name).collect();
    (names.join(" "), verdict)
}

#[test]
fn clients_alone_see_a_fair_sale_and_say_what_they_did_not_ask() {
    let (names, verdict) = seen_by_clients(|_, _, _| {});
    assert_eq!((names.as_str(), verdict.acks, verdict.recalled, verdict.has_orders), ("", 6, 5, false));
    assert_eq!(
        verdict.to_string(),
        "fine as far as clients can see: 6 acks compared with each other, 5 orders requested again; \
         not checked: the merchant's orders (give --admin)"
    );
}

#[test]
fn clients_alone_see_what_acks_can_show() {
    let named = |plant: fn(&mut Sale, &mut Vec<Recalled>, &mut Public<'_>)| seen_by_clients(plant).0;
    assert_eq!(named(|sale, _, _| sale.history.push(entry(6, Code::Won, 200, 70))), "oversold");
    assert_eq!(named(|_, _, public| public.stock = Some(4)), "oversold");
    assert_eq!(named(|_, _, public| public.stock = None), "");
    assert_eq!(named(|_, recalled, _| recalled[2].found = None), "lost_ack");
    assert_eq!(named(|_, recalled, _| recalled[2].found = Some(2)), "ack_differs");
    assert_eq!(
        named(|sale, _, _| sale.history.push(entry(0, Code::Replayed, 201, 950))),
        "answers_differ oversold above_cap"
    );
    assert_eq!(named(|sale, _, _| sale.history.push(entry(7, Code::Won, 100, 950))), "answers_differ");
    // Two buyers behind five orders with a cap of one: three are too many.
    assert_eq!(named(|sale, _, _| sale.history.names.users = Some(2)), "above_cap above_cap above_cap");
    // Where units come back, sums of acks prove nothing.
    let returned = |sale: &mut Sale, _: &mut Vec<Recalled>, public: &mut Public<'_>| {
        sale.history.names.users = Some(2);
        (public.stock, public.units_return) = (Some(1), true);
    };
    assert_eq!(named(returned), "");
}

#[test]
fn verdicts_about_several_items_add_up_and_name_the_item() {
    let (_, lost) = seen_by_clients(|_, recalled, _| recalled[2].found = None);
    let (_, fine) = seen_by_clients(|_, _, _| {});
    let mut sum = Verdict::default();
    sum.absorb(7, fine);
    sum.absorb(8, lost);
    assert_eq!((sum.acks, sum.recalled, sum.violations_total, sum.not_asked.len()), (12, 10, 1, 1));
    assert!(sum.to_string().starts_with("VIOLATION (1 in all) lost_ack: item 8: order 102"), "{sum}");
}
