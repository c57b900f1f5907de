//! One thread of the generator: its connections, its schedule, its loop.
//!
//! ```text
//!  Pace ── due ──▶ Conn ─▶ server ─ response ─▶ flow ─┬─▶ decided: the end, and perhaps a fate
//!                   ▲  │                              ├─▶ the next step of the flow ──┐
//!                   │  └─ lost, timed out ─▶ doubt ───┴─▶ the same once more ────────┤
//!                   └──────────────────────── waiting ◀──────────────────────────────┘
//! ```
//!
//! It allocates nothing per plain purchase in the steady state and never blocks but in
//! `epoll_wait`. What a response brings about is in `worker/responses.rs`. Next:
//! [`super::flow`], [`super::pace`], [`super::conn`], [`super::tally`].

mod batches;
mod responses;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::config::{OWN_SYSTEM, RunConfig};
use super::conn::{Conn, Lane, Op, Phase};
use super::flow;
use super::pace::{Due, Pace};
use super::refusal::LastRefusal;
use super::solver::{Desk, Pool};
use super::step::Step;
use super::tally::Tally;
use crate::batch::{Checker, Trouble};
use crate::clock::nanos;
use crate::history::History;
use crate::meaning::{Acked, Class, Code};
use crate::nap;
use crate::request::Requests;
use crate::response::Reader;
use crate::workload::{Flow, Workload, mix, unit};

/// Connections of a thread to the merchant API, if payments are reported.
const SHOP_CONNECTIONS: usize = 16;
/// Losses in a row after which a connection is not just one that idled too long.
const LOSSES_HOPELESS: u32 = 3;
/// First and longest pause before a retry or a reconnect, in nanoseconds.
const PAUSE_NS: (u64, u64) = (10_000_000, 500_000_000);
/// Longest sleep, in nanoseconds: Ctrl-C is seen this soon.
const SLEEP_NS_MAX: u64 = 100_000_000;
/// Time between two looks at deadlines, in nanoseconds.
const SWEEP_NS: u64 = 5_000_000;
/// What the bell of solved puzzles is called among events, where connections have their numbers.
const BELL: u64 = u64::MAX;
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
    pub(crate) trouble: Option<Trouble>,
}

/// What one lane has to do and whom it has to do it with.
#[derive(Default)]
struct Queue {
    /// Connections with room, the one that has waited longest first.
    roomy: VecDeque<usize>,
    /// Requests that wait for their time: retries and next steps.
    waiting: BinaryHeap<Reverse<Op>>,
}

impl Queue {
    fn due_ns(&self) -> u64 {
        self.waiting.peek().map_or(u64::MAX, |Reverse(op)| op.not_before_ns)
    }
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
    lanes: [Queue; 2],
    pool: &'a Pool,
    desk: Arc<Desk>,
    /// Buyers whose proof of work is being done, by the number of the job.
    solving: HashMap<u64, Op>,
    jobs: u64,
    under_way: usize,
    up: usize,
    silent_since_ns: u64,
    sweep_ns: u64,
    cut_ns: u64,
    dice: u64,
    last_error: String,
    pace: Pace,
    requests: Requests,
    /// Whether the requests around a purchase are counted one by one.
    counts_steps: bool,
    reader: Reader,
    last_refusal: LastRefusal,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    tally: Tally,
    history: Option<History>,
    gave_up: Option<String>,
    /// Writes and checks batches, if requests are batches.
    batches: Option<Checker>,
    trouble: Option<Trouble>,
    /// What opening the connections cost, which is not part of the run.
    cpu_before_ns: u64,
    queued_before_ns: Option<u64>,
}

impl<'a> Worker<'a> {
    /// A thread with its share of the connections, none of them open yet.
    pub(crate) fn new(
        config: &'a RunConfig,
        requests: Requests,
        thread: u64,
        clock: Instant,
        (live, stop): (&'a Live, &'a AtomicBool),
        pool: &'a Pool,
    ) -> io::Result<Self> {
        let threads = u64::from(config.threads);
        let connections = u64::from(config.connections);
        let own = (connections / threads + u64::from(thread < connections % threads)) as usize;
        let history = config.history_wanted();
        let quiet = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let (epoll, desk) = (epoll::create(epoll::CreateFlags::CLOEXEC)?, Desk::new()?);
        epoll::add(&epoll, desk.bell(), epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)?;
        let mut events = vec![quiet; EVENTS_MAX];
        // A sandbox that forbids one of these calls is told of now, not after a run that sent nothing.
        nap::wait(&epoll, &mut events, Duration::from_nanos(1))?;
        Ok(Self {
            config,
            live,
            stop,
            clock,
            now_ns: 0,
            epoll,
            events,
            conns: connections_of(config, own),
            lanes: Default::default(),
            pool,
            desk,
            solving: HashMap::new(),
            jobs: 0,
            under_way: 0,
            up: 0,
            silent_since_ns: 0,
            sweep_ns: 0,
            cut_ns: u64::MAX,
            dice: mix(config.workload.seed ^ thread),
            last_error: String::new(),
            pace: Pace::new(&config.mode, &config.workload, thread, threads, config.requests),
            requests,
            counts_steps: config.workload.flow == Flow::Whole,
            reader: reader_of(&config.workload),
            last_refusal: LastRefusal::default(),
            inbox: vec![0; RECEIVE_BYTES],
            outbox: Vec::new(),
            tally: Tally::default(),
            history,
            gave_up: None,
            batches: config
                .workload
                .batch()
                .map(|batch| Checker::new(batch, &config.host, config.connections == 1)),
            trouble: None,
            cpu_before_ns: 0,
            queued_before_ns: None,
        })
    }

