//! A rate limit per key in bounded memory: GCRA, one number per key.
//!
//! The generic cell rate algorithm (ITU-T I.371) keeps for each key the *theoretical arrival
//! time* of its next request: a key whose time is ahead of now by more than the burst is over
//! its rate. Time is an argument. Local to a core: with `cores` of them a key gets at most
//! `cores × (rate × time + burst)`, if it spreads its requests over all.
//!
//! # Memory
//! The table is an array of sets of eight keys and never grows. A key that comes into a full set
//! takes the place of the key with the least debt, *and its debt* (the idea of
//! Metwally, Agrawal, El Abbadi, *Efficient Computation of Frequent and Top-k Elements*, 2005).
//! The debts of a set only grow, so a key that was evicted and comes back finds at least the debt
//! that it left: eviction never frees an offender early. Newcomers pay for that, and only while more
//! keys than [`KEYS_MAX`] are in debt at once.

/// Keys that one limiter can tell apart while all of them are in debt.
pub const KEYS_MAX: usize = 1 << 18;
/// Requests that a key may make at once, at least: a ticket, a challenge, the ticket again, a
/// purchase, a double click and a retry.
const BURST_MIN: u64 = 6;
/// Keys of one set: two cache lines.
const WAYS: usize = 8;
pub(super) const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

#[derive(Clone, Copy)]
struct Set {
    keys: [u64; WAYS],
    /// Theoretical arrival times, in nanoseconds; one in the past is as good as free.
    due_ns: [u64; WAYS],
}

/// One limit, for all its keys.
pub struct Limiter {
    sets: Box<[Set]>,
    /// Between two requests at the full rate.
    interval_ns: u64,
    /// How far ahead of now a key's time may lie.
    tolerance_ns: u64,
}

impl Limiter {
    /// At most `per_s` requests a second for each key; `None` for 0: no limit, no table.
    pub fn new(per_s: u32) -> Option<Self> {
        let per_s = u64::from(per_s);
        let interval_ns = NS_PER_S.checked_div(per_s)?;
        Some(Self::with(KEYS_MAX, interval_ns, burst(per_s as u32)))
    }

    /// At most one request in `interval_ns` for each key, `burst` of them at once, in a table for
    /// `keys` keys.
    pub fn with(keys: usize, interval_ns: u64, burst: u64) -> Self {
        let sets = (keys / WAYS).max(1).next_power_of_two();
        let empty = Set { keys: [0; WAYS], due_ns: [0; WAYS] };
        Self {
            sets: vec![empty; sets].into_boxed_slice(),
            interval_ns: interval_ns.max(1),
            tolerance_ns: interval_ns.max(1) * (burst - 1),
        }
    }

    /// Takes one request of a key at `now_ms` (monotonic). Keys are keyed hashes: nobody can choose
    /// the set that they fall into.
    ///
    /// # Errors
    /// Milliseconds until one would be taken; nothing is charged.
    pub fn take(&mut self, key: u64, now_ms: u64) -> Result<(), u64> {
        let (interval_ns, tolerance_ns) = (self.interval_ns, self.tolerance_ns);
        let (set, way) = self.place(key);
        let due_ns = gcra(set.due_ns[way], now_ms, interval_ns, tolerance_ns)?;
        (set.keys[way], set.due_ns[way]) = (key, due_ns);
        Ok(())
    }

    /// Whether a key is over its rate; charges nothing.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn check(&mut self, key: u64, now_ms: u64) -> Result<(), u64> {
        let (interval_ns, tolerance_ns) = (self.interval_ns, self.tolerance_ns);
        let (set, way) = self.place(key);
        gcra(set.due_ns[way], now_ms, interval_ns, tolerance_ns).map(drop)
    }

    /// The place of a key: its own, or that of the key with the least debt in its set.
    fn place(&mut self, key: u64) -> (&mut Set, usize) {
        let at = (key as usize) & (self.sets.len() - 1);
        let set = &mut self.sets[at];
        let own = set.keys.iter().position(|&known| known == key);
        let least = || (0..WAYS).min_by_key(|&way| set.due_ns[way]).unwrap_or(0);
        let way = own.unwrap_or_else(least);
        (set, way)
    }
}

/// One request at `now_ms` of something whose next one is due at `due_ns`: when the one after it
/// is due.
///
/// # Errors
/// Milliseconds until one would be taken.
pub(super) fn gcra(due_ns: u64, now_ms: u64, interval_ns: u64, tolerance_ns: u64) -> Result<u64, u64> {
    let now_ns = now_ms * NS_PER_MS;
    let due_ns = due_ns.max(now_ns);
    match (due_ns - now_ns).checked_sub(tolerance_ns) {
        None | Some(0) => Ok(due_ns + interval_ns),
        Some(over_ns) => Err(over_ns.div_ceil(NS_PER_MS)),
    }
}

