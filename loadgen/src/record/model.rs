//! The record as a document: its fields, in the order of its JSON. Next: `record/measure.rs`, which fills it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::settings::Settings;
use crate::check::Ruling;
use crate::meaning::{Class, Code};

/// What `format` says in every record that this version writes and reads.
pub const FORMAT: &str = "stampede-loadgen-report-2";

/// Counts by name: of an outcome, of a status.
pub type Counts = BTreeMap<String, u64>;

/// Whether the target rate was reached, and if not, whose limit that was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptUp {
    /// There was no target: the closed loop sends as responses come.
    NoTarget,
    /// It was reached, on time.
    Yes,
    /// The generator was too slow: its figures tell nothing about the server's limit.
    GeneratorLimit,
    /// The server, or the number of connections, was too slow.
    ServerLimit,
    /// It was not reached, and the generator was kept from running: whose limit it was cannot be said.
    Unknown,
}

impl KeptUp {
    /// Its words in a report; `None` without a target.
    pub const fn words(self) -> Option<&'static str> {
        match self {
            Self::NoTarget => None,
            Self::Yes => Some("yes"),
            Self::GeneratorLimit => {
                Some("NO: the generator sent late: add threads (-t), lower the rate or free a core")
            }
            Self::Unknown => Some(
                "NOT KNOWN whose limit it was: the generator waited for a processor; free a core or use another machine",
            ),
            Self::ServerLimit => Some("NO: the server, or the number of connections (-c), was the limit"),
        }
    }
}

/// A run, whole.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`FORMAT`].
    pub format: String,
    /// The generator's version.
    pub version: String,
    /// When the run began, in Unix milliseconds.
    pub began_at_ms: u64,
    /// The command line, [`without_secrets`]; empty if it was not told.
    pub command: Vec<String>,
    /// Where the generator ran.
    pub machine: Machine,
    /// What was requested.
    pub config: Settings,
    /// From the first due moment to the last, or to the last response if that came earlier.
    pub elapsed_ns: u64,
    /// Responses per second within that time.
    pub achieved_per_s: f64,
    /// Whether the target rate was reached.
    pub kept_up: KeptUp,
    /// What the generator itself took.
    pub generator: Generator,
    /// Requests sent, retries included.
    pub requests_sent: u64,
    /// Ends that came after the run's last moment.
    pub late: u64,
    /// Connections made after the first ones.
    pub reconnects: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Ends by outcome; an outcome that nothing came to is left out.
    pub outcomes: Counts,
    /// Attempts that were tried again with the same key, by what they met.
    pub tried_again: Counts,
    /// Responses by HTTP status.
    pub statuses: Counts,
    /// How many different orders clients were told about, if that was kept.
    pub orders_acked: Option<u64>,
    /// Latencies by class.
    pub latency_ns: Latencies,
    /// The requests around the purchases.
    pub steps: Vec<StepRecord>,
    /// What happened when.
    pub timeline: TimelineRecord,
    /// How the stock fell, if the merchant API was read.
    pub stock: Option<Stock>,
    /// Whether it was ended from outside.
    pub interrupted: bool,
    /// Why it gave up before its end, if it did.
    pub gave_up: Option<String>,
    /// The verdict, if the run was verified.
    pub verdict: Option<VerdictRecord>,
    /// Why there is no verdict, if one was wanted.
    pub not_verified: Option<String>,
    /// What was asserted of the run.
    pub assertions: Vec<AssertionRecord>,
}

/// What the generator itself took.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// CPU time of its threads.
    pub cpu_ns: u64,
    /// Share of the time for which they were busy, 0 to 1.
    pub busy_share: f64,
    /// Share of the time for which they were ready to run and did not, 0 to 1.
    pub waited_share: f64,
    /// The longest time for which one of them did not look at its connections.
    pub stall_ns_max: u64,
    /// Requests sent per second of CPU time.
    pub requests_per_cpu_s: f64,
    /// How late it sent by its own fault: from when a request was due and a connection free.
    pub send_lag_ns: Option<Latency>,
}

/// Quantiles of a set of latencies, in nanoseconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// How many there are; never 0.
    pub count: u64,
    /// Their mean.
    pub mean: u64,
    /// Half are at most this.
    pub p50: u64,
    /// Three quarters are at most this.
    pub p75: u64,
    /// 90 % are at most this.
    pub p90: u64,
    /// 95 % are at most this.
    pub p95: u64,
    /// 99 % are at most this.
    pub p99: u64,
    /// 99.9 % are at most this.
    #[serde(rename = "p99.9")]
    pub p999: u64,
    /// 99.99 % are at most this.
    #[serde(rename = "p99.99")]
    pub p9999: u64,
    /// All are at most this.
    pub max: u64,
    /// Pairs of quantile and latency, ascending, for the curve; none where none is drawn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(f64, u64)>,
}

/// The names of [`Latency`]'s figures, in the order in which they are shown.
pub const LATENCY_NAMES: [&str; 9] = ["p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99", "max", "mean"];

/// Whether so many measurements are enough for the figure with one of [`LATENCY_NAMES`]: a quantile
/// beyond 1 − 1/count is nothing but the maximum.
pub fn is_supported(name: &str, count: u64) -> bool {
    let needed = match name {
        "p75" => 4,
        "p90" => 10,
        "p95" => 20,
        "p99" => 100,
        "p99.9" => 1_000,
        "p99.99" => 10_000,
        _ => 1,
    };
    count >= needed
}

