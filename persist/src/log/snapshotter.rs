//! Makes snapshots in the background: a low-priority thread replays the last snapshot and the
//! log after it into a second state. The owners never stop for it.
//!
//! It reads durable files alone, so it makes what a restart would recover. Next:
//! [`super::snapshot`] for the file, [`super::trim`] for what follows.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use stampede_core::types::{Lsn, UnixMillis};

use super::choose_snapshot::choose_snapshot;
use super::error::OpenError;
use super::maintenance::Maintenance;
use super::rebuild::Rebuild;
use super::snapshot::{SnapshotError, SnapshotHeader, SnapshotWriter, read_snapshot};
use crate::feed::{FactFeed as _, FeedError};

/// How often the thread checks whether there is something to do, in milliseconds.
const POLL_MS: u64 = 500;
/// Most of these checks that are skipped after a failure: each try replays the whole state.
const RETRY_POLLS_MAX: u32 = 16;
/// Facts replayed between two checks whether to stop.
const REPLAY_FACTS_MAX: usize = 1 << 16;
/// The thread's `nice` value.
const NICE: i32 = 10;

/// Makes an empty state.
pub(super) type Empty = Box<dyn FnMut() -> Box<dyn Rebuild> + Send>;

/// Why no snapshot was made. The log is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFailure {
    /// The snapshot before it cannot be read.
    #[error(transparent)]
    Before(#[from] OpenError),
    /// A row of the snapshot before it cannot be read or replayed.
    #[error(transparent)]
    Row(#[from] SnapshotError),
    /// The log cannot be read.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// A fact cannot be replayed.
    #[error("LSN {lsn} cannot be replayed: {reason}")]
    Refused {
        /// Which.
        lsn: Lsn,
        /// Why.
        reason: String,
    },
    /// It cannot be written.
    #[error("cannot write a snapshot: {0}; the log is kept instead")]
    Io(#[from] io::Error),
    /// The engine is stopping.
    #[error("stopped before the snapshot was done")]
    Stopped,
}

impl Maintenance {
    /// Whether the log has grown enough since the last snapshot for a new one, or is full.
    pub fn wants_snapshot(&self) -> bool {
        let last = self.status.snapshot_lsn();
        let beyond = self.index.begin_after(last) as u64;
        let of_use = self.status.durable_lsn() > last && beyond > 0;
        of_use && (beyond > self.options.snapshot_segments || self.status.is_full())
    }

    /// Makes a snapshot of everything that is durable now, out of the files, through `state`,
    /// which must be empty. Returns its LSN; if nothing is new, no new snapshot is made.
    ///
    /// # Errors
    /// See [`SnapshotFailure`].
    pub fn snapshot(&self, state: &mut dyn Rebuild) -> Result<Lsn, SnapshotFailure> {
        self.snapshot_unless(state, &|| false)
    }

    fn snapshot_unless(
        &self,
        state: &mut dyn Rebuild,
        stop: &dyn Fn() -> bool,
    ) -> Result<Lsn, SnapshotFailure> {
        let target = self.status.durable_lsn();
        if target == self.status.snapshot_lsn() {
            return Ok(target);
        }
        let control = self.control();
        let before = choose_snapshot(&*self.disk, &self.dir, &control, &mut Vec::new())?;
        let mut last_ms = UnixMillis(0);
        if let Some(lsn) = before {
            let header =
                read_snapshot(&*self.disk, &self.dir, lsn, control.log_id, &mut |row| state.row(row))?;
            last_ms = header.last_ms;
        }
        let from = before.unwrap_or(Lsn::ZERO);
        last_ms = last_ms.max(self.replay(state, from, target, stop)?);
        self.write_snapshot(state, &SnapshotHeader { log_id: control.log_id, lsn: target, last_ms })?;
        self.update_control(|control| {
            control.snapshot_lsn = target;
            control.durable_lsn = control.durable_lsn.max(target);
        })?;
        self.status.set_snapshot(target);
        Ok(target)
    }

    fn replay(
        &self,
        state: &mut dyn Rebuild,
        from: Lsn,
        to: Lsn,
        stop: &dyn Fn() -> bool,
    ) -> Result<UnixMillis, SnapshotFailure> {
        let (mut tail, mut last_ms, mut refused) = (self.tail(from), UnixMillis(0), None);
        while tail.next_lsn() <= to {
            if stop() {
                return Err(SnapshotFailure::Stopped);
            }
            tail.read(to, REPLAY_FACTS_MAX, &mut |lsn, fact| {
                last_ms = last_ms.max(fact.at_ms());
                if refused.is_none() {
                    refused = state.fact(lsn, fact).err().map(|reason| (lsn, reason));
                }
            })?;
            if let Some((lsn, reason)) = refused {
                return Err(SnapshotFailure::Refused { lsn, reason });
            }
        }
        Ok(last_ms)
    }

    fn write_snapshot(&self, state: &dyn Rebuild, header: &SnapshotHeader) -> io::Result<()> {
        let mut writer = SnapshotWriter::create(&*self.disk, &self.dir, header)?;
        let mut written = Ok(());
        state.rows(&mut |row| {
            if written.is_ok() {
                written = writer.row(&row);
            }
        });
        written?;
        writer.finish()
    }
}

/// The thread `stampede-snapshot`; ends when this is dropped.
pub(super) struct Snapshotter {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    asked: Mutex<bool>,
    wake: Condvar,
}

impl Stop {
    fn is_asked(&self) -> bool {
        *self.asked.lock()
    }
    /// Waits; returns whether to stop.
    fn wait(&self, at_most: Duration) -> bool {
        let mut asked = self.asked.lock();
        if !*asked {
            self.wake.wait_for(&mut asked, at_most);
        }
        *asked
    }
}

impl Snapshotter {
    pub(super) fn spawn(maintenance: Arc<Maintenance>, empty: Empty) -> io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let its_stop = Arc::clone(&stop);
        let named = std::thread::Builder::new().name("stampede-snapshot".to_owned());
        let thread = named.spawn(move || run(&maintenance, empty, &its_stop))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Snapshotter {
    fn drop(&mut self) {
        *self.stop.asked.lock() = true;
        self.stop.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by its own thread.
            let _ended = thread.join();
        }
    }
}

fn run(maintenance: &Maintenance, mut empty: Empty, stop: &Stop) {
    // If this is not allowed, the thread only has a higher priority than it needs.
    let _niceness = rustix::process::nice(NICE);
    let (mut pause, mut polls_left) = (1, 0);
    while !stop.wait(Duration::from_millis(POLL_MS)) {
        if polls_left > 0 {
            polls_left -= 1;
        } else if maintenance.wants_snapshot() {
            match maintenance.snapshot_unless(&mut *empty(), &|| stop.is_asked()) {
                Ok(lsn) => {
                    maintenance.status.set_snapshot_failure(None);
                    pause = 1;
                    tracing::info!(lsn = lsn.0, "snapshot made");
                }
                Err(SnapshotFailure::Stopped) => return,
                Err(error) => {
                    maintenance.status.set_snapshot_failure(Some(error.to_string()));
                    tracing::warn!(%error, "no snapshot could be made; the log is kept");
                    (polls_left, pause) = (pause, (2 * pause).min(RETRY_POLLS_MAX));
                }
            }
        }
        if let Err(error) = maintenance.trim() {
            tracing::warn!(%error, "the log could not be trimmed");
        }
    }
}
