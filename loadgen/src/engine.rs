//! The engine: threads that send a workload and count what comes back.
//!
//! Open loop by default: latency runs from the moment at which a request should
//! have left, so that a server which stalls cannot hide it. This file holds what a
//! caller sees; the work is in `engine/worker.rs`. Next: [`crate::report`].

mod config;
mod conn;
mod flow;
mod histogram;
mod pace;
mod refusal;
mod schedule;
mod solver;
mod step;
mod tally;
mod timeline;
mod worker;

use std::io::{self, IsTerminal};
use std::net::TcpStream;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use config::OWN_SYSTEM;
pub use config::{CONNECTIONS_MAX, PIPELINE_MAX, RunConfig, RunError, ShopSide, THREADS_MAX};
pub use pace::Mode;
pub use schedule::{PER_S_MAX, SEGMENTS_MAX, Schedule, ScheduleError, Segment};
pub use step::{Step, StepTally};
pub use tally::Tally;
pub use timeline::{SLICES_MAX, Slice, Timeline};

use crate::batch::Trouble;
use crate::clock::unix_ms;
use crate::history::History;
use crate::printer;
use crate::request::{Framing, Requests};
use crate::units::show_count;
use crate::workload::Flow;
use solver::Pool;
use worker::{Live, Share, Worker};

/// Time between two progress lines.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Descriptors that a run needs besides its connections.
const DESCRIPTORS_SPARE: u64 = 64;
/// How long tokens outlive a run, in seconds.
const TOKEN_SPARE_S: u64 = 3_600;

/// What came of a run.
#[derive(Clone)]
pub struct Outcome {
    /// Counts and latencies.
    pub tally: Tally,
    /// Requests and their outcomes, if they were kept.
    pub history: Option<History>,
    /// Why the run gave up before its end, if it did.
    pub gave_up: Option<String>,
    /// Whether it was ended from outside.
    pub interrupted: bool,
    /// Why batches were sent no further, if they were.
    pub trouble: Option<Trouble>,
    /// When it began, in Unix milliseconds.
    pub began_at_ms: u64,
}

/// Runs it to its end: all requests made, all responses in or given up.
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
    let (mut history, mut gave_up, mut trouble) = (config.history_wanted(), None, None);
    for share in shares {
        tally.absorb(&share.tally);
        if let (Some(all), Some(part)) = (&mut history, share.history) {
            all.absorb(part);
        }
        gave_up = gave_up.or(share.gave_up);
        trouble = trouble.or(share.trouble);
    }
    Outcome { tally, history, gave_up, interrupted, trouble, began_at_ms }
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
