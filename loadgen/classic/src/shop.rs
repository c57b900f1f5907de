//! The designs themselves: what each asks of Redis and of Postgres for one purchase.
//!
//! Statements are prepared once per connection, at READ COMMITTED, Postgres's default. The
//! look at the stock comes before BEGIN wherever no lock has to be held from it on: kinder
//! than the tutorials, which open the transaction first, and without effect on the race.
//!
//! ```text
//! limiter ─▶ cache ─▶ look ─▶ BEGIN, change stock, insert the order, COMMIT ─▶ cache
//! (limited)  (cached)        (row gone or changed: ROLLBACK, conflict)
//! ```
//!
//! Next: [`crate::http`], which calls it; docs/CLASSICS.md, which explains it.

use std::time::Duration;

use postgres::error::SqlState;
use postgres::{Client, NoTls, Statement};
use redis::Connection;

use crate::cache::{self, Stock};
use crate::design::Design;
use crate::error::ClassicError;
use crate::limiter::{LocalLimiter, RedisLimiter};
use crate::pool::{Loan, Pool};
use crate::stats::{Counters, count};
use stampede_loadgen::clock::unix_ms;
use stampede_testkit::redis_connect;

/// Most connections to Redis. They are cheap there, and a multiplexing client, such as
/// Spring's default one, never makes a thread wait for one: so few threads should wait here.
const REDIS_POOL: u32 = 256;
/// How long connecting to Postgres may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a shop is made of.
#[derive(Clone, Debug)]
pub struct ShopConfig {
    /// What it does.
    pub design: Design,
    /// The database, as postgres://…
    pub postgres: String,
    /// The cache, as redis://…; needed where [`Design::needs_redis`] says so.
    pub redis: Option<String>,
    /// Connections to the database.
    pub pool: u32,
    /// Purchases admitted per second, for the limited designs.
    pub limit_per_s: u64,
}

/// What came of a purchase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bought {
    /// An order.
    Order {
        /// Its number.
        order_id: i64,
        /// When, in Unix milliseconds.
        created_at_ms: i64,
    },
    /// The order that this buyer was told of before, to the same key.
    Again {
        /// Its number.
        order_id: i64,
        /// When, in Unix milliseconds.
        created_at_ms: i64,
    },
    /// The buyer has as many as one may have.
    CapReached,
    /// No stock left.
    SoldOut,
    /// Another buyer changed the row first.
    Conflict,
    /// Over the limit.
    RateLimited,
    /// No such item.
    NotFound,
}

enum Gate {
    Open,
    Redis(RedisLimiter),
    Local(LocalLimiter),
}

/// One app tier's shop, shared by its threads.
pub struct Shop {
    design: Design,
    gate: Gate,
    database: Pool<Database>,
    redis: Option<Pool<Connection>>,
    /// What it counted so far.
    pub counters: Counters,
}

impl Shop {
    /// Connects to all that the design needs.
    ///
    /// # Errors
    /// [`ClassicError`] if something is missing or does not answer.
    pub fn open(config: &ShopConfig) -> Result<Self, ClassicError> {
        let url = config.postgres.clone();
        let has_cap = config.design.has_cap();
        let database = Pool::new(config.pool, config.pool, move || Database::connect(&url, has_cap))?;
        let redis = match (&config.redis, config.design.needs_redis()) {
            (_, false) => None,
            (Some(url), true) => {
                let url = url.clone();
                Some(Pool::new(REDIS_POOL, 1, move || Ok(redis_connect(&url)?))?)
            }
            (None, true) => return Err(ClassicError::Missing("this design needs a Redis; give --redis URL")),
        };
        let gate = match config.design {
            Design::Limited => Gate::Redis(RedisLimiter::new(config.limit_per_s)),
            Design::LimitedLocal => Gate::Local(LocalLimiter::new(config.limit_per_s)),
            _ => Gate::Open,
        };
        Ok(Self { design: config.design, gate, database, redis, counters: Counters::default() })
    }

