//! The whole engine in simulation: real homes, owners, shards, queue, journal, recovery,
//! snapshots and trimming, on a simulated disk, clock and crowd. `make sim` runs it for a
//! time on all cores, `make test` a fixed number of histories with new seeds each day.
//!
//! A history that ends red prints its seed, which repeats it. Read in this order:
//! [`history`], [`shop`] (the crowd's memory), [`book`] (the judge of the log), [`engine`].

mod book;
mod coverage;
mod engine;
mod history;
mod ledger;
mod past;
mod shop;
#[path = "../../../persist/tests/common/sim_database.rs"]
mod sim_database;
#[path = "../../../persist/tests/common/sim_disk.rs"]
#[allow(dead_code, reason = "shared with the tests of the log, which need other parts of it")]
mod sim_disk;
mod trace;
mod twins;
mod wire;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::coverage::Coverage;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds that found something once, or that stand for a kind of history.
const KEPT_SEEDS: &[u64] = &[1, 89_258_010_394_277, 89_258_010_500_108];
const USAGE: &str = "usage: sim [--seconds N | --histories N] [--seed S] [--threads N]";

thread_local! {
    /// Where the last panic of this thread was.
    pub(crate) static PANICKED_AT: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

/// What to run.
struct Plan {
    seconds: Option<u64>,
    histories: u64,
    seed: Option<u64>,
    threads: usize,
}

impl Plan {
    fn parse() -> Option<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut plan = Self { seconds: None, histories: 2_000, seed: None, threads: cores };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next()?.parse::<u64>().ok();
            match arg.as_str() {
                "--seconds" => plan.seconds = Some(value()?),
                "--histories" => plan.histories = value()?,
                "--seed" => plan.seed = Some(value()?),
                "--threads" => plan.threads = (value()? as usize).max(1),
                _ => return None,
            }
        }
        Some(plan)
    }
}

/// Of so many seeds one tells a history of two engines, too.
const TWINS_EVERY: u64 = 4;

/// Plays the history of a seed, and that of two engines if it has one.
fn play(
    seed: u64,
    keeps_text: bool,
    cover: &mut Coverage,
    clocks: Clocks,
) -> (Result<(), book::Red>, trace::Trace) {
    let (ended, trace) = history::run(seed, keeps_text, cover, clocks[0]);
    let twins = ended.is_ok() && seed.is_multiple_of(TWINS_EVERY);
    let ended = if twins { history::caught(|| twins::run(seed, cover, clocks)) } else { ended };
    (ended, trace)
}

/// The monotonic clocks of a worker: one for each engine that runs at a time.
type Clocks = [&'static AtomicU64; 2];

/// A history that ended red, by its seed.
struct Found {
    seed: u64,
    red: String,
}

fn main() -> ExitCode {
    let Some(plan) = Plan::parse() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    std::panic::set_hook(Box::new(|info| {
        if let Some(at) = info.location() {
            PANICKED_AT.with_borrow_mut(|place| *place = format!("{}:{}", at.file(), at.line()));
        }
    }));
    if let (Some(seed), None) = (plan.seed, plan.seconds)
        && plan.histories == 1
    {
        return one(seed);
    }
    many(&plan)
}

fn clocks() -> Clocks {
    [0, 0].map(|begin| &*Box::leak(Box::new(AtomicU64::new(begin))))
}

/// Tells one history in full.
fn one(seed: u64) -> ExitCode {
    let (ended, trace) = play(seed, true, &mut Coverage::default(), clocks());
    let digest = trace.digest();
    trace.lines().iter().for_each(|line| println!("{line}"));
    println!("seed {seed}: trace digest {digest:016x}");
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(red) => {
            println!("RED {red}");
            ExitCode::FAILURE
        }
    }
}

/// The first seed of today: another one each day.
fn seed_of_the_day() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs() / 86_400) << 32
}

fn many(plan: &Plan) -> ExitCode {
    let first = plan.seed.unwrap_or_else(seed_of_the_day);
    println!("sim: seeds from {first} on, {} threads", plan.threads);
    let began = Instant::now();
    let deadline = plan.seconds.map(|seconds| began + Duration::from_secs(seconds));
    let next = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let found = Arc::new(Mutex::new(None::<Found>));
    let threads = (0..plan.threads).map(|_| {
        let (next, stop, found, histories) = (next.clone(), stop.clone(), found.clone(), plan.histories);
        std::thread::spawn(move || worker(first, histories, deadline, &next, &stop, &found))
    });
    let threads: Vec<_> = threads.collect();
    let mut cover = Coverage::default();
    for thread in threads {
        cover.merge(thread.join().expect("a worker catches what panics"));
    }
    report(&cover, began.elapsed(), plan.threads);
    let found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    match found {
        None => ExitCode::SUCCESS,
        Some(found) => {
            println!("RED {}\nseed {}; repeat it with: SEED={} make sim", found.red, found.seed, found.seed);
            ExitCode::FAILURE
        }
    }
}

fn worker(
    first: u64,
    histories: u64,
    deadline: Option<Instant>,
    next: &AtomicU64,
    stop: &AtomicBool,
    found: &Mutex<Option<Found>>,
) -> Coverage {
    let (mut cover, clocks) = (Coverage::default(), clocks());
    let kept = KEPT_SEEDS.len() as u64;
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let over = deadline.map_or(n >= histories + kept, |deadline| Instant::now() >= deadline);
        if over {
            break;
        }
        let seed = KEPT_SEEDS.get(n as usize).copied().unwrap_or_else(|| first + n - kept);
        let (ended, trace) = play(seed, false, &mut cover, clocks);
        // The same seed is the same history: looked at now and then.
        let again = (n.is_multiple_of(64) && ended.is_ok())
            .then(|| play(seed, false, &mut Coverage::default(), clocks));
        let differs = again.is_some_and(|(_, again)| again.digest() != trace.digest());
        let red = ended.err().or(differs.then(|| "the same seed gave another history".to_owned()));
        if let Some(red) = red {
            stop.store(true, Ordering::Relaxed);
            let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if found.as_ref().is_none_or(|found| found.seed > seed) {
                *found = Some(Found { seed, red });
            }
        }
    }
    cover
}

fn report(cover: &Coverage, took: Duration, threads: usize) {
    let per = |count: u64| count as f64 / cover.histories.max(1) as f64;
    println!("{}", cover.tables());
    let rate = cover.histories as f64 / took.as_secs_f64();
    println!(
        "{} histories in {:.1} s: {rate:.0} a second, {:.0} a second and thread",
        cover.histories,
        took.as_secs_f64(),
        rate / threads as f64
    );
    println!(
        "a history has on the average {:.1} lives, {:.1} crashes, {:.1} requests, {:.1} facts, {:.1} purchases acked",
        per(cover.lives),
        per(cover.crashes()),
        per(cover.requests),
        per(cover.facts),
        per(cover.acked)
    );
    println!("{:.1} times in a history something was exported", per(cover.exported));
    println!(
        "in all: {} requests, {} purchases acked, {} crashes, {} starts refused, {} answers 503, {} times the group \
         written last was lost to damage that nothing can witness",
        cover.requests,
        cover.acked,
        cover.crashes(),
        cover.refusals,
        cover.busy,
        cover.unwitnessed
    );
}
