//! The comparison: each design, and the engine, sells the same stock under the same load.
//!
//! ```text
//!            the sale                                    the tail
//!  fresh ─▶ closed loop until somebody hears ─▶ cost ─▶ closed loop of so many ─▶ cost ─▶ stop,
//!  tables    "sold out" (or time is up)                  purchases, all refused            read the totals
//! ```
//!
//! The two parts are measured apart, because refusing is cheap where selling is dear: mixed,
//! their figures would only tell how long the tail was. The designs take turns, round by
//! round. Next: [`crate::table`], which shows the rows; [`crate::process`].

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use postgres::NoTls;
use serde::Serialize;
use serde_json::Value;

use crate::cache;
use crate::cost::{family_ns, process_ns};
use crate::design::{Contender, ITEM};
use crate::error::ClassicError;
use crate::machine::{machine, versions};
use crate::process::{AppProcess, EngineProcess};
use crate::rival::{RivalParts, RivalServer};
use crate::shop::ShopConfig;
use crate::stats::Figures;
use crate::totals::{OwnDatabase, Totals, commits_at, make_tables};
use stampede_loadgen::engine::{Outcome, RunConfig, run};
use stampede_loadgen::meaning::{Class, Code};
use stampede_loadgen::workload::{Workload, mix};
use stampede_testkit::{ClusterOptions, PostgresCluster, RedisOptions, RedisServer, redis_connect};

/// Pause between two looks at whether a sale has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long connecting to a database that was given may take.
const REACH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one purchase may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may be silent.
const RIDE_OUT: Duration = Duration::from_secs(10);

/// What is compared, and how.
#[derive(Clone)]
pub struct BenchConfig {
    /// The program whose `serve` is the app tier: this one, as a rule.
    pub program: PathBuf,
    /// The designs and rivals, in the order of the table.
    pub designs: Vec<Contender>,
    /// The engine's program, for the last row.
    pub engine: Option<PathBuf>,
    /// Units on sale.
    pub stock: u64,
    /// Purchases after the end of the sale, all refused.
    pub refusals: u64,
    /// Connections, each with one purchase under way at a time.
    pub connections: u32,
    /// Longest time of a sale, and of the refusals after it.
    pub time_max: Duration,
    /// Rounds in which the designs take turns.
    pub pairs: u32,
    /// Connections of the app tier to the database.
    pub pool: u32,
    /// Purchases per second that the limited designs admit.
    pub limit_per_s: u64,
    /// A Postgres to use; `None`: a throw-away one.
    pub postgres: Option<String>,
    /// A Redis to use for the classic designs; `None`: a throw-away one.
    pub redis: Option<String>,
    /// Further lines of the rivals' `redis.conf`.
    pub redis_settings: Vec<String>,
    /// What buyers' names follow from.
    pub seed: u64,
    /// Set from outside to end early; what is complete is kept.
    pub stop: Arc<AtomicBool>,
}

/// Latencies in nanoseconds; 0 = nothing was measured.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50_ns: u64,
    /// 99 of 100 were at least this fast.
    pub p99_ns: u64,
    /// 999 of 1,000 were.
    pub p999_ns: u64,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { p50_ns: at(0.5), p99_ns: at(0.99), p999_ns: at(0.999) }
    }
}

/// What one contender did in one round.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Who.
    pub name: &'static str,
    /// Units that were on sale.
    pub stock: u64,
    /// Orders in the database at the end.
    pub orders: u64,
    /// Orders that buyers were told of.
    pub acked: u64,
    /// What the database's own counter says is left.
    pub count: i64,
    /// Whether the sale came to its end in time.
    pub ended: bool,
    /// From the first order to the last, in microseconds.
    pub sale_us: u64,
    /// Orders per second, from the first order to the last.
    pub winners_per_s: Option<f64>,
    /// Refusals per second after the sale.
    pub refusals_per_s: Option<f64>,
    /// Latencies of all responses of the sale.
    pub sale: Percentiles,
    /// Latencies of its winners alone.
    pub winners: Percentiles,
    /// Latencies of the refusals after it.
    pub refusals: Percentiles,
    /// Orders beyond the stock.
    pub oversold: u64,
    /// Units left over although buyers were told that there were none.
    pub undersold: u64,
    /// Statements sent to the database in the sale, per winner.
    pub statements_per_winner: Option<f64>,
    /// Transactions committed in the database from start to stop, per winner.
    pub commits_per_winner: Option<f64>,
    /// CPU time of the whole service in the sale, per 1,000 orders, in seconds.
    pub cpu_s_per_1000_winners: Option<f64>,
    /// CPU time of the whole service after the sale, per 1,000 refusals, in seconds.
    pub cpu_s_per_1000_refusals: Option<f64>,
    /// What the app tier counted in the sale.
    pub counted: Option<Figures>,
    /// What is not as documented.
    pub wrong: Option<String>,
}

