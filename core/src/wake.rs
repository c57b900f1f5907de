//! Whether a sleeping core has to be woken: one flag, so that a whole batch costs one wake.
//!
//! ```text
//!  a producer:  push the work ─▶ raise ─▶ was it down? then call the core's waker
//!  the core:    lower ─▶ look: is there work? ─▶ no: sleep until its waker is called ─▶ keep_raised
//!                 ▲                           └▶ yes: do not sleep ──────────────────▶ │
//!                 └───────────────────────────── work ◀────────────────────────────────┘
//! ```
//!
//! Work that was pushed before `raise` is seen after the next `lower`, which is sure to come.
//! A call of the waker must stay in force until it has ended a sleep, as with an eventfd: a call
//! between the look and the sleep then ends the sleep at once.

use crate::sync::{AtomicBool, Ordering};

/// The flag of one core. Raised by any thread, lowered by the core alone.
#[derive(Default)]
pub struct WakeFlag {
    /// Set by the thread that wakes, cleared by the core before it looks for work. While it is set,
    /// the core is sure to look again, so that nobody else needs to call its waker. Both are swaps
    /// that synchronise (AcqRel): either the core's swap comes after and sees what was pushed before,
    /// or it came before and the other side sees the flag down and calls the waker.
    pending: AtomicBool,
}

impl WakeFlag {
    /// To be called after work was pushed; returns whether the core's waker must be called.
    #[must_use]
    pub fn raise(&self) -> bool {
        !self.pending.swap(true, Ordering::AcqRel)
    }

    /// The core itself: one sleep. `has_work` says whether work is there; `sleep` is told whether it
    /// may wait until the waker is called, and returns after that.
    ///
    /// While it works, between two sleeps, nobody calls the waker: the core is sure to look before it
    /// sleeps. Everything depends on the order of the three steps, so they are in one place.
    pub fn sleep<R>(&self, has_work: impl FnOnce() -> bool, sleep: impl FnOnce(bool) -> R) -> R {
        self.lower();
        let slept = sleep(!has_work());
        self.keep_raised();
        slept
    }

    /// From here on nobody needs to call the waker. A swap and not a store: a store would hide from
    /// the next `lower` what others have raised meanwhile.
    fn keep_raised(&self) {
        self.pending.swap(true, Ordering::AcqRel);
    }

    /// From here on `raise` asks for the waker again.
    fn lower(&self) {
        self.pending.swap(false, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_batch_wakes_once() {
        let flag = WakeFlag::default();
        assert!(flag.raise() && !flag.raise());
        let may_sleep = flag.sleep(|| false, |may_sleep| may_sleep && flag.raise() && !flag.raise());
        assert!(may_sleep);
        assert!(!flag.raise(), "the core is awake and looks by itself");
    }

    #[test]
    fn a_core_with_work_does_not_sleep() {
        let flag = WakeFlag::default();
        assert!(!flag.sleep(|| true, |may_sleep| may_sleep));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::AtomicU64;
    use loom::sync::{Arc, Notify};

    struct Core {
        flag: WakeFlag,
        /// Work, as counters that order nothing by themselves, so that only the flag can.
        work: [AtomicU64; 2],
        waker: Notify,
    }

    /// How much of the work one turn does.
    #[derive(Clone, Copy)]
    enum Turn {
        All,
        /// One piece, as a loop with a budget does: for the rest it must not sleep.
        One,
    }

    /// A core that sleeps whenever it finds nothing finds what two threads push before they raise
    /// the flag: a lost wake-up would leave it asleep for ever, which loom reports.
    #[test]
    fn no_work_is_slept_over() {
        sleep_over(Turn::All);
    }

    /// The same for a loop whose turns have a budget, so that it goes to sleep with work that it
    /// has seen before, and with work that came while it worked.
    #[test]
    fn no_work_is_slept_over_by_a_loop_with_a_budget() {
        sleep_over(Turn::One);
    }

    fn sleep_over(turn: Turn) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(move || {
            let work = [AtomicU64::new(0), AtomicU64::new(0)];
            let core = Arc::new(Core { flag: WakeFlag::default(), work, waker: Notify::new() });
            let givers = [0, 1].map(|giver| {
                let core = core.clone();
                loom::thread::spawn(move || {
                    core.work[giver].store(1, Ordering::Relaxed);
                    if core.flag.raise() {
                        core.waker.notify();
                    }
                })
            });
            let sleeper = loom::thread::spawn(move || {
                let mut done = 0;
                while done < 2 {
                    let waits = || core.work.iter().filter(|work| work.load(Ordering::Relaxed) == 1);
                    core.flag.sleep(
                        || waits().next().is_some(),
                        |may_sleep| {
                            if may_sleep {
                                core.waker.wait();
                            }
                        },
                    );
                    let budget = if matches!(turn, Turn::All) { 2 } else { 1 };
                    for work in waits().take(budget) {
                        work.store(2, Ordering::Relaxed);
                        done += 1;
                    }
                }
            });
            for giver in givers {
                giver.join().expect("a giver ends");
            }
            sleeper.join().expect("the core ends");
        });
    }
}
