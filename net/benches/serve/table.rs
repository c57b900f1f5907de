//! The table at the end of a run, and the record of it (`STAMPEDE_RECORDS`): figures by key, whose words,
//! units and targets are in `stampede_records::figures`.

use std::fmt;

use stampede_records::{Goal, Recorder, figure};
pub(crate) use stampede_records::{median, number};

use stampede_records::figures::RATIO;
use stampede_records::record::Value;

use crate::words::Words;

/// The bench's name in the records.
const BENCH: &str = "serve";

/// What a leg or a row could not do, in words for the table.
pub(crate) type NotMeasured = String;

/// All figures so far.
pub(crate) struct Table(Recorder);

impl Table {
    /// An empty one.
    pub(crate) fn new(words: &Words) -> Self {
        let recorder = Recorder::new(BENCH, env!("CARGO_MANIFEST_DIR"));
        Self(recorder.with_setting(words.setting()).with_variant(&words.variant()))
    }

    /// Adds a figure with everything that was measured for it, at least one sample.
    pub(crate) fn add(&mut self, key: &str, samples: Vec<f64>) {
        self.0.add(key, samples);
    }

    /// Adds a sentence below the table.
    pub(crate) fn note(&mut self, words: String) {
        println!("{words}");
        self.0.note(words);
    }

    /// Adds a figure that could not be had, and why.
    pub(crate) fn add_not_measured(&mut self, key: &str, why: &NotMeasured) {
        println!("{}: not measured: {why}", figure(BENCH, key).name);
        self.0.add_not_measured(key, why);
    }

    /// Writes the record, if one is asked for; where it is.
    pub(crate) fn finish(self) -> std::io::Result<Option<std::path::PathBuf>> {
        self.0.finish()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.0.record();
        writeln!(f, "| # | figure | target | median (range) | unit | |\n|---|---|---|---|---|---|")?;
        for row in &record.rows {
            let figure = figure(BENCH, &row.figure);
            let (measured, verdict) = match (&row.value, row.value.spread()) {
                (_, Some([middle, low, high])) => {
                    let range = format!("{} ({}–{})", number(middle), number(low), number(high));
                    (range, figure.goal.verdict(middle))
                }
                (Value::NotMeasured(why), None) => (format!("not measured: {why}"), ""),
                (_, None) => ("-".to_owned(), ""),
            };
            let (key, name, target) = (figure.key, figure.name, figure.goal.words());
            let unit = if figure.unit == RATIO && figure.goal != Goal::None { "" } else { figure.unit };
            writeln!(f, "| {key} | {name} | {target} | {measured} | {unit} | {verdict} |")?;
        }
        record.notes.iter().try_for_each(|note| write!(f, "\n{note}\n"))
    }
}
