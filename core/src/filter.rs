//! Which buyers may hold an order of an item: a lock-free set with false positives.
//!
//! The early "sold out" of a home core must never answer a winner's retry. So the
//! owner enters a buyer here *before* the stock can show zero. A core that reads
//! zero and does not find the buyer may refuse by itself; on a hit it asks the owner
//! for the exact answer. Buyers are never removed.
//!
//! When a filter is full, a larger one is put beside it, and lookups go through all of them
//! (P. S. Almeida and others, *Scalable Bloom Filters*, 2007): no buyer is entered again, so
//! growing costs no walk over the orders. A large filter consists of parts of 16 KiB, each made
//! ahead of its use or when the first buyer falls into it. So no step takes longer because
//! the stock is large.
//!
//! A blocked Bloom filter (Putze, Sanders, Singler, *Cache-, Hash- and
//! Space-Efficient Bloom Filters*, 2007): all bits of a buyer lie in one cache
//! line. Next: [`crate::gauge`].

use alloc::boxed::Box;

use crate::published::Published;
use crate::sync::{AtomicU64, Ordering};
use crate::types::BuyerHash;

/// Bits per expected buyer; with four bits set per buyer about 0.3 % false positives.
const BITS_PER_BUYER: u64 = 16;
const WORDS_PER_LINE: usize = 8;
const LINE_BITS: u64 = WORDS_PER_LINE as u64 * 64;
const LINES_MAX: u64 = 1 << 18;
const PROBES: u32 = 4;
/// Lines of a part. To loom each of their words is an object: one is enough there.
const PART_LINES: usize = if cfg!(loom) { 1 } else { 256 };
/// Fewest buyers that a filter is made for: one line.
const BUYERS_MIN: u64 = LINE_BITS / BITS_PER_BUYER;
/// Most.
const BUYERS_MAX: u64 = LINES_MAX * BUYERS_MIN;
/// A filter takes this many times the buyers it was made for; then 3 % are false positives.
const OVERLOAD: u64 = 2;
/// How much larger the next one is.
const GROWTH: u64 = 4;

#[repr(align(64))]
struct Line([AtomicU64; WORDS_PER_LINE]);

impl Line {
    fn empty() -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(0)))
    }
}

struct Part([Line; PART_LINES]);

enum Lines {
    /// All of them, made at once.
    Few(Box<[Line]>),
    /// Parts, each made when it is needed or earlier.
    Many(Box<[Published<Part>]>),
}

/// A set of buyers. Written by the owner core, read by all.
pub struct Filter {
    lines: Lines,
    count: u64,
    sized_for: u64,
}

impl Filter {
    /// An empty filter for about `buyers` of them; 64 bytes to 16 MiB.
    pub fn for_buyers(buyers: u64) -> Self {
        let sized_for = buyers.clamp(BUYERS_MIN, BUYERS_MAX);
        let count = (sized_for * BITS_PER_BUYER).div_ceil(LINE_BITS);
        let parts = count.div_ceil(PART_LINES as u64);
        let lines = match parts {
            1 => Lines::Few((0..count).map(|_| Line::empty()).collect()),
            _ => Lines::Many((0..parts).map(|_| Published::none()).collect()),
        };
        Self { lines, count, sized_for }
    }

    /// How many buyers may be entered before a larger one is put beside it.
    pub fn room(&self) -> u64 {
        OVERLOAD * self.sized_for
    }

    /// How many buyers the next one is made for.
    pub fn next_size(&self) -> u64 {
        GROWTH * self.sized_for
    }

    /// Whether it is made part by part.
    pub fn has_parts(&self) -> bool {
        matches!(self.lines, Lines::Many(_))
    }

    /// Owner only: makes missing parts, looking at `parts` of them from the `from`-th on. Returns
    /// where to go on; `None` when all are there.
    pub fn prepare(&self, from: usize, parts: usize) -> Option<usize> {
        let Lines::Many(all) = &self.lines else { return None };
        let end = from.saturating_add(parts).min(all.len());
        for part in &all[from.min(end)..end] {
            made(part);
        }
        (end < all.len()).then_some(end)
    }

