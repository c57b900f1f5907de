//! The waiting room: a database that this log has never seen is away.
//!
//! It may hold items and orders that the log does not know, so nothing may be sold, created or shown
//! before they are taken over. Until then an engine without items answers at the doors: `/healthz`,
//! `/readyz` (`awaiting_database`), `/metrics` and the statistics; everything else is 503
//! `awaiting_database`. It writes no fact. When the database is reached it makes way for the real one,
//! whose cores listen on the same sockets: connections are closed, none is refused. It is served by epoll,
//! whatever the transport: the rings belong to the cores that will sell. Next:
//! [`super::export`] for what happens then.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use stampede_persist::export::AttachError;

use super::export::{LateAttach, Ready, judge};
use super::replay::Shards;
use super::{Base, EXIT_LOG_FAILED, Event, Sockets, start_core};
use crate::engine::mesh::Mesh;
use crate::engine::owner::Owner;
use crate::engine::reasons::{Change, Reason};
use crate::engine::shared::{Phase, Shared};
use crate::runtime::{self, CoreThread};
use crate::settings::{Settings, TransportChoice};

/// Time between two attempts to reach the database.
const RETRY: Duration = Duration::from_secs(1);
/// How soon a signal and an answer of the database are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How often the log repeats that the database is still away.
const REMIND: Duration = Duration::from_secs(30);

/// What waiting needs of the server.
pub(super) struct Room<'a> {
    pub(super) settings: &'a Settings,
    pub(super) sockets: &'a Sockets,
    pub(super) inbox: &'a Receiver<Event>,
}

/// The cores of the engine that only says that it waits.
struct Cores {
    shared: Arc<Shared>,
    threads: Vec<CoreThread>,
}

impl Room<'_> {
    /// Answers at the doors until the database is attached; the inner error: the server was told to
    /// end, or the log has failed.
    ///
    /// # Errors
    /// A database that must not be used with this log, or cores that cannot be started.
    pub(super) fn wait(
        &self,
        base: &Base,
        late: LateAttach,
        reason: String,
    ) -> anyhow::Result<Result<Ready, ExitCode>> {
        let told = format!(
            "Postgres: {reason}. It was never reached and may hold items and orders, so nothing is sold before \
             it is. If it is known to be empty, start with --new-shop"
        );
        let cores = self.open(base, reason)?;
        cores.shared.alarm_once(Change::Began(Reason::AwaitingDatabase, told).text());
        let stop = Arc::new(AtomicBool::new(false));
        let attempts = attempt_in_turn(late, stop.clone())?;
        let ended = self.until_attached(&attempts, &cores.shared);
        stop.store(true, Ordering::Relaxed);
        cores.close();
        ended
    }

    fn open(&self, base: &Base, reason: String) -> anyhow::Result<Cores> {
        let count = self.settings.cores.len();
        // A state of its own: what is in the log is not shown while the database may know more.
        let nothing = Shards::new(count, base.secret);
        let mesh = Arc::new(Mesh::new(count));
        let parts = base.parts(self.settings, nothing.catalogue.clone(), mesh)?;
        let shared = Shared::waiting(parts, reason).with_idle_ms(self.settings.limits.idle_ms);
        let shared = Arc::new(shared);
        // The cores that will sell hold their rings already, and there may be no memory for as many again.
        let seats = runtime::Cores::acquire(TransportChoice::Epoll, &self.settings.cores)?;
        let doors = self.sockets.share().context("the listening sockets cannot be shared")?;
        let doors = doors.doors(self.settings);
        let mut cores = Cores { shared: shared.clone(), threads: Vec::new() };
        let homes = nothing.shards.into_iter().zip(doors);
        for (core, (seat, (shard, doors))) in seats.into_seats().into_iter().zip(homes).enumerate() {
            let owner = Owner::new(shard, base.queue.producer(), shared.clone());
            let thread = start_core(seat, core, doors, owner, shared.clone())?;
            cores.threads.push(thread);
        }
        Ok(cores)
    }

    fn until_attached(
        &self,
        attempts: &Receiver<Result<Ready, AttachError>>,
        shared: &Shared,
    ) -> anyhow::Result<Result<Ready, ExitCode>> {
        let mut reminded = Instant::now();
        loop {
            shared.clock.follow();
            match self.inbox.recv_timeout(LOOK) {
                Ok(Event::Signal) => {
                    tracing::info!("stopping: the database was never reached, nothing was sold");
                    return Ok(Err(ExitCode::SUCCESS));
                }
                Ok(Event::LogFailed(reason)) => {
                    tracing::error!("the log has failed: {reason}");
                    return Ok(Err(ExitCode::from(EXIT_LOG_FAILED)));
                }
                // A panic ends the process; a core ends only when it is told to.
                Ok(Event::CoreEnded) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            let attempt = match attempts.try_recv() {
                Ok(attempt) => attempt,
                Err(TryRecvError::Empty) => continue,
                Err(TryRecvError::Disconnected) => {
                    anyhow::bail!("nobody tries to reach the database any more")
                }
            };
            let reason = match judge(attempt)? {
                Ok(ready) => {
                    tracing::info!("Postgres is reached for the first time");
                    return Ok(Ok(ready));
                }
                Err(reason) => reason,
            };
            if shared.still_waiting(&reason) || reminded.elapsed() >= REMIND {
                tracing::warn!("Postgres: {reason}. Waiting for it, nothing is sold");
                reminded = Instant::now();
            }
        }
    }
}

impl Cores {
    /// Ends them; whoever is connected has to come again.
    fn close(self) {
        self.shared.enter(Phase::Closing);
        for thread in self.threads {
            let _panics_abort = thread.join();
        }
    }
}

/// Tries again and again, on a thread of its own, since an attempt may take as long as a dead host
/// does not answer. It ends by itself soon after it was told to; nobody waits for it.
fn attempt_in_turn(
    late: LateAttach,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Receiver<Result<Ready, AttachError>>> {
    let (attempts, inbox) = mpsc::channel();
    let thread = thread::Builder::new().name("stampede-attach".to_owned());
    thread.spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let attempt = late.try_attach();
            let is_away = matches!(attempt, Err(AttachError::Database(_)));
            if attempts.send(attempt).is_err() || !is_away {
                return;
            }
            thread::sleep(RETRY);
        }
    })?;
    Ok(inbox)
}
