//! Which rate to try next: doubling until one fails, then halving the gap, then once more.
//!
//! ```text
//!  from ──holds──▶ 2·from ──holds──▶ 4·from ──fails──▶ 3·from … gap ≤ precision ──▶ again ──holds──▶ found
//!   │ fails twice                                              ▲                     │ fails
//!   ▼                                                          └── the rate below ◀──┘
//!  never holds
//! ```
//!
//! Rates and outcomes in, rates out: no clock, no socket. Next: [`super::find`], which tries them.

/// Most rates that are tried before the search says that the outcomes contradict each other.
pub const PROBES_MAX: u32 = 60;

/// Where to search; rates per second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// The lowest rate, tried first; at least 1.
    pub from_per_s: f64,
    /// The highest rate; at least the lowest.
    pub to_per_s: f64,
    /// How far apart a rate that holds and one that fails may be in the end, as a share, above 0.
    pub precision: f64,
}

/// What came of trying a rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// All targets are met, and the rate was reached.
    Holds,
    /// It does not, and that is the server's doing.
    Fails,
    /// It does not, and the generator was the limit: it shows nothing about the server.
    Generator,
}

/// How a search ends; rates per second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum End {
    /// The rate holds, and held a second time.
    Found {
        /// The rate.
        per_s: f64,
        /// The lowest rate that failed; `None` = none did, the highest allowed rate holds.
        fails_at_per_s: Option<f64>,
    },
    /// Not even the lowest rate holds.
    NeverHolds {
        /// That rate.
        per_s: f64,
    },
    /// The generator cannot make this rate: what the server could do is not known.
    Generator {
        /// The rate.
        per_s: f64,
        /// The highest rate that held.
        held_per_s: Option<f64>,
    },
    /// After [`PROBES_MAX`] tries rates still hold once and fail the next time.
    Unsteady {
        /// The highest rate that held last.
        held_per_s: Option<f64>,
    },
}

/// A search under way.
#[derive(Clone, Debug)]
pub struct Search {
    limits: Limits,
    /// What to try now.
    per_s: f64,
    /// Whether that is to confirm what held before.
    confirms: bool,
    /// Rates that held, ascending.
    held: Vec<f64>,
    /// The lowest rate that failed.
    failed: Option<f64>,
    /// Whether this rate has had a second chance: one bad moment is not a limit.
    is_second: bool,
    probes: u32,
}

impl Search {
    /// A search that begins at the lowest rate. Rates are whole, at least 1 a second.
    pub fn new(limits: Limits) -> Self {
        let per_s = limits.from_per_s.round().max(1.0);
        let limits = Limits { to_per_s: limits.to_per_s.round().max(per_s), ..limits };
        Self { limits, per_s, confirms: false, held: Vec::new(), failed: None, is_second: false, probes: 0 }
    }
    /// The rate to try now, per second.
    pub const fn per_s(&self) -> f64 {
        self.per_s
    }
    /// Whether it is tried to confirm that it holds.
    pub const fn confirms(&self) -> bool {
        self.confirms
    }

    /// Takes what came of the rate; `None` = there is another one to try.
    pub fn handle(&mut self, seen: Seen) -> Option<End> {
        self.probes += 1;
        let (per_s, held_per_s) = (self.per_s, self.held.last().copied());
        let is_first_rate = self.held.is_empty() && self.failed.is_none();
        match seen {
            Seen::Generator if self.is_second => return Some(End::Generator { per_s, held_per_s }),
            Seen::Fails if is_first_rate && self.is_second => return Some(End::NeverHolds { per_s }),
            Seen::Generator => self.is_second = true,
            Seen::Fails if is_first_rate => self.is_second = true,
            Seen::Holds if self.confirms => {
                return Some(End::Found { per_s, fails_at_per_s: self.failed });
            }
            Seen::Holds => {
                self.held.push(per_s);
                self.aim();
            }
            Seen::Fails => {
                if self.confirms {
                    self.held.pop();
                }
                self.failed = Some(per_s);
                if self.held.is_empty() {
                    return Some(End::NeverHolds { per_s });
                }
                self.aim();
            }
        }
        let held_per_s = self.held.last().copied();
        (self.probes >= PROBES_MAX).then_some(End::Unsteady { held_per_s })
    }

