//! Batches on their way through the engine: records in chunks, one message per owner and chunk.
//!
//! ```text
//!  body ─records─▶ filling[owner 0] ─chunk─▶ owner 0 ─▶ answers ┐
//!                  filling[owner 1] ─chunk─▶ owner 1 ─▶ answers ┴─▶ by index, all of them
//!                     one chunk at most under way to each            │ highest LSN durable
//!                                                                    ▼
//!                                                      written out piece by piece
//! ```
//!
//! A chunk under way to an owner is answered before the next one leaves, so that the records of
//! one item are decided in the order of the batch. Chunks and lists of answers are used again.
//! Bounds: [`BATCHES_MAX`] a core, [`BATCHES_PER_CONNECTION_MAX`] a connection; each holds
//! 8,192 answers and two chunks per owner at most. Next: `home/batch.rs`.

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
/// Batches of one connection whose answers may be owed while the next comes in.
pub const BATCHES_PER_CONNECTION_MAX: usize = 4;
/// How long an owner without room is asked again before the rest of a batch is refused as
/// `overloaded`, in milliseconds.
pub const PATIENCE_MS: u64 = 5_000;
/// Chunks and lists of answers kept for the next batch.
pub(super) const SPARES_MAX: usize = 8;

/// What is wanted with one record.
#[derive(Clone, Copy, Debug)]
pub enum RecordOp {
    /// A purchase that the home has let pass.
    Purchase {
        /// What.
        item: ItemId,
        /// Who, as a hash.
        buyer: BuyerHash,
        /// How many.
        quantity: Quantity,
        /// What the home found its ticket to be.
        ticket: Ticket,
    },
    /// The merchant moves an order on.
    Move(OrderId, Movement),
}

/// One record in a chunk; its texts stand in the chunk's bytes.
#[derive(Clone, Copy, Debug)]
pub struct RecordAsk {
    /// Its place in the batch.
    pub index: u32,
    /// What is wanted.
    pub op: RecordOp,
    /// Where its texts begin.
    at: u32,
    subject_len: u8,
    reference_len: u8,
}

/// Records for one owner, and how far they were decided.
#[derive(Default)]
pub struct Chunk {
    asks: Vec<RecordAsk>,
    bytes: Vec<u8>,
    /// One for each record that was decided, from the first on.
    pub answers: Vec<RecordAnswer>,
    /// The highest LSN that must be durable before these answers show.
    pub after: Lsn,
    /// Why the rest was not decided.
    pub busy: Option<Busy>,
    /// How many answers were put where they belong.
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

    /// Whether all its records were decided.
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

    /// Puts the answers that came since the last call where they belong; says how many.
    pub fn settle(&mut self, answers: &mut [RecordAnswer]) -> usize {
        let from = std::mem::replace(&mut self.settled, self.answers.len());
        for (ask, answer) in self.asks[from..].iter().zip(&self.answers[from..]) {
            answers[ask.index as usize] = *answer;
        }
        self.settled - from
    }

    /// Answers what was not decided with this refusal.
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
    /// How many of them were written.
    pub written: usize,
    /// Counts as an open batch as long as it lives.
    pub(super) _open: Arc<()>,
}
