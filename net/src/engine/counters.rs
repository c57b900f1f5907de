//! Counters per core: written by that core alone, read by any thread.
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
            /// The name in `/admin/stats`; with `_total` in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
            /// What it means: the help text of the metric.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help.trim_ascii()),+ }
            }
        }
    };
}

counts! {
    /// Requests received, whatever the response.
    Requests = "requests",
    /// Orders placed.
    Placed = "orders_placed",
    /// Purchases answered with an order that an earlier request had placed.
    Replayed = "orders_replayed",
    /// Orders that were paid, cancelled or refunded.
    Moved = "orders_moved",
    /// Unpaid orders that expired, and sale windows that ended.
    Ticked = "ticks_due",
    /// Purchases refused by the home core, without asking the owner core.
    RefusedEarly = "purchases_refused_early",
    /// Tickets issued.
    TicketsIssued = "tickets_issued",
    /// Challenges issued.
    ChallengesPosed = "challenges_posed",
    /// Batches received.
    Batches = "batches",
    /// Records received in batches.
    BatchRecords = "batch_records",
    /// Requests from one core to another.
    Hops = "hops",
    /// Tokens whose signature was checked: those that the core did not remember.
    TokensVerified = "tokens_verified",
    /// Tokens refused unchecked, because their address had sent too many invalid ones.
    TokensRefused = "tokens_refused",
    /// Times that a trusted proxy's request was searched for the client's address and had none.
    AddressesUnknown = "addresses_unknown",
    /// Connections from trusted proxies closed because they did not begin with a PROXY header.
    ProxyHeadersBad = "proxy_headers_bad",
    /// Connections accepted.
    Accepted = "connections_accepted",
    /// Failed attempts to accept a connection: no descriptor or memory left, or not permitted.
    AcceptFailures = "accept_failures",
    /// Connections refused because too many were open.
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
    /// Of each of the owner's tables: rows used, and the most there can be.
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
    /// The core itself: one more.
    pub fn add(&self, count: Count) {
        self.add_many(count, 1);
    }
    /// The core itself: `more` more.
    pub fn add_many(&self, count: Count, more: u64) {
        bump(&self.counts[count as usize], more);
    }
    /// The core itself: one more refusal with this code.
    pub fn refused(&self, code: Code) {
        self.refused_many(code, 1);
    }
    /// The core itself: `more` more refusals with this code.
    pub fn refused_many(&self, code: Code, more: u64) {
        bump(&self.problems[code as usize], more);
    }
    /// The core itself: how many connections are open now.
    pub fn set_open(&self, open: usize) {
        self.open.store(open as u64, Ordering::Relaxed);
    }
    /// The core itself: how full its owner's tables are.
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
    /// How often requests were refused with this code.
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
