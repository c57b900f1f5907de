//! Fills a record from a run: counts to names, histograms to quantiles.
//!
//! Next: [`crate::record`], [`crate::engine::Tally`], where the figures come from.

use hdrhistogram::Histogram;

use super::machine::Machine;
use super::model::{
    Counts, FORMAT, Generator, KeptUp, Latencies, Latency, Record, SliceLatency, SliceRecord, StepRecord,
    TimelineRecord, VerdictRecord, ViolationRecord,
};
use super::settings::Settings;
use crate::check::Verdict;
use crate::engine::{Outcome, RunConfig, Slice, Step, Tally, Timeline};
use crate::history::History;
use crate::meaning::{Class, Code};

/// A generator that sends this late in one case of a hundred, and not just a few times, is itself the
/// limit, in nanoseconds.
const LAG_NS_MAX: u64 = 2_000_000;
/// Fewer late requests than this say nothing.
const LATE_MIN: u64 = 20;
/// Above this share of time spent waiting for a processor nobody knows what the server could do.
const WAITED_SHARE_MAX: f64 = 0.05;
/// A thread that is busy for this share of the time is the limit.
const BUSY_SHARE_MAX: f64 = 0.9;
/// Below this share of its target rate a run has not kept up.
const KEPT_UP_SHARE: f64 = 0.99;
/// Points of the curve per power of ten of 1 / (1 − quantile).
const CURVE_POINTS: u32 = 12;
/// The most powers of ten that it covers: to the quantile 0.999999.
const CURVE_TENS_MAX: u32 = 6;

