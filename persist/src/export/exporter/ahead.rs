//! Reads facts into the batch to be written, and reads the next batch ahead.
//!
//! While the database works on a batch, the facts after it are read and folded in pieces
//! ([`while_waiting`](super::super::while_waiting::while_waiting)), so that the database does not
//! wait for them afterwards. At most one batch is read ahead: memory for two. It is kept when the
//! batch before it fails, whether that is written again as it is, row by row, or over another
//! connection: facts do not change, and the same ones come next. It is never written before the
//! batch before it is known to be committed.
//!
//! ```text
//!  batch  ├── BEGIN … COPY ────────── … COMMIT ──┤ known: the next batch, filled up ├── BEGIN …
//!  ahead          └ piece, piece, piece … full or nothing durable left
//! ```
//!
//! An error while reading ahead is ignored: it occurs again when that batch is filled up.

use stampede_core::types::Lsn;

use super::super::batch::Batch;
use super::super::event::ExportPort;
use super::super::limits::AHEAD_FACTS;
use crate::feed::{FactFeed, FeedError};

/// Reads facts into batches.
pub(super) struct BatchReader {
    facts_max: usize,
    /// Positioned after the last fact of `ahead` or, if that is empty, of the batch to be written.
    feed: Option<Box<dyn FactFeed + Send>>,
    /// The batch after the one to be written.
    ahead: Batch,
}

impl BatchReader {
    /// A reader for batches of at most this many facts.
    pub(super) fn new(facts_max: usize) -> Self {
        Self { facts_max, feed: None, ahead: Batch::default() }
    }

    /// Fills up the batch to be written. Nothing may be read ahead.
    ///
    /// # Errors
    /// After an error of the feed the batch is empty, and the next call opens another feed.
    pub(super) fn fill(&mut self, port: &mut dyn ExportPort, batch: &mut Batch) -> Result<(), FeedError> {
        assert!(self.ahead.is_empty(), "facts would be read after those that were read ahead");
        read(&mut self.feed, port, batch, self.facts_max).inspect_err(|_| batch.reset(batch.from))?;
        if batch.is_empty() {
            return Ok(());
        }
        // The feed is at the end of the batch, so it knows the chain's hash there.
        let mut feed = match self.feed.take() {
            Some(feed) => feed,
            None => port.open_feed(batch.to)?,
        };
        batch.chain = feed.chain()?;
        self.feed = Some(feed);
        Ok(())
    }

    /// Drops what was read: the next fact to be read is the one after `after`.
    pub(super) fn restart_after(&mut self, after: Lsn) {
        self.feed = None;
        self.ahead.reset(after);
    }

    /// Prepares reading ahead while a batch that ends at `to` is written, for the first time or again.
    pub(super) fn prepare_ahead(&mut self, to: Lsn) {
        if self.ahead.is_empty() {
            self.ahead.reset(to);
        }
    }

    /// Reads the next few facts ahead. Returns whether there may be more.
    pub(super) fn read_ahead(&mut self, port: &mut dyn ExportPort) -> bool {
        let before = self.ahead.facts;
        let facts_max = self.facts_max.min(before + AHEAD_FACTS);
        let read = read(&mut self.feed, port, &mut self.ahead, facts_max);
        read.is_ok() && self.ahead.facts > before && self.ahead.facts < self.facts_max
    }

    /// The batch is committed: the batch that was read ahead takes its place.
    pub(super) fn advance(&mut self, batch: &mut Batch) {
        let to = batch.to;
        batch.reset(to);
        if !self.ahead.is_empty() {
            std::mem::swap(batch, &mut self.ahead);
        }
    }
}

/// Reads what is durable until the batch holds this many facts.
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