    /// Puts the stock into the cache before the sale, as the tutorials do.
    ///
    /// # Errors
    /// [`ClassicError`] if the database or Redis refuses.
    pub fn preheat(&self, item: u32) -> Result<(), ClassicError> {
        if !self.design.is_cached() {
            return Ok(());
        }
        let row = self.in_session(|session| session.look(item))?;
        let Some(Row { count, version, .. }) = row else { return Ok(()) };
        self.with_redis(|redis| Ok(cache::fill(redis, item, Stock { count, version })?))
    }

    /// Decides one purchase of one unit. Blocks.
    ///
    /// # Errors
    /// [`ClassicError`] if the database or Redis refuses; whether an order was placed is then unknown.
    /// Designs without a cap ([`Design::has_cap`]) do not look at the key, which may be empty.
    pub fn buy(&self, item: u32, buyer: &str, key: &str) -> Result<Bought, ClassicError> {
        count(&self.counters.requests);
        let bought = self.decide(item, buyer, key);
        count(match bought {
            Ok(Bought::Order { .. }) => &self.counters.winners,
            Ok(Bought::Again { .. }) => &self.counters.replays,
            Ok(Bought::CapReached) => &self.counters.capped,
            Ok(Bought::SoldOut) => &self.counters.sold_out,
            Ok(Bought::Conflict) => &self.counters.conflicts,
            Ok(Bought::RateLimited) => &self.counters.rate_limited,
            Ok(Bought::NotFound) => return bought,
            Err(_) => &self.counters.failures,
        });
        bought
    }

    fn decide(&self, item: u32, buyer: &str, key: &str) -> Result<Bought, ClassicError> {
        if !self.is_admitted()? {
            return Ok(Bought::RateLimited);
        }
        match self.design {
            Design::Naive => self.in_session(|session| session.naive(item, buyer)),
            Design::Pessimistic => self.in_session(|session| session.pessimistic(item, buyer)),
            Design::Optimistic | Design::Limited | Design::LimitedLocal => {
                self.in_session(|session| session.optimistic(item, buyer))
            }
            Design::CachedDelete | Design::CachedUpdate => {
                self.in_session(|session| self.cached(session, item, buyer))
            }
            Design::RowLock => self.in_session(|session| session.row_lock(item, buyer, key)),
        }
    }

    fn is_admitted(&self) -> Result<bool, ClassicError> {
        match &self.gate {
            Gate::Open => Ok(true),
            Gate::Redis(limiter) => self.with_redis(|redis| limiter.admit_now(redis, unix_ms())),
            Gate::Local(limiter) => Ok(limiter.admit_now()),
        }
    }

    /// The cache answers "sold out" alone; a sale goes to the database with the version that
    /// the cache had.
    ///
    /// The connection is taken before the cache is read, as the tutorials' `@Transactional` does
    /// it. The other way round, a version that was read would have to queue for a connection
    /// behind many that are old already, and most sales would be lost to that queue.
    fn cached(&self, session: &mut Session<'_>, item: u32, buyer: &str) -> Result<Bought, ClassicError> {
        let cached = self.with_redis(|redis| Ok(cache::read(redis, item)?))?;
        let stock = match cached {
            Some(stock) => {
                count(&self.counters.cache_hits);
                stock
            }
            None => {
                count(&self.counters.cache_misses);
                let Some(Row { count, version, .. }) = session.look(item)? else {
                    return Ok(Bought::NotFound);
                };
                let stock = Stock { count, version };
                // Here is the cache's race: a winner may come in between, and delete before we fill.
                self.with_redis(|redis| Ok(cache::fill(redis, item, stock)?))?;
                stock
            }
        };
        if stock.count <= 0 {
            return Ok(Bought::SoldOut);
        }
        let bought = session.take_version(item, buyer, stock.version)?;
        if bought == Bought::Conflict && cached.is_some() {
            count(&self.counters.cache_stale);
        }
        match (self.design, bought) {
            // The loser deletes, too: without that, one late fill would stop the sale for good,
            // since nobody could win with its version and only winners would delete it.
            (Design::CachedDelete, Bought::Order { .. } | Bought::Conflict) => {
                self.with_redis(|redis| Ok(cache::delete(redis, item)?))?;
            }
            (Design::CachedUpdate, Bought::Order { .. }) => {
                self.with_redis(|redis| Ok(cache::sold_one(redis, item)?))?;
            }
            _ => {}
        }
        Ok(bought)
    }

