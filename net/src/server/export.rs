//! Postgres, from the server's side: attaching before the sale, preheating, and the exporter's interface
//! to the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use stampede_core::fact::Switch;
use stampede_core::types::{Lsn, UnixMillis};
use stampede_persist::export::attach::ChainAt;
use stampede_persist::export::store::Connect;
use stampede_persist::export::{
    AttachError, Attached, ConnectOptions, Database, DatabaseId, ExportEvent, ExportPort, ExportStatus,
    Exporter, ExporterHandle, ExporterOptions, LogClaim, Nonce, Postgres, PreheatError, PreheatReport,
    PreheatSink, attach, migrate, preheat,
};
use stampede_persist::feed::{FactFeed, FeedError};
use stampede_persist::log::control::Control;
use stampede_persist::log::maintenance::Maintenance;
use stampede_persist::log::queue::FactQueue;
use stampede_persist::log::status::LogStatus;

use super::recover::{Intake, Replayed};
use crate::engine::ask::{Key, RareAsk, Who};
use crate::engine::shared::Shared;
use crate::settings::PostgresSettings;

/// The export before it runs.
pub(super) struct Plan {
    options: ExporterOptions,
    status: Arc<ExportStatus>,
    new_shop: bool,
}

/// Sorts the result of an attempt: attached, down (the inner error), or a database that must not be used.
pub(super) fn sort_attempt(attempt: Result<Ready, AttachError>) -> anyhow::Result<Result<Ready, String>> {
    match attempt {
        Ok(ready) => Ok(Ok(ready)),
        Err(AttachError::Database(reason)) => Ok(Err(reason)),
        Err(refused) => Err(refused).context("this database must not be used with this log"),
    }
}

/// An attached connection, before the sale.
pub struct Ready<C: Connect = Postgres> {
    database: Database<C>,
    attached: Attached,
}

/// Claims a database for a recovered log, before anything is sold.
///
/// # Errors
/// See [`AttachError`]; the database is then as it was, but for its tables.
pub fn attach_before_sale<C: Connect>(
    database: Database<C>,
    replayed: &Replayed,
    nonce: Nonce,
) -> Result<Ready<C>, AttachError> {
    let claim = claim(replayed.control(), replayed.durable(), nonce);
    attach_claiming(database, &claim, &mut |lsn| replayed.chain_at(lsn))
}

/// The claim of a process that was not attached before.
fn claim(control: &Control, durable: Lsn, nonce: Nonce) -> LogClaim {
    let database = control.database.map(DatabaseId);
    LogClaim {
        log_id: control.log_id,
        nonce,
        held: None,
        first_retained: control.first_lsn,
        durable,
        database,
    }
}

fn attach_claiming<C: Connect>(
    mut database: Database<C>,
    claim: &LogClaim,
    chain_at: ChainAt<'_>,
) -> Result<Ready<C>, AttachError> {
    migrate(&mut database)?;
    let attached = attach(&mut database, claim, chain_at)?;
    Ok(Ready { database, attached })
}

/// What attaching needs while the log runs and nothing is sold yet, for repeated attempts.
pub(super) struct LateAttach {
    connect: ConnectOptions,
    nonce: Nonce,
    maintenance: Arc<Maintenance>,
}

impl LateAttach {
    /// One attempt.
    pub(super) fn try_attach(&self) -> Result<Ready, AttachError> {
        attach_late(connect(&self.connect)?, &self.maintenance, self.nonce)
    }
}

/// As [`attach_before_sale`], for a log that runs already and sells nothing yet.
///
/// # Errors
/// See [`AttachError`].
pub fn attach_late<C: Connect>(
    database: Database<C>,
    log: &Maintenance,
    nonce: Nonce,
) -> Result<Ready<C>, AttachError> {
    let claim = claim(&log.control(), log.status().durable_lsn(), nonce);
    attach_claiming(database, &claim, &mut |lsn| log.tail(lsn).chain())
}

/// Whether nothing may be sold before the database is reached: it may hold items and orders that this log
/// does not know. A log that has taken them over sells without the database (I18).
pub fn must_wait(control: &Control, new_shop: bool) -> bool {
    control.database.is_none() && !new_shop
}

fn connect(options: &ConnectOptions) -> Result<Database, AttachError> {
    Database::connect(options).map_err(|error| AttachError::Database(error.to_string()))
}

impl<C: Connect> Ready<C> {
    /// Which database it is, for the control file.
    pub fn database(&self) -> [u8; 16] {
        self.attached.database.0
    }

    /// Takes over what is only in the database.
    ///
    /// # Errors
    /// See [`PreheatError`]; the next start continues.
    pub fn preheat(
        self,
        replayed: &mut Replayed,
        (queue, log): (&Arc<FactQueue>, &LogStatus),
        now: UnixMillis,
    ) -> Result<PreheatReport, PreheatError> {
        self.preheat_into(&mut Intake::new(replayed, queue, log), now)
    }

    /// The same into any sink.
    ///
    /// # Errors
    /// See [`PreheatError`].
    pub fn preheat_into(
        mut self,
        sink: &mut dyn PreheatSink,
        now: UnixMillis,
    ) -> Result<PreheatReport, PreheatError> {
        preheat(&mut self.database, &self.attached, now, sink)
    }
}

impl Plan {
    pub(super) fn new(postgres: &PostgresSettings, control: &Control) -> anyhow::Result<Self> {
        let mut drawn = [0; 16];
        getrandom::fill(&mut drawn).context("the system gives no random bytes")?;
        let nonce = Nonce::new(u128::from_be_bytes(drawn));
        let mut options = ExporterOptions::new(postgres.url.reveal(), control.log_id, nonce);
        options.database = control.database.map(DatabaseId);
        if postgres.new_shop && control.database.is_some() {
            tracing::warn!(
                "postgres.new_shop has no effect any more, since this data directory was attached to its database; remove it"
            );
        }
        Ok(Self { options, status: Arc::default(), new_shop: postgres.new_shop })
    }