impl Record {
    /// The record of a run, verified or not; command line, stock and assertions are added by the caller.
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
            kept_up: kept_up(config, tally, &generator),
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

fn kept_up(config: &RunConfig, tally: &Tally, generator: &Generator) -> KeptUp {
    if !config.mode.is_open() {
        return KeptUp::NoTarget;
    }
    let short = (on_time(tally) as f64) < KEPT_UP_SHARE * tally.total() as f64;
    let Generator { busy_share, waited_share, .. } = *generator;
    match short {
        _ if sent_late(tally) => KeptUp::GeneratorLimit,
        true if busy_share + waited_share > BUSY_SHARE_MAX => KeptUp::GeneratorLimit,
        true if waited_share > WAITED_SHARE_MAX => KeptUp::Unknown,
        true => KeptUp::ServerLimit,
        false => KeptUp::Yes,
    }
}

/// Whether requests left late although they were due and a connection was free: in more than one case
/// of a hundred, and often enough to be no chance.
fn sent_late(tally: &Tally) -> bool {
    let late = tally.lag.len() - tally.lag.count_between(0, LAG_NS_MAX);
    late >= LATE_MIN && late * 100 > tally.lag.len()
}

impl Generator {
    fn of(config: &RunConfig, tally: &Tally) -> Self {
        let wall_ns = tally.last_done_ns.max(tally.over_ns).saturating_sub(tally.begin_ns).max(1);
        let span_ns = wall_ns as f64 * f64::from(config.threads.max(1));
        // A thread that was stopped waits in no queue, and one that was queued may have slept.
        let waited_ns = tally.queued_ns.unwrap_or(0).max(tally.overslept_ns);
        Self {
            cpu_ns: tally.cpu_ns,
            busy_share: (tally.cpu_ns as f64 / span_ns).min(1.0),
            waited_share: (waited_ns as f64 / span_ns).min(1.0),
            stall_ns_max: tally.stall_ns_max,
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
            ruling: verdict.ruling(),
            fine: verdict.is_fine(),
            words: verdict.to_string(),
            has_books: verdict.has_orders,
            orders: verdict.orders,
            acks: verdict.acks,
            recalled: verdict.recalled,
            postgres_orders: verdict.postgres_orders,
            not_asked: verdict.not_asked.clone(),
            undecided: verdict.undecided.clone(),
            nothing_let_in: verdict.nothing_let_in.clone(),
            violations_total: verdict.violations_total,
            violations: violations.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Mode;
    use crate::workload::Workload;

    const MS: u64 = 1_000_000;

    fn a_second() -> Tally {
        let mut tally = Tally::default();
        (tally.begin_ns, tally.over_ns, tally.last_done_ns) = (0, 1_000 * MS, 1_000 * MS);
        tally
    }

    /// Whose limit a second of an open loop shows: `answered` of 1,000 came in time, so many requests
    /// left late, and the one thread was busy and waited for that share of the second.
    fn told(answered: u64, (late, sent): (u64, u64), busy: f64, waited: f64) -> KeptUp {
        let addr = "127.0.0.1:1".parse().unwrap();
        let mut config = RunConfig::closed(addr, Workload::purchases(1, 1), 1);
        config.mode = Mode::open(1_000.0);
        let mut tally = a_second();
        tally.by_code[Code::Won as usize] = answered;
        tally.by_code[Code::Unsent as usize] = 1_000 - answered;
        for number in 0..sent {
            tally.lag.record(if number < late { 4 * MS } else { MS / 100 }).unwrap();
        }
        tally.cpu_ns = (busy * 1e9) as u64;
        tally.queued_ns = Some((waited * 1e9) as u64);
        kept_up(&config, &tally, &Generator::of(&config, &tally))
    }

    #[test]
    fn whose_limit_it_was() {
        let fine = (0, 1_000);
        assert_eq!(told(1_000, fine, 0.1, 0.0), KeptUp::Yes);
        // One late request of 40 is their p99, and no limit.
        assert_eq!(told(1_000, (1, 40), 0.02, 0.0), KeptUp::Yes);
        assert_eq!(told(1_000, (19, 400), 0.02, 0.0), KeptUp::Yes);
        // Many in number and few in share are the tail of any machine.
        assert_eq!(told(1_000, (30, 10_000), 0.02, 0.0), KeptUp::Yes);
        assert_eq!(told(1_000, (30, 1_000), 0.02, 0.0), KeptUp::GeneratorLimit);
        assert_eq!(told(500, fine, 0.1, 0.0), KeptUp::ServerLimit);
        assert_eq!(told(500, fine, 0.95, 0.0), KeptUp::GeneratorLimit);
        // Ready to run, and not run: half the time of a core that others use.
        assert_eq!(told(500, fine, 0.5, 0.45), KeptUp::GeneratorLimit);
        assert_eq!(told(500, fine, 0.3, 0.2), KeptUp::Unknown);
    }

    /// A thread that was stopped stood in no queue: it slept longer than it wanted to.
    #[test]
    fn what_a_stopped_generator_lost_counts_as_waited() {
        let addr = "127.0.0.1:1".parse().unwrap();
        let config = RunConfig::closed(addr, Workload::purchases(1, 1), 1);
        let mut tally = a_second();
        tally.overslept_ns = 400 * MS;
        assert!((Generator::of(&config, &tally).waited_share - 0.4).abs() < 1e-6);
    }

    #[test]
    fn quantiles_beyond_what_was_measured_are_none() {
        let of = |count: u64| {
            let mut histogram = crate::engine::Tally::default().lag;
            (0..count).for_each(|ns| histogram.record(ns + 1).unwrap());
            Latency::of(&histogram).unwrap()
        };
        let named = |count: u64| {
            let latency = of(count);
            super::super::LATENCY_NAMES.map(|name| latency.named(name).is_some())
        };
        //                       p50   p75    p90    p95    p99    p99.9  p99.99 max   mean
        assert_eq!(named(1), [true, false, false, false, false, false, false, true, true]);
        assert_eq!(named(40), [true, true, true, true, false, false, false, true, true]);
        assert_eq!(named(100), [true, true, true, true, true, false, false, true, true]);
        assert_eq!(named(10_000), [true; 9]);
    }
}
