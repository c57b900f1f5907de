//! What a run leaves behind: its text, its files, its exit code.
//!
//! Next: `cli/run.rs`, [`crate::report`].

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::assert::Assertion;
use crate::engine::Outcome;
use crate::printer;
use crate::program::{EXIT_ASSERTION, EXIT_FAILED, EXIT_VIOLATION, UsageError, exit_of, write_file};
use crate::record::Record;
use crate::report::{Report, csv, hdr};

/// Where to write what a run measured, and what it must show.
#[derive(Args, Debug)]
pub struct OutputArgs {
    /// Write everything as JSON, for `report` and `compare`
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write an HTML page with charts, in one file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the timeline as a table, one row per slice
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write an HDR interval log, which HdrHistogram's viewers read
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Keep every outcome in this file, for `verify`
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Exit with 99 unless this holds, as 'p99<5ms', 'errors<0.1%', 'winners==1000', 'rate>=50k'; may be given more than once
    #[arg(long = "assert", value_name = "METRIC OP VALUE", value_parser = Assertion::parse)]
    pub assertions: Vec<Assertion>,
}

impl OutputArgs {
    fn files(&self) -> impl Iterator<Item = &Path> {
        let all = [&self.json, &self.html, &self.csv, &self.hdr, &self.history];
        all.into_iter().filter_map(|file| file.as_deref())
    }

    /// Looks before a long run whether its files can be written at the end; changes no file that is there.
    ///
    /// # Errors
    /// One line with the file's name, or [`UsageError`] if two outputs share a file.
    pub(super) fn check(&self) -> Result<()> {
        let files: Vec<_> = self.files().collect();
        for (index, file) in files.iter().enumerate() {
            if files[..index].contains(file) {
                return Err(UsageError(format!("two outputs would go to {}", file.display())).into());
            }
            let was_there = file.exists();
            let opened = OpenOptions::new().append(true).create(true).open(file);
            opened.with_context(|| format!("cannot write {}", file.display()))?;
            if !was_there {
                // A run that cannot begin leaves no empty file behind.
                let _ = std::fs::remove_file(file);
            }
        }
        Ok(())
    }

    fn write(&self, report: &Report, outcome: &Outcome) -> Result<()> {
        if let Some(file) = &self.json {
            write_file(file, |out| Ok(serde_json::to_writer_pretty(out, report.record())?))?;
        }
        if let Some(file) = &self.html {
            write_file(file, |out| Ok(out.write_all(report.html().as_bytes())?))?;
        }
        if let Some(file) = &self.csv {
            write_file(file, |out| Ok(csv::write(report.record(), out)?))?;
        }
        if let Some(file) = &self.hdr {
            write_file(file, |out| Ok(hdr::write(outcome, out)?))?;
        }
        if let (Some(file), Some(history)) = (&self.history, &outcome.history) {
            write_file(file, |out| Ok(history.write(out)?))?;
        }
        Ok(())
    }

    /// Holds the run against what was asserted, shows it, writes its files; the exit code. A broken
    /// promise outranks everything, a run that failed or that nobody let in outranks an open verdict, and
    /// that an assertion.
    pub(super) fn conclude(&self, mut record: Record, outcome: &Outcome) -> u8 {
        record.assert(&self.assertions);
        let report = Report::of(record);
        // Files first: they do not hang on whoever reads the text.
        let written = self.write(&report, outcome);
        printer::print(&report.text(stdout().is_terminal()));
        if let Err(error) = &written {
            printer::tell(&format!("stampede-loadgen: {error:#}"));
        }
        let record = report.record();
        if let Some(why) = &record.not_verified {
            printer::tell(&format!("stampede-loadgen: the run was not verified: {why}"));
        }
        let failed = written.is_err() || record.not_verified.is_some() || record.gave_up.is_some();
        let ruling = record.verdict.as_ref().map_or(0, |verdict| exit_of(verdict.ruling));
        if ruling == EXIT_VIOLATION || ruling == EXIT_FAILED {
            ruling
        } else if failed {
            EXIT_FAILED
        } else if ruling != 0 {
            ruling
        } else if record.assertions.iter().any(|assertion| !assertion.holds) {
            EXIT_ASSERTION
        } else {
            0
        }
    }
}
