//! `stampede migrate`: migrates the database's tables to the version of this program. Safe to
//! repeat, and to run from two machines at once.

use std::io::Write;
use std::process::ExitCode;

use stampede_persist::export::{ConnectOptions, Database, SCHEMA_VERSION, migrate};

use super::args::SettingsArgs;
use super::failure::Failure;

/// Migrates, and reports from which version to which.
pub(super) fn run(args: &SettingsArgs, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let settings = args.load(false)?.settings;
    let Some(postgres) = settings.postgres() else {
        let text = "no database is configured. Set postgres.url, STAMPEDE_POSTGRES_URL or --postgres";
        return Err(Failure::Settings(text.to_owned()));
    };
    let options = ConnectOptions::new(postgres.url.reveal());
    let place = options.target().map_err(anyhow::Error::from)?;
    let mut database = Database::connect(&options).map_err(anyhow::Error::from)?;
    match migrate(&mut database).map_err(anyhow::Error::from)? {
        SCHEMA_VERSION => writeln!(out, "{place} is at version {SCHEMA_VERSION} already")?,
        0 => writeln!(out, "{place} has its tables now, at version {SCHEMA_VERSION}")?,
        found => writeln!(out, "{place} went from version {found} to {SCHEMA_VERSION}")?,
    }
    Ok(ExitCode::SUCCESS)
}
