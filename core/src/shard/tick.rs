//! What falls due as time passes: draws, unpaid orders, the ends of windows.
//!
//! Each kind waits in a heap of its own and has a share of the tick's budget, so that a large draw does
//! not delay the rest. Next: [`super::drawing`] for draws, [`super::decide`] for an expiry.

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
        let at_once = !self.drawing.is_empty() || self.has_released();
        let drawing = at_once.then_some(UnixMillis(0));
        [due(&self.holds), due(&self.windows), due(&self.draws), drawing].into_iter().flatten().min()
    }

    /// Lets time pass: holds draws and draws their entries, expires unpaid orders and ends
    /// windows, until nothing is due, `budget` facts are appended, or [`TICK_STEPS_MAX`] rows
    /// were looked at. The sink must have room for the facts. Returns their number;
    /// [`Self::next_due`] says whether more is due.
    ///
    /// A large draw leaves at least half of the budget to what else is due.
    pub fn tick(&mut self, now: UnixMillis, budget: usize, sink: &mut impl FactSink) -> usize {
        let now = now.max(self.clock);
        let mut appended = 0;
        let steps = &mut Steps { left: TICK_STEPS_MAX, gather: DRAW_STEP_ORDERS };
        loop {
            let before = appended;
            appended += self.each_due(
                (budget - appended, steps),
                |shard| shard.draws.pop_by(now),
                |shard, slot| shard.begin_draw(now, slot, sink),
            );
            let for_draws = (budget - appended).min(steps.left).div_ceil(2);
            appended += self.draw_entries_due(now, for_draws, steps, sink);
            self.put_back_released(steps);
            appended += self.each_due(
                (budget - appended, steps),
                |shard| shard.holds.pop_by(now),
                |shard, slot| shard.expire(now, slot, sink),
            );
            appended += self.each_due(
                (budget - appended, steps),
                |shard| shard.windows.pop_by(now),
                |shard, slot| shard.end_window(now, slot, sink),
            );
            if appended == before || steps.left == 0 {
                return appended;
            }
        }
    }

    /// Handles what is due in one heap, one row for each step. Returns how many facts were appended;
    /// `handle` says whether it has appended one.
    fn each_due(
        &mut self,
        (budget, steps): (usize, &mut Steps),
        pop: impl Fn(&mut Self) -> Option<u32>,
        mut handle: impl FnMut(&mut Self, u32) -> bool,
    ) -> usize {
        let mut appended = 0;
        while appended < budget && steps.take() {
            let Some(slot) = pop(self) else { break };
            appended += usize::from(handle(self, slot));
        }
        appended
    }
}
