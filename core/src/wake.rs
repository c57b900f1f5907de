//! Whether a sleeping core has to be woken: one flag, so that a whole batch costs one wake.
//!
//! ```text
//!  whoever gives work:  push the work ─▶ raise ─▶ was it down? then call the core's waker
//!  the core:            lower ─▶ take all work that is there ─▶ sleep until its waker is called
//!                         ▲                                       │
//!                         └──── hold ─▶ work, and look again ◀────┘  (hold may be left out)
//! ```
//!
//! Work that was pushed before `raise` is seen after the next `lower`, and that next one is sure
//! to come. The waker itself is whoever's who uses this; nothing here sleeps.

use crate::sync::{AtomicBool, Ordering};

/// The flag of one core. Raised by any thread, lowered by the core alone.
#[derive(Default)]
pub struct WakeFlag {
    /// Set by whoever wakes, cleared by the core before it looks for work. While it is set, the
    /// core is sure to look again, so that nobody else needs to call its waker. Both are swaps that
    /// synchronise (AcqRel): either the core's swap comes after and sees what was pushed before,
    /// or it came before and the other side sees the flag down and calls the waker.
    pending: AtomicBool,
}

impl WakeFlag {
    /// After work was pushed: whether the core's waker must be called.
    #[must_use]
    pub fn raise(&self) -> bool {
        !self.pending.swap(true, Ordering::AcqRel)
    }

    /// The core itself, awake: it is sure to look before it sleeps, so that until it lowers the flag
    /// nobody needs to call its waker. A swap, too, and no mere store: that would hide from the next
    /// `lower` what others have raised meanwhile.
    pub fn hold(&self) {
        self.pending.swap(true, Ordering::AcqRel);
    }

    /// The core itself, before it looks for work: from here on `raise` asks for its waker again.
    pub fn lower(&self) {
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
        flag.lower();
        assert!(flag.raise());
        flag.lower();
        flag.hold();
        assert!(!flag.raise());
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

    /// What two threads push before they raise the flag is found by a core that sleeps whenever it
    /// finds nothing: a wake that is lost would leave it asleep for ever, which loom reports.
    #[test]
    fn no_work_is_slept_over() {
        sleep_over(false);
    }

    /// The same for a core that holds the flag up while it is awake.
    #[test]
    fn no_work_is_slept_over_by_a_core_that_holds_the_flag() {
        sleep_over(true);
    }

    fn sleep_over(holds: bool) {
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
                loop {
                    core.flag.lower();
                    if core.work.iter().all(|work| work.load(Ordering::Relaxed) == 1) {
                        break;
                    }
                    core.waker.wait();
                    if holds {
                        core.flag.hold();
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
