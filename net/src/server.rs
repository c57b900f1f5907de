//! The server: opens the log, starts everything, waits for the end, stops everything in order.
//!
//! ```text
//! open + lock ─▶ recover into shards ─▶ journal ─▶ Postgres: attach, preheat ─▶ cores ─▶ exporter
//!                                                  │ down, and never seen: waiting room
//!                                                                                │
//! exit ◀─ journal: sync, mark clean ◀─ exporter: drain ◀─ cores: answer, close ◀─┘ SIGTERM
//! ```
//!
//! Every thread reports its end to one loop; if one ends that should not, the whole
//! process ends: half a server is worse than none. Next: [`recover`] and [`replay`] for the state,
//! [`export`] for Postgres, [`waiting`] for a database that was never
//! reached, [`cores`] and [`watch`] for cores and their end, [`starting`] for health checks before they run,
//! [`signals`], [`banner`] for what is printed, [`demo`] for what the demo sells.

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

/// Serves on these cores until a signal or a failure. The exit code is 0 after an orderly shutdown.
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

/// How a sale is weakened that begins without a database that this log has never seen.
const SELLS_UNSEEN: &str = "postgres.new_shop: sells although its database was never reached; what it holds may be \
                            sold once more";

/// Everything that runs.
struct Server {
    shared: Arc<Shared>,
    journal: JournalHandle,
    exporter: Option<ExporterHandle>,
}

impl Server {
    /// Recovers the state and starts the log and the exporter; the owners are for the cores. The inner error:
    /// the server was told to end while it waited for the database.
    fn prepare(
        settings: &Settings,
        mesh: Arc<Mesh>,
        events: &Sender<Event>,
        room: &waiting::Room<'_>,
    ) -> anyhow::Result<Result<(Self, Vec<Owner>), ExitCode>> {
        let cores = settings.cores.len();
        let mut replayed = Replayed::open(&settings.data_dir, &settings.log_options(), cores)?;
        let export = settings.postgres();
        let export = export.map(|postgres| export::Plan::new(&postgres, replayed.control()));
        let mut export = export.transpose()?;
        let attached = export.as_ref().map(|plan| plan.attach_now(&replayed)).transpose()?;
        let clock = SaleClock::start(replayed.last_ms(), settings.clock);
        let skew = skew_at_start(replayed.last_ms(), settings.clock);
        let Started { queue, status, journal } = start_log(&mut replayed, &mesh, events)?;
        let base = Base {
            clock,
            secret: replayed.secret(),
            log: status,
            queue: queue.clone(),
            export: export.as_ref().map(export::Plan::status),
        };
        let reached = match export.as_mut().zip(attached) {
            Some((plan, attached)) => reach(plan, attached, &base, &mut replayed, &journal, room)?,
            None => Reached::TakenOver(Vec::new()),
        };
        let (alarms, sells_unseen) = match reached {
            Reached::TakenOver(alarms) => (alarms, false),
            Reached::Away => (Vec::new(), replayed.control().database.is_none()),
            Reached::Ended(code) => {
                // The exit code tells already if the log has failed.
                if let Err(error) = journal.shutdown(LAST_STEPS) {
                    tracing::error!("{error}");
                }
                return Ok(Err(code));
            }
        };
        if settings.demo {
            demo::open_sale(&mut replayed, &queue, base.clock.now().sale);
        }
        let state = EngineState::serving(cores);
        let mut shared = base.shared(settings, replayed.catalogue().clone(), mesh, state)?;
        let kept = kept_unexported(settings, replayed.control());
        shared.weakened.extend(sells_unseen.then(|| SELLS_UNSEEN.to_owned()));
        shared.weakened.extend(kept.clone());
        shared.weakened.extend(skew.clone().filter(|_| settings.clock == Begin::AtTheWall));
        let shared = Arc::new(shared);
        alarms.into_iter().for_each(|alarm| shared.alarm(alarm));
        skew.into_iter().chain(kept).for_each(|what| shared.alarm_once(what));
        let owners = replayed.into_shards().into_iter();
        let owners = owners.map(|shard| Owner::new(shard, queue.producer(), shared.clone())).collect();
        let exporter = export.map(|plan| plan.start(shared.clone(), journal.maintenance().clone()));
        Ok(Ok((Self { shared, journal, exporter: exporter.transpose()? }, owners)))
    }