    /// Chooses the next rate after one has held.
    fn aim(&mut self) {
        self.is_second = false;
        let low = self.held.last().copied().unwrap_or(self.limits.from_per_s);
        let next = match self.failed {
            None => (2.0 * low).min(self.limits.to_per_s),
            Some(high) => ((low + high) / 2.0).round(),
        };
        let gap = self.failed.map_or(f64::INFINITY, |high| high - low);
        let is_close = gap <= (self.limits.precision * low).max(1.0) || next <= low;
        self.confirms = is_close;
        self.per_s = if is_close { low } else { next };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::mix;

    fn search(from_per_s: f64, to_per_s: f64, look: impl FnMut(f64) -> Seen) -> (End, Vec<f64>) {
        run(Limits { from_per_s, to_per_s, precision: 0.05 }, look)
    }

    fn run(limits: Limits, mut look: impl FnMut(f64) -> Seen) -> (End, Vec<f64>) {
        let (mut search, mut tried) = (Search::new(limits), Vec::new());
        loop {
            tried.push(search.per_s());
            if let Some(end) = search.handle(look(search.per_s())) {
                return (end, tried);
            }
            assert!(tried.len() <= PROBES_MAX as usize, "{tried:?}");
        }
    }

    fn up_to(limit: f64) -> impl FnMut(f64) -> Seen {
        move |per_s| if per_s <= limit { Seen::Holds } else { Seen::Fails }
    }

    #[test]
    fn a_steady_limit_is_found_to_the_precision_and_confirmed() {
        for limit in [1.0, 3.0, 1_000.0, 1_050.0, 7_777.0, 123_456.0, 999_000.0] {
            let (end, tried) = search(1.0, 1e6, up_to(limit));
            let End::Found { per_s, fails_at_per_s: Some(above) } = end else { panic!("{limit}: {end:?}") };
            assert!(per_s <= limit && above > limit, "{limit}: {end:?}");
            assert!(above - per_s <= (0.05 * per_s).max(1.0), "{limit}: {end:?}");
            assert!(tried.len() < 40, "{limit}: {tried:?}");
            let times = tried.iter().filter(|&&rate| rate == per_s).count();
            assert!(times >= 2 && tried.last() == Some(&per_s), "{limit}: not confirmed in {tried:?}");
        }
    }

    #[test]
    fn the_first_steps_double() {
        let (_, tried) = search(1_000.0, 1e6, up_to(5_000.0));
        assert_eq!(tried[..5], [1_000.0, 2_000.0, 4_000.0, 8_000.0, 6_000.0]);
    }

    #[test]
    fn what_never_holds_has_a_second_chance_and_no_third() {
        let (end, tried) = search(1_000.0, 1e6, |_| Seen::Fails);
        assert_eq!((end, tried.len()), (End::NeverHolds { per_s: 1_000.0 }, 2));
        let mut calls = 0;
        let (end, _) = search(1_000.0, 1e6, |per_s| {
            calls += 1;
            if calls == 1 { Seen::Fails } else { up_to(3_000.0)(per_s) }
        });
        assert!(matches!(end, End::Found { per_s, .. } if (2_800.0..=3_000.0).contains(&per_s)), "{end:?}");
    }

    #[test]
    fn what_always_holds_ends_at_the_highest_rate_confirmed() {
        let (end, tried) = search(1_000.0, 5_000.0, |_| Seen::Holds);
        assert_eq!(end, End::Found { per_s: 5_000.0, fails_at_per_s: None });
        assert_eq!(tried, [1_000.0, 2_000.0, 4_000.0, 5_000.0, 5_000.0]);
        let (end, tried) = search(7.0, 7.0, |_| Seen::Holds);
        assert_eq!((end, tried.len()), (End::Found { per_s: 7.0, fails_at_per_s: None }, 2));
    }

    #[test]
    fn a_limit_of_the_generator_ends_the_search_when_it_comes_twice() {
        let limit = |per_s: f64| if per_s > 3_000.0 { Seen::Generator } else { Seen::Holds };
        let (end, tried) = search(1_000.0, 1e6, limit);
        assert_eq!(end, End::Generator { per_s: 4_000.0, held_per_s: Some(2_000.0) });
        assert_eq!(tried, [1_000.0, 2_000.0, 4_000.0, 4_000.0]);
        let mut calls = 0;
        let (end, _) = search(1_000.0, 1e6, |per_s| {
            calls += 1;
            if calls == 3 { Seen::Generator } else { up_to(9_000.0)(per_s) }
        });
        assert!(matches!(end, End::Found { .. }), "once is a hiccup: {end:?}");
    }

    #[test]
    fn a_rate_passes_only_if_it_holds_twice_in_a_row() {
        for seed in 0..2_000u64 {
            let mut dice = seed;
            let mut log = Vec::new();
            let (end, _) = search(1_000.0, 1e6, |per_s| {
                dice = mix(dice);
                // Certain below 20k, impossible above 60k, a matter of luck in between.
                let luck = (dice >> 11) as f64 / (1u64 << 53) as f64;
                let seen = if luck < (60_000.0 - per_s) / 40_000.0 { Seen::Holds } else { Seen::Fails };
                log.push((per_s, seen));
                seen
            });
            let End::Found { per_s, fails_at_per_s } = end else { panic!("seed {seed}: {end:?}") };
            assert!((19_000.0..60_000.0).contains(&per_s), "seed {seed}: {end:?}");
            assert!(fails_at_per_s.is_some_and(|above| above > per_s), "seed {seed}: {end:?}");
            let last = log.iter().rev().find(|(rate, seen)| *rate == per_s && *seen == Seen::Fails);
            assert_eq!(last, None, "seed {seed}: {log:?}");
            assert_eq!(log.iter().filter(|(rate, _)| *rate == per_s).count(), 2, "seed {seed}: {log:?}");
        }
    }

    #[test]
    fn outcomes_that_contradict_each_other_come_to_an_end() {
        // Every confirmation fails, however low: down to the lowest rate.
        let mut seen_before = std::collections::HashSet::new();
        let (end, _) = search(1.0, 1e6, |per_s| {
            let is_new = seen_before.insert(per_s as u64);
            if is_new && per_s < 100_000.0 { Seen::Holds } else { Seen::Fails }
        });
        assert!(matches!(end, End::NeverHolds { .. } | End::Unsteady { .. }), "{end:?}");
    }
}
