//! The status of the export, for `/readyz`, `/metrics` and the tests.
//!
//! Written by the exporter's thread alone, read by anybody; `Relaxed` throughout, since
//! these are figures for display and nothing depends on their order.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stampede_core::types::Lsn;

use super::limits::STALL_MAX;
use super::store::Wire;

/// Figures of one exporter. Counters count from its start.
#[derive(Debug, Default)]
pub struct ExportStatus {
    connected: AtomicBool,
    stopped: AtomicBool,
    exported_lsn: AtomicU64,
    batches: AtomicU64,
    facts: AtomicU64,
    rows: AtomicU64,
    conflicts: AtomicU64,
    set_aside: AtomicU64,
    deferred: AtomicU64,
    connects: AtomicU64,
    last_error: Mutex<Option<String>>,
    stalled_since: Mutex<Option<Instant>>,
    clear: AtomicBool,
    pooler: AtomicBool,
}

macro_rules! readers {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        impl ExportStatus {
            $($(#[$doc])* pub fn $name(&self) -> u64 { self.$name.load(Relaxed) })+
        }
    };
}

readers! {
    /// Transactions committed.
    batches,
    /// Facts exported.
    facts,
    /// Rows of orders written.
    rows,
    /// Stock rows found changed by somebody else.
    conflicts,
    /// Rows that Postgres refused and that were set aside.
    set_aside,
    /// Stock rows that are behind the facts, as of the last batch.
    deferred,
    /// Connections made.
    connects,
}

impl ExportStatus {
    /// Whether a connection is up and attached.
    pub fn connected(&self) -> bool {
        self.connected.load(Relaxed)
    }
    /// Whether the exporter has stopped for good; [`ExportStatus::last_error`] says why.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }
    /// The last LSN known to be in Postgres.
    pub fn exported_lsn(&self) -> Lsn {
        Lsn(self.exported_lsn.load(Relaxed))
    }
    /// The last error, with its remedy; `None` while there is none.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    /// Whether the last connection goes over a network in clear text.
    pub fn clear(&self) -> bool {
        self.clear.load(Relaxed)
    }
    /// Whether a pooler or a proxy is in the path of the last connection.
    pub fn pooler(&self) -> bool {
        self.pooler.load(Relaxed)
    }
    /// For how long facts have been waiting without one being exported; zero = none waits.
    pub fn waits_for(&self) -> Duration {
        self.stalled_since.lock().map_or(Duration::ZERO, |since| since.elapsed())
    }
    /// The same, if it is long enough for an alarm.
    pub fn stalled_for(&self) -> Option<Duration> {
        Some(self.waits_for()).filter(|waits| *waits >= STALL_MAX)
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Relaxed);
        if connected {
            self.connects.fetch_add(1, Relaxed);
        }
    }
    pub(super) fn set_stopped(&self) {
        self.stopped.store(true, Relaxed);
    }
    pub(super) fn set_exported(&self, lsn: Lsn) {
        self.exported_lsn.store(lsn.0, Relaxed);
    }
    pub(super) fn set_error(&self, error: Option<String>) {
        *self.last_error.lock() = error;
    }
    /// Sets the path of the last connection; logs a warning for what is new about it.
    pub fn set_wire(&self, wire: Wire) {
        if wire.clear && !self.clear.swap(wire.clear, Relaxed) {
            tracing::warn!(
                target: "stampede::export",
                "orders and buyers go to Postgres in clear text over a network; use sslmode=verify-full with sslrootcert"
            );
        }
        if wire.pooler && !self.pooler.swap(wire.pooler, Relaxed) {
            tracing::warn!(
                target: "stampede::export",
                "a pooler or a proxy is between this engine and Postgres; the export works through one in session or \
                 transaction mode, and leaves no state on its connections"
            );
        }
        self.clear.store(wire.clear, Relaxed);
        self.pooler.store(wire.pooler, Relaxed);
    }
    pub(super) fn set_stalled_since(&self, since: Option<Instant>) {
        let mut known = self.stalled_since.lock();
        if *known != since {
            *known = since;
        }
    }
    pub(super) fn set_deferred(&self, items: u64) {
        self.deferred.store(items, Relaxed);
    }
    pub(super) fn add_batch(&self, facts: u64, rows: u64) {
        self.batches.fetch_add(1, Relaxed);
        self.facts.fetch_add(facts, Relaxed);
        self.rows.fetch_add(rows, Relaxed);
    }
    pub(super) fn add_conflicts(&self, items: u64) {
        self.conflicts.fetch_add(items, Relaxed);
    }
    pub(super) fn add_set_aside(&self, rows: u64) {
        self.set_aside.fetch_add(rows, Relaxed);
    }
}