    /// Waits for a signal or a failure, and shuts down in order.
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
        tracing::info!("stopping: no new purchases, answering open requests");
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

    /// Reports that it is not ready, and goes on selling until a load balancer must have noticed.
    fn be_a_lame_duck(&self, settings: &Settings, inbox: &Receiver<Event>) -> Result<(), ExitCode> {
        let during = Duration::from_millis(settings.shutdown.lame_duck_ms);
        if during.is_zero() {
            return Ok(());
        }
        tracing::info!(
            lame_duck_ms = settings.shutdown.lame_duck_ms,
            "stopping: not ready any more, so that a load balancer sends new requests elsewhere; still selling"
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

    /// Gives the exporter the rest of the deadline to bring Postgres up to date.
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
            tracing::warn!(facts = left, "Postgres is not up to date; the next start continues the export");
        }
        if let Err(panic) = exporter.stop() {
            tracing::error!("the exporter had panicked: {panic}");
        }
    }
}

/// Starts the journal, which wakes all cores when facts become durable, and the thread that makes snapshots.
fn start_log(replayed: &mut Replayed, mesh: &Mesh, events: &Sender<Event>) -> anyhow::Result<Started> {
    let (cores, secret, events) = (mesh.cores(), replayed.secret(), events.clone());
    let on_failure = move |reason: &str| drop(events.send(Event::LogFailed(reason.to_owned())));
    let wakers = mesh.wakers().iter().map(|waker| {
        let waker = waker.clone();
        Arc::new(move || waker.wake()) as Arc<dyn Fn() + Send + Sync>
    });
    let mut started = replayed.start_log(wakers.collect(), on_failure)?;
    let empty = move || replay::empty(cores, secret);
    started.journal.start_snapshotter(empty).context("cannot start the snapshot thread")?;
    Ok(started)
}

/// The outcome of connecting to the database before the sale.
enum Reached {
    /// What only the database had is taken over; with the alarms that this raised.
    TakenOver(Vec<String>),
    /// It is down; the sale begins without it.
    Away,
    /// The server was told to end meanwhile.
    Ended(ExitCode),
}

/// Takes over what only the database has. Where nothing may be sold before that, it tries until it succeeds.
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
            tracing::warn!(
                "Postgres: {reason}. The sale goes on; orders are exported once the database is back"
            );
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

/// Takes over what only the database has; returns the alarms that this raises. Only at the end the control
/// file records which database it is: from then on no other is accepted (I12), and this log sells while it is
/// down (I18). If the process ends earlier, the next start takes over the rest before it sells anything. The
/// inner error: the database failed meanwhile.
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

/// By how much the log's last fact lies ahead of the wall clock, and what to do about it; `None` if it does not.
fn skew_at_start(last: UnixMillis, begin: Begin) -> Option<String> {
    let ahead_ms = last.0.saturating_sub(wall().0);
    let ahead = show_ms(ahead_ms);
    (ahead_ms > AHEAD_MS_MAX).then(|| match begin {
        Begin::AtTheLog => format!(
            "the log's last fact lies {ahead} ahead of this machine's clock: the sale clock goes on from there, since \
             it never runs backwards. Items open and end that much early, and fresh tokens may count as expired. If \
             this machine's clock is wrong, correct it. If the clock was wrong when the log was written, start with \
             --clock wall until this alarm is gone (docs/CONFIG.md, The clock)"
        ),
        Begin::AtTheWall => format!(
            "clock=wall: the sale clock begins {ahead} before the log's last fact; tickets and holds that had expired \
             by then may be valid again"
        ),
    })
}

/// What it means that this start exports nothing although the log belongs to a database.
fn kept_unexported(settings: &Settings, control: &Control) -> Option<String> {
    let kept_for = control.keeps_facts_for().filter(|_| settings.postgres().is_none())?;
    Some(format!(
        "no postgres.url: the log is kept for {kept_for} and nothing is exported; it grows until log.bytes_max, \
         then selling stops. Start with that database, or run `stampede detach`"
    ))
}
