//! The cores of an engine, from start to end, for the engine that sells and for the one that waits for its
//! database: each is watched, none ends unnoticed, and every wait for one has a deadline.
//!
//! ```text
//! start ─▶ serving ── drain(deadline) ──▶ close(until) ─▶ all ended
//!             │ a core ends by itself                │ one does not
//!             ▼                                      ▼
//!   the process ends: EXIT_BROKEN           the caller ends: EXIT_FORCED
//! ```

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::event::{EXIT_FORCED, EXIT_LOG_FAILED, Event, LAST_STEPS};
use super::sockets::Sockets;
use super::watch;
use super::watch::Watch;
use crate::engine::home::Home;
use crate::engine::owner::Owner;
use crate::engine::shared::{Phase, Shared};
use crate::output;
use crate::runtime;
use crate::settings::Settings;

/// Cores that run.
pub(super) struct Cores {
    shared: Arc<Shared>,
    running: usize,
    watch: Watch,
}

impl Cores {
    /// Starts the acquired cores, each with an owner and its sockets, and the watch over them.
    ///
    /// # Errors
    /// What the system lacks or refuses, with the remedy.
    pub(super) fn start(
        acquired: runtime::Cores,
        settings: &Settings,
        sockets: Sockets,
        owners: Vec<Owner>,
        shared: Arc<Shared>,
        events: &Sender<Event>,
    ) -> anyhow::Result<Self> {
        let standby = sockets.merchant.try_clone().context("cannot copy the merchant's listening socket")?;
        tracing::info!(transport = acquired.transport().name(), "serving connections");
        let mut running = 0;
        let owners = owners.into_iter().zip(sockets.listen_sockets(settings));
        for (core, (idle, (owner, sockets))) in acquired.into_idle_cores().into_iter().zip(owners).enumerate()
        {
            let state = shared.clone();
            let thread = idle
                .start(sockets, move || Home::new(core, owner, state))
                .with_context(|| format!("cannot start core {core}; `stampede doctor` says what is wrong"))?;
            let events = events.clone();
            std::thread::Builder::new().name(format!("stampede-end-{core}")).spawn(move || {
                // A panic has ended the process.
                let in_order = matches!(thread.join(), Ok(Ok(())));
                events.send(Event::CoreEnded { in_order })
            })?;
            running += 1;
        }
        let watch = watch::start(shared.clone(), standby).context("cannot watch over the cores")?;
        Ok(Self { shared, running, watch })
    }

    /// Ends the process after a core has ended unexpectedly or failed: half a server is worse than none.
    pub(super) fn ended_by_itself() -> ! {
        tracing::error!("a core has ended unexpectedly; ending the process, so that it is started again");
        output::exit(output::EXIT_BROKEN)
    }

    /// Has the cores answer open requests and end; those not done shortly before the deadline are closed.
    ///
    /// # Errors
    /// The exit code for the caller: a core does not stop, or the log has failed.
    pub(super) fn drain(&mut self, inbox: &Receiver<Event>, deadline: Instant) -> Result<(), ExitCode> {
        self.shared.enter(Phase::Draining);
        self.watch.close_socket();
        let last_call = deadline.checked_sub(LAST_STEPS).unwrap_or(deadline);
        if self.wait_until(inbox, last_call)? {
            return Ok(());
        }
        tracing::warn!("connections are still open; closing them");
        self.close(inbox, Instant::now() + LAST_STEPS)
    }

    /// Closes all connections and ends the cores; clients have to connect again.
    ///
    /// # Errors
    /// As for [`Self::drain`].
    pub(super) fn close(&mut self, inbox: &Receiver<Event>, until: Instant) -> Result<(), ExitCode> {
        self.shared.enter(Phase::Closing);
        self.watch.close_socket();
        if self.wait_until(inbox, until)? {
            return Ok(());
        }
        tracing::error!("a core does not stop; leaving it");
        Err(ExitCode::from(EXIT_FORCED))
    }

    /// Waits for the cores; returns whether all have ended by then.
    fn wait_until(&mut self, inbox: &Receiver<Event>, until: Instant) -> Result<bool, ExitCode> {
        while self.running > 0 {
            match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::CoreEnded { in_order: true }) => self.running -= 1,
                Ok(Event::CoreEnded { in_order: false }) => Self::ended_by_itself(),
                Ok(Event::LogFailed(reason)) => return Err(log_failed(&self.shared, &reason)),
                // A second signal ends the process by itself; the first is why we are here, or changes nothing,
                // since there is a deadline.
                Ok(Event::Signal) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Closes all connections, logs the reason, and returns the exit code.
pub(super) fn log_failed(shared: &Shared, reason: &str) -> ExitCode {
    shared.enter(Phase::Closing);
    tracing::error!(
        "the log has failed: {reason}. Every acknowledged order is in it; repair the disk, then start again"
    );
    ExitCode::from(EXIT_LOG_FAILED)
}

/// Ends the process if even the shutdown hangs: a disk that never responds blocks the journal's thread for
/// ever, and a core may hang anywhere.
pub(super) fn force_end_after(patience: Duration) {
    let started = std::thread::Builder::new().name("stampede-deadline".to_owned()).spawn(move || {
        std::thread::sleep(patience);
        tracing::error!("the shutdown's deadline is over; ending at once");
        output::exit(EXIT_FORCED);
    });
    if let Err(error) = started {
        tracing::warn!("the shutdown has no deadline: {error}");
    }
}
