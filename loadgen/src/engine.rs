//! The engine: threads that send a workload and count what comes back.
//!
//! Open loop by default: latency runs from the moment at which a request should
//! have left, so that a server which stalls cannot hide it. This file holds what a
//! caller sees; the work is in `engine/worker.rs`. Next: [`crate::report`].

mod conn;
mod pace;
mod schedule;
mod solver;
mod step;
mod tally;
mod timeline;
mod way;
mod worker;

use std::io::{self, IsTerminal};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

pub use pace::Mode;
pub use schedule::{PER_S_MAX, SEGMENTS_MAX, Schedule, ScheduleError, Segment};
pub use step::{Step, StepTally};
pub use tally::Tally;
pub use timeline::{SLICES_MAX, Slice, Timeline};

use crate::clock::unix_ms;
use crate::history::History;
use crate::printer;
use crate::request::{Framing, RequestError, Requests, Shop};
use crate::units::show_count;
use crate::workload::{Flow, ITEMS_MAX, Workload};
use solver::Pool;
use worker::{Live, Share, Worker};

/// Most connections of one run: more than one address has ports.
pub const CONNECTIONS_MAX: u32 = 60_000;
/// Most threads of one run.
pub const THREADS_MAX: u32 = 256;
/// Most requests under way on one connection.
pub const PIPELINE_MAX: u32 = 1_024;
/// Time between two progress lines.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Descriptors that a run needs besides its connections.
const DESCRIPTORS_SPARE: u64 = 64;
/// How long tokens outlive a run, in seconds.
const TOKEN_SPARE_S: u64 = 3_600;

/// What to run, against whom, how hard.
#[derive(Clone)]
pub struct RunConfig {
    /// The server.
    pub addr: SocketAddr,
    /// What the `Host` header says.
    pub host: String,
    /// What is asked for.
    pub workload: Workload,
    /// Open or closed loop.
    pub mode: Mode,
    /// Connections, 1 to [`CONNECTIONS_MAX`], at least one per thread.
    pub connections: u32,
    /// Threads, 1 to [`THREADS_MAX`].
    pub threads: u32,
    /// Most requests under way per connection, 1 to [`PIPELINE_MAX`].
    pub pipeline: u32,
    /// Whether a connection carries more than one request.
    pub keep_alive: bool,
    /// The merchant listener, if payments are to be reported there.
    pub shop: Option<ShopSide>,
    /// How long new requests begin; `None`: until `requests` are made.
    pub duration: Option<Duration>,
    /// How many purchases to make, retries apart; `None`: as many as the duration holds.
    pub requests: Option<u64>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How long an unknown outcome is retried, and how long no connection may be up.
    pub ride_out: Duration,
    /// Whether outcomes are kept one by one, as the checker needs them.
    pub keep_history: bool,
    /// Whether a line on standard error tells how it goes, if that is a terminal.
    pub progress: bool,
    /// Set from outside to end early; the outcome is still whole.
    pub stop: Arc<AtomicBool>,
}

impl RunConfig {
    /// A closed loop of `requests` purchases over 16 connections: a start for tests.
    pub fn closed(addr: SocketAddr, workload: Workload, requests: u64) -> Self {
        Self {
            addr,
            host: addr.to_string(),
            workload,
            mode: Mode::Closed,
            connections: 16,
            threads: 1,
            pipeline: 1,
            keep_alive: true,
            shop: None,
            duration: None,
            requests: Some(requests),
            timeout: Duration::from_secs(5),
            ride_out: Duration::from_secs(30),
            keep_history: true,
            progress: false,
            stop: Arc::default(),
        }
    }

    /// An empty history of the right kind, if one is to be kept.
    fn history_wanted(&self) -> Option<History> {
        let items = self.workload.items().filter(|_| self.keep_history)?;
        Some(History::new(self.workload.names(), items, self.workload.quantity))
    }

