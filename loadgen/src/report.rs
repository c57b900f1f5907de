//! What a run looks like to its reader: a page of text, and all of it as JSON.
//!
//! Pure values to text; no figure is ever NaN, and nothing that was not measured is
//! shown. Next: [`crate::engine::Tally`], where the figures come from.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::answer::{Class, Code};
use crate::check::Verdict;
use crate::engine::{Mode, Outcome, RunConfig};
use crate::history::History;
use crate::units::{show_count, show_ns};
use crate::workload::Target;

/// Quantiles that are shown, with their names.
const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("max", 1.0),
];
/// A generator that sends this late in one case of a hundred is itself the limit, in nanoseconds.
const LAG_P99_NS_MAX: u64 = 2_000_000;
/// A thread that is busy for this share of the time is the limit.
const BUSY_SHARE_MAX: f64 = 0.9;
/// Below this share of its target rate a run has not kept up.
const KEPT_UP_SHARE: f64 = 0.99;

/// Whether the target rate was reached, and if not, whose limit that was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeptUp {
    /// There was no target: the closed loop sends as answers come.
    NoTarget,
    /// It was reached, on time.
    Yes,
    /// The generator was too slow: its figures tell nothing about the server's limit.
    GeneratorLimit,
    /// The server, or the number of connections, was too slow.
    ServerLimit,
}

impl KeptUp {
    const fn name(self) -> &'static str {
        match self {
            Self::NoTarget => "no_target",
            Self::Yes => "yes",
            Self::GeneratorLimit => "generator_limit",
            Self::ServerLimit => "server_limit",
        }
    }
}

/// A run, with all that its report needs.
pub struct Report<'a> {
    config: &'a RunConfig,
    outcome: &'a Outcome,
    verdict: Option<&'a Verdict>,
}

impl<'a> Report<'a> {
    /// The report of a run, judged or not.
    pub const fn new(config: &'a RunConfig, outcome: &'a Outcome, verdict: Option<&'a Verdict>) -> Self {
        Self { config, outcome, verdict }
    }

    /// Answers per second within the run's time.
    pub fn achieved_per_s(&self) -> f64 {
        let tally = &self.outcome.tally;
        let in_time = tally.total() - tally.count(Code::Unsent) - tally.late;
        in_time as f64 * 1e9 / tally.elapsed_ns() as f64
    }

    /// Share of the time for which the generator's threads were busy, 0 to 1.
    pub fn busy_share(&self) -> f64 {
        let tally = &self.outcome.tally;
        let wall_ns = tally.last_done_ns.max(tally.over_ns).saturating_sub(tally.begin_ns).max(1);
        (tally.cpu_ns as f64 / (wall_ns as f64 * f64::from(self.config.threads))).min(1.0)
    }

    /// Whether the generator kept up with its target.
    pub fn kept_up(&self) -> KeptUp {
        let Mode::Open { .. } = self.config.mode else { return KeptUp::NoTarget };
        let tally = &self.outcome.tally;
        let due = tally.total();
        let on_time = due - tally.count(Code::Unsent) - tally.late;
        let late = tally.lag.value_at_quantile(0.99) > LAG_P99_NS_MAX;
        let short = (on_time as f64) < KEPT_UP_SHARE * due as f64;
        match (late || (short && self.busy_share() > BUSY_SHARE_MAX), short) {
            (true, _) => KeptUp::GeneratorLimit,
            (false, true) => KeptUp::ServerLimit,
            (false, false) => KeptUp::Yes,
        }
    }

    /// The page of text; with colours where a terminal reads it.
    pub fn text(&self, colours: bool) -> String {
        let mut text = String::new();
        self.write_head(&mut text);
        self.write_rate(&mut text, colours);
        self.write_outcomes(&mut text);
        self.write_latencies(&mut text);
        self.write_end(&mut text, colours);
        text
    }

    fn write_head(&self, text: &mut String) {
        let RunConfig { connections, threads, pipeline, workload, .. } = self.config;
        let what = match &workload.target {
            Target::Purchase { item } => format!("purchases of item {item}"),
            Target::Raw { method, path } => format!("{method} {path}"),
        };
        let (loop_name, latency) = match self.config.mode {
            Mode::Open { per_s } => (
                format!("open loop, {}/s", show_count(per_s as u64)),
                "from the intended send time (coordinated omission: corrected)",
            ),
            Mode::Closed => (
                "closed loop".to_owned(),
                "from the actual send time (closed loop; coordinated omission: not corrected)",
            ),
        };
        let (version, addr) = (env!("CARGO_PKG_VERSION"), self.config.addr);
        let _ = writeln!(text, "stampede-loadgen {version}: {what} at {addr}, {loop_name}");
        let _ = writeln!(
            text,
            "  {connections} connections, {threads} threads, pipeline {pipeline}, seed {}",
            workload.seed
        );
        let _ = writeln!(text, "  latency is counted {latency}\n");
    }

