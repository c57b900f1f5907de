//! Batches in the engine: each request ends many purchases, and what they won may be paid in a later one.
//!
//! What is written and checked is [`crate::batch`]'s; here it is performed and counted.

use std::sync::atomic::Ordering;

use super::Worker;
use crate::engine::conn::Op;
use crate::engine::step::Step;
use crate::meaning::Code;
use crate::response::Head;

impl Worker<'_> {
    /// How many purchases the request with this number makes.
    pub(super) fn purchases_of(&self, request: u32) -> u64 {
        self.batches.as_ref().map_or(1, |batches| batches.records(request, false))
    }

    /// Takes the response to a batch.
    pub(super) fn handle_batch(&mut self, op: Op, head: Head, (at, length): (usize, usize)) {
        let pays = op.step == Step::Pay;
        let Some(batches) = &mut self.batches else { return };
        let read = batches.read((op.purchase, pays), head.status, &self.inbox[at..at + length]);
        let counts = match read {
            Ok(counts) => counts,
            Err(trouble) => {
                self.gave_up = Some(trouble.to_string());
                self.trouble = Some(trouble);
                // Nor do the other threads go on.
                self.stop.store(true, Ordering::Relaxed);
                return;
            }
        };
        let to_pay = batches.records(op.purchase, true);
        for (code, count) in [(Code::Won, counts.won), (Code::SoldOut, counts.sold_out)] {
            self.end_records(&op, code, count);
        }
        if pays {
            self.end_records(&op, Code::Ok, counts.paid);
        } else if to_pay > 0 {
            let ready_ns = self.now_ns;
            self.let_wait(Op { step: Step::Pay, not_before_ns: ready_ns, ready_ns, attempts: 0, ..op });
        }
    }

    /// The end of a batch whose response did not come.
    pub(super) fn end_without_response(&mut self, op: &Op, code: Code) {
        let pays = op.step == Step::Pay;
        let count = self.batches.as_ref().map_or(0, |batches| batches.records(op.purchase, pays));
        self.end_records(op, code, count);
    }

    fn end_records(&mut self, op: &Op, code: Code, count: u64) {
        if count == 0 {
            return;
        }
        if op.step == Step::Pay {
            let took_ns = self.now_ns.saturating_sub(op.ready_ns);
            self.tally.step_end_all(Step::Pay, code, took_ns, count);
        } else {
            self.tally.end_all(self.now_ns, code, self.now_ns.saturating_sub(op.intended_ns), count);
        }
        self.tally.last_done_ns = self.now_ns;
        let over_ns = self.tally.over_ns;
        if over_ns != 0 && self.now_ns > over_ns && op.step != Step::Pay {
            self.tally.late += count;
        }
    }
}
