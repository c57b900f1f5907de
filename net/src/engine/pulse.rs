//! Whether every core still turns: a beat per core, and a judge who counts them.
//!
//! A core beats once per turn of its loop, at least at each tick, 50 times a second. The judge looks
//! ten times a second, from a thread of its own, and counts *its own looks* since the last beat, not
//! the time on a clock: when the whole process was stopped, or the machine slept, the judge stood
//! still, too, and nobody is blamed. Pure but for atomics; [`crate::server::watch`] acts on it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Time between two looks, in milliseconds.
pub const LOOK_MS: u64 = 100;
/// Looks without a beat after which a core counts as stalled: one second.
const STALLED_LOOKS: u64 = 10;
/// Looks without a beat after which it will not come back: ten seconds.
const HOPELESS_LOOKS: u64 = 100;
/// The count of a core that has ended in order.
const ENDED: u64 = u64::MAX;

/// The beats of all cores, and how long each has stood still.
pub struct Pulse(Vec<Beat>);

/// Of one core. The count is written by the core alone (a plain store, Relaxed: the judge only
/// compares it with what it saw before), `stalled_ms` by the judge alone (Relaxed: shown to people).
#[derive(Default)]
#[repr(align(128))]
struct Beat {
    turns: AtomicU64,
    stalled_ms: AtomicU64,
    stalls: AtomicU64,
}

impl Pulse {
    /// Of so many cores, none of which has turned yet.
    pub fn new(cores: usize) -> Self {
        Self((0..cores).map(|_| Beat::default()).collect())
    }

    /// The core itself: one more turn.
    pub fn beat(&self, core: usize) {
        let turns = &self.0[core].turns;
        turns.store(turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The core itself: it has ended in order.
    pub fn end(&self, core: usize) {
        self.0[core].turns.store(ENDED, Ordering::Relaxed);
    }

    /// How long a core has been stalled, in milliseconds; 0 = it turns.
    pub fn stalled_ms(&self, core: usize) -> u64 {
        self.0[core].stalled_ms.load(Ordering::Relaxed)
    }

    /// How often a core was found stalled.
    pub fn stalls(&self, core: usize) -> u64 {
        self.0[core].stalls.load(Ordering::Relaxed)
    }

    /// How many cores.
    pub fn cores(&self) -> usize {
        self.0.len()
    }

    /// The cores that are stalled.
    pub fn stalled(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len()).filter(|core| self.stalled_ms(*core) > 0)
    }
}

/// What the judge finds of one core. Cores that turn as they should are not mentioned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// It has just been found stalled.
    Stalled,
    /// It stands still, for so many milliseconds now.
    StandsStill(u64),
    /// It turns again, after so many milliseconds.
    TurnsAgain(u64),
    /// It has stood still for so long that it will not come back.
    Hopeless,
}

impl Finding {
    /// Whether the core may need to be woken.
    pub const fn is_stall(self) -> bool {
        matches!(self, Self::Stalled | Self::StandsStill(_))
    }
}

/// Counts looks without a beat, per core.
pub struct Judge(Vec<Seen>);

#[derive(Clone, Copy, Default)]
struct Seen {
    turns: u64,
    looks: u64,
}

impl Judge {
    /// A judge of that many cores. A core that never begins to turn is found stalled, too.
    pub fn new(cores: usize) -> Self {
        Self(vec![Seen::default(); cores])
    }

    /// One look; to be made every [`LOOK_MS`].
    pub fn look(&mut self, pulse: &Pulse, mut tell: impl FnMut(usize, Finding)) {
        for (core, (seen, beat)) in self.0.iter_mut().zip(&pulse.0).enumerate() {
            let before_ms = beat.stalled_ms.load(Ordering::Relaxed);
            let turns = beat.turns.load(Ordering::Relaxed);
            let turned = turns != seen.turns || turns == ENDED;
            *seen = if turned { Seen { turns, looks: 0 } } else { Seen { turns, looks: seen.looks + 1 } };
            let now_ms = if seen.looks >= STALLED_LOOKS { seen.looks * LOOK_MS } else { 0 };
            beat.stalled_ms.store(now_ms, Ordering::Relaxed);
            match seen.looks {
                STALLED_LOOKS => {
                    beat.stalls.store(beat.stalls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    tell(core, Finding::Stalled);
                }
                HOPELESS_LOOKS => tell(core, Finding::Hopeless),
                looks if looks > STALLED_LOOKS => tell(core, Finding::StandsStill(now_ms)),
                _ if before_ms > 0 => tell(core, Finding::TurnsAgain(before_ms)),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(judge: &mut Judge, pulse: &Pulse, times: usize) -> Vec<(usize, Finding)> {
        let mut told = Vec::new();
        (0..times).for_each(|_| judge.look(pulse, |core, finding| told.push((core, finding))));
        told
    }

    #[test]
    fn a_core_that_stands_still_is_told_at_one_second_and_again_when_it_turns() {
        let (pulse, mut judge) = (Pulse::new(2), Judge::new(2));
        pulse.beat(0);
        pulse.beat(1);
        assert!(looks(&mut judge, &pulse, 1).is_empty());
        for _ in 0..9 {
            pulse.beat(1);
            assert!(looks(&mut judge, &pulse, 1).is_empty());
        }
        pulse.beat(1);
        assert_eq!(looks(&mut judge, &pulse, 1), [(0, Finding::Stalled)]);
        assert_eq!((pulse.stalled_ms(0), pulse.stalls(0), pulse.stalled_ms(1)), (1_000, 1, 0));
        pulse.beat(1);
        assert_eq!(looks(&mut judge, &pulse, 1), [(0, Finding::StandsStill(1_100))]);
        pulse.beat(0);
        pulse.beat(1);
        assert_eq!(looks(&mut judge, &pulse, 1), [(0, Finding::TurnsAgain(1_100))]);
        assert_eq!((pulse.stalled_ms(0), pulse.stalls(0)), (0, 1));
    }

    #[test]
    fn a_core_that_does_not_come_back_is_hopeless_at_ten_seconds_one_that_ended_never() {
        let (pulse, mut judge) = (Pulse::new(2), Judge::new(2));
        pulse.end(1);
        let told = looks(&mut judge, &pulse, 100);
        assert_eq!(told.iter().filter(|told| told.1 == Finding::Hopeless).count(), 1);
        assert_eq!(told.last(), Some(&(0, Finding::Hopeless)));
        assert!(told.iter().all(|(core, _)| *core == 0), "core 1 has ended in order");
    }
}