    fn with_redis<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, ClassicError>,
    ) -> Result<T, ClassicError> {
        let pool = self.redis.as_ref().ok_or(ClassicError::Missing("this design needs a Redis"))?;
        let mut redis = pool.take()?;
        let done = work(&mut redis);
        if done.is_err() {
            redis.discard();
        }
        done
    }

    fn in_session<T>(
        &self,
        work: impl FnOnce(&mut Session<'_>) -> Result<T, ClassicError>,
    ) -> Result<T, ClassicError> {
        let mut session = Session { database: self.database.take()?, counters: &self.counters };
        let done = work(&mut session);
        if done.is_err() {
            // A transaction may be open: the end of the connection rolls it back.
            session.database.discard();
        }
        done
    }
}

/// A connection with its statements.
struct Database {
    client: Client,
    look: Statement,
    lock: Statement,
    write_back: Statement,
    take_one: Statement,
    take_version: Statement,
    insert: Statement,
    /// There where the tables have it.
    buy: Option<Statement>,
}

impl Database {
    fn connect(url: &str, has_cap: bool) -> Result<Self, ClassicError> {
        let mut config: postgres::Config = url.parse()?;
        config.connect_timeout(CONNECT_TIMEOUT).application_name("stampede-classic");
        let mut client = config.connect(NoTls)?;
        let look = client.prepare("SELECT count, sale, version FROM stock WHERE id = $1")?;
        let lock = client.prepare("SELECT count, sale, version FROM stock WHERE id = $1 FOR UPDATE")?;
        let write_back = client.prepare("UPDATE stock SET count = $2, sale = $3 WHERE id = $1")?;
        let take_one = client.prepare("UPDATE stock SET count = count - 1, sale = sale + 1 WHERE id = $1")?;
        let take_version = client.prepare(
            "UPDATE stock SET count = count - 1, sale = sale + 1, version = version + 1 \
             WHERE id = $1 AND version = $2",
        )?;
        let insert = client.prepare(
            "INSERT INTO stock_order (sid, buyer) VALUES ($1, $2) \
             RETURNING id, (extract(epoch FROM create_time) * 1000)::bigint",
        )?;
        let buy = has_cap.then(|| client.prepare("SELECT code, order_id, at_ms FROM buy($1, $2, $3)"));
        let buy = buy.transpose()?;
        Ok(Self { client, look, lock, write_back, take_one, take_version, insert, buy })
    }
}

/// A row of `stock`.
struct Row {
    count: i64,
    sale: i64,
    version: i64,
}

/// A connection on loan, and what counts its statements.
struct Session<'a> {
    database: Loan<'a, Database>,
    counters: &'a Counters,
}

