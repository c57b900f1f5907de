//! Spare segments, made ahead, so that no answer waits until the journal has zero-filled one.
//!
//! The thread `stampede-spares` calls [`SegmentPool::prepare`]; the journal takes a spare
//! when its segment is full. The disk budget and the free-space reserve are kept here: no
//! spare, and so no new room, is made beyond them. A spare whose making failed is removed,
//! never used. Next: [`super::journal`].

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::layout;
use super::segment::{create_segment, recycle_segment};
use super::status::LogStatus;
use crate::disk::{Disk, DiskFile, remove_if_there};

/// The limits of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolLimits {
    /// The size of each segment.
    pub(super) segment_bytes: u64,
    /// Spares kept ready.
    pub(super) spares: usize,
    /// Most spares kept when trimmed segments are recycled.
    pub(super) spares_max: usize,
    /// Most bytes of all segments.
    pub(super) log_bytes_max: u64,
    /// Free space below which no spare is made and nothing sold.
    pub(super) free_bytes_min: u64,
}

/// A segment ready for its first block.
pub(super) struct Spare {
    pub(super) number: u64,
    pub(super) file: Box<dyn DiskFile>,
}

pub(super) struct SegmentPool {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limits: PoolLimits,
    status: Arc<LogStatus>,
    state: Mutex<PoolState>,
    /// Signals that a spare was taken or a segment recycled, or that the pool is closed.
    changed: Condvar,
}

struct PoolState {
    ready: VecDeque<Spare>,
    /// Whether a spare is being made right now, outside the lock.
    making: bool,
    /// Segments that hold blocks, the active one included.
    in_use: u64,
    next_number: u64,
    closed: bool,
    /// Trimmed segments that could not be recycled or removed; they count as in use.
    trimmed: Vec<Trimmed>,
}

/// A trimmed segment whose file still takes space.
struct Trimmed {
    number: u64,
    /// Recycling it as the spare with this number failed: it may have that name by now.
    spoiled: Option<u64>,
}

/// What [`SegmentPool::prepare`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Prepared {
    /// Made one spare.
    One,
    /// There are enough.
    Enough,
    /// The budget or the disk allows no more.
    Full,
}

