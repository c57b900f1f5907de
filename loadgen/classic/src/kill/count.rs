//! What was told against what is there.
//!
//! Pure values. Next: [`super`].

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::design::CAP;
use stampede_loadgen::engine::Outcome;
use stampede_loadgen::meaning::Class;

/// What one fault did. An order *stands* if a buyer was told of it or the database has it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Counted {
    /// Orders that buyers were told of.
    pub acked: u64,
    /// Orders in the database at the end.
    pub orders: u64,
    /// Acked orders that are not in the database.
    pub lost: u64,
    /// Orders that stand beyond the stock: units that two buyers have been given.
    pub oversold: u64,
    /// Units that are gone from the stock, and the database has no order of them.
    pub undersold: u64,
    /// Buyers with more standing orders than the cap.
    pub over_cap: u64,
    /// Keys that were told of two different orders.
    pub changed: u64,
    /// Purchases of which nobody knows what came of them, although they were tried again and again.
    pub unknown: u64,
    /// Units left, by the store's own word.
    pub left: i64,
}

/// Compares the responses of a run with the rows of the database: number and buyer of each order.
pub(super) fn count(outcome: &Outcome, rows: &[(u64, String)], stock: u64, left: i64) -> Counted {
    let mut told: Vec<(u32, u64, String)> = Vec::new();
    let mut unknown = 0;
    if let Some(history) = &outcome.history {
        for entry in history.entries() {
            match entry.code.class() {
                Class::Winner => {
                    told.push((entry.purchase, entry.order_id, history.names.buyer(entry.purchase)));
                }
                Class::Unknown => unknown += 1,
                _ => {}
            }
        }
    }
    Counted { unknown, ..compare(&told, rows, stock, left) }
}

/// `told`: the purchase, the order that it was told of, and its buyer.
fn compare(told: &[(u32, u64, String)], rows: &[(u64, String)], stock: u64, left: i64) -> Counted {
    let there: HashSet<u64> = rows.iter().map(|&(order, _)| order).collect();
    let acked: HashSet<u64> = told.iter().map(|&(_, order, _)| order).collect();
    let lost = acked.difference(&there).count() as u64;
    let standing: HashMap<u64, &str> = told
        .iter()
        .map(|(_, order, buyer)| (*order, buyer.as_str()))
        .chain(rows.iter().map(|(order, buyer)| (*order, buyer.as_str())))
        .collect();
    let mut of_buyer: HashMap<&str, u64> = HashMap::new();
    standing.values().for_each(|&buyer| *of_buyer.entry(buyer).or_default() += 1);
    let mut of_key: HashMap<u32, HashSet<u64>> = HashMap::new();
    for &(purchase, order, _) in told {
        of_key.entry(purchase).or_default().insert(order);
    }
    let orders = there.len() as u64;
    let gone = stock.saturating_sub(u64::try_from(left).unwrap_or(0));
    Counted {
        acked: acked.len() as u64,
        orders,
        lost,
        oversold: (standing.len() as u64).saturating_sub(stock),
        undersold: gone.saturating_sub(orders),
        over_cap: of_buyer.values().filter(|&&units| units > u64::from(CAP)).count() as u64,
        changed: of_key.values().filter(|orders| orders.len() > 1).count() as u64,
        unknown: 0,
        left,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(list: &[(u32, u64, &str)]) -> Vec<(u32, u64, String)> {
        list.iter().map(|&(purchase, order, buyer)| (purchase, order, buyer.to_owned())).collect()
    }
    fn rows(list: &[(u64, &str)]) -> Vec<(u64, String)> {
        list.iter().map(|&(order, buyer)| (order, buyer.to_owned())).collect()
    }

    #[test]
    fn nothing_is_wrong_with_what_is_right() {
        // The second buyer's response was lost on the way: the order is there all the same.
        let counted = compare(&told(&[(1, 10, "a"), (1, 10, "a")]), &rows(&[(10, "a"), (11, "b")]), 3, 1);
        assert_eq!(counted, Counted { acked: 1, orders: 2, left: 1, ..Counted::default() });
    }

    #[test]
    fn each_kind_of_wrong_is_counted_by_itself() {
        let lost = compare(&told(&[(1, 10, "a"), (2, 11, "b")]), &rows(&[(10, "a")]), 2, 1);
        assert_eq!((lost.lost, lost.undersold, lost.oversold), (1, 0, 0), "{lost:?}");
        let undersold = compare(&told(&[(1, 10, "a")]), &rows(&[(10, "a")]), 2, 0);
        assert_eq!((undersold.lost, undersold.undersold), (0, 1), "{undersold:?}");
        // Sold again after it was forgotten: to somebody else, and to the same buyer under the same key.
        let sold = told(&[(1, 10, "a"), (2, 11, "b"), (1, 12, "a")]);
        let twice = compare(&sold, &rows(&[(10, "a"), (11, "b"), (12, "a")]), 2, 0);
        assert_eq!((twice.oversold, twice.over_cap, twice.changed), (1, 1, 1), "{twice:?}");
        // The same although the forgotten order never got into the database.
        let twice = compare(&sold, &rows(&[(11, "b"), (12, "a")]), 2, 0);
        assert_eq!((twice.lost, twice.oversold, twice.over_cap), (1, 1, 1), "{twice:?}");
    }
}
