//! `stampede log inspect` and `stampede log verify`: what the log holds, and whether it is right. Both
//! only read, and may run beside an engine. And `stampede log cut-import`, which repairs one thing.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use stampede_persist::log::books::ItemTotals;
use stampede_persist::log::cut::{Cut, cut_import};
use stampede_persist::log::inspect::inspect;
use stampede_persist::log::verify::{Verdict, verify};

use super::failure::{EXIT_FAILED, Failure};

#[derive(Subcommand)]
pub(super) enum LogCommand {
    /// Print segments and blocks; with --records also every log record
    Inspect(InspectArgs),
    /// Check the whole log and the totals of every item; exit code 1 if anything is wrong
    Verify(VerifyArgs),
    /// Cut off facts that a start took over from Postgres and that cannot be replayed; exit code 1 if
    /// there is something to cut off and --yes is not given
    CutImport(CutImportArgs),
}

#[derive(Args)]
pub(super) struct InspectArgs {
    /// The data directory
    dir: PathBuf,
    /// Also print every log record
    #[arg(long)]
    records: bool,
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// The data directory
    dir: PathBuf,
}

#[derive(Args)]
pub(super) struct CutImportArgs {
    /// The data directory; no engine may be running on it
    dir: PathBuf,
    /// Cut it off; without this flag only say what would be cut off
    #[arg(long)]
    yes: bool,
}

/// Reads the log, or repairs it.
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
        LogCommand::CutImport(args) => {
            must_be_dir(&args.dir)?;
            let cut = cut_import(&args.dir, args.yes).map_err(anyhow::Error::from)?;
            print_cut(cut.as_ref(), args, &mut out)?;
            if cut.is_some() && !args.yes { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS }
        }
    };
    out.flush()?;
    Ok(code)
}

fn print_cut(cut: Option<&Cut>, args: &CutImportArgs, out: &mut dyn Write) -> std::io::Result<()> {
    let Some(Cut { refused, reason, facts: (first, last), .. }) = cut else {
        return writeln!(out, "nothing to cut off: every fact can be replayed");
    };
    writeln!(out, "LSN {refused} cannot be replayed: {reason}")?;
    let what =
        format!("LSN {first} to {last}, which one start took over from Postgres before it sold anything");
    match args.yes {
        true => writeln!(out, "cut off: {what}; a copy is in {}", args.dir.join("torn").display()),
        false => writeln!(out, "to be cut off with --yes: {what}. Nothing was changed"),
    }
}

/// Fails if this is no directory: a misspelt name would look like an empty log.
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
