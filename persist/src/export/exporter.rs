//! The exporter: a state machine; each step is one transaction at most.
//!
//! ```text
//!  Down ──connect, attach──▶ Up ──fold facts──▶ batch ──write──▶ COMMIT ──▶ reported, Up
//!   ▲                        │                    ▲     │           │
//!   └── wait (back-off) ◀────┴── connection lost ─┴─────┴───────────┘ answer to COMMIT lost:
//!                                                                     the cursor tells, at attach
//! ```
//!
//! While the database works on a batch, the next one is read (`exporter/ahead.rs`).
//! A batch is kept until its COMMIT is known; after a lost connection the cursor in the
//! database says whether it was committed. The machine has no thread and no queue of its
//! own ([`super::thread`] runs it). It never gives up on a database that is down (I18),
//! but stops for good if the database is not its own (I12, I13).
//!
//! ```text
//! exporter.rs          the steps: connect, write, what follows a failure
//! exporter/options.rs  its settings
//! exporter/fill.rs     what goes into a batch
//! exporter/ahead.rs    the next batch, read while the database works
//! exporter/deliver.rs  what follows a commit
//! exporter/progress.rs whether facts get exported
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stampede_core::types::{ItemId, Lsn};
use tokio::sync::watch;

use super::attach::{AttachError, AttachFailure, Attached, Claim, LogClaim, attach_over};
use super::backoff::Backoff;
use super::batch::Batch;
use super::error::ExportError;
use super::event::{Alarm, ExportEvent, ExportPort};
use super::ledger::Ledgers;
use super::limits::{FACTS_PER_BATCH_MAX, LEDGERS_MAX, STOCK_REST};
use super::postgres::Postgres;
use super::questions::Questions;
use super::schema::migrate_over;
use super::settle::{Replay, Touch};
use super::status::ExportStatus;
use super::store::{Connect, CursorKey, Store};
use super::while_waiting::while_waiting;
use super::write::{WriteError, WriteMode, Written, write};

mod ahead;
mod deliver;
mod fill;
mod options;
mod progress;

use ahead::BatchReader;
use progress::{Finding, Progress};

pub use options::ExporterOptions;

/// Attaching found the cursor where it was left, and yet it does not move.
const CURSOR_STUCK: &str = "the cursor in stampede_cursor does not move: a trigger, a rule or a policy of the database \
     swallows what is written; remove it, the export keeps trying";

/// The result of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A transaction was committed with this many facts (0 = stock rows alone).
    Exported(usize),
    /// Something was done; go on at once.
    Again,
    /// Everything durable is exported.
    Idle,
    /// The database is down or busy; nothing to do for this long.
    Wait(Duration),
    /// Stopped for good; the status and the last event say why.
    Stopped,
}

/// The machine. See the module's text.
pub struct Exporter<C: Connect = Postgres> {
    options: ExporterOptions<C>,
    key: CursorKey,
    port: Box<dyn ExportPort>,
    status: Arc<ExportStatus>,
    store: Option<C::Store>,
    reader: BatchReader,
    /// The last LSN that the database is known to hold; `None` before the first attach.
    position: Option<Lsn>,
    /// The end of the log at the attach. No question is asked before this is exported: up to here, the log
    /// may hold answers to the process before.
    answers_until: Lsn,
    /// If the database was empty at the attach, the end of the log at that time: up to here, facts are
    /// exported that are older than the database. Zero = it was not empty.
    history_end: Lsn,
    /// The batch to be written.
    batch: Batch,
    /// The batch was sent: it may be committed, and must not change.
    tried: bool,
    /// The batch holds a row that Postgres refuses: it is written row by row where needed.
    careful: bool,
    /// The batch's COMMIT was sent and not answered.
    unconfirmed: Option<Written>,
    ledgers: Ledgers,
    questions: Questions,
    /// Items that the engine was asked to pause, or has paused.
    pauses_requested: HashSet<ItemId>,
    /// Items whose stock row is behind the facts.
    behind: HashSet<ItemId>,
    /// Items whose import is exported in part: their stock row is not touched before its end.
    importing: HashSet<ItemId>,
    /// Items whose stock row Postgres refuses, with the time until which it is not touched.
    refused: HashMap<ItemId, Instant>,
    stock_rest_until: Option<Instant>,
    next_sweep: Instant,
    /// When to check whether this process still has the right to write.
    next_fence: Instant,
    /// How often in a row the cursor did not move.
    stuck_moves: u32,
    progress: Progress,
    backoff: Backoff,
    retry_at: Instant,
    stopped: bool,
}

