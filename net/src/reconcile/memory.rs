//! Memory = log: an item's books, a page at a time, each at the LSN at which its owner read it.

use std::collections::BTreeSet;
use std::iter::Peekable;

use stampede_core::types::{ItemId, Lsn, OrderId};
use stampede_persist::log::books::ItemTotals;
use stampede_persist::log::replica::Replica;

use super::engine::{Engine, Page};
use super::fields::Fields;
use super::follow::Follower;
use super::options::Options;
use super::report::{Mismatch, Place, Report};
use super::trouble::Trouble;

/// Sequence numbers in one page.
const PAGE_ORDERS: u32 = 1_000;

/// Compares all items, or the one that is asked for.
pub(super) fn compare(
    log: &mut Follower,
    engine: &Engine,
    options: &Options,
    report: &mut Report,
    progress: &mut dyn FnMut(&str),
) -> Result<(), Trouble> {
    let items = match options.item {
        Some(item) => BTreeSet::from([item]),
        None => {
            let mut items: BTreeSet<ItemId> = log.replica().items().keys().copied().collect();
            items.extend(engine.items()?);
            items
        }
    };
    for (at, item) in items.iter().enumerate() {
        progress(&format!("memory: item {} of {}", at + 1, items.len()));
        let mut comparison = Comparison { log, engine, options, progress };
        if let Some(mismatch) = comparison.item(*item)? {
            report.add(mismatch);
        }
    }
    match options.item {
        Some(item) if !report.has(item) && !log.replica().items().contains_key(&item) => {
            Err(Trouble::Unable(format!("neither the engine nor the log has an item {item}")))
        }
        _ => Ok(()),
    }
}

struct Comparison<'a> {
    log: &'a mut Follower,
    engine: &'a Engine,
    options: &'a Options,
    progress: &'a mut dyn FnMut(&str),
}

impl Comparison<'_> {
    fn item(&mut self, item: ItemId) -> Result<Option<Mismatch>, Trouble> {
        let (mut after, mut piles) = (0, None);
        loop {
            let Some(page) = self.page(item, after, false)? else { return Ok(self.unknown(item)) };
            let (lsn, replica) = (self.log.lsn(), self.log.replica());
            let Some(totals) = replica.items().get(&item) else {
                let what = "the log has no such item".to_owned();
                return Ok(Some(Mismatch::new(item, Place::Memory, lsn, what)));
            };
            piles = piles.or_else(|| differing_piles(item, lsn, &page, totals));
            let (from, to) = page.range;
            let missing = to == page.last_seq && totals.last_seq != page.last_seq;
            if replica.digest(item, from, to) != page.digest || missing {
                return self.locate(item, from).map(Some);
            }
            if to == page.last_seq {
                return Ok(piles);
            }
            after = to;
        }
    }

    /// A page, with the replica at the LSN of that page.
    fn page(&mut self, item: ItemId, after: u32, rows: bool) -> Result<Option<Page>, Trouble> {
        // Whatever the replica has by now was decided before the page is asked for, so the page
        // is the state at the later of the two.
        let Some(page) = self.engine.books(item, after, PAGE_ORDERS, rows)? else { return Ok(None) };
        self.log.go_to(page.as_of, self.options.patience, self.progress)?;
        Ok(Some(page))
    }

    fn unknown(&self, item: ItemId) -> Option<Mismatch> {
        let what = "the engine does not have this item".to_owned();
        let known = self.log.replica().items().contains_key(&item);
        known.then(|| Mismatch::new(item, Place::Memory, self.log.lsn(), what))
    }

    /// Reads a differing page once more, order by order.
    fn locate(&mut self, item: ItemId, after: u32) -> Result<Mismatch, Trouble> {
        let page = self.page(item, after, true)?;
        let (lsn, replica) = (self.log.lsn(), self.log.replica());
        let rows = page.map(|page| page.rows).unwrap_or_default();
        let found = first_difference(replica, item, after, rows);
        Ok(match found {
            Some((order, log, memory)) => Mismatch::at_order(Place::Memory, lsn, order, (log, memory)),
            None => {
                let to = after.saturating_add(PAGE_ORDERS);
                let what = format!(
                    "the digests of the orders {} to {to} differed, and no longer at a second look",
                    after + 1
                );
                Mismatch::new(item, Place::Memory, lsn, what)
            }
        })
    }
}

