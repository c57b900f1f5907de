//! Two runs side by side: one figure per line, with what differs between them said first.
//!
//! A figure means the same in both only if machine, version and settings are the same;
//! hence the warnings. It judges no run. Next: [`crate::record`].

use std::fmt::Write as _;

use serde::Serialize;

use super::html::date;
use super::text::{show_rate, what_was_run};
use crate::answer::Class;
use crate::record::{KeptUp, LATENCY_NAMES, Latency, Record};
use crate::units::{show_count, show_ns};

/// Two figures whose ratio is nearer to 1 than this are called alike.
const ALIKE: f64 = 0.01;
/// Latency figures that are compared class by class.
const CLASS_NAMES: [&str; 4] = ["p50", "p99", "p99.9", "max"];

/// Two runs, compared.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// What makes the figures hard to compare, one line each.
    pub warnings: Vec<String>,
    /// The figures that at least one of them has.
    pub figures: Vec<Figure>,
}

/// One figure of both runs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// What it is counted in.
    pub unit: Unit,
    /// In the first run.
    pub a: Option<f64>,
    /// In the second.
    pub b: Option<f64>,
    /// The second over the first, where both are there and the first is not 0.
    pub ratio: Option<f64>,
    /// How the second is to be taken.
    pub mark: Mark,
}

/// What a figure is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// A number of things.
    Count,
    /// Things per second.
    PerS,
}

/// How the second figure is to be taken beside the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Better by a hundredth at least.
    Better,
    /// Worse by a hundredth at least.
    Worse,
    /// The same within a hundredth.
    Alike,
    /// Neither is good or bad by itself.
    Open,
}

/// Which direction is good.
#[derive(Clone, Copy)]
enum Good {
    Up,
    Down,
    Neither,
}

impl Figure {
    fn new(name: &str, unit: Unit, good: Good, (a, b): (Option<f64>, Option<f64>)) -> Self {
        let ratio = match (a, b) {
            (Some(a), Some(b)) if a != 0.0 => Some(b / a),
            _ => None,
        };
        Self { name: name.to_owned(), unit, a, b, ratio, mark: mark(good, a, b) }
    }
}

fn mark(good: Good, a: Option<f64>, b: Option<f64>) -> Mark {
    let (Some(a), Some(b)) = (a, b) else { return Mark::Open };
    if (b - a).abs() <= ALIKE * a.abs() {
        return Mark::Alike;
    }
    match (good, b > a) {
        (Good::Neither, _) => Mark::Open,
        (Good::Up, true) | (Good::Down, false) => Mark::Better,
        (Good::Up, false) | (Good::Down, true) => Mark::Worse,
    }
}

impl Comparison {
    /// Holds the second run beside the first.
    pub fn new(a: &Record, b: &Record) -> Self {
        let mut figures = counts(a, b);
        let both = (&a.latency_ns, &b.latency_ns);
        figures.extend(latencies("", &LATENCY_NAMES, (both.0.all.as_ref(), both.1.all.as_ref())));
        let winners = (both.0.winners.as_ref(), both.1.winners.as_ref());
        figures.extend(latencies("winners ", &CLASS_NAMES, winners));
        let refusals = (both.0.refusals.as_ref(), both.1.refusals.as_ref());
        figures.extend(latencies("refusals ", &CLASS_NAMES, refusals));
        for step in &a.steps {
            let theirs = b.steps.iter().find(|other| other.name == step.name);
            let pair = (step.latency_ns.as_ref(), theirs.and_then(|other| other.latency_ns.as_ref()));
            figures.extend(latencies(&format!("{} ", step.name), &["p50", "p99"], pair));
        }
        figures.extend(generator(a, b));
        figures.retain(|figure| figure.a.is_some() || figure.b.is_some());
        Self { warnings: warnings(a, b), figures }
    }

