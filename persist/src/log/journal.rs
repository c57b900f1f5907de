//! The journal: takes the queued facts, writes them as one group, reports them durable.
//!
//! A state machine without threads: [`Journal::step`] does one round. Group commit needs
//! no timer: the next group is what arrived while the last one synced. After a failed
//! write or sync it never touches the file again, never moves the watermark, and
//! never releases a waiting answer (I10). Next: [`super::thread`] for the loop around it,
//! [`super::block`] for what it writes.

use std::io;
use std::sync::Arc;

use stampede_core::types::Lsn;

use super::block::{BlockBuilder, BlockHeader, ChainHash};
use super::control::ControlFile;
use super::identity::LogId;
use super::index::{SegmentIndex, SegmentStart};
use super::limits::{BLOCK_BYTES_MAX, GROUP_BYTES_MAX, STRAGGLERS_MAX};
use super::queue::FactQueue;
use super::record::{RECORD_HEADER_BYTES, Record};
use super::segment_pool::{SegmentPool, Spare};
use super::status::LogStatus;
use crate::disk::buffer::AlignedBuffer;
use crate::disk::{DiskFile, SECTOR_BYTES};
use stampede_core::limits::FACT_BYTES_MAX;

/// Wakes a core that may have answers waiting; called once per group, after the watermark moved.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The result of a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A group is durable.
    Wrote {
        /// How many facts.
        facts: u64,
    },
    /// Nothing was queued.
    Idle,
    /// The segment is full and no spare is ready.
    NeedsSegment,
    /// The log has failed, now or before.
    Failed,
}

/// Where the next block goes.
pub(super) struct Active {
    pub(super) number: u64,
    pub(super) file: Box<dyn DiskFile>,
    pub(super) offset: u64,
    /// Whether the segment has no block yet.
    pub(super) fresh: bool,
}

/// The writer of the log; see the module.
pub struct Journal {
    pub(super) log_id: LogId,
    pub(super) epoch: u64,
    pub(super) segment_bytes: u64,
    pub(super) active: Active,
    pub(super) chain: ChainHash,
    pub(super) durable: Lsn,
    pub(super) buffer: AlignedBuffer,
    pub(super) queue: Arc<FactQueue>,
    pub(super) status: Arc<LogStatus>,
    pub(super) pool: Arc<SegmentPool>,
    pub(super) control: Arc<ControlFile>,
    pub(super) index: Arc<SegmentIndex>,
    pub(super) wakers: Vec<Waker>,
}

/// Why a block ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BlockEnd {
    /// Nothing was queued: there is no block.
    Nothing,
    /// Nothing more was queued.
    QueueEmpty,
    /// The next fact does not fit.
    Full,
}

/// A group in the buffer.
struct Group {
    bytes: usize,
    next: Lsn,
    chain: ChainHash,
    first_lsn: Lsn,
}

/// Disk space that the queue may still need after the owners were told to stop, in bytes: a sector for
/// each straggler; the largest record for each other waiting fact, and the overhead of their blocks.
pub(super) fn reserve_bytes(queue_slots: usize) -> u64 {
    let stragglers = queue_slots.min(STRAGGLERS_MAX);
    let records = (queue_slots - stragglers) * (RECORD_HEADER_BYTES + FACT_BYTES_MAX);
    (records + records / 64 + stragglers * SECTOR_BYTES) as u64
}

/// Space above which a full log accepts again, in bytes: a little more than the reserve, so that it
/// does not flap. Space comes back in whole segments, which are larger than the difference.
pub(super) fn resume_bytes(queue_slots: usize) -> u64 {
    reserve_bytes(queue_slots) / 32 * 33
}

impl Journal {
    /// Makes the queued facts durable as one group. Takes about as long as one sync.
    pub fn step(&mut self) -> Step {
        if self.status.failure().is_some() {
            return Step::Failed;
        }
        let step = match self.try_step() {
            Ok(step) => step,
            Err(error) => {
                self.status.fail(format!("segment {}: {error}", self.active.number));
                return Step::Failed;
            }
        };
        self.judge_room();
        step
    }

    fn try_step(&mut self) -> io::Result<Step> {
        if self.room_left() < SECTOR_BYTES {
            if self.queue.is_empty() {
                return Ok(Step::Idle);
            }
            match self.pool.take() {
                Some(spare) => self.roll(spare)?,
                None => return Ok(Step::NeedsSegment),
            }
        }
        let Some(group) = self.fill() else { return Ok(Step::Idle) };
        // The slots are free as soon as their bytes are copied: the next group arrives while this one syncs.
        self.queue.release(group.next);
        self.active.file.write_durable(self.active.offset, &self.buffer.as_slice()[..group.bytes])?;
        Ok(self.written(&group))
    }

