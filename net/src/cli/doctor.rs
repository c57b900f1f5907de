//! `stampede doctor`: every startup check, one line each.

use std::io::Write;
use std::process::ExitCode;

use super::args::{SettingsArgs, defaults};
use super::failure::{EXIT_FAILED, Failure};
use crate::doctor::database;
use crate::doctor::probe::{probe, raise_limits};
use crate::doctor::{Level, examine};
use crate::runtime::Cores;
use crate::settings::Loaded;

/// Checks the machine with the settings that `serve` would use. If they are invalid, that is a finding, and
/// the checks go on with the defaults.
pub(super) fn run(args: &SettingsArgs, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let (loaded, mut failed) = match args.load(true) {
        Ok(loaded) => {
            writeln!(out, "ok    settings      can be used")?;
            (loaded, false)
        }
        Err(Failure::Settings(problem)) => {
            writeln!(out, "FAIL  settings      {problem}")?;
            (fallback(args)?, true)
        }
        Err(other) => return Err(other),
    };
    for warning in &loaded.warnings {
        writeln!(out, "warn  settings      {warning}")?;
    }
    raise_limits();
    let settings = &loaded.settings;
    let cores = Cores::acquire(settings.transport, &settings.cores);
    let machine = probe(settings, &cores);
    // The resources of the attempt are freed before the database is asked.
    drop(cores);
    for finding in examine(&machine, settings).into_iter().chain(database::ask(settings)) {
        failed |= finding.level == Level::Fail;
        writeln!(out, "{finding}")?;
    }
    Ok(if failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
}

/// The same settings without required keys, or the defaults.
fn fallback(args: &SettingsArgs) -> Result<Loaded, Failure> {
    args.load(false).or_else(|_| defaults())
}
