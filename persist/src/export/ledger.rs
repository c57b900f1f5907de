//! The exporter's books of one item: what the facts say, what others changed, and the
//! stock row as the exporter last left it. Pure values; [`super::settle`] uses them.
//!
//! ```text
//! facts (count, held, sale)  +  outside on count  =  what the stock row should show
//! row: what it showed last;  found: what it shows now;  found ≠ row: somebody changed it
//! ```
//!
//! The protocol with the engine is in [`super::event`].

use std::collections::HashMap;

use stampede_core::types::ItemId;

use super::batch::{ItemChange, Piles};

/// Books by item. Only valid after a commit: after a failure they are read again.
pub(super) type Ledgers = HashMap<ItemId, Ledger>;

/// The numbers of a stock row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StockRow {
    /// Grows by one with each write.
    pub version: i64,
    /// Units.
    pub piles: Piles,
}

/// The books of one item, as of the cursor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ledger {
    /// The item's name.
    pub name: String,
    /// What the facts say.
    pub facts: Piles,
    /// Units that others added to the row's count, as far as the engine has not answered.
    pub outside: i64,
    /// The item is paused.
    pub paused: bool,
    /// It was closed for good.
    pub closed: bool,
    /// It has passed its end.
    pub ended: bool,
    /// The stock row as it was last left; `None` = never written.
    pub row: Option<StockRow>,
}

/// What was found in a stock row that is not as the exporter left it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Only the version or the count was changed: adopted.
    Adopted,
    /// The same, but this many units of a withdrawal are sold already: that part is void.
    Void(i64),
    /// Something was changed that others must not change: the engine's numbers are restored, and the
    /// item has to stop.
    Tampered(String),
    /// A row that the engine has never written, with other numbers: it stays as it is, and the item
    /// has to stop.
    Foreign(String),
}

impl Ledger {
    /// Books of an item that has none yet.
    pub(super) const fn new(name: String) -> Self {
        let facts = Piles { count: 0, held: 0, sale: 0 };
        Self { name, facts, outside: 0, paused: false, closed: false, ended: false, row: None }
    }

    /// Adopts the row of an imported item at the end of its import. The import adds `whole` to these
    /// books; any further difference in the row's count was made by others since. The batch itself is
    /// not entered yet.
    pub(super) fn take_over(&mut self, whole: Piles, row: StockRow) -> Found {
        let before = self.facts;
        self.facts = before.plus(whole);
        self.row = Some(StockRow { version: row.version, piles: self.facts });
        let found = self.reconcile(row);
        self.facts = before;
        found
    }

    /// Enters what a batch does to the item.
    pub(super) fn apply(&mut self, change: &ItemChange) {
        self.facts = self.facts.plus(change.delta);
        self.outside -= change.answered.unwrap_or(0);
        self.paused = change.paused.unwrap_or(self.paused);
        self.closed = change.closed.unwrap_or(self.closed);
        self.ended = change.ended.unwrap_or(self.ended);
        self.limit_withdrawal();
    }

    /// What the stock row should show.
    pub const fn wanted(&self) -> Piles {
        Piles { count: self.facts.count + self.outside, ..self.facts }
    }

    /// Compares the row with how the exporter left it, and adopts what others may change.
    pub(super) fn reconcile(&mut self, found: StockRow) -> Found {
        let Some(left) = self.row else {
            return self.reconcile_unknown(found);
        };
        self.row = Some(found);
        self.outside += found.piles.count - left.piles.count;
        let asked_for = self.outside;
        self.limit_withdrawal();
        let void = self.outside - asked_for;
        let (theirs, ours) = (found.piles, left.piles);
        if (theirs.held, theirs.sale) == (ours.held, ours.sale) {
            return if void > 0 { Found::Void(void) } else { Found::Adopted };
        }
        Found::Tampered(format!(
            "held and sale were changed from {} and {} to {} and {} by somebody else; the engine's numbers \
             were restored, the item is paused: compare its orders, then resume it",
            ours.held, ours.sale, theirs.held, theirs.sale
        ))
    }

    /// A row where there should be none yet. It is only adopted if it has the numbers that ours would have.
    fn reconcile_unknown(&mut self, found: StockRow) -> Found {
        if found.piles == self.wanted() {
            self.row = Some(found);
            return Found::Adopted;
        }
        Found::Foreign(format!(
            "a row of somebody else was there before the engine created the item (count {}, held {}, sale {}); it \
             was left as it is, the item is paused: close the item, or delete the row, which is then written from \
             the engine's books",
            found.piles.count, found.piles.held, found.piles.sale
        ))
    }

