//! Batches on their way through the engine: records in chunks, one message per owner and chunk.
//!
//! ```text
//!  body ─records─▶ filling[owner 0] ─chunk─▶ owner 0 ─▶ answers ┐
//!                  filling[owner 1] ─chunk─▶ owner 1 ─▶ answers ┴─▶ by index, all of them
//!                     at most one chunk under way to each            │ highest LSN durable
//!                                                                    ▼
//!                                                      written out piece by piece
//! ```
//!
//! An owner answers a chunk before it gets the next one, so that the records of one item are decided in the order
//! of the batch. Chunks and lists of answers are reused. Bounds: [`BATCHES_MAX`] per core,
//! [`BATCHES_PER_CONNECTION_MAX`] per connection; each holds at most 8,192 answers and two chunks per owner. Next:
//! `home/batch.rs`.

use std::sync::Arc;

use stampede_core::command::{Movement, Ticket};
use stampede_core::types::{BuyerHash, ItemId, Lsn, OrderId, Quantity};

use super::busy::Busy;
use crate::http::batch::Format;
use crate::http::batch::answer::RecordAnswer;
use crate::http::problem::Code;

/// Records in a chunk.
pub const CHUNK_RECORDS_MAX: usize = 1_024;
/// Batches that may be open on a core, from the first record to the last byte of the answers.
pub const BATCHES_MAX: usize = 64;
/// Batches of one connection that may wait for their answers while the next one comes in.
pub const BATCHES_PER_CONNECTION_MAX: usize = 4;
/// How long a core retries at an owner without room before it refuses the rest of a batch as
/// `overloaded`, in milliseconds.
pub const PATIENCE_MS: u64 = 5_000;
/// Chunks and lists of answers kept for reuse.
pub(super) const SPARES_MAX: usize = 8;

/// What one record asks for.
#[derive(Clone, Copy, Debug)]
pub enum RecordOp {
    /// A purchase that passed the checks of the home core.
    Purchase {
        /// What.
        item: ItemId,
        /// Who, as a hash.
        buyer: BuyerHash,
        /// How many.
        quantity: Quantity,
        /// What the home core found its ticket to be.
        ticket: Ticket,
    },
    /// The merchant pays, refunds or cancels an order.
    Move(OrderId, Movement),
}

/// One record in a chunk; its texts are in the chunk's bytes.
#[derive(Clone, Copy, Debug)]
pub struct RecordAsk {
    /// Its place in the batch.
    pub index: u32,
    /// What it asks for.
    pub op: RecordOp,
    /// Where its texts begin.
    at: u32,
    subject_len: u8,
    reference_len: u8,
}

/// Records for one owner, and the answers so far.
#[derive(Default)]
pub struct Chunk {
    asks: Vec<RecordAsk>,
    bytes: Vec<u8>,
    /// One for each decided record, from the first on.
    pub answers: Vec<RecordAnswer>,
    /// The highest LSN that must be durable before these answers show.
    pub after: Lsn,
    /// Why the rest is not decided.
    pub busy: Option<Busy>,
    /// How many answers [`Chunk::settle`] has passed on.
    settled: usize,
}

impl Chunk {
    /// Adds a record; `subject` is empty for a movement.
    pub fn push(&mut self, index: u32, op: RecordOp, subject: &[u8], reference: &[u8]) {
        let (subject_len, reference_len) = (subject.len() as u8, reference.len() as u8);
        self.asks.push(RecordAsk { index, op, at: self.bytes.len() as u32, subject_len, reference_len });
        self.bytes.extend_from_slice(subject);
        self.bytes.extend_from_slice(reference);
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.asks.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.asks.is_empty()
    }

    /// Whether no further record fits.
    pub fn is_full(&self) -> bool {
        self.asks.len() >= CHUNK_RECORDS_MAX
    }

    /// Whether all its records are decided.
    pub fn is_decided(&self) -> bool {
        self.answers.len() == self.asks.len()
    }

    /// Its records, from the first on.
    pub fn asks(&self) -> &[RecordAsk] {
        &self.asks
    }

    /// A record, its subject and its reference.
    pub fn get(&self, number: usize) -> (&RecordAsk, &[u8], &[u8]) {
        let ask = &self.asks[number];
        let (from, middle) = (ask.at as usize, ask.at as usize + usize::from(ask.subject_len));
        let (subject, reference) =
            (&self.bytes[from..middle], &self.bytes[middle..middle + usize::from(ask.reference_len)]);
        (ask, subject, reference)
    }

    /// Copies the answers since the last call to their places in the batch; returns how many.
    pub fn settle(&mut self, answers: &mut [RecordAnswer]) -> usize {
        let from = std::mem::replace(&mut self.settled, self.answers.len());
        for (ask, answer) in self.asks[from..].iter().zip(&self.answers[from..]) {
            answers[ask.index as usize] = *answer;
        }
        self.settled - from
    }

    /// Answers all undecided records with this refusal.
    pub fn refuse_rest(&mut self, code: Code) {
        self.answers.resize(self.asks.len(), RecordAnswer::code(code));
        self.busy = None;
    }

    /// Empties it for the next batch.
    pub fn clear(&mut self) {
        self.asks.clear();
        self.bytes.clear();
        self.answers.clear();
        (self.after, self.busy, self.settled) = (Lsn::ZERO, None, 0);
    }
}

/// All answers of a batch, ready to be written once they are durable.
pub struct BatchAnswers {
    /// How they are written.
    pub format: Format,
    /// One for each record, in the order of the batch.
    pub answers: Vec<RecordAnswer>,
    /// How many of them are written.
    pub written: usize,
    /// While it lives, the batch counts as open.
    pub(super) _open: Arc<()>,
}
