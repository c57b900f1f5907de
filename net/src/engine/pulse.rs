//! Whether every core still runs: a heartbeat per core, and a detector of stalls.
//!
//! A core beats once per turn of its loop, at least at each tick, 50 times a second. The detector looks
//! ten times a second, from a thread of its own, and adds up the time between *its own looks* since the last
//! beat, at most [`ELAPSED_MS_MAX`] per look. So no core is blamed when the whole process was stopped or the
//! machine slept, since the detector stood still, too; and under a processor quota, where looks are rare, a
//! second is still a second. No I/O and no clock here; [`crate::server::watch`] acts on the findings.

use std::sync::atomic::{AtomicU64, Ordering};

/// Time between two looks, in milliseconds.
pub const LOOK_MS: u64 = 100;
/// Most time that one look counts, in milliseconds: more than a detector with a share of a processor is late.
pub const ELAPSED_MS_MAX: u64 = 500;
/// Time without a beat after which a core counts as stalled, in milliseconds.
const STALLED_MS: u64 = 1_000;
/// Time without a beat after which a core is given up, in milliseconds.
const HOPELESS_MS: u64 = 10_000;
/// The count of a core that has ended.
const ENDED: u64 = u64::MAX;

/// The beats of all cores, and how long each has stood still.
pub struct Pulse(Vec<Beat>);

/// Of one core. The core alone writes `turns` (a plain store, Relaxed: the detector only compares it with
/// what it saw before), the detector alone the others (Relaxed: shown to people).
#[derive(Default)]
#[repr(align(128))]
struct Beat {
    turns: AtomicU64,
    stalled_ms: AtomicU64,
    stalls: AtomicU64,
}

impl Pulse {
    /// For that many cores, none of which has run yet.
    pub fn new(cores: usize) -> Self {
        Self((0..cores).map(|_| Beat::default()).collect())
    }

