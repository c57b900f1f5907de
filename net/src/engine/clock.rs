//! The sale clock: wall time at the start, monotonic time from then on (I14).
//!
//! A wall clock that is set back or forward while the engine runs changes nothing;
//! one that was set back before a restart is held at the last fact of the log until
//! it has caught up. Copied to every core, so that all read the same time.

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
    anchor: Instant,
}

impl SaleClock {
    /// Starts the clock, not before `last`: the latest time that any fact carries.
    pub fn start(last: UnixMillis) -> Self {
        let last = if planted(Bug::ClockTurnsBack) { UnixMillis(0) } else { last };
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { base_ms: (wall.as_millis() as u64).max(last.0), anchor: Instant::now() }
    }

    /// Reads it.
    pub fn now(&self) -> Now {
        let mono_ms = self.anchor.elapsed().as_millis() as u64;
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
