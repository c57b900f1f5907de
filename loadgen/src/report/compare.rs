//! Two runs, or two sets of runs, side by side: one figure per line, with what differs between them
//! said first.
//!
//! A figure means the same in both only if machine, version and settings are the same; hence the
//! warnings. With several runs a side the medians are compared, and a difference within what runs of one
//! side differ by is called noise; with one run a side nobody knows, and that is said. It is informational.
//! Next: [`crate::record`].

use std::fmt::Write as _;

use serde::Serialize;

use super::html::date;
use super::text::{show_rate, what_was_run};
use crate::check::Ruling;
use crate::meaning::Class;
use crate::record::{KeptUp, LATENCY_NAMES, Latency, Record};
use crate::units::{show_count, show_ns};

/// Two figures whose ratio is nearer to 1 than this are called alike.
const ALIKE: f64 = 0.01;
/// Runs a side from which on noise can be told from a difference.
const RUNS_MIN: usize = 2;
/// Latency figures that are compared class by class.
const CLASS_NAMES: [&str; 4] = ["p50", "p99", "p99.9", "max"];

/// Two runs, compared.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// Runs of the first side and of the second.
    pub runs: (usize, usize),
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
    /// On the first side: the median of its runs.
    pub a: Option<f64>,
    /// On the second.
    pub b: Option<f64>,
    /// The least and the greatest of the first side's runs.
    pub a_range: Option<(f64, f64)>,
    /// Of the second's.
    pub b_range: Option<(f64, f64)>,
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
    /// Different, but by no more than runs of one side differ among themselves: their ranges meet.
    Noise,
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

/// A figure of every run of both sides, as far as they have it.
type Values = (Vec<f64>, Vec<f64>);

