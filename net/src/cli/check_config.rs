//! `stampede check-config`: which settings apply, and where each comes from.

use std::io::Write;
use std::process::ExitCode;

use super::args::SettingsArgs;
use super::failure::Failure;
use crate::settings::show;

/// Checks the settings as `serve` would and prints them, with secrets masked.
pub(super) fn run(args: &SettingsArgs, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let loaded = args.load(true)?;
    for line in show::lines(&loaded) {
        writeln!(out, "{line}")?;
    }
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(ExitCode::SUCCESS)
}
