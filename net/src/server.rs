//! The server: opens the log, starts everything, waits for the end, stops everything.
//!
//! ```text
//! open + lock ─▶ recover into shards ─▶ journal ─▶ Postgres: attach, preheat ─▶ cores ─▶ exporter
//!                                                  │ away, and never seen: waiting room
//!                                                                                │
//! exit ◀─ journal: sync, mark clean ◀─ exporter: drain ◀─ cores: answer, close ◀─┘ SIGTERM
//! ```
//!
//! Every thread reports its end to one loop; if one ends that should not, the whole
//! process stops: never half alive. Next: [`recover`] and [`replay`] for the state,
//! [`export`](self::export) for Postgres, [`waiting`] for a database that was never
//! reached, [`cores`] and [`watch`] for cores and their end, [`starting`] for who answers before they run,
//! [`signals`] for what signals mean, [`banner`] for what is printed, [`demo`] for what the demo sells.

mod banner;
mod base;
mod cores;
mod demo;
mod event;
pub mod export;
pub mod recover;
pub mod refill;
pub mod replay;
mod signals;
mod sockets;
mod stand_in;
mod starting;
mod waiting;
pub mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Context;
use stampede_core::shard::Shard;
use stampede_core::types::{Lsn, UnixMillis};
use stampede_persist::export::ExporterHandle;
use stampede_persist::log::control::Control;
use stampede_persist::log::dir::Started;
use stampede_persist::log::thread::JournalHandle;

use self::base::Base;
use self::cores::Cores;
use self::event::{EXIT_FORCED, Event, LAST_STEPS};
use self::recover::Replayed;
use self::sockets::bind;
use self::starting::Starting;
use crate::engine::clock::{AHEAD_MS_MAX, Begin, SaleClock, show_ms, wall};
use crate::engine::mesh::Mesh;
use crate::engine::owner::Owner;
use crate::engine::reasons::{Change, Reason};
use crate::engine::shared::{EngineState, Phase, Shared};
use crate::output;
use crate::runtime;
use crate::settings::Settings;

/// Serves on these cores until a signal or a failure. The exit code is 0 after an orderly end.
///
/// # Errors
/// What keeps it from starting, with the remedy.
pub fn serve(settings: &Settings, acquired: runtime::Cores) -> anyhow::Result<ExitCode> {
    output::end_on_panic();
    let (events, inbox) = mpsc::channel();
    signals::watch(events.clone())?;
    let sockets = bind(settings)?;
    let mesh = Arc::new(Mesh::new(settings.cores.len()));
    let starting = Starting::begin(&sockets, settings.identity.proxy_protocol)?;
    let room =
        waiting::Room { settings, sockets: &sockets, inbox: &inbox, events: &events, starting: &starting };
    let prepared = match Server::prepare(settings, mesh, &events, &room)? {
        Ok(prepared) => prepared,
        Err(code) => return Ok(code),
    };
    starting.stop();
    drop(starting);
    let (server, owners) = prepared;
    let cores = Cores::start(acquired, settings, sockets, owners, server.shared.clone(), &events)?;
    banner::print(settings, &server.shared);
    Ok(server.run(cores, settings, &inbox))
}

/// Everything that runs.
struct Server {
    shared: Arc<Shared>,
    journal: JournalHandle,
    exporter: Option<ExporterHandle>,
}

