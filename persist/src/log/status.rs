//! How far the log has come, for everybody to read: a handful of atomics.
//!
//! Nothing here decides anything. Each number says who writes it, who reads it, and
//! why its ordering suffices. Next: [`super::journal`], its main writer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use stampede_core::types::Lsn;

/// The log's watermarks and figures.
#[derive(Debug, Default)]
pub struct LogStatus {
    /// Written by the journal after a group's sync has returned (Release: the group's bytes come
    /// first), read by homes before they answer and by tails (Acquire).
    durable: Arc<AtomicU64>,
    /// Written by the exporter after Postgres has committed (Release), read by the trimmer (Acquire).
    exported: Arc<AtomicU64>,
    /// Written by the snapshotter after the directory's sync (Release), read by the trimmer and for
    /// display (Acquire).
    snapshot: AtomicU64,
    /// Written by the trimmer after the control file's sync (Release), read by the exporter and for
    /// display (Acquire).
    first_retained: AtomicU64,
    /// Written by the journal, read by owners before they decide a purchase. Relaxed: the reserve
    /// has room for an owner that sees it late.
    accepting: AtomicBool,
    /// Written by the thread that makes spares, read by the journal. Relaxed: a figure of its own.
    disk_low: AtomicBool,
    /// Written once by the journal (the cell synchronises), read by everybody.
    failed: OnceLock<String>,
    /// Whether the last snapshot failed, and why. Written by the snapshotter under the lock of the
    /// text; frequent readers read the flag alone (Relaxed: the text has its lock).
    snapshots_fail: AtomicBool,
    snapshot_failure: Mutex<Option<String>>,
    /// Figures for display. Each is written by one thread (named in its method) and read by any; Relaxed.
    figures: Figures,
}

#[derive(Debug, Default)]
struct Figures {
    groups: AtomicU64,
    facts: AtomicU64,
    bytes_written: AtomicU64,
    disk_bytes: AtomicU64,
    room_bytes: AtomicU64,
    sync_us_max: AtomicU64,
    sync_us_sum: AtomicU64,
    times_full: AtomicU64,
}

impl LogStatus {
    /// The status of a log that was recovered up to `durable`.
    pub(super) fn recovered(durable: Lsn, snapshot: Lsn, first_retained: Lsn) -> Self {
        let status = Self::default();
        status.durable.store(durable.0, Ordering::Release);
        status.snapshot.store(snapshot.0, Ordering::Release);
        status.first_retained.store(first_retained.0, Ordering::Release);
        status
    }