    /// Opens the connections before the clock of the schedule starts, within the time-out.
    pub(crate) fn warm_up(&mut self) {
        self.now_ns = self.read_clock();
        let until_ns = self.now_ns + nanos(self.config.timeout);
        if !self.config.keep_alive {
            return self.sweep();
        }
        let goes_on = |this: &Self| !this.stop.load(Ordering::Relaxed) && this.gave_up.is_none();
        while self.up < self.conns.len() && self.now_ns < until_ns && goes_on(self) {
            self.sweep();
            self.wait(self.sweep_ns);
        }
    }

    /// Runs the schedule to its end and every purchase to its own.
    pub(crate) fn run(mut self) -> Share {
        self.begin();
        loop {
            self.feed_roomy(Lane::Public);
            self.feed_roomy(Lane::Shop);
            if self.is_done() {
                break;
            }
            self.wait(self.wake_ns());
            if self.now_ns >= self.sweep_ns {
                self.sweep();
            }
        }
        self.finish()
    }

    fn begin(&mut self) {
        self.cpu_before_ns = thread_cpu_ns();
        self.queued_before_ns = thread_queued_ns();
        (self.tally.stall_ns_max, self.tally.overslept_ns) = (0, 0);
        self.now_ns = self.read_clock();
        let end_ns = self.config.duration.map_or(u64::MAX, |length| self.now_ns + nanos(length));
        self.pace.window(self.now_ns, end_ns);
        self.tally.begin_ns = self.now_ns;
        self.tally.timeline.begin(self.now_ns);
        self.tally.over_ns = if end_ns == u64::MAX { 0 } else { end_ns };
        self.silent_since_ns = self.now_ns;
    }

    fn is_done(&self) -> bool {
        let idle = self.under_way == 0
            && self.solving.is_empty()
            && self.lanes.iter().all(|queue| queue.waiting.is_empty());
        (idle && self.pace.is_over(self.now_ns)) || self.now_ns >= self.cut_ns || self.gave_up.is_some()
    }

    /// What is still open when the loop ends: unknowns stay unknown, backlog was never sent.
    fn finish(mut self) -> Share {
        let left: Vec<Op> = self.conns.iter_mut().flat_map(|conn| conn.under_way.drain(..)).collect();
        let waiting = self.lanes.iter_mut().flat_map(|queue| queue.waiting.drain());
        let solving = self.solving.drain().map(|(_, op)| op);
        let left: Vec<Op> = left.into_iter().chain(waiting.map(|Reverse(op)| op)).chain(solving).collect();
        for op in left {
            let code = if op.attempts == 0 { Code::Unsent } else { Code::TimedOut };
            self.end(&op, code, Acked::default());
        }
        let over_ns = if self.tally.over_ns == 0 { self.now_ns } else { self.tally.over_ns.min(self.now_ns) };
        if self.config.mode.is_open() {
            while let Some(due) = self.pace.take_backlog(over_ns) {
                let (late_ns, count) =
                    (over_ns.saturating_sub(due.intended_ns), self.purchases_of(due.purchase));
                self.tally.timeline.due(due.intended_ns, count);
                self.tally.end_all(over_ns, Code::Unsent, late_ns, count);
            }
        }
        self.publish();
        self.tally.cpu_ns = thread_cpu_ns() - self.cpu_before_ns;
        let queued = thread_queued_ns().zip(self.queued_before_ns);
        self.tally.queued_ns = queued.map(|(now, before)| now.saturating_sub(before));
        Share { tally: self.tally, history: self.history, gave_up: self.gave_up, trouble: self.trouble }
    }

    fn read_clock(&self) -> u64 {
        nanos(self.clock.elapsed())
    }

    /// When to wake if no socket does it before.
    fn wake_ns(&self) -> u64 {
        let mut wake_ns = self.sweep_ns.min(self.now_ns + SLEEP_NS_MAX);
        for lane in [Lane::Public, Lane::Shop] {
            if !self.lanes[lane as usize].roomy.is_empty() {
                wake_ns = wake_ns.min(self.next_due_ns(lane));
            }
        }
        wake_ns
    }

