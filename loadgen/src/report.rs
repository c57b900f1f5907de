//! What a run looks like to its reader: text, a table, a page to mail around.
//!
//! Everything is drawn from the [`Record`] alone; no figure is ever NaN, and nothing that
//! was not measured is shown. Next: `report/text.rs` for the page on a terminal,
//! [`html`] for the one in a browser, [`compare`] for two runs side by side.

pub mod compare;
pub mod csv;
pub mod hdr;
pub mod html;
mod text;

use crate::record::Record;

/// A run's record, and how it is shown.
pub struct Report {
    record: Record,
}

impl Report {
    /// The report of a record, fresh or read from a file.
    pub const fn of(record: Record) -> Self {
        Self { record }
    }
    /// What it shows.
    pub const fn record(&self) -> &Record {
        &self.record
    }
    /// The page of text; with colours where a terminal reads it.
    pub fn text(&self, colours: bool) -> String {
        text::page(&self.record, colours)
    }
    /// The page for a browser.
    pub fn html(&self) -> String {
        html::page(&self.record)
    }
}
