//! The classic flash-sale designs, as the field's tutorials build them one after another,
//! to run beside the engine.
//!
//! Each is its tutorial's honest form: prepared statements, a pool of connections, an index
//! where one is used, one transaction per order. What each does and where its race is:
//! docs/CLASSICS.md.
//!
//! ```text
//! bench (this process) ──▶ engine::run ──HTTP──▶ app tier (a process of its own) ──▶ Postgres
//!    │ table                                      http ─▶ shop ─▶ pool, limiter ──▶ Redis
//!    └─ cost (CPU out of /proc, counters out of /stats, orders out of the database)
//! ```
//!
//! Where to read next: [`shop`] for the designs, [`bench`] for what is measured and how.

pub mod bench;
pub mod books;
pub mod cache;
pub mod cost;
pub mod http;
pub mod limiter;
pub mod pool;
pub mod process;
pub mod shop;
pub mod stats;
pub mod table;

/// The item that is sold.
pub const ITEM: u32 = 1;
/// Connections to the database by default, as Druid and HikariCP are commonly set.
pub const POOL_DEFAULT: u32 = 20;
/// Most connections to the database: Postgres allows 100 unless told otherwise.
pub const POOL_MAX: u32 = 90;

macro_rules! designs {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $about:literal);+ $(;)?) => {
        /// The designs, in the order in which the tutorials build them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Design { $($(#[$doc])* $variant),+ }

        impl Design {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];
            /// Its name on the command line and in tables.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
            /// What it does, in one line.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about),+ }
            }
        }
    };
}

designs! {
    /// Reads the count, writes back one less.
    Naive = "naive", "reads the count and writes back one less: oversells";
    /// Locks the row before it reads.
    Pessimistic = "pessimistic", "SELECT ... FOR UPDATE";
    /// Writes only if the version is still the one that was read.
    Optimistic = "optimistic", "UPDATE ... WHERE version = the one that was read, fails fast";
    /// A counter per second in Redis, then optimistic.
    Limited = "limited", "a counter per second in Redis (Lua), then optimistic";
    /// A token bucket in the process, then optimistic.
    LimitedLocal = "limited-local", "a token bucket in the process, then optimistic";
    /// Stock in Redis, deleted there after each sale.
    CachedDelete = "cached-delete", "stock read from Redis, optimistic, then deleted from Redis";
    /// Stock in Redis, changed there after each sale.
    CachedUpdate = "cached-update", "stock read from Redis, optimistic, then changed in Redis (MULTI/EXEC)";
}

impl Design {
    /// The design with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|design| design.name() == name)
    }
    /// Whether it needs a Redis.
    pub const fn needs_redis(self) -> bool {
        matches!(self, Self::Limited) || self.is_cached()
    }
    /// Whether it reads stock from a cache.
    pub const fn is_cached(self) -> bool {
        matches!(self, Self::CachedDelete | Self::CachedUpdate)
    }
    /// Whether it admits only so many purchases per second.
    pub const fn is_limited(self) -> bool {
        matches!(self, Self::Limited | Self::LimitedLocal)
    }
    /// Whether its documentation says that it oversells.
    pub const fn may_oversell(self) -> bool {
        matches!(self, Self::Naive)
    }
}

/// Why a design cannot be run, or a purchase not be decided.
#[derive(Debug, thiserror::Error)]
pub enum ClassicError {
    /// A throw-away server could not be had.
    #[error(transparent)]
    Server(#[from] crate::throwaway::ClusterError),
    /// The database refuses.
    #[error("Postgres: {0}; are the tables there (classic serve --stock N makes them)?")]
    Postgres(String),
    /// The database does not answer.
    #[error("Postgres: {0}; is it up, and the URL right?")]
    Unreachable(String),
    /// Redis refuses.
    #[error("Redis: {0}; is it up, and the password right?")]
    Redis(#[from] redis::RedisError),
    /// The design needs what was not given.
    #[error("{0}")]
    Missing(&'static str),
    /// The tables of somebody else stand where ours would.
    #[error("the database has a table {0} that was not made by this command; give a database of its own")]
    NotOurs(&'static str),
    /// A process could not be started, or does not do what it should.
    #[error("{what}: {why}")]
    Process {
        /// What was tried.
        what: String,
        /// What came of it.
        why: String,
    },
    /// The generator could not run.
    #[error(transparent)]
    Run(#[from] crate::engine::RunError),
    /// The engine's merchant listener does not answer as it should.
    #[error(transparent)]
    Merchant(#[from] crate::verify::VerifyError),
}

impl From<postgres::Error> for ClassicError {
    fn from(error: postgres::Error) -> Self {
        // The client's own words are only "db error"; the server's are behind them.
        if let Some(db) = error.as_db_error() {
            return Self::Postgres(format!("{} ({})", db.message(), db.code().code()));
        }
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
        Self::Unreachable(format!("{error}{cause}"))
    }
}

impl ClassicError {
    pub(crate) fn process(what: impl Into<String>, why: &(impl ToString + ?Sized)) -> Self {
        Self::Process { what: what.into(), why: why.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_design_is_found_by_its_name() {
        for &design in Design::ALL {
            assert_eq!(Design::from_name(design.name()), Some(design));
        }
        assert_eq!(Design::from_name("all"), None);
    }
}
