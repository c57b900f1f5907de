//! Fills a record from a run: counts to names, histograms to quantiles.
//!
//! Next: [`crate::record`], [`crate::engine::Tally`], where the figures come from.

use hdrhistogram::Histogram;

use super::{
    Counts, FORMAT, Generator, KeptUp, Latencies, Latency, Machine, Record, Settings, SliceLatency,
    SliceRecord, StepRecord, TimelineRecord, VerdictRecord, ViolationRecord,
};
use crate::answer::{Class, Code};
use crate::check::Verdict;
use crate::engine::{Outcome, RunConfig, Slice, Step, Tally, Timeline};
use crate::history::History;

/// A generator that sends this late in one case of a hundred is itself the limit, in nanoseconds.
const LAG_P99_NS_MAX: u64 = 2_000_000;
/// A thread that is busy for this share of the time is the limit.
const BUSY_SHARE_MAX: f64 = 0.9;
/// Below this share of its target rate a run has not kept up.
const KEPT_UP_SHARE: f64 = 0.99;
/// Points of the curve per power of ten of 1 / (1 − quantile).
const CURVE_POINTS: u32 = 12;
/// The most powers of ten that it covers: to the quantile 0.999999.
const CURVE_TENS_MAX: u32 = 6;

impl Record {
    /// The record of a run, judged or not; command line, stock and assertions are added by the caller.
    pub fn new(config: &RunConfig, outcome: &Outcome, verdict: Option<&Verdict>) -> Self {
        let tally = &outcome.tally;
        let statuses = tally.by_status.iter().enumerate().filter(|&(_, &count)| count > 0);
        let generator = Generator::of(config, tally);
        Self {
            format: FORMAT.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            began_at_ms: outcome.began_at_ms,
            command: Vec::new(),
            machine: Machine::here(),
            config: Settings::of(config),
            elapsed_ns: tally.elapsed_ns(),
            achieved_per_s: on_time(tally) as f64 * 1e9 / tally.elapsed_ns() as f64,
            kept_up: kept_up(config, tally, generator.busy_share),
            generator,
            requests_sent: tally.sent,
            late: tally.late,
            reconnects: tally.reconnects,
            received_bytes: tally.received_bytes,
            outcomes: counts(&tally.by_code),
            tried_again: counts(&tally.tried_again),
            statuses: statuses.map(|(status, &count)| (status.to_string(), count)).collect(),
            orders_acked: outcome.history.as_ref().map(History::orders_acked).map(|orders| orders as u64),
            latency_ns: Latencies::of(tally),
            steps: steps(tally),
            timeline: TimelineRecord::of(&tally.timeline),
            stock: None,
            interrupted: outcome.interrupted,
            gave_up: outcome.gave_up.clone(),
            verdict: verdict.map(VerdictRecord::of),
            not_verified: None,
            assertions: Vec::new(),
        }
    }
}

/// What ended within the run's time.
fn on_time(tally: &Tally) -> u64 {
    (tally.total() - tally.count(Code::Unsent)).saturating_sub(tally.late)
}

fn kept_up(config: &RunConfig, tally: &Tally, busy_share: f64) -> KeptUp {
    if !config.mode.is_open() {
        return KeptUp::NoTarget;
    }
    let late = tally.lag.value_at_quantile(0.99) > LAG_P99_NS_MAX;
    let short = (on_time(tally) as f64) < KEPT_UP_SHARE * tally.total() as f64;
    match (late || (short && busy_share > BUSY_SHARE_MAX), short) {
        (true, _) => KeptUp::GeneratorLimit,
        (false, true) => KeptUp::ServerLimit,
        (false, false) => KeptUp::Yes,
    }
}

impl Generator {
    fn of(config: &RunConfig, tally: &Tally) -> Self {
        let wall_ns = tally.last_done_ns.max(tally.over_ns).saturating_sub(tally.begin_ns).max(1);
        let threads = f64::from(config.threads.max(1));
        Self {
            cpu_ns: tally.cpu_ns,
            busy_share: (tally.cpu_ns as f64 / (wall_ns as f64 * threads)).min(1.0),
            requests_per_cpu_s: tally.sent as f64 * 1e9 / tally.cpu_ns.max(1) as f64,
            send_lag_ns: Latency::of(&tally.lag),
        }
    }
}

fn counts(by_code: &[u64]) -> Counts {
    let met = Code::ALL.iter().map(|&code| (code.name().to_owned(), by_code[code as usize]));
    met.filter(|&(_, count)| count > 0).collect()
}

fn steps(tally: &Tally) -> Vec<StepRecord> {
    let each = Step::ALL.iter().map(|&step| (step, tally.step(step)));
    let sent = each.filter(|(_, part)| part.total() > 0);
    sent.map(|(step, part)| StepRecord {
        name: step.name().to_owned(),
        outcomes: counts(&part.by_code),
        latency_ns: Latency::of(&part.latency),
    })
    .collect()
}

impl Latencies {
    fn of(tally: &Tally) -> Self {
        let of = |class| Latency::with_curve(tally.latency(class));
        Self {
            winners: of(Class::Winner),
            refusals: of(Class::Refusal),
            unknown: of(Class::Unknown),
            unsent: of(Class::Unsent),
            all: Latency::with_curve(&tally.latency_all()),
        }
    }
}

impl Latency {
    /// Quantiles of what was measured; `None` if that is nothing.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile);
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            mean: histogram.mean().round() as u64,
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max(),
            curve: Vec::new(),
        })
    }

    fn with_curve(histogram: &Histogram<u64>) -> Option<Self> {
        let curve = curve(histogram);
        Self::of(histogram).map(|latency| Self { curve, ..latency })
    }
}

/// Quantiles 0, 0.17, 0.32 … ever closer to 1, as far as there are measurements to tell them
/// apart: beyond 1 − 1/count there is only the maximum.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    let steps = 0..=CURVE_POINTS * CURVE_TENS_MAX;
    let quantile = |step| 1.0 - 10f64.powf(-f64::from(step) / f64::from(CURVE_POINTS));
    // Few digits: they are written as text, and no more of them mean anything.
    let quantiles = steps.map(|step| (quantile(step) * 1e7_f64).round() / 1e7);
    let told_apart = quantiles.take_while(|quantile| (1.0 - quantile) * histogram.len() as f64 >= 1.0);
    told_apart.map(|quantile| (quantile, histogram.value_at_quantile(quantile))).collect()
}

impl TimelineRecord {
    fn of(timeline: &Timeline) -> Self {
        Self {
            slice_ms: timeline.slice_ns() / 1_000_000,
            slices: timeline.slices().iter().map(SliceRecord::of).collect(),
        }
    }
}

impl SliceRecord {
    fn of(slice: &Slice) -> Self {
        let at = |quantile| slice.latency.value_at_quantile(quantile);
        let latency_ns = (!slice.latency.is_empty()).then(|| SliceLatency {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: slice.latency.max(),
        });
        Self { due: slice.due, outcomes: counts(&slice.by_code), latency_ns }
    }
}

impl VerdictRecord {
    fn of(verdict: &Verdict) -> Self {
        let violations = verdict.violations.iter().map(|violation| ViolationRecord {
            name: violation.name().to_owned(),
            text: violation.to_string(),
        });
        Self {
            fine: verdict.is_fine(),
            words: verdict.to_string(),
            has_books: verdict.has_books,
            orders: verdict.orders,
            acks: verdict.acks,
            recalled: verdict.recalled,
            postgres_orders: verdict.postgres_orders,
            not_asked: verdict.not_asked.clone(),
            violations_total: verdict.violations_total,
            violations: violations.collect(),
        }
    }
}
