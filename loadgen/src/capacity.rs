//! The highest rate that a server holds: tries rates in the open loop until one is found.
//!
//! A rate holds when every objective holds, and when what was due was sent and answered. When
//! the generator is the limit that is said and nothing is claimed about the server. Next:
//! [`search`] for the order of the rates, [`crate::engine`] for one try.

pub mod search;

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

pub use search::{End, Limits, Search, Seen};
use serde_json::{Value, json};

use crate::assert::{Assertion, Checked};
use crate::engine::{self, Mode, Outcome, RunConfig, RunError, Schedule};
use crate::meaning::Class;
use crate::record::{KeptUp, Latency, Record};
use crate::workload::mix;

/// Share of what was due that has to be sent and answered.
const REACHED_SHARE: f64 = 0.99;
/// By Little's law, rate × mean latency requests are under way at any moment of a steady run,
/// also at its end; with a queue that grows they are twice as many. In between is the limit.
const UNDER_WAY_FACTOR: f64 = 1.5;
/// Longest wait for a server to come to rest between two tries.
const REST_MAX: Duration = Duration::from_secs(30);
/// A server that answers a single request within this time is at rest.
const REST_ANSWER: Duration = Duration::from_millis(250);
/// Time between two looks whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What to search for, against whom.
pub struct Plan {
    /// The load; its mode, duration and number of requests are chosen by the search.
    pub config: RunConfig,
    /// What has to hold.
    pub objectives: Vec<Assertion>,
    /// Where to search.
    pub limits: Limits,
    /// How long each rate is tried.
    pub step_time: Duration,
}

/// One rate that was tried.
#[derive(Clone)]
pub struct Probe {
    /// The rate, per second.
    pub per_s: f64,
    /// Whether it was tried to confirm that it holds.
    pub confirms: bool,
    /// The seed of its buyers, from that of the run.
    pub seed: u64,
    /// What came of it.
    pub seen: Seen,
    /// Whether what was due was sent and answered.
    pub reached: bool,
    /// Responses per second.
    pub achieved_per_s: f64,
    /// Share of the time for which the generator's threads were busy.
    pub busy_share: f64,
    /// Latencies of all that came to an end; `None` = nothing did.
    pub latency: Option<Latency>,
    /// The objectives, held against it.
    pub checked: Vec<Checked>,
    /// Whether the server was at rest before it, within [`REST_MAX`].
    pub was_at_rest: bool,
}

/// What a search found.
pub struct Found {
    /// How it ended; `None` = it was interrupted.
    pub end: Option<End>,
    /// All that was tried.
    pub probes: Vec<Probe>,
}

/// Searches; `tell` hears of each rate as soon as it was tried.
///
/// Blocks for some 10 to 60 times the step time; ends early when the configuration's `stop` is set.
///
/// # Errors
/// [`RunError`] if a run cannot begin, also when the server goes away in mid-search.
pub fn find(plan: &Plan, mut tell: impl FnMut(&Probe)) -> Result<Found, RunError> {
    let mut search = Search::new(plan.limits);
    let mut probes = Vec::new();
    loop {
        let was_at_rest = probes.is_empty() || rest(plan, probes.len() as u64)?;
        let probe = try_rate(plan, &search, probes.len() as u64, was_at_rest)?;
        if plan.config.stop.load(Ordering::Relaxed) {
            return Ok(Found { end: None, probes });
        }
        tell(&probe);
        let end = search.handle(probe.seen);
        probes.push(probe);
        if end.is_some() {
            return Ok(Found { end, probes });
        }
    }
}

fn try_rate(plan: &Plan, search: &Search, number: u64, was_at_rest: bool) -> Result<Probe, RunError> {
    let per_s = search.per_s();
    let mut config = plan.config.clone();
    config.mode = Mode::Open(Schedule::constant(per_s));
    (config.duration, config.requests) = (Some(plan.step_time), None);
    (config.keep_history, config.ride_out) = (false, config.ride_out.min(plan.step_time));
    config.workload.seed = seed(plan, 2 * number);
    let outcome = engine::run(&config)?;
    let record = Record::new(&config, &outcome, None);
    let checked: Vec<_> = plan.objectives.iter().map(|objective| objective.check(&record)).collect();
    let reached = outcome.gave_up.is_none() && is_reached(&record, &outcome, per_s);
    let holds = reached && checked.iter().all(|checked| checked.holds);
    let seen = match record.kept_up {
        _ if holds => Seen::Holds,
        KeptUp::GeneratorLimit | KeptUp::Unknown => Seen::Generator,
        _ => Seen::Fails,
    };
    Ok(Probe {
        per_s,
        confirms: search.confirms(),
        seed: config.workload.seed,
        seen,
        reached,
        achieved_per_s: record.achieved_per_s,
        busy_share: record.generator.busy_share,
        latency: record.latency_ns.all,
        checked,
        was_at_rest,
    })
}