fn differing_piles(item: ItemId, lsn: Lsn, page: &Page, totals: &ItemTotals) -> Option<Mismatch> {
    let log = [totals.granted, totals.available, totals.held, totals.sold];
    (log != page.piles).then(|| {
        let text = |[granted, available, held, sold]: [u64; 4]| {
            format!("granted {granted}, available {available}, held {held}, sold {sold}")
        };
        let what = format!("memory has {}; the log has {}", text(page.piles), text(log));
        Mismatch::new(item, Place::Memory, lsn, what)
    })
}

/// An order on which two differ: its number, what the log says, what the other says.
type Difference = (OrderId, Option<Fields>, Option<Fields>);

/// The first order, by number, on which the log and a page of rows differ.
pub(super) fn first_difference(
    replica: &Replica,
    item: ItemId,
    after: u32,
    rows: Vec<Fields>,
) -> Option<Difference> {
    let to = after.saturating_add(PAGE_ORDERS);
    let mut log = replica.records(item, after, to).map(|record| Fields::of_record(&record)).peekable();
    let mut memory = rows.into_iter().peekable();
    loop {
        let order = [log.peek(), memory.peek()].into_iter().flatten().map(|fields| fields.order).min()?;
        let (ours, theirs) = (take(&mut log, order), take(&mut memory, order));
        if ours != theirs {
            return OrderId::from_u64(order).map(|order| (order, ours, theirs));
        }
    }
}

/// The next one, if it is this order.
fn take(side: &mut Peekable<impl Iterator<Item = Fields>>, order: u64) -> Option<Fields> {
    side.next_if(|fields| fields.order == order)
}

#[cfg(test)]
pub(super) mod tests {
    use stampede_core::sample::{Item, Order, item_id};
    use stampede_core::types::HashSecret;

    use super::*;

    fn item() -> ItemId {
        item_id(7)
    }

    /// An item with orders 1 to `orders`, each of its own buyer.
    pub(in crate::reconcile) fn replica(orders: u32) -> Replica {
        let mut replica = Replica::new(HashSecret([1; 16]));
        replica.fact(Lsn(1), &Item::new(item(), 10).created()).expect("it fits");
        for seq in 1..=orders {
            let subject = format!("buyer\\{seq}");
            let order = Order::new(OrderId::new(item(), seq));
            let placed = Order { subject: subject.as_bytes(), key: b"key", ..order }.placed();
            replica.fact(Lsn(u64::from(seq) + 1), &placed).expect("it fits");
        }
        replica
    }

    fn rows(replica: &Replica) -> Vec<Fields> {
        replica.records(item(), 0, u32::MAX).map(|record| Fields::of_record(&record)).collect()
    }

    #[test]
    fn the_first_difference_is_the_lowest_order() {
        let replica = replica(4);
        let good = rows(&replica);
        let find = |rows: Vec<Fields>| {
            first_difference(&replica, item(), 0, rows)
                .map(|(order, log, memory)| (order.seq(), log.is_some(), memory.is_some()))
        };
        assert_eq!(find(good.clone()), None);
        let forged = |seq: u64| {
            Fields::of_pairs(u64::from(item().get()) << 32 | seq, vec![("buyer", "eve".to_owned())])
        };
        let with = |at: usize, row: Fields| {
            let mut rows = good.clone();
            rows[at] = row;
            rows
        };
        let mut two = with(1, forged(2));
        two[3] = forged(4);
        assert_eq!(find(two), Some((2, true, true)));
        let mut lost = good.clone();
        lost.remove(0);
        assert_eq!(find(lost), Some((1, true, false)), "an order that memory has lost");
        assert_eq!(find(good[..3].to_vec()), Some((4, true, false)), "the last one");
        let more = [&good[..], &[forged(5)]].concat();
        assert_eq!(find(more), Some((5, false, true)), "an order that the log does not know");
        assert_eq!(first_difference(&replica, item(), 2, good[2..].to_vec()), None, "a later page");
    }

    #[test]
    fn piles_are_compared_one_by_one() {
        let replica = replica(4);
        let totals = replica.items()[&item()];
        let page = Page {
            as_of: Lsn(5),
            piles: [10, 6, 0, 4],
            last_seq: 4,
            range: (0, 4),
            digest: replica.digest(item(), 0, 4),
            rows: Vec::new(),
        };
        assert_eq!(differing_piles(item(), Lsn(5), &page, &totals), None);
        for at in 0..4 {
            let mut piles = page.piles;
            piles[at] += 1;
            let found = differing_piles(item(), Lsn(5), &Page { piles, ..page.clone() }, &totals);
            assert!(found.is_some_and(|found| found.order.is_none()), "pile {at}");
        }
    }
}
