//! Admission: how many purchases of an item are let through per second.
//!
//! Each core admits its share of the item's rate, by GCRA as in [`super::limiter`]. The kernel spreads
//! connections over the cores, so the shares are used about evenly. All cores together admit at most
//! `rate × time + rate / 10 + cores` purchases; clients whose connections are on few cores get only the
//! shares of those.

use std::collections::HashMap;

use stampede_core::gauge::Gauge;
use stampede_core::types::ItemId;

use super::limiter::{NS_PER_S, gcra};

/// One in this many of a second's purchases may come at once.
const BURST_PART: u64 = 10;
/// Items whose rate is kept; with more, those within their rate are dropped.
const ITEMS_KEPT: usize = 1 << 16;

/// One core's share of every item's admission.
pub struct Admission {
    cores: u64,
    due_ns: HashMap<ItemId, u64>,
}

impl Admission {
    /// The share of one of so many cores.
    pub fn new(cores: usize) -> Self {
        Self { cores: cores as u64, due_ns: HashMap::new() }
    }

    /// Takes one purchase of an item at `now_ms` (monotonic). An item without a rate costs nothing.
    ///
    /// # Errors
    /// Milliseconds until one would be taken.
    pub fn take(&mut self, gauge: &Gauge, now_ms: u64) -> Result<(), u64> {
        match u64::from(gauge.admit_per_s()) {
            0 => Ok(()),
            per_s => self.take_at(gauge.item(), per_s, now_ms),
        }
    }

    fn take_at(&mut self, item: ItemId, per_s: u64, now_ms: u64) -> Result<(), u64> {
        let interval_ns = self.cores * NS_PER_S / per_s;
        let burst = (per_s / BURST_PART / self.cores).max(1);
        if self.due_ns.len() >= ITEMS_KEPT {
            self.due_ns.retain(|_, due_ns| *due_ns / 1_000_000 >= now_ms);
        }
        let due_ns = self.due_ns.entry(item).or_default();
        *due_ns = gcra(*due_ns, now_ms, interval_ns, interval_ns * (burst - 1))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(cores: usize, per_s: u64, ms: u64) -> u64 {
        let item = ItemId::new(1).unwrap();
        let mut shares: Vec<_> = (0..cores).map(|_| Admission::new(cores)).collect();
        let asks = (0..ms).flat_map(|ms| (0..cores * 40).map(move |n| (n % cores, ms)));
        asks.filter(|&(core, ms)| shares[core].take_at(item, per_s, ms).is_ok()).count() as u64
    }

    /// The bound in this file's header, for clients that never stop asking on every core.
    #[test]
    fn all_cores_together_keep_the_rate() {
        for (cores, per_s) in [(1, 1), (1, 100), (2, 10), (4, 1_000), (8, 3), (2, 30_000)] {
            let (seconds, taken) = (5, admitted(cores, per_s, 5_000));
            let bound = per_s * seconds + per_s / BURST_PART + cores as u64;
            assert!(taken <= bound, "{taken} of at most {bound}: {cores} cores, {per_s}/s");
            assert!(taken >= per_s * seconds * 9 / 10, "{taken} of {}: {cores} cores", per_s * seconds);
        }
    }

    #[test]
    fn a_refusal_says_when() {
        let (item, mut share) = (ItemId::new(1).unwrap(), Admission::new(2));
        assert_eq!(share.take_at(item, 10, 1_000), Ok(()));
        assert_eq!(share.take_at(item, 10, 1_000), Err(200));
        assert_eq!(share.take_at(item, 10, 1_200), Ok(()));
    }

    #[test]
    fn items_within_their_rate_are_forgotten() {
        let mut share = Admission::new(1);
        for id in 1..=2 * ITEMS_KEPT as u64 {
            share.take_at(ItemId::new(id).unwrap(), 1_000, id).unwrap();
        }
        assert!(share.due_ns.len() <= ITEMS_KEPT);
    }
}