    /// The comparison as text; `names` are those of the two files.
    pub fn text(&self, (a, b): (&Record, &Record), names: (&str, &str)) -> String {
        let mut text = String::new();
        for (letter, name, record) in [("A", names.0, a), ("B", names.1, b)] {
            let (what, in_loop) = what_was_run(record);
            let _ = writeln!(text, "{letter}  {name}: {what}, {in_loop}, {}", date(record.began_at_ms));
        }
        text.push('\n');
        for warning in &self.warnings {
            let _ = writeln!(text, "  ! {warning}");
        }
        let gap = if self.warnings.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{gap}  {:<28}{:>13}{:>13}{:>9}", "figure", "A", "B", "B/A");
        for figure in &self.figures {
            let (a, b) = (show(figure.a, figure.unit), show(figure.b, figure.unit));
            let ratio = figure.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
            let mark = match figure.mark {
                Mark::Better => "better",
                Mark::Worse => "WORSE",
                Mark::Alike => "=",
                Mark::Open => "",
            };
            let line = format!("  {:<28}{a:>13}{b:>13}{ratio:>9}  {mark}", figure.name);
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

fn counts(a: &Record, b: &Record) -> Vec<Figure> {
    let figure = |name: &str, unit, good, value: &dyn Fn(&Record) -> Option<f64>| {
        Figure::new(name, unit, good, (value(a), value(b)))
    };
    let of = |class| move |record: &Record| Some(record.class_count(class) as f64);
    let mut figures = vec![
        figure("rate, answers/s", Unit::PerS, Good::Up, &|record| Some(record.achieved_per_s)),
        figure("length", Unit::Ns, Good::Neither, &|record| Some(record.elapsed_ns as f64)),
        figure("winners", Unit::Count, Good::Neither, &of(Class::Winner)),
        figure("refusals", Unit::Count, Good::Neither, &of(Class::Refusal)),
        figure("no clear answer", Unit::Count, Good::Down, &|record| Some(record.errors() as f64)),
    ];
    let mut names: Vec<_> = a.outcomes.keys().chain(b.outcomes.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let value = |record: &Record| Some(record.count(name) as f64);
        figures.push(figure(&format!("outcome {name}"), Unit::Count, Good::Neither, &value));
    }
    figures.push(figure("tried again", Unit::Count, Good::Down, &|record| {
        Some(record.tried_again.values().sum::<u64>() as f64)
    }));
    figures.push(figure("reconnects", Unit::Count, Good::Down, &|record| Some(record.reconnects as f64)));
    figures
}

fn latencies(prefix: &str, names: &[&str], (a, b): (Option<&Latency>, Option<&Latency>)) -> Vec<Figure> {
    let value = |of: Option<&Latency>, name| of.and_then(|of| of.named(name)).map(|ns| ns as f64);
    let each = names.iter().map(|name| {
        Figure::new(&format!("{prefix}{name}"), Unit::Ns, Good::Down, (value(a, name), value(b, name)))
    });
    each.collect()
}

fn generator(a: &Record, b: &Record) -> [Figure; 2] {
    let lag = |record: &Record| record.generator.send_lag_ns.as_ref().map(|lag| lag.p99 as f64);
    let per_cpu_s = |record: &Record| Some(record.generator.requests_per_cpu_s);
    [
        Figure::new("generator: send lag p99", Unit::Ns, Good::Down, (lag(a), lag(b))),
        Figure::new("generator: requests/CPU s", Unit::PerS, Good::Up, (per_cpu_s(a), per_cpu_s(b))),
    ]
}

/// What stands in the way of comparing, one line each.
fn warnings(a: &Record, b: &Record) -> Vec<String> {
    let mut lines = Vec::new();
    let mut differs = |name: &str, a: &str, b: &str| {
        if a != b {
            lines.push(format!("{name} differs: {a} and {b}"));
        }
    };
    differs("version", &a.version, &b.version);
    let rows = (a.machine.rows(), b.machine.rows());
    each_pair(&rows.0, &rows.1, |name, a, b| differs(&format!("machine: {name}"), a, b));
    let rows = (a.config.rows(), b.config.rows());
    each_pair(&rows.0, &rows.1, |name, a, b| differs(&name.replace('_', " "), a, b));
    for (letter, record) in [("A", a), ("B", b)] {
        lines.extend(doubts(record).into_iter().map(|doubt| format!("{letter} {doubt}")));
    }
    lines
}

/// Each name that either has, with both values; a name that one lacks is `not set` there.
fn each_pair(a: &[(&str, String)], b: &[(&str, String)], mut tell: impl FnMut(&str, &str, &str)) {
    const NOT_SET: &str = "not set";
    let value = |rows: &[(&str, String)], name: &str| {
        let row = rows.iter().find(|(known, _)| *known == name);
        row.map_or_else(|| NOT_SET.to_owned(), |(_, value)| value.clone())
    };
    a.iter().for_each(|(name, ours)| tell(name, ours, &value(b, name)));
    let only_b = b.iter().filter(|(name, _)| !a.iter().any(|(known, _)| known == name));
    only_b.for_each(|(name, theirs)| tell(name, NOT_SET, theirs));
}

/// Why the figures of a run should not be trusted much.
fn doubts(record: &Record) -> Vec<String> {
    let mut doubts = Vec::new();
    match record.kept_up {
        KeptUp::GeneratorLimit => doubts.push("did not keep up: its generator was the limit".to_owned()),
        KeptUp::ServerLimit => doubts.push("did not reach its target rate".to_owned()),
        KeptUp::Yes | KeptUp::NoTarget => {}
    }
    match &record.verdict {
        Some(verdict) if verdict.fine => {}
        Some(verdict) => doubts.push(format!("broke a promise: {}", verdict.words)),
        None if record.config.request.is_none() => doubts.push("was not verified".to_owned()),
        None => {}
    }
    if record.interrupted {
        doubts.push("was interrupted".to_owned());
    }
    if record.gave_up.is_some() {
        doubts.push("gave up before its end".to_owned());
    }
    doubts
}

fn show(value: Option<f64>, unit: Unit) -> String {
    match (value, unit) {
        (None, _) => "-".to_owned(),
        (Some(value), Unit::Ns) => show_ns(value as u64),
        (Some(value), Unit::Count) => show_count(value as u64),
        (Some(value), Unit::PerS) => show_rate(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    fn figure<'a>(comparison: &'a Comparison, name: &str) -> &'a Figure {
        comparison.figures.iter().find(|figure| figure.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    #[test]
    fn a_run_is_like_itself() {
        let (a, b) = (sample(), sample());
        let comparison = Comparison::new(&a, &b);
        assert_eq!(comparison.warnings, [""; 0]);
        assert!(comparison.figures.iter().all(|figure| figure.mark == Mark::Alike), "{comparison:?}");
        let text = comparison.text((&a, &b), ("a.json", "b.json"));
        assert!(text.contains("A  a.json: purchases of item 1, open loop, 1 000/s, 2026-11-23 "), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf") && text.contains("1.000  ="), "{text}");
    }

    #[test]
    fn better_and_worse_are_marked_where_that_is_known() {
        let (a, mut b) = (sample(), sample());
        b.achieved_per_s = 1_960.0;
        if let Some(all) = &mut b.latency_ns.all {
            (all.p50, all.p99) = (all.p50 / 2, all.p99 * 3);
        }
        b.outcomes.insert("reset".to_owned(), 80);
        b.latency_ns.refusals = None;
        let comparison = Comparison::new(&a, &b);
        let told = |name| (figure(&comparison, name).ratio, figure(&comparison, name).mark);
        assert_eq!(told("rate, answers/s"), (Some(2.0), Mark::Better));
        assert_eq!((told("p50"), told("p99")), ((Some(0.5), Mark::Better), (Some(3.0), Mark::Worse)));
        assert_eq!(told("no clear answer"), (Some(5.0), Mark::Worse));
        assert_eq!(told("outcome reset"), (None, Mark::Open), "nothing cannot be divided by");
        assert_eq!(told("refusals p99"), (None, Mark::Open), "one of them has none");
        assert_eq!(told("winners").1, Mark::Alike);
    }

    #[test]
    fn what_makes_them_hard_to_compare_is_said() {
        let (a, mut b) = (sample(), sample());
        (b.version, b.machine.kernel, b.machine.cores) = ("0.2.0".to_owned(), "6.1".to_owned(), 64);
        (b.config.seed, b.config.users, b.kept_up) = (8, Some(9), KeptUp::GeneratorLimit);
        (b.verdict, b.interrupted) = (None, true);
        let warnings = Comparison::new(&a, &b).warnings;
        let expected = [
            "version differs: 0.1.0 and 0.2.0",
            "machine: kernel differs: 6.18.0 and 6.1",
            "machine: cores differs: 2 and 64",
            "seed differs: 7 and 8",
            "users differs: not set and 9",
            "B did not keep up: its generator was the limit",
            "B was not verified",
            "B was interrupted",
        ];
        assert_eq!(warnings, expected);
        let text = Comparison::new(&a, &b).text((&a, &b), ("a", "b"));
        assert!(expected.iter().all(|line| text.contains(&format!("  ! {line}\n"))), "{text}");
    }
}
