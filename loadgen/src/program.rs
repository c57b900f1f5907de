//! What the programs of this directory have in common: errors of one line, exit codes, Ctrl-C, files.
//!
//! [`crate::cli`] and the benchmark `stampede-classic` are built on it. Next: [`crate::printer`].

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::error::ErrorKind;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::check::Ruling;
use crate::printer;

/// Exit code: it could not run.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: bad flags.
pub const EXIT_USAGE: u8 = 2;
/// Exit code: a promise was broken.
pub const EXIT_VIOLATION: u8 = 3;
/// Exit code: nothing is broken, but not everything could be verified.
pub const EXIT_INCONCLUSIVE: u8 = 4;
/// Exit code: something that was asserted does not hold.
pub const EXIT_ASSERTION: u8 = 99;

/// The exit code of a verdict.
pub const fn exit_of(ruling: Ruling) -> u8 {
    match ruling {
        Ruling::Fine => 0,
        Ruling::Inconclusive => EXIT_INCONCLUSIVE,
        Ruling::NothingLetIn => EXIT_FAILED,
        Ruling::Broken => EXIT_VIOLATION,
    }
}

/// Exit code of a second Ctrl-C, as shells count it.
const EXIT_INTERRUPTED: i32 = 130;

/// Flags that clap takes and that make no sense together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Turns what a command returned into the exit code of the program `name`; an error is one line.
pub fn exit(name: &str, outcome: Result<u8>) -> ExitCode {
    let code = outcome.unwrap_or_else(|error| {
        printer::tell(&format!("{name}: {error:#}"));
        if error.is::<UsageError>() { EXIT_USAGE } else { EXIT_FAILED }
    });
    ExitCode::from(printer::settle(name, code, EXIT_FAILED))
}

/// Help goes to standard output; an error in the flags is one line.
pub fn explain(name: &str, error: &clap::Error) -> ExitCode {
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
            printer::tell(&format!("{name}: {}", one_line(&error.to_string())));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// The first paragraph of clap's words, in one line, and its tip.
pub fn one_line(text: &str) -> String {
    let words = text.strip_prefix("error: ").unwrap_or(text);
    let first: Vec<_> = words.split("\n\n").next().unwrap_or("").split_whitespace().collect();
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let tip = tip.map_or_else(String::new, |tip| format!("; {tip}"));
    format!("{}{tip}; see --help", first.join(" "))
}

/// Set by the first Ctrl-C or SIGTERM; the second ends the process at once.
///
/// # Errors
/// What the system says when it takes no signal handler.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Writes a file anew.
///
/// # Errors
/// One line with the file's name.
pub fn write_file(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let words = || format!("cannot write {}", path.display());
    let mut out = BufWriter::new(File::create(path).with_context(words)?);
    write(&mut out).with_context(words)?;
    out.flush().with_context(words)
}
