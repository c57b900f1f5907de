//! The requests that surround a purchase: what each is called and what came of them.
//!
//! The purchase itself is counted by [`super::Tally`]; these are counted apart, so that a
//! cheap page never flatters a purchase. Next: `engine/worker.rs`, which sends them.

use hdrhistogram::Histogram;

use super::histogram::histogram;
use crate::meaning::{CODES, Class, Code};

/// One kind of request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Step {
    /// The item's page, as part of a buyer's flow to an order.
    State,
    /// A challenge to solve.
    Challenge,
    /// Solving it, on a thread of the generator: no request, and none of the server's time.
    Solve,
    /// A ticket to buy with.
    Ticket,
    /// The purchase itself.
    Purchase,
    /// Waiting for an order that was accepted and is not durable yet.
    Wait,
    /// Waiting for the draw that an entry takes part in.
    Draw,
    /// The payment, which the shop's payment service reports.
    Pay,
    /// The buyer calls the order off.
    Cancel,
    /// The item's page, by somebody who only looks.
    Browse,
}

impl Step {
    /// All of them, in the order of a buyer's flow.
    pub const ALL: [Self; 10] = [
        Self::State,
        Self::Challenge,
        Self::Solve,
        Self::Ticket,
        Self::Purchase,
        Self::Wait,
        Self::Draw,
        Self::Pay,
        Self::Cancel,
        Self::Browse,
    ];
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Challenge => "challenge",
            Self::Solve => "solve",
            Self::Ticket => "ticket",
            Self::Purchase => "purchase",
            Self::Wait => "wait",
            Self::Draw => "draw",
            Self::Pay => "pay",
            Self::Cancel => "cancel",
            Self::Browse => "browse",
        }
    }
}

/// What came of one kind of request.
#[derive(Clone)]
pub struct StepTally {
    /// Ends by code.
    pub by_code: [u64; CODES],
    /// Latencies, in nanoseconds, each from when this request could have been sent.
    pub latency: Histogram<u64>,
}

impl Default for StepTally {
    fn default() -> Self {
        Self { by_code: [0; CODES], latency: histogram() }
    }
}

impl StepTally {
    /// How many came to an end.
    pub fn total(&self) -> u64 {
        self.by_code.iter().sum()
    }
    /// How many ended in this class.
    pub fn class_count(&self, class: Class) -> u64 {
        Code::ALL.iter().filter(|code| code.class() == class).map(|&code| self.by_code[code as usize]).sum()
    }
    pub(crate) fn end(&mut self, code: Code, latency_ns: u64, count: u64) {
        self.by_code[code as usize] += count;
        self.latency.saturating_record_n(latency_ns, count);
    }
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.by_code.iter_mut().zip(&other.by_code).for_each(|(to, from)| *to += from);
        self.latency.add(&other.latency).expect("all histograms have the same bounds");
    }
}
