//! Flags and small steps that several subcommands share.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};
use clap::Args;

use crate::design::{Contender, POOL_DEFAULT, POOL_MAX};
use crate::process::{POSTGRES_VARIABLE, REDIS_VARIABLE};
use stampede_loadgen::program::UsageError;
use stampede_loadgen::units;

/// Flags that a comparison and a single design share.
#[derive(Args, Debug)]
pub struct TierArgs {
    /// A Postgres to use instead of a throw-away one, as postgres://user:password@host/database.
    /// A comparison makes databases of its own there and drops them
    #[arg(long, value_name = "URL", env = POSTGRES_VARIABLE, hide_env_values = true)]
    pub postgres: Option<String>,
    /// A Redis to use instead of a throw-away one, as redis://:password@host:6379/. Only keys
    /// that begin with stampede:classic: are touched. A comparison uses it for the designs; the
    /// rivals have one of their own, whose log is as it has to be
    #[arg(long, value_name = "URL", env = REDIS_VARIABLE, hide_env_values = true)]
    pub redis: Option<String>,
    /// Connections of the app tier to Postgres
    #[arg(long, value_name = "N", default_value_t = POOL_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=i64::from(POOL_MAX)))]
    pub pool: u32,
    /// Purchases that the limited designs admit per second: about what optimistic can sell on one
    /// row of a small machine, since more would only collide there
    #[arg(long, value_name = "RATE", value_parser = limit, default_value = "500")]
    pub limit: u64,
}

/// Flags of `serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// The design or the rival
    #[arg(value_name = "DESIGN", value_parser = contender)]
    pub design: Contender,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7075")]
    pub listen: SocketAddr,
    /// Make the two tables anew first, with so many units of item 1; without a --postgres that
    /// is done in any case
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub stock: Option<u64>,
    /// What it is made of.
    #[command(flatten)]
    pub tier: TierArgs,
    /// End when standard input does, as a comparison wants it
    #[arg(long, hide = true)]
    pub until_eof: bool,
}

pub(super) fn contender(text: &str) -> Result<Contender, String> {
    let names = || Contender::all().into_iter().map(Contender::name).collect::<Vec<_>>().join(", ");
    let found = Contender::from_name(text).filter(|&found| found != Contender::Engine);
    found.ok_or_else(|| format!("`{text}` is not a design; there are {}", names()))
}

fn limit(text: &str) -> Result<u64, String> {
    match units::count(text) {
        Ok(0) => Err("a limit of 0 would admit nobody; write 1 or more".to_owned()),
        Ok(limit) => Ok(limit),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn seed(given: Option<u64>) -> Result<u64> {
    given.map_or_else(|| getrandom::u64().context("no random seed; give --seed"), Ok)
}

/// The engine's program: the one that was given, or the one next to this program, if there is one.
pub(super) fn engine(given: Option<&Path>, is_left_out: bool, program: &Path) -> Result<Option<PathBuf>> {
    match (given, is_left_out) {
        (_, true) => Ok(None),
        (Some(path), _) if path.is_file() => Ok(Some(path.canonicalize()?)),
        (Some(path), _) => {
            Err(UsageError(format!("--engine {}: there is no such file", path.display())).into())
        }
        (None, _) => Ok(Some(program.with_file_name("stampede")).filter(|path| path.is_file())),
    }
}

/// Sets the flag when standard input ends: then the process that started this one is gone.
pub(super) fn stop_at_eof(stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        // Whatever comes, or an error: only the end counts.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.store(true, Ordering::Relaxed);
    });
}

/// The stock of a served design if nobody says another.
pub(super) const SERVE_STOCK: u64 = 100;
