//! What a run looks like to its reader: text, JSON, a table, a page to mail around.
//!
//! Everything is drawn from the [`Record`] alone; no figure is ever NaN, and nothing that
//! was not measured is shown. Next: `report/text.rs` for the page on a terminal,
//! [`html`] for the one in a browser, [`compare`] for two runs side by side.

pub mod compare;
pub mod csv;
pub mod hdr;
pub mod html;
mod text;

use serde_json::Value;

use crate::check::Verdict;
use crate::engine::{Outcome, RunConfig};
pub use crate::record::KeptUp;
use crate::record::Record;

/// A run's record, and how it is shown.
pub struct Report {
    record: Record,
}

impl Report {
    /// The report of a run, judged or not.
    pub fn new(config: &RunConfig, outcome: &Outcome, verdict: Option<&Verdict>) -> Self {
        Self::of(Record::new(config, outcome, verdict))
    }
    /// The report of a record, fresh or read from a file.
    pub const fn of(record: Record) -> Self {
        Self { record }
    }
    /// What it shows.
    pub const fn record(&self) -> &Record {
        &self.record
    }
    /// Answers per second within the run's time.
    pub const fn achieved_per_s(&self) -> f64 {
        self.record.achieved_per_s
    }
    /// Share of the time for which the generator's threads were busy, 0 to 1.
    pub const fn busy_share(&self) -> f64 {
        self.record.generator.busy_share
    }
    /// Whether the generator kept up with its target.
    pub const fn kept_up(&self) -> KeptUp {
        self.record.kept_up
    }
    /// The page of text; with colours where a terminal reads it.
    pub fn text(&self, colours: bool) -> String {
        text::page(&self.record, colours)
    }
    /// The record as JSON.
    pub fn json(&self) -> Value {
        serde_json::to_value(&self.record).expect("a record has names for keys and no infinite figure")
    }
    /// The page for a browser.
    pub fn html(&self) -> String {
        html::page(&self.record)
    }
}
