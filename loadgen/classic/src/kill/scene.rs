//! A shop whose store can be killed and started again.
//!
//! One kind per contender, and the same verbs for all. Next: [`super`].

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use super::{KillConfig, cluster_options};
use crate::design::{Contender, ITEM};
use crate::error::ClassicError;
use crate::process::{AppProcess, EngineProcess};
use crate::rival::{RivalParts, RivalServer};
use crate::shop::ShopConfig;
use crate::totals::{OwnDatabase, Totals, make_tables};
use stampede_testkit::PostgresCluster;

/// Longest wait for an app tier to find its database again.
const WAIT_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A shop. Fields are dropped in this order: the servers, then their database.
pub(super) struct Scene<'a> {
    store: Store,
    /// Where orders end up.
    database: OwnDatabase,
    /// Whose it is; `None`: the store's own.
    _cluster: Option<&'a PostgresCluster>,
}

enum Store {
    /// An app tier and the cluster that decides.
    Postgres(AppProcess, Box<PostgresCluster>),
    /// Redis decides.
    Redis(RivalServer),
    /// The engine does.
    Engine(EngineProcess),
}

impl<'a> Scene<'a> {
    /// Starts a shop whose store keeps its data below `root`; orders are exported to `cluster`, unless
    /// the store is a Postgres itself.
    pub(super) fn start(
        config: &KillConfig,
        cluster: &'a PostgresCluster,
        contender: Contender,
        root: &Path,
    ) -> Result<Self, ClassicError> {
        match (contender, &config.engine) {
            (Contender::Classic(design), _) if design.needs_redis() => {
                Err(ClassicError::Missing("this design has two stores; hurt one that has one"))
            }
            (Contender::Classic(design), _) => {
                let own = PostgresCluster::new_in(root, cluster_options())?;
                let database = OwnDatabase::create(&own.url())?;
                let (postgres, pool) = (database.url.clone(), config.pool);
                let shop = ShopConfig { design, postgres, redis: None, pool, limit_per_s: 1 };
                let app = AppProcess::start(&config.program, &shop, config.stock)?;
                Ok(Self { store: Store::Postgres(app, Box::new(own)), database, _cluster: None })
            }
            (Contender::Rival(rival), _) => {
                let database = OwnDatabase::create(&cluster.url())?;
                make_tables(&database.url, config.stock)?;
                let (program, postgres) = (&*config.program, &*database.url);
                let parts = RivalParts { program, postgres, root, settings: &config.redis_settings };
                let server = RivalServer::start(rival, parts, config.stock)?;
                Ok(Self { store: Store::Redis(server), database, _cluster: Some(cluster) })
            }
            (Contender::Engine, Some(program)) => {
                let database = OwnDatabase::create(&cluster.url())?;
                let engine = EngineProcess::start_in(root, program, &database.url, config.stock)?;
                Ok(Self { store: Store::Engine(engine), database, _cluster: Some(cluster) })
            }
            (Contender::Engine, None) => Err(ClassicError::Missing("there is no engine to start")),
        }
    }

    /// Where buyers are answered.
    pub(super) const fn addr(&self) -> SocketAddr {
        match &self.store {
            Store::Postgres(app, _) => app.addr,
            Store::Redis(server) => server.addr,
            Store::Engine(engine) => engine.addr,
        }
    }

    /// Units that are left, by the store's own word.
    pub(super) fn left(&self) -> Result<i64, ClassicError> {
        match &self.store {
            Store::Postgres(..) => Ok(Totals::read(&self.database.url)?.count),
            Store::Redis(server) => server.left(),
            Store::Engine(engine) => Ok(engine.units()?.0),
        }
    }

    /// Kills the store.
    pub(super) fn kill(&mut self) -> Result<(), ClassicError> {
        match &mut self.store {
            Store::Postgres(_, cluster) => cluster.kill()?,
            Store::Redis(server) => server.kill(),
            Store::Engine(engine) => engine.kill(),
        }
        Ok(())
    }

    /// Starts it again.
    pub(super) fn restart(&mut self) -> Result<(), ClassicError> {
        match &mut self.store {
            Store::Postgres(_, cluster) => Ok(cluster.start()?),
            Store::Redis(server) => server.restart(),
            Store::Engine(engine) => engine.restart(),
        }
    }

    /// Waits until all orders are in the database.
    pub(super) fn settle(&self) -> Result<(), ClassicError> {
        match &self.store {
            Store::Postgres(..) => self.wait_reachable(),
            Store::Redis(server) => server.wait_written(),
            Store::Engine(engine) => engine.wait_exported(),
        }
    }

    /// The orders of the database: number and buyer.
    pub(super) fn rows(&self) -> Result<Vec<(u64, String)>, ClassicError> {
        let mut client = Client::connect(&self.database.url, NoTls)?;
        let rows = client.query("SELECT id, buyer FROM stock_order WHERE sid = $1", &[&i64::from(ITEM)])?;
        Ok(rows.iter().map(|row| (u64::try_from(row.get::<_, i64>(0)).unwrap_or(0), row.get(1))).collect())
    }

    fn wait_reachable(&self) -> Result<(), ClassicError> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            match Client::connect(&self.database.url, NoTls) {
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => thread::sleep(LOOK_EVERY),
                Ok(_) => return Ok(()),
            }
        }
    }
}
