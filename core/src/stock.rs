//! The stock of an item: a number that cannot go below zero, whoever takes from it.
//!
//! Normally only the owner core takes and gives, and every other core reads. The
//! compare-and-swap makes it safe in any case. Next: [`crate::gauge`].

use crate::sync::{AtomicU64, Ordering};

/// Units available for sale. Written by the owner core, read by all.
pub struct StockCell(AtomicU64);

impl StockCell {
    /// A cell with `units` available.
    pub fn new(units: u64) -> Self {
        Self(AtomicU64::new(units))
    }

    /// Takes `units` if that many are available; otherwise changes nothing.
    ///
    /// Release on success: a core that reads the lower number (Acquire) also sees what the
    /// owner wrote before, above all the buyer in the [`crate::filter`].
    pub fn try_take(&self, units: u64) -> bool {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let Some(left) = seen.checked_sub(units) else { return false };
            match self.0.compare_exchange_weak(seen, left, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Gives `units` back, or grants them.
    pub fn give(&self, units: u64) {
        self.0.fetch_add(units, Ordering::AcqRel);
    }

    /// Units available now. Acquire: see [`Self::try_take`].
    pub fn available(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn takes_all_or_nothing() {
        let cell = StockCell::new(3);
        assert!(cell.try_take(2));
        assert!(!cell.try_take(2));
        assert_eq!(cell.available(), 1);
        cell.give(1);
        assert!(cell.try_take(2));
        assert!(!cell.try_take(1));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::race;
    use loom::sync::Arc;

    /// Two cores and the last unit (I1): exactly one gets it.
    #[test]
    fn the_last_unit_is_sold_once() {
        loom::model(|| {
            let cell = Arc::new(StockCell::new(1));
            let (mine, yours) = (cell.clone(), cell.clone());
            let (mine, yours) = race(move || mine.try_take(1), move || yours.try_take(1));
            assert!(mine ^ yours);
            assert_eq!(cell.available(), 0);
        });
    }

    /// Takers and givers at once: no unit appears or vanishes.
    #[test]
    fn units_are_conserved() {
        loom::model(|| {
            let cell = Arc::new(StockCell::new(1));
            let (mine, yours) = (cell.clone(), cell.clone());
            let give_and_take = move || {
                yours.give(1);
                yours.try_take(2)
            };
            let (mine, yours) = race(move || mine.try_take(1), give_and_take);
            assert_eq!(cell.available(), 2 - u64::from(mine) - 2 * u64::from(yours));
        });
    }
}