impl SegmentPool {
    /// A pool with the spares `ready`; `in_use` segments hold blocks.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        limits: PoolLimits,
        status: Arc<LogStatus>,
        ready: VecDeque<Spare>,
        in_use: u64,
        next_number: u64,
    ) -> Self {
        let state =
            PoolState { ready, making: false, in_use, next_number, closed: false, trimmed: Vec::new() };
        let pool = Self { disk, dir, limits, status, state: Mutex::new(state), changed: Condvar::new() };
        pool.report(&pool.state.lock());
        pool
    }

    fn report(&self, state: &PoolState) {
        let segments = state.in_use + state.ready.len() as u64;
        self.status.set_disk_bytes(segments * self.limits.segment_bytes);
    }

    /// Bytes of the spares that are ready.
    pub(super) fn ready_bytes(&self) -> u64 {
        self.state.lock().ready.len() as u64 * self.limits.segment_bytes
    }

    /// Takes the next segment, which from now on counts as in use.
    pub(super) fn take(&self) -> Option<Spare> {
        let mut state = self.state.lock();
        let spare = state.ready.pop_front()?;
        state.in_use += 1;
        self.report(&state);
        self.changed.notify_all();
        Some(spare)
    }

    /// Checks the free space and makes at most one spare. Takes as long as zero-filling a
    /// segment; the journal does not wait for it.
    ///
    /// # Errors
    /// What the file system answers; the log is not affected, and the next call tries again.
    pub(super) fn prepare(&self) -> io::Result<Prepared> {
        let free = self.disk.free_bytes(&self.dir)?;
        self.status.set_disk_low(free < self.limits.free_bytes_min);
        let number = match self.reserve_number(free) {
            Ok(number) => number,
            Err(why_not) => return Ok(why_not),
        };
        let made = create_segment(&*self.disk, &self.dir, number, self.limits.segment_bytes);
        let mut state = self.state.lock();
        state.making = false;
        match made {
            Ok(file) => {
                state.next_number = number + 1;
                state.ready.push_back(Spare { number, file });
                self.report(&state);
                Ok(Prepared::One)
            }
            Err(error) => Err(error),
        }
    }

    fn reserve_number(&self, free: u64) -> Result<u64, Prepared> {
        let mut state = self.state.lock();
        if state.ready.len() >= self.limits.spares || state.making || state.closed {
            return Err(Prepared::Enough);
        }
        let after = (state.in_use + state.ready.len() as u64 + 1) * self.limits.segment_bytes;
        if after > self.limits.log_bytes_max || free < self.limits.free_bytes_min + self.limits.segment_bytes
        {
            return Err(Prepared::Full);
        }
        state.making = true;
        Ok(state.next_number)
    }

    /// Recycles trimmed segments, and those for which it failed before: each becomes a spare if the pool has
    /// room for it, otherwise its file is removed. A segment that fails counts as in use, since its file takes
    /// space, and is tried again with the next call. A spare takes as long as zero-filling a segment; the
    /// journal does not wait for it.
    ///
    /// # Errors
    /// The first error of the file system; all segments were tried.
    pub(super) fn recycle(&self, gone: &[u64]) -> io::Result<()> {
        let mut waiting = std::mem::take(&mut self.state.lock().trimmed);
        waiting.extend(gone.iter().map(|number| Trimmed { number: *number, spoiled: None }));
        let mut all = Ok(());
        for mut trimmed in waiting {
            let done = self.recycle_one(&mut trimmed);
            if done.is_err() {
                self.state.lock().trimmed.push(trimmed);
            }
            all = all.and(done);
        }
        all
    }

    fn recycle_one(&self, trimmed: &mut Trimmed) -> io::Result<()> {
        if let Some(to) = trimmed.spoiled {
            self.remove_spoiled(trimmed.number, to)?;
        } else if let Some(to) = self.number_for_recycled() {
            let made = recycle_segment(&*self.disk, &self.dir, trimmed.number, to, self.limits.segment_bytes);
            let mut state = self.state.lock();
            state.making = false;
            // Nothing more is written to a file on which a write or sync failed.
            trimmed.spoiled = Some(to);
            let file = made?;
            state.next_number = to + 1;
            state.ready.push_back(Spare { number: to, file });
        } else {
            self.disk.remove(&layout::segment_file(&self.dir, trimmed.number))?;
        }
        let mut state = self.state.lock();
        state.in_use -= 1;
        self.report(&state);
        self.changed.notify_all();
        Ok(())
    }

    /// Removes a file whose recycling as the spare with the number `to` failed, whichever of the two names
    /// it has.
    fn remove_spoiled(&self, number: u64, to: u64) -> io::Result<()> {
        {
            let mut state = self.state.lock();
            if state.making {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "a spare is being made"));
            }
            state.making = true;
        }
        // If a spare with that number was made since, it has replaced the file.
        let is_ours = self.state.lock().next_number == to;
        let remove = |number| remove_if_there(&*self.disk, &layout::segment_file(&self.dir, number));
        let removed = if is_ours { remove(to) } else { Ok(()) };
        let removed = removed.and_then(|()| remove(number));
        self.state.lock().making = false;
        removed
    }

    /// The number for a recycled segment; nobody else takes it until `making` is reset.
    fn number_for_recycled(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.ready.len() >= self.limits.spares_max || state.making {
            return None;
        }
        state.making = true;
        Some(state.next_number)
    }

    /// Waits until a spare was taken or a segment recycled, at most for this long. Returns whether the
    /// pool is closed.
    pub(super) fn wait(&self, at_most: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.closed {
            self.changed.wait_for(&mut state, at_most);
        }
        state.closed
    }

    /// Closes the pool: its thread ends.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}
