//! Answers that wait: for an owner's reply, or until what they show is durable (I3).
//!
//! A connection's answers leave in the order of its requests. Each waits in a slot
//! of its own, as a value; it is rendered when it is at the head and may be shown.
//! The queues are reused: in steady state nothing is allocated.

use std::collections::VecDeque;

use stampede_core::types::Lsn;

use super::ask::Token;
use super::shown::{Call, Shown};
use crate::http::answer::Manner;

/// Answers that one connection may have outstanding; beyond it no further request is taken
/// from it until one has left.
pub const OUTSTANDING_MAX: usize = 64;

/// Sweeps that find a connection waiting before its buffers are given back.
const QUIET_SWEEPS: u8 = 4;

/// One answer, from request to bytes.
pub struct Slot {
    /// How it has to be written.
    pub manner: Manner,
    /// What was asked, as far as the answer depends on it.
    pub call: Call,
    state: State,
}

impl Slot {
    fn give_up(&mut self, mono_ms: u64, shown: Lsn) -> bool {
        match (self.call, &mut self.state) {
            (Call::ReadOrder(until_ms), State::Known(after, Shown::Order { view, .. }))
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
    /// The owner has not replied.
    Asked,
    /// It may be shown once that LSN is durable.
    Known(Lsn, Shown),
}

/// What the core keeps of one connection.
#[derive(Default)]
struct Place {
    generation: u32,
    used: bool,
    slots: VecDeque<Slot>,
    /// The number of the first slot in the queue.
    first: u32,
    /// Something has happened for the connection since it was last served.
    ready: bool,
    /// Its place stands in [`Connections::ready`].
    queued: bool,
    deadline_ms: u64,
    overdue: bool,
    /// Its batch waits for owners: nothing is read meanwhile.
    held: bool,
    /// How many sweeps have found it waiting since it last did something.
    sweeps: u8,
    quiet: bool,
}

impl Place {
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
    places: Vec<Place>,
    free: Vec<u32>,
    open: usize,
    /// Places for whose connections something may have happened, each at most once.
    ready: VecDeque<u32>,
    /// Per owner: answers that are known and wait for an LSN, by LSN.
    parked: Vec<VecDeque<(Lsn, Token)>>,
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

    /// A place for a new connection.
    pub fn enter(&mut self) -> Token {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() as u32 - 1
        });
        let row = &mut self.places[place as usize];
        row.used = true;
        (row.overdue, row.held, row.deadline_ms) = (false, false, u64::MAX);
        (row.sweeps, row.quiet) = (0, false);
        self.open += 1;
        Token { place, generation: row.generation }
    }

    /// Gives the place back; replies that are still under way find nobody.
    pub fn leave(&mut self, token: Token) {
        let row = &mut self.places[token.place as usize];
        debug_assert_eq!(row.generation, token.generation);
        row.generation = row.generation.wrapping_add(1);
        row.used = false;
        row.slots.clear();
        row.slots.shrink_to(OUTSTANDING_MAX / 8);
        row.ready = false;
        self.free.push(token.place);
        self.open -= 1;
    }

    fn row(&mut self, token: Token) -> Option<&mut Place> {
        self.places.get_mut(token.place as usize).filter(|row| row.used && row.generation == token.generation)
    }

    /// Whether the connection owes no answer.
    pub fn is_idle(&self, token: Token) -> bool {
        self.places[token.place as usize].slots.is_empty()
    }

    /// Whether one more request may be taken from it.
    pub fn has_room(&self, token: Token) -> bool {
        let row = &self.places[token.place as usize];
        row.slots.len() < OUTSTANDING_MAX && !row.held
    }

    /// Stops reading from the connection while its batch waits, or goes on.
    pub fn hold(&mut self, token: Token, held: bool) {
        if let Some(row) = self.row(token) {
            row.held = held;
        }
    }

    /// Whether the connection is still there.
    pub fn knows(&mut self, token: Token) -> bool {
        self.row(token).is_some()
    }

    /// Opens a slot for an answer that an owner will give; returns its number.
    pub fn open_slot(&mut self, token: Token, manner: Manner, call: Call) -> u32 {
        self.push(token, Slot { manner, call, state: State::Asked })
    }

    /// Queues an answer that is known.
    pub fn queue(&mut self, token: Token, manner: Manner, call: Call, after: Lsn, shown: Shown) {
        self.push(token, Slot { manner, call, state: State::Known(after, shown) });
    }

