//! Responses that wait: for an owner's reply, or until what they show is durable (I3).
//!
//! A connection's responses leave in the order of its requests. Each waits in a slot of its
//! own, as a value; it is rendered when it is the next and may be shown. The queues are
//! reused: in steady state nothing is allocated.

use std::collections::VecDeque;

use stampede_core::types::Lsn;

use super::ask::ConnId;
use super::response::{RequestKind, Response};
use crate::http::answer::ResponseMode;

/// Responses that one connection may wait for; with that many no further request is taken from
/// it until one has left.
pub const OUTSTANDING_MAX: usize = 64;

/// After this many sweeps without activity a connection's buffers are freed.
const QUIET_SWEEPS: u8 = 4;

/// One response, from the request to its bytes.
pub struct Slot {
    /// How to write it.
    pub mode: ResponseMode,
    /// The kind of request.
    pub kind: RequestKind,
    state: State,
}

impl Slot {
    fn give_up(&mut self, mono_ms: u64, shown: Lsn) -> bool {
        match (self.kind, &mut self.state) {
            (RequestKind::ReadOrder(until_ms), State::Known(after, Response::Order { view, .. }))
                if until_ms <= mono_ms && view.lsn > shown && *after > shown =>
            {
                *after = Lsn::ZERO;
                true
            }
            _ => false,
        }
    }
}

enum State {
    /// The owner has not replied yet.
    Asked,
    /// It may be shown once this LSN is durable.
    Known(Lsn, Response),
}

/// What the core keeps of one connection.
#[derive(Default)]
struct Row {
    generation: u32,
    used: bool,
    slots: VecDeque<Slot>,
    /// The number of the first slot in the queue.
    first: u32,
    /// Something has happened on the connection since it was last served.
    ready: bool,
    /// Its place is in [`Connections::ready`].
    queued: bool,
    deadline_ms: u64,
    overdue: bool,
    /// Its batch waits for owners: nothing is read until then.
    held: bool,
    /// Sweeps since it last did something.
    sweeps: u8,
    quiet: bool,
}

impl Row {
    fn mark_ready(&mut self, place: u32, ready: &mut VecDeque<u32>) {
        self.ready = true;
        if !std::mem::replace(&mut self.queued, true) {
            ready.push_back(place);
        }
    }
}

/// All connections of a core.
#[derive(Default)]
pub struct Connections {
    places: Vec<Row>,
    free: Vec<u32>,
    open: usize,
    /// Places of connections on which something may have happened, each at most once.
    ready: VecDeque<u32>,
    /// Per owner: connections whose responses wait for an LSN, by LSN.
    parked: Vec<VecDeque<(Lsn, ConnId)>>,
}

