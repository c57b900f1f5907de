//! A record: one run of one bench, as a file; and the recorder that a bench fills.
//!
//! The file is JSON with a fixed order of fields, so that two of them compare by eye. [`Record::check`] refuses what
//! no bench writes: unknown fields, figures or units, a figure twice, a number that is none.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::figures::{self, Figure};
use crate::machine::{self, Machine};

/// The directory that records go to, if it is set.
pub const DIRECTORY_VARIABLE: &str = "STAMPEDE_RECORDS";
/// The version of the file's form.
pub const SCHEMA: u32 = 1;

/// One run of one bench.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The bench's name, such as `serve`.
    pub bench: String,
    /// What was different from the bench as it comes, such as `epoll`; empty if nothing. Tables of a bench show runs
    /// of one variant only.
    pub variant: String,
    /// The day, in UTC: `2026-11-30`.
    pub date: String,
    /// The commit that was measured.
    pub commit: String,
    /// The machine.
    pub machine: Machine,
    /// The load average before the run; none if it was not noted.
    pub load_before: Option<f64>,
    /// What to type to measure the same.
    pub command: String,
    /// Sizes, such as the length of a leg and the number of pairs.
    pub setting: String,
    /// Where the figures were taken from, if it was not the bench that wrote this file.
    pub transcribed: Option<String>,
    /// The figures, in the order in which they were measured.
    pub rows: Vec<Row>,
    /// Sentences for readers.
    pub notes: Vec<String>,
}

/// One figure of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The figure's key in [`figures`].
    pub figure: String,
    /// What it says, for whoever reads the file.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// What was measured.
    pub value: Value,
}

/// What was measured of a figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Value {
    /// Every sample, in ascending order.
    Samples(Vec<f64>),
    /// Of a run whose samples are gone.
    Spread {
        /// The median.
        median: f64,
        /// The least.
        low: f64,
        /// The most.
        high: f64,
    },
    /// Of a run of which only the median is left.
    Median(f64),
    /// Of a run of which only the range is left: its middle stands for the median.
    Range {
        /// The least.
        low: f64,
        /// The most.
        high: f64,
    },
    /// It could not be measured, and why.
    NotMeasured(String),
}

impl Value {
    /// Median, least and most, if it was measured.
    #[must_use]
    pub fn spread(&self) -> Option<[f64; 3]> {
        match self {
            Self::Samples(samples) => {
                Some([crate::median(samples.iter().copied()), *samples.first()?, *samples.last()?])
            }
            Self::Spread { median, low, high } => Some([*median, *low, *high]),
            Self::Median(median) => Some([*median; 3]),
            Self::Range { low, high } => Some([f64::midpoint(*low, *high), *low, *high]),
            Self::NotMeasured(_) => None,
        }
    }

    fn is_sound(&self) -> bool {
        match self {
            Self::Samples(samples) => {
                !samples.is_empty() && samples.iter().all(|sample| sample.is_finite()) && samples.is_sorted()
            }
            Self::Spread { median, low, high } => {
                [median, low, high].iter().all(|value| value.is_finite()) && low <= median && median <= high
            }
            Self::Median(median) => median.is_finite(),
            Self::Range { low, high } => low.is_finite() && high.is_finite() && low <= high,
            Self::NotMeasured(why) => !why.is_empty(),
        }
    }
}

