//! The command line: reads it, runs the command, returns an exit code.
//!
//! Every error is one line, `stampede: problem (cause). Remedy.`, on the standard error; results go to the standard
//! output. The function that serves is passed in by the binary. Next: one file per command, and [`args`] for the
//! flags that they share.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; for `serve`: an orderly shutdown |
//! | 1 | failed, or a check failed (`doctor`, `log verify`, `draw verify`, `reconcile`) |
//! | 2 | the command line is invalid; `reconcile`: something could not be compared |
//! | 74 | `serve`: the log could not be written; acknowledged orders are safe |
//! | 75 | `serve`: told to end at once, or the shutdown took longer than its deadline |
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
  stampede serve --demo                     try it: loopback, a generated key, data in ./stampede-demo
  stampede doctor                           can this machine run it?
  stampede check-config --config shop.toml  which settings apply, and where each comes from
  stampede serve --config shop.toml         serve
  stampede token --demo --sub alice         a buyer's token for a try
  stampede log verify stampede-demo         is the log whole and consistent?
  stampede reconcile --config shop.toml     do memory, log and database agree, during the sale?
  stampede draw verify http://shop --item 4 was the draw fair?

Every setting is a key of the TOML file and an environment variable (limits.connections is
STAMPEDE_LIMITS_CONNECTIONS); the common ones are flags. Flags override the environment, which
overrides the file. docs/CONFIG.md lists all settings.

Exit codes: 0 done, 1 failed, 2 invalid command line, 74 the log could not be written,
75 ended before the shutdown was complete, 78 invalid settings.";

/// Stampede: a flash-sale engine that never oversells and never loses an acknowledged order.
#[derive(Parser)]
#[command(name = "stampede", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the buyers' API and the merchant API until SIGTERM
    Serve(SettingsArgs),
    /// Print every setting and where it comes from, with secrets masked
    CheckConfig(SettingsArgs),
    /// Check whether this machine can run the engine with these settings
    Doctor(SettingsArgs),
    /// Create the database's tables, or migrate them to the current version
    Migrate(SettingsArgs),
    /// Fill a database that lacks facts that the log no longer holds
    Export(export::ExportArgs),
    /// Detach a log from its database, so that the log no longer keeps facts for it
    Detach(detach::DetachArgs),
    /// Inspect, verify or repair a log
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Compare memory, log and Postgres, item by item, during the sale
    Reconcile(reconcile::ReconcileArgs),
    /// Recompute the result of a draw
    #[command(subcommand)]
    Draw(draw::DrawCommand),
    /// Make a signed token for a buyer
    Token(token::TokenArgs),
    /// Make a new key for purchase tickets; the former one stays valid beside it
    RotateTicketKey(SettingsArgs),
    /// Print the versions of the program, its formats, and what the kernel offers
    Version,
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Runs the command of the command line.
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

/// Prints help and version; any other message of the parser becomes one line.
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
        // The reader of our output has read enough.
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Failure::Output(error) => (EXIT_FAILED, format!("cannot write the result ({error})")),
    };
    let line = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let stop = if line.ends_with(['.', '?', '!']) { "" } else { "." };
    output::say(&format!("stampede: {line}{stop}"));
    ExitCode::from(code)
}
