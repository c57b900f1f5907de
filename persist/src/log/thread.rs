//! The threads around the log: `stampede-journal` and `stampede-spares`.
//!
//! Thin loops; the work is in [`super::journal`] and [`super::segment_pool`]. When the
//! journal fails or panics, the process is told once and the thread ends for good.
//! Next: [`super::snapshotter`] for the third thread.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use stampede_core::types::Lsn;

use super::journal::{Journal, Step};
use super::lag::ControlLag;
use super::limits::IDLE_MS_MIN;
use super::maintenance::Maintenance;
use super::queue::FactQueue;
use super::rebuild::Rebuild;
use super::snapshotter::Snapshotter;
use super::status::LogStatus;
use super::stepped::{DirLock, Stepped};
use super::tail::LogTail;

/// Longest sleep of the journal when there is nothing to write, in milliseconds.
const PARK_MS_MAX: u64 = 1000;
/// How often the thread `stampede-spares` checks the free space, in milliseconds.
const POLL_MS: u64 = 500;

/// Called once with the reason when the log fails.
pub(super) type OnFailure = Box<dyn FnOnce(&str) + Send>;

/// How the journal's thread has to stop: zero = not, else [`DRAIN`] or [`ABANDON`]. Written by the
/// handle (Release), read by the thread (Acquire): it sees what the handle did before.
#[derive(Debug, Default)]
struct StopSignal(AtomicU8);

const DRAIN: u8 = 1;
const ABANDON: u8 = 2;

/// Why a shutdown was not clean.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// Facts were still queued at the deadline.
    #[error("{waiting} facts were not durable when the deadline came; the next start recovers what is")]
    Deadline {
        /// How many.
        waiting: usize,
    },
    /// The log has failed.
    #[error("the log failed: {0}")]
    Failed(String),
}

/// A running log's threads. Dropping it without [`JournalHandle::shutdown`] stops them as a crash would.
pub struct JournalHandle {
    stop: Arc<StopSignal>,
    queue: Arc<FactQueue>,
    status: Arc<LogStatus>,
    maintenance: Arc<Maintenance>,
    snapshotter: Option<Snapshotter>,
    journal: Option<JoinHandle<()>>,
    spares: Option<JoinHandle<()>>,
    _lock: DirLock,
}

impl std::fmt::Debug for JournalHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalHandle").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl JournalHandle {
    pub(super) fn spawn(stepped: Stepped, on_failure: OnFailure) -> io::Result<Self> {
        let Stepped { journal, maintenance, queue, status, lock } = stepped;
        let stop = Arc::new(StopSignal::default());
        let (its_stop, named) = (Arc::clone(&stop), std::thread::Builder::new());
        let journal_thread = named
            .name("stampede-journal".to_owned())
            .spawn(move || guard_journal(journal, &its_stop, on_failure))?;
        let (for_spares, named) = (Arc::clone(&maintenance), std::thread::Builder::new());
        let spares = named.name("stampede-spares".to_owned()).spawn(move || make_spares(&for_spares))?;
        Ok(Self {
            stop,
            queue,
            status,
            maintenance,
            snapshotter: None,
            journal: Some(journal_thread),
            spares: Some(spares),
            _lock: lock,
        })
    }

    /// Where facts go in.
    pub fn queue(&self) -> &Arc<FactQueue> {
        &self.queue
    }
    /// How far it has come.
    pub fn status(&self) -> &Arc<LogStatus> {
        &self.status
    }
    /// Snapshots, trimming, the control file.
    pub fn maintenance(&self) -> &Arc<Maintenance> {
        &self.maintenance
    }
    /// A reader of durable facts that begins after this LSN; see [`LogTail`].
    pub fn tail(&self, after: Lsn) -> LogTail {
        self.maintenance.tail(after)
    }

    /// Starts the thread that makes snapshots and trims. `empty` makes an empty state, into which a
    /// snapshot and the facts after it are replayed.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start_snapshotter(
        &mut self,
        empty: impl FnMut() -> Box<dyn Rebuild> + Send + 'static,
    ) -> io::Result<()> {
        self.snapshotter = Some(Snapshotter::spawn(Arc::clone(&self.maintenance), Box::new(empty))?);
        Ok(())
    }

    /// Writes what is queued, marks the directory clean, and ends the threads. The caller must make
    /// sure that nobody appends any more.
    ///
    /// # Errors
    /// See [`ShutdownError`]; the threads have ended even then, unless a write hangs.
    pub fn shutdown(mut self, within: Duration) -> Result<(), ShutdownError> {
        self.snapshotter = None;
        let deadline = Instant::now() + within;
        self.signal(DRAIN);
        while !self.journal_has_ended() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if !self.journal_has_ended() {
            return Err(ShutdownError::Deadline { waiting: self.queue.len() });
        }
        match self.status.failure() {
            Some(reason) => Err(ShutdownError::Failed(reason.to_owned())),
            None => Ok(()),
        }
    }

    fn journal_has_ended(&self) -> bool {
        self.journal.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn signal(&self, what: u8) {
        self.stop.0.store(what, Ordering::Release);
        self.queue.unpark();
    }
}

