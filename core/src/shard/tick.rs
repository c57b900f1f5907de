//! What falls due as time passes: draws, unpaid orders, the ends of windows.
//!
//! Each kind waits in a heap of its own and shares the tick's budget, so that a large draw does not hold
//! up the rest. Next: [`super::drawing`] for draws, [`super::decide`] for an expiry.

use super::accepted::FactSink;
use super::state::Shard;
use super::steps::Steps;
use crate::due::DueHeap;
use crate::limits::{DRAW_STEP_ORDERS, TICK_STEPS_MAX};
use crate::types::UnixMillis;

impl Shard {
    /// When [`Self::tick`] next has something to do, if ever.
    pub fn next_due(&self) -> Option<UnixMillis> {
        let due = |heap: &DueHeap| heap.peek().map(|(due, _)| due);
        let at_once = !self.drawing.is_empty() || self.puts_back();
        let drawing = at_once.then_some(UnixMillis(0));
        [due(&self.holds), due(&self.windows), due(&self.draws), drawing].into_iter().flatten().min()
    }

    /// Lets time pass: holds draws and draws their entries, expires unpaid orders, ends
    /// windows, until nothing is due, `budget` facts were appended, or [`TICK_STEPS_MAX`] rows
    /// were looked at; the sink must have room for the facts. Returns how many they were;
    /// [`Self::next_due`] says whether more is due.
    ///
    /// A large draw leaves at least half of the budget to what else is due.
    pub fn tick(&mut self, now: UnixMillis, budget: usize, sink: &mut impl FactSink) -> usize {
        let now = now.max(self.clock);
        let mut appended = 0;
        let steps = &mut Steps { left: TICK_STEPS_MAX, gather: DRAW_STEP_ORDERS };
        loop {
            let before = appended;
            appended += self.hold_draws(now, budget - appended, steps, sink);
            let for_draws = (budget - appended).min(steps.left).div_ceil(2);
            appended += self.draw_entries_due(now, for_draws, steps, sink);
            self.put_back_postponed(steps);
            appended += self.expire_due(now, budget - appended, steps, sink);
            appended += self.end_windows(now, budget - appended, steps, sink);
            if appended == before || steps.left == 0 {
                return appended;
            }
        }
    }

    fn expire_due(
        &mut self,
        now: UnixMillis,
        budget: usize,
        steps: &mut Steps,
        sink: &mut impl FactSink,
    ) -> usize {
        let mut appended = 0;
        while appended < budget && steps.take() {
            let Some(slot) = self.holds.pop_by(now) else { break };
            appended += usize::from(self.expire(now, slot, sink));
        }
        appended
    }

    fn end_windows(
        &mut self,
        now: UnixMillis,
        budget: usize,
        steps: &mut Steps,
        sink: &mut impl FactSink,
    ) -> usize {
        let mut appended = 0;
        while appended < budget && steps.take() {
            let Some(slot) = self.windows.pop_by(now) else { break };
            appended += usize::from(self.end_window(now, slot, sink));
        }
        appended
    }
}
