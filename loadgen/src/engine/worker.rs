//! One thread of the generator: its connections, its schedule, its loop.
//!
//! ```text
//!            ┌────────── due ──────────┐
//!  Pace ─────┤                         ▼             answer        ┌─▶ winner, refusal: the end
//!            └─ retries (same key) ─▶ Conn ─▶ server ───▶ judge ───┤
//!                   ▲                  │ lost, timed out           └─▶ unknown ──┐
//!                   └──────────────────┴───────────────────────────────────────┘
//! ```
//!
//! It allocates nothing per request in the steady state and never blocks but in
//! `epoll_wait`. Next: [`super::pace`], [`super::conn`], [`super::tally`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use super::conn::{Conn, Op, Phase};
use super::pace::Pace;
use super::tally::Tally;
use super::{Mode, RunConfig};
use crate::answer::{Acked, Class, Code, Judged, judge, judge_raw};
use crate::history::{Entry, History};
use crate::request::Template;
use crate::response::{Head, RESPONSE_BYTES_MAX, Reader};
use crate::workload::mix;

/// Most requests for one purchase before it stays unknown.
const ATTEMPTS_MAX: u32 = 1_000;
/// Losses in a row after which a connection is not just one that idled too long.
const LOSSES_HOPELESS: u32 = 3;
/// First and longest pause before a retry or a reconnect, in nanoseconds.
const PAUSE_NS: (u64, u64) = (10_000_000, 500_000_000);
/// Longest sleep, in nanoseconds: Ctrl-C is seen this soon.
const SLEEP_NS_MAX: u64 = 100_000_000;
/// Time between two looks at deadlines, in nanoseconds.
const SWEEP_NS: u64 = 5_000_000;
/// Events taken per wait.
const EVENTS_MAX: usize = 256;
/// Bytes received per call.
const RECEIVE_BYTES: usize = 256 * 1024;

/// What a thread tells while it runs: written by its worker once per wake, read by the progress line;
/// Relaxed, since each figure stands for itself.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Live {
    pub(crate) winners: AtomicU64,
    pub(crate) refusals: AtomicU64,
    pub(crate) doubts: AtomicU64,
}

/// What a thread leaves behind.
pub(crate) struct Share {
    pub(crate) tally: Tally,
    pub(crate) history: Option<History>,
    pub(crate) gave_up: Option<String>,
}

/// The last refusal, so that the same words need not be read a million times.
#[derive(Default)]
struct LastRefusal {
    status: u16,
    body: Vec<u8>,
    code: Option<Code>,
}

/// One thread of the generator.
pub(crate) struct Worker<'a> {
    config: &'a RunConfig,
    live: &'a Live,
    stop: &'a AtomicBool,
    clock: Instant,
    now_ns: u64,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    conns: Vec<Conn>,
    roomy: VecDeque<usize>,
    retries: BinaryHeap<Reverse<Op>>,
    under_way: usize,
    up: usize,
    silent_since_ns: u64,
    sweep_ns: u64,
    cut_ns: u64,
    dice: u64,
    last_error: String,
    pace: Pace,
    template: Template,
    reader: Reader,
    last_refusal: LastRefusal,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    tally: Tally,
    history: Option<History>,
    gave_up: Option<String>,
}

impl<'a> Worker<'a> {
    /// A thread with its share of the connections, none of them open yet.
    pub(crate) fn new(
        config: &'a RunConfig,
        template: Template,
        thread: u64,
        clock: Instant,
        (live, stop): (&'a Live, &'a AtomicBool),
    ) -> io::Result<Self> {
        let threads = u64::from(config.threads);
        let connections = u64::from(config.connections);
        let own = (connections / threads + u64::from(thread < connections % threads)) as usize;
        let history = config.history_wanted();
        let quiet = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        Ok(Self {
            config,
            live,
            stop,
            clock,
            now_ns: 0,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: vec![quiet; EVENTS_MAX],
            conns: (0..own).map(|_| Conn::new(config.pipeline as usize)).collect(),
            roomy: VecDeque::with_capacity(own),
            retries: BinaryHeap::new(),
            under_way: 0,
            up: 0,
            silent_since_ns: 0,
            sweep_ns: 0,
            cut_ns: u64::MAX,
            dice: mix(config.workload.seed ^ thread),
            last_error: String::new(),
            pace: Pace::new(config.mode, &config.workload, thread, threads, config.requests),
            template,
            reader: Reader::default(),
            last_refusal: LastRefusal::default(),
            inbox: vec![0; RECEIVE_BYTES],
            outbox: Vec::new(),
            tally: Tally::default(),
            history,
            gave_up: None,
        })
    }

