//! The sequence numbers of an item's orders, as runs without a gap.
//!
//! Orders imported from a database keep their numbers, and between two of them may lie a gap
//! of billions. So no code may count from one number to the next: a walk over an item's orders
//! visits only the numbers that exist, and costs what it yields.
//!
//! The engine numbers its own orders one after the other: they are a single run and take no
//! memory each. A gap takes 8 bytes. Next: [`crate::items`].

use alloc::boxed::Box;
use alloc::vec::Vec;

/// The numbers `first ..= last`, all of them taken; none if `first` is above `last`.
#[derive(Clone, Copy)]
struct Run {
    first: u32,
    last: u32,
}

/// The runs before the newest, ascending, with a gap after each.
#[derive(Default)]
struct Older {
    runs: Vec<Run>,
}

/// The numbers of an item's orders, in ascending order.
pub(crate) struct Seqs {
    /// Hardly any item has one.
    older: Option<Box<Older>>,
    newest: Run,
}

impl Seqs {
    pub(crate) const fn new() -> Self {
        Self { older: None, newest: Run { first: 1, last: 0 } }
    }

    /// The highest number; 0 = none yet.
    pub(crate) const fn last(&self) -> u32 {
        self.newest.last
    }

    /// Adds a number.
    ///
    /// # Panics
    /// If it is not above all others.
    pub(crate) fn push(&mut self, seq: u32) {
        let last = self.last();
        assert!(seq > last, "order number {seq} after {last}");
        if last == 0 {
            self.newest = Run { first: seq, last: seq };
        } else if seq == last + 1 {
            self.newest.last = seq;
        } else {
            self.older.get_or_insert_default().runs.push(self.newest);
            self.newest = Run { first: seq, last: seq };
        }
    }

    /// The numbers above `after`, ascending.
    pub(crate) fn after(&self, after: u32) -> impl Iterator<Item = u32> {
        let older = self.older.as_ref().map_or(&[][..], |older| &older.runs);
        let first = older.partition_point(|run| run.last <= after);
        let runs = older[first..].iter().copied().chain([self.newest]);
        runs.filter(move |run| run.last > after)
            .flat_map(move |run| run.first.max(after.saturating_add(1))..=run.last)
    }

    /// The numbers below `before`, descending; 0 = all.
    pub(crate) fn before(&self, before: u32) -> impl Iterator<Item = u32> {
        let last = before.wrapping_sub(1);
        let older = self.older.as_ref().map_or(&[][..], |older| &older.runs);
        let end = older.partition_point(|run| run.first <= last);
        let runs = [self.newest].into_iter().chain(older[..end].iter().rev().copied());
        runs.filter(move |run| run.first <= last).flat_map(move |run| (run.first..=run.last.min(last)).rev())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn walks_yield_every_number_and_no_other() {
        let numbers = [3, 4, 5, 9, 1_700_000_000, 1_700_000_001, u32::MAX - 1, u32::MAX];
        for len in 0..=numbers.len() {
            let mut seqs = Seqs::new();
            numbers[..len].iter().for_each(|&seq| seqs.push(seq));
            assert_eq!(seqs.last(), numbers[..len].last().copied().unwrap_or(0));
            let places = numbers.iter().flat_map(|&seq| [seq - 1, seq, seq.saturating_add(1)]);
            for after in places.chain([0]) {
                let expected: Vec<u32> = numbers[..len].iter().copied().filter(|&seq| seq > after).collect();
                assert_eq!(seqs.after(after).take(99).collect::<Vec<_>>(), expected, "after {after}");
                let below = numbers[..len].iter().rev().copied();
                let expected: Vec<u32> = below.filter(|&seq| after == 0 || seq < after).collect();
                assert_eq!(seqs.before(after).take(99).collect::<Vec<_>>(), expected, "before {after}");
            }
        }
    }

    #[test]
    fn orders_without_gaps_take_no_memory_each() {
        let mut seqs = Seqs::new();
        (1..=10_000).for_each(|seq| seqs.push(seq));
        assert!(seqs.older.is_none());
        (1..=1_000).for_each(|n| seqs.push(10_000 + 2 * n));
        assert_eq!(seqs.older.map(|older| older.runs.len()), Some(1_000));
    }
}
