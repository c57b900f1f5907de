//! `compare`: two records side by side.
//!
//! Next: [`crate::report::compare`].

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::output::write_file;
use super::report::read_record;
use crate::printer;
use crate::report::compare::Comparison;

/// Flags of `compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// The first record: a file that `run --json` wrote
    #[arg(value_name = "A.json")]
    pub a: PathBuf,
    /// The second
    #[arg(value_name = "B.json")]
    pub b: PathBuf,
    /// Write the comparison as JSON, too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Reads both and tells; the exit code, which judges neither.
pub(super) fn run(args: &CompareArgs) -> Result<u8> {
    let (a, b) = (read_record(&args.a)?, read_record(&args.b)?);
    let comparison = Comparison::new(&a, &b);
    let names = (args.a.display().to_string(), args.b.display().to_string());
    if let Some(file) = &args.json {
        write_file(file, |out| Ok(serde_json::to_writer_pretty(out, &comparison)?))?;
    }
    printer::print(&comparison.text((&a, &b), (&names.0, &names.1)));
    Ok(0)
}