    /// Opens the connections before the clock of the schedule starts, within the time-out.
    pub(crate) fn warm_up(&mut self) {
        self.now_ns = self.read_clock();
        let until_ns = self.now_ns + nanos(self.config.timeout);
        while self.up < self.conns.len() && self.now_ns < until_ns && !self.stop.load(Ordering::Relaxed) {
            self.sweep();
            self.wait(self.sweep_ns);
        }
    }

    /// Runs the schedule to its end and every purchase to its own.
    pub(crate) fn run(mut self) -> Share {
        self.begin();
        loop {
            self.feed_roomy();
            if self.is_done() {
                break;
            }
            self.wait(self.wake_ns());
            if self.now_ns >= self.sweep_ns {
                self.sweep();
            }
        }
        self.close_books()
    }

    fn begin(&mut self) {
        self.now_ns = self.read_clock();
        let end_ns = self.config.duration.map_or(u64::MAX, |length| self.now_ns + nanos(length));
        self.pace.window(self.now_ns, end_ns);
        self.tally.begin_ns = self.now_ns;
        self.tally.over_ns = if end_ns == u64::MAX { 0 } else { end_ns };
        self.silent_since_ns = self.now_ns;
    }

    fn is_done(&self) -> bool {
        let idle = self.under_way == 0 && self.retries.is_empty();
        (idle && self.pace.is_over(self.now_ns)) || self.now_ns >= self.cut_ns || self.gave_up.is_some()
    }

    /// What is still open when the loop ends: unknowns stay unknown, backlog was never sent.
    fn close_books(mut self) -> Share {
        let left: Vec<Op> = self.conns.iter_mut().flat_map(|conn| conn.under_way.drain(..)).collect();
        let left: Vec<Op> = left.into_iter().chain(self.retries.drain().map(|Reverse(op)| op)).collect();
        for op in left {
            self.end(&op, Code::TimedOut, Acked::default());
        }
        let over_ns = if self.tally.over_ns == 0 { self.now_ns } else { self.tally.over_ns.min(self.now_ns) };
        if self.config.mode != Mode::Closed {
            while let Some(due) = self.pace.take_backlog(over_ns) {
                self.tally.end(Code::Unsent, over_ns.saturating_sub(due.intended_ns));
            }
        }
        self.publish();
        self.tally.cpu_ns = thread_cpu_ns();
        Share { tally: self.tally, history: self.history, gave_up: self.gave_up }
    }

    fn read_clock(&self) -> u64 {
        nanos(self.clock.elapsed())
    }

    /// When to wake if no socket does it before.
    fn wake_ns(&self) -> u64 {
        let mut wake_ns = self.sweep_ns.min(self.now_ns + SLEEP_NS_MAX);
        if !self.roomy.is_empty() {
            let due_ns = self.pace.next_ns(self.now_ns).unwrap_or(u64::MAX);
            let retry_ns = self.retries.peek().map_or(u64::MAX, |Reverse(op)| op.not_before_ns);
            wake_ns = wake_ns.min(due_ns).min(retry_ns);
        }
        wake_ns
    }

    fn wait(&mut self, wake_ns: u64) {
        let nap = Duration::from_nanos(wake_ns.saturating_sub(self.read_clock()));
        let nap = Timespec { tv_sec: nap.as_secs() as i64, tv_nsec: i64::from(nap.subsec_nanos()) };
        let mut events = std::mem::take(&mut self.events);
        let count = epoll::wait(&self.epoll, &mut events[..], Some(&nap)).unwrap_or(0);
        self.now_ns = self.read_clock();
        for event in &events[..count] {
            let flags = event.flags;
            self.handle_event(event.data.u64() as usize, flags);
        }
        self.events = events;
    }

