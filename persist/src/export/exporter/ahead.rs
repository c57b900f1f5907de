//! Where the facts of a batch come from, and the batch behind the one that is being written.
//!
//! While the database works on a batch, the facts behind it are read and folded in pieces
//! ([`beside`](super::super::while_waiting::beside)), so that it does not wait for them afterwards. One batch at most is read ahead:
//! memory for two. What was read ahead stays when the batch before it fails, whether it is written
//! again, row by row, or over another connection: facts do not change, and theirs come next either
//! way. It is never written before the batch in front of it is known to be committed.
//!
//! ```text
//!  batch  ├── BEGIN … COPY ────────── … COMMIT ──┤ known: the next one's turn, filled up ├── BEGIN …
//!  ahead          └ piece, piece, piece … full or nothing durable left
//! ```
//!
//! An error of reading ahead is none yet: it comes up again when it is that batch's turn.

use stampede_core::types::Lsn;

use super::super::batch::Batch;
use super::super::event::ExportPort;
use super::super::limits::AHEAD_FACTS;
use crate::feed::{FactFeed, FeedError};

/// Reads facts into batches.
pub(super) struct Intake {
    facts_max: usize,
    /// Stands behind the last fact of `ahead`, or of the batch whose turn it is.
    feed: Option<Box<dyn FactFeed + Send>>,
    /// The batch behind the one whose turn it is.
    ahead: Batch,
}

impl Intake {
    /// An intake for batches of so many facts.
    pub(super) fn new(facts_max: usize) -> Self {
        Self { facts_max, feed: None, ahead: Batch::default() }
    }

    /// Fills up the batch whose turn it is. Nothing may be read ahead.
    ///
    /// # Errors
    /// A feed that fails has lost its place, and the batch is as it was before its first fact: the
    /// next call opens a feed anew.
    pub(super) fn fill(&mut self, port: &mut dyn ExportPort, batch: &mut Batch) -> Result<(), FeedError> {
        assert!(self.ahead.is_empty(), "facts would be read past those that were read ahead");
        read(&mut self.feed, port, batch, self.facts_max).inspect_err(|_| batch.reset(batch.from))?;
        if batch.is_empty() {
            return Ok(());
        }
        // The feed stands where the batch ends: the batch takes the chain's hash along.
        let mut feed = match self.feed.take() {
            Some(feed) => feed,
            None => port.open_feed(batch.to)?,
        };
        batch.chain = feed.chain()?;
        self.feed = Some(feed);
        Ok(())
    }

    /// What was read is of no more use: the next fact to be read is the one after `after`.
    pub(super) fn forget(&mut self, after: Lsn) {
        self.feed = None;
        self.ahead.reset(after);
    }

    /// A batch that ends at `to` is about to be written, for the first time or once more.
    pub(super) fn begin(&mut self, to: Lsn) {
        if self.ahead.is_empty() {
            self.ahead.reset(to);
        }
    }

    /// Reads the next few facts. Whether there may be more.
    pub(super) fn read_ahead(&mut self, port: &mut dyn ExportPort) -> bool {
        let before = self.ahead.facts;
        let facts_max = self.facts_max.min(before + AHEAD_FACTS);
        let read = read(&mut self.feed, port, &mut self.ahead, facts_max);
        read.is_ok() && self.ahead.facts > before && self.ahead.facts < self.facts_max
    }

    /// The batch is committed: what was read ahead takes its place.
    pub(super) fn turn(&mut self, batch: &mut Batch) {
        let to = batch.to;
        batch.reset(to);
        if !self.ahead.is_empty() {
            std::mem::swap(batch, &mut self.ahead);
        }
    }
}

/// Reads what is durable until the batch holds so many facts.
fn read(
    feed: &mut Option<Box<dyn FactFeed + Send>>,
    port: &mut dyn ExportPort,
    batch: &mut Batch,
    facts_max: usize,
) -> Result<(), FeedError> {
    let room = facts_max.saturating_sub(batch.facts);
    if room == 0 {
        return Ok(());
    }
    let durable = port.durable_lsn();
    let mut open = match feed.take() {
        Some(open) => open,
        None => port.open_feed(batch.to)?,
    };
    open.read(durable, room, &mut |lsn, fact| batch.add(lsn, fact))?;
    *feed = Some(open);
    Ok(())
}
