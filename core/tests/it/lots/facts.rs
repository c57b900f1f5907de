//! What the log would hold, and what a start makes of any prefix of it.
//!
//! Two ways to keep leases. [`Keeping::Volatile`] writes nothing of them: a crash ends all
//! cores at once, so all that is available is in the pool again. [`Keeping::Logged`] makes
//! each lease a fact, written by whoever gives the units away; a replay has the same leases
//! and checks that no core sold what it was not given. Both are tried.

use super::system::{Bug, Keeping};

/// One decided thing. Its place in the log is its LSN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fact {
    /// Stock was granted: the first, and each restock.
    Granted { units: u64 },
    /// The merchant took unsold stock away.
    Withdrawn { units: u64 },
    /// An order was placed.
    Sold { core: usize, order: u64, units: u64 },
    /// An order was cancelled or expired, at a core that need not be the one that sold it.
    Returned { core: usize, order: u64, units: u64 },
    /// The owner gave units to a core.
    Leased { core: usize, units: u64 },
    /// A core gave units to the owner.
    Yielded { core: usize, units: u64 },
    /// Sells nothing for now.
    Paused,
    /// Sells again.
    Resumed,
}

/// Where the units are, by the log alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Books {
    pub(crate) pool: u64,
    pub(crate) leases: Vec<u64>,
    pub(crate) paused: bool,
}

impl Books {
    /// Replays a log into the leases of as many cores as there can be.
    ///
    /// # Errors
    /// When a fact cannot follow the ones before it.
    pub(crate) fn replay(log: &[Fact], keeping: Keeping, bug: Option<Bug>) -> Result<Self, String> {
        let mut books = Self { pool: 0, leases: vec![0; super::history::CORES_MAX], paused: false };
        for (at, fact) in log.iter().enumerate() {
            let applied = match keeping {
                Keeping::Volatile => books.apply_volatile(fact),
                Keeping::Logged => books.apply_logged(fact, bug),
            };
            applied.ok_or_else(|| format!("replay: {fact:?} cannot follow, at {at}"))?;
        }
        Ok(books)
    }

    /// There are only so many cores now: what the others held goes to the pool. With leases in
    /// the log these are facts, too: without them the next start could not follow what is sold
    /// out of these units.
    pub(crate) fn take_in(&mut self, cores: usize, append: &mut impl FnMut(Fact)) {
        for (core, units) in (cores..).zip(self.leases.split_off(cores)).filter(|&(_, units)| units > 0) {
            self.pool += units;
            append(Fact::Yielded { core, units });
        }
    }

    fn apply_volatile(&mut self, fact: &Fact) -> Option<()> {
        match *fact {
            Fact::Granted { units } | Fact::Returned { units, .. } => self.pool += units,
            Fact::Withdrawn { units } | Fact::Sold { units, .. } => {
                self.pool = self.pool.checked_sub(units)?;
            }
            Fact::Leased { .. } | Fact::Yielded { .. } => return None,
            Fact::Paused => self.paused = true,
            Fact::Resumed => self.paused = false,
        }
        Some(())
    }

    fn apply_logged(&mut self, fact: &Fact, bug: Option<Bug>) -> Option<()> {
        fn take(place: &mut u64, units: u64) -> Option<()> {
            *place = place.checked_sub(units)?;
            Some(())
        }
        match *fact {
            Fact::Granted { units } => self.pool += units,
            Fact::Withdrawn { units } => take(&mut self.pool, units)?,
            Fact::Sold { core, units, .. } => take(&mut self.leases[core], units)?,
            Fact::Returned { core, units, .. } => self.leases[core] += units,
            Fact::Leased { core, units } => {
                if bug != Some(Bug::LeaseCountedTwice) {
                    take(&mut self.pool, units)?;
                }
                self.leases[core] += units;
            }
            Fact::Yielded { core, units } => {
                take(&mut self.leases[core], units)?;
                self.pool += units;
            }
            Fact::Paused => self.paused = true,
            Fact::Resumed => self.paused = false,
        }
        Some(())
    }
}