impl Record {
    /// Whether a bench can have written this.
    ///
    /// # Errors
    ///
    /// What none writes.
    pub fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("schema {} is not {SCHEMA}", self.schema));
        }
        let mut seen = BTreeSet::new();
        for row in &self.rows {
            let key = &row.figure;
            let Some(figure) = figures::find(&self.bench, key) else {
                return Err(format!("the bench {} has no figure {key}", self.bench));
            };
            if row.unit != figure.unit {
                return Err(format!("figure {key} is in {}, not in {}", figure.unit, row.unit));
            }
            if !row.value.is_sound() {
                return Err(format!("figure {key}: {:?} is no measurement", row.value));
            }
            if !seen.insert(key) {
                return Err(format!("figure {key} stands twice"));
            }
        }
        if self.rows.is_empty() { Err("no figures".to_owned()) } else { Ok(()) }
    }

    /// What was measured of a figure.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.rows.iter().find(|row| row.figure == key).map(|row| &row.value)
    }

    /// The file's name, without a number for a second run of the day.
    fn file_stem(&self) -> String {
        let variant = if self.variant.is_empty() { String::new() } else { format!("-{}", self.variant) };
        let commit: String = self.commit.chars().take_while(char::is_ascii_hexdigit).take(7).collect();
        format!("{}{variant}-{}-{commit}", self.bench, self.date)
    }

    /// Writes it as a new file of that directory; returns the file.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn write_into(&self, dir: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(dir)?;
        let text = serde_json::to_string_pretty(self)? + "\n";
        for number in 1.. {
            let again = if number == 1 { String::new() } else { format!("-{number}") };
            let path = dir.join(format!("{}{again}.json", self.file_stem()));
            match fs::File::create_new(&path) {
                Ok(mut file) => {
                    io::Write::write_all(&mut file, text.as_bytes())?;
                    return Ok(path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("some number is free")
    }
}

/// What a bench fills while it runs.
pub struct Recorder {
    record: Record,
    into: Option<PathBuf>,
}

impl Recorder {
    /// An empty one. `source` is a directory of the source tree that is measured.
    ///
    /// # Panics
    ///
    /// If [`figures`] does not know the bench.
    #[must_use]
    pub fn new(bench: &str, source: &str) -> Self {
        assert!(!figures::of(bench).is_empty(), "no figures of {bench}");
        let record = Record {
            schema: SCHEMA,
            bench: bench.to_owned(),
            variant: String::new(),
            date: machine::today(),
            commit: machine::commit(Path::new(source)),
            machine: Machine::this(),
            load_before: machine::load(),
            command: command(bench),
            setting: String::new(),
            transcribed: None,
            rows: Vec::new(),
            notes: Vec::new(),
        };
        Self {
            record,
            into: std::env::var_os(DIRECTORY_VARIABLE).filter(|dir| !dir.is_empty()).map(PathBuf::from),
        }
    }

    /// The same with these sizes, in words.
    #[must_use]
    pub fn with_setting(mut self, setting: String) -> Self {
        self.record.setting = setting;
        self
    }

    /// The same as a variant of the bench; see [`Record::variant`].
    #[must_use]
    pub fn with_variant(mut self, variant: &str) -> Self {
        variant.clone_into(&mut self.record.variant);
        self
    }

    /// Adds a figure with everything that was measured for it.
    ///
    /// # Panics
    ///
    /// If there is no such figure, or nothing was measured.
    pub fn add(&mut self, key: &str, mut samples: Vec<f64>) {
        assert!(!samples.is_empty(), "{key}: nothing was measured");
        samples.sort_by(f64::total_cmp);
        self.push(key, Value::Samples(samples));
    }

    /// Adds a figure that could not be had, and why.
    ///
    /// # Panics
    ///
    /// If there is no such figure.
    pub fn add_not_measured(&mut self, key: &str, why: &str) {
        self.push(key, Value::NotMeasured(why.to_owned()));
    }

    fn push(&mut self, key: &str, value: Value) {
        let Figure { name, unit, .. } = figures::figure(&self.record.bench, key);
        let row = Row { figure: key.to_owned(), name: (*name).to_owned(), unit: (*unit).to_owned(), value };
        self.record.rows.push(row);
    }

    /// Adds a sentence for readers.
    pub fn note(&mut self, words: String) {
        self.record.notes.push(words);
    }

    /// What there is so far.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Writes the record where [`DIRECTORY_VARIABLE`] says; none if it is not set.
    ///
    /// # Errors
    ///
    /// Those of the file system; and a record that would not be read again.
    pub fn finish(self) -> io::Result<Option<PathBuf>> {
        let Some(dir) = self.into else { return Ok(None) };
        self.record.check().map_err(io::Error::other)?;
        self.record.write_into(&dir).map(Some)
    }
}

/// What was typed. Cargo adds a word of its own.
fn command(bench: &str) -> String {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words = if words.is_empty() { String::new() } else { format!(" -- {}", words.join(" ")) };
    format!("cargo bench --bench {bench}{words}")
}
