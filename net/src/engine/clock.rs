//! The sale clock: wall time at the start, monotonic time from then on (I14).
//!
//! A wall clock that is set back or forward while the engine runs changes nothing;
//! one that was set back before a restart is held at the last fact of the log until
//! it has caught up. Copied to every core, so that all read the same time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use stampede_core::planted::{Bug, planted};
use stampede_core::types::UnixMillis;

/// Time read once and used for a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// On the sale clock.
    pub sale: UnixMillis,
    /// Monotonic milliseconds since the engine started; for deadlines.
    pub mono_ms: u64,
}

/// The clock.
#[derive(Clone, Copy, Debug)]
pub struct SaleClock {
    base_ms: u64,
    monotonic: Monotonic,
}

/// What tells how much time has passed since the start.
#[derive(Clone, Copy, Debug)]
enum Monotonic {
    Real(Instant),
    /// Milliseconds; Relaxed, since whoever sets them by hand also makes the calls that read them.
    ByHand(&'static AtomicU64),
}

impl SaleClock {
    /// Starts the clock, not before `last`: the latest time that any fact carries.
    pub fn start(last: UnixMillis) -> Self {
        let last = if planted(Bug::ClockTurnsBack) { UnixMillis(0) } else { last };
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::begin(UnixMillis(wall.as_millis() as u64), last, Monotonic::Real(Instant::now()))
    }

    /// As [`SaleClock::start`], with a wall clock that shows `wall` and a monotonic clock that
    /// somebody sets: milliseconds since the start, never less than before. For simulations.
    pub fn start_by_hand(wall: UnixMillis, last: UnixMillis, monotonic_ms: &'static AtomicU64) -> Self {
        Self::begin(wall, last, Monotonic::ByHand(monotonic_ms))
    }

    fn begin(wall: UnixMillis, last: UnixMillis, monotonic: Monotonic) -> Self {
        Self { base_ms: wall.0.max(last.0), monotonic }
    }

    /// Reads it.
    pub fn now(&self) -> Now {
        let mono_ms = match self.monotonic {
            Monotonic::Real(anchor) => anchor.elapsed().as_millis() as u64,
            Monotonic::ByHand(ms) => ms.load(Ordering::Relaxed),
        };
        Now { sale: UnixMillis(self.base_ms + mono_ms), mono_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_in_the_past_does_not_turn_the_sale_back() {
        let far = UnixMillis(7_000_000_000_000);
        let clock = SaleClock::start(far);
        let first = clock.now();
        assert!(first.sale >= far && clock.now().sale >= first.sale);
    }
}
