//! All records of a directory, and what several runs say together.
//!
//! Runs of one bench and variant are put together by figure: the median of the runs' medians, and the range over all
//! that was measured. A machine whose speed changes from day to day then shows in the range, not in the verdict.

use std::fs;
use std::path::Path;

use crate::files;
use crate::record::Record;

/// The records that count, the oldest first.
#[derive(Debug)]
pub struct Records(Vec<Record>);

/// What several runs say of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median of the runs' medians.
    pub median: f64,
    /// The least that was measured.
    pub low: f64,
    /// The most that was measured.
    pub high: f64,
    /// How many runs measured it.
    pub runs: usize,
}

impl Records {
    /// Reads every `.json` of a directory; directories in it are passed over.
    ///
    /// # Errors
    ///
    /// The first file that is no record, by name.
    pub fn read(dir: &Path) -> Result<Self, String> {
        let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|ext| ext == "json"));
        // By name, so that runs of one day have an order that does not depend on the file system.
        paths.sort();
        let records: Result<Vec<_>, _> = paths.iter().map(|path| files::read(path)).collect();
        Ok(Self::of(records?))
    }

    /// These records.
    #[must_use]
    pub fn of(mut records: Vec<Record>) -> Self {
        records.sort_by(|one, other| one.date.cmp(&other.date));
        Self(records)
    }

    /// The runs of a bench and variant, the oldest first.
    #[must_use]
    pub fn runs(&self, bench: &str, variant: &str) -> Vec<&Record> {
        self.0.iter().filter(|record| record.bench == bench && record.variant == variant).collect()
    }

    /// The newest run of a bench that measured a figure. Rows of one table that have to come from one run come from it.
    #[must_use]
    pub fn newest_with(&self, bench: &str, key: &str) -> Option<&Record> {
        self.runs(bench, "").into_iter().rfind(|run| run.value(key).is_some())
    }

    /// What the runs of a bench as it comes say of a figure.
    #[must_use]
    pub fn spread(&self, bench: &str, key: &str) -> Option<Spread> {
        self.spread_of(bench, "", key)
    }

    /// The same of a variant.
    #[must_use]
    pub fn spread_of(&self, bench: &str, variant: &str, key: &str) -> Option<Spread> {
        let runs = self.runs(bench, variant);
        let measured: Vec<[f64; 3]> = runs.iter().filter_map(|run| run.value(key)?.spread()).collect();
        if measured.is_empty() {
            return None;
        }
        Some(Spread {
            median: crate::median(measured.iter().map(|[median, ..]| *median)),
            low: measured.iter().map(|[_, low, _]| *low).fold(f64::INFINITY, f64::min),
            high: measured.iter().map(|[.., high]| *high).fold(f64::NEG_INFINITY, f64::max),
            runs: measured.len(),
        })
    }
}