/// Whether what was due was sent, and answered but for what is under way in a steady run.
fn is_reached(record: &Record, outcome: &Outcome, per_s: f64) -> bool {
    let tally = &outcome.tally;
    let (due, missed) = (tally.total() as f64, ((1.0 - REACHED_SHARE) * tally.total() as f64).ceil());
    let mean_s = record.latency_ns.all.as_ref().map_or(0.0, |all| all.mean as f64 / 1e9);
    let late_max = (missed + UNDER_WAY_FACTOR * per_s * mean_s).ceil();
    due > 0.0 && tally.class_count(Class::Unsent) as f64 <= missed && tally.late as f64 <= late_max
}

/// Waits until a single request is answered promptly again; `false` after [`REST_MAX`].
///
/// All responses of the last try are in or given up by then: that is how a run ends. What the
/// server still does for requests that were given up is what is waited for here.
fn rest(plan: &Plan, number: u64) -> Result<bool, RunError> {
    let mut config = plan.config.clone();
    (config.mode, config.connections, config.threads) = (Mode::Closed, 1, 1);
    (config.duration, config.requests) = (None, Some(1));
    (config.keep_history, config.progress, config.ride_out) = (false, false, config.timeout);
    let deadline = Instant::now() + REST_MAX;
    for attempt in 0u64.. {
        config.workload.seed = seed(plan, 2 * number + 1) ^ mix(attempt);
        let outcome = engine::run(&config)?;
        let tally = &outcome.tally;
        let answered = tally.class_count(Class::Winner) + tally.class_count(Class::Refusal) > 0;
        let wait_max = REST_ANSWER.max(plan.step_time / 10);
        if answered && u128::from(tally.latency_all().max()) < wait_max.as_nanos() {
            return Ok(true);
        }
        if Instant::now() >= deadline || plan.config.stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(false)
}

/// Each try has its own buyers, and the same seed makes the same ones again.
const fn seed(plan: &Plan, number: u64) -> u64 {
    mix(plan.config.workload.seed ^ mix(number))
}

impl Found {
    /// Everything, as JSON.
    pub fn json(&self, plan: &Plan) -> Value {
        json!({
            "format": "stampede-loadgen-capacity-1",
            "version": env!("CARGO_PKG_VERSION"),
            "server": plan.config.addr.to_string(),
            "seed": plan.config.workload.seed,
            "connections": plan.config.connections,
            "threads": plan.config.threads,
            "objectives": plan.objectives.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "from_per_s": plan.limits.from_per_s,
            "to_per_s": plan.limits.to_per_s,
            "precision": plan.limits.precision,
            "step_time_ms": plan.step_time.as_millis() as u64,
            "end": self.end.map_or_else(|| json!({ "end": "interrupted" }), End::json),
            "probes": self.probes.iter().map(Probe::json).collect::<Vec<_>>(),
        })
    }
}

impl End {
    fn json(self) -> Value {
        match self {
            Self::Found { per_s, fails_at_per_s } => {
                json!({ "end": "found", "per_s": per_s, "fails_at_per_s": fails_at_per_s })
            }
            Self::NeverHolds { per_s } => json!({ "end": "never_holds", "per_s": per_s }),
            Self::Generator { per_s, held_per_s } => {
                json!({ "end": "generator_limit", "per_s": per_s, "held_per_s": held_per_s })
            }
            Self::Unsteady { held_per_s } => json!({ "end": "unsteady", "held_per_s": held_per_s }),
        }
    }
}

impl Probe {
    /// What came of it, in a few words.
    pub fn words(&self) -> String {
        let failed: Vec<_> = self.checked.iter().filter(|checked| !checked.holds).collect();
        let each: Vec<_> =
            failed.iter().map(|checked| format!("not {} ({})", checked.text, checked.words)).collect();
        let words = match (self.seen, self.reached) {
            (Seen::Holds, _) if self.confirms => "holds again".to_owned(),
            (Seen::Holds, _) => "holds".to_owned(),
            (Seen::Generator, _) => "the generator was the limit".to_owned(),
            (Seen::Fails, true) => each.join(", "),
            (Seen::Fails, false) => [vec!["the rate was not reached".to_owned()], each].concat().join(", "),
        };
        if self.was_at_rest { words } else { format!("{words}; the server was not at rest before") }
    }

    fn json(&self) -> Value {
        let checked = |checked: &Checked| json!({ "text": checked.text, "holds": checked.holds, "measured": checked.words });
        json!({
            "per_s": self.per_s,
            "confirms": self.confirms,
            "seed": self.seed,
            "seen": match self.seen {
                Seen::Holds => "holds",
                Seen::Fails => "fails",
                Seen::Generator => "generator_limit",
            },
            "reached": self.reached,
            "achieved_per_s": self.achieved_per_s,
            "generator_busy_share": self.busy_share,
            "was_at_rest": self.was_at_rest,
            "latency_ns": self.latency,
            "objectives": self.checked.iter().map(checked).collect::<Vec<_>>(),
        })
    }
}