    fn check(&self) -> Result<(), RunError> {
        let ensure = |ok: bool, what| if ok { Ok(()) } else { Err(RunError::Setting(what)) };
        ensure((1..=CONNECTIONS_MAX).contains(&self.connections), "connections must be 1 to 60000")?;
        ensure((1..=THREADS_MAX).contains(&self.threads), "threads must be 1 to 256")?;
        ensure(self.threads <= self.connections, "each thread needs a connection: raise -c or lower -t")?;
        ensure((1..=PIPELINE_MAX).contains(&self.pipeline), "the pipeline must be 1 to 1024 deep")?;
        ensure(!self.timeout.is_zero(), "the time-out must be above 0")?;
        ensure(
            self.duration.is_some() || self.requests.is_some(),
            "give a duration or a number of requests",
        )?;
        ensure(self.duration.is_none_or(|d| !d.is_zero()), "the duration must be above 0")?;
        ensure(self.requests != Some(0), "the number of requests must be above 0")?;
        ensure(self.workload.users != Some(0), "there must be at least one user")?;
        ensure((0.0..=1.0).contains(&self.workload.repeat), "the share of repeats must be 0 to 1")?;
        let rate_fits = match &self.mode {
            Mode::Open(schedule) => (1e-3..=PER_S_MAX).contains(&schedule.peak_per_s()),
            Mode::Closed => true,
        };
        ensure(rate_fits, "the rate must be 0.001 to 100 million a second")?;
        ensure(
            self.keep_alive || self.pipeline == 1,
            "one connection per request leaves nothing to pipeline",
        )?;
        self.check_workload(ensure)
    }