    fn write_rate(&self, text: &mut String, colours: bool) {
        let tally = &self.outcome.tally;
        let (achieved, elapsed) = (self.achieved_per_s(), tally.elapsed_ns());
        let target = match self.config.mode {
            Mode::Open { per_s } => format!("target {}/s, ", show_count(per_s.round() as u64)),
            Mode::Closed => String::new(),
        };
        let rate = show_count(achieved.round() as u64);
        let _ = writeln!(text, "  rate       {target}achieved {rate}/s over {}", show_ns(elapsed));
        let busy = self.busy_share() * 100.0;
        let per_cpu = show_count(per_cpu_s(self.outcome).round() as u64);
        let _ =
            writeln!(text, "  generator  CPU {busy:.0} % of its threads, {per_cpu} requests per CPU second");
        let lag = show_ns(tally.lag.value_at_quantile(0.99));
        let kept_up = match self.kept_up() {
            KeptUp::NoTarget => return,
            KeptUp::Yes => "yes".to_owned(),
            KeptUp::GeneratorLimit => {
                red("NO: the generator sent late: add threads (-t), lower the rate or free a core", colours)
            }
            KeptUp::ServerLimit => {
                red("NO: the server, or the number of connections (-c), was the limit", colours)
            }
        };
        let _ = writeln!(text, "  kept up    {kept_up} (send lag p99 {lag})");
    }

    fn write_outcomes(&self, text: &mut String) {
        let tally = &self.outcome.tally;
        let total = tally.total().max(1);
        let _ = writeln!(text, "\n  outcome                        count    share");
        for &code in Code::ALL.iter().filter(|&&code| tally.count(code) > 0) {
            let count = tally.count(code);
            let kind = if code.class() == Class::Unknown { " (unknown)" } else { "" };
            let name = format!("{}{kind}", code.name());
            let share = count as f64 * 100.0 / total as f64;
            let _ = writeln!(text, "  {name:<24} {:>11}  {share:6.2} %", show_count(count));
        }
        let again: u64 = tally.tried_again.iter().sum();
        if again > 0 {
            let each = Code::ALL.iter().filter(|&&code| tally.tried_again[code as usize] > 0);
            let each: Vec<_> =
                each.map(|&code| format!("{} {}", code.name(), tally.tried_again[code as usize])).collect();
            let _ = writeln!(
                text,
                "  tried again with the same key: {} ({})",
                show_count(again),
                each.join(", ")
            );
        }
        if let Some(history) = &self.outcome.history {
            let orders = show_count(history.orders_acked() as u64);
            let _ = writeln!(text, "  distinct orders acked: {orders}");
        }
        if tally.reconnects > 0 {
            let _ = writeln!(text, "  reconnects: {}", show_count(tally.reconnects));
        }
    }

    fn write_latencies(&self, text: &mut String) {
        let _ = write!(text, "\n  latency   ");
        for (name, _) in QUANTILES {
            let _ = write!(text, "{name:>9}");
        }
        text.push('\n');
        for (name, histogram) in self.histograms() {
            let _ = write!(text, "  {name:<10}");
            for (_, quantile) in QUANTILES {
                let _ = write!(text, "{:>9}", show_ns(histogram.value_at_quantile(quantile)));
            }
            text.push('\n');
        }
    }

    /// Those that measured something.
    fn histograms(&self) -> Vec<(&'static str, Histogram<u64>)> {
        let tally = &self.outcome.tally;
        let parts = [
            ("winners", tally.latency(Class::Winner).clone()),
            ("refusals", tally.latency(Class::Refusal).clone()),
            ("unknown", tally.latency(Class::Unknown).clone()),
            ("unsent", tally.latency(Class::Unsent).clone()),
            ("all", tally.latency_all()),
        ];
        parts.into_iter().filter(|(_, histogram)| !histogram.is_empty()).collect()
    }

    fn write_end(&self, text: &mut String, colours: bool) {
        if let Some(cause) = &self.outcome.gave_up {
            let cause = if cause.is_empty() { "the server closes every connection" } else { cause };
            let words = format!("GAVE UP: no answer for longer than --ride-out ({cause})");
            let _ = writeln!(text, "\n  {}", red(&words, colours));
        }
        if self.outcome.interrupted {
            let _ = writeln!(text, "\n  interrupted: the run ended early");
        }
        if let Some(verdict) = self.verdict {
            let words = verdict.to_string();
            let words = if verdict.is_fine() { words } else { red(&words, colours) };
            let _ = writeln!(text, "\n  verify     {words}");
        }
    }