/// Requests that a key may make at once at this rate: one second's, and at least [`BURST_MIN`].
pub const fn burst(per_s: u32) -> u64 {
    if per_s as u64 > BURST_MIN { per_s as u64 } else { BURST_MIN }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const MS: u64 = NS_PER_MS;

    #[test]
    fn a_burst_then_the_rate() {
        let mut limiter = Limiter::with(64, 100 * MS, 3);
        let taken: Vec<_> = (0..5).map(|_| limiter.take(7, 1_000)).collect();
        assert_eq!(taken, [Ok(()), Ok(()), Ok(()), Err(100), Err(100)]);
        assert_eq!(limiter.take(8, 1_000), Ok(()), "another key is another key");
        assert_eq!(limiter.take(7, 1_099), Err(1));
        assert_eq!(limiter.take(7, 1_100), Ok(()));
        assert_eq!(limiter.take(7, 1_100), Err(100));
        // A long rest earns one burst, not more.
        let taken = (0..9).filter(|_| limiter.take(7, 900_000).is_ok()).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn zero_is_no_limit_and_every_rate_can_be_set() {
        assert!(Limiter::new(0).is_none());
        let (interval, tolerance) =
            Limiter::new(u32::MAX).map(|limiter| (limiter.interval_ns, limiter.tolerance_ns)).unwrap();
        assert_eq!((interval, tolerance), (1, u64::from(u32::MAX) - 1));
    }

    #[test]
    fn a_million_keys_take_no_more_memory_than_one() {
        let mut limiter = Limiter::new(10).unwrap();
        let bytes = |limiter: &Limiter| size_of_val(&*limiter.sets);
        let before = bytes(&limiter);
        let admitted =
            (0..1_000_000u64).filter(|n| limiter.take(n.wrapping_mul(0x9E37_79B9_7F4A_7C15), 5).is_ok());
        assert!(admitted.count() > KEYS_MAX, "strangers are let in as long as the table can tell them apart");
        assert_eq!((bytes(&limiter), before), (KEYS_MAX * 16, KEYS_MAX * 16));
    }

    /// What an unbounded table would say of the same admissions.
    #[derive(Default)]
    struct Exact(HashMap<u64, u64>);

    impl Exact {
        fn allows(&mut self, key: u64, now_ns: u64, interval_ns: u64, tolerance_ns: u64) -> bool {
            let due = self.0.entry(key).or_default();
            let fits = due.saturating_sub(now_ns) <= tolerance_ns;
            *due = (*due).max(now_ns) + interval_ns;
            fits
        }
    }

    proptest! {
        /// Sixteen places for two hundred keys: keys are evicted all the time, and still none is admitted that
        /// an unbounded table would refuse.
        #[test]
        fn eviction_never_frees_an_offender_early(
            requests in prop::collection::vec((0..200u64, 0..30u64), 1..2_000)
        ) {
            let (interval_ns, burst) = (50 * MS, 2);
            let mut limiter = Limiter::with(16, interval_ns, burst);
            let mut exact = Exact::default();
            let mut now_ms = 1;
            for (key, later_ms) in requests {
                now_ms += later_ms / 10;
                let checked = limiter.check(key, now_ms);
                let taken = limiter.take(key, now_ms);
                prop_assert_eq!(checked, taken);
                if taken.is_ok() {
                    let fits = exact.allows(key, now_ms * MS, interval_ns, interval_ns * (burst - 1));
                    prop_assert!(fits, "key {} at {} ms", key, now_ms);
                }
            }
        }
    }

    /// The bound in this file's header: a key that uses all cores reaches it and does not exceed it.
    #[test]
    fn a_key_exceeds_its_rate_by_the_number_of_cores_at_most() {
        let (cores, per_s, seconds) = (4u64, 10u32, 30u64);
        let mut limiters: Vec<_> = (0..cores).map(|_| Limiter::new(per_s).unwrap()).collect();
        let asks = (0..seconds * 1_000).flat_map(|ms| (0..cores as usize).map(move |core| (core, ms)));
        let taken = asks.filter(|&(core, ms)| limiters[core].take(1, ms).is_ok()).count() as u64;
        let bound = cores * (u64::from(per_s) * seconds + burst(per_s));
        assert!(taken <= bound && taken >= bound - 2 * cores, "{taken} of at most {bound}");
    }
}