impl Figure {
    fn new(name: &str, unit: Unit, good: Good, (a, b): Values) -> Self {
        let (a_range, b_range) = (range(&a), range(&b));
        let (a, b) = (median(a), median(b));
        let ratio = match (a, b) {
            (Some(a), Some(b)) if a != 0.0 => Some(b / a),
            _ => None,
        };
        let mark = match (mark(good, a, b), a_range, b_range) {
            (mark @ (Mark::Better | Mark::Worse), Some(ours), Some(theirs)) => {
                // One run has no range; what it would be nobody knows.
                let meet = ours.0 <= theirs.1 && theirs.0 <= ours.1;
                if meet { Mark::Noise } else { mark }
            }
            (mark, ..) => mark,
        };
        Self { name: name.to_owned(), unit, a, b, a_range, b_range, ratio, mark }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn range(values: &[f64]) -> Option<(f64, f64)> {
    let least = values.iter().copied().min_by(f64::total_cmp)?;
    Some((least, values.iter().copied().max_by(f64::total_cmp)?))
}

/// What `value` is in each run of both sides.
fn values(a: &[Record], b: &[Record], value: &dyn Fn(&Record) -> Option<f64>) -> Values {
    (a.iter().filter_map(value).collect(), b.iter().filter_map(value).collect())
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
        Self::of(std::slice::from_ref(a), std::slice::from_ref(b))
    }

    /// Holds the runs of the second side beside those of the first. Both have at least one.
    ///
    /// # Panics
    /// If a side has none.
    pub fn of(a: &[Record], b: &[Record]) -> Self {
        let mut figures = counts(a, b);
        let all: Pick = |record, _| record.latency_ns.all.as_ref();
        figures.extend(latencies("", &LATENCY_NAMES, (a, b), all, ""));
        let winners: Pick = |record, _| record.latency_ns.winners.as_ref();
        figures.extend(latencies("winners ", &CLASS_NAMES, (a, b), winners, ""));
        let refusals: Pick = |record, _| record.latency_ns.refusals.as_ref();
        figures.extend(latencies("refusals ", &CLASS_NAMES, (a, b), refusals, ""));
        for step in &a[0].steps {
            let of_step: Pick = |record, name| {
                record.steps.iter().find(|step| step.name == name).and_then(|step| step.latency_ns.as_ref())
            };
            figures.extend(latencies(
                &format!("{} ", step.name),
                &["p50", "p99"],
                (a, b),
                of_step,
                &step.name,
            ));
        }
        figures.extend(generator(a, b));
        figures.retain(|figure| figure.a.is_some() || figure.b.is_some());
        Self { runs: (a.len(), b.len()), warnings: warnings(a, b), figures }
    }

    /// The comparison as text; each record comes with the name of its file.
    pub fn text(&self, a: &[(String, Record)], b: &[(String, Record)]) -> String {
        let mut text = String::new();
        for (letter, side) in [("A", a), ("B", b)] {
            for (name, record) in side {
                let (what, in_loop) = what_was_run(record);
                let _ = writeln!(text, "{letter}  {name}: {what}, {in_loop}, {}", date(record.began_at_ms));
            }
        }
        text.push('\n');
        for warning in &self.warnings {
            let _ = writeln!(text, "  ! {warning}");
        }
        if self.runs.0.min(self.runs.1) < RUNS_MIN {
            let _ = writeln!(
                text,
                "  one run a side: a difference may be noise; compare --before A1 A2 A3 --after B1 B2 B3 can tell"
            );
        }
        let _ = writeln!(text, "\n  {:<28}{:>13}{:>13}{:>9}", "figure", "A", "B", "B/A");
        for figure in &self.figures {
            let _ = writeln!(text, "{}", figure.line());
        }
        text
    }
}

impl Figure {
    fn line(&self) -> String {
        let (a, b) = (show(self.a, self.unit), show(self.b, self.unit));
        let ratio = self.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        let mark = match self.mark {
            Mark::Better => "better",
            Mark::Worse => "WORSE",
            Mark::Alike => "=",
            Mark::Noise => "noise",
            Mark::Open => "",
        };
        let spread = |range: Option<(f64, f64)>| {
            let range = range.filter(|(least, most)| least < most);
            range.map(|(least, most)| {
                format!("{} to {}", show(Some(least), self.unit), show(Some(most), self.unit))
            })
        };
        let ranges = match (spread(self.a_range), spread(self.b_range)) {
            (None, None) => String::new(),
            (a, b) => {
                let or_one = |range: Option<String>| range.unwrap_or_else(|| "=".to_owned());
                format!("  (A {}, B {})", or_one(a), or_one(b))
            }
        };
        let line = format!("  {:<28}{a:>13}{b:>13}{ratio:>9}  {mark}{ranges}", self.name);
        line.trim_end().to_owned()
    }
}

fn counts(a: &[Record], b: &[Record]) -> Vec<Figure> {
    let figure = |name: &str, unit, good, value: &dyn Fn(&Record) -> Option<f64>| {
        Figure::new(name, unit, good, values(a, b, value))
    };
    let of = |class| move |record: &Record| Some(record.class_count(class) as f64);
    let mut figures = vec![
        figure("rate, responses/s", Unit::PerS, Good::Up, &|record| Some(record.achieved_per_s)),
        figure("length", Unit::Ns, Good::Neither, &|record| Some(record.elapsed_ns as f64)),
        figure("winners", Unit::Count, Good::Neither, &of(Class::Winner)),
        figure("refusals", Unit::Count, Good::Neither, &of(Class::Refusal)),
        figure("no clear response", Unit::Count, Good::Down, &|record| Some(record.errors() as f64)),
    ];
    let mut names: Vec<_> = a.iter().chain(b).flat_map(|record| record.outcomes.keys()).collect();
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

/// Some of a record's latencies; those of a step go by its name.
type Pick = for<'a> fn(&'a Record, &str) -> Option<&'a Latency>;

fn latencies(
    prefix: &str,
    names: &[&str],
    (a, b): (&[Record], &[Record]),
    pick: Pick,
    of: &str,
) -> Vec<Figure> {
    let each = names.iter().map(|name| {
        let value = |record: &Record| pick(record, of)?.named(name).map(|ns| ns as f64);
        Figure::new(&format!("{prefix}{name}"), Unit::Ns, Good::Down, values(a, b, &value))
    });
    each.collect()
}

fn generator(a: &[Record], b: &[Record]) -> [Figure; 2] {
    let lag = |record: &Record| record.generator.send_lag_ns.as_ref()?.named("p99").map(|ns| ns as f64);
    let per_cpu_s = |record: &Record| Some(record.generator.requests_per_cpu_s);
    [
        Figure::new("generator: send lag p99", Unit::Ns, Good::Down, values(a, b, &lag)),
        Figure::new("generator: requests/CPU s", Unit::PerS, Good::Up, values(a, b, &per_cpu_s)),
    ]
}

/// What makes the two hard to compare, one line each.
fn warnings(a: &[Record], b: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut differs = |name: &str, a: &str, b: &str| {
        let line = format!("{name} differs: {a} and {b}");
        if a != b && !lines.contains(&line) {
            lines.push(line);
        }
    };
    // Everything is compared with the first run of the first side; another seed is what makes runs of
    // one side differ.
    let first = &a[0];
    for (other, is_same_side) in a[1..].iter().map(|r| (r, true)).chain(b.iter().map(|r| (r, false))) {
        differs("version", &first.version, &other.version);
        let rows = (first.machine.rows(), other.machine.rows());
        each_pair(&rows.0, &rows.1, |name, a, b| differs(&format!("machine: {name}"), a, b));
        let rows = (first.config.rows(), other.config.rows());
        let is_told = |name: &str| name != "seed" || (!is_same_side && a.len() + b.len() == 2);
        each_pair(&rows.0, &rows.1, |name, a, b| {
            if is_told(name) {
                differs(&name.replace('_', " "), a, b);
            }
        });
    }
    for (letter, side) in [("A", a), ("B", b)] {
        let doubts = side.iter().flat_map(doubts).map(|doubt| format!("{letter} {doubt}"));
        for doubt in doubts {
            if !lines.contains(&doubt) {
                lines.push(doubt);
            }
        }
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
        KeptUp::Unknown => doubts.push("did not keep up, nobody knows by whose limit".to_owned()),
        KeptUp::Yes | KeptUp::NoTarget => {}
    }
    match &record.verdict {
        Some(verdict) => match verdict.ruling {
            Ruling::Fine => {}
            Ruling::Inconclusive | Ruling::NothingLetIn => {
                doubts.push(format!("was not proved right: {}", verdict.words));
            }
            Ruling::Broken => doubts.push(format!("broke a promise: {}", verdict.words)),
        },
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
        let named = |name: &str, record: &Record| [(name.to_owned(), record.clone())];
        let text = comparison.text(&named("a.json", &a), &named("b.json", &b));
        assert!(text.contains("one run a side: a difference may be noise"), "{text}");
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
        assert_eq!(told("rate, responses/s"), (Some(2.0), Mark::Better));
        assert_eq!((told("p50"), told("p99")), ((Some(0.5), Mark::Better), (Some(3.0), Mark::Worse)));
        assert_eq!(told("no clear response"), (Some(5.0), Mark::Worse));
        assert_eq!(told("outcome reset"), (None, Mark::Open), "nothing cannot be divided by");
        assert_eq!(told("refusals p50"), (None, Mark::Open), "one of them has none");
        assert!(comparison.figures.iter().all(|figure| figure.name != "refusals p99"), "80 are too few");
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
        let text = Comparison::new(&a, &b).text(&[("a".to_owned(), a)], &[("b".to_owned(), b)]);
        assert!(expected.iter().all(|line| text.contains(&format!("  ! {line}\n"))), "{text}");
    }

    /// Runs of one side differ among themselves; a difference within that is none.
    #[test]
    fn of_several_runs_noise_is_told_from_a_difference() {
        let with = |rates: &[f64]| -> Vec<Record> {
            rates.iter().map(|&achieved_per_s| Record { achieved_per_s, ..sample() }).collect()
        };
        let mark = |a: &[f64], b: &[f64]| {
            let comparison = Comparison::of(&with(a), &with(b));
            let rate = figure(&comparison, "rate, responses/s");
            (rate.a, rate.b, rate.mark)
        };
        assert_eq!(
            mark(&[900.0, 1_000.0, 1_100.0], &[950.0, 1_080.0, 1_200.0]),
            (Some(1_000.0), Some(1_080.0), Mark::Noise)
        );
        assert_eq!(
            mark(&[900.0, 1_000.0, 1_100.0], &[1_150.0, 1_300.0]),
            (Some(1_000.0), Some(1_225.0), Mark::Better)
        );
        assert_eq!(mark(&[900.0, 1_000.0], &[500.0, 600.0, 700.0]).2, Mark::Worse);
        assert_eq!(mark(&[1_000.0, 1_001.0], &[1_000.0, 1_002.0]).2, Mark::Alike);
        let (a, b) = (with(&[900.0, 1_000.0, 1_100.0]), with(&[950.0, 1_080.0, 1_200.0]));
        let named =
            |side: &[Record]| side.iter().map(|record| ("f".to_owned(), record.clone())).collect::<Vec<_>>();
        let text = Comparison::of(&a, &b).text(&named(&a), &named(&b));
        assert!(text.contains("noise  (A 900 to 1 100, B 950 to 1 200)"), "{text}");
        assert!(!text.contains("may be noise"), "{text}");
    }
}
