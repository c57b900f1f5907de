//! The designs by name, and what all of them sell and share. Next: [`crate::shop`], which runs one.

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
