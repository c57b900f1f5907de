//! The database under torture: a throw-away cluster, a proxy in front of it, and the
//! exporter's own role, whose password the tests can change.

use std::time::Duration;

use postgres::{Client, NoTls};
use stampede_testkit::{ClusterOptions, PostgresCluster, StopMode};

use crate::proxy::Proxy;

/// The exporter's role.
const ROLE: &str = "feed";
const PASSWORD: &str = "as-it-should-be";
/// Time limit for one of our own connections.
const CONNECT: Duration = Duration::from_secs(20);

/// A cluster and its proxy.
pub(crate) struct Base {
    pub(crate) cluster: PostgresCluster,
    pub(crate) proxy: Proxy,
    databases: u32,
}

impl Base {
    pub(crate) fn new() -> Self {
        let cluster = PostgresCluster::new(ClusterOptions::default()).expect("a throw-away Postgres");
        let proxy = Proxy::new(cluster.port());
        let base = Self { cluster, proxy, databases: 0 };
        base.sql("postgres", &format!("CREATE ROLE {ROLE} SUPERUSER LOGIN PASSWORD '{PASSWORD}'"));
        base
    }

    /// Creates a fresh database and returns its name.
    pub(crate) fn database(&mut self) -> String {
        self.databases += 1;
        let name = format!("shop{}", self.databases);
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// The database URL of the exporter, which leads through the proxy.
    pub(crate) fn url_for_export(&self, database: &str) -> String {
        format!("postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{}/{database}", self.proxy.port())
    }

    /// Runs SQL and returns what it printed.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        self.cluster.psql(database, sql).expect("psql").trim().to_owned()
    }

    /// A session of another client, next to the exporter's.
    pub(crate) fn session(&self, database: &str) -> Client {
        let mut config: postgres::Config = self.cluster.url_of(database).parse().expect("a URL");
        config.connect_timeout(CONNECT);
        config.connect(NoTls).expect("a session")
    }

    /// Ends every session of the exporter; returns how many there were.
    pub(crate) fn terminate_sessions(&self) -> u64 {
        let sql = format!(
            "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}') AS ended"
        );
        self.sql("postgres", &sql).parse().expect("a number")
    }

    /// Changes the exporter's password in the database.
    pub(crate) fn lock_out(&self, is_out: bool) {
        let password = if is_out { "somebody changed it" } else { PASSWORD };
        self.sql("postgres", &format!("ALTER ROLE {ROLE} PASSWORD '{password}'"));
        if is_out {
            self.terminate_sessions();
        }
    }

    /// Kills the cluster and starts it again after `meanwhile`.
    pub(crate) fn outage(&mut self, is_killed: bool, meanwhile: impl FnOnce()) {
        let stopped = if is_killed { self.cluster.kill() } else { self.cluster.stop(StopMode::Immediate) };
        stopped.expect("the cluster stops");
        meanwhile();
        self.cluster.start().expect("the cluster recovers");
    }
}