impl Server {
    /// Recovers the state and starts the log and the exporter; the owners are for the cores. The inner error:
    /// it was told to end while it waited for the database.
    fn prepare(
        settings: &Settings,
        mesh: Arc<Mesh>,
        events: &Sender<Event>,
        room: &waiting::Room<'_>,
    ) -> anyhow::Result<Result<(Self, Vec<Owner>), ExitCode>> {
        let cores = settings.cores.len();
        let mut replayed = Replayed::open(&settings.data_dir, &settings.log_options(), cores)?;
        let export = settings.postgres.as_ref();
        let export = export.map(|postgres| export::Plan::new(postgres, replayed.control()));
        let mut export = export.transpose()?;
        let attached = export.as_ref().map(|plan| plan.attach_now(&replayed)).transpose()?;
        let clock = SaleClock::start(replayed.last_ms(), settings.clock);
        let skew = skew_at_start(replayed.last_ms(), settings.clock);
        let secret = replayed.secret();
        let on_failure = {
            let events = events.clone();
            move |reason: &str| drop(events.send(Event::LogFailed(reason.to_owned())))
        };
        let wakers = mesh.wakers().iter().map(|waker| {
            let waker = waker.clone();
            Arc::new(move || waker.wake()) as Arc<dyn Fn() + Send + Sync>
        });
        let Started { queue, status, mut journal } = replayed.start_log(wakers.collect(), on_failure)?;
        journal
            .start_snapshotter(move || replay::empty(cores, secret))
            .context("cannot start the snapshot thread")?;
        let base = Base {
            clock: clock.clone(),
            secret,
            log: status,
            queue: queue.clone(),
            export: export.as_ref().map(export::Plan::status),
        };
        let (mut sells_unseen, mut alarms) = (false, Vec::new());
        if let Some((plan, attached)) = export.as_mut().zip(attached) {
            match reach(plan, attached, &base, &mut replayed, &journal, room)? {
                Reached::TakenOver(told) => alarms = told,
                Reached::Away => sells_unseen = replayed.control().database.is_none(),
                Reached::Ended(code) => {
                    // The exit code says already if it was the log that failed.
                    if let Err(error) = journal.shutdown(LAST_STEPS) {
                        tracing::error!("{error}");
                    }
                    return Ok(Err(code));
                }
            }
        }
        if settings.demo {
            demo::open_sale(&mut replayed, &queue, clock.now().sale);
        }
        let state = EngineState::serving(cores);
        let mut shared = base.shared(settings, replayed.catalogue().clone(), mesh, state)?;
        if sells_unseen {
            shared.weakened.push(
                "postgres.new_shop: sells although its database was never reached; what it holds may be sold once more"
                    .to_owned(),
            );
        }
        let kept = kept_unexported(settings, replayed.control());
        shared.weakened.extend(kept.clone());
        shared.weakened.extend(skew.as_ref().filter(|_| settings.clock == Begin::AtTheWall).cloned());
        let shared = Arc::new(shared);
        alarms.into_iter().for_each(|alarm| shared.alarm(alarm));
        skew.into_iter().for_each(|what| shared.alarm_once(what));
        kept.into_iter().for_each(|what| shared.alarm_once(what));
        let owners = replayed.into_shards().into_iter();
        let owners = owners.map(|shard| Owner::new(shard, queue.producer(), shared.clone())).collect();
        let exporter = match export {
            Some(plan) => Some(plan.start(shared.clone(), journal.maintenance().clone())?),
            None => None,
        };
        Ok(Ok((Self { shared, journal, exporter }, owners)))
    }

    /// Waits for the end and brings it about in order.
    fn run(mut self, mut cores: Cores, settings: &Settings, inbox: &Receiver<Event>) -> ExitCode {
        match inbox.recv() {
            Ok(Event::Signal) => {}
            Ok(Event::LogFailed(reason)) => return cores::log_failed(&self.shared, &reason),
            Ok(Event::CoreEnded { .. }) | Err(_) => Cores::ended_by_itself(),
        }
        let deadline = Instant::now() + Duration::from_millis(settings.shutdown.deadline_ms);
        cores::force_end_after(Duration::from_millis(settings.shutdown.deadline_ms) + 2 * LAST_STEPS);
        if let Err(code) = self.be_a_lame_duck(settings, inbox) {
            return code;
        }
        tracing::info!("stopping: no new purchases, answering what is owed");
        if let Err(code) = cores.drain(inbox, deadline) {
            return code;
        }
        self.drain_export(deadline);
        match self.journal.shutdown(deadline.saturating_duration_since(Instant::now()) + LAST_STEPS) {
            Ok(()) => {
                tracing::info!(durable_lsn = self.shared.log.durable_lsn().0, "stopped in order");
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::from(EXIT_FORCED)
            }
        }
    }

    /// Says that it is not ready, and sells on until a load balancer must have noticed.
    fn be_a_lame_duck(&self, settings: &Settings, inbox: &Receiver<Event>) -> Result<(), ExitCode> {
        let during = Duration::from_millis(settings.shutdown.lame_duck_ms);
        if during.is_zero() {
            return Ok(());
        }
        tracing::info!(
            lame_duck_ms = settings.shutdown.lame_duck_ms,
            "stopping: not ready any more, so that a load balancer looks elsewhere; selling on meanwhile"
        );
        self.shared.enter(Phase::LameDuck);
        let until = Instant::now() + during;
        loop {
            match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Ok(Event::Signal) => {}
                Ok(Event::LogFailed(reason)) => return Err(cores::log_failed(&self.shared, &reason)),
                Ok(Event::CoreEnded { .. }) | Err(RecvTimeoutError::Disconnected) => Cores::ended_by_itself(),
            }
        }
    }

    /// Gives the exporter what is left of the deadline to bring Postgres up to date.
    fn drain_export(&mut self, deadline: Instant) {
        let Some(exporter) = self.exporter.take() else { return };
        let (log, queue) = (&self.shared.log, &self.shared.queue);
        let last_call = deadline.checked_sub(LAST_STEPS).unwrap_or(deadline);
        let done = || queue.is_empty() && exporter.status().exported_lsn() >= log.durable_lsn();
        let hopeless = || exporter.is_finished() || !exporter.status().connected();
        while !done() && !hopeless() && Instant::now() < last_call {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        if !done() {
            let left = log.durable_lsn().0.saturating_sub(exporter.status().exported_lsn().0);
            tracing::warn!(facts = left, "Postgres is behind; the next start goes on from there");
        }
        if let Err(panic) = exporter.stop() {
            tracing::error!("the exporter had panicked: {panic}");
        }
    }
}