    pub(super) fn status(&self) -> Arc<ExportStatus> {
        self.status.clone()
    }

    /// Attaches, if the database can be reached; the inner error says why it cannot. A database that
    /// does not belong to this log is refused (I12).
    pub(super) fn attach_now(&self, replayed: &Replayed) -> anyhow::Result<Result<Ready, String>> {
        let attempt = connect(&self.options.connect);
        if let Ok(database) = &attempt {
            self.status.set_wire(database.wire());
        }
        sort_attempt(attempt.and_then(|database| attach_before_sale(database, replayed, self.options.nonce)))
    }

    /// See [`must_wait`].
    pub(super) fn must_wait(&self, control: &Control) -> bool {
        must_wait(control, self.new_shop)
    }

    /// For attempts while the log runs already.
    pub(super) fn late_attach(&self, maintenance: Arc<Maintenance>) -> LateAttach {
        LateAttach { connect: self.options.connect.clone(), nonce: self.options.nonce, maintenance }
    }

    /// This process is attached: its exporter continues under the same epoch.
    pub(super) fn hold(&mut self, ready: &Ready) {
        self.options.held = Some(ready.attached.claim);
    }

    /// Takes over what is only in Postgres, before the first request. Returns alarms about rows that were left
    /// alone; the inner error: the database failed meanwhile, and what was taken over stays.
    pub(super) fn preheat(
        &self,
        ready: Ready,
        replayed: &mut Replayed,
        log: (&Arc<FactQueue>, &LogStatus),
        now: UnixMillis,
    ) -> anyhow::Result<Result<Vec<String>, String>> {
        let report = match ready.preheat(replayed, log, now) {
            Ok(report) => report,
            Err(PreheatError::Database(error)) => {
                return Ok(Err(format!("what only the database has cannot be read: {error}")));
            }
            Err(error) => return Err(error).context("items in Postgres could not be taken over"),
        };
        tracing::info!(
            items = report.items,
            orders = report.orders,
            blocked = report.blocked,
            "preheated from Postgres"
        );
        let mut alarms: Vec<String> = report.left.iter().map(ToString::to_string).collect();
        let more = report.left_total - report.left.len() as u64;
        alarms.extend((more > 0).then(|| format!("{more} more rows in Postgres are not taken over")));
        Ok(Ok(alarms))
    }

    /// Starts the exporter's thread.
    pub(super) fn start(
        self,
        shared: Arc<Shared>,
        maintenance: Arc<Maintenance>,
    ) -> anyhow::Result<ExporterHandle> {
        let port = Box::new(Port::new(shared, maintenance));
        let exporter = Exporter::new(self.options, port, self.status)?;
        ExporterHandle::start(exporter).context("cannot start the exporter's thread")
    }
}

/// The engine as the exporter sees it.
pub struct Port {
    shared: Arc<Shared>,
    maintenance: Arc<Maintenance>,
    exported: Arc<AtomicU64>,
}

impl ExportPort for Port {
    fn durable_lsn(&self) -> Lsn {
        self.shared.log.durable_lsn()
    }

    fn first_retained_lsn(&self) -> Lsn {
        self.shared.log.first_retained_lsn()
    }

    fn open_feed(&mut self, after: Lsn) -> Result<Box<dyn FactFeed + Send>, FeedError> {
        Ok(Box::new(self.maintenance.tail(after)))
    }

    fn exported(&mut self, lsn: Lsn) {
        self.exported.store(lsn.0, Ordering::Release);
    }

    fn event(&mut self, event: ExportEvent) {
        let mesh = &self.shared.mesh;
        match event {
            ExportEvent::Attached { database, cursor } => {
                tracing::info!(cursor = cursor.0, "exporting to Postgres");
                if let Err(error) = self.maintenance.set_database(database.0) {
                    self.alarm(format!("the control file cannot be written: {error}"));
                }
            }
            // At once: facts that the database lacks again must stay in the log.
            ExportEvent::Moved { found, .. } => self.exported(found),
            ExportEvent::StockChangedOutside { item, delta, seen_version, as_of } => {
                self.alarm(format!(
                    "stock row {item} was changed by {delta} units outside (version {seen_version})"
                ));
                mesh.ask_from_outside(
                    item.owner(mesh.cores()),
                    RareAsk::FollowPostgres { item, delta, as_of },
                );
            }
            ExportEvent::PauseItem { item, reason } => {
                self.alarm(format!("item {item} is paused: {reason}"));
                let pause = RareAsk::SwitchItem(item, Switch::Paused, Who::Postgres, Key::none());
                mesh.ask_from_outside(item.owner(mesh.cores()), pause);
            }
            ExportEvent::Alarm(alarm) => self.alarm(alarm.to_string()),
            ExportEvent::Refused(error) => self.stop_selling(error.to_string()),
            ExportEvent::FeedLost { reason } => self.stop_selling(reason),
        }
    }
}

impl Port {
    /// The port of a running engine.
    pub fn new(shared: Arc<Shared>, maintenance: Arc<Maintenance>) -> Self {
        let exported = shared.log.exported_watermark();
        Self { shared, maintenance, exported }
    }

    fn alarm(&self, text: String) {
        tracing::warn!("alarm: {text}");
        self.shared.alarm(text);
    }

    /// The watch announces it.
    fn stop_selling(&self, reason: String) {
        self.shared.stop_selling(reason);
    }
}
