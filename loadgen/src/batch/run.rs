//! A run of batches over the engine, and what has to add up at its end.

use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::shape::{Batch, Format, Mode, Trouble};
use crate::engine::{self, Outcome, RunConfig, RunError, Step};
use crate::meaning::{Class, Code};
use crate::workload::{Target, Workload};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to send.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The merchant API.
    pub addr: SocketAddr,
    /// Its token.
    pub token: String,
    /// The first of the items that are bought in turn.
    pub item: u32,
    /// How many of them there are.
    pub items: u32,
    /// Units of each item.
    pub stock: u64,
    /// Purchases in all.
    pub count: u64,
    /// Purchases in a batch.
    pub batch: u64,
    /// How many batches may be open at a time.
    pub pipeline: usize,
    /// See [`Format`].
    pub format: Format,
    /// See [`Mode`].
    pub mode: Mode,
    /// What the names of this run's buyers begin with.
    pub tag: u16,
}

/// How hard it is sent.
#[derive(Clone, Debug)]
pub struct Load {
    /// Open or closed loop; rates are in purchases per second.
    pub mode: engine::Mode,
    /// Connections.
    pub connections: u32,
    /// Threads, at most as many.
    pub threads: u32,
}

impl Default for Load {
    /// The next batch leaves when there is room for it, on one connection.
    fn default() -> Self {
        Self { mode: engine::Mode::Closed, connections: 1, threads: 1 }
    }
}

impl Plan {
    /// What the engine is to run.
    pub fn config(&self, load: &Load) -> RunConfig {
        let batch = Batch {
            token: self.token.clone(),
            item: self.item,
            items: self.items,
            count: self.count,
            records: self.batch,
            format: self.format,
            mode: self.mode,
            tag: self.tag,
        };
        let workload = Workload { target: Target::Batch(batch), ..Workload::purchases(self.item, 0) };
        RunConfig {
            mode: load.mode.clone(),
            connections: load.connections,
            threads: load.threads,
            pipeline: u32::try_from(self.pipeline).unwrap_or(u32::MAX),
            timeout: PATIENCE,
            ride_out: PATIENCE,
            keep_history: false,
            ..RunConfig::closed(self.addr, workload, self.count)
        }
    }
}

/// What came of it.
#[derive(Clone)]
pub struct Report {
    /// From the first request due to the last response.
    pub elapsed: Duration,
    /// Answers, of purchases and payments alike.
    pub answers: u64,
    /// Purchases that won.
    pub winners: u64,
    /// Purchases that were refused as sold out.
    pub refused: u64,
    /// Orders that were paid.
    pub paid: u64,
    /// From when a batch was due, or in the closed loop possible, to the last byte of its response, counted
    /// for each of its records, in nanoseconds.
    pub latency_ns: Histogram<u64>,
    /// The same as the engine tells it.
    pub outcome: Outcome,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The run could not begin.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A connection failed or was silent for too long.
    #[error("{unanswered} purchases got no response: {why}")]
    Lost {
        /// How many.
        unanswered: u64,
        /// What the engine says.
        why: String,
    },
    /// A promise was broken, or a batch refused.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

impl Report {
    fn of(outcome: Outcome) -> Self {
        let tally = &outcome.tally;
        let mut latency_ns = tally.latency_all();
        let same = "all histograms have the same bounds";
        latency_ns.add(&tally.step(Step::Pay).latency).expect(same);
        let (winners, refused) = (tally.count(Code::Won), tally.count(Code::SoldOut));
        let paid = tally.step(Step::Pay).class_count(Class::Winner);
        let elapsed = Duration::from_nanos(tally.elapsed_ns());
        let answers = winners + refused + paid;
        Self { elapsed, answers, winners, refused, paid, latency_ns, outcome }
    }

    /// As one object, for other programs.
    pub fn to_json(&self, plan: &Plan) -> Value {
        let seconds = self.elapsed.as_secs_f64();
        let ms = |quantile| self.latency_ns.value_at_quantile(quantile) as f64 / 1_000_000.0;
        json!({
            "mode": name_of(&plan.mode),
            "format": name_of(&plan.format),
            "seconds": seconds,
            "records": self.answers,
            "winners": self.winners,
            "refused": self.refused,
            "paid": self.paid,
            "answers_per_s": self.answers as f64 / seconds,
            "winners_per_s": self.winners as f64 / seconds,
            "p50_ms": ms(0.5),
            "p99_ms": ms(0.99),
        })
    }
}

fn name_of(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Runs it to its end, one batch after the other on one connection.
///
/// # Errors
/// See [`BatchError`].
pub fn run(plan: &Plan) -> Result<Report, BatchError> {
    run_under(&plan.config(&Load::default()), plan)
}

/// Runs it to its end under this load, which [`Plan::config`] made.
///
/// # Errors
/// See [`BatchError`].
pub fn run_under(config: &RunConfig, plan: &Plan) -> Result<Report, BatchError> {
    let outcome = engine::run(config)?;
    if let Some(trouble) = &outcome.trouble {
        return Err(trouble.clone().into());
    }
    let tally = &outcome.tally;
    let unanswered = tally.class_count(Class::Unknown) + tally.step(Step::Pay).class_count(Class::Unknown);
    if unanswered > 0 {
        let why = outcome.gave_up.unwrap_or_else(|| "the connection failed, or it took too long".to_owned());
        return Err(BatchError::Lost { unanswered, why });
    }
    let report = Report::of(outcome);
    check_sum(plan, &report)?;
    Ok(report)
}

fn check_sum(plan: &Plan, report: &Report) -> Result<(), Trouble> {
    let asked_of = |item: u64| (plan.count + u64::from(plan.items) - 1 - item) / u64::from(plan.items);
    let expected: u64 = (0..u64::from(plan.items)).map(|item| asked_of(item).min(plan.stock)).sum();
    let paid = if plan.mode == Mode::HoldAndPay { report.winners } else { 0 };
    let fits = report.winners == expected
        && report.winners + report.refused == plan.count
        && report.paid == paid
        && report.answers == plan.count + paid;
    if fits || report.outcome.interrupted {
        return Ok(());
    }
    Err(Trouble::Broken(format!(
        "{} winners of {expected}, {} refused, {} paid of {} purchases",
        report.winners, report.refused, report.paid, plan.count
    )))
}
