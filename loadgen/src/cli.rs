//! The command line of `stampede-loadgen`.
//!
//! Turns flags into checked settings and outcomes into exit codes: 0 fine, 1 it
//! could not run, 2 bad flags, 3 a promise was broken, 4 not all
//! could be verified, 130 interrupted twice. What
//! it says about an error is one line. Each command has a file in `cli/`.

mod batch;
mod capacity;
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

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::program;
use crate::scenario::expand;

pub use batch::BatchArgs;
pub use capacity::CapacityArgs;
pub use compare::CompareArgs;
pub use item::ItemArgs;
pub use load::{AuthKind, FlowKind, LoadArgs};
pub use merchant::MerchantArgs;
pub use output::OutputArgs;
pub use report::ReportArgs;
pub use run::RunArgs;
pub use verify::VerifyArgs;

/// The name of the program.
const NAME: &str = "stampede-loadgen";
/// Load generator and checker for flash sales.
#[derive(Parser, Debug)]
#[command(name = NAME, version, after_help = EXAMPLES)]
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
  stampede-loadgen report RUN.json
  stampede-loadgen compare A.json B.json
  stampede-loadgen verify --admin http://127.0.0.1:7071 --admin-token-file T --item 1 --history H

Exit codes: 0 success, 1 could not run, 2 bad flags, 3 a promise was broken, 4 not everything could be verified,
99 an --assert does not hold.";

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Sends load, reports the results and verifies them
    Run(Box<RunArgs>),
    /// Renders the record of a run as an HTML page with charts
    Report(ReportArgs),
    /// Compares the records of two runs
    Compare(CompareArgs),
    /// Verifies an item after its sale: no oversell, no lost order, no buyer above the cap, Postgres equal
    Verify(VerifyArgs),
    /// Finds the highest rate that a server sustains
    Capacity(Box<CapacityArgs>),
    /// Lists the sales that `run --scenario` can create
    Scenarios,
    /// Creates an item that is on sale from now on, for one hour
    Item(ItemArgs),
    /// Sends purchases by the thousand in one request, as a trusted gateway does, and checks every response
    Batch(BatchArgs),
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
            Self::Batch(args) => batch::run(args),
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match parse() {
        Ok(args) => program::exit(NAME, args.command.run()),
        Err(error) => program::explain(NAME, &error),
    }
}

/// The command line, with the flags of a scenario; words that are not UTF-8 name none.
fn parse() -> Result<Args, clap::Error> {
    let words: Result<Vec<String>, _> = std::env::args_os().map(OsString::into_string).collect();
    match words {
        Ok(words) => Args::try_parse_from(expand(words)),
        Err(_) => Args::try_parse(),
    }
}

#[cfg(test)]
mod tests;
