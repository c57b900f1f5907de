//! What one thread counted, and how the threads' counts become one.
//!
//! Plain values; a thread owns its own. Next: [`crate::report`], which shows them.

use hdrhistogram::Histogram;

use super::histogram::histogram;
use super::step::{Step, StepTally};
use super::timeline::Timeline;
use crate::meaning::{CODES, Class, Code};

/// Statuses that are counted one by one.
const STATUSES: usize = 600;

/// Counts and latencies of a run, or of one thread of it.
#[derive(Clone)]
pub struct Tally {
    /// Ends by code.
    pub by_code: [u64; CODES],
    /// Attempts that were tried again, by what they met.
    pub tried_again: [u64; CODES],
    /// Responses by HTTP status.
    pub by_status: Vec<u64>,
    /// Requests sent, retries included.
    pub sent: u64,
    /// Ends that came after the run's last moment.
    pub late: u64,
    /// Connections made after the first ones.
    pub reconnects: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// When the last end came, in nanoseconds since the run was set up.
    pub last_done_ns: u64,
    /// When requests began to be due, on the same clock.
    pub begin_ns: u64,
    /// When no more were due, on the same clock.
    pub over_ns: u64,
    /// CPU time of the generator's threads, in nanoseconds.
    pub cpu_ns: u64,
    /// How long its threads were ready to run and waited for a processor, in nanoseconds; `None` if the
    /// kernel does not count it.
    pub queued_ns: Option<u64>,
    /// How long they overslept, in nanoseconds.
    pub overslept_ns: u64,
    /// The longest time for which one of them did not look at its connections, in nanoseconds.
    pub stall_ns_max: u64,
    /// How late the generator itself sent, in nanoseconds: from when a request was due and a connection free.
    pub lag: Histogram<u64>,
    /// Counts and latencies slice by slice.
    pub timeline: Timeline,
    by_class: [Histogram<u64>; 4],
    steps: [StepTally; Step::ALL.len()],
}

impl Default for Tally {
    fn default() -> Self {
        let lag = histogram();
        let by_class = std::array::from_fn(|_| lag.clone());
        let (by_code, tried_again, by_status) = ([0; CODES], [0; CODES], vec![0; STATUSES]);
        let (sent, late, reconnects, received_bytes) = (0, 0, 0, 0);
        let (last_done_ns, begin_ns, over_ns, cpu_ns) = (0, u64::MAX, 0, 0);
        Self {
            by_code,
            tried_again,
            by_status,
            sent,
            late,
            reconnects,
            received_bytes,
            last_done_ns,
            begin_ns,
            over_ns,
            cpu_ns,
            queued_ns: None,
            overslept_ns: 0,
            stall_ns_max: 0,
            lag,
            timeline: Timeline::default(),
            by_class,
            steps: std::array::from_fn(|_| StepTally::default()),
        }
    }
}

