//! What time alone brings: time-outs, reconnects, Ctrl-C, giving up. Every few milliseconds a worker looks at
//! all of its connections.

use std::cmp::Reverse;
use std::io;
use std::sync::atomic::Ordering;

use super::Worker;
use crate::clock::nanos;
use crate::engine::conn::{Lane, Op, Phase};
use crate::meaning::{Acked, Code};

/// Losses in a row after which a connection is not just one that idled too long.
const LOSSES_HOPELESS: u32 = 3;
/// Time between two looks at deadlines, in nanoseconds.
const SWEEP_NS: u64 = 5_000_000;

impl Worker<'_> {
    /// Looks at all that time brings: Ctrl-C, time-outs, reconnects, giving up.
    pub(super) fn sweep(&mut self) {
        self.sweep_ns = self.now_ns + SWEEP_NS;
        self.publish();
        if self.stop.load(Ordering::Relaxed) && !self.is_cut_short() {
            self.cut_short();
        }
        for index in 0..self.conns.len() {
            self.sweep_conn(index);
        }
        if self.is_hopeless() {
            self.gave_up = Some(std::mem::take(&mut self.last_error));
        }
    }

    pub(super) fn sweep_conn(&mut self, index: usize) {
        let (now_ns, timeout_ns) = (self.now_ns, nanos(self.config.timeout));
        let keeps_alive = self.keeps_alive(index);
        let conn = &mut self.conns[index];
        match conn.phase {
            Phase::Down { until_ns } if until_ns <= now_ns && !keeps_alive => {
                conn.phase = Phase::Parked;
                // Until now the server had hung up on it.
                conn.free_ns = now_ns;
                self.make_roomy(index);
            }
            Phase::Down { until_ns } if until_ns <= now_ns => {
                self.tally.reconnects += u64::from(conn.losses > 0);
                self.connect(index);
            }
            Phase::Connecting { since_ns } if since_ns + timeout_ns <= now_ns => {
                self.lose(index, Code::TimedOut, Some(&io::ErrorKind::TimedOut.into()));
            }
            Phase::Up if conn.under_way.front().is_some_and(|op| op.sent_ns + timeout_ns <= now_ns) => {
                self.lose(index, Code::TimedOut, None);
            }
            _ => {}
        }
    }

    /// No response for longer than the patience, and each connection lost again and again since:
    /// a server that accepts and hangs up is as gone as one that refuses.
    pub(super) fn is_hopeless(&self) -> bool {
        let patience_ns = nanos(self.config.ride_out.max(self.config.timeout));
        let silent_ns = self.now_ns.saturating_sub(self.silent_since_ns);
        let mut public = self.conns.iter().filter(|conn| conn.lane == Lane::Public);
        silent_ns > patience_ns && public.all(|conn| conn.losses >= LOSSES_HOPELESS)
    }

    pub(super) fn is_cut_short(&self) -> bool {
        self.cut_ns != u64::MAX
    }

    /// Ctrl-C: nothing new begins, what is under way may end, and nobody waits for later any more.
    pub(super) fn cut_short(&mut self) {
        self.cut_ns = self.now_ns + nanos(self.config.timeout);
        let over_ns = self.tally.over_ns;
        self.tally.over_ns = if over_ns == 0 { self.now_ns } else { over_ns.min(self.now_ns) };
        self.pace.stop();
        let is_later = |op: &Op| op.attempts == 0 && op.not_before_ns > self.now_ns;
        let waiting = self.lanes.iter_mut().flat_map(|queue| queue.waiting.drain());
        let (later, soon): (Vec<Op>, Vec<Op>) = waiting.map(|Reverse(op)| op).partition(is_later);
        let later = later.into_iter().chain(self.solving.drain().map(|(_, op)| op)).collect::<Vec<_>>();
        for op in later {
            self.end(&op, Code::Unsent, Acked::default());
        }
        for op in soon {
            self.let_wait(op);
        }
    }
}