/// What came of a comparison.
#[derive(Clone, Default, Debug)]
pub struct Bench {
    /// A row per contender and round, in the order in which they ran.
    pub rows: Vec<Row>,
    /// What could not be run, and why.
    pub troubles: Vec<String>,
    /// Whether it was ended from outside.
    pub interrupted: bool,
    /// The machine before it began, and how loaded it was.
    pub machine: Value,
    /// The versions of the programs that took part.
    pub versions: Value,
}

/// Compares. `tell` hears a line of words per step. Blocks for up to
/// `pairs × contenders × 2 × time_max`.
///
/// # Errors
/// [`ClassicError`] if there is no database or cache at all; a contender that cannot be run is
/// among the [`Bench::troubles`] instead.
pub fn bench(config: &BenchConfig, tell: &mut dyn FnMut(&str)) -> Result<Bench, ClassicError> {
    let bed = Bed::make(config, tell)?;
    let engine = config.engine.iter().map(|_| Contender::Engine);
    let contenders: Vec<_> = config.designs.iter().copied().chain(engine).collect();
    let versions = versions(&bed.postgres_url, config.engine.as_ref());
    let mut bench = Bench { machine: machine(), versions, ..Bench::default() };
    for round in 0..config.pairs {
        for (index, &contender) in contenders.iter().enumerate() {
            let seed = mix(config.seed ^ (u64::from(round) << 32 | index as u64));
            match bed.round(contender, seed) {
                Ok(row) if !bed.is_stopped() => {
                    tell(&words(&row));
                    bench.rows.push(row);
                }
                Err(error) if !bed.is_stopped() => {
                    let trouble = format!("{}: {error}", contender.name());
                    tell(&trouble);
                    bench.troubles.push(trouble);
                }
                _ => {}
            }
            if bed.is_stopped() {
                bench.interrupted = true;
                return Ok(bench);
            }
        }
    }
    Ok(bench)
}

fn words(row: &Row) -> String {
    let took = Duration::from_micros(row.sale_us).as_secs_f64();
    let end = if row.ended { "sold out" } else { "time was up" };
    let wrong = row.wrong.as_ref().map_or_else(String::new, |wrong| format!("; WRONG: {wrong}"));
    format!("{}: {} orders of {} units in {took:.2} s, {end}{wrong}", row.name, row.orders, row.stock)
}

/// The servers that all contenders share. Fields are dropped in this order.
struct Bed<'a> {
    config: &'a BenchConfig,
    postgres_url: String,
    redis_url: Option<String>,
    postgres: Option<PostgresCluster>,
    redis: Option<RedisServer>,
}

/// A contender that runs.
enum Server {
    App(AppProcess),
    Rival(RivalServer),
    Engine(EngineProcess),
}

/// What everything has cost so far.
struct Cost {
    cpu_ns: u64,
    counted: Option<Figures>,
}

/// Whether a database answers at all.
fn reach(url: &str) -> Result<(), ClassicError> {
    let mut config: postgres::Config = url.parse()?;
    config.connect_timeout(REACH_TIMEOUT);
    Ok(config.connect(NoTls).map(drop)?)
}

impl<'a> Bed<'a> {
    fn make(config: &'a BenchConfig, tell: &mut dyn FnMut(&str)) -> Result<Self, ClassicError> {
        let (mut postgres, mut redis) = (None, None);
        let postgres_url = match &config.postgres {
            Some(url) => {
                // Said once and before anything is begun, rather than once per design.
                reach(url)?;
                url.clone()
            }
            None => {
                tell("starting a throw-away Postgres");
                // As a shop would set it: commits wait for the disk, and a checkpoint does not
                // fall into every second sale.
                let settings =
                    [("synchronous_commit", "on"), ("max_wal_size", "4GB"), ("shared_buffers", "256MB")];
                let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
                let made = PostgresCluster::new(ClusterOptions { fsync: true, settings })?;
                postgres.insert(made).url()
            }
        };
        let needs_redis = config
            .designs
            .iter()
            .any(|contender| matches!(contender, Contender::Classic(design) if design.needs_redis()));
        let redis_url = match &config.redis {
            Some(url) => {
                redis_connect(url)?;
                Some(url.clone())
            }
            None if needs_redis => {
                tell("starting a throw-away Redis");
                Some(redis.insert(RedisServer::new(&RedisOptions::default())?).url())
            }
            None => None,
        };
        Ok(Self { config, postgres_url, redis_url, postgres, redis })
    }

