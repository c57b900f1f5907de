//! Which request goes out next on which connection: retries and next steps that have waited long enough,
//! else what the schedule says is due.
//!
//! Next: [`crate::engine::pace`] for the schedule, `worker/sockets.rs` for the sending.

use std::cmp::Reverse;

use super::Worker;
use crate::engine::conn::{Lane, Op};
use crate::engine::flow;
use crate::engine::pace::Due;
use crate::engine::step::Step;
use crate::workload::{Flow, mix, unit};

impl Worker<'_> {
    /// Gives connections with room what is due, the one that has waited longest first.
    pub(super) fn feed_roomy(&mut self, lane: Lane) {
        while self.next_due_ns(lane) <= self.now_ns {
            let Some(index) = self.lanes[lane as usize].roomy.pop_front() else { return };
            self.conns[index].queued = false;
            self.feed(index);
        }
    }

    /// When the next request of a lane is due; the far future if there is none.
    pub(super) fn next_due_ns(&self, lane: Lane) -> u64 {
        let due_ns = match lane {
            Lane::Public => self.pace.next_ns(self.now_ns).unwrap_or(u64::MAX),
            Lane::Shop => u64::MAX,
        };
        due_ns.min(self.lanes[lane as usize].due_ns())
    }

    /// Sends what is due on one connection, as far as it has room, in one call.
    pub(super) fn feed(&mut self, index: usize) {
        // In the open loop one at a time, so that requests spread over the connections.
        let batch = if self.config.mode.is_open() { 1 } else { usize::MAX };
        let room = self.room(index);
        self.outbox.clear();
        let mut taken = 0;
        while taken < room.min(batch)
            && let Some(mut op) = self.next_op(index)
        {
            self.write(&op);
            op.purchase_sent |= op.step == Step::Purchase;
            self.conns[index].under_way.push_back(op);
            taken += 1;
        }
        self.under_way += taken;
        self.tally.sent += taken as u64;
        if room > taken {
            self.make_roomy(index);
        }
        if taken > 0 {
            self.send(index);
        }
    }

    /// The next thing to send on this connection: what has waited long enough, else what is due.
    pub(super) fn next_op(&mut self, index: usize) -> Option<Op> {
        let now_ns = self.now_ns;
        let lane = self.conns[index].lane;
        let queue = &mut self.lanes[lane as usize];
        if queue.due_ns() <= now_ns {
            let Reverse(op) = queue.waiting.pop()?;
            return Some(Op { sent_ns: now_ns, attempts: op.attempts + 1, ..op });
        }
        let due = if lane == Lane::Public { self.pace.take(now_ns)? } else { return None };
        if self.config.mode.is_open() {
            let possible_ns = due.intended_ns.max(self.conns[index].free_ns);
            self.tally.lag.saturating_record(now_ns.saturating_sub(possible_ns));
        }
        Some(self.begin_flow(due))
    }

    /// The first request of a buyer's flow; who clicks twice and who only looks joins in.
    pub(super) fn begin_flow(&mut self, due: Due) -> Op {
        let workload = &self.config.workload;
        self.tally.timeline.due(due.intended_ns, self.purchases_of(due.purchase));
        let op = Op {
            not_before_ns: 0,
            intended_ns: due.intended_ns,
            ready_ns: due.intended_ns,
            step: if workload.flow == Flow::Whole { Step::State } else { Step::Purchase },
            invoked_ns: self.now_ns,
            sent_ns: self.now_ns,
            doubt_ns: 0,
            purchase: due.purchase,
            attempts: 1,
            shared_key: due.shared_key,
            purchase_sent: false,
            doubted: false,
            solved: false,
            replayed: false,
            draws_ns: 0,
            order_id: 0,
            text: None,
        };
        if workload.double_click > 0.0 && self.draw() < workload.double_click {
            self.tally.timeline.due(due.intended_ns, 1);
            self.let_wait(Op { attempts: 0, ..op.clone() });
        }
        if workload.browse > 0.0 {
            let pages = (workload.browse + self.draw()).floor() as u32;
            for _ in 0..pages {
                self.let_wait(Op { attempts: 0, step: Step::Browse, ..op.clone() });
            }
        }
        op
    }

    pub(super) fn write(&mut self, op: &Op) {
        let Self { requests, outbox: out, batches, .. } = self;
        if let Some(batches) = batches {
            return batches.write(op.purchase, op.step == Step::Pay, out);
        }
        match op.step {
            Step::Purchase if !self.config.workload.is_purchase() => requests.raw(out),
            Step::Purchase => requests.purchase(op.purchase, op.text.as_deref(), out),
            // Done on another thread; nothing is sent.
            Step::Solve => {}
            Step::State | Step::Browse => requests.page(op.purchase, out),
            Step::Challenge => requests.challenge(op.purchase, out),
            Step::Ticket => requests.ticket(op.purchase, op.text.as_deref(), out),
            Step::Wait => requests.wait(op.purchase, op.order_id, flow::WAIT_MS, out),
            Step::Draw => requests.wait(op.purchase, op.order_id, 0, out),
            Step::Pay => requests.pay(op.purchase, op.order_id, out),
            Step::Cancel => requests.cancel(op.purchase, op.order_id, out),
        }
    }

    pub(super) fn let_wait(&mut self, op: Op) {
        // Whoever sends batches pays by batch, too.
        let lane = if self.batches.is_some() { Lane::Public } else { op.lane() };
        self.lanes[lane as usize].waiting.push(Reverse(op));
    }

    /// The next number of the dice, 0 to 1.
    pub(super) fn draw(&mut self) -> f64 {
        self.dice = mix(self.dice);
        unit(self.dice)
    }
}
