//! The waiting room: a database that this log has never seen is down.
//!
//! It may hold items and orders that the log does not know, so nothing may be sold, created or shown
//! before they are taken over. Until then an engine without items responds: `/healthz`, `/readyz`
//! (`awaiting_database`), `/metrics` and the statistics; everything else is 503 `awaiting_database`. It
//! writes no fact. When the database is reached, the real engine replaces it, whose cores listen on the
//! same sockets: connections are closed, none is refused. Its cores are watched and ended like those of an
//! engine that sells ([`super::cores`]). They use epoll, whatever the transport, since the rings belong to
//! the cores that will sell. Next: [`super::export`] for what happens then.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use stampede_persist::export::AttachError;

use super::base::Base;
use super::cores::{self, Cores};
use super::event::{Event, LAST_STEPS};
use super::export::{LateAttach, Ready, sort_attempt};
use super::replay::Shards;
use super::sockets::Sockets;
use super::starting::Starting;
use crate::engine::mesh::Mesh;
use crate::engine::owner::Owner;
use crate::engine::shared::{EngineState, Shared};
use crate::runtime;
use crate::settings::Settings;

/// Time between two attempts to reach the database.
const RETRY: Duration = Duration::from_secs(1);
/// Time between two checks for a signal or a result of an attempt.
const LOOK: Duration = Duration::from_millis(20);
/// How often a log line repeats that the database is still down.
const REMIND: Duration = Duration::from_secs(30);

/// What waiting needs of the server.
pub(super) struct Room<'a> {
    pub(super) settings: &'a Settings,
    pub(super) sockets: &'a Sockets,
    pub(super) inbox: &'a Receiver<Event>,
    pub(super) events: &'a Sender<Event>,
    pub(super) starting: &'a Starting<'a>,
}

impl Room<'_> {
    /// Responds until the database is attached; the inner error: the server was told to end, or the log has
    /// failed.
    ///
    /// # Errors
    /// A database that must not be used with this log, or cores that cannot be started.
    pub(super) fn wait(
        &self,
        base: &Base,
        late: LateAttach,
        reason: String,
    ) -> anyhow::Result<Result<Ready, ExitCode>> {
        let deadline = Duration::from_millis(self.settings.shutdown.deadline_ms);
        self.starting.stop();
        let (mut cores, shared) = self.open(base, reason)?;
        let stop = Arc::new(AtomicBool::new(false));
        let attempts = attempt_in_turn(late, stop.clone())?;
        let ended = self.until_attached(&attempts, &shared);
        stop.store(true, Ordering::Relaxed);
        if matches!(ended, Ok(Err(_))) {
            cores::force_end_after(deadline + 2 * LAST_STEPS);
        }
        if let Err(code) = cores.close(self.inbox, Instant::now() + deadline) {
            return Ok(Err(code));
        }
        ended
    }

    fn open(&self, base: &Base, reason: String) -> anyhow::Result<(Cores, Arc<Shared>)> {
        let count = self.settings.cores.len();
        // A state of its own: the log's state is not shown while the database may know more.
        let nothing = Shards::new(count, base.secret);
        let mesh = Arc::new(Mesh::new(count));
        let state = EngineState::waiting(count, reason);
        let shared = Arc::new(base.shared(self.settings, nothing.catalogue.clone(), mesh, state)?);
        let doors = self.sockets.share().context("the listening sockets cannot be shared")?;
        let acquired = runtime::Cores::acquire_to_wait(&self.settings.cores)?;
        let owners = nothing.shards.into_iter();
        let owners = owners.map(|shard| Owner::new(shard, base.queue.producer(), shared.clone())).collect();
        let cores = Cores::start(acquired, self.settings, doors, owners, shared.clone(), self.events)?;
        Ok((cores, shared))
    }

    fn until_attached(
        &self,
        attempts: &Receiver<Result<Ready, AttachError>>,
        shared: &Shared,
    ) -> anyhow::Result<Result<Ready, ExitCode>> {
        let mut reminded = Instant::now();
        loop {
            match self.inbox.recv_timeout(LOOK) {
                Ok(Event::Signal) => {
                    tracing::info!("stopping: the database was never reached, nothing was sold");
                    return Ok(Err(ExitCode::SUCCESS));
                }
                Ok(Event::LogFailed(reason)) => return Ok(Err(cores::log_failed(shared, &reason))),
                Ok(Event::CoreEnded { .. }) => Cores::ended_by_itself(),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            let attempt = match attempts.try_recv() {
                Ok(attempt) => attempt,
                Err(TryRecvError::Empty) => continue,
                Err(TryRecvError::Disconnected) => {
                    anyhow::bail!("the thread that connects to the database has ended")
                }
            };
            let reason = match sort_attempt(attempt)? {
                Ok(ready) => {
                    tracing::info!("Postgres is reached for the first time");
                    return Ok(Ok(ready));
                }
                Err(reason) => reason,
            };
            if shared.still_waiting(&reason) || reminded.elapsed() >= REMIND {
                tracing::warn!("Postgres: {reason}. Waiting for it; nothing is sold until then");
                reminded = Instant::now();
            }
        }
    }
}

/// Tries repeatedly, on a thread of its own, since an attempt takes long if the host is dead. The thread ends
/// by itself soon after it was told to; nobody waits for it.
fn attempt_in_turn(
    late: LateAttach,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Receiver<Result<Ready, AttachError>>> {
    let (attempts, inbox) = mpsc::channel();
    let thread = thread::Builder::new().name("stampede-attach".to_owned());
    thread.spawn(move || {
        loop {
            // The previous attempt was made a moment ago.
            thread::sleep(RETRY);
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let attempt = late.try_attach();
            let is_away = matches!(attempt, Err(AttachError::Database(_)));
            if attempts.send(attempt).is_err() || !is_away {
                return;
            }
        }
    })?;
    Ok(inbox)
}
