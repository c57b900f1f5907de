//! Throw-away servers: Postgres, Redis and etcd in temporary directories, gone without a trace; and what a test
//! needs of its machine ([`Need`]).
//!
//! For comparison runs and for tests. They use the distribution's own binaries and listen
//! on the loopback interface only, behind a password. Each lives in a directory of its own
//! with a warden ([`warden`]) that ends the server and removes the directory when this
//! process ends, in whatever way.

mod etcd;
mod image;
mod need;
mod postgres;
mod redis;
mod warden;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use etcd::{EtcdCluster, EtcdClusterOptions};
pub use image::Image;
pub use need::{Missing, Need, skip};
pub use postgres::{ClusterOptions, PostgresCluster, StopMode};
pub use redis::{AppendLog, RedisOptions, RedisServer, connect as redis_connect};
pub use warden::{Warden, free_port, random, tail};

/// Longest wait for a server to take connections, or to end.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Ports tried, since another process may take a free one first.
const PORTS_TRIED_MAX: usize = 5;

/// Why there is no throw-away server, or why it does not do as it is told.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The server is not installed.
    #[error("no {server} server found (looked for {looked_for}); install it: apt-get install {package}")]
    NotInstalled {
        /// Which server.
        server: &'static str,
        /// Which programs, where.
        looked_for: &'static str,
        /// Debian's package that has them.
        package: &'static str,
    },
    /// Root without another user to run the server as.
    #[error(
        "Postgres does not run as root, and there is no user postgres or nobody to run it as; create one"
    )]
    NoUser,
    /// A directory, process or port could not be had.
    #[error("{what}: {source}; check the rights and the free space of the temporary directory (TMPDIR)")]
    System {
        /// What was tried.
        what: String,
        /// The answer of the operating system.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {output}; its message names the cause")]
    Failed {
        /// Which program.
        program: &'static str,
        /// The end of what it wrote.
        output: String,
    },
    /// A process of a server is not seen, so that the server can be neither held nor ended.
    #[error("process {pid} is not seen to work in {}; is /proc mounted, without hidepid?", dir.display())]
    Unseen {
        /// The process.
        pid: u32,
        /// Where it should work.
        dir: PathBuf,
    },
    /// It did not get ready, or did not end, in time.
    #[error("{server} {what} within {} s: {log}; is the machine overloaded?", WAIT_MAX.as_secs())]
    TooSlow {
        /// Which server.
        server: &'static str,
        /// What did not happen.
        what: &'static str,
        /// The end of its log.
        log: String,
    },
}

fn system(what: &str, source: io::Error) -> ClusterError {
    ClusterError::System { what: what.to_owned(), source }
}
