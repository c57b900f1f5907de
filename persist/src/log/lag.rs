//! When the control file has to be updated with the durable LSN.
//!
//! The promise: whatever is durable is in the control file at most [`LAG_MS_MAX`] later. The file is
//! written when the journal was idle for [`IDLE_MS_MIN`] after a group; and if facts keep coming, half
//! of the bound after the first group that the file does not have. The other half is for the group that
//! is being written meanwhile, and for the control file's own write. Times are arguments, so that the
//! promise can be tested over all patterns of arrival. Nothing here writes. Next: [`super::thread`].

use std::time::Duration;

use super::limits::{IDLE_MS_MIN, LAG_MS_MAX};

const IDLE: Duration = Duration::from_millis(IDLE_MS_MIN);
const LAG: Duration = Duration::from_millis(LAG_MS_MAX / 2);

/// For how long the control file has been behind the log. Times count from any fixed moment.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct ControlLag(Option<Behind>);

#[derive(Clone, Copy, Debug)]
struct Behind {
    /// When the first group became durable that is not in the control file.
    since: Duration,
    /// When the last one did.
    last: Duration,
}

impl ControlLag {
    /// A group has become durable.
    pub(super) fn group_written(&mut self, now: Duration) {
        let since = self.0.map_or(now, |behind| behind.since);
        self.0 = Some(Behind { since, last: now });
    }

    /// The control file is up to date.
    pub(super) fn control_written(&mut self) {
        self.0 = None;
    }

    /// How long the control file may still wait if no fact comes; zero = write it now. `None` =
    /// it is up to date.
    pub(super) fn time_left(&self, now: Duration) -> Option<Duration> {
        let due = self.0.map(|behind| (behind.since + LAG).min(behind.last + IDLE));
        due.map(|due| due.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time for a write of the control file; fifty times that of a group.
    const WRITE: Duration = Duration::from_millis(5);
    const STEP: Duration = Duration::from_micros(100);

    /// Plays the journal's loop over facts that arrive at these times. Returns the longest time for which
    /// something durable was not in the control file, and how often that was written.
    fn play(arrivals: &[Duration]) -> (Duration, usize) {
        let (mut now, mut lag, mut taken) = (Duration::ZERO, ControlLag::default(), 0);
        // When the groups became durable that are not in the control file.
        let mut unknown: Vec<Duration> = Vec::new();
        let (mut longest, mut writes) = (Duration::ZERO, 0);
        loop {
            let queued = arrivals[taken..].iter().take_while(|at| **at <= now).count();
            taken += queued;
            if queued > 0 {
                now += WRITE / 50;
                lag.group_written(now);
                unknown.push(now);
            }
            match lag.time_left(now) {
                Some(Duration::ZERO) => {
                    now += WRITE;
                    longest = unknown.drain(..).map(|at| now - at).fold(longest, Duration::max);
                    writes += 1;
                    lag.control_written();
                }
                _ if queued > 0 => {}
                left => {
                    // It sleeps until a fact comes or the write is due.
                    let (due, next) = (left.map(|left| now + left), arrivals.get(taken).copied());
                    let Some(until) = due.into_iter().chain(next).min() else { return (longest, writes) };
                    now = until;
                }
            }
        }
    }

    #[test]
    fn the_bound_holds_under_every_pattern_of_arrivals() {
        // Every repetition of four gaps out of these, long enough for several bounds.
        let gaps = [0, 1, 5, 10, 15, 19, 20, 21, 30, 100, 240, 260, 600].map(|tenths| STEP * tenths);
        let patterns = gaps.len().pow(4);
        for pattern in 0..patterns {
            let gap = |n: usize| gaps[pattern / gaps.len().pow(n as u32 % 4) % gaps.len()];
            let mut at = Duration::ZERO;
            let arrivals: Vec<_> = (0..400)
                .map(|n| {
                    at += gap(n);
                    at
                })
                .take_while(|at| *at < Duration::from_millis(400))
                .collect();
            let (longest, writes) = play(&arrivals);
            let four: Vec<_> = (0..4).map(gap).collect();
            assert!(longest <= Duration::from_millis(LAG_MS_MAX), "{longest:?} behind with gaps {four:?}");
            let span = arrivals.last().copied().unwrap_or_default();
            let most = 2 + (span.as_micros() / IDLE.as_micros()) as usize;
            assert!(writes <= most, "{writes} writes in {span:?} with gaps {four:?}");
        }
    }

    #[test]
    fn it_is_written_when_idle_and_else_at_half_the_bound() {
        let ms = Duration::from_millis;
        let mut lag = ControlLag::default();
        assert_eq!(lag.time_left(ms(1)), None);
        lag.group_written(ms(10));
        assert_eq!(lag.time_left(ms(11)), Some(ms(1)));
        assert_eq!(lag.time_left(ms(12)), Some(ms(0)));
        (11..40).for_each(|at| lag.group_written(ms(at)));
        assert_eq!(lag.time_left(ms(34)), Some(ms(1)), "half of the bound after the first");
        assert_eq!(lag.time_left(ms(90)), Some(ms(0)));
        lag.control_written();
        assert_eq!(lag.time_left(ms(91)), None);
    }
}