    /// The core itself: one more turn.
    pub fn beat(&self, core: usize) {
        let turns = &self.0[core].turns;
        turns.store(turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The core itself: it has ended.
    pub fn end(&self, core: usize) {
        self.0[core].turns.store(ENDED, Ordering::Relaxed);
    }

    /// How long a core has been stalled, in milliseconds; 0 = it runs.
    pub fn stalled_ms(&self, core: usize) -> u64 {
        self.0[core].stalled_ms.load(Ordering::Relaxed)
    }

    /// How often a core has stalled.
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

/// What the detector finds about one core. It says nothing about cores that run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// It has just stalled.
    Stalled,
    /// It is still stalled, for this many milliseconds now.
    StandsStill(u64),
    /// It runs again, after this many milliseconds.
    TurnsAgain(u64),
    /// It has been stalled for so long that it is given up.
    Hopeless,
}

impl Finding {
    /// Whether the core may need to be woken.
    pub const fn is_stall(self) -> bool {
        matches!(self, Self::Stalled | Self::StandsStill(_))
    }
}

/// Adds up the time without a beat, per core.
pub struct StallDetector(Vec<Seen>);

#[derive(Clone, Copy, Default)]
struct Seen {
    turns: u64,
    still_ms: u64,
}

impl StallDetector {
    /// A detector for that many cores. A core that never begins to run counts as stalled, too.
    pub fn new(cores: usize) -> Self {
        Self(vec![Seen::default(); cores])
    }

    /// One look, `elapsed_ms` after the last one; call it every [`LOOK_MS`]. Takes no lock.
    pub fn look(&mut self, pulse: &Pulse, elapsed_ms: u64, mut report: impl FnMut(usize, Finding)) {
        let elapsed_ms = elapsed_ms.min(ELAPSED_MS_MAX);
        for (core, (seen, beat)) in self.0.iter_mut().zip(&pulse.0).enumerate() {
            let turns = beat.turns.load(Ordering::Relaxed);
            let turned = turns != seen.turns || turns == ENDED;
            let before_ms = seen.still_ms;
            let still_ms = if turned { 0 } else { before_ms + elapsed_ms };
            *seen = Seen { turns, still_ms };
            beat.stalled_ms.store(if still_ms >= STALLED_MS { still_ms } else { 0 }, Ordering::Relaxed);
            let Some(finding) = finding(before_ms, still_ms) else { continue };
            if finding == Finding::Stalled {
                beat.stalls.store(beat.stalls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            report(core, finding);
        }
    }
}

/// What is new about a core that has stood still for `still_ms`, and for `before_ms` at the look before.
const fn finding(before_ms: u64, still_ms: u64) -> Option<Finding> {
    let (was_stalled, is_stalled) = (before_ms >= STALLED_MS, still_ms >= STALLED_MS);
    match () {
        () if still_ms >= HOPELESS_MS && before_ms >= HOPELESS_MS => None,
        () if still_ms >= HOPELESS_MS => Some(Finding::Hopeless),
        () if is_stalled && was_stalled => Some(Finding::StandsStill(still_ms)),
        () if is_stalled => Some(Finding::Stalled),
        () if was_stalled => Some(Finding::TurnsAgain(before_ms)),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(detector: &mut StallDetector, pulse: &Pulse, times: usize) -> Vec<(usize, Finding)> {
        let mut told = Vec::new();
        (0..times).for_each(|_| detector.look(pulse, LOOK_MS, |core, finding| told.push((core, finding))));
        told
    }

    #[test]
    fn a_stalled_core_is_reported_after_a_second_and_when_it_runs() {
        let (pulse, mut detector) = (Pulse::new(2), StallDetector::new(2));
        pulse.beat(0);
        pulse.beat(1);
        assert!(looks(&mut detector, &pulse, 1).is_empty());
        for _ in 0..9 {
            pulse.beat(1);
            assert!(looks(&mut detector, &pulse, 1).is_empty());
        }
        pulse.beat(1);
        assert_eq!(looks(&mut detector, &pulse, 1), [(0, Finding::Stalled)]);
        assert_eq!((pulse.stalled_ms(0), pulse.stalls(0), pulse.stalled_ms(1)), (1_000, 1, 0));
        pulse.beat(1);
        assert_eq!(looks(&mut detector, &pulse, 1), [(0, Finding::StandsStill(1_100))]);
        pulse.beat(0);
        pulse.beat(1);
        assert_eq!(looks(&mut detector, &pulse, 1), [(0, Finding::TurnsAgain(1_100))]);
        assert_eq!((pulse.stalled_ms(0), pulse.stalls(0)), (0, 1));
    }

    #[test]
    fn a_core_is_hopeless_after_ten_seconds_unless_it_has_ended() {
        let (pulse, mut detector) = (Pulse::new(2), StallDetector::new(2));
        pulse.end(1);
        let told = looks(&mut detector, &pulse, 100);
        assert_eq!(told.iter().filter(|told| told.1 == Finding::Hopeless).count(), 1);
        assert_eq!(told.last(), Some(&(0, Finding::Hopeless)));
        assert!(told.iter().all(|(core, _)| *core == 0), "core 1 has ended in order");
    }

    #[test]
    fn a_detector_that_was_stopped_blames_no_core_for_that_time() {
        let (pulse, mut detector) = (Pulse::new(1), StallDetector::new(1));
        let mut told = Vec::new();
        detector.look(&pulse, 60_000, |_, finding| told.push(finding));
        assert_eq!(told, []);
        detector.look(&pulse, LOOK_MS, |_, finding| told.push(finding));
        pulse.beat(0);
        detector.look(&pulse, 3_600_000, |_, finding| told.push(finding));
        assert_eq!((told, pulse.stalls(0)), (vec![], 0));
    }

    /// With a quota of 20 ms in 500 the detector looks every half second.
    #[test]
    fn a_detector_that_looks_rarely_still_counts_seconds() {
        let (pulse, mut detector) = (Pulse::new(1), StallDetector::new(1));
        let mut told = Vec::new();
        for _ in 0..20 {
            detector.look(&pulse, ELAPSED_MS_MAX, |_, finding| told.push(finding));
        }
        assert_eq!((told.first(), told.last()), (Some(&Finding::Stalled), Some(&Finding::Hopeless)));
        assert_eq!(told.len(), 19);
    }
}