    fn publish(&self) {
        let sum = |class| self.tally.class_count(class);
        self.live.winners.store(sum(Class::Winner), Ordering::Relaxed);
        self.live.refusals.store(sum(Class::Refusal), Ordering::Relaxed);
        self.live.doubts.store(self.tally.tried_again.iter().sum(), Ordering::Relaxed);
    }

    fn handle_event(&mut self, index: usize, flags: epoll::EventFlags) {
        match self.conns[index].phase {
            Phase::Down { .. } => {}
            Phase::Connecting { .. } => self.handle_opened(index),
            Phase::Up => {
                if flags.contains(epoll::EventFlags::OUT) {
                    self.handle_writable(index);
                }
                if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                    self.handle_readable(index);
                }
            }
        }
    }

    fn handle_opened(&mut self, index: usize) {
        let now_ns = self.now_ns;
        match self.conns[index].opened(self.epoll.as_fd(), index as u64, now_ns) {
            Ok(()) => {
                self.up += 1;
                self.make_roomy(index);
            }
            Err(error) => self.lose(index, Code::Reset, Some(&error)),
        }
    }

    fn handle_writable(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        match conn.send(&conn.unsent) {
            Ok(count) => {
                conn.unsent.drain(..count);
                let more = !conn.unsent.is_empty();
                if !more && let Err(error) = conn.want_write(self.epoll.as_fd(), index as u64, false) {
                    self.lose(index, Code::Reset, Some(&error));
                } else if !more {
                    self.feed(index);
                }
            }
            Err(error) => self.lose(index, Code::Reset, Some(&error)),
        }
    }

    fn handle_readable(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        let kept = conn.partial.len();
        if self.inbox.len() - kept < RECEIVE_BYTES / 2 {
            self.inbox.resize(self.inbox.len() + RECEIVE_BYTES, 0);
        }
        self.inbox[..kept].copy_from_slice(&conn.partial);
        conn.partial.clear();
        match conn.recv(&mut self.inbox[kept..]) {
            Ok(None) => conn.partial.extend_from_slice(&self.inbox[..kept]),
            Ok(Some(0)) => self.lose(index, Code::Reset, None),
            Ok(Some(count)) => {
                self.tally.received_bytes += count as u64;
                self.handle_bytes(index, kept + count);
            }
            Err(error) => self.lose(index, Code::Reset, Some(&error)),
        }
    }

    /// Takes every whole answer out of the inbox, keeps the rest, and sends what is due next.
    fn handle_bytes(&mut self, index: usize, filled: usize) {
        self.now_ns = self.read_clock();
        let was_full = self.room(index) == 0;
        let mut at = 0;
        while at < filled {
            let head = match self.reader.read(&self.inbox[at..filled]) {
                Ok(Some(head)) => head,
                Ok(None) if filled - at <= RESPONSE_BYTES_MAX => break,
                Ok(None) => return self.lose(index, Code::BadAnswer, None),
                Err(error) => return self.lose(index, Code::BadAnswer, Some(&io::Error::other(error))),
            };
            let Some(op) = self.conns[index].under_way.pop_front() else {
                let error = io::Error::other("an answer came to which there is no request");
                return self.lose(index, Code::BadAnswer, Some(&error));
            };
            self.under_way -= 1;
            self.conns[index].losses = 0;
            self.silent_since_ns = self.now_ns;
            self.handle_answer(&op, head, at);
            at += head.head_bytes + head.body_bytes;
            if head.close {
                return self.lose(index, Code::Reset, None);
            }
        }
        let (inbox, conn) = (&self.inbox, &mut self.conns[index]);
        conn.partial.extend_from_slice(&inbox[at..filled]);
        if was_full {
            conn.free_ns = self.now_ns;
        }
        self.feed(index);
    }

    fn handle_answer(&mut self, op: &Op, head: Head, at: usize) {
        self.tally.status(head.status);
        let body_at = at + head.head_bytes;
        let judged = if self.config.workload.is_purchase() {
            self.judge(head, body_at)
        } else {
            Judged { code: judge_raw(head.status), acked: Acked::default() }
        };
        match judged.code.class() {
            Class::Unknown => self.doubt(*op, judged.code),
            _ => self.end(op, judged.code, judged.acked),
        }
    }

    fn judge(&mut self, head: Head, body_at: usize) -> Judged {
        let body = &self.inbox[body_at..body_at + head.body_bytes];
        let last = &mut self.last_refusal;
        if let Some(code) = last.code
            && last.status == head.status
            && last.body == body
        {
            return Judged { code, acked: Acked::default() };
        }
        let judged = judge(head.status, head.replay, body);
        if judged.code.class() == Class::Refusal {
            last.status = head.status;
            last.body.clear();
            last.body.extend_from_slice(body);
            last.code = Some(judged.code);
        }
        judged
    }

    /// An attempt whose outcome nobody knows: once more with the same key, or unknown for good.
    fn doubt(&mut self, mut op: Op, code: Code) {
        if op.doubt_ns == 0 {
            op.doubt_ns = self.now_ns;
        }
        let patient = self.now_ns - op.doubt_ns < nanos(self.config.ride_out) && op.attempts < ATTEMPTS_MAX;
        if !self.config.workload.is_purchase() || !patient {
            return self.end(&op, code, Acked::default());
        }
        self.tally.tried_again[code as usize] += 1;
        op.not_before_ns = self.now_ns + self.pause_ns(op.attempts - 1);
        self.retries.push(Reverse(op));
    }

    fn end(&mut self, op: &Op, code: Code, acked: Acked) {
        self.tally.end(code, self.now_ns.saturating_sub(op.intended_ns));
        self.tally.last_done_ns = self.now_ns;
        let over_ns = self.tally.over_ns;
        self.tally.late += u64::from(over_ns != 0 && self.now_ns > over_ns);
        let Some(history) = &mut self.history else { return };
        if code.class() == Class::Refusal && !op.shared_key {
            return history.push_refused(op.purchase, code);
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
        });
    }

    /// Doubling pauses with a quarter of jitter, so that connections do not come back in step.
    fn pause_ns(&mut self, tries: u32) -> u64 {
        let pause_ns = (PAUSE_NS.0 << tries.min(10)).min(PAUSE_NS.1);
        self.dice = mix(self.dice);
        pause_ns - self.dice % (pause_ns / 4)
    }

    /// Closes a connection. The request at its head met `code`; those behind it were cut off.
    fn lose(&mut self, index: usize, code: Code, error: Option<&io::Error>) {
        if let Some(error) = error {
            self.last_error = error.to_string();
        }
        if self.conns[index].phase == Phase::Up {
            self.up -= 1;
        }
        let losses = self.conns[index].losses;
        // The first time it comes straight back: servers may close idle connections.
        let until_ns = if losses == 0 { self.now_ns } else { self.now_ns + self.pause_ns(losses - 1) };
        self.conns[index].losses += 1;
        self.conns[index].close(until_ns);
        self.sweep_ns = self.sweep_ns.min(until_ns.max(self.now_ns + 1));
        let mut met = code;
        while let Some(op) = self.conns[index].under_way.pop_front() {
            self.under_way -= 1;
            self.doubt(op, met);
            met = Code::Reset;
        }
    }

    fn make_roomy(&mut self, index: usize) {
        if !self.conns[index].queued {
            self.conns[index].queued = true;
            self.roomy.push_back(index);
        }
    }

    /// Gives connections with room what is due, the one that has waited longest first.
    fn feed_roomy(&mut self) {
        while self.next_is_due() {
            let Some(index) = self.roomy.pop_front() else { return };
            self.conns[index].queued = false;
            self.feed(index);
        }
    }

    fn next_is_due(&self) -> bool {
        let retry = self.retries.peek().is_some_and(|Reverse(op)| op.not_before_ns <= self.now_ns);
        retry || self.pace.next_ns(self.now_ns).is_some_and(|due_ns| due_ns <= self.now_ns)
    }

    /// Sends what is due on one connection, as far as it has room, in one call.
    fn feed(&mut self, index: usize) {
        // In the open loop one at a time, so that requests spread over the connections.
        let batch = if self.config.mode == Mode::Closed { usize::MAX } else { 1 };
        let room = self.room(index);
        self.outbox.clear();
        let mut taken = 0;
        while taken < room.min(batch)
            && let Some(op) = self.next_op(index)
        {
            self.template.append(op.purchase, &mut self.outbox);
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

    fn room(&self, index: usize) -> usize {
        let conn = &self.conns[index];
        let usable = conn.phase == Phase::Up && conn.unsent.is_empty();
        if usable { self.config.pipeline as usize - conn.under_way.len() } else { 0 }
    }

    /// The next thing to send on this connection: a retry that has waited long enough, else what is due.
    fn next_op(&mut self, index: usize) -> Option<Op> {
        let now_ns = self.now_ns;
        if self.retries.peek().is_some_and(|Reverse(op)| op.not_before_ns <= now_ns) {
            let Reverse(op) = self.retries.pop()?;
            return Some(Op { sent_ns: now_ns, attempts: op.attempts + 1, ..op });
        }
        let due = self.pace.take(now_ns)?;
        if self.config.mode != Mode::Closed {
            let possible_ns = due.intended_ns.max(self.conns[index].free_ns);
            self.tally.lag.saturating_record(now_ns.saturating_sub(possible_ns));
        }
        Some(Op {
            not_before_ns: 0,
            intended_ns: due.intended_ns,
            invoked_ns: now_ns,
            sent_ns: now_ns,
            doubt_ns: 0,
            purchase: due.purchase,
            attempts: 1,
            shared_key: due.shared_key,
        })
    }

    fn send(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        match conn.send(&self.outbox) {
            Ok(count) if count == self.outbox.len() => {}
            Ok(count) => {
                conn.unsent.extend_from_slice(&self.outbox[count..]);
                if let Err(error) = conn.want_write(self.epoll.as_fd(), index as u64, true) {
                    self.lose(index, Code::Reset, Some(&error));
                }
            }
            Err(error) => self.lose(index, Code::Reset, Some(&error)),
        }
    }

    /// Looks at all that time brings: Ctrl-C, time-outs, reconnects, giving up.
    fn sweep(&mut self) {
        self.sweep_ns = self.now_ns + SWEEP_NS;
        self.publish();
        if self.stop.load(Ordering::Relaxed) && self.cut_ns == u64::MAX {
            self.cut_ns = self.now_ns + nanos(self.config.timeout);
            let over_ns = self.tally.over_ns;
            self.tally.over_ns = if over_ns == 0 { self.now_ns } else { over_ns.min(self.now_ns) };
            self.pace.stop();
        }
        for index in 0..self.conns.len() {
            self.sweep_conn(index);
        }
        if self.is_hopeless() {
            self.gave_up = Some(std::mem::take(&mut self.last_error));
        }
    }

    /// No answer for longer than the patience, and each connection lost again and again since:
    /// a server that accepts and hangs up is as gone as one that refuses.
    fn is_hopeless(&self) -> bool {
        let patience_ns = nanos(self.config.ride_out.max(self.config.timeout));
        let silent_ns = self.now_ns.saturating_sub(self.silent_since_ns);
        silent_ns > patience_ns && self.conns.iter().all(|conn| conn.losses >= LOSSES_HOPELESS)
    }

    fn sweep_conn(&mut self, index: usize) {
        let (now_ns, timeout_ns) = (self.now_ns, nanos(self.config.timeout));
        let conn = &mut self.conns[index];
        match conn.phase {
            Phase::Down { until_ns } if until_ns <= now_ns => {
                self.tally.reconnects += u64::from(conn.losses > 0);
                if let Err(error) = conn.open(self.epoll.as_fd(), index as u64, self.config.addr, now_ns) {
                    self.lose(index, Code::Reset, Some(&error));
                }
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
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
}

fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