    fn check_workload(
        &self,
        ensure: impl Fn(bool, &'static str) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let Workload { double_click, browse, fates, levels, .. } = &self.workload;
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        ensure(is_share(*double_click), "the share of double clicks must be 0 to 1")?;
        ensure((0.0..=1_000.0).contains(browse), "onlookers read 0 to 1000 pages per purchase")?;
        let shares = [fates.pay, fates.pay_late, fates.cancel];
        let fits = shares.into_iter().all(is_share) && shares.iter().sum::<f64>() <= 1.0 + 1e-9;
        ensure(fits, "the shares of those who pay, pay late and cancel must be 0 to 1 together")?;
        ensure(!fates.pays() || self.shop.is_some(), "who pays needs the merchant listener: give --admin")?;
        ensure(levels.is_none_or(|levels| (1..=10).contains(&levels)), "there are 1 to 10 levels")?;
        let items_fit = self.workload.items().is_none_or(|items| {
            let numbers = items.first >= 1 && items.first.checked_add(items.count).is_some();
            numbers && (1..=ITEMS_MAX).contains(&items.count) && (0.0..=10.0).contains(&items.zipf)
        });
        ensure(items_fit, "there must be 1 to 100000 items, numbered from 1, and zipf 0 to 10")
    }
}

/// The merchant listener as a run needs it.
#[derive(Clone)]
pub struct ShopSide {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What its requests need.
    pub shop: Shop,
}

/// What came of a run.
#[derive(Clone)]
pub struct Outcome {
    /// Counts and latencies.
    pub tally: Tally,
    /// What was asked and answered, if it was kept.
    pub history: Option<History>,
    /// Why the run gave up before its end, if it did.
    pub gave_up: Option<String>,
    /// Whether it was ended from outside.
    pub interrupted: bool,
    /// When it began, in Unix milliseconds.
    pub began_at_ms: u64,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nobody answers there.
    #[error("cannot reach {addr}: {cause}; is the server up and the address right?")]
    Unreachable {
        /// Where.
        addr: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// A setting is out of its bounds.
    #[error("{0}")]
    Setting(&'static str),
    /// A setting cannot be sent.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Not enough descriptors.
    #[error("{needed} descriptors are needed and {allowed} allowed; raise `ulimit -n` or lower -c")]
    Descriptors {
        /// How many the run needs.
        needed: u64,
        /// How many it may have.
        allowed: u64,
    },
    /// The system refused a thread or an epoll instance.
    #[error("the system refused what a thread needs: {0}")]
    System(#[from] io::Error),
    /// A thread died.
    #[error("a thread of the generator panicked; this is a bug of the generator")]
    Panicked,
}

/// Runs it to its end: all requests made, all answers in or given up.
///
/// Blocks the caller. At most `duration + ride_out + 2 × timeout`, if there is a duration.
///
/// # Errors
/// [`RunError`] if it could not begin. What happens after that is part of the [`Outcome`].
pub fn run(config: &RunConfig) -> Result<Outcome, RunError> {
    config.check()?;
    let began_at_ms = unix_ms();
    let length_s = config.duration.map_or(86_400, |length| length.as_secs());
    let expires_at_s = began_at_ms / 1000 + length_s + config.ride_out.as_secs() + TOKEN_SPARE_S;
    let framing = Framing { host: &config.host, keep_alive: config.keep_alive, expires_at_s };
    let shop = config.shop.as_ref().map(|side| &side.shop);
    let requests = Requests::new(&config.workload, framing, shop)?;
    reach(config)?;
    allow_descriptors(u64::from(config.connections) + DESCRIPTORS_SPARE)?;
    let shares = run_threads(config, &requests)?;
    Ok(merge(shares, config, began_at_ms))
}

fn reach(config: &RunConfig) -> Result<(), RunError> {
    let addr = config.addr;
    let reached = TcpStream::connect_timeout(&addr, config.timeout);
    reached.map(drop).map_err(|cause| RunError::Unreachable { addr, cause })
}

/// Raises the soft limit of descriptors as far as the hard one allows.
fn allow_descriptors(needed: u64) -> Result<(), RunError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.current.unwrap_or(u64::MAX);
    if soft >= needed {
        return Ok(());
    }
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    let wanted = Rlimit { current: Some(needed.min(allowed)), maximum: limit.maximum };
    let raised = setrlimit(Resource::Nofile, wanted).is_ok() && allowed >= needed;
    if raised { Ok(()) } else { Err(RunError::Descriptors { needed, allowed }) }
}

fn run_threads(config: &RunConfig, requests: &Requests) -> Result<Vec<Share>, RunError> {
    let threads = config.threads as usize;
    let lives: Vec<Live> = (0..threads).map(|_| Live::default()).collect();
    let clock = Instant::now();
    let (warm, over, pool) = (Barrier::new(threads), AtomicBool::new(false), Pool::default());
    let begin = |index: usize| {
        // Sleeps are to end when they should, not up to 50 us later.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let told = (&lives[index], &*config.stop);
        let mut worker = Worker::new(config, requests.clone(), index as u64, clock, told, &pool);
        worker.iter_mut().for_each(Worker::warm_up);
        warm.wait();
        worker.map(Worker::run)
    };
    let begin = &begin;
    thread::scope(|scope| {
        if config.progress && io::stderr().is_terminal() {
            scope.spawn(|| show_progress(&lives, config.duration, &over));
        }
        if config.workload.flow == Flow::Whole {
            (0..Pool::threads()).for_each(|_| drop(scope.spawn(|| pool.work())));
        }
        let handles: Vec<_> = (0..threads).map(|index| scope.spawn(move || begin(index))).collect();
        let shares: Vec<_> = handles.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        pool.close();
        shares.into_iter().map(|share| Ok(share.map_err(|_| RunError::Panicked)??)).collect()
    })
}

fn merge(shares: Vec<Share>, config: &RunConfig, began_at_ms: u64) -> Outcome {
    let interrupted = config.stop.load(Ordering::Relaxed);
    let mut tally = Tally::default();
    let (mut history, mut gave_up) = (config.history_wanted(), None);
    for share in shares {
        tally.absorb(&share.tally);
        if let (Some(all), Some(part)) = (&mut history, share.history) {
            all.absorb(part);
        }
        gave_up = gave_up.or(share.gave_up);
    }
    Outcome { tally, history, gave_up, interrupted, began_at_ms }
}

/// One line on standard error, four times a second, until the run is over.
fn show_progress(lives: &[Live], length: Option<Duration>, over: &AtomicBool) {
    let (began, mut last) = (Instant::now(), 0);
    let of_length = length.map_or_else(String::new, |length| format!(" of {:.0}s", length.as_secs_f64()));
    while !over.load(Ordering::Relaxed) {
        thread::sleep(PROGRESS_EVERY);
        let sum = |pick: fn(&Live) -> u64| lives.iter().map(pick).sum::<u64>();
        let winners = sum(|live| live.winners.load(Ordering::Relaxed));
        let refusals = sum(|live| live.refusals.load(Ordering::Relaxed));
        let doubts = sum(|live| live.doubts.load(Ordering::Relaxed));
        let per_s = show_count((winners + refusals).saturating_sub(last) * 4);
        last = winners + refusals;
        let seconds = began.elapsed().as_secs_f64();
        let [winners, refusals, doubts] = [winners, refusals, doubts].map(show_count);
        let text = format!(
            "{seconds:6.1}s{of_length}  {per_s}/s  won {winners}  refused {refusals}  tried again {doubts}"
        );
        printer::show(&format!("\r\x1b[K{text}"));
    }
    printer::show("\r\x1b[K");
}
