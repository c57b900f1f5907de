//! How long to wait before the next attempt: doubled each time, capped, with jitter.
//!
//! The randomness is an argument, so that a test can repeat a run. With jitter, engines that
//! lost the same database do not all come back at once.

use std::time::Duration;

use super::limits::{BACKOFF_MAX, BACKOFF_MIN};

/// Waits after failures in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    random: u64,
}

impl Backoff {
    pub(super) const fn new(seed: u64) -> Self {
        Self { failures: 0, random: seed }
    }

    /// The wait after one more failure: between half of the doubled wait and all of it.
    pub(super) fn next(&mut self) -> Duration {
        let doubled = BACKOFF_MIN * (1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let whole = doubled.min(BACKOFF_MAX);
        let share = self.draw() >> 32;
        whole / 2 + Duration::from_nanos((whole.as_nanos() as u64 / 2).wrapping_mul(share) >> 32)
    }

    /// An attempt has succeeded.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    const fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_capped_and_repeat() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..40).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
        for (n, wait) in waits(7).into_iter().enumerate() {
            let whole = (BACKOFF_MIN * (1 << n.min(16))).min(BACKOFF_MAX);
            assert!(wait >= whole / 2 && wait <= whole, "wait {n} is {wait:?}");
        }
    }
}
