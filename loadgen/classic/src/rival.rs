//! A running rival: its Redis, its front and its worker, each a process of its own.
//!
//! Everything ends with this process, however it ends: front and worker when their standard input
//! closes, Redis and nginx by their wardens. Next: [`crate::redis_lua`], [`crate::bench`], [`crate::kill`].

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::cost::{family_ns, process_ns};
use crate::design::{ITEM, Rival};
use crate::error::ClassicError;
use crate::process::{Helper, POSTGRES_VARIABLE, REDIS_VARIABLE};
use crate::redis_lua::nginx::Nginx;
use crate::redis_lua::{at_hand, preheat, redis_options};
use stampede_testkit::{RedisServer, redis_connect};

/// Longest wait for the worker to catch up.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The processes of a rival. Fields are dropped in this order.
pub struct RivalServer {
    front: FrontProcess,
    worker: Helper,
    redis: RedisServer,
    /// Where buyers are answered.
    pub addr: SocketAddr,
}

enum FrontProcess {
    Ours(Helper),
    Nginx(Nginx),
}

/// What a rival is made of.
#[derive(Clone, Copy)]
pub struct RivalParts<'a> {
    /// This program, whose `front` and `worker` are started.
    pub program: &'a Path,
    /// The database, whose tables are there.
    pub postgres: &'a str,
    /// Below which directory Redis keeps its data.
    pub root: &'a Path,
    /// Further lines of `redis.conf`.
    pub settings: &'a [String],
}

impl RivalServer {
    /// Starts all of it, with `stock` units on sale.
    ///
    /// # Errors
    /// [`ClassicError`] if something is not installed or does not start.
    pub fn start(rival: Rival, parts: RivalParts<'_>, stock: u64) -> Result<Self, ClassicError> {
        let redis = RedisServer::new_in(parts.root, &redis_options(rival.log, parts.settings))?;
        preheat(&mut redis_connect(&redis.socket_url())?, ITEM, stock)?;
        let worker = start_worker(parts.program, &redis.socket_url(), parts.postgres)?;
        let (front, addr) = if rival.is_nginx {
            let nginx = Nginx::start(&redis, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            let addr = nginx.addr;
            (FrontProcess::Nginx(nginx), addr)
        } else {
            let mut command = Command::new(parts.program);
            command.args(["front", "--listen", "127.0.0.1:0"]);
            command.env(REDIS_VARIABLE, redis.socket_url()).env_remove(POSTGRES_VARIABLE);
            let helper = Helper::start(command, "the front")?;
            let addr = helper.listens("the front")?;
            (FrontProcess::Ours(helper), addr)
        };
        Ok(Self { front, worker, redis, addr })
    }

    /// CPU time of all its processes, in nanoseconds; the database's is not among it.
    pub fn cpu_ns(&self) -> u64 {
        let front = match &self.front {
            FrontProcess::Ours(helper) => process_ns(helper.pid()),
            FrontProcess::Nginx(nginx) => family_ns(nginx.pid()),
        };
        front + process_ns(self.worker.pid()) + self.redis.pid().map_or(0, family_ns)
    }

    /// Units that are left, by Redis's own word.
    ///
    /// # Errors
    /// What Redis says.
    pub fn left(&self) -> Result<i64, ClassicError> {
        Ok(at_hand(&mut redis_connect(&self.redis.socket_url())?, ITEM)?.0)
    }

    /// Waits until the worker has written all that Redis has.
    ///
    /// # Errors
    /// [`ClassicError::Process`] if that takes a minute.
    pub fn wait_written(&self) -> Result<(), ClassicError> {
        let deadline = Instant::now() + WAIT_MAX;
        let mut redis = redis_connect(&self.redis.socket_url())?;
        while at_hand(&mut redis, ITEM)?.1 > 0 {
            if Instant::now() > deadline {
                return Err(ClassicError::process("waiting for the worker", "it does not get on"));
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Kills Redis as `kill -9` does.
    pub fn kill(&mut self) {
        self.redis.kill();
    }

    /// Starts Redis again with what its log has.
    ///
    /// # Errors
    /// [`ClassicError::Server`].
    pub fn restart(&mut self) -> Result<(), ClassicError> {
        Ok(self.redis.start()?)
    }
}

/// Starts a worker of this program between this Redis and this database.
///
/// # Errors
/// [`ClassicError::Process`] if it cannot be started.
pub fn start_worker(program: &Path, redis: &str, postgres: &str) -> Result<Helper, ClassicError> {
    let mut command = Command::new(program);
    command.arg("worker").env(REDIS_VARIABLE, redis).env(POSTGRES_VARIABLE, postgres);
    Helper::start(command, "the worker")
}
