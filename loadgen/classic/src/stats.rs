//! What the app tier counts, and how it tells.
//!
//! One shared struct of counters, read at rest and by `GET /stats`. Next: [`crate::shop`],
//! which counts, and [`crate::cost`], which reads.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// The counters. Written by every thread that serves, read by `GET /stats`; Relaxed,
        /// since each figure stands for itself and is compared only at rest.
        #[derive(Default, Debug)]
        pub struct Counters { $($(#[$doc])* pub $name: AtomicU64),+ }

        /// What the counters stood at.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
        pub struct Figures {
            $($(#[$doc])* pub $name: u64,)+
            /// CPU time of the process so far, in nanoseconds, threads that ended included.
            pub cpu_ns: u64,
        }

        impl Counters {
            /// What they stand at now.
            pub fn figures(&self) -> Figures {
                Figures { $($name: self.$name.load(Ordering::Relaxed),)+ cpu_ns: process_cpu_ns() }
            }
        }

        impl Figures {
            /// What was counted since `before`.
            pub const fn since(&self, before: &Self) -> Self {
                Self {
                    $($name: self.$name.saturating_sub(before.$name),)+
                    cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
                }
            }
        }
    };
}

counters! {
    /// Purchases that were decided.
    requests,
    /// Orders.
    winners,
    /// Refused: no stock left.
    sold_out,
    /// Orders that were told again, to the same key.
    replays,
    /// Refused: the buyer has as many as one may have.
    capped,
    /// Refused: another buyer changed the row between the look and the write.
    conflicts,
    /// Refused by the limiter.
    rate_limited,
    /// Answered with 500: the database or Redis refused.
    failures,
    /// Statements sent to the database, BEGIN, COMMIT and ROLLBACK included.
    statements,
    /// Lookups in the cache that found the item.
    cache_hits,
    /// Lookups in the cache that did not, and went to the database.
    cache_misses,
    /// Lookups in the cache that found stock, of a version that the database no longer had
    /// when the purchase came to write.
    cache_stale,
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn process_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_and_understood() {
        let counters = Counters::default();
        count(&counters.winners);
        let before = counters.figures();
        count(&counters.winners);
        count(&counters.cache_stale);
        let after = counters.figures();
        let told = serde_json::to_string(&after).unwrap();
        assert_eq!(serde_json::from_str::<Figures>(&told).unwrap(), after);
        let since = after.since(&before);
        assert_eq!((since.winners, since.cache_stale, since.requests), (1, 1, 0));
    }
}
