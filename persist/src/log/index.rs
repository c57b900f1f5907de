//! The first LSN of each segment, in memory, for trimming.
//!
//! Recovery fills it, the journal adds to it, the trimmer takes from its front. It
//! must never name a segment before its first block is durable.
//! Next: [`super::trim`].

use parking_lot::Mutex;
use stampede_core::types::Lsn;

use super::block::ChainHash;

/// The beginning of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentStart {
    pub(super) number: u64,
    pub(super) first_lsn: Lsn,
    pub(super) prev_hash: ChainHash,
}

/// The segments that hold blocks, in order.
#[derive(Debug, Default)]
pub(super) struct SegmentIndex(Mutex<Vec<SegmentStart>>);

impl SegmentIndex {
    pub(super) fn new(starts: Vec<SegmentStart>) -> Self {
        Self(Mutex::new(starts))
    }
    pub(super) fn push(&self, start: SegmentStart) {
        self.0.lock().push(start);
    }
    /// How many segments begin after this LSN.
    pub(super) fn begin_after(&self, lsn: Lsn) -> usize {
        self.0.lock().iter().filter(|start| start.first_lsn > lsn).count()
    }
    /// The segments whose facts are all at or below `floor`, and the segment after them. The
    /// last segment is never among them.
    pub(super) fn covered(&self, floor: Lsn) -> Option<(Vec<u64>, SegmentStart)> {
        let starts = self.0.lock();
        // A segment ends where the next begins: it is covered when the next begins at floor + 1 or before.
        let gone = starts.iter().skip(1).take_while(|next| next.first_lsn <= floor.next()).count();
        (gone > 0).then(|| (starts[..gone].iter().map(|start| start.number).collect(), starts[gone]))
    }
    pub(super) fn forget_before(&self, number: u64) {
        self.0.lock().retain(|start| start.number >= number);
    }
}