    /// Limits a withdrawal: units that are sold or held cannot be withdrawn, so a row's count
    /// stops at zero, and the rest of the withdrawal is void.
    fn limit_withdrawal(&mut self) {
        self.outside = self.outside.max(-self.facts.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piles(count: i64, held: i64, sale: i64) -> Piles {
        Piles { count, held, sale }
    }

    fn ledger(count: i64, held: i64, sale: i64) -> Ledger {
        let row = StockRow { version: 7, piles: piles(count, held, sale) };
        Ledger { facts: row.piles, row: Some(row), ..Ledger::new("phone".into()) }
    }

    fn sold(units: i64) -> ItemChange {
        let item = stampede_core::types::ItemId::new(1).expect("1 is an item");
        ItemChange { delta: piles(-units, 0, units), ..ItemChange::new(item) }
    }

    #[test]
    fn a_restock_outside_stays_in_the_row_and_is_asked_about() {
        let mut books = ledger(10, 0, 5);
        books.apply(&sold(3));
        let found = books.reconcile(StockRow { version: 8, piles: piles(110, 0, 5) });
        assert_eq!((found, books.outside, books.wanted()), (Found::Adopted, 100, piles(107, 0, 8)));
        // The engine's answer moves the units from outside to the facts: the row stays.
        let item = stampede_core::types::ItemId::new(1).expect("1 is an item");
        books.apply(&ItemChange { delta: piles(100, 0, 0), answered: Some(100), ..ItemChange::new(item) });
        assert_eq!((books.outside, books.wanted()), (0, piles(107, 0, 8)));
    }

    #[test]
    fn a_withdrawal_of_units_already_sold_is_void() {
        let mut books = ledger(10, 0, 0);
        books.apply(&sold(8));
        assert_eq!(books.reconcile(StockRow { version: 8, piles: piles(0, 0, 0) }), Found::Void(8));
        // Ten were withdrawn, eight of them are sold: two can go.
        assert_eq!((books.outside, books.wanted()), (-2, piles(0, 0, 8)));
        books.apply(&sold(1));
        assert_eq!((books.outside, books.wanted()), (-1, piles(0, 0, 9)));
    }

    #[test]
    fn held_and_sale_are_ours() {
        let mut books = ledger(10, 1, 5);
        let found = books.reconcile(StockRow { version: 7, piles: piles(9, 1, 6) });
        assert!(matches!(found, Found::Tampered(_)), "{found:?}");
        assert_eq!((books.outside, books.wanted()), (-1, piles(9, 1, 5)));
    }

    #[test]
    fn a_row_that_was_there_first_is_ours_only_if_it_says_the_same() {
        let mut books = Ledger { facts: piles(9, 0, 1), ..Ledger::new("phone".into()) };
        for theirs in [piles(10, 0, 0), piles(9, 0, 2), piles(8, 1, 1)] {
            let found = books.reconcile(StockRow { version: 3, piles: theirs });
            assert!(matches!(found, Found::Foreign(_)), "{found:?}");
            assert_eq!(books.row, None, "it is not ours to write");
        }
        let same = StockRow { version: 0, piles: piles(9, 0, 1) };
        assert_eq!((books.reconcile(same), books.row), (Found::Adopted, Some(same)));
    }

    #[test]
    fn books_of_an_import_see_what_changed_since() {
        let row = StockRow { version: 0, piles: piles(104, 2, 3) };
        let mut books = Ledger::new("phone".into());
        assert_eq!(books.take_over(piles(95, 2, 3), row), Found::Adopted);
        let item = stampede_core::types::ItemId::new(1).expect("1 is an item");
        books.apply(&ItemChange { delta: piles(94, 2, 4), ..ItemChange::new(item) });
        assert_eq!((books.facts, books.outside, books.wanted()), (piles(94, 2, 4), 9, piles(103, 2, 4)));
        // The row of an older backup: held and sale are not what the log has taken over.
        let mut books = Ledger::new("phone".into());
        let found = books.take_over(piles(95, 3, 3), row);
        assert!(matches!(found, Found::Tampered(_)), "{found:?}");
    }
}
