//! `stampede log inspect` and `stampede log verify`: what the log holds, and
//! whether it is right. Both only read, and may do so while an engine runs.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use stampede_persist::log::books::ItemTotals;
use stampede_persist::log::inspect::inspect;
use stampede_persist::log::verify::{Verdict, verify};

use super::{EXIT_FAILED, Failure};

#[derive(Subcommand)]
pub(super) enum LogCommand {
    /// Print segments and blocks, and with --records every record
    Inspect(InspectArgs),
    /// Walk the whole chain and check the books of every item; exit code 1 if anything is wrong
    Verify(VerifyArgs),
}

#[derive(Args)]
pub(super) struct InspectArgs {
    /// The data directory
    dir: PathBuf,
    /// Print every record, too
    #[arg(long)]
    records: bool,
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// The data directory
    dir: PathBuf,
}

/// Reads the log.
pub(super) fn run(command: &LogCommand, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let mut out = BufWriter::new(out);
    let code = match command {
        LogCommand::Inspect(args) => {
            must_be_dir(&args.dir)?;
            inspect(&args.dir, args.records, &mut out)?;
            ExitCode::SUCCESS
        }
        LogCommand::Verify(args) => {
            must_be_dir(&args.dir)?;
            let verdict = verify(&args.dir).map_err(anyhow::Error::from)?;
            print_verdict(&verdict, &mut out)?;
            if verdict.wrong.is_some() { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS }
        }
    };
    out.flush()?;
    Ok(code)
}

/// Otherwise a misspelt directory would look like an empty log.
fn must_be_dir(dir: &std::path::Path) -> Result<(), Failure> {
    let problem = format!("{} is not a directory. Name the engine's data directory", dir.display());
    if dir.is_dir() { Ok(()) } else { Err(Failure::Failed(problem)) }
}

fn print_verdict(verdict: &Verdict, out: &mut dyn Write) -> std::io::Result<()> {
    for (item, totals) in &verdict.items {
        let ItemTotals { granted, available, held, sold, orders, .. } = totals;
        writeln!(
            out,
            "item {item}: granted {granted} = available {available} + held {held} + sold {sold}; {orders} orders"
        )?;
    }
    let Verdict { facts, blocks, snapshot_lsn, last_lsn, .. } = verdict;
    writeln!(out, "{facts} facts in {blocks} blocks, after LSN {snapshot_lsn} up to {last_lsn}")?;
    if verdict.torn_bytes > 0 {
        writeln!(out, "{} bytes at the end were never durable", verdict.torn_bytes)?;
    }
    match &verdict.wrong {
        Some(wrong) => writeln!(out, "WRONG: {wrong}"),
        None => writeln!(out, "right: the chain is whole, and every item's books balance"),
    }
}
