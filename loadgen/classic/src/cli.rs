//! The command line of `stampede-classic`: the classic designs, compared with each other and with the
//! engine; one of them served alone; or the server that does nothing.
//!
//! Next: [`crate::bench`], docs/CLASSICS.md.

mod bare;
mod common;
mod kill;
mod rival;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
pub use bare::BareArgs;
use clap::{Args, Parser, Subcommand};
use common::{SERVE_STOCK, contender, engine, seed, stop_at_eof};
pub use common::{ServeArgs, TierArgs};
pub use kill::KillArgs;
pub use rival::{FrontArgs, WorkerArgs};

use crate::bench::{BenchConfig, bench};
use crate::design::{Contender, ITEM};
use crate::http::AppTier;
use crate::shop::{Shop, ShopConfig};
use crate::table;
use crate::totals::{make_capped_tables, make_tables};
use stampede_loadgen::clock::unix_ms;
use stampede_loadgen::printer;
use stampede_loadgen::program::{self, EXIT_FAILED, EXIT_VIOLATION, UsageError, stop_flag, write_file};
use stampede_loadgen::units;
use stampede_testkit::{ClusterOptions, PostgresCluster, RedisOptions, RedisServer};

/// The name of the program.
const NAME: &str = "stampede-classic";

const EXAMPLES: &str = "\
Designs (docs/CLASSICS.md says where the race of each is):
  naive          reads the count and writes back one less: oversells
  pessimistic    SELECT ... FOR UPDATE
  optimistic     UPDATE ... WHERE version = the one that was read, fails fast
  limited        a counter per second in Redis (Lua), then optimistic
  limited-local  a token bucket in the process, then optimistic
  cached-delete  stock read from Redis, optimistic, then deleted from Redis
  cached-update  stock read from Redis, optimistic, then changed in Redis (MULTI/EXEC)
  row-lock       UPDATE ... WHERE count > 0 and the order in one function; cap and idempotency key

Rivals, which know caps and idempotency keys as the engine does:
  redis-lua         one Lua script in Redis and a worker to Postgres; log synced once a second
  redis-lua-always  the same, the log synced before each answer
  nginx-lua         the same script called by nginx + Lua; log synced once a second

It starts a throw-away Postgres and Redis of its own (Debian: postgresql, redis-tools; for nginx-lua
nginx, libnginx-mod-http-lua) and leaves nothing behind. The engine is `stampede` next to this program; build it with cargo build --release.

Examples:
  stampede-classic
  stampede-classic --pairs 5 -c 128 --json classic.json
  stampede-classic --designs naive,pessimistic --stock 500 --no-engine
  stampede-classic --designs rivals --stock 50k --requests 100k --pairs 5 --json rivals.json
  stampede-classic kill --rounds 3 --json kill.json    # what kill -9 and a power cut lose
  stampede-classic serve naive --stock 100     # then, in another terminal:
  curl http://127.0.0.1:7075/v1/items/1/orders -H 'X-Buyer: alice' -d '{\"quantity\":1}'

Exit codes: 0 each design did what its documentation says (naive oversells), 1 something could
not be run, 2 bad flags, 3 a design did what it must not.";

/// Compares the classic flash-sale designs (naive, locks, limiter, cache) with each other and with the engine.
#[derive(Parser, Debug)]
#[command(name = NAME, version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct ClassicArgs {
    /// One server alone.
    #[command(subcommand)]
    pub command: Option<ClassicCommand>,
    /// What to compare.
    #[command(flatten)]
    pub bench: BenchArgs,
}

/// What it does besides comparing.
#[derive(Subcommand, Debug)]
pub enum ClassicCommand {
    /// Serves one design until Ctrl-C, to try it with curl or with `stampede-loadgen run --no-verify`
    Serve(ServeArgs),
    /// Kills each store in the middle of a sale, and cuts its power, and counts what is lost
    Kill(KillArgs),
    /// Serves a constant response from one thread: the limit to compare with
    Bare(BareArgs),
    /// The HTTP front of redis-lua alone
    #[command(hide = true)]
    Front(FrontArgs),
    /// Its worker alone
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// Flags of the comparison.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Which designs and rivals, separated by commas; `all`, or `rivals`: row-lock and the rivals
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub designs: String,
    /// Units on sale
    #[arg(long, value_name = "N", value_parser = units::count, default_value = "1k")]
    pub stock: u64,
    /// Purchases, if each one got a unit while there are any; those beyond the stock are sent
    /// after the sale and are refused. Where buyers miss in the sale, more are sent in it
    #[arg(long, value_name = "N", value_parser = units::count, default_value = "10k")]
    pub requests: u64,
    /// Connections, each with one purchase under way
    #[arg(short = 'c', long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4000))]
    pub connections: u32,
    /// Longest time of a sale, and of the refusals after it
    #[arg(long, value_name = "TIME", value_parser = units::time, default_value = "60s")]
    pub seconds: Duration,
    /// Rounds in which the designs take turns; medians are shown
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub pairs: u32,
    /// What all designs are made of.
    #[command(flatten)]
    pub tier: TierArgs,
    /// The engine's program, instead of the `stampede` next to this one
    #[arg(long, value_name = "PATH", conflicts_with = "no_engine")]
    pub engine: Option<PathBuf>,
    /// Leave the engine out
    #[arg(long)]
    pub no_engine: bool,
    /// A further line of the rivals' redis.conf, such as 'io-threads 2'
    #[arg(long, value_name = "LINE")]
    pub redis_set: Vec<String>,
    /// Write every round as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What buyers' names follow from; random if not given
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match ClassicArgs::try_parse() {
        Ok(args) => program::exit(NAME, run(&args)),
        Err(error) => program::explain(NAME, &error),
    }
}

