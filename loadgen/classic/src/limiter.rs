//! The two limiters: a counter per second in Redis, and a token bucket in the process.
//!
//! Both let a purchase through or not; neither makes it wait. Next: [`crate::shop`].

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use redis::{Connection, RedisResult, Script};

use crate::error::ClassicError;

/// Before every key in Redis, so that nothing of anybody else's is touched.
pub(crate) const KEY_PREFIX: &str = "stampede:classic:";
/// Counts and compares in one go: Redis runs a script without anybody in between. The key is
/// set to expire by whoever made it, a second after its window at the latest.
const ADMIT: &str = "\
local taken = redis.call('INCR', KEYS[1])
if taken == 1 then redis.call('EXPIRE', KEYS[1], 2) end
if taken > tonumber(ARGV[1]) then return 0 end
return 1";

/// A counting limiter in Redis: so many per second of the wall clock, whichever server asks.
///
/// A fixed window: up to twice as many may pass within one second that straddles two windows.
pub struct RedisLimiter {
    script: Script,
    per_s: u64,
}

impl RedisLimiter {
    /// Lets `per_s` purchases through in each second.
    pub fn new(per_s: u64) -> Self {
        Self { script: Script::new(ADMIT), per_s }
    }

    /// Whether one more is let through in the window with this name, which is a second.
    /// One round trip (EVALSHA; the script itself is sent only once).
    ///
    /// # Errors
    /// What Redis says.
    pub fn admit(&self, redis: &mut Connection, window: &str) -> RedisResult<bool> {
        self.script.key(format!("{KEY_PREFIX}limit:{window}")).arg(self.per_s).invoke(redis)
    }

    /// Whether one more is let through now.
    ///
    /// # Errors
    /// What Redis says.
    pub fn admit_now(&self, redis: &mut Connection, now_ms: u64) -> Result<bool, ClassicError> {
        Ok(self.admit(redis, &(now_ms / 1_000).to_string())?)
    }
}

/// Tokens that flow into a bucket at a steady rate, as Guava's `RateLimiter` has them: at most
/// a second's worth is kept, and the bucket is empty at first. Pure: time comes in.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    per_s: u64,
    /// In billionths of a token, so that the flow of one nanosecond is a whole number.
    level: u64,
    seen_ns: u64,
}

/// One token, in the unit of the level.
const TOKEN: u64 = 1_000_000_000;

impl TokenBucket {
    /// An empty bucket at `now_ns`; `per_s` up to a billion.
    pub const fn new(per_s: u64, now_ns: u64) -> Self {
        let per_s = if per_s > 1_000_000_000 { 1_000_000_000 } else { per_s };
        Self { per_s, level: 0, seen_ns: now_ns }
    }

    /// Takes one token, if there is one. Time that runs backwards adds none.
    pub fn take(&mut self, now_ns: u64) -> bool {
        let flown = now_ns.saturating_sub(self.seen_ns).saturating_mul(self.per_s);
        self.seen_ns = self.seen_ns.max(now_ns);
        self.level = self.level.saturating_add(flown).min(self.per_s.saturating_mul(TOKEN));
        let has = self.level >= TOKEN;
        if has {
            self.level -= TOKEN;
        }
        has
    }
}

/// The bucket that all threads of one app tier share.
pub struct LocalLimiter {
    clock: Instant,
    bucket: Mutex<TokenBucket>,
}

impl LocalLimiter {
    /// Lets `per_s` purchases through per second, evenly.
    pub fn new(per_s: u64) -> Self {
        Self { clock: Instant::now(), bucket: Mutex::new(TokenBucket::new(per_s, 0)) }
    }

    /// Whether one more is let through now.
    pub fn admit_now(&self) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ns = u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX);
        bucket.take(now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_and_a_burst_of_one_second_at_most() {
        let mut bucket = TokenBucket::new(100, 0);
        assert!(!bucket.take(0), "it is empty at first");
        // Ten looks a millisecond for two seconds: one token each ten milliseconds.
        let steady = (1..=20_000u64).filter(|look| bucket.take(look * 100_000)).count();
        assert_eq!(steady, 200);
        // An hour of nobody: a second's worth.
        let hour_ns = 3_600_000_000_000;
        assert_eq!((0..1_000).filter(|_| bucket.take(hour_ns)).count(), 100);
        assert!(!bucket.take(0), "time that runs backwards adds nothing");
        assert!(bucket.take(hour_ns + 10_000_000));
    }
}
