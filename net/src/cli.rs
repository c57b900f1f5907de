//! The command line: what was asked for, done, and an exit code.
//!
//! Every complaint is one line, `stampede: problem (cause). Remedy.`, on the
//! standard error; results go to the standard output. Nothing here serves: the
//! binary hands in the function that does. Next: one file per command, and
//! [`args`] for the flags that they share.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; for `serve`: stopped in order |
//! | 1 | could not be done, or a check failed (`doctor`, `log verify`, `draw verify`, `reconcile`) |
//! | 2 | the command line cannot be understood; `reconcile`: something could not be compared |
//! | 74 | `serve`: the log could not be written; what was acknowledged is safe |
//! | 75 | `serve`: told to end at once, or the shutdown's deadline came |
//! | 78 | the settings cannot be used (`EX_CONFIG` of sysexits.h) |

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::output;

mod args;
mod check_config;
mod completions;
mod detach;
mod doctor;
mod draw;
mod export;
mod failure;
mod log;
mod migrate;
mod printer;
mod reconcile;
mod serve;
mod ticket_keys;
mod token;
mod version;

use args::SettingsArgs;
use failure::{EXIT_FAILED, EXIT_NOT_COMPARED, EXIT_SETTINGS, EXIT_USAGE, Failure};
use printer::Printer;
pub use serve::Serve;

const EXAMPLES: &str = "\
Examples:
  stampede serve --demo                     try it: loopback, a made key, data in ./stampede-demo
  stampede doctor                           can this machine run it?
  stampede check-config --config shop.toml  what would be in force, and from where
  stampede serve --config shop.toml         serve
  stampede token --demo --sub alice         a buyer's token to play with
  stampede log verify stampede-demo         is everything right that was written?
  stampede reconcile --config shop.toml     do memory, log and database agree, while it sells?
  stampede draw verify http://shop --item 4 was the draw right?

Every setting is a key of the TOML file and an environment variable (limits.connections is
STAMPEDE_LIMITS_CONNECTIONS); the common ones are flags. A flag wins over the environment, that
over the file. docs/CONFIG.md lists them all.

Exit codes: 0 done, 1 failed, 2 command line not understood, 74 the log could not be written,
75 ended before everything was in order, 78 settings cannot be used.";

/// Stampede: a flash-sale engine that never oversells and never loses an acknowledged order.
#[derive(Parser)]
#[command(name = "stampede", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve buyers and the shop until SIGTERM
    Serve(SettingsArgs),
    /// Print every setting in force and where it came from, secrets masked
    CheckConfig(SettingsArgs),
    /// Check whether this machine can run the engine as it is set up
    Doctor(SettingsArgs),
    /// Create the database's tables, or bring them to the current version
    Migrate(SettingsArgs),
    /// Fill a database that lacks what the log no longer holds
    Export(export::ExportArgs),
    /// Have a log forget its database, so that facts may go that the database lacks
    Detach(detach::DetachArgs),
    /// Look into a log, or verify it
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Compare memory, log and Postgres, item by item, while the sale runs
    Reconcile(reconcile::ReconcileArgs),
    /// Recompute the result of a draw
    #[command(subcommand)]
    Draw(draw::DrawCommand),
    /// Make a signed buyer's token
    Token(token::TokenArgs),
    /// Make a new key for purchase tickets; the former one stays good beside it
    RotateTicketKey(SettingsArgs),
    /// Print the versions of the program, its formats, and what the kernel offers
    Version,
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Does what the command line asks for.
pub fn run(serve: Serve) -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => act(cli.command, serve),
        Err(error) => not_understood(&error),
    };
    let code = match done {
        Ok(code) => code,
        Err(failure) => report(&failure),
    };
    output::flush(output::LAST_WORDS);
    code
}

fn act(command: Command, serve: Serve) -> Result<ExitCode, Failure> {
    let only_prints = matches!(command, Command::Log(log::LogCommand::Inspect(_)) | Command::Completions(_));
    let mut printer = Printer::new(!only_prints);
    let out = &mut printer;
    let code = match command {
        Command::Serve(args) => serve::run(&args, serve),
        Command::CheckConfig(args) => check_config::run(&args, out),
        Command::Doctor(args) => doctor::run(&args, out),
        Command::Migrate(args) => migrate::run(&args, out),
        Command::Export(args) => export::run(&args, out),
        Command::Detach(args) => detach::run(&args, out),
        Command::Log(command) => log::run(&command, out),
        Command::Reconcile(args) => reconcile::run(&args, out),
        Command::Draw(command) => draw::run(&command, out),
        Command::Token(args) => token::run(&args, out),
        Command::RotateTicketKey(args) => ticket_keys::rotate(&args, out),
        Command::Version => version::run(out),
        Command::Completions(args) => completions::run(&args, Cli::command(), out),
    }?;
    printer.finish(code)
}

/// Help and version were asked for; everything else is put on one line.
fn not_understood(error: &clap::Error) -> Result<ExitCode, Failure> {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let mut out = Printer::new(false);
            out.write_all(text.as_bytes())?;
            out.finish(ExitCode::SUCCESS)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::say(&text);
            Ok(ExitCode::from(EXIT_USAGE))
        }
        _ => Err(Failure::Usage(one_line(&text))),
    }
}

fn one_line(clap_text: &str) -> String {
    let told = clap_text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let told = told.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let mut line = String::new();
    for part in told {
        let part = part.trim_start_matches("error: ");
        let joint = if line.is_empty() || line.ends_with(':') { "" } else { ";" };
        line = format!("{line}{joint} {part}").trim_start().to_owned();
    }
    line
}

fn report(failure: &Failure) -> ExitCode {
    let (code, text) = match failure {
        Failure::Usage(text) => (EXIT_USAGE, format!("{}. Try: stampede help", text.trim_end_matches('.'))),
        Failure::Settings(text) => (EXIT_SETTINGS, text.clone()),
        Failure::Failed(text) => (EXIT_FAILED, text.clone()),
        Failure::NotCompared(text) => (EXIT_NOT_COMPARED, text.clone()),
        // Whoever read our output has read enough.
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Failure::Output(error) => (EXIT_FAILED, format!("cannot write the result ({error})")),
    };
    let line = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let stop = if line.ends_with(['.', '?', '!']) { "" } else { "." };
    output::say(&format!("stampede: {line}{stop}"));
    ExitCode::from(code)
}
