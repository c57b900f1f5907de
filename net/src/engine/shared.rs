//! What every core reads: settings that are fixed, watermarks, and the few switches of
//! the whole engine.

use std::ops::Deref;
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
use crate::http::limits::{HEAD_BYTES, IDLE_MS};
use crate::http::route::Listener;
use crate::identity::Identity;
use crate::identity::demo::Demo;

/// Alarms kept for the merchant; older ones are in the process's own output.
const ALARMS_MAX: usize = 100;

/// How far the engine is between start and end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Taking requests.
    Serving = 0,
    /// About to go down: it sells on and takes connections, but says that it is not ready, and closes each
    /// connection behind its answer, so that a load balancer sends what comes next elsewhere.
    LameDuck = 1,
    /// Going down: in a moment no new connection and no new purchase; what is owed is answered.
    Draining = 2,
    /// Connections that are still open are cut.
    Closing = 3,
}

/// What the engine is put together from.
pub struct Parts {
    /// The sale clock.
    pub clock: SaleClock,
    /// How buyers are told apart.
    pub identity: Identity,
    /// Tickets, challenges, and the rules of limits.
    pub gate: Gate,
    /// The back office's token.
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
    /// What was weakened on the operator's word (I17), in words; repeated wherever it matters.
    pub weakened: Vec<String>,
    /// Whether answers wait for the log (`--ack wal`) or not (`--ack memory`).
    pub ack_durable: bool,
    /// Makes sessions for buyers who have none; with `--demo` only.
    pub demo: Option<Demo>,
    /// The rings between cores.
    pub mesh: Arc<Mesh>,
}

/// What all cores share: the parts, and the switches of the whole engine.
pub struct Shared {
    parts: Parts,
    /// One set of counters per core.
    pub counters: Vec<Counters>,
    /// Whether every core still turns.
    pub pulse: Pulse,
    /// Whether the system lets connections in.
    pub accept_errors: AcceptErrors,
    /// Written by the signal thread (Release), read by all cores (Acquire).
    phase: AtomicU8,
    /// Cores that have shut their doors and have no connection left. Counted up once by each core (AcqRel),
    /// read by all (Acquire): none may go before the last, whose questions it may have to answer.
    drained: AtomicUsize,
    /// Whether selling was stopped for a reason that is not the log's. Written by the
    /// exporter's port under the lock of `stopped`, read by owners before they decide;
    /// Relaxed, since nothing else hangs on it.
    selling_stopped: AtomicBool,
    stopped: Mutex<Option<String>>,
    /// Why the database could not be reached the last time; `None` = nobody waits for it. An engine
    /// that was made waiting stays so: another one takes its place.
    awaited: Option<Mutex<String>>,
    alarms: Mutex<Vec<String>>,
    /// How long a connection may say nothing, in milliseconds.
    idle_ms: u32,
    head_bytes: u32,
}

/// The parts never change, so they are read as if they were fields of this.
impl Deref for Shared {
    type Target = Parts;
    #[inline]
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Shared {
    /// Puts the parts together; the engine is serving.
    pub fn new(parts: Parts) -> Self {
        Self::with_awaited(parts, None)
    }

    /// The parts of an engine that only says that it waits for the database, and why.
    pub fn waiting(parts: Parts, reason: String) -> Self {
        Self::with_awaited(parts, Some(Mutex::new(reason)))
    }

    fn with_awaited(parts: Parts, awaited: Option<Mutex<String>>) -> Self {
        let cores = parts.mesh.cores();
        Self {
            parts,
            counters: (0..cores).map(|_| Counters::default()).collect(),
            pulse: Pulse::new(cores),
            accept_errors: AcceptErrors::new(cores),
            phase: AtomicU8::new(Phase::Serving as u8),
            drained: AtomicUsize::new(0),
            selling_stopped: AtomicBool::new(awaited.is_some()),
            stopped: Mutex::new(None),
            awaited,
            alarms: Mutex::new(Vec::new()),
            idle_ms: IDLE_MS as u32,
            head_bytes: HEAD_BYTES as u32,
        }
    }

    /// The same, where a connection may say nothing for so many milliseconds.
    #[must_use]
    pub fn with_idle_ms(mut self, idle_ms: u32) -> Self {
        self.idle_ms = idle_ms;
        self
    }

    /// The same, where a head may have so many bytes.
    #[must_use]
    pub fn with_head_bytes(mut self, head_bytes: u32) -> Self {
        self.head_bytes = head_bytes;
        self
    }

    /// Longest head of a request, in bytes.
    pub const fn head_bytes(&self) -> u32 {
        self.head_bytes
    }

    /// How long a connection may say nothing, in milliseconds.
    pub const fn idle_ms(&self) -> u32 {
        self.idle_ms
    }

    /// The lines that all answers of this second share.
    pub fn date(&self, unix_s: u64) -> Date {
        Date::new(unix_s, self.idle_ms / 1_000)
    }

    /// What the page of another origin that sent this request is told, if it may read the answer:
    /// of the buyers' API alone.
    #[inline]
    pub fn cors(&self, listener: Listener, head: &Head<'_>) -> Option<&'static Cors> {
        let cors = self.identity.may_read(head)?;
        (listener == Listener::Public && head.path.starts_with("/v1/")).then_some(cors)
    }

    /// The rings between cores.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Up to where facts may be shown (I3): the durable LSN; all of them with `--ack memory`.
    pub fn shown_lsn(&self) -> Lsn {
        if self.ack_durable { self.log.durable_lsn() } else { Lsn(u64::MAX) }
    }

    /// Whether owners may decide.
    pub fn accepting(&self) -> bool {
        self.log.accepting() && !self.selling_stopped.load(Ordering::Relaxed)
    }

    /// How far the engine is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::LameDuck,
            2 => Phase::Draining,
            _ => Phase::Closing,
        }
    }