impl Session<'_> {
    /// Reads, and writes back what it makes of it: whoever read in between is overwritten.
    fn naive(&mut self, item: u32, buyer: &str) -> Result<Bought, ClassicError> {
        let Some(row) = self.look(item)? else { return Ok(Bought::NotFound) };
        if row.count <= 0 {
            return Ok(Bought::SoldOut);
        }
        self.simple("BEGIN")?;
        count(&self.counters.statements);
        let Database { client, write_back, .. } = &mut *self.database;
        client.execute(write_back, &[&i64::from(item), &(row.count - 1), &(row.sale + 1)])?;
        self.insert_and_commit(item, buyer)
    }

    /// Holds the row's lock from the look to the commit: buyers come one after another.
    fn pessimistic(&mut self, item: u32, buyer: &str) -> Result<Bought, ClassicError> {
        self.simple("BEGIN")?;
        count(&self.counters.statements);
        let Database { client, lock, .. } = &mut *self.database;
        let count_left = client.query_opt(lock, &[&i64::from(item)])?.map(|row| row.get::<_, i64>(0));
        if count_left.is_none_or(|left| left <= 0) {
            self.simple("ROLLBACK")?;
            return Ok(if count_left.is_none() { Bought::NotFound } else { Bought::SoldOut });
        }
        count(&self.counters.statements);
        let Database { client, take_one, .. } = &mut *self.database;
        client.execute(take_one, &[&i64::from(item)])?;
        self.insert_and_commit(item, buyer)
    }

    /// Holds no lock at the look; writes only if nobody wrote since.
    fn optimistic(&mut self, item: u32, buyer: &str) -> Result<Bought, ClassicError> {
        let Some(row) = self.look(item)? else { return Ok(Bought::NotFound) };
        if row.count <= 0 {
            return Ok(Bought::SoldOut);
        }
        self.take_version(item, buyer, row.version)
    }

    /// The unit and the order together, or neither.
    fn take_version(&mut self, item: u32, buyer: &str, version: i64) -> Result<Bought, ClassicError> {
        self.simple("BEGIN")?;
        count(&self.counters.statements);
        let Database { client, take_version, .. } = &mut *self.database;
        if client.execute(take_version, &[&i64::from(item), &version])? == 0 {
            self.simple("ROLLBACK")?;
            return Ok(Bought::Conflict);
        }
        self.insert_and_commit(item, buyer)
    }

    /// One function call, which commits by itself. Two purchases of one buyer at once: the second one
    /// breaks the index, is rolled back, and finds the first one when it tries again.
    fn row_lock(&mut self, item: u32, buyer: &str, key: &str) -> Result<Bought, ClassicError> {
        const TRIES: u32 = 3;
        let mut tried = 0;
        let row = loop {
            tried += 1;
            count(&self.counters.statements);
            let Database { client, buy, .. } = &mut *self.database;
            let buy = buy.as_ref().ok_or(ClassicError::Missing("this design needs its function"))?;
            match client.query_one(buy, &[&i64::from(item), &buyer, &key]) {
                Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) && tried < TRIES => {}
                row => break row?,
            }
        };
        let order = || (row.get(1), row.get(2));
        Ok(match row.get(0) {
            "order" => {
                let (order_id, created_at_ms) = order();
                Bought::Order { order_id, created_at_ms }
            }
            "again" => {
                let (order_id, created_at_ms) = order();
                Bought::Again { order_id, created_at_ms }
            }
            "cap_reached" => Bought::CapReached,
            "sold_out" => Bought::SoldOut,
            _ => Bought::NotFound,
        })
    }

    fn look(&mut self, item: u32) -> Result<Option<Row>, ClassicError> {
        count(&self.counters.statements);
        let Database { client, look, .. } = &mut *self.database;
        let row = client.query_opt(look, &[&i64::from(item)])?;
        Ok(row.map(|row| Row { count: row.get(0), sale: row.get(1), version: row.get(2) }))
    }

    fn insert_and_commit(&mut self, item: u32, buyer: &str) -> Result<Bought, ClassicError> {
        count(&self.counters.statements);
        let Database { client, insert, .. } = &mut *self.database;
        let row = client.query_one(insert, &[&i64::from(item), &buyer])?;
        let (order_id, created_at_ms) = (row.get(0), row.get(1));
        self.simple("COMMIT")?;
        Ok(Bought::Order { order_id, created_at_ms })
    }

    fn simple(&mut self, statement: &str) -> Result<(), ClassicError> {
        count(&self.counters.statements);
        Ok(self.database.client.batch_execute(statement)?)
    }
}