    /// Everything, as JSON; all times in nanoseconds.
    pub fn json(&self) -> Value {
        let tally = &self.outcome.tally;
        let counts = |counts: &[u64]| -> Value {
            let known = Code::ALL.iter().filter(|&&code| counts[code as usize] > 0);
            known.map(|&code| (code.name().to_owned(), json!(counts[code as usize]))).collect()
        };
        let statuses = tally.by_status.iter().enumerate().filter(|&(_, &count)| count > 0);
        let latency: Value =
            self.histograms().iter().map(|(name, h)| ((*name).to_owned(), quantiles(h))).collect();
        json!({
            "format": "stampede-loadgen-report-1",
            "version": env!("CARGO_PKG_VERSION"),
            "began_at_ms": self.outcome.began_at_ms,
            "machine": { "kernel": kernel(), "cores": cores() },
            "config": self.config_json(),
            "elapsed_ns": tally.elapsed_ns(),
            "achieved_per_s": self.achieved_per_s(),
            "kept_up": self.kept_up().name(),
            "send_lag_ns": quantiles(&tally.lag),
            "generator_cpu_ns": tally.cpu_ns,
            "generator_busy_share": self.busy_share(),
            "requests_per_cpu_s": per_cpu_s(self.outcome),
            "requests_sent": tally.sent,
            "reconnects": tally.reconnects,
            "received_bytes": tally.received_bytes,
            "outcomes": counts(&tally.by_code),
            "tried_again": counts(&tally.tried_again),
            "orders_acked": self.outcome.history.as_ref().map(History::orders_acked),
            "statuses": statuses.map(|(status, count)| (status.to_string(), json!(count))).collect::<Value>(),
            "latency_ns": latency,
            "interrupted": self.outcome.interrupted,
            "gave_up": self.outcome.gave_up,
            "verdict": self.verdict.map(verdict_json),
        })
    }

    fn config_json(&self) -> Value {
        let RunConfig { connections, threads, pipeline, duration, requests, workload, .. } = self.config;
        let (mode, target_per_s) = match self.config.mode {
            Mode::Open { per_s } => ("open", Some(per_s)),
            Mode::Closed => ("closed", None),
        };
        let target = match &workload.target {
            Target::Purchase { item } => json!({ "item": item, "quantity": workload.quantity }),
            Target::Raw { method, path } => json!({ "method": method, "path": path }),
        };
        json!({
            "server": self.config.addr.to_string(),
            "mode": mode,
            "target_per_s": target_per_s,
            "coordinated_omission_corrected": mode == "open",
            "connections": connections,
            "threads": threads,
            "pipeline": pipeline,
            "duration_ms": duration.map(|length| length.as_millis() as u64),
            "requests": requests,
            "timeout_ms": self.config.timeout.as_millis() as u64,
            "ride_out_ms": self.config.ride_out.as_millis() as u64,
            "target": target,
            "users": workload.users,
            "repeat": workload.repeat,
            "seed": workload.seed,
        })
    }
}

/// The verdict as JSON.
pub fn verdict_json(verdict: &Verdict) -> Value {
    let each = |violation: &crate::check::Violation| json!({ "name": violation.name(), "text": violation.to_string() });
    json!({
        "fine": verdict.is_fine(),
        "orders": verdict.orders,
        "acks": verdict.acks,
        "postgres_orders": verdict.postgres_orders,
        "violations_total": verdict.violations_total,
        "violations": verdict.violations.iter().map(each).collect::<Vec<_>>(),
    })
}

fn quantiles(histogram: &Histogram<u64>) -> Value {
    let mut values: serde_json::Map<String, Value> =
        QUANTILES.iter().map(|&(name, q)| (name.to_owned(), json!(histogram.value_at_quantile(q)))).collect();
    values.insert("count".to_owned(), json!(histogram.len()));
    let mean = if histogram.is_empty() { 0.0 } else { histogram.mean() };
    values.insert("mean".to_owned(), json!(mean.round() as u64));
    Value::Object(values)
}

fn per_cpu_s(outcome: &Outcome) -> f64 {
    outcome.tally.sent as f64 * 1e9 / outcome.tally.cpu_ns.max(1) as f64
}

fn kernel() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    name.trim().to_owned()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn red(text: &str, colours: bool) -> String {
    if colours { format!("\x1b[1;31m{text}\x1b[0m") } else { text.to_owned() }
}