    fn is_stopped(&self) -> bool {
        self.config.stop.load(Ordering::Relaxed)
    }

    /// One contender, from fresh tables to the totals.
    fn round(&self, contender: Contender, seed: u64) -> Result<Row, ClassicError> {
        let database = OwnDatabase::create(&self.postgres_url)?;
        let server = self.start(contender, &database.url)?;
        let before = self.cost(&server)?;
        // The engine and the rivals give each buyer a unit until there are none: as many buyers as units
        // end their sale exactly. Of the others, nobody knows how many buyers that takes.
        let buyers = matches!(server, Server::Engine(_) | Server::Rival(_)).then_some(self.config.stock);
        let sale = self.run(&server, seed, buyers)?;
        server.settle()?;
        let after_sale = self.cost(&server)?;
        let ended = match (&after_sale.counted, buyers) {
            (Some(counted), _) => counted.sold_out > 0,
            (None, _) => sale.tally.count(Code::Won) >= self.config.stock,
        };
        let tail = if ended && !self.is_stopped() {
            Some(self.run(&server, mix(seed), Some(self.config.refusals))?)
        } else {
            None
        };
        server.settle()?;
        let after = self.cost(&server)?;
        drop(server);
        self.forget_cache()?;
        let totals = Totals::read(&database.url)?;
        let commits = commits_at(&database.url)?;
        let parts = Parts { contender, ended, before, after_sale, after, sale, tail, totals, commits };
        Ok(parts.row(self.config))
    }

    fn start(&self, contender: Contender, database: &str) -> Result<Server, ClassicError> {
        let BenchConfig { stock, pool, limit_per_s, .. } = *self.config;
        match (contender, &self.config.engine) {
            (Contender::Classic(design), _) => {
                let redis = self.redis_url.clone().filter(|_| design.needs_redis());
                let shop = ShopConfig { design, postgres: database.to_owned(), redis, pool, limit_per_s };
                Ok(Server::App(AppProcess::start(&self.config.program, &shop, stock)?))
            }
            (Contender::Rival(rival), _) => {
                make_tables(database, stock)?;
                let (program, root) = (&*self.config.program, &*std::env::temp_dir());
                let parts =
                    RivalParts { program, postgres: database, root, settings: &self.config.redis_settings };
                Ok(Server::Rival(RivalServer::start(rival, parts, stock)?))
            }
            (Contender::Engine, Some(program)) => {
                Ok(Server::Engine(EngineProcess::start(program, database, stock)?))
            }
            (Contender::Engine, None) => Err(ClassicError::Missing("there is no engine to start")),
        }
    }

    /// A closed loop of so many purchases, or until the app tier says that it is sold out.
    fn run(&self, server: &Server, seed: u64, purchases: Option<u64>) -> Result<Outcome, ClassicError> {
        let stop = Arc::new(AtomicBool::new(false));
        let run_config = RunConfig {
            requests: purchases,
            duration: Some(self.config.time_max),
            connections: self.config.connections,
            timeout: TIMEOUT,
            ride_out: RIDE_OUT,
            keep_history: false,
            progress: true,
            stop: Arc::clone(&stop),
            ..RunConfig::closed(server.addr(), Workload::purchases(ITEM, seed), 1)
        };
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let ended = purchases.is_none() && server.is_sold_out();
                    if ended || self.is_stopped() {
                        stop.store(true, Ordering::Relaxed);
                        return;
                    }
                    thread::park_timeout(LOOK_EVERY);
                }
            });
            let outcome = run(&run_config);
            over.store(true, Ordering::Relaxed);
            Ok(outcome?)
        })
    }

    fn cost(&self, server: &Server) -> Result<Cost, ClassicError> {
        let postgres = self.postgres.as_ref().and_then(PostgresCluster::pid).map_or(0, family_ns);
        let redis = self.redis.as_ref().and_then(RedisServer::pid).map_or(0, process_ns);
        match server {
            Server::App(app) => {
                let counted = app.figures()?;
                Ok(Cost { cpu_ns: postgres + redis + counted.cpu_ns, counted: Some(counted) })
            }
            Server::Rival(rival) => Ok(Cost { cpu_ns: postgres + rival.cpu_ns(), counted: None }),
            Server::Engine(engine) => Ok(Cost { cpu_ns: postgres + engine.cpu_ns(), counted: None }),
        }
    }

    /// The next design is not to find what this one left in the cache.
    fn forget_cache(&self) -> Result<(), ClassicError> {
        let Some(url) = &self.redis_url else { return Ok(()) };
        Ok(cache::delete(&mut redis_connect(url)?, ITEM)?)
    }
}

