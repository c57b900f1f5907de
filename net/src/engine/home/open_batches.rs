//! The open batches of a core: coming in, with the owners, going out.
//!
//! Next: [`super::batch`], which processes them.

use std::collections::HashMap;
use std::sync::Arc;

use stampede_core::types::Lsn;

use crate::engine::ask::ConnId;
use crate::engine::batch::{BatchAnswers, Chunk, SPARES_MAX};
use crate::http::answer::ResponseMode;
use crate::http::batch::answer::RecordAnswer;
use crate::http::batch::{Decoder, Format};
use crate::http::conn::Left;
use crate::http::problem::{Code, Problem};

pub(super) const NO_RECORD: Problem =
    Problem::new(Code::BadRequest).detail("a batch has at least one record");

/// A batch whose body is coming in. Owned by its connection.
pub(super) struct Intake {
    pub(super) batch: u32,
    pub(super) decoder: Decoder,
    pub(super) mode: ResponseMode,
    /// Whether records wait because of the server, so that the time does not count against the client.
    pub(super) held: bool,
}

impl Intake {
    /// At the end of the body: whether it was complete.
    pub(super) fn finish(&self, batch: &Batch) -> Result<(), Problem> {
        if batch.answers.is_empty() { Err(NO_RECORD) } else { self.decoder.finish() }
    }

    /// Whether more follows after the most records that a batch may have. Of a chunked body only what has
    /// arrived is known; for a binary one the reader reports the error.
    pub(super) fn is_above(&self, piece: &[u8], left: Left) -> bool {
        left != Left::Unknown || !piece.is_empty() && self.decoder.format() == Format::Lines
    }
}

/// A batch whose answers are being written.
pub(super) struct Outgoing {
    pub(super) answers: Box<BatchAnswers>,
    pub(super) mode: ResponseMode,
}

/// How far the records were taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// All of the batch, or it was aborted.
    All,
    /// All that has arrived.
    NeedMore,
    /// Not all that has arrived: owners or earlier responses have to come first.
    Held,
}

/// Records on their way to one owner.
#[derive(Default)]
pub(super) struct Lane {
    /// The chunk that is being filled.
    pub(super) filling: Option<Box<Chunk>>,
    /// A chunk for which the owner had no room, or not for all of it; it goes before the other.
    pub(super) stuck: Option<Box<Chunk>>,
    /// Whether a chunk is with the owner.
    pub(super) under_way: bool,
}

impl Lane {
    pub(super) fn is_blocked(&self) -> bool {
        let full = self.filling.as_ref().is_some_and(|chunk| chunk.is_full());
        full && (self.under_way || self.stuck.is_some())
    }
}

/// A batch that is open.
pub(super) struct Batch {
    pub(super) conn: ConnId,
    pub(super) format: Format,
    pub(super) answers: Vec<RecordAnswer>,
    /// Records without an answer yet.
    pub(super) missing: usize,
    pub(super) after: Lsn,
    pub(super) lanes: Vec<Lane>,
    /// Since when an owner has had no room, in monotonic milliseconds.
    pub(super) stuck_since_ms: Option<u64>,
    pub(super) open: Arc<()>,
}

/// All batches of a core.
#[derive(Default)]
pub(super) struct Batches {
    pub(super) open: HashMap<u32, Box<Batch>>,
    pub(super) last: u32,
    /// Batches that an owner had no room for: retried when the log has advanced.
    pub(super) stuck: Vec<u32>,
    /// One more reference to this per batch, until the last byte of its answers is written.
    pub(super) alive: Arc<()>,
    #[expect(clippy::vec_box, reason = "the boxes travel to owners and come back")]
    pub(super) chunks: Vec<Box<Chunk>>,
    pub(super) lists: Vec<Vec<RecordAnswer>>,
}

impl Batches {
    pub(super) fn spare_chunk(&mut self) -> Box<Chunk> {
        self.chunks.pop().unwrap_or_default()
    }

    pub(super) fn give_chunk(&mut self, mut chunk: Box<Chunk>) {
        if self.chunks.len() < SPARES_MAX {
            chunk.clear();
            self.chunks.push(chunk);
        }
    }

    pub(super) fn give_list(&mut self, mut list: Vec<RecordAnswer>) {
        if self.lists.len() < SPARES_MAX {
            list.clear();
            self.lists.push(list);
        }
    }
}