impl Latency {
    /// The figure with one of [`LATENCY_NAMES`], in nanoseconds, if [`is_supported`] by their number.
    pub fn named(&self, name: &str) -> Option<u64> {
        if !is_supported(name, self.count) {
            return None;
        }
        let Self { mean, p50, p75, p90, p95, p99, p999, p9999, max, .. } = *self;
        let values = [p50, p75, p90, p95, p99, p999, p9999, max, mean];
        LATENCY_NAMES.iter().position(|&known| known == name).map(|index| values[index])
    }
}

/// Latencies by the class of their end; `None` where nothing came to such an end.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latencies {
    /// Of those who got an order, or the page that was requested.
    pub winners: Option<Latency>,
    /// Of those whom the server refused.
    pub refusals: Option<Latency>,
    /// Of those whose end nobody knows: how long was waited.
    pub unknown: Option<Latency>,
    /// Of those that were due and never left.
    pub unsent: Option<Latency>,
    /// Of all together.
    pub all: Option<Latency>,
}

impl Latencies {
    /// The classes that measured something, with their names.
    pub fn measured(&self) -> impl Iterator<Item = (&'static str, &Latency)> {
        let parts = [
            ("winners", &self.winners),
            ("refusals", &self.refusals),
            ("unknown", &self.unknown),
            ("unsent", &self.unsent),
            ("all", &self.all),
        ];
        parts.into_iter().filter_map(|(name, latency)| Some((name, latency.as_ref()?)))
    }
}

/// One kind of request around the purchases.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRecord {
    /// Which.
    pub name: String,
    /// Ends by outcome.
    pub outcomes: Counts,
    /// How long each took.
    pub latency_ns: Option<Latency>,
}

/// What happened when: slices of equal length from the beginning on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimelineRecord {
    /// Length of a slice.
    pub slice_ms: u64,
    /// The slices; the last may be cut short by the end of the run.
    pub slices: Vec<SliceRecord>,
}

/// One slice of the timeline.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceRecord {
    /// Requests that became due in it, whether or not they could be sent.
    pub due: u64,
    /// Ends in it, by outcome.
    pub outcomes: Counts,
    /// Latencies of what ended in it; `None` if nothing did.
    pub latency_ns: Option<SliceLatency>,
}

/// Quantiles of one slice, in nanoseconds, to two digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceLatency {
    /// Half are at most this.
    pub p50: u64,
    /// 99 % are at most this.
    pub p99: u64,
    /// 99.9 % are at most this.
    #[serde(rename = "p99.9")]
    pub p999: u64,
    /// All are at most this.
    pub max: u64,
}

/// How the stock fell: the merchant API, read repeatedly during the run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stock {
    /// Pairs of the time since the run began, in milliseconds, and the units available then.
    pub samples: Vec<(u64, i64)>,
}

/// What the checker says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictRecord {
    /// What it comes down to.
    pub ruling: Ruling,
    /// Whether that is [`Ruling::Fine`].
    pub fine: bool,
    /// All of it in one line of words.
    pub words: String,
    /// Whether the merchant's totals and orders were looked at; without them it is what clients can see.
    pub has_books: bool,
    /// Orders of the merchant's list that were looked at.
    pub orders: u64,
    /// Acks that were compared with them, or with each other.
    pub acks: u64,
    /// Acked orders that were requested again as their buyers.
    pub recalled: u64,
    /// Rows of Postgres that were compared, if any.
    pub postgres_orders: Option<u64>,
    /// What was not looked at, and how it could be.
    pub not_asked: Vec<String>,
    /// What was looked at and could not be verified, each with its reason.
    pub undecided: Vec<String>,
    /// If not one request got as far as the sale: what the server said instead.
    pub nothing_let_in: Option<String>,
    /// How many promises are broken.
    pub violations_total: u64,
    /// The first of them.
    pub violations: Vec<ViolationRecord>,
}

/// One broken promise.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViolationRecord {
    /// Its short stable name.
    pub name: String,
    /// What is broken, with the order or key.
    pub text: String,
}

/// Something that was asserted of the run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssertionRecord {
    /// What was asserted.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was measured, in words.
    pub measured: String,
}

/// The kind of end that an outcome's name stands for; a name of a later version counts as a refusal.
pub fn class_of(outcome: &str) -> Class {
    Code::ALL.iter().find(|code| code.name() == outcome).map_or(Class::Refusal, |code| code.class())
}

/// Counts in the order in which reports show outcomes; names of a later version come last.
pub fn in_order(counts: &Counts) -> Vec<(&str, u64)> {
    let place = |name: &str| Code::ALL.iter().position(|code| code.name() == name).unwrap_or(usize::MAX);
    let mut rows: Vec<_> = counts.iter().map(|(name, &count)| (name.as_str(), count)).collect();
    rows.sort_by_key(|&(name, _)| place(name));
    rows
}

/// How many of these ended in a class.
pub fn in_class(counts: &Counts, class: Class) -> u64 {
    counts.iter().filter(|(name, _)| class_of(name) == class).map(|(_, count)| count).sum()
}

impl Record {
    /// All that came to an end, unsent ones included.
    pub fn total(&self) -> u64 {
        self.outcomes.values().sum()
    }
    /// How many came to this outcome.
    pub fn count(&self, outcome: &str) -> u64 {
        self.outcomes.get(outcome).copied().unwrap_or(0)
    }
    /// How many ended in this class.
    pub fn class_count(&self, class: Class) -> u64 {
        in_class(&self.outcomes, class)
    }
    /// How many got no response that settles it: unknown ends, server errors and unsent ones.
    pub fn errors(&self) -> u64 {
        self.class_count(Class::Unknown) + self.class_count(Class::Unsent)
    }
}
