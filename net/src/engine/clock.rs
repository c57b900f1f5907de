//! The sale clock: it follows the wall clock and never runs backwards (I14).
//!
//! ```text
//! sale = base + monotonic          base: raised at once when the wall clock is ahead (NTP, a VM that slept),
//!                                  lowered by SLEW_MS per look while the wall clock is behind
//! ```
//!
//! If the wall clock was set back, or was ahead when the log was written, the sale clock is ahead. It then
//! runs a tenth slower until the wall clock has caught up; the difference is a metric, an alarm and a reason
//! in `/readyz`. One thread compares it with the wall clock ten times a second
//! ([`crate::server::watch`]); each core reads through a [`Reader`], which never shows less than before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use stampede_core::types::UnixMillis;

/// Larger differences to the wall clock are reported, in milliseconds.
pub const AHEAD_MS_MAX: u64 = 1_000;
/// How much the clock loses per look while the wall clock is behind, in milliseconds; so also the most by
/// which the readings of two cores differ.
const SLEW_MS: u64 = 10;

/// The time, read once and used for a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// On the sale clock.
    pub sale: UnixMillis,
    /// Monotonic milliseconds since the engine started; for deadlines.
    pub mono_ms: u64,
}

/// Where the sale clock begins if the log holds later times than the wall clock shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// At the last fact of the log: it never runs backwards.
    AtTheLog,
    /// At the wall clock: the operator declares that the log's times are wrong.
    AtTheWall,
}

/// The clock; its copies are one clock.
#[derive(Clone, Debug)]
pub struct SaleClock {
    hands: Arc<Hands>,
    monotonic: Monotonic,
}

/// Written by the one thread that follows the wall clock, read by all; Relaxed, since neither depends on
/// anything else.
#[derive(Debug)]
struct Hands {
    /// Sale time at monotonic zero.
    base_ms: AtomicU64,
    /// How far the sale clock was ahead of the wall clock at the last look.
    ahead_ms: AtomicU64,
}

/// The source of the time since the start.
#[derive(Clone, Copy, Debug)]
enum Monotonic {
    Real(Instant),
    /// Milliseconds; Relaxed, since the thread that sets them also makes the calls that read them.
    ByHand(&'static AtomicU64),
}

impl Monotonic {
    fn ms(self) -> u64 {
        match self {
            Self::Real(anchor) => anchor.elapsed().as_millis() as u64,
            Self::ByHand(ms) => ms.load(Ordering::Relaxed),
        }
    }
}

/// The result of a comparison with the wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// No difference worth reporting.
    Together,
    /// The wall clock was ahead by this many milliseconds, more than [`AHEAD_MS_MAX`]: the sale clock has followed.
    Followed(u64),
    /// The sale clock is ahead by this many milliseconds, more than [`AHEAD_MS_MAX`].
    Ahead(u64),
}

impl SaleClock {
    /// Starts the clock at the wall clock's time, with [`Begin::AtTheLog`] not before `last`, the
    /// latest time of any fact.
    pub fn start(last: UnixMillis, begin: Begin) -> Self {
        let last = if begin == Begin::AtTheWall { UnixMillis(0) } else { last };
        Self::begin(wall(), last, Monotonic::Real(Instant::now()))
    }

    /// As [`SaleClock::start`], with a wall clock that shows `wall` and a monotonic clock that the caller
    /// sets: milliseconds since the start, never less than before. For simulations.
    pub fn start_by_hand(wall: UnixMillis, last: UnixMillis, monotonic_ms: &'static AtomicU64) -> Self {
        Self::begin(wall, last, Monotonic::ByHand(monotonic_ms))
    }

    fn begin(wall: UnixMillis, last: UnixMillis, monotonic: Monotonic) -> Self {
        let base_ms = AtomicU64::new(wall.0.max(last.0).saturating_sub(monotonic.ms()));
        let ahead_ms = AtomicU64::new(last.0.saturating_sub(wall.0));
        Self { hands: Arc::new(Hands { base_ms, ahead_ms }), monotonic }
    }

    /// Reads it. Decisions use a [`Reader`].
    pub fn now(&self) -> Now {
        let mono_ms = self.monotonic.ms();
        Now { sale: UnixMillis(self.hands.base_ms.load(Ordering::Relaxed) + mono_ms), mono_ms }
    }

    /// A reader of the clock that never goes back.
    pub fn reader(&self) -> Reader {
        Reader { clock: self.clone(), last: UnixMillis(0) }
    }

    /// Compares with this machine's wall clock and follows it. One thread at a time.
    pub fn follow(&self) -> Look {
        self.follow_to(wall())
    }