    fn push(&mut self, token: Token, slot: Slot) -> u32 {
        let row = &mut self.places[token.place as usize];
        row.slots.push_back(slot);
        row.first.wrapping_add(row.slots.len() as u32 - 1)
    }

    /// What was asked in a slot that is still open.
    pub fn call(&mut self, token: Token, number: u32) -> Option<Call> {
        self.slot(token, number).map(|slot| slot.call)
    }

    /// Fills a slot; it may be shown once `after` is durable, and waits for that in the
    /// queue of `owner`.
    pub fn fill(
        &mut self,
        token: Token,
        number: u32,
        owner: usize,
        (after, durable): (Lsn, Lsn),
        shown: Shown,
    ) {
        let Some(slot) = self.slot(token, number) else { return };
        slot.state = State::Known(after, shown);
        if after > durable {
            self.parked[owner].push_back((after, token));
        } else {
            self.wake(token);
        }
    }

    fn slot(&mut self, token: Token, number: u32) -> Option<&mut Slot> {
        let row = self.row(token)?;
        let index = number.wrapping_sub(row.first) as usize;
        row.slots.get_mut(index)
    }

    /// The answer at the head, if it may be shown: everything up to `durable` may.
    pub fn pop(&mut self, token: Token, durable: Lsn) -> Option<(Manner, Call, Shown)> {
        let row = self.row(token)?;
        match row.slots.front()?.state {
            State::Known(after, _) if after <= durable => {}
            _ => return None,
        }
        let slot = row.slots.pop_front()?;
        row.first = row.first.wrapping_add(1);
        match slot.state {
            State::Known(_, shown) => Some((slot.manner, slot.call, shown)),
            State::Asked => None,
        }
    }

    /// Marks the connections ready whose answers have become durable.
    pub fn release(&mut self, durable: Lsn) {
        for owner in 0..self.parked.len() {
            while let Some(&(after, token)) = self.parked[owner].front()
                && after <= durable
            {
                self.parked[owner].pop_front();
                self.wake(token);
            }
        }
    }

    /// Stops waiting where a reader's patience is over and the order is still not durable:
    /// it is shown as accepted. Looks at all connections; called by the sweep.
    pub fn give_up_waiting(&mut self, mono_ms: u64, shown: Lsn) {
        for (place, row) in self.places.iter_mut().enumerate().filter(|(_, row)| row.used) {
            let patience_over = row.slots.iter_mut().any(|slot| slot.give_up(mono_ms, shown));
            if patience_over {
                row.mark_ready(place as u32, &mut self.ready);
            }
        }
    }

    // ---- the transport ----

    pub(super) fn wake(&mut self, token: Token) {
        if let Some(row) = self.places.get_mut(token.place as usize)
            && row.used
            && row.generation == token.generation
        {
            row.mark_ready(token.place, &mut self.ready);
        }
    }

    /// Marks every connection ready: the server is going down.
    pub fn wake_all(&mut self) {
        for (place, row) in self.places.iter_mut().enumerate().filter(|(_, row)| row.used) {
            row.mark_ready(place as u32, &mut self.ready);
        }
    }

    /// The next connection that has to be served although it sent nothing.
    pub fn next_ready(&mut self) -> Option<Token> {
        while let Some(place) = self.ready.pop_front() {
            let row = &mut self.places[place as usize];
            row.queued = false;
            if std::mem::take(&mut row.ready) {
                return Some(Token { place, generation: row.generation });
            }
        }
        None
    }

    /// Takes note that the connection was served just now.
    pub(super) fn served(&mut self, token: Token) {
        self.places[token.place as usize].ready = false;
    }

    /// When the connection's present wait is over (monotonic ms).
    pub fn set_deadline(&mut self, token: Token, deadline_ms: u64) {
        if let Some(row) = self.row(token) {
            // The deadline of an idle connection stands still.
            if row.deadline_ms != deadline_ms {
                row.sweeps = 0;
            }
            row.deadline_ms = deadline_ms;
        }
    }

    /// True once when the connection has been waiting for so long that its buffers are better
    /// given back.
    pub fn take_quiet(&mut self, token: Token) -> bool {
        self.row(token).is_some_and(|row| std::mem::take(&mut row.quiet))
    }

    /// Marks the connections overdue, and ready, whose wait is over; returns how many.
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

    /// Whether the sweep found it overdue.
    pub fn is_overdue(&self, token: Token) -> bool {
        self.places[token.place as usize].overdue
    }
}