fn run(args: &ClassicArgs) -> Result<u8> {
    match &args.command {
        Some(ClassicCommand::Serve(args)) => serve(args),
        Some(ClassicCommand::Kill(args)) => kill::run(args),
        Some(ClassicCommand::Bare(args)) => bare::run(args),
        Some(ClassicCommand::Front(args)) => rival::front(args),
        Some(ClassicCommand::Worker(args)) => rival::worker(args),
        None => compare(&args.bench),
    }
}

fn compare(args: &BenchArgs) -> Result<u8> {
    let config = config(args)?;
    if config.engine.is_none() && !args.no_engine {
        printer::tell(
            "no `stampede` next to this program, so the table has no row of the engine; build it with \
             cargo build --release, or give --engine PATH",
        );
    }
    let began_at_ms = unix_ms();
    let done = bench(&config, &mut |words| printer::tell(words))?;
    if let Some(file) = &args.json {
        write_file(file, |out| {
            Ok(serde_json::to_writer_pretty(out, &table::json(&config, &done, began_at_ms))?)
        })?;
    }
    printer::print(&table::text(&config, &done));
    let wrong = done.rows.iter().any(|row| row.wrong.is_some());
    Ok(if wrong {
        EXIT_VIOLATION
    } else if done.troubles.is_empty() {
        0
    } else {
        EXIT_FAILED
    })
}

fn config(args: &BenchArgs) -> Result<BenchConfig> {
    let usage = |words: &str| anyhow::Error::from(UsageError(words.to_owned()));
    if args.stock == 0 || args.stock > u64::from(u32::MAX) {
        return Err(usage("--stock must be 1 to 4294967295"));
    }
    if args.requests <= args.stock {
        return Err(usage("--requests must be above --stock, so that somebody is refused"));
    }
    if args.seconds.is_zero() {
        return Err(usage("--seconds must be above 0"));
    }
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let seed = seed(args.seed)?;
    Ok(BenchConfig {
        designs: designs(&args.designs)?,
        engine: engine(args.engine.as_deref(), args.no_engine, &program)?,
        program,
        stock: args.stock,
        refusals: args.requests - args.stock,
        connections: args.connections,
        time_max: args.seconds,
        pairs: args.pairs,
        pool: args.tier.pool,
        limit_per_s: args.tier.limit,
        postgres: args.tier.postgres.clone(),
        redis: args.tier.redis.clone(),
        redis_settings: args.redis_set.clone(),
        seed,
        stop: stop_flag()?,
    })
}

/// Those that are as good as they can be: they know caps and keys.
fn rivals() -> Vec<Contender> {
    let knows_caps =
        |&contender: &Contender| !matches!(contender, Contender::Classic(design) if !design.has_cap());
    Contender::all().into_iter().filter(knows_caps).collect()
}

fn designs(list: &str) -> Result<Vec<Contender>> {
    match list {
        "all" => return Ok(Contender::all()),
        "rivals" => return Ok(rivals()),
        _ => {}
    }
    let mut designs = Vec::new();
    for name in list.split(',').map(str::trim) {
        let usage = |error| UsageError(format!("--designs: {error}, or all, or rivals"));
        let design = contender(name).map_err(usage)?;
        if !designs.contains(&design) {
            designs.push(design);
        }
    }
    Ok(designs)
}

fn serve(args: &ServeArgs) -> Result<u8> {
    let design = match args.design {
        Contender::Classic(design) => design,
        Contender::Rival(rival) => return rival::serve(args, rival),
        Contender::Engine => {
            return Err(UsageError("the engine is served by `stampede serve`".to_owned()).into());
        }
    };
    let stop = stop_flag()?;
    let tier = &args.tier;
    let own_postgres = match &tier.postgres {
        Some(_) => None,
        None => Some(PostgresCluster::new(ClusterOptions { fsync: true, ..ClusterOptions::default() })?),
    };
    let own_redis = match &tier.redis {
        None if design.needs_redis() => Some(RedisServer::new(&RedisOptions::default())?),
        _ => None,
    };
    let postgres = own_postgres.as_ref().map(PostgresCluster::url).or_else(|| tier.postgres.clone());
    let postgres = postgres.context("there is no Postgres")?;
    let redis = own_redis.as_ref().map(RedisServer::url).or_else(|| tier.redis.clone());
    if let Some(stock) = args.stock.or_else(|| own_postgres.as_ref().map(|_| SERVE_STOCK)) {
        if design.has_cap() {
            make_capped_tables(&postgres, stock)?;
        } else {
            make_tables(&postgres, stock)?;
        }
    }
    let shop = ShopConfig { design, postgres, redis, pool: tier.pool, limit_per_s: tier.limit };
    let shop = Shop::open(&shop)?;
    shop.preheat(ITEM)?;
    let server =
        AppTier::bind(args.listen, shop).with_context(|| format!("cannot listen on {}", args.listen))?;
    let addr = server.addr()?;
    printer::print_line(&format!("listening on {addr}"));
    if args.until_eof {
        stop_at_eof(&stop);
    }
    let signalled = Arc::clone(&stop);
    thread::spawn(move || {
        while !signalled.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50));
        }
        AppTier::wake(addr);
    });
    server.serve(&stop);
    Ok(0)
}
