//! Figures, their targets, and whether they are met; printed as the table of docs/BENCHMARKS.md.

use std::fmt;

/// What a figure has to reach.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// Less is better.
    AtMost(f64),
    /// More is better.
    AtLeast(f64),
    /// Nothing per request: fewer than one in [`NOTHING_PER`] requests, which is what comes with
    /// tables that grow in chunks and with the clock.
    Nothing,
    /// For information.
    None,
}

/// See [`Goal::Nothing`].
const NOTHING_PER: f64 = 1_000.0;

impl Goal {
    fn words(self) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {}", limit_in_words(limit)),
            Self::AtLeast(limit) => format!("≥ {}", limit_in_words(limit)),
            Self::Nothing => "0".to_owned(),
            Self::None => "-".to_owned(),
        }
    }
    fn verdict(self, measured: f64) -> &'static str {
        let met = match self {
            Self::AtMost(limit) => measured <= limit,
            Self::AtLeast(limit) => measured >= limit,
            Self::Nothing => measured < 1.0 / NOTHING_PER,
            Self::None => return "",
        };
        if met { "met" } else { "**missed**" }
    }
}

fn limit_in_words(limit: f64) -> String {
    if limit < 1_000.0 { format!("{}", (limit * 100.0).round() / 100.0) } else { number(limit) }
}

/// What a leg or a row could not do, in words for the table.
pub(crate) type NotMeasured = String;

struct Row {
    name: &'static str,
    what: String,
    goal: Goal,
    samples: Result<Vec<f64>, NotMeasured>,
}

/// All figures so far.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Table {
    /// Adds a figure with everything that was measured for it, at least one sample.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        what: impl Into<String>,
        goal: Goal,
        mut samples: Vec<f64>,
    ) {
        assert!(!samples.is_empty(), "{name}: nothing was measured");
        samples.sort_by(f64::total_cmp);
        self.rows.push(Row { name, what: what.into(), goal, samples: Ok(samples) });
    }

    /// Adds a sentence below the table.
    pub(crate) fn note(&mut self, words: String) {
        println!("{words}");
        self.notes.push(words);
    }

    /// Adds a figure that could not be had, and why.
    pub(crate) fn add_not_measured(
        &mut self,
        name: &'static str,
        what: impl Into<String>,
        goal: Goal,
        why: NotMeasured,
    ) {
        let what = what.into();
        println!("{what}: not measured: {why}");
        self.rows.push(Row { name, what, goal, samples: Err(why) });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| # | ratio | target | median (range) | |\n|---|---|---|---|---|")?;
        for Row { name, what, goal, samples } in &self.rows {
            let target = goal.words();
            let (measured, verdict) = match samples {
                Ok(samples) => (spread(samples), goal.verdict(median_of_sorted(samples))),
                Err(why) => (format!("not measured: {why}"), ""),
            };
            writeln!(f, "| {name} | {what} | {target} | {measured} | {verdict} |")?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n{note}\n"))
    }
}

fn spread(sorted: &[f64]) -> String {
    let range = (number(sorted[0]), number(sorted[sorted.len() - 1]));
    format!("{} ({}–{})", number(median_of_sorted(sorted)), range.0, range.1)
}

fn median_of_sorted(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// The one in the middle; of an even number the higher of the two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    median_of_sorted(&values)
}

/// Two decimals, more if there is nothing before them, none and groups of three from 1,000 on.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value.abs() < 0.1 {
        return format!("{value:.5}");
    }
    if value.abs() < 1_000.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digit.is_ascii_digit() && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