impl Tally {
    /// Counts the end of a purchase at `now_ns` and its latency.
    pub(crate) fn end(&mut self, now_ns: u64, code: Code, latency_ns: u64) {
        self.end_all(now_ns, code, latency_ns, 1);
    }
    /// Counts the end of `count` purchases of one request.
    pub(crate) fn end_all(&mut self, now_ns: u64, code: Code, latency_ns: u64, count: u64) {
        self.by_code[code as usize] += count;
        self.timeline.end(now_ns, code, latency_ns, count);
        self.by_class[code.class() as usize].saturating_record_n(latency_ns, count);
    }
    /// Counts the end of a request around a purchase.
    pub(crate) fn step_end(&mut self, step: Step, code: Code, latency_ns: u64) {
        self.step_end_all(step, code, latency_ns, 1);
    }
    /// Counts the end of `count` of them in one request.
    pub(crate) fn step_end_all(&mut self, step: Step, code: Code, latency_ns: u64, count: u64) {
        self.steps[step as usize].end(code, latency_ns, count);
    }
    /// What came of the requests of one kind; of [`Step::Purchase`] it knows the purchases'
    /// own part of a longer flow only.
    pub const fn step(&self, step: Step) -> &StepTally {
        &self.steps[step as usize]
    }
    pub(crate) fn status(&mut self, status: u16) {
        self.by_status[usize::from(status).min(STATUSES - 1)] += 1;
    }
    /// How many ended with this code.
    pub const fn count(&self, code: Code) -> u64 {
        self.by_code[code as usize]
    }
    /// How many ended in this class.
    pub fn class_count(&self, class: Class) -> u64 {
        Code::ALL.iter().filter(|code| code.class() == class).map(|&code| self.count(code)).sum()
    }
    /// All that came to an end, unsent ones included.
    pub fn total(&self) -> u64 {
        self.by_code.iter().sum()
    }
    /// Latencies of one class, in nanoseconds.
    pub const fn latency(&self, class: Class) -> &Histogram<u64> {
        &self.by_class[class as usize]
    }
    /// Latencies of everything, time-outs and unsent requests included, in nanoseconds.
    pub fn latency_all(&self) -> Histogram<u64> {
        let mut all = histogram();
        for part in &self.by_class {
            all.add(part).expect("all histograms have the same bounds");
        }
        all
    }
    /// Length of the run: from the first due moment to the last, or to the last response if that came earlier.
    pub fn elapsed_ns(&self) -> u64 {
        let end_ns = if self.over_ns == 0 { self.last_done_ns } else { self.over_ns.min(self.last_done_ns) };
        end_ns.saturating_sub(self.begin_ns).max(1)
    }
    /// Adds what another thread counted.
    pub(crate) fn absorb(&mut self, other: &Self) {
        let add = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        add(&mut self.by_code, &other.by_code);
        add(&mut self.tried_again, &other.tried_again);
        add(&mut self.by_status, &other.by_status);
        self.sent += other.sent;
        self.late += other.late;
        self.reconnects += other.reconnects;
        self.received_bytes += other.received_bytes;
        self.cpu_ns += other.cpu_ns;
        self.queued_ns = match (self.queued_ns, other.queued_ns) {
            (Some(ours), Some(theirs)) => Some(ours + theirs),
            (ours, theirs) => ours.or(theirs),
        };
        self.overslept_ns += other.overslept_ns;
        self.stall_ns_max = self.stall_ns_max.max(other.stall_ns_max);
        self.last_done_ns = self.last_done_ns.max(other.last_done_ns);
        self.begin_ns = self.begin_ns.min(other.begin_ns);
        self.over_ns = self.over_ns.max(other.over_ns);
        self.timeline.absorb(&other.timeline);
        self.steps.iter_mut().zip(&other.steps).for_each(|(to, from)| to.absorb(from));
        let same = "all histograms have the same bounds";
        self.lag.add(&other.lag).expect(same);
        for (to, from) in self.by_class.iter_mut().zip(&other.by_class) {
            to.add(from).expect(same);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::histogram::LATENCY_NS_MAX;
    use super::*;

    #[test]
    fn parts_add_up() {
        let mut sum = Tally::default();
        for ms in 1..=100u64 {
            let mut part = Tally::default();
            part.end(0, if ms <= 50 { Code::Won } else { Code::SoldOut }, ms * 1_000_000);
            sum.absorb(&part);
        }
        assert_eq!((sum.total(), sum.class_count(Class::Winner), sum.count(Code::SoldOut)), (100, 50, 50));
        let all = sum.latency_all();
        let near = |ns: u64, ms: u64| ns.abs_diff(ms * 1_000_000) < ms * 1_000;
        assert!(near(all.value_at_quantile(0.5), 50) && near(all.value_at_quantile(0.99), 99));
        assert!(near(sum.latency(Class::Winner).max(), 50));
        sum.end(0, Code::TimedOut, u64::MAX);
        assert!(sum.latency_all().max() >= LATENCY_NS_MAX, "what is beyond the scale still counts");
    }
}