impl Connections {
    /// A table for a home among that many cores.
    pub fn new(cores: usize) -> Self {
        Self { parked: (0..cores).map(|_| VecDeque::new()).collect(), ..Self::default() }
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Gives a new connection a place.
    pub fn enter(&mut self) -> ConnId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Row::default());
            self.places.len() as u32 - 1
        });
        let row = &mut self.places[place as usize];
        row.used = true;
        (row.overdue, row.held, row.deadline_ms) = (false, false, u64::MAX);
        (row.sweeps, row.quiet) = (0, false);
        self.open += 1;
        ConnId { place, generation: row.generation }
    }

    /// Frees the place; replies that are still under way are dropped.
    pub fn leave(&mut self, conn: ConnId) {
        let row = &mut self.places[conn.place as usize];
        debug_assert_eq!(row.generation, conn.generation);
        row.generation = row.generation.wrapping_add(1);
        row.used = false;
        row.slots.clear();
        row.slots.shrink_to(OUTSTANDING_MAX / 8);
        row.ready = false;
        self.free.push(conn.place);
        self.open -= 1;
    }

    fn row(&mut self, conn: ConnId) -> Option<&mut Row> {
        self.places.get_mut(conn.place as usize).filter(|row| row.used && row.generation == conn.generation)
    }

    /// Whether no response is outstanding on the connection.
    pub fn is_idle(&self, conn: ConnId) -> bool {
        self.places[conn.place as usize].slots.is_empty()
    }

    /// Whether one more request may be taken from the connection.
    pub fn has_room(&self, conn: ConnId) -> bool {
        let row = &self.places[conn.place as usize];
        row.slots.len() < OUTSTANDING_MAX && !row.held
    }

    /// Stops reading from the connection while its batch waits (`held`), or resumes.
    pub fn hold(&mut self, conn: ConnId, held: bool) {
        if let Some(row) = self.row(conn) {
            row.held = held;
        }
    }

    /// Whether the connection is still open.
    pub fn knows(&mut self, conn: ConnId) -> bool {
        self.row(conn).is_some()
    }

    /// Opens a slot for a response that an owner will give; returns its number.
    pub fn open_slot(&mut self, conn: ConnId, mode: ResponseMode, kind: RequestKind) -> u32 {
        self.push(conn, Slot { mode, kind, state: State::Asked })
    }

    /// Queues a response that is known.
    pub fn queue(
        &mut self,
        conn: ConnId,
        mode: ResponseMode,
        kind: RequestKind,
        after: Lsn,
        response: Response,
    ) {
        self.push(conn, Slot { mode, kind, state: State::Known(after, response) });
    }

    fn push(&mut self, conn: ConnId, slot: Slot) -> u32 {
        let row = &mut self.places[conn.place as usize];
        row.slots.push_back(slot);
        row.first.wrapping_add(row.slots.len() as u32 - 1)
    }

    /// The kind of request of a slot that is still open.
    pub fn kind_of(&mut self, conn: ConnId, number: u32) -> Option<RequestKind> {
        self.slot(conn, number).map(|slot| slot.kind)
    }

    /// Fills a slot. The response may be shown once `after` is durable, and waits for that in the queue of
    /// `owner`.
    pub fn fill(
        &mut self,
        conn: ConnId,
        number: u32,
        owner: usize,
        (after, durable): (Lsn, Lsn),
        response: Response,
    ) {
        let Some(slot) = self.slot(conn, number) else { return };
        slot.state = State::Known(after, response);
        if after > durable {
            self.parked[owner].push_back((after, conn));
        } else {
            self.wake(conn);
        }
    }

    fn slot(&mut self, conn: ConnId, number: u32) -> Option<&mut Slot> {
        let row = self.row(conn)?;
        let index = number.wrapping_sub(row.first) as usize;
        row.slots.get_mut(index)
    }

    /// The next response, if it may be shown: everything up to `durable` may.
    pub fn pop(&mut self, conn: ConnId, durable: Lsn) -> Option<(ResponseMode, RequestKind, Response)> {
        let row = self.row(conn)?;
        match row.slots.front()?.state {
            State::Known(after, _) if after <= durable => {}
            _ => return None,
        }
        let slot = row.slots.pop_front()?;
        row.first = row.first.wrapping_add(1);
        match slot.state {
            State::Known(_, response) => Some((slot.mode, slot.kind, response)),
            State::Asked => None,
        }
    }

    /// Marks connections as ready whose responses have become durable.
    pub fn release(&mut self, durable: Lsn) {
        for owner in 0..self.parked.len() {
            while let Some(&(after, conn)) = self.parked[owner].front()
                && after <= durable
            {
                self.parked[owner].pop_front();
                self.wake(conn);
            }
        }
    }

    /// Ends the wait for orders that are still not durable when the time that the client asked for is
    /// over: they are shown as accepted. Examines all connections; the sweep calls it.
    pub fn give_up_waiting(&mut self, mono_ms: u64, shown: Lsn) {
        for (place, row) in self.places.iter_mut().enumerate().filter(|(_, row)| row.used) {
            let patience_over = row.slots.iter_mut().any(|slot| slot.give_up(mono_ms, shown));
            if patience_over {
                row.mark_ready(place as u32, &mut self.ready);
            }
        }
    }

    // ---- the transport ----

    pub(super) fn wake(&mut self, conn: ConnId) {
        if let Some(row) = self.places.get_mut(conn.place as usize)
            && row.used
            && row.generation == conn.generation
        {
            row.mark_ready(conn.place, &mut self.ready);
        }
    }

    /// Marks every connection as ready: the server is shutting down.
    pub fn wake_all(&mut self) {
        for (place, row) in self.places.iter_mut().enumerate().filter(|(_, row)| row.used) {
            row.mark_ready(place as u32, &mut self.ready);
        }
    }

    /// The next connection to serve although it sent nothing.
    pub fn next_ready(&mut self) -> Option<ConnId> {
        while let Some(place) = self.ready.pop_front() {
            let row = &mut self.places[place as usize];
            row.queued = false;
            if std::mem::take(&mut row.ready) {
                return Some(ConnId { place, generation: row.generation });
            }
        }
        None
    }

    /// Notes that the connection was served just now.
    pub(super) fn served(&mut self, conn: ConnId) {
        self.places[conn.place as usize].ready = false;
    }

    /// Sets the connection's deadline (monotonic ms).
    pub fn set_deadline(&mut self, conn: ConnId, deadline_ms: u64) {
        if let Some(row) = self.row(conn) {
            // The deadline of an idle connection does not change.
            if row.deadline_ms != deadline_ms {
                row.sweeps = 0;
            }
            row.deadline_ms = deadline_ms;
        }
    }

    /// True once when the connection has been idle for so long that its buffers should be freed.
    pub fn take_quiet(&mut self, conn: ConnId) -> bool {
        self.row(conn).is_some_and(|row| std::mem::take(&mut row.quiet))
    }

    /// Marks connections past their deadline as overdue and ready; returns how many.
    pub fn sweep(&mut self, mono_ms: u64) -> usize {
        let mut overdue = 0;
        for (place, row) in self.places.iter_mut().enumerate().filter(|(_, row)| row.used) {
            row.sweeps = row.sweeps.saturating_add(1);
            row.quiet = row.sweeps == QUIET_SWEEPS;
            if row.deadline_ms <= mono_ms {
                row.overdue = true;
                row.deadline_ms = u64::MAX;
                overdue += 1;
            }
            if row.quiet || row.overdue {
                row.mark_ready(place as u32, &mut self.ready);
            }
        }
        overdue
    }

    /// Whether the connection is past its deadline.
    pub fn is_overdue(&self, conn: ConnId) -> bool {
        self.places[conn.place as usize].overdue
    }
}