impl Server {
    const fn addr(&self) -> std::net::SocketAddr {
        match self {
            Self::App(app) => app.addr,
            Self::Rival(rival) => rival.addr,
            Self::Engine(engine) => engine.addr,
        }
    }

    /// Waits for the work that goes on after the responses, so that it is not forgotten in the cost.
    fn settle(&self) -> Result<(), ClassicError> {
        match self {
            Self::App(_) => Ok(()),
            Self::Rival(rival) => rival.wait_written(),
            Self::Engine(engine) => engine.wait_exported(),
        }
    }

    fn is_sold_out(&self) -> bool {
        match self {
            Self::App(app) => app.figures().is_ok_and(|figures| figures.sold_out > 0),
            Self::Rival(_) | Self::Engine(_) => false,
        }
    }
}

/// All that was measured of one contender in one round.
struct Parts {
    contender: Contender,
    ended: bool,
    before: Cost,
    after_sale: Cost,
    after: Cost,
    sale: Outcome,
    tail: Option<Outcome>,
    totals: Totals,
    commits: i64,
}

impl Parts {
    fn row(&self, config: &BenchConfig) -> Row {
        let (stock, totals) = (config.stock, &self.totals);
        let orders = u64::try_from(totals.orders).unwrap_or(0);
        let sale_us = u64::try_from(totals.span_us).unwrap_or(0);
        let tally = &self.sale.tally;
        let won = tally.count(Code::Won);
        let per_winner = |amount: f64| (won > 0).then(|| amount / won as f64);
        let counted = self.after_sale.counted.as_ref().zip(self.before.counted.as_ref());
        let counted = counted.map(|(after, before)| after.since(before));
        let tail = self.tail.as_ref().map(|tail| &tail.tally);
        let refused = tail.map_or(0, |tally| tally.class_count(Class::Refusal));
        let sale_cpu_ns = self.after_sale.cpu_ns.saturating_sub(self.before.cpu_ns);
        let tail_cpu_ns = self.after.cpu_ns.saturating_sub(self.after_sale.cpu_ns);
        Row {
            name: self.contender.name(),
            stock,
            orders,
            acked: won + tail.map_or(0, |tally| tally.count(Code::Won)),
            count: totals.count,
            ended: self.ended,
            sale_us,
            winners_per_s: (orders > 1 && sale_us > 0).then(|| (orders - 1) as f64 * 1e6 / sale_us as f64),
            refusals_per_s: tail
                .filter(|_| refused > 0)
                .map(|tally| refused as f64 * 1e9 / tally.elapsed_ns() as f64),
            sale: Percentiles::of(&tally.latency_all()),
            winners: Percentiles::of(tally.latency(Class::Winner)),
            refusals: tail.map_or_else(Percentiles::default, |tally| Percentiles::of(&tally.latency_all())),
            oversold: orders.saturating_sub(stock),
            undersold: stock.saturating_sub(orders),
            statements_per_winner: counted.and_then(|counted| per_winner(counted.statements as f64)),
            commits_per_winner: per_winner(self.commits as f64),
            cpu_s_per_1000_winners: per_winner(sale_cpu_ns as f64 / 1e6),
            cpu_s_per_1000_refusals: (refused > 0).then(|| tail_cpu_ns as f64 / 1e6 / refused as f64),
            counted,
            wrong: self.wrong(stock),
        }
    }

    /// What is not as docs/CLASSICS.md says. That `naive` oversells is as it says.
    fn wrong(&self, stock: u64) -> Option<String> {
        let Totals { orders, count, sale, .. } = self.totals;
        let may_oversell = matches!(self.contender, Contender::Classic(design) if design.may_oversell());
        if !may_oversell && !self.totals.agree(stock) {
            return Some(format!(
                "{orders} orders, but the row says {sale} sold and {count} left of {stock}"
            ));
        }
        let tallies = [Some(&self.sale), self.tail.as_ref()].into_iter().flatten();
        let acked: u64 = tallies.map(|outcome| outcome.tally.count(Code::Won)).sum();
        if acked > u64::try_from(orders).unwrap_or(0) {
            return Some(format!("{acked} buyers were told of an order, {orders} orders are there"));
        }
        let failures = self.after.counted.as_ref().map_or(0, |counted| counted.failures);
        if failures > 0 {
            return Some(format!(
                "{failures} purchases failed in the app tier, its reason is on standard error"
            ));
        }
        self.sale.gave_up.as_ref().map(|cause| format!("it stopped answering ({cause})"))
    }
}