/// What came of reaching for the database before the sale.
enum Reached {
    /// What it alone had is taken over; the alarms that this raised.
    TakenOver(Vec<String>),
    /// The sale begins without it.
    Away,
    /// The server was told to end meanwhile.
    Ended(ExitCode),
}

/// Takes over what the database alone has. Where nothing may be sold before that, it tries until it is done.
fn reach(
    plan: &mut export::Plan,
    mut attached: Result<export::Ready, String>,
    base: &Base,
    replayed: &mut Replayed,
    journal: &JournalHandle,
    room: &waiting::Room<'_>,
) -> anyhow::Result<Reached> {
    let mut has_waited = false;
    loop {
        let taken = match attached {
            Ok(ready) => {
                room.starting.take_over()?;
                take_over(plan, ready, replayed, journal, base)?
            }
            Err(reason) => Err(reason),
        };
        let reason = match taken {
            Ok(mut alarms) => {
                alarms.extend(has_waited.then(|| Change::Ended(Reason::AwaitingDatabase).text()));
                return Ok(Reached::TakenOver(alarms));
            }
            Err(reason) => reason,
        };
        if !plan.must_wait(replayed.control()) {
            tracing::warn!("Postgres: {reason}. The sale goes on; orders are exported when it is back");
            return Ok(Reached::Away);
        }
        let late = plan.late_attach(journal.maintenance().clone());
        attached = match room.wait(base, late, reason)? {
            Ok(ready) => Ok(ready),
            Err(code) => return Ok(Reached::Ended(code)),
        };
        has_waited = true;
    }
}

/// Takes over what only the database has; the alarms that this raises. Last of all the control file learns which database it is:
/// from then on no other one will do (I12), and this log sells without it (I18). Should the process
/// end before that, the next start takes over the rest before it sells anything. The inner error: the
/// database failed meanwhile.
fn take_over(
    plan: &mut export::Plan,
    ready: export::Ready,
    replayed: &mut Replayed,
    journal: &JournalHandle,
    base: &Base,
) -> anyhow::Result<Result<Vec<String>, String>> {
    let database = ready.database();
    plan.hold(&ready);
    let alarms = match plan.preheat(ready, replayed, (&base.queue, &base.log), base.clock.now().sale)? {
        Ok(alarms) => alarms,
        Err(reason) => return Ok(Err(reason)),
    };
    let last = replayed.shards().iter().map(Shard::lsn).max().unwrap_or(Lsn::ZERO);
    let mut full_since = None;
    while base.log.durable_lsn() < last {
        recover::wait_for_room(&base.log, &mut full_since).map_err(anyhow::Error::msg)?;
    }
    journal.maintenance().set_database(database).context("cannot write the control file")?;
    Ok(Ok(alarms))
}

/// A log whose last fact lies ahead of the wall clock: by how much, and what to do.
fn skew_at_start(last: UnixMillis, begin: Begin) -> Option<String> {
    let ahead_ms = last.0.saturating_sub(wall().0);
    let ahead = show_ms(ahead_ms);
    (ahead_ms > AHEAD_MS_MAX).then(|| match begin {
        Begin::AtTheLog => format!(
            "the log's last fact lies {ahead} ahead of this machine's clock: the sale clock goes on from there, since \
             it never runs backwards. Items open and end that much early, and fresh tokens may count as expired. If \
             this machine's clock is wrong, set it right, and all is well. If the log was written while it was \
             wrong, start with --clock wall as long as this is said (docs/CONFIG.md, The clock)"
        ),
        Begin::AtTheWall => format!(
            "clock=wall: the sale clock begins {ahead} before the log's last fact; tickets and holds that had run out \
             by then may count once more"
        ),
    })
}

/// What it means that this start exports nothing although the log has a database.
fn kept_unexported(settings: &Settings, control: &Control) -> Option<String> {
    let kept_for = control.keeps_facts_for().filter(|_| settings.postgres.is_none())?;
    Some(format!(
        "no postgres.url: the log is kept for {kept_for} and nothing is exported; it grows until log.bytes_max, \
         then selling stops. Start with that database, or run `stampede detach`"
    ))
}