    /// One more core has drained: called once by each.
    pub fn one_has_drained(&self) {
        if self.drained.fetch_add(1, Ordering::AcqRel) + 1 == self.mesh.cores() {
            self.mesh.wakers().iter().for_each(|waker| waker.wake());
        }
    }

    /// Whether all cores have.
    pub fn all_have_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire) >= self.mesh.cores()
    }

    /// Goes on to a later phase and wakes every core.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
        self.mesh.wakers().iter().for_each(|waker| waker.wake());
    }

    /// Stops selling for good, for a reason in words; reads stay up.
    pub fn stop_selling(&self, reason: String) {
        let mut stopped = self.stopped.lock();
        self.selling_stopped.store(true, Ordering::Relaxed);
        stopped.get_or_insert(reason);
    }

    /// Why selling was stopped, if it was.
    pub fn selling_stopped(&self) -> Option<String> {
        if self.selling_stopped.load(Ordering::Relaxed) { self.stopped.lock().clone() } else { None }
    }

    /// Whether the database is waited for: then nothing but the engine's own state is told.
    pub const fn is_waiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// Notes why the database could not be reached this time; whether that is another reason.
    pub fn still_waiting(&self, reason: &str) -> bool {
        let Some(awaited) = &self.awaited else { return false };
        let mut known = awaited.lock();
        let is_new = *known != reason;
        reason.clone_into(&mut known);
        is_new
    }

    /// Why the database could not be reached, while it is waited for.
    pub fn awaited(&self) -> Option<String> {
        self.awaited.as_ref().map(|awaited| awaited.lock().clone())
    }

    /// Keeps an alarm for the merchant.
    pub fn alarm(&self, text: String) {
        let mut alarms = self.alarms.lock();
        if alarms.len() == ALARMS_MAX {
            alarms.remove(0);
        }
        alarms.push(text);
    }

    /// The same, unless it is among those that are kept: for one that is raised again and again.
    pub fn alarm_once(&self, text: String) {
        if !self.alarms.lock().contains(&text) {
            tracing::warn!("alarm: {text}");
            self.alarm(text);
        }
    }

    /// How far the sale clock is ahead of the machine's, and what that means, in words.
    pub fn clock_words(&self) -> String {
        format!(
            "the sale clock is {} ahead of this machine's clock and never runs backwards: until that has caught \
             up, items open and end early and fresh tokens may count as expired (docs/CONFIG.md, The clock)",
            show_ms(self.clock.ahead_ms())
        )
    }

    /// What is weakened now (I17), in words: on the operator's word, and by the way to the database.
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

    /// Stands for a thread that is held while it reads or keeps an alarm.
    #[cfg(test)]
    pub(crate) fn hold_alarms(&self) -> impl Drop + '_ {
        self.alarms.lock()
    }

    /// The alarms of late, oldest first.
    pub fn alarms(&self) -> Vec<String> {
        self.alarms.lock().clone()
    }
}