    /// As [`SaleClock::follow`], with a wall clock that shows `wall`.
    pub fn follow_to(&self, wall: UnixMillis) -> Look {
        let (sale, base_ms) = (self.now().sale, self.hands.base_ms.load(Ordering::Relaxed));
        let (behind_ms, ahead_ms) = (wall.0.saturating_sub(sale.0), sale.0.saturating_sub(wall.0));
        self.hands.base_ms.store(base_ms + behind_ms - ahead_ms.min(SLEW_MS), Ordering::Relaxed);
        self.hands.ahead_ms.store(ahead_ms, Ordering::Relaxed);
        match (behind_ms, ahead_ms) {
            (behind_ms, _) if behind_ms > AHEAD_MS_MAX => Look::Followed(behind_ms),
            (_, ahead_ms) if ahead_ms > AHEAD_MS_MAX => Look::Ahead(ahead_ms),
            _ => Look::Together,
        }
    }

    /// How far it was ahead of the wall clock at the last look, in milliseconds.
    pub fn ahead_ms(&self) -> u64 {
        self.hands.ahead_ms.load(Ordering::Relaxed)
    }

    /// Whether that is far enough to be reported.
    pub fn is_ahead(&self) -> bool {
        self.ahead_ms() > AHEAD_MS_MAX
    }
}

/// One core's view of the clock: what it shows never falls.
#[derive(Debug)]
pub struct Reader {
    clock: SaleClock,
    last: UnixMillis,
}

impl Reader {
    /// Reads it.
    pub fn now(&mut self) -> Now {
        let now = self.clock.now();
        self.last = self.last.max(now.sale);
        Now { sale: self.last, ..now }
    }
}

/// This machine's wall clock; 0 before 1970.
pub fn wall() -> UnixMillis {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(wall.as_millis() as u64)
}

/// A duration as text: `7h 59m 58s`.
pub fn show_ms(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{}.{}s", seconds, ms % 1_000 / 100),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m {}s", seconds % 60),
        (days, hours, minutes) => format!("{days}d {hours}h {minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that a test sets by hand.
    fn by_hand(wall: u64, last: u64) -> (SaleClock, &'static AtomicU64) {
        let mono: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
        (SaleClock::start_by_hand(UnixMillis(wall), UnixMillis(last), mono), mono)
    }

    #[test]
    fn a_wall_clock_in_the_past_does_not_set_the_sale_back() {
        let far = UnixMillis(7_000_000_000_000);
        let clock = SaleClock::start(far, Begin::AtTheLog);
        let first = clock.now();
        assert!(first.sale >= far && clock.now().sale >= first.sale);
        assert!(clock.is_ahead());
        let told = SaleClock::start(far, Begin::AtTheWall);
        assert!(told.now().sale < far && !told.is_ahead());
    }

    #[test]
    fn a_step_forward_of_the_wall_is_followed_at_once() {
        let (clock, mono) = by_hand(10_000, 0);
        let mut reader = clock.reader();
        assert_eq!(reader.now().sale, UnixMillis(10_000));
        mono.store(100, Ordering::Relaxed);
        assert_eq!(clock.follow_to(UnixMillis(3_610_100)), Look::Followed(3_600_000));
        assert_eq!((reader.now().sale, reader.now().mono_ms), (UnixMillis(3_610_100), 100));
        // Small steps are followed, too, and not reported.
        assert_eq!(clock.follow_to(UnixMillis(3_610_103)), Look::Together);
        assert_eq!(reader.now().sale, UnixMillis(3_610_103));
        assert_eq!(clock.ahead_ms(), 0);
    }

    /// Never backwards, whatever the wall does; and the difference shrinks until it is gone.
    #[test]
    fn a_step_back_of_the_wall_is_waited_out() {
        let (clock, mono) = by_hand(100_000, 0);
        let mut reader = clock.reader();
        let mut last = reader.now().sale;
        let mut told = Vec::new();
        for look in 1..=400u64 {
            let ms = look * 100;
            mono.store(ms, Ordering::Relaxed);
            // Set back by three seconds after the first one.
            let wall = if ms <= 1_000 { 100_000 + ms } else { 97_000 + ms };
            told.push(clock.follow_to(UnixMillis(wall)));
            let now = reader.now().sale;
            assert!(now >= last, "{last:?} to {now:?}");
            last = now;
        }
        assert_eq!((told[9], told[10]), (Look::Together, Look::Ahead(3_000)));
        assert_eq!((told[399], clock.ahead_ms()), (Look::Together, 0), "it never heals");
        assert_eq!(last, UnixMillis(97_000 + 40_000));
    }

    #[test]
    fn a_log_from_the_future_is_noticed_at_the_start() {
        let (clock, _) = by_hand(10_000, 28_810_000);
        assert_eq!((clock.now().sale, clock.ahead_ms()), (UnixMillis(28_810_000), 28_800_000));
    }

    #[test]
    fn durations_are_readable() {
        for (ms, words) in [
            (1_500, "1.5s"),
            (61_000, "1m 1s"),
            (28_798_000, "7h 59m 58s"),
            (2 * 86_400_000 + 3_600_000, "2d 1h 0m"),
        ] {
            assert_eq!(show_ms(ms), words);
        }
    }
}
