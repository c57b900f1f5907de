//! The command line of `stampede-loadgen`.
//!
//! Turns flags into checked settings and outcomes into exit codes: 0 fine, 1 it
//! could not run, 2 bad flags, 3 a promise was broken, 130 interrupted twice. What
//! it says about an error is one line. Next: `cli/commands.rs` for what each does.

mod args;
mod commands;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

pub use args::{Args, Command, ItemArgs, MerchantArgs, RunArgs, VerifyArgs};

/// Exit code: it could not run.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: bad flags.
pub const EXIT_USAGE: u8 = 2;
/// Exit code: a promise was broken.
pub const EXIT_VIOLATION: u8 = 3;

/// Flags that clap takes and that make no sense together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return explain(&error),
    };
    match commands::run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = if error.is::<UsageError>() { EXIT_USAGE } else { EXIT_FAILED };
            eprintln!("stampede-loadgen: {error:#}");
            ExitCode::from(code)
        }
    }
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
            eprintln!("stampede-loadgen: {}", one_line(&error.to_string()));
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