impl Exporter {
    /// An exporter to Postgres that has not connected yet.
    ///
    /// # Errors
    /// [`ExportError::BadUrl`], or no memory for the runtime of its connection.
    pub fn new(
        options: ExporterOptions,
        port: Box<dyn ExportPort>,
        status: Arc<ExportStatus>,
    ) -> Result<Self, ExportError> {
        Ok(Self::over(options.with_connect(Postgres::new)?, port, status))
    }

    /// What ends a step that waits for the database, and every later one.
    pub(super) fn stopper(&self) -> watch::Sender<bool> {
        self.options.connect.stopper()
    }
}

impl<C: Connect> Exporter<C> {
    /// An exporter to any database that has not connected yet.
    pub fn over(options: ExporterOptions<C>, port: Box<dyn ExportPort>, status: Arc<ExportStatus>) -> Self {
        let now = options.connect.now();
        Self {
            key: CursorKey {
                log_id: options.log_id.to_string(),
                epoch: options.held.map_or(0, |held| held.epoch),
                nonce: options.nonce,
            },
            backoff: Backoff::new(options.seed),
            reader: BatchReader::new(options.facts_per_batch_max.min(FACTS_PER_BATCH_MAX)),
            options,
            port,
            status,
            store: None,
            position: None,
            answers_until: Lsn::ZERO,
            history_end: Lsn::ZERO,
            batch: Batch::default(),
            tried: false,
            careful: false,
            unconfirmed: None,
            ledgers: Ledgers::new(),
            questions: Questions::default(),
            pauses_requested: HashSet::new(),
            behind: HashSet::new(),
            importing: HashSet::new(),
            refused: HashMap::new(),
            stock_rest_until: None,
            next_sweep: now,
            next_fence: now,
            stuck_moves: 0,
            progress: Progress::new(),
            retry_at: now,
            stopped: false,
        }
    }

    /// Its status.
    pub fn status(&self) -> Arc<ExportStatus> {
        Arc::clone(&self.status)
    }

    /// Does one thing: connects, or writes one batch, or finds nothing to do. Blocks as long
    /// as the database takes, at most `call_wait_max` per call.
    pub fn step(&mut self) -> Step {
        if self.stopped || self.options.connect.stopping() {
            self.disconnect();
            return Step::Stopped;
        }
        // Also before the step: it may take long, and others read the status meanwhile.
        self.check_progress();
        let step = match &self.store {
            None => self.step_down(),
            Some(_) => self.step_up(),
        };
        if step != Step::Stopped {
            self.check_progress();
        }
        step
    }

    fn check_progress(&mut self) {
        let (exported, durable) = (self.status.exported_lsn(), self.port.durable_lsn());
        let finding = self.progress.look(exported, durable, self.now());
        self.status.set_stalled_since(self.progress.since());
        match finding {
            Finding::Nothing => {}
            Finding::GoesOn => tracing::info!(target: "stampede::export", "the export goes on"),
            Finding::Stalled(stalled) => {
                let reason = self.status.last_error();
                let reason = reason.unwrap_or_else(|| "Postgres has not answered yet".to_owned());
                let (seconds, waiting) = (stalled.as_secs(), durable.0 - exported.0);
                self.alarm(Alarm::Stalled { seconds, waiting, reason });
            }
        }
    }

    fn now(&self) -> Instant {
        self.options.connect.now()
    }

