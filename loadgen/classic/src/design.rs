//! The designs by name, and what all of them sell and share. Next: [`crate::shop`], which runs one.

use stampede_testkit::AppendLog;

/// The item that is sold.
pub const ITEM: u32 = 1;
/// Units that one buyer may have, where a design knows such a cap.
pub const CAP: u32 = 1;
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
    /// One round trip for all of a purchase, with the cap and the key.
    RowLock = "row-lock", "UPDATE ... WHERE count > 0 and the order in one function; cap and idempotency key";
}

/// A rival: Redis decides by a Lua script, a worker writes Postgres (see [`crate::redis_lua`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rival {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Whether nginx with Lua is its front; ours otherwise.
    pub is_nginx: bool,
    /// How Redis keeps what it decided.
    pub log: AppendLog,
}

impl Rival {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self {
            name: "redis-lua",
            about: "one Lua script in Redis and a worker to Postgres; log synced once a second",
            is_nginx: false,
            log: AppendLog::EverySecond,
        },
        Self {
            name: "redis-lua-always",
            about: "the same, the log synced before each response",
            is_nginx: false,
            log: AppendLog::Always,
        },
        Self {
            name: "nginx-lua",
            about: "the same script called by nginx + Lua; log synced once a second",
            is_nginx: true,
            log: AppendLog::EverySecond,
        },
    ];
    /// The rival with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rival| rival.name == name)
    }
}

/// Who takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contender {
    /// A classic design.
    Classic(Design),
    /// Redis with a Lua script.
    Rival(Rival),
    /// The engine.
    Engine,
}

impl Contender {
    /// The engine's name.
    pub const ENGINE: &str = "stampede";

    /// Everybody but the engine, in the order of the tables.
    pub fn all() -> Vec<Self> {
        let classics = Design::ALL.iter().copied().map(Self::Classic);
        classics.chain(Rival::ALL.iter().copied().map(Self::Rival)).collect()
    }
    /// Whoever has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == Self::ENGINE {
            return Some(Self::Engine);
        }
        Design::from_name(name).map(Self::Classic).or_else(|| Rival::from_name(name).map(Self::Rival))
    }
    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic(design) => design.name(),
            Self::Rival(rival) => rival.name,
            Self::Engine => Self::ENGINE,
        }
    }
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
    /// Whether it knows idempotency keys and gives a buyer no more than the cap.
    pub const fn has_cap(self) -> bool {
        matches!(self, Self::RowLock)
    }
    /// Whether its documentation says that it oversells.
    pub const fn may_oversell(self) -> bool {
        matches!(self, Self::Naive)
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
        for contender in Contender::all() {
            assert_eq!(Contender::from_name(contender.name()), Some(contender));
        }
        assert_eq!(Contender::from_name("stampede"), Some(Contender::Engine));
        assert_eq!(Design::from_name("all"), None);
    }
}
