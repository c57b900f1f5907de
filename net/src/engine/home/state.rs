//! The state of a home core, of a connection, and of a request.
//!
//! Next: [`super`] for the loop.

use std::net::IpAddr;
use std::sync::Arc;

use stampede_core::limits::OWNER_BATCH_MAX;
use stampede_core::types::Lsn;

use super::lists::Lists;
use super::open_batches::{Batches, Intake, Outgoing};
use super::open_gathers::Gathers;
use super::site_pages::SitePages;
use crate::engine::ask::{ConnId, ReplyTo};
use crate::engine::batch::Chunk;
use crate::engine::clock::{Now, Reader};
use crate::engine::mesh::Endpoint;
use crate::engine::owner::Owner;
use crate::engine::pages::Pages;
use crate::engine::shared::Shared;
use crate::engine::slots::Connections;
use crate::engine::turns::Turns;
use crate::gate::CoreLimits;
use crate::http::answer::{Date, ResponseMode};
use crate::http::conn::{Conn, Request};
use crate::http::problem::Problem;
use crate::identity::VerdictCache;

/// Bytes of responses that may wait for a slow reader; with more no further request is taken.
pub const OUT_BYTES_MAX: usize = 256 << 10;

/// One connection, as the home knows it. The core's loop owns it.
pub struct Client {
    /// Its place in the table.
    pub id: ConnId,
    /// Bytes in.
    pub conn: Conn,
    /// Bytes out.
    pub out: Vec<u8>,
    /// The client's address.
    pub peer: IpAddr,
    pub(super) closing: bool,
    /// Whether a request has arrived on it.
    pub(super) has_asked: bool,
    /// A batch that is coming in.
    pub(super) intake: Option<Intake>,
    /// The answers of a batch that are going out.
    pub(super) outgoing: Option<Outgoing>,
    /// Complete batches whose answers are not written yet.
    pub(super) owed_batches: usize,
}

impl Client {
    /// A new connection.
    pub fn new(id: ConnId, conn: Conn, peer: IpAddr) -> Self {
        let (intake, outgoing, owed_batches) = (None, None, 0);
        Self {
            id,
            conn,
            out: Vec::new(),
            peer,
            closing: false,
            has_asked: false,
            intake,
            outgoing,
            owed_batches,
        }
    }

    /// Whether to close as soon as `out` is written.
    pub fn is_closing(&self) -> bool {
        self.closing
    }
}

/// One core.
pub struct Home {
    pub(super) core: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) owner: Owner,
    pub(super) mesh: Endpoint,
    /// The core's connections.
    pub connections: Connections,
    pub(super) pages: Pages,
    pub(super) site: SitePages,
    pub(super) lists: Lists,
    pub(super) gathers: Gathers,
    pub(super) batches: Batches,
    pub(super) limits: CoreLimits,
    pub(super) verdicts: VerdictCache,
    /// The trusted proxy that last sent a request without a usable address.
    pub(super) silent_proxy: Option<IpAddr>,
    /// The trusted proxy that last began a connection without a PROXY header.
    pub(super) headerless_proxy: Option<IpAddr>,
    /// No further alarm about invalid tokens before this time, in monotonic milliseconds.
    pub(super) invalid_tokens_quiet_ms: u64,
    pub(super) clock: Reader,
    pub(super) now: Now,
    pub(super) date: Date,
    pub(super) date_s: u64,
    pub(super) released: Lsn,
    pub(super) marked_ms: u64,
    pub(super) needs_flush: bool,
    pub(super) draining_since_ms: Option<u64>,
    pub(super) has_drained: bool,
    pub(super) turns: Turns,
    /// Requests that the owner takes in one turn.
    pub(super) turn_max: usize,
    /// Per home: a chunk of a batch that the owner has decided in part.
    pub(super) cut: Vec<Option<(ReplyTo, Box<Chunk>)>>,
    /// More requests wait for this core's owner than it took in its last turn. Until they are answered its
    /// own connections wait in line as well, in the ring from this core to itself.
    pub(super) contended: bool,
}

/// However a core ends, the watch no longer waits for its next turn; its thread reports the end.
impl Drop for Home {
    fn drop(&mut self) {
        self.shared.state.pulse.end(self.core);
    }
}

impl Home {
    /// The home of core number `core`.
    pub fn new(core: usize, owner: Owner, shared: Arc<Shared>) -> Self {
        let cores = shared.mesh.cores();
        let mut clock = shared.clock.reader();
        let now = clock.now();
        Self {
            clock,
            core,
            owner,
            mesh: Endpoint::new(shared.mesh.clone(), core),
            connections: Connections::new(cores),
            pages: Pages::default(),
            site: SitePages::default(),
            lists: Lists::default(),
            gathers: Gathers::default(),
            batches: Batches::default(),
            limits: CoreLimits::new(core, cores, &shared.gate.rules),
            verdicts: VerdictCache::new(shared.secret),
            silent_proxy: None,
            headerless_proxy: None,
            invalid_tokens_quiet_ms: 0,
            now,
            date: shared.date(now.sale.0 / 1000),
            date_s: now.sale.0 / 1000,
            released: shared.shown_lsn(),
            marked_ms: now.mono_ms,
            needs_flush: false,
            draining_since_ms: None,
            has_drained: false,
            turns: Turns::default(),
            turn_max: OWNER_BATCH_MAX,
            cut: (0..cores).map(|_| None).collect(),
            contended: false,
            shared,
        }
    }

    /// The same with an owner that takes this many requests in one turn, at least one: for simulations, whose
    /// load is small.
    #[must_use]
    pub fn with_turn_max(mut self, questions: usize) -> Self {
        self.turn_max = questions.max(1);
        self
    }
}

/// A request, who sent it, and how and where the response goes.
pub(super) struct Caller<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) mode: ResponseMode,
    pub(super) conn: ConnId,
    pub(super) peer: IpAddr,
    pub(super) out: &'a mut Vec<u8>,
    pub(super) intake: &'a mut Option<Intake>,
}

/// A handler has responded, or will when owners reply; or it refuses.
pub(super) type Handled = Result<(), Problem>;
