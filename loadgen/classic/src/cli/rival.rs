//! The rivals: `serve redis-lua` for a user, and its two halves for a comparison, which runs each in a
//! process of its own.
//!
//! Next: [`crate::redis_lua`].

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use super::{SERVE_STOCK, ServeArgs, stop_at_eof};
use crate::design::{ITEM, Rival};
use crate::process::{POSTGRES_VARIABLE, REDIS_VARIABLE};
use crate::redis_lua::front::Front;
use crate::redis_lua::nginx::Nginx;
use crate::redis_lua::worker::work;
use crate::redis_lua::{preheat, redis_options};
use crate::totals::make_tables;
use stampede_loadgen::printer;
use stampede_loadgen::program::{UsageError, stop_flag};
use stampede_testkit::{ClusterOptions, PostgresCluster, RedisServer, redis_connect};

/// Flags of `front`.
#[derive(Args, Debug)]
pub struct FrontArgs {
    /// The Redis, which has been preheated
    #[arg(long, value_name = "URL", env = REDIS_VARIABLE, hide_env_values = true)]
    pub redis: String,
    /// Where to listen
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,
    /// End when standard input does
    #[arg(long)]
    pub until_eof: bool,
}

/// Flags of `worker`.
#[derive(Args, Debug)]
pub struct WorkerArgs {
    /// The Redis
    #[arg(long, value_name = "URL", env = REDIS_VARIABLE, hide_env_values = true)]
    pub redis: String,
    /// The Postgres, whose tables are there
    #[arg(long, value_name = "URL", env = POSTGRES_VARIABLE, hide_env_values = true)]
    pub postgres: String,
    /// End when standard input does
    #[arg(long)]
    pub until_eof: bool,
}

/// Serves until Ctrl-C; the exit code.
pub(super) fn front(args: &FrontArgs) -> Result<u8> {
    let stop = stop_flag()?;
    let front = Front::bind(args.listen, &args.redis)?;
    printer::print_line(&format!("listening on {}", front.addr()?));
    if args.until_eof {
        stop_at_eof(&stop);
    }
    front.serve(&stop)?;
    Ok(0)
}

/// Writes until Ctrl-C; the exit code.
pub(super) fn worker(args: &WorkerArgs) -> Result<u8> {
    let stop = stop_flag()?;
    printer::print_line("working");
    if args.until_eof {
        stop_at_eof(&stop);
    }
    work(&args.redis, &args.postgres, ITEM, &stop);
    Ok(0)
}

/// Serves a rival whole, its Redis included, until Ctrl-C; the exit code.
pub(super) fn serve(args: &ServeArgs, rival: Rival) -> Result<u8> {
    let stop = stop_flag()?;
    if args.tier.redis.is_some() {
        let words =
            "a rival is served with a Redis of its own, whose log is as it has to be; leave --redis out";
        return Err(UsageError(words.to_owned()).into());
    }
    let own_postgres = match &args.tier.postgres {
        Some(_) => None,
        None => Some(PostgresCluster::new(ClusterOptions { fsync: true, ..ClusterOptions::default() })?),
    };
    let postgres = own_postgres.as_ref().map(PostgresCluster::url).or_else(|| args.tier.postgres.clone());
    let postgres = postgres.context("there is no Postgres")?;
    // The Redis is new, so the tables are, too.
    let stock = args.stock.unwrap_or(SERVE_STOCK);
    make_tables(&postgres, stock)?;
    let redis = RedisServer::new(&redis_options(rival.log, &[]))?;
    let redis_url = redis.socket_url();
    preheat(&mut redis_connect(&redis_url)?, ITEM, stock)?;
    if args.until_eof {
        stop_at_eof(&stop);
    }
    thread::scope(|scope| {
        let (stop, redis_url) = (&*stop, &*redis_url);
        let worker = scope.spawn(|| work(redis_url, &postgres, ITEM, stop));
        let served = if rival.is_nginx {
            Nginx::start(&redis, args.listen).map_err(anyhow::Error::from).map(|nginx| {
                printer::print_line(&format!("listening on {}", nginx.addr));
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(50));
                }
            })
        } else {
            Front::bind(args.listen, redis_url).map_err(anyhow::Error::from).and_then(|front| {
                printer::print_line(&format!("listening on {}", front.addr()?));
                Ok(front.serve(stop)?)
            })
        };
        stop.store(true, Ordering::Relaxed);
        drop(worker.join());
        served.map(|()| 0)
    })
}