    fn room_left(&self) -> usize {
        (self.segment_bytes - self.active.offset) as usize
    }

    /// Goes on to the next segment. The control file names it before its first block is written.
    fn roll(&mut self, spare: Spare) -> io::Result<()> {
        let durable = self.durable;
        self.control.update(|control| {
            control.last_segment = spare.number;
            control.durable_lsn = durable;
        })?;
        self.active = Active { number: spare.number, file: spare.file, offset: 0, fresh: true };
        Ok(())
    }

    /// Copies queued facts into blocks, as many as fit a group and the segment. The first block that is
    /// not full is the last: what arrives while it is built belongs to the next group.
    ///
    /// # Panics
    /// When a block before the last one of the group is not as large as possible.
    fn fill(&mut self) -> Option<Group> {
        let limit = GROUP_BYTES_MAX.min(self.room_left()) / SECTOR_BYTES * SECTOR_BYTES;
        let first_lsn = self.durable.next();
        let mut group = Group { bytes: 0, next: first_lsn, chain: self.chain, first_lsn };
        while group.bytes < limit {
            let block_end = limit.min(group.bytes + BLOCK_BYTES_MAX);
            let end = self.fill_block(&mut group, block_end);
            if end != BlockEnd::Full {
                break;
            }
            assert_eq!(group.bytes, block_end, "only the last block of a group is not full");
        }
        (group.bytes > 0).then_some(group)
    }

    /// Adds one block to the group, which ends at `block_end` in the buffer at the latest.
    fn fill_block(&mut self, group: &mut Group, block_end: usize) -> BlockEnd {
        let mut block = BlockBuilder::new(&mut self.buffer.as_mut_slice()[group.bytes..block_end]);
        let first_lsn = group.next;
        let end = loop {
            let lsn = group.next;
            match self.queue.peek(lsn, |kind, payload| block.push(&Record { lsn, kind, payload })) {
                Some(true) => group.next = lsn.next(),
                Some(false) => break BlockEnd::Full,
                None => break BlockEnd::QueueEmpty,
            }
        };
        if block.records() == 0 {
            return BlockEnd::Nothing;
        }
        let (len, hash) = block.finish(BlockHeader {
            log_id: self.log_id,
            epoch: self.epoch,
            segment: self.active.number,
            first_lsn,
            durable_lsn: self.durable,
            records: 0,
            records_len: 0,
            prev_hash: group.chain,
        });
        group.bytes += len;
        group.chain = hash;
        end
    }

    /// The group is durable: publishes that, then wakes the cores.
    fn written(&mut self, group: &Group) -> Step {
        if self.active.fresh {
            self.active.fresh = false;
            let (number, prev_hash) = (self.active.number, self.chain);
            self.index.push(SegmentStart { number, first_lsn: group.first_lsn, prev_hash });
        }
        self.active.offset += group.bytes as u64;
        self.chain = group.chain;
        self.durable = Lsn(group.next.0 - 1);
        self.status.set_durable(self.durable);
        self.wakers.iter().for_each(|wake| wake());
        let facts = group.next.0 - group.first_lsn.0;
        self.status.count_group(facts, group.bytes as u64);
        Step::Wrote { facts }
    }

    /// Tells the owners whether there is still room for what they accept from now on.
    pub(super) fn judge_room(&self) {
        let room = self.room_left() as u64 + self.pool.ready_bytes();
        self.status.set_room_bytes(room);
        let slots = self.queue.capacity();
        let needed = if self.status.accepting() { reserve_bytes(slots) } else { resume_bytes(slots) };
        let failed = self.status.failure().is_some();
        self.status.set_accepting(room >= needed && !self.status.disk_low() && !failed);
    }

    /// Whether the control file is behind the log.
    pub fn control_is_behind(&self) -> bool {
        self.status.failure().is_none() && self.control.current().durable_lsn != self.durable
    }

    /// Writes the watermark into the control file; called when the journal is idle, and at the end
    /// with `clean`.
    pub fn write_control(&mut self, clean: bool) -> Step {
        if self.status.failure().is_some() {
            return Step::Failed;
        }
        let durable = self.durable;
        let written = self.control.update(|control| {
            control.durable_lsn = durable;
            control.clean = clean;
        });
        match written {
            Ok(()) => Step::Idle,
            Err(error) => {
                self.status.fail(format!("control file: {error}"));
                Step::Failed
            }
        }
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("epoch", &self.epoch)
            .field("segment", &self.active.number)
            .field("offset", &self.active.offset)
            .field("durable", &self.durable.0)
            .finish_non_exhaustive()
    }
}