    /// The highest LSN whose sync has returned.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }
    /// The same number to be shared; only the journal writes it.
    pub fn durable_watermark(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.durable)
    }
    pub(super) fn set_durable(&self, lsn: Lsn) {
        self.durable.store(lsn.0, Ordering::Release);
    }

    /// The highest LSN that Postgres is known to hold; zero without Postgres.
    pub fn exported_lsn(&self) -> Lsn {
        Lsn(self.exported.load(Ordering::Acquire))
    }
    /// The same number to be shared; the exporter writes it (Release).
    pub fn exported_watermark(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.exported)
    }

    /// The LSN of the newest durable snapshot; zero = none.
    pub fn snapshot_lsn(&self) -> Lsn {
        Lsn(self.snapshot.load(Ordering::Acquire))
    }
    pub(super) fn set_snapshot(&self, lsn: Lsn) {
        self.snapshot.store(lsn.0, Ordering::Release);
    }

    /// Whether the last snapshot failed, so that the log only grows.
    pub fn snapshots_fail(&self) -> bool {
        self.snapshots_fail.load(Ordering::Relaxed)
    }
    /// Why the last snapshot failed, if it did.
    pub fn snapshot_failure(&self) -> Option<String> {
        self.snapshots_fail().then(|| self.snapshot_failure.lock().clone()).flatten()
    }
    pub(super) fn set_snapshot_failure(&self, failure: Option<String>) {
        let mut kept = self.snapshot_failure.lock();
        self.snapshots_fail.store(failure.is_some(), Ordering::Relaxed);
        *kept = failure;
    }

    /// The first LSN that the log still holds, or will hold when it is empty.
    pub fn first_retained_lsn(&self) -> Lsn {
        Lsn(self.first_retained.load(Ordering::Acquire))
    }
    pub(super) fn set_first_retained(&self, lsn: Lsn) {
        self.first_retained.store(lsn.0, Ordering::Release);
    }

    /// Whether purchases may be accepted. False when the log has failed; and false when room gets
    /// short, while everything queued still fits: owners then answer 503 `log_full`.
    pub fn accepting(&self) -> bool {
        self.accepting.load(Ordering::Relaxed)
    }
    /// Whether it refuses because space on the disk or in the budget is short.
    pub fn is_full(&self) -> bool {
        !self.accepting() && self.failure().is_none()
    }
    /// How often it has stopped accepting since the start. Written by the journal.
    pub fn times_full(&self) -> u64 {
        self.figures.times_full.load(Ordering::Relaxed)
    }
    pub(super) fn set_accepting(&self, accepting: bool) {
        if self.accepting.swap(accepting, Ordering::Relaxed) && !accepting {
            self.figures.times_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the file system's free space is under the reserve.
    pub fn disk_low(&self) -> bool {
        self.disk_low.load(Ordering::Relaxed)
    }
    pub(super) fn set_disk_low(&self, low: bool) {
        self.disk_low.store(low, Ordering::Relaxed);
    }

    /// Why the log has stopped for good, if it has.
    pub fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }
    pub(super) fn fail(&self, reason: String) {
        // Stored directly, since this does not count as full.
        self.accepting.store(false, Ordering::Relaxed);
        let _first_reason_stays = self.failed.set(reason);
    }

    /// Groups written since the start. Written by the journal.
    pub fn groups(&self) -> u64 {
        self.figures.groups.load(Ordering::Relaxed)
    }
    /// Facts written since the start. Written by the journal.
    pub fn facts(&self) -> u64 {
        self.figures.facts.load(Ordering::Relaxed)
    }
    /// Bytes written since the start, padding included. Written by the journal.
    pub fn bytes_written(&self) -> u64 {
        self.figures.bytes_written.load(Ordering::Relaxed)
    }
    /// Bytes of all segment files, spares included. Written under the pool's lock.
    pub fn disk_bytes(&self) -> u64 {
        self.figures.disk_bytes.load(Ordering::Relaxed)
    }
    /// Bytes that may still be written without a new segment. Written by the journal.
    pub fn room_bytes(&self) -> u64 {
        self.figures.room_bytes.load(Ordering::Relaxed)
    }
    /// Longest write-and-sync since the start, in microseconds. Written by the journal's thread.
    pub fn sync_us_max(&self) -> u64 {
        self.figures.sync_us_max.load(Ordering::Relaxed)
    }
    /// Total time of write-and-sync since the start, in microseconds. Written by the journal's thread.
    pub fn sync_us_sum(&self) -> u64 {
        self.figures.sync_us_sum.load(Ordering::Relaxed)
    }

    pub(super) fn count_group(&self, facts: u64, bytes: u64) {
        self.figures.groups.fetch_add(1, Ordering::Relaxed);
        self.figures.facts.fetch_add(facts, Ordering::Relaxed);
        self.figures.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }
    pub(super) fn count_sync(&self, took_us: u64) {
        self.figures.sync_us_max.fetch_max(took_us, Ordering::Relaxed);
        self.figures.sync_us_sum.fetch_add(took_us, Ordering::Relaxed);
    }
    pub(super) fn set_disk_bytes(&self, bytes: u64) {
        self.figures.disk_bytes.store(bytes, Ordering::Relaxed);
    }
    pub(super) fn set_room_bytes(&self, bytes: u64) {
        self.figures.room_bytes.store(bytes, Ordering::Relaxed);
    }
}