impl Drop for JournalHandle {
    fn drop(&mut self) {
        self.snapshotter = None;
        self.signal(ABANDON);
        self.maintenance.pool.close();
        for thread in [self.journal.take(), self.spares.take()].into_iter().flatten() {
            // A panic has been reported by its own thread.
            let _ended = thread.join();
        }
    }
}

fn guard_journal(mut journal: Journal, stop: &StopSignal, on_failure: OnFailure) {
    let status = Arc::clone(&journal.status);
    if catch_unwind(AssertUnwindSafe(|| run_journal(&mut journal, stop))).is_err() {
        status.fail("the journal thread panicked".to_owned());
    }
    if let Some(reason) = status.failure() {
        tracing::error!(reason, "the log has failed; nothing more is sold");
        on_failure(reason);
    }
}

fn run_journal(journal: &mut Journal, stop: &StopSignal) {
    let queue = Arc::clone(&journal.queue);
    let (begin, mut lag) = (Instant::now(), ControlLag::default());
    loop {
        let before = begin.elapsed();
        let step = journal.step();
        let now = begin.elapsed();
        match step {
            Step::Wrote { .. } => {
                journal.status.count_sync((now - before).as_micros() as u64);
                lag.group_written(now);
            }
            Step::Failed => return,
            Step::Idle if stop.0.load(Ordering::Acquire) == DRAIN && queue.is_empty() => {
                journal.write_control(true);
                return;
            }
            Step::Idle | Step::NeedsSegment => {}
        }
        let left = lag.time_left(now);
        if left == Some(Duration::ZERO) {
            journal.write_control(false);
            lag.control_written();
        } else if !matches!(step, Step::Wrote { .. }) {
            // A new spare unparks this thread; owners see a full log until then.
            let most = if step == Step::NeedsSegment { IDLE_MS_MIN } else { PARK_MS_MAX };
            queue.park(left.unwrap_or(Duration::MAX).min(Duration::from_millis(most)));
        }
        if stop.0.load(Ordering::Acquire) == ABANDON {
            return;
        }
    }
}

fn make_spares(maintenance: &Maintenance) {
    let mut told = false;
    loop {
        let closed = match maintenance.prepare_spare() {
            Ok(true) => {
                told = false;
                false
            }
            Ok(false) => maintenance.pool.wait(Duration::from_millis(POLL_MS)),
            Err(error) => {
                if !told {
                    tracing::warn!(%error, "no spare segment could be made; trying again");
                }
                told = true;
                maintenance.pool.wait(Duration::from_millis(POLL_MS))
            }
        };
        if closed {
            return;
        }
    }
}
