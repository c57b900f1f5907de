//! The command line of `stampede-loadgen`.
//!
//! Turns flags into checked settings and outcomes into exit codes: 0 fine, 1 it
//! could not run, 2 bad flags, 3 a promise was broken, 4 not all
//! could be judged, 130 interrupted twice. What
//! it says about an error is one line. Each command has a file in `cli/`.

mod bare;
mod batch;
mod capacity;
mod classic;
mod compare;
mod item;
mod load;
mod merchant;
mod output;
mod report;
mod run;
mod scenario;
mod shape;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::check::Ruling;
use crate::printer;
use crate::scenario::expand;

pub use bare::BareArgs;
pub use batch::BatchArgs;
pub use capacity::CapacityArgs;
pub use classic::{BenchArgs, ClassicArgs, ClassicCommand, ServeArgs, TierArgs};
pub use compare::CompareArgs;
pub use item::ItemArgs;
pub use load::{AuthKind, FlowKind, LoadArgs};
pub use merchant::MerchantArgs;
pub use output::OutputArgs;
pub use report::ReportArgs;
pub use run::RunArgs;
pub use verify::VerifyArgs;

/// Exit code: it could not run.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: bad flags.
pub const EXIT_USAGE: u8 = 2;
/// Exit code: a promise was broken.
pub const EXIT_VIOLATION: u8 = 3;
/// Exit code: nothing is broken, but not all could be judged.
pub const EXIT_INCONCLUSIVE: u8 = 4;
/// Exit code: something that was asserted does not hold.
pub const EXIT_ASSERTION: u8 = 99;
/// Exit code of a second Ctrl-C, as shells count it.
const EXIT_INTERRUPTED: i32 = 130;

/// The exit code of a verdict.
const fn exit_of(ruling: Ruling) -> u8 {
    match ruling {
        Ruling::Fine => 0,
        Ruling::Inconclusive => EXIT_INCONCLUSIVE,
        Ruling::NothingLetIn => EXIT_FAILED,
        Ruling::Broken => EXIT_VIOLATION,
    }
}

/// Load generator and checker for flash sales.
#[derive(Parser, Debug)]
#[command(name = "stampede-loadgen", version, after_help = EXAMPLES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  stampede-loadgen item --admin http://127.0.0.1:7071 --admin-token-file T --item 1 --stock 10k
  stampede-loadgen run http://127.0.0.1:7070 --item 1 -R 50k -d 30s --admin http://127.0.0.1:7071 --admin-token-file T
  stampede-loadgen run http://127.0.0.1:7070 --item 1 --closed -n 100k -c 200
  stampede-loadgen run http://127.0.0.1:8080 --get / --closed -d 5s
  stampede-loadgen run http://127.0.0.1:7070 --scenario railway --html R.html --admin http://127.0.0.1:7071 --admin-token-file T
  stampede-loadgen capacity http://127.0.0.1:7070 --item 1 --slo 'p99<10ms'
  stampede-loadgen batch --admin http://127.0.0.1:7071 --admin-token-file T --item 900 -n 1M --mode winners
  stampede-loadgen classic --pairs 3
  stampede-loadgen report RUN.json
  stampede-loadgen compare A.json B.json
  stampede-loadgen verify --admin http://127.0.0.1:7071 --admin-token-file T --item 1 --history H

Exit codes: 0 fine, 1 could not run, 2 bad flags, 3 a promise was broken, 99 an --assert does not hold.";

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Sends a workload, reports, and verifies what came of it
    Run(Box<RunArgs>),
    /// Makes one page with charts out of the record of a run
    Report(ReportArgs),
    /// Puts the records of two runs side by side
    Compare(CompareArgs),
    /// Verifies an item at rest: no oversell, no lost ack, no buyer above the cap, Postgres equal
    Verify(VerifyArgs),
    /// Finds the highest rate that a server holds
    Capacity(Box<CapacityArgs>),
    /// Lists and explains the sales that `run --scenario` knows
    Scenarios,
    /// Creates an item that is open now, for one hour
    Item(ItemArgs),
    /// Serves a constant answer from one thread: the limit to compare with
    Bare(BareArgs),
    /// Sends purchases by the thousand in one request, as a trusted gateway does, and checks every answer
    Batch(BatchArgs),
    /// Runs the classic designs (naive, locks, limiter, cache) beside the engine, one table at the end
    Classic(Box<ClassicArgs>),
}

impl Command {
    fn run(&self) -> Result<u8> {
        match self {
            Self::Run(args) => run::run(args),
            Self::Report(args) => report::run(args),
            Self::Compare(args) => compare::run(args),
            Self::Verify(args) => verify::run(args),
            Self::Capacity(args) => capacity::run(args),
            Self::Scenarios => scenario::run(),
            Self::Item(args) => item::run(args),
            Self::Bare(args) => bare::run(args),
            Self::Batch(args) => batch::run(args),
            Self::Classic(args) => classic::run(args),
        }
    }
}

/// Flags that clap takes and that make no sense together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(error) => return explain(&error),
    };
    let code = args.command.run().unwrap_or_else(|error| {
        printer::tell(&format!("stampede-loadgen: {error:#}"));
        if error.is::<UsageError>() { EXIT_USAGE } else { EXIT_FAILED }
    });
    ExitCode::from(printer::settle(code, EXIT_FAILED))
}

/// The command line, with the flags of a scenario; words that are not UTF-8 name none.
fn parse() -> Result<Args, clap::Error> {
    let words: Result<Vec<String>, _> = std::env::args_os().map(OsString::into_string).collect();
    match words {
        Ok(words) => Args::try_parse_from(expand(words)),
        Err(_) => Args::try_parse(),
    }
}

/// Set by the first Ctrl-C or SIGTERM; the second ends the process at once.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Help goes to standard output; an error is one line.
fn explain(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(EXIT_USAGE)
        }
        _ => {
            printer::tell(&format!("stampede-loadgen: {}", one_line(&error.to_string())));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// The first paragraph of clap's words, in one line, and its tip.
fn one_line(text: &str) -> String {
    let words = text.strip_prefix("error: ").unwrap_or(text);
    let first: Vec<_> = words.split("\n\n").next().unwrap_or("").split_whitespace().collect();
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let tip = tip.map_or_else(String::new, |tip| format!("; {tip}"));
    format!("{}{tip}; see --help", first.join(" "))
}

#[cfg(test)]
mod tests;
