//! What happened, counted per core: written by that core alone, read by whoever asks.
//!
//! A plain load and store, no read-modify-write: there is one writer. Each core's
//! counters lie on cache lines of their own.

use std::sync::atomic::{AtomicU64, Ordering};

use stampede_core::shard::{Fullness, TABLE_NAMES, TABLES};

use crate::http::problem::Code;

macro_rules! counts {
    ($(#[doc = $help:literal] $variant:ident = $name:literal,)+) => {
        /// What is counted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Count { $(#[doc = $help] $variant),+ }

        impl Count {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The name, as statistics show it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
            /// What it means, as metrics say it.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help.trim_ascii()),+ }
            }
        }
    };
}

counts! {
    /// Requests taken, whatever became of them.
    Requests = "requests",
    /// Orders placed.
    Placed = "orders_placed",
    /// Purchases answered with the order that was placed before.
    Replayed = "orders_replayed",
    /// Orders that moved on: paid, cancelled, refunded.
    Moved = "orders_moved",
    /// Orders that expired unpaid, and windows that ended.
    Ticked = "ticks_due",
    /// Purchases refused by the home core, without a hop.
    RefusedEarly = "purchases_refused_early",
    /// Tickets handed out.
    TicketsIssued = "tickets_issued",
    /// Challenges handed out.
    ChallengesPosed = "challenges_posed",
    /// Batches taken.
    Batches = "batches",
    /// Records of batches taken.
    BatchRecords = "batch_records",
    /// Questions to another core.
    Hops = "hops",
    /// Tokens whose signature was looked at: those that the core had not seen before.
    TokensVerified = "tokens_verified",
    /// Tokens that were refused unseen, since their address had sent too many that do not count.
    TokensRefused = "tokens_refused",
    /// Times that a trusted proxy's request was looked at for its client's address and had none.
    AddressesUnknown = "addresses_unknown",
    /// Connections of trusted proxies that were closed since they did not begin with a PROXY header.
    ProxyHeadersBad = "proxy_headers_bad",
    /// Connections accepted.
    Accepted = "connections_accepted",
    /// Times that the system let no connection in: no descriptor or memory left, or not allowed.
    AcceptFailures = "accept_failures",
    /// Connections turned away because there were too many.
    TurnedAway = "connections_turned_away",
    /// Connections closed because a deadline had passed.
    Overdue = "connections_overdue",
}

/// The counters of one core.
#[repr(align(128))]
#[derive(Debug)]
pub struct Counters {
    counts: [AtomicU64; Count::ALL.len()],
    problems: [AtomicU64; Code::ALL.len()],
    open: AtomicU64,
    /// How full each of the owner's tables is, and its end.
    tables: [[AtomicU64; 2]; TABLES],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            problems: std::array::from_fn(|_| AtomicU64::new(0)),
            open: AtomicU64::new(0),
            tables: std::array::from_fn(|_| [AtomicU64::new(0), AtomicU64::new(0)]),
        }
    }
}

impl Counters {
    /// Owner core only: one more.
    pub fn add(&self, count: Count) {
        self.add_many(count, 1);
    }
    /// Owner core only: so many more.
    pub fn add_many(&self, count: Count, more: u64) {
        bump(&self.counts[count as usize], more);
    }
    /// Owner core only: one more refusal of this kind.
    pub fn refused(&self, code: Code) {
        self.refused_many(code, 1);
    }
    /// Owner core only: so many more refusals of this kind.
    pub fn refused_many(&self, code: Code, more: u64) {
        bump(&self.problems[code as usize], more);
    }
    /// Owner core only: how many connections are open now.
    pub fn set_open(&self, open: usize) {
        self.open.store(open as u64, Ordering::Relaxed);
    }
    /// Owner core only: how full its tables are.
    pub fn set_tables(&self, fullness: &[Fullness; TABLES]) {
        for ([used, max], table) in self.tables.iter().zip(fullness) {
            used.store(table.used, Ordering::Relaxed);
            max.store(table.max, Ordering::Relaxed);
        }
    }
    /// How full the owner's tables are.
    pub fn tables(&self) -> [Fullness; TABLES] {
        std::array::from_fn(|n| {
            let [used, max] = self.tables[n].each_ref().map(|cell| cell.load(Ordering::Relaxed));
            Fullness { table: TABLE_NAMES[n], used, max }
        })
    }
    /// How often it happened.
    pub fn get(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }
    /// How often it was the answer.
    pub fn problem(&self, code: Code) -> u64 {
        self.problems[code as usize].load(Ordering::Relaxed)
    }
    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }
}

fn bump(cell: &AtomicU64, more: u64) {
    cell.store(cell.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}
