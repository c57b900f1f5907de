//! `kill`: what is lost when the store of each shop is killed, or its power cut, in the middle of a sale.
//!
//! Next: [`crate::kill`].

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::{engine, seed};
use crate::design::{Contender, Design, POOL_DEFAULT, Rival};
use crate::kill::{Fault, KillConfig, json, kill, text};
use stampede_loadgen::clock::unix_ms;
use stampede_loadgen::printer;
use stampede_loadgen::program::{EXIT_FAILED, UsageError, stop_flag, write_file};
use stampede_loadgen::units;

/// Flags of `kill`.
#[derive(Args, Debug)]
pub struct KillArgs {
    /// Whose store, separated by commas: row-lock, pessimistic, redis-lua, redis-lua-always, nginx-lua, stampede
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub stores: String,
    /// What happens: kill, power-cut, or both. A power cut needs root, a loop device, and the
    /// programs of Debian's e2fsprogs and xfsprogs
    #[arg(long, value_name = "FAULT", default_value = "both")]
    pub fault: String,
    /// Units on sale
    #[arg(long, value_name = "N", value_parser = units::count, default_value = "5k")]
    pub stock: u64,
    /// Purchases per second, of which a row in Postgres sells at most about 1,500
    #[arg(short = 'R', long, value_name = "RATE", value_parser = units::count, default_value = "1k")]
    pub rate: u64,
    /// Connections
    #[arg(short = 'c', long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4000))]
    pub connections: u32,
    /// How often each; the worst is shown
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// A further line of the rivals' redis.conf
    #[arg(long, value_name = "LINE")]
    pub redis_set: Vec<String>,
    /// The engine's program, instead of the `stampede` next to this one
    #[arg(long, value_name = "PATH")]
    pub engine: Option<PathBuf>,
    /// Write every round as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What buyers' names and the moment of the fault follow from; random if not given
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Hurts all of them; the exit code.
pub(super) fn run(args: &KillArgs) -> Result<u8> {
    let usage = |words: String| anyhow::Error::from(UsageError(words));
    if !(10..=10_000_000).contains(&args.stock) || args.rate == 0 {
        return Err(usage("--stock must be 10 to 10m, and --rate above 0".to_owned()));
    }
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let engine = engine(args.engine.as_deref(), false, &program)?;
    let faults = match args.fault.as_str() {
        "both" => Fault::ALL.to_vec(),
        name => vec![Fault::from_name(name).ok_or_else(|| usage(format!("--fault: `{name}` is not one")))?],
    };
    let config = KillConfig {
        contenders: stores(&args.stores, engine.is_some())?,
        program,
        faults,
        engine,
        stock: args.stock,
        per_s: args.rate as f64,
        connections: args.connections,
        rounds: args.rounds,
        pool: POOL_DEFAULT,
        redis_settings: args.redis_set.clone(),
        seed: seed(args.seed)?,
        stop: stop_flag()?,
    };
    let began_at_ms = unix_ms();
    let kills = kill(&config, &mut |words| printer::tell(words))?;
    if let Some(file) = &args.json {
        write_file(file, |out| Ok(serde_json::to_writer_pretty(out, &json(&config, &kills, began_at_ms))?))?;
    }
    printer::print(&text(&config, &kills));
    Ok(if kills.troubles.is_empty() { 0 } else { EXIT_FAILED })
}

fn stores(list: &str, has_engine: bool) -> Result<Vec<Contender>> {
    if list == "all" {
        let rivals = Rival::ALL.iter().copied().map(Contender::Rival);
        let engine = has_engine.then_some(Contender::Engine);
        return Ok([Contender::Classic(Design::RowLock)].into_iter().chain(rivals).chain(engine).collect());
    }
    let store = |name: &str| match Contender::from_name(name.trim()) {
        Some(Contender::Classic(design)) if design.needs_redis() => {
            Err(UsageError(format!("--stores: {name} has two stores; take one that has one")).into())
        }
        found => found.ok_or_else(|| UsageError(format!("--stores: `{name}` is not one")).into()),
    };
    list.split(',').map(store).collect()
}