    fn step_down(&mut self) -> Step {
        let now = self.now();
        if now < self.retry_at {
            return Step::Wait(self.retry_at - now);
        }
        match self.connect() {
            Ok((store, attached)) => self.attached(store, attached),
            Err(AttachFailure::Refused(error)) => self.refuse(error),
            Err(AttachFailure::Database(error)) => self.fail(&error),
            Err(AttachFailure::Log(error)) => self.feed_failed(&error),
        }
    }

    fn connect(&mut self) -> Result<(C::Store, Attached), AttachFailure> {
        let claim = LogClaim {
            log_id: self.options.log_id,
            nonce: self.options.nonce,
            held: self.options.held.map(|held| Claim { left: self.position.unwrap_or(held.left), ..held }),
            first_retained: self.port.first_retained_lsn(),
            durable: self.port.durable_lsn(),
            database: self.options.database,
        };
        let mut store = self.options.connect.connect()?;
        let migrate = self.options.migrate;
        let port = &mut self.port;
        let mut chain_at = |lsn| port.open_feed(lsn)?.chain();
        let attached = self.options.connect.run(async {
            if let Some(known) = claim.database
                && store.schema_version().await? == 0
            {
                // Perhaps a backup is being restored: tables made now would be in its way.
                return Err(ExportError::Emptied { database: known }.into());
            }
            if migrate {
                migrate_over(&mut store).await?;
            }
            attach_over(&mut store, &claim, &mut chain_at).await
        })?;
        Ok((store, attached))
    }

    fn attached(&mut self, store: C::Store, attached: Attached) -> Step {
        let confirmed = self.unconfirmed.take();
        match (self.position, confirmed) {
            (None, _) => self.begin(attached.cursor),
            (Some(left), _) if left == attached.cursor => {}
            (Some(_), Some(written)) if attached.cursor == self.batch.to => self.deliver(&written),
            (Some(left), _) => self.go_on_elsewhere(left, attached.cursor),
        }
        self.status.set_wire(store.wire());
        self.store = Some(store);
        self.ledgers.clear();
        self.options.database = Some(attached.database);
        self.options.held = Some(attached.claim);
        self.key.epoch = attached.claim.epoch;
        self.status.set_connected(true);
        self.status.set_error(None);
        self.port.event(ExportEvent::Attached { database: attached.database, cursor: attached.cursor });
        Step::Again
    }

    /// The first attach of this process: the facts after the cursor come next.
    fn begin(&mut self, cursor: Lsn) {
        self.position = Some(cursor);
        self.answers_until = self.port.durable_lsn();
        self.history_end = if cursor == Lsn::ZERO { self.answers_until } else { Lsn::ZERO };
        self.batch.reset(cursor);
        self.status.set_exported(cursor);
        self.port.exported(cursor);
    }

    /// The cursor is not where this process left it, and the database holds this log's facts up to
    /// there (attaching has compared): the facts after it come next, as at a start. Everything that
    /// was read, asked and put off concerns rows that are gone.
    fn go_on_elsewhere(&mut self, left: Lsn, found: Lsn) {
        self.port.event(ExportEvent::Moved { left, found });
        self.alarm(Alarm::Moved { left, found });
        self.reader.restart_after(found);
        (self.tried, self.careful) = (false, false);
        self.questions = Questions::default();
        self.pauses_requested.clear();
        self.behind.clear();
        self.importing.clear();
        self.refused.clear();
        self.status.set_deferred(0);
        self.next_sweep = self.now();
        self.begin(found);
    }

    fn step_up(&mut self) -> Step {
        let now = self.now();
        if now < self.retry_at {
            return Step::Wait(self.retry_at - now);
        }
        if !self.tried {
            if let Err(step) = self.fill(now) {
                return step;
            }
            if self.batch.is_empty() {
                self.questions.expire(now);
                return Step::Idle;
            }
        }
        self.write(now)
    }

