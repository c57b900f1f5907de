//! What a response brings about: the end of a purchase, its next step, or the same once more.
//!
//! The decisions are [`flow`]'s; here they are performed and counted. Next: [`super::super::tally`].

use super::Worker;
use crate::clock::nanos;
use crate::engine::conn::Op;
use crate::engine::flow::{self, Next, Response, Then};
use crate::engine::solver::Puzzle;
use crate::engine::step::Step;
use crate::history::Entry;
use crate::meaning::{
    Acked, Class, Code, Meaning, meaning_of_status, meaning_of_step, number_after, text_after,
};
use crate::response::Head;
use crate::workload::{Fate, Flow};

/// Most requests for one step before it stays unknown.
const ATTEMPTS_MAX: u32 = 1_000;
/// The longest pause between two looks at an entry that was not drawn yet.
const DRAW_PAUSE_TRIES: u32 = 10;
/// Within this time of the draw all its entrants come to look, in nanoseconds.
const DRAW_SPREAD_NS: u64 = 1_000_000_000;
/// How long after the end of a hold a late payer pays, in nanoseconds.
const LATE_NS: u64 = 1_000_000_000;

impl Worker<'_> {
    /// Takes the response that begins at `at` in the inbox.
    pub(super) fn handle_response(&mut self, op: Op, head: Head, at: usize) {
        self.tally.status(head.status);
        let body = (at + head.head_bytes, head.body_bytes);
        if self.batches.is_some() {
            return self.handle_batch(op, head, body);
        }
        match op.step {
            Step::Purchase if !self.config.workload.is_purchase() => {
                self.end(&op, meaning_of_status(head.status), Acked::default());
            }
            Step::Purchase if self.config.workload.flow == Flow::Purchase => {
                let known = self.known_refusal(head, body);
                match known {
                    Some(code) => self.refuse(op, code),
                    None => self.handle_step(op, head, body),
                }
            }
            Step::Pay | Step::Cancel | Step::Browse => match meaning_of_step(head.status, self.body(body)) {
                code if code.class() == Class::Unknown => self.doubt(op, code),
                code => self.end(&op, code, Acked::default()),
            },
            Step::Draw => self.handle_draw(op, head, body),
            _ => self.handle_step(op, head, body),
        }
    }

    /// An entry's buyer looks whether it was drawn.
    fn handle_draw(&mut self, op: Op, head: Head, body: (usize, usize)) {
        let response = Response { status: head.status, replay: false, body: self.body(body) };
        match flow::after_draw(response) {
            None => {
                let not_before_ns = self.now_ns + self.pause_ns(DRAW_PAUSE_TRIES);
                self.wait_unless_too_late(Op { not_before_ns, doubt_ns: 0, attempts: 0, ..op });
            }
            Some(meaning) if meaning.code.class() == Class::Unknown => self.doubt(op, meaning.code),
            Some(meaning) => {
                self.end(&op, meaning.code, meaning.acked);
                if meaning.code == Code::Won {
                    self.meet_fate(&op, meaning.acked, body);
                }
            }
        }
    }

    /// Looks at the order when the draw is over; not all at the same moment.
    fn wait_for_draw(&mut self, op: &Op, order_id: u64) {
        let drawn_ns = op.draws_ns.max(self.now_ns);
        let not_before_ns = drawn_ns + (self.draw() * DRAW_SPREAD_NS as f64) as u64;
        let (ready_ns, step, text) = (drawn_ns, Step::Draw, None);
        let next =
            Op { not_before_ns, ready_ns, step, doubt_ns: 0, attempts: 0, order_id, text, ..op.clone() };
        self.wait_unless_too_late(next);
    }

    fn body(&self, (at, length): (usize, usize)) -> &[u8] {
        &self.inbox[at..at + length]
    }

    /// The meaning of a refusal, if it is word for word the last one.
    fn known_refusal(&self, head: Head, body: (usize, usize)) -> Option<Code> {
        self.last_refusal.known(head.status, self.body(body))
    }

    fn remember_refusal(&mut self, status: u16, code: Code, (at, length): (usize, usize)) {
        self.last_refusal.remember(status, &self.inbox[at..at + length], code);
    }

    fn handle_step(&mut self, op: Op, head: Head, body: (usize, usize)) {
        let replay = head.replay || op.replayed;
        let response = Response { status: head.status, replay, body: self.body(body) };
        match flow::next(op.step, response, op.solved) {
            Next::Doubt(code) => self.doubt(op, code),
            Next::Then(then) => {
                self.count_step(&op, Code::Ok);
                self.go_on(Op { replayed: replay, ..op }, then);
            }
            Next::Solve(puzzle) => {
                self.count_step(&op, Code::Ok);
                self.solve(op, puzzle);
            }
            Next::Decided(meaning) => {
                self.count_step(&op, meaning.code);
                self.decide(op, meaning, head, body);
            }
        }
    }

    /// The end of a refused purchase, unless it only could not retry an order that it may have.
    fn refuse(&mut self, op: Op, code: Code) {
        if op.doubted && code == Code::RateLimited {
            return self.doubt(op, code);
        }
        self.end(&op, code, Acked::default());
    }

    /// Has a proof of work done elsewhere; the buyer goes on when it is there.
    fn solve(&mut self, op: Op, puzzle: Puzzle) {
        self.jobs += 1;
        let op = Op { step: Step::Solve, ready_ns: self.now_ns, attempts: 0, ..op };
        self.solving.insert(self.jobs, op);
        self.pool.submit(self.jobs, puzzle, &self.desk);
    }

    /// What was solved since the last time; nobody waits any more for what is not in the list.
    pub(super) fn handle_solved(&mut self) {
        for (number, answer) in self.desk.take() {
            let Some(op) = self.solving.remove(&number) else { continue };
            match answer {
                Some(text) => {
                    self.count_step(&op, Code::Ok);
                    self.go_on(op, Then { text: Some(text), ..Then::step(Step::Ticket) });
                }
                None => {
                    self.count_step(&op, Code::ChallengeRequired);
                    self.end(&op, Code::ChallengeRequired, Acked::default());
                }
            }
        }
    }

    fn decide(&mut self, op: Op, meaning: Meaning, head: Head, body: (usize, usize)) {
        if meaning.code.class() == Class::Refusal {
            if op.step == Step::Purchase {
                self.remember_refusal(head.status, meaning.code, body);
            }
            return self.refuse(op, meaning.code);
        }
        let op = &op;
        self.end(op, meaning.code, meaning.acked);
        if meaning.code == Code::Won {
            self.meet_fate(op, meaning.acked, body);
        }
        // A retry of somebody else's looks no second time.
        let is_first = !(head.replay || op.replayed) || op.doubted;
        if meaning.code == Code::Entered && self.config.workload.flow == Flow::Whole && is_first {
            self.wait_for_draw(op, meaning.acked.order_id);
        }
    }

    /// The next step of a buyer's flow, now or at the opening.
    fn go_on(&mut self, op: Op, then: Then) {
        if op.step == Step::Wait {
            // Still not durable, or gone: the patience is that for an unknown outcome.
            let same = Op { step: then.step, ..op };
            return self.doubt(same, Code::TimedOut);
        }
        let wait_ns = then.opens_in_ms.saturating_mul(1_000_000);
        let ready_ns = self.now_ns.saturating_add(wait_ns);
        let next = Op {
            step: then.step,
            not_before_ns: ready_ns,
            ready_ns,
            // Who waits for the opening means to buy then.
            intended_ns: if wait_ns > 0 { ready_ns } else { op.intended_ns },
            // What was in doubt before has come: patience begins anew.
            doubt_ns: 0,
            attempts: 0,
            solved: op.solved || op.step == Step::Solve,
            draws_ns: match then.draws_in_ms {
                0 => op.draws_ns,
                ms => self.now_ns.saturating_add(ms.saturating_mul(1_000_000)),
            },
            order_id: then.order_id,
            text: then.text,
            ..op
        };
        self.wait_unless_too_late(next);
    }

    /// What a winner does with the order.
    fn meet_fate(&mut self, op: &Op, acked: Acked, body: (usize, usize)) {
        let workload = &self.config.workload;
        let fate = workload.fates.of(workload.seed, op.purchase);
        let body = self.body(body);
        let unpaid = matches!(text_after(body, b"\"state\":\""), Some("held" | "pending"));
        let pay_by_ms = number_after(body, b"\"pay_by_ms\":").unwrap_or(0);
        let hold_ns = pay_by_ms.saturating_sub(acked.created_at_ms).saturating_mul(1_000_000);
        let (step, in_ns) = match fate {
            Fate::Pay if unpaid => (Step::Pay, 0),
            Fate::PayLate if unpaid && pay_by_ms > 0 => (Step::Pay, hold_ns.saturating_add(LATE_NS)),
            Fate::PayLate if unpaid => (Step::Pay, 0),
            Fate::Cancel => (Step::Cancel, 0),
            _ => return,
        };
        let ready_ns = self.now_ns.saturating_add(in_ns);
        let next = Op {
            step,
            not_before_ns: ready_ns,
            ready_ns,
            doubt_ns: 0,
            attempts: 0,
            order_id: acked.order_id,
            text: None,
            ..op.clone()
        };
        self.wait_unless_too_late(next);
    }

    /// Puts it among those that wait, unless its time comes when nobody waits any more.
    fn wait_unless_too_late(&mut self, op: Op) {
        let end_ns = self.pace.end_ns().max(self.now_ns);
        let last_ns = if end_ns == u64::MAX { self.now_ns } else { end_ns };
        let is_cut = self.is_cut_short() && op.not_before_ns > self.now_ns;
        if is_cut || op.not_before_ns > last_ns.saturating_add(nanos(self.config.ride_out)) {
            return self.end(&op, Code::Unsent, Acked::default());
        }
        self.let_wait(op);
    }

    /// An attempt whose outcome nobody knows: once more with the same key, or unknown for good.
    pub(super) fn doubt(&mut self, mut op: Op, code: Code) {
        if op.doubt_ns == 0 {
            op.doubt_ns = self.now_ns;
        }
        op.doubted |= matches!(op.step, Step::Purchase | Step::Wait);
        let patient = self.now_ns - op.doubt_ns < nanos(self.config.ride_out) && op.attempts < ATTEMPTS_MAX;
        if !self.config.workload.is_purchase() || op.step == Step::Browse || !patient {
            // A retry that was refused says as little as one without a response.
            let code = if op.doubted && code.class() == Class::Refusal { Code::TimedOut } else { code };
            return self.end(&op, code, Acked::default());
        }
        self.tally.tried_again[code as usize] += 1;
        op.not_before_ns = self.now_ns + self.pause_ns(op.attempts.saturating_sub(1));
        self.let_wait(op);
    }

    /// Counts a step of a flow apart from the purchase that it is part of.
    fn count_step(&mut self, op: &Op, code: Code) {
        if self.counts_steps {
            self.tally.step_end(op.step, code, self.now_ns.saturating_sub(op.ready_ns));
        }
    }

    /// The end of a purchase, or of a request beside it.
    pub(super) fn end(&mut self, op: &Op, code: Code, acked: Acked) {
        if self.batches.is_some() {
            return self.end_without_response(op, code);
        }
        if matches!(op.step, Step::Draw | Step::Pay | Step::Cancel | Step::Browse) {
            return self.tally.step_end(op.step, code, self.now_ns.saturating_sub(op.ready_ns));
        }
        // A purchase that has left may have an order, whatever step of its flow was never sent.
        let code = if code == Code::Unsent && op.purchase_sent { Code::TimedOut } else { code };
        self.tally.end(self.now_ns, code, self.now_ns.saturating_sub(op.intended_ns));
        self.tally.last_done_ns = self.now_ns;
        let over_ns = self.tally.over_ns;
        self.tally.late += u64::from(over_ns != 0 && self.now_ns > over_ns);
        self.keep(op, code, acked);
    }

    fn keep(&mut self, op: &Op, code: Code, acked: Acked) {
        let Some(history) = &mut self.history else { return };
        match code.class() {
            Class::Unsent => return,
            // No purchase was sent: nothing here can excuse an order.
            Class::Unknown if !op.purchase_sent => return,
            // A page or a ticket was refused, which says nothing about the key.
            Class::Refusal if !op.purchase_sent => return history.push_refused(op.purchase, code),
            Class::Refusal if !op.shared_key && !op.doubted => {
                return history.push_refused(op.purchase, code);
            }
            Class::Winner | Class::Unknown | Class::Refusal => {}
        }
        let in_10us = |ns: u64| u32::try_from(ns / 10_000).unwrap_or(u32::MAX);
        history.push(Entry {
            purchase: op.purchase,
            code,
            attempts: u8::try_from(op.attempts).unwrap_or(u8::MAX),
            order_id: acked.order_id,
            quantity: acked.quantity,
            created_low: acked.created_at_ms as u32,
            invoked_10us: in_10us(op.invoked_ns),
            done_10us: in_10us(self.now_ns),
            doubted: op.doubted,
        });
    }
}
