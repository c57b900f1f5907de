//! Which store is hurt, how, and what came of it: the words that the parts of this module share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use serde_json::Value;

use super::count::Counted;
use crate::design::Contender;
use stampede_testkit::ClusterOptions;

/// What happens to a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The process is killed (SIGKILL). What it had given to the system stays.
    Kill,
    /// The process is killed, and what its disk had not synced is gone.
    PowerCut,
}

impl Fault {
    /// Both, in the order of the table.
    pub const ALL: [Self; 2] = [Self::Kill, Self::PowerCut];
    /// Its name on the command line and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::PowerCut => "power cut",
        }
    }
    /// The fault with this name, as it is written on the command line.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "kill" => Some(Self::Kill),
            "power-cut" => Some(Self::PowerCut),
            _ => None,
        }
    }
}

/// Who is hurt, and how.
#[derive(Clone)]
pub struct KillConfig {
    /// This program, whose subcommands are the parts of a rival.
    pub program: PathBuf,
    /// Who.
    pub contenders: Vec<Contender>,
    /// What happens to each.
    pub faults: Vec<Fault>,
    /// The engine's program.
    pub engine: Option<PathBuf>,
    /// Units on sale.
    pub stock: u64,
    /// Purchases per second.
    pub per_s: f64,
    /// Connections.
    pub connections: u32,
    /// How often each.
    pub rounds: u32,
    /// Connections of an app tier to its database.
    pub pool: u32,
    /// Further lines of the rivals' `redis.conf`.
    pub redis_settings: Vec<String>,
    /// What buyers' names follow from, and where in the sale the fault comes.
    pub seed: u64,
    /// Set from outside to end early; what is complete is kept.
    pub stop: Arc<AtomicBool>,
}

/// What one fault did to one store.
#[derive(Clone, Debug, Serialize)]
pub struct Hurt {
    /// Who.
    pub name: &'static str,
    /// What happened.
    pub fault: Fault,
    /// Units that were on sale.
    pub stock: u64,
    /// Units that were sold when it happened.
    pub sold_before: i64,
    /// From the kill until the store was ready again, in milliseconds.
    pub away_ms: u64,
    /// What was lost.
    #[serde(flatten)]
    pub counted: Counted,
}

/// What came of it all.
#[derive(Clone, Default, Debug)]
pub struct Kills {
    /// One per contender, fault and round, in the order in which they ran.
    pub hurts: Vec<Hurt>,
    /// What could not be run, and why.
    pub troubles: Vec<String>,
    /// Whether it was ended from outside.
    pub interrupted: bool,
    /// The machine before it began, and how loaded it was.
    pub machine: Value,
    /// The versions of the programs that took part.
    pub versions: Value,
}

/// As a shop would set it: commits wait for the disk.
pub(super) fn cluster_options() -> ClusterOptions {
    let settings = [("synchronous_commit", "on"), ("max_wal_size", "4GB"), ("shared_buffers", "128MB")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    ClusterOptions { fsync: true, settings }
}
