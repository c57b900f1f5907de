//! Spare segments, made ahead, so that the journal never zero-fills while somebody waits.
//!
//! A helper thread calls [`Shelf::prepare`]; the journal takes from the shelf when
//! its segment is full. The disk budget and the free-space reserve live here: no
//! spare, and so no new room, is made beyond them. A spare that fails to be made is
//! thrown away, never used. Next: [`super::journal`].

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

/// What the shelf may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShelfLimits {
    /// The size of each segment.
    pub(super) segment_bytes: u64,
    /// Spares kept ready.
    pub(super) spares: usize,
    /// Spares kept when trimmed segments can be had for nothing.
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

pub(super) struct Shelf {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limits: ShelfLimits,
    status: Arc<LogStatus>,
    stock: Mutex<Stock>,
    /// Tells the helper that a spare was taken, or that the end has come.
    taken: Condvar,
}

struct Stock {
    ready: VecDeque<Spare>,
    /// Whether the helper is making one right now, outside the lock.
    making: bool,
    /// Segments that hold blocks, the active one included.
    in_use: u64,
    next_number: u64,
    closed: bool,
    /// Segments that were trimmed and could not be taken back; they count as in use.
    trimmed: Vec<Trimmed>,
}

/// A trimmed segment whose file still takes room.
struct Trimmed {
    number: u64,
    /// It was to become the spare with this number, and something failed: it may have that name by now.
    spoiled: Option<u64>,
}

/// What [`Shelf::prepare`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Prepared {
    /// Made one spare.
    One,
    /// Enough are there.
    Enough,
    /// The budget or the disk allows no more.
    Full,
}

impl Shelf {
    /// A shelf that holds `ready` already; `in_use` segments hold blocks.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        limits: ShelfLimits,
        status: Arc<LogStatus>,
        ready: VecDeque<Spare>,
        in_use: u64,
        next_number: u64,
    ) -> Self {
        let stock = Stock { ready, making: false, in_use, next_number, closed: false, trimmed: Vec::new() };
        let shelf = Self { disk, dir, limits, status, stock: Mutex::new(stock), taken: Condvar::new() };
        shelf.report(&shelf.stock.lock());
        shelf
    }

    fn report(&self, stock: &Stock) {
        let segments = stock.in_use + stock.ready.len() as u64;
        self.status.set_disk_bytes(segments * self.limits.segment_bytes);
    }

    /// Bytes of the spares that are ready.
    pub(super) fn ready_bytes(&self) -> u64 {
        self.stock.lock().ready.len() as u64 * self.limits.segment_bytes
    }

    /// Takes the next segment, which from now on counts as in use.
    pub(super) fn take(&self) -> Option<Spare> {
        let mut stock = self.stock.lock();
        let spare = stock.ready.pop_front()?;
        stock.in_use += 1;
        self.report(&stock);
        self.taken.notify_all();
        Some(spare)
    }

    /// Looks at the free space and makes at most one spare. Takes as long as zero-filling a
    /// segment; the journal is not held up meanwhile.
    ///
    /// # Errors
    /// What the file system answers; the log is none the worse, and the next call tries anew.
    pub(super) fn prepare(&self) -> io::Result<Prepared> {
        let free = self.disk.free_bytes(&self.dir)?;
        self.status.set_disk_low(free < self.limits.free_bytes_min);
        let number = match self.reserve_number(free) {
            Ok(number) => number,
            Err(why_not) => return Ok(why_not),
        };
        let made = create_segment(&*self.disk, &self.dir, number, self.limits.segment_bytes);
        let mut stock = self.stock.lock();
        stock.making = false;
        match made {
            Ok(file) => {
                stock.next_number = number + 1;
                stock.ready.push_back(Spare { number, file });
                self.report(&stock);
                Ok(Prepared::One)
            }
            Err(error) => Err(error),
        }
    }

    fn reserve_number(&self, free: u64) -> Result<u64, Prepared> {
        let mut stock = self.stock.lock();
        if stock.ready.len() >= self.limits.spares || stock.making || stock.closed {
            return Err(Prepared::Enough);
        }
        let after = (stock.in_use + stock.ready.len() as u64 + 1) * self.limits.segment_bytes;
        if after > self.limits.log_bytes_max || free < self.limits.free_bytes_min + self.limits.segment_bytes
        {
            return Err(Prepared::Full);
        }
        stock.making = true;
        Ok(stock.next_number)
    }

    /// Takes back trimmed segments, and those that it could not take back before: each as a spare if it is
    /// of use, otherwise its file is removed. What fails counts as in use, for its file takes room, and has
    /// another turn with the next call. A spare takes as long as zero-filling a segment; the journal is not held up
    /// meanwhile.
    ///
    /// # Errors
    /// The first thing that the file system answers; all the others had their turn.
    pub(super) fn give_back(&self, gone: &[u64]) -> io::Result<()> {
        let mut waiting = std::mem::take(&mut self.stock.lock().trimmed);
        waiting.extend(gone.iter().map(|number| Trimmed { number: *number, spoiled: None }));
        let mut all = Ok(());
        for mut trimmed in waiting {
            let done = self.give_back_one(&mut trimmed);
            if done.is_err() {
                self.stock.lock().trimmed.push(trimmed);
            }
            all = all.and(done);
        }
        all
    }

    fn give_back_one(&self, trimmed: &mut Trimmed) -> io::Result<()> {
        if let Some(to) = trimmed.spoiled {
            self.remove_spoiled(trimmed.number, to)?;
        } else if let Some(to) = self.number_for_recycled() {
            let made = recycle_segment(&*self.disk, &self.dir, trimmed.number, to, self.limits.segment_bytes);
            let mut stock = self.stock.lock();
            stock.making = false;
            // Nothing more is written to a file on which a write or sync failed.
            trimmed.spoiled = Some(to);
            let file = made?;
            stock.next_number = to + 1;
            stock.ready.push_back(Spare { number: to, file });
        } else {
            self.disk.remove(&layout::segment_file(&self.dir, trimmed.number))?;
        }
        let mut stock = self.stock.lock();
        stock.in_use -= 1;
        self.report(&stock);
        self.taken.notify_all();
        Ok(())
    }

    /// Removes a file that was to become the spare with the number `to` and did not, whichever name it has.
    fn remove_spoiled(&self, number: u64, to: u64) -> io::Result<()> {
        {
            let mut stock = self.stock.lock();
            if stock.making {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "a spare is being made"));
            }
            stock.making = true;
        }
        // A spare that was made since has taken the name over, and the file is gone.
        let is_ours = self.stock.lock().next_number == to;
        let remove = |number| remove_if_there(&*self.disk, &layout::segment_file(&self.dir, number));
        let removed = if is_ours { remove(to) } else { Ok(()) };
        let removed = removed.and_then(|()| remove(number));
        self.stock.lock().making = false;
        removed
    }

    /// The number for a recycled segment, which nobody else takes until `making` is reset.
    fn number_for_recycled(&self) -> Option<u64> {
        let mut stock = self.stock.lock();
        if stock.ready.len() >= self.limits.spares_max || stock.making {
            return None;
        }
        stock.making = true;
        Some(stock.next_number)
    }

    /// Waits until a spare was taken or given back, or for this long at most. Returns whether the
    /// shelf is closed.
    pub(super) fn pause(&self, at_most: Duration) -> bool {
        let mut stock = self.stock.lock();
        if !stock.closed {
            self.taken.wait_for(&mut stock, at_most);
        }
        stock.closed
    }

    /// Ends the helper thread.
    pub(super) fn close(&self) {
        self.stock.lock().closed = true;
        self.taken.notify_all();
    }
}
