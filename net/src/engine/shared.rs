//! What every core reads: fixed settings, watermarks, and the few switches of the whole engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use parking_lot::Mutex;
use stampede_core::catalogue::Catalogue;
use stampede_core::types::{HashSecret, Lsn};
use stampede_persist::export::ExportStatus;
use stampede_persist::log::queue::FactQueue;
use stampede_persist::log::status::LogStatus;

use super::accept_errors::AcceptErrors;
use super::clock::{SaleClock, show_ms};
use super::counters::Counters;
use super::mesh::Mesh;
use super::pulse::Pulse;
use crate::gate::Gate;
use crate::http::answer::{Cors, Date};
use crate::http::head::Head;
use crate::http::route::Listener;
use crate::identity::Identity;
use crate::identity::demo::Demo;

/// Alarms kept for the merchant; older ones are only in the log lines.
const ALARMS_MAX: usize = 100;

/// Where the engine is between start and end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Taking requests.
    Serving = 0,
    /// About to shut down: it goes on selling and accepting connections, but reports that it is not ready and
    /// closes each connection after its answer, so that a load balancer sends the next requests elsewhere.
    LameDuck = 1,
    /// Shutting down: in a moment no new connections and no new purchases; open requests are answered.
    Draining = 2,
    /// Connections that are still open are cut off.
    Closing = 3,
}

/// What all cores of an engine share: what it was started with, and what changes meanwhile.
pub struct Shared {
    /// The sale clock.
    pub clock: SaleClock,
    /// How buyers are told apart.
    pub identity: Identity,
    /// Tickets, challenges, and the rules of limits.
    pub gate: Gate,
    /// The token of the merchant API.
    pub admin_token: String,
    /// The secret under which buyers are hashed.
    pub secret: HashSecret,
    /// The gauges of all items.
    pub catalogue: Arc<Catalogue>,
    /// How far the log has come.
    pub log: Arc<LogStatus>,
    /// The queue to the journal.
    pub queue: Arc<FactQueue>,
    /// How far the export has come; `None` without Postgres.
    pub export: Option<Arc<ExportStatus>>,
    /// The promises that the operator weakened (I17), in words; repeated wherever it matters.
    pub weakened: Vec<String>,
    /// Whether answers wait for the log (`--ack wal`) or not (`--ack memory`).
    pub ack_durable: bool,
    /// Makes sessions for buyers who have none; with `--demo` only.
    pub demo: Option<Demo>,
    /// The rings between cores.
    pub mesh: Arc<Mesh>,
    /// How long a connection may stay silent, in milliseconds.
    pub idle_ms: u32,
    /// Longest head of a request, in bytes.
    pub head_bytes: u32,
    /// What changes while the engine runs.
    pub state: EngineState,
}

/// What changes while the engine runs, apart from the log, the export and the items.
pub struct EngineState {
    /// One set of counters per core.
    pub counters: Vec<Counters>,
    /// Whether every core still turns.
    pub pulse: Pulse,
    /// Whether the system lets connections in.
    pub accept_errors: AcceptErrors,
    /// Written by the signal thread (Release), read by all cores (Acquire).
    phase: AtomicU8,
    /// Cores that have closed their listening sockets and have no connection left. Each core adds itself once
    /// (AcqRel), all read it (Acquire): until all have drained, a core may still have to ask another's owner.
    drained: AtomicUsize,
    /// Whether selling was stopped for a reason other than the log. Written by the
    /// exporter's port under the lock of `stopped`, read by owners before they decide;
    /// Relaxed, since nothing else depends on it.
    selling_stopped: AtomicBool,
    stopped: Mutex<Option<String>>,
    /// Why the last attempt to reach the database failed; `None` = the engine does not wait for it. An engine
    /// that was made to wait never sells: another one takes its place.
    awaited: Option<Mutex<String>>,
    alarms: Mutex<Vec<String>>,
}

impl EngineState {
    /// Of an engine with that many cores; it is serving.
    pub fn serving(cores: usize) -> Self {
        Self {
            counters: (0..cores).map(|_| Counters::default()).collect(),
            pulse: Pulse::new(cores),
            accept_errors: AcceptErrors::new(cores),
            phase: AtomicU8::new(Phase::Serving as u8),
            drained: AtomicUsize::new(0),
            selling_stopped: AtomicBool::new(false),
            stopped: Mutex::new(None),
            awaited: None,
            alarms: Mutex::new(Vec::new()),
        }
    }

    /// Of an engine that sells nothing and waits for the database; the reason says why it cannot be reached.
    pub fn waiting(cores: usize, reason: String) -> Self {
        let (selling_stopped, awaited) = (AtomicBool::new(true), Some(Mutex::new(reason)));
        Self { selling_stopped, awaited, ..Self::serving(cores) }
    }
}

