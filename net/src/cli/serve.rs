//! `stampede serve`: settings, startup checks, then the server.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use super::args::SettingsArgs;
use super::failure::Failure;
use crate::doctor::probe::{probe, raise_limits};
use crate::doctor::{Level, connections_fitting, examine, refusal};
use crate::output;
use crate::runtime::Cores;
use crate::settings::{Settings, secrets};

/// The function that serves on these cores until it is told to stop; it returns the process's exit code.
pub type Serve = fn(&Settings, Cores) -> anyhow::Result<ExitCode>;

/// Serves; the error says in one line why it cannot.
pub(super) fn run(args: &SettingsArgs, serve: Serve) -> Result<ExitCode, Failure> {
    let loaded = args.load(true)?;
    output::start().context("cannot start the threads that write the log lines")?;
    start_tracing();
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let (settings, cores) = fit_to_machine(loaded.settings)?;
    make_token(&settings)?;
    Ok(serve(&settings, cores)?)
}

/// Raises limits, acquires what the cores need, checks the machine, and lowers `limits.connections` to what fits.
fn fit_to_machine(mut settings: Settings) -> Result<(Settings, Cores), Failure> {
    raise_limits();
    let cores = Cores::acquire(settings.transport, &settings.cores);
    let machine = probe(&settings, &cores);
    let findings = examine(&machine, &settings);
    if let Some(reasons) = refusal(&findings) {
        return Err(Failure::Failed(format!("this machine cannot run the engine: {reasons}")));
    }
    for finding in findings.iter().filter(|finding| finding.level == Level::Warn) {
        tracing::warn!("{}: {}: {}. {}", finding.check, finding.problem, finding.effect, finding.remedy);
    }
    settings.limits.connections = connections_fitting(&machine, &settings);
    let cores = cores.map_err(|none| Failure::Failed(none.to_string()))?;
    Ok((settings, cores))
}

/// Makes the token of the merchant API if there is none; the banner names its file, never the token.
fn make_token(settings: &Settings) -> Result<(), Failure> {
    let token = secrets::admin_token(settings).map_err(|error| Failure::Failed(error.to_string()))?;
    if let Some(warning) = token.warning {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// Log lines go to the standard error; `RUST_LOG` selects them (default: info and above).
fn start_tracing() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let format = tracing_subscriber::fmt().with_env_filter(filter).with_writer(output::Lines);
    // A lost line is counted, not reported on the stream that lost it.
    let format = format.log_internal_errors(false);
    let _ = format.with_ansi(std::io::stderr().is_terminal()).try_init();
}
