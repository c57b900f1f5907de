//! `stampede export --from-snapshot`: fills a database that lacks facts that the log no longer holds.
//! The engine must not be running: the directory is opened as at a start, and locked.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use stampede_persist::disk::real::RealDisk;
use stampede_persist::export::refill::Refilled;
use stampede_persist::export::{ConnectOptions, Database, Nonce};
use stampede_persist::log::control::read_control;
use stampede_persist::log::dir::DataDir;

use super::args::SettingsArgs;
use super::failure::Failure;
use crate::server::refill::refill;
use crate::settings::{PostgresSettings, Settings};

const AFTER_HELP: &str = "\
For a database that was lost or restored from an old backup, and that the engine refuses because it
ends before the log begins. Orders, stock, totals and the blocklist come from the snapshot at the
beginning of the log and from the facts after it; then `stampede serve` continues with this database.

Stop the engine first. If it is not the database that the log belonged to (a new, empty one), run
`stampede detach DIR --yes` before. Rows of another log are never replaced: if there is one,
nothing is filled. If the command is killed half-way, run it again.

A snapshot holds keyed hashes of idempotency keys and payment references. For orders that were placed
or paid before the snapshot and after the database's last fact, idem_key and payment_ref stay NULL;
`stampede reconcile` takes that into account.";

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ExportArgs {
    /// From the snapshots and the log in DIR [default: the settings' data directory]
    #[arg(long, value_name = "DIR", required = true, num_args = 0..=1)]
    from_snapshot: Option<Option<PathBuf>>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Fills the database, and reports what it filled in.
pub(super) fn run(args: &ExportArgs, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let mut settings = args.settings.load(false)?.settings;
    if let Some(Some(dir)) = &args.from_snapshot {
        settings.data_dir.clone_from(dir);
    }
    let Some(postgres) = settings.postgres() else {
        let text = "no database is configured. Set postgres.url, STAMPEDE_POSTGRES_URL or --postgres";
        return Err(Failure::Settings(text.to_owned()));
    };
    must_hold_log(&settings.data_dir)?;
    let done = fill(&settings, &postgres)?;
    print(&done, out)?;
    Ok(ExitCode::SUCCESS)
}

/// Fails where there is no log: opening would make one.
fn must_hold_log(dir: &Path) -> Result<(), Failure> {
    let control = read_control(&RealDisk, dir).map_err(anyhow::Error::from)?;
    let problem = format!("{} holds no log. Name the engine's data directory", dir.display());
    control.map(drop).ok_or(Failure::Failed(problem))
}

fn fill(settings: &Settings, postgres: &PostgresSettings) -> anyhow::Result<Refilled> {
    let data = DataDir::open(&settings.data_dir, &settings.log_options())?;
    let database = Database::connect(&ConnectOptions::new(postgres.url.reveal()))?;
    let mut drawn = [0; 16];
    getrandom::fill(&mut drawn).context("the system gives no random bytes")?;
    refill(data, database, Nonce::new(u128::from_be_bytes(drawn)))
}

fn print(done: &Refilled, out: &mut dyn Write) -> std::io::Result<()> {
    let Refilled { from, snapshot, to, orders, items, blocked, without_texts, set_aside, void, paused } =
        done;
    writeln!(
        out,
        "the database went from LSN {from} to LSN {to}: {orders} orders, {items} items, {blocked} blocked buyers; \
         `stampede serve` continues with it"
    )?;
    if *without_texts > 0 {
        writeln!(
            out,
            "{without_texts} orders placed or paid after LSN {from}, up to LSN {snapshot}, have no idempotency key \
             or payment reference in the database: snapshots hold only their hashes"
        )?;
    }
    if *set_aside > 0 {
        writeln!(out, "{set_aside} rows were refused by Postgres; see stampede_set_aside")?;
    }
    for (item, units) in void {
        writeln!(
            out,
            "item {item}: {units} of the units withdrawn in the database were sold already; that part of the withdrawal is void"
        )?;
    }
    for (item, reason) in paused {
        writeln!(out, "item {item} will be paused: {reason}")?;
    }
    out.flush()
}
