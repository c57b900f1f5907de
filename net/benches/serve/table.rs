//! Figures, their targets, and whether they are met; printed as the table of docs/BENCHMARKS.md.

use std::fmt;

/// What a figure has to reach.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// Less is better.
    AtMost(f64),
    /// More is better.
    AtLeast(f64),
    /// For information.
    None,
}

impl Goal {
    fn words(self) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {limit}"),
            Self::AtLeast(limit) => format!("≥ {limit}"),
            Self::None => "-".to_owned(),
        }
    }
    fn verdict(self, measured: f64) -> &'static str {
        match self {
            Self::AtMost(limit) if measured <= limit => "met",
            Self::AtLeast(limit) if measured >= limit => "met",
            Self::None => "",
            _ => "MISSED",
        }
    }
}

struct Row {
    name: &'static str,
    what: &'static str,
    goal: Goal,
    samples: Vec<f64>,
}

/// All figures so far.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a figure with everything that was measured for it, at least one sample.
    pub(crate) fn add(&mut self, name: &'static str, what: &'static str, goal: Goal, mut samples: Vec<f64>) {
        assert!(!samples.is_empty(), "{name}: nothing was measured");
        samples.sort_by(f64::total_cmp);
        self.rows.push(Row { name, what, goal, samples });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | what | target | median (range) | |\n|---|---|---|---|---|")?;
        for Row { name, what, goal, samples } in &self.rows {
            let median = samples[samples.len() / 2];
            let range = (number(samples[0]), number(samples[samples.len() - 1]));
            let (target, verdict) = (goal.words(), goal.verdict(median));
            writeln!(
                f,
                "| {name} | {what} | {target} | {} ({}–{}) | {verdict} |",
                number(median),
                range.0,
                range.1
            )?;
        }
        Ok(())
    }
}

fn number(value: f64) -> String {
    if value < 1_000.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}
