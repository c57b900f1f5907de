//! `compare`: two runs, or two sets of runs, side by side.
//!
//! Next: [`crate::report::compare`].

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::report::read_record;
use crate::printer;
use crate::program::{UsageError, write_file};
use crate::record::Record;
use crate::report::compare::Comparison;

/// Flags of `compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// The first record: a file that `run --json` wrote
    #[arg(value_name = "A.json", required_unless_present = "before")]
    pub a: Option<PathBuf>,
    /// The second
    #[arg(value_name = "B.json", required_unless_present = "before")]
    pub b: Option<PathBuf>,
    /// Several records of the first side, instead of A.json; needs --after
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "after", conflicts_with_all = ["a", "b"])]
    pub before: Vec<PathBuf>,
    /// Several records of the second side, instead of B.json; needs --before
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "before", conflicts_with_all = ["a", "b"])]
    pub after: Vec<PathBuf>,
    /// Write the comparison as JSON, too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Reads all and tells; the exit code, which says nothing about either side.
pub(super) fn run(args: &CompareArgs) -> Result<u8> {
    let side = |one: &Option<PathBuf>, many: &[PathBuf]| -> Result<Vec<(String, Record)>> {
        let files: Vec<&Path> = one.iter().chain(many).map(PathBuf::as_path).collect();
        files.into_iter().map(|file| Ok((file.display().to_string(), read_record(file)?))).collect()
    };
    let (a, b) = (side(&args.a, &args.before)?, side(&args.b, &args.after)?);
    if a.is_empty() || b.is_empty() {
        return Err(UsageError("give A.json and B.json, or --before FILES --after FILES".to_owned()).into());
    }
    let records =
        |side: &[(String, Record)]| side.iter().map(|(_, record)| record.clone()).collect::<Vec<_>>();
    let comparison = Comparison::of(&records(&a), &records(&b));
    if let Some(file) = &args.json {
        write_file(file, |out| Ok(serde_json::to_writer_pretty(out, &comparison)?))?;
    }
    printer::print(&comparison.text(&a, &b));
    Ok(0)
}