    /// Enters a buyer.
    ///
    /// Relaxed is enough: what publishes the bits is the Release of the stock cell or of
    /// the gauge's rules, which the owner writes afterwards.
    pub fn insert(&self, buyer: BuyerHash) {
        let at = self.line_of(buyer);
        let line = match &self.lines {
            Lines::Few(lines) => &lines[at],
            Lines::Many(parts) => &made(&parts[at / PART_LINES]).0[at % PART_LINES],
        };
        for (word, bit) in probes(buyer) {
            line.0[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether the buyer may have been entered; `false` is certain.
    pub fn may_contain(&self, buyer: BuyerHash) -> bool {
        let at = self.line_of(buyer);
        let line = match &self.lines {
            Lines::Few(lines) => &lines[at],
            Lines::Many(parts) => match parts[at / PART_LINES].get() {
                Some(part) => &part.0[at % PART_LINES],
                None => return false,
            },
        };
        probes(buyer).all(|(word, bit)| line.0[word].load(Ordering::Relaxed) & bit != 0)
    }

    fn line_of(&self, buyer: BuyerHash) -> usize {
        ((u128::from(buyer.0[0]) * u128::from(self.count)) >> 64) as usize
    }
}

/// The part, made now if it is missing.
fn made(part: &Published<Part>) -> &Part {
    if part.get().is_none() {
        part.publish(Part(core::array::from_fn(|_| Line::empty())));
    }
    part.get().expect("published above")
}

fn probes(buyer: BuyerHash) -> impl Iterator<Item = (usize, u64)> {
    (0..PROBES).map(move |i| {
        let bit = (buyer.0[1] >> (9 * i)) % LINE_BITS;
        ((bit / 64) as usize, 1 << (bit % 64))
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::types::HashSecret;

    fn buyer(n: u32) -> BuyerHash {
        HashSecret([7; 16]).buyer(&n.to_le_bytes())
    }

    #[test]
    fn finds_every_buyer_and_few_others() {
        let filter = Filter::for_buyers(10_000);
        (0..10_000).for_each(|n| filter.insert(buyer(n)));
        assert!((0..10_000).all(|n| filter.may_contain(buyer(n))));
        let wrong = (10_000..110_000).filter(|&n| filter.may_contain(buyer(n))).count();
        assert!(wrong < 1_500, "{wrong} false positives in 100,000");
    }

    #[test]
    fn sizes_are_bounded_and_parts_made_late() {
        assert_eq!(Filter::for_buyers(0).count, 1);
        let largest = Filter::for_buyers(u64::MAX);
        assert_eq!(largest.count, LINES_MAX);
        let Lines::Many(parts) = &largest.lines else { panic!("made in one piece") };
        assert!(parts.iter().all(|part| part.get().is_none()), "nothing is made before it is needed");
    }

    #[test]
    fn parts_that_were_made_ahead_hold_the_same() {
        let filter = Filter::for_buyers(100_000);
        filter.insert(buyer(1));
        let (mut next, mut steps) = (Some(0), 0);
        while let Some(from) = next {
            next = filter.prepare(from, 3);
            steps += 1;
        }
        assert!(steps > 3, "{steps} steps");
        filter.insert(buyer(2));
        assert!(filter.may_contain(buyer(1)) && filter.may_contain(buyer(2)));
        assert!(!filter.may_contain(buyer(3)));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::stock::StockCell;
    use crate::sync::race;
    use loom::sync::Arc;

    /// A core that sees the stock at zero sees every winner in the filter.
    #[test]
    fn a_winner_is_entered_before_sold_out_shows() {
        loom::model(|| {
            let shared = Arc::new((StockCell::new(1), Filter::for_buyers(1)));
            // All its probes fall on one bit, which keeps the model small.
            let winner = BuyerHash([0, 0]);
            let owner = shared.clone();
            let sell = move || {
                owner.1.insert(winner);
                assert!(owner.0.try_take(1));
            };
            race(sell, move || {
                if shared.0.available() == 0 {
                    assert!(shared.1.may_contain(winner));
                }
            });
        });
    }
}