impl Shared {
    /// The header lines that all answers of this second share.
    pub fn date(&self, unix_s: u64) -> Date {
        Date::new(unix_s, self.idle_ms / 1_000)
    }

    /// The CORS header lines for the page that sent this request, if it may read the answer: only the
    /// buyers' API allows that.
    #[inline]
    pub fn cors(&self, listener: Listener, head: &Head<'_>) -> Option<&'static Cors> {
        let cors = self.identity.may_read(head)?;
        (listener == Listener::Public && head.path.starts_with("/v1/")).then_some(cors)
    }

    /// The last fact that may be shown (I3): the durable LSN; any fact with `--ack memory`.
    pub fn shown_lsn(&self) -> Lsn {
        if self.ack_durable { self.log.durable_lsn() } else { Lsn(u64::MAX) }
    }

    /// Whether owners may decide.
    pub fn accepting(&self) -> bool {
        self.log.accepting() && !self.state.selling_stopped.load(Ordering::Relaxed)
    }

    /// The present phase.
    pub fn phase(&self) -> Phase {
        match self.state.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::LameDuck,
            2 => Phase::Draining,
            _ => Phase::Closing,
        }
    }

    /// One more core has drained; each core calls this once.
    pub fn one_has_drained(&self) {
        if self.state.drained.fetch_add(1, Ordering::AcqRel) + 1 == self.mesh.cores() {
            self.mesh.wakers().iter().for_each(|waker| waker.wake());
        }
    }

    /// Whether all cores have drained.
    pub fn all_have_drained(&self) -> bool {
        self.state.drained.load(Ordering::Acquire) >= self.mesh.cores()
    }

    /// Enters a later phase and wakes every core.
    pub fn enter(&self, phase: Phase) {
        self.state.phase.store(phase as u8, Ordering::Release);
        self.mesh.wakers().iter().for_each(|waker| waker.wake());
    }

    /// Stops selling until the next start; `reason` says why. Reads stay available.
    pub fn stop_selling(&self, reason: String) {
        let mut stopped = self.state.stopped.lock();
        self.state.selling_stopped.store(true, Ordering::Relaxed);
        stopped.get_or_insert(reason);
    }

    /// Why selling was stopped, if it was.
    pub fn selling_stopped(&self) -> Option<String> {
        if self.state.selling_stopped.load(Ordering::Relaxed) {
            self.state.stopped.lock().clone()
        } else {
            None
        }
    }

    /// Whether this engine waits for the database: then it answers only requests about its own state.
    pub const fn is_waiting(&self) -> bool {
        self.state.awaited.is_some()
    }

    /// Notes why the database could not be reached this time; returns whether the reason is a new one.
    pub fn still_waiting(&self, reason: &str) -> bool {
        let Some(awaited) = &self.state.awaited else { return false };
        let mut known = awaited.lock();
        let is_new = *known != reason;
        reason.clone_into(&mut known);
        is_new
    }

    /// Why the database could not be reached, while the engine waits for it.
    pub fn awaited(&self) -> Option<String> {
        self.state.awaited.as_ref().map(|awaited| awaited.lock().clone())
    }

    /// Keeps an alarm for the merchant.
    pub fn alarm(&self, text: String) {
        let mut alarms = self.state.alarms.lock();
        if alarms.len() == ALARMS_MAX {
            alarms.remove(0);
        }
        alarms.push(text);
    }

    /// Keeps and logs an alarm, unless the same text is kept already: for alarms that are raised again and again.
    pub fn alarm_once(&self, text: String) {
        if !self.state.alarms.lock().contains(&text) {
            tracing::warn!("alarm: {text}");
            self.alarm(text);
        }
    }

    /// How far the sale clock is ahead of the machine's clock, and what that means, in words.
    pub fn clock_words(&self) -> String {
        format!(
            "the sale clock is {} ahead of this machine's clock and never runs backwards: until the machine's clock has \
             caught up, items open and end early and fresh tokens may count as expired (docs/CONFIG.md, The clock)",
            show_ms(self.clock.ahead_ms())
        )
    }

    /// All weakened promises (I17), in words: those that the operator chose, and an unencrypted database connection.
    pub fn weakened(&self) -> Vec<String> {
        let mut weakened = self.weakened.clone();
        if self.export.as_ref().is_some_and(|export| export.clear()) {
            weakened.push(
                "postgres.url: orders and buyers go to the database in clear text over a network; sslmode=verify-full"
                    .to_owned(),
            );
        }
        weakened
    }

    /// For tests: a thread that is suspended while it holds the lock of the alarms.
    #[cfg(test)]
    pub(crate) fn hold_alarms(&self) -> impl Drop + '_ {
        self.state.alarms.lock()
    }

    /// The kept alarms, oldest first.
    pub fn alarms(&self) -> Vec<String> {
        self.state.alarms.lock().clone()
    }
}