    fn write(&mut self, now: Instant) -> Step {
        self.refused.retain(|_, until| *until > now);
        if self.ledgers.len() > LEDGERS_MAX {
            self.ledgers.clear();
        }
        self.tried = true;
        self.reader.prepare_ahead(self.batch.to);
        let mut resting = self.importing_after_batch();
        resting.extend(self.refused.keys());
        let touch_stock = self.stock_may_be_touched(now);
        let replay = Replay {
            begins_in_history: self.batch.from < self.history_end,
            ends_in_history: self.batch.to < self.history_end,
        };
        let touch = match (touch_stock, replay.ends_in_history) {
            (false, _) => Touch::None,
            (true, true) => Touch::Ours,
            (true, false) => Touch::All,
        };
        let mode = WriteMode { careful: self.careful, touch, replay, resting: &resting };
        let store = self.store.as_mut().expect("only called while connected");
        let (key, batch, ledgers) = (&self.key, &self.batch, &mut self.ledgers);
        let (unconfirmed, reader, port) = (&mut self.unconfirmed, &mut self.reader, &mut *self.port);
        let mut ahead = || reader.read_ahead(port);
        let done = self.options.connect.run(async {
            let written = write(store, key, batch, ledgers, mode, &mut ahead).await?;
            *unconfirmed = Some(written);
            while_waiting(store.commit(), &mut ahead).await.map_err(WriteError::Database)
        });
        match done {
            Ok(()) => {
                let written = self.unconfirmed.take().expect("set before the COMMIT");
                let facts = self.batch.facts;
                self.deliver(&written);
                Step::Exported(facts)
            }
            Err(WriteError::Moved) => self.cursor_moved(),
            Err(WriteError::Database(error)) => self.write_failed(error, touch_stock, now),
        }
    }

    /// The cursor is not where it was left, or not this process's: attaching finds out which. If it is
    /// where it was left, something keeps it from moving.
    fn cursor_moved(&mut self) -> Step {
        self.stuck_moves += 1;
        if self.stuck_moves == 1 {
            self.disconnect();
            return Step::Again;
        }
        // Releases our locks, for the person who has to fix it.
        let store = self.store.as_mut().expect("it has just answered");
        let _connection_goes = self.options.connect.run(store.roll_back());
        self.disconnect();
        self.report(CURSOR_STUCK.to_owned());
        self.wait()
    }

    fn write_failed(&mut self, error: ExportError, touched_stock: bool, now: Instant) -> Step {
        self.ledgers.clear();
        if error.drops_connection() {
            return self.fail(&error);
        }
        // Postgres has answered with an error: the transaction was not committed.
        self.unconfirmed = None;
        let store = self.store.as_mut().expect("it has just answered");
        if let Err(error) = self.options.connect.run(store.roll_back()) {
            return self.fail(&error);
        }
        match error {
            ExportError::RowRefused(_) if !self.careful => {
                self.careful = true;
                Step::Again
            }
            ExportError::Locked(_) if touched_stock => {
                self.stock_rest_until = Some(now + STOCK_REST);
                Step::Again
            }
            other => {
                self.report(other.to_string());
                self.wait()
            }
        }
    }

    /// The database is down: drops the connection and waits.
    fn fail(&mut self, error: &ExportError) -> Step {
        self.disconnect();
        if matches!(error, ExportError::Stopping) {
            return Step::Stopped;
        }
        self.report(error.to_string());
        self.wait()
    }

    /// Raises an alarm if the cause is new.
    fn report(&mut self, reason: String) {
        if self.status.last_error().as_ref() != Some(&reason) {
            self.alarm(Alarm::Unreachable { reason: reason.clone() });
        }
        self.status.set_error(Some(reason));
    }

    fn wait(&mut self) -> Step {
        let wait = self.backoff.next();
        self.retry_at = self.now() + wait;
        Step::Wait(wait)
    }

    fn refuse(&mut self, error: AttachError) -> Step {
        tracing::error!(target: "stampede::export", "{error}");
        self.status.set_error(Some(error.to_string()));
        self.port.event(ExportEvent::Refused(error));
        self.stop()
    }

    fn stop(&mut self) -> Step {
        self.stopped = true;
        self.status.set_stopped();
        self.disconnect();
        Step::Stopped
    }

    fn disconnect(&mut self) {
        self.store = None;
        self.ledgers.clear();
        self.status.set_connected(false);
    }
}
