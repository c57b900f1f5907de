//! `report`: makes the page for a browser out of a record.
//!
//! Next: [`crate::report::html`].

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::printer;
use crate::program::{UsageError, write_file};
use crate::record::Record;
use crate::report::html;

/// Longer files are no record: a run of any length has a few hundred kilobytes.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// Flags of `report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The record: a file that `run --json` wrote
    #[arg(value_name = "RUN.json")]
    pub record: PathBuf,
    /// Where to write the page; `-` is standard output [default: beside the record, as .html]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Reads, draws, writes; the exit code.
pub(super) fn run(args: &ReportArgs) -> Result<u8> {
    let page = html::page(&read_record(&args.record)?);
    let to = args.output.clone().unwrap_or_else(|| args.record.with_extension("html"));
    if to == Path::new("-") {
        printer::print(&page);
        return Ok(0);
    }
    if to == args.record {
        let words = format!("the page would overwrite the record {}; give -o FILE", to.display());
        return Err(UsageError(words).into());
    }
    write_file(&to, |out| Ok(out.write_all(page.as_bytes())?))?;
    printer::print_line(&format!("wrote {}", to.display()));
    Ok(0)
}

/// A record out of a file; an error is one line with the file's name.
pub(super) fn read_record(path: &Path) -> Result<Record> {
    let words = || format!("cannot read {}", path.display());
    let length = std::fs::metadata(path).with_context(words)?.len();
    if length > RECORD_BYTES_MAX {
        anyhow::bail!("{}: it is too large for the record of a run", words());
    }
    let text = std::fs::read(path).with_context(words)?;
    Record::read(&text).with_context(words)
}
