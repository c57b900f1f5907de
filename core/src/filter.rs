//! Which buyers may hold an order of an item: a lock-free set with false positives.
//!
//! The early "sold out" of a home core must never answer a winner's retry. So the
//! owner enters a buyer here *before* the stock can show zero; a core that reads
//! zero and does not find the buyer may refuse on its own, and a hit takes the hop
//! to the exact answer. Buyers are never taken out.
//!
//! A blocked Bloom filter (Putze, Sanders, Singler, *Cache-, Hash- and
//! Space-Efficient Bloom Filters*, 2007): all bits of a buyer lie in one cache
//! line. Next: [`crate::gauge`].

use alloc::boxed::Box;

use crate::sync::{AtomicU64, Ordering};
use crate::types::BuyerHash;

/// Bits per expected buyer; with four bits set per buyer about 0.3 % false positives.
const BITS_PER_BUYER: u64 = 16;
const WORDS_PER_LINE: usize = 8;
const LINE_BITS: u64 = WORDS_PER_LINE as u64 * 64;
const LINES_MAX: u64 = 1 << 18;
const PROBES: u32 = 4;

#[repr(align(64))]
struct Line([AtomicU64; WORDS_PER_LINE]);

/// A set of buyers. Written by the owner core, read by all.
pub struct Filter {
    lines: Box<[Line]>,
    sized_for: u64,
}

impl Filter {
    /// An empty filter for about `buyers` of them; 64 bytes to 16 MiB.
    pub fn for_buyers(buyers: u64) -> Self {
        let lines = (buyers.saturating_mul(BITS_PER_BUYER) / LINE_BITS + 1).min(LINES_MAX);
        let line = |_| Line(core::array::from_fn(|_| AtomicU64::new(0)));
        Self { lines: (0..lines).map(line).collect(), sized_for: buyers }
    }

    /// How many buyers it was made for.
    pub fn sized_for(&self) -> u64 {
        self.sized_for
    }

    /// Enters a buyer.
    ///
    /// Relaxed is enough: what publishes the bits is the Release of the stock cell or of
    /// the gauge's rules, which the owner writes afterwards.
    pub fn insert(&self, buyer: BuyerHash) {
        let line = self.line(buyer);
        for (word, bit) in probes(buyer) {
            line.0[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether the buyer may have been entered; `false` is certain.
    pub fn may_contain(&self, buyer: BuyerHash) -> bool {
        let line = self.line(buyer);
        probes(buyer).all(|(word, bit)| line.0[word].load(Ordering::Relaxed) & bit != 0)
    }

    fn line(&self, buyer: BuyerHash) -> &Line {
        let index = (u128::from(buyer.0[0]) * self.lines.len() as u128) >> 64;
        &self.lines[index as usize]
    }
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
    fn finds_all_it_was_given_and_little_else() {
        let filter = Filter::for_buyers(10_000);
        (0..10_000).for_each(|n| filter.insert(buyer(n)));
        assert!((0..10_000).all(|n| filter.may_contain(buyer(n))));
        let wrong = (10_000..110_000).filter(|&n| filter.may_contain(buyer(n))).count();
        assert!(wrong < 1_500, "{wrong} false positives in 100,000");
    }

    #[test]
    fn is_bounded() {
        assert_eq!(Filter::for_buyers(0).lines.len(), 1);
        assert_eq!(Filter::for_buyers(u64::MAX).lines.len(), LINES_MAX as usize);
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
