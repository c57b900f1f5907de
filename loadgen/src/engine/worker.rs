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
//! `epoll_wait`. This file has the loop; `worker/feed.rs` what goes out next, `worker/sockets.rs` the sending and
//! receiving, `worker/responses.rs` what a response brings about, `worker/sweep.rs` what time alone brings. Next:
//! [`super::flow`], [`super::pace`], [`super::conn`], [`super::tally`].

mod batches;
mod feed;
mod responses;
mod sockets;
mod sweep;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::config::{OWN_SYSTEM, RunConfig};
use super::conn::{Conn, Lane, Op, Phase};
use super::pace::Pace;
use super::refusal::LastRefusal;
use super::solver::{Desk, Pool};
use super::tally::Tally;
use crate::batch::{Checker, Trouble};
use crate::clock::{nanos, thread_cpu_ns, thread_queued_ns};
use crate::history::History;
use crate::meaning::{Acked, Class, Code};
use crate::nap;
use crate::request::Requests;
use crate::response::Reader;
use crate::workload::{Flow, Workload, mix};

/// Connections of a thread to the merchant API, if payments are reported.
const SHOP_CONNECTIONS: usize = 16;
/// Longest sleep, in nanoseconds: Ctrl-C is seen this soon.
const SLEEP_NS_MAX: u64 = 100_000_000;
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