    fn wait(&mut self, wake_ns: u64) {
        let began_ns = self.read_clock();
        // Since the last events were in it has been busy with them, or kept from its processor.
        self.tally.stall_ns_max = self.tally.stall_ns_max.max(began_ns - self.now_ns);
        let nap = Duration::from_nanos(wake_ns.saturating_sub(began_ns));
        let mut events = std::mem::take(&mut self.events);
        let count = nap::wait(&self.epoll, &mut events, nap).unwrap_or_else(|error| {
            self.gave_up = Some(format!("{OWN_SYSTEM} wait for its sockets ({error})"));
            0
        });
        self.now_ns = self.read_clock();
        if count == 0 {
            let overslept_ns = self.now_ns.saturating_sub(wake_ns.max(began_ns));
            self.tally.overslept_ns += overslept_ns;
            self.tally.stall_ns_max = self.tally.stall_ns_max.max(overslept_ns);
        }
        for event in &events[..count] {
            let flags = event.flags;
            match event.data.u64() {
                BELL => self.handle_solved(),
                index => self.handle_event(index as usize, flags),
            }
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
            Phase::Down { .. } | Phase::Parked => {}
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
                if self.conns[index].unsent.is_empty() {
                    self.make_roomy(index);
                } else {
                    self.flush(index);
                }
            }
            Err(error) => self.lose(index, Code::Reset, Some(&error)),
        }
    }

    fn handle_writable(&mut self, index: usize) {
        let was_full = self.room(index) == 0;
        self.flush(index);
        if self.room(index) > 0 {
            // A server that did not read is not the generator's lateness.
            if was_full {
                self.conns[index].free_ns = self.now_ns;
            }
            self.feed(index);
        }
    }

    /// Sends what the socket did not take before, and asks to be told about room for the rest.
    fn flush(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        let sent = conn.send(&conn.unsent).and_then(|count| {
            conn.unsent.drain(..count);
            conn.want_write(self.epoll.as_fd(), index as u64, !conn.unsent.is_empty())
        });
        if let Err(error) = sent {
            self.lose(index, Code::Reset, Some(&error));
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

    /// Takes every whole response out of the inbox, keeps the rest, and sends what is due next.
    fn handle_bytes(&mut self, index: usize, filled: usize) {
        self.now_ns = self.read_clock();
        let was_full = self.room(index) == 0;
        let mut at = 0;
        while at < filled {
            let head = match self.reader.read(&self.inbox[at..filled]) {
                Ok(Some(head)) => head,
                Ok(None) if filled - at <= self.reader.bytes_max() => break,
                Ok(None) => return self.lose(index, Code::BadAnswer, None),
                Err(error) => return self.lose(index, Code::BadAnswer, Some(&io::Error::other(error))),
            };
            let Some(op) = self.conns[index].under_way.pop_front() else {
                let error = io::Error::other("a response came to which there is no request");
                return self.lose(index, Code::BadAnswer, Some(&error));
            };
            self.under_way -= 1;
            self.conns[index].losses = 0;
            self.silent_since_ns = self.now_ns;
            self.handle_response(op, head, at);
            at += head.head_bytes + head.body_bytes;
            if head.close || !self.keeps_alive(index) {
                return self.retire(index);
            }
        }
        let (inbox, conn) = (&self.inbox, &mut self.conns[index]);
        conn.partial.extend_from_slice(&inbox[at..filled]);
        if was_full {
            conn.free_ns = self.now_ns;
        }
        self.feed(index);
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
        self.up -= usize::from(self.conns[index].phase == Phase::Up);
        let losses = self.conns[index].losses;
        // The first time it comes straight back: servers may close idle connections.
        let until_ns = if losses == 0 { self.now_ns } else { self.now_ns + self.pause_ns(losses - 1) };
        self.conns[index].losses += 1;
        self.conns[index].close(Phase::Down { until_ns });
        self.sweep_ns = self.sweep_ns.min(until_ns.max(self.now_ns + 1));
        let mut met = code;
        while let Some(op) = self.conns[index].under_way.pop_front() {
            self.under_way -= 1;
            self.doubt(op, met);
            met = Code::Reset;
        }
    }

    fn keeps_alive(&self, index: usize) -> bool {
        self.config.keep_alive || self.conns[index].lane == Lane::Shop
    }

    /// Ends a connection after its last response: one per request, or the server wished it.
    fn retire(&mut self, index: usize) {
        if self.keeps_alive(index) || !self.conns[index].under_way.is_empty() {
            return self.lose(index, Code::Reset, None);
        }
        self.up -= 1;
        self.conns[index].close(Phase::Parked);
        self.conns[index].free_ns = self.now_ns;
        self.make_roomy(index);
    }

    fn make_roomy(&mut self, index: usize) {
        if !self.conns[index].queued {
            self.conns[index].queued = true;
            self.lanes[self.conns[index].lane as usize].roomy.push_back(index);
        }
    }

    /// Gives connections with room what is due, the one that has waited longest first.
    fn feed_roomy(&mut self, lane: Lane) {
        while self.next_due_ns(lane) <= self.now_ns {
            let Some(index) = self.lanes[lane as usize].roomy.pop_front() else { return };
            self.conns[index].queued = false;
            self.feed(index);
        }
    }

    /// When the next request of a lane is due; the far future if there is none.
    fn next_due_ns(&self, lane: Lane) -> u64 {
        let due_ns = match lane {
            Lane::Public => self.pace.next_ns(self.now_ns).unwrap_or(u64::MAX),
            Lane::Shop => u64::MAX,
        };
        due_ns.min(self.lanes[lane as usize].due_ns())
    }

    /// Sends what is due on one connection, as far as it has room, in one call.
    fn feed(&mut self, index: usize) {
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

    fn write(&mut self, op: &Op) {
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

    fn room(&self, index: usize) -> usize {
        let conn = &self.conns[index];
        match conn.phase {
            Phase::Up if conn.unsent.is_empty() => self.config.pipeline as usize - conn.under_way.len(),
            Phase::Parked => 1,
            _ => 0,
        }
    }

    /// The next thing to send on this connection: what has waited long enough, else what is due.
    fn next_op(&mut self, index: usize) -> Option<Op> {
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
    fn begin_flow(&mut self, due: Due) -> Op {
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

    /// The next number of the dice, 0 to 1.
    fn draw(&mut self) -> f64 {
        self.dice = mix(self.dice);
        unit(self.dice)
    }

    fn let_wait(&mut self, op: Op) {
        // Whoever sends batches pays by batch, too.
        let lane = if self.batches.is_some() { Lane::Public } else { op.lane() };
        self.lanes[lane as usize].waiting.push(Reverse(op));
    }

    fn send(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        if conn.phase == Phase::Parked {
            conn.unsent.extend_from_slice(&self.outbox);
            return self.connect(index);
        }
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

    fn connect(&mut self, index: usize) {
        let Some(addr) = self.addr(self.conns[index].lane) else { return };
        let conn = &mut self.conns[index];
        if let Err(error) = conn.open(self.epoll.as_fd(), index as u64, addr, self.now_ns) {
            self.lose(index, Code::Reset, Some(&error));
        }
    }

    fn addr(&self, lane: Lane) -> Option<SocketAddr> {
        match lane {
            Lane::Public => Some(self.config.addr),
            Lane::Shop => self.config.shop.as_ref().map(|shop| shop.addr),
        }
    }

    /// Looks at all that time brings: Ctrl-C, time-outs, reconnects, giving up.
    fn sweep(&mut self) {
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

    fn is_cut_short(&self) -> bool {
        self.cut_ns != u64::MAX
    }

    /// Ctrl-C: nothing new begins, what is under way may end, and nobody waits for later any more.
    fn cut_short(&mut self) {
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

    /// No response for longer than the patience, and each connection lost again and again since:
    /// a server that accepts and hangs up is as gone as one that refuses.
    fn is_hopeless(&self) -> bool {
        let patience_ns = nanos(self.config.ride_out.max(self.config.timeout));
        let silent_ns = self.now_ns.saturating_sub(self.silent_since_ns);
        let mut public = self.conns.iter().filter(|conn| conn.lane == Lane::Public);
        silent_ns > patience_ns && public.all(|conn| conn.losses >= LOSSES_HOPELESS)
    }

    fn sweep_conn(&mut self, index: usize) {
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
}

/// Most bytes of a response to a batch: some hundred for each of its records.
const BATCH_RESPONSE_BYTES_MAX: usize = 4 << 20;

fn reader_of(workload: &Workload) -> Reader {
    match workload.batch() {
        Some(_) => Reader::of_at_most(BATCH_RESPONSE_BYTES_MAX),
        None => Reader::new(workload.is_head()),
    }
}

/// The connections of one thread: `own` to the public listener, and some to the merchant API.
fn connections_of(config: &RunConfig, own: usize) -> Vec<Conn> {
    let shop = if config.shop.is_some() && config.workload.fates.pays() { SHOP_CONNECTIONS } else { 0 };
    let public = (0..own).map(|_| Conn::new(Lane::Public, config.pipeline as usize));
    public.chain((0..shop).map(|_| Conn::new(Lane::Shop, config.pipeline as usize))).collect()
}

/// How long this thread was ready to run and had to wait for a processor; `None` where the kernel does
/// not count it.
fn thread_queued_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
