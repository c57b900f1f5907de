//! The home's side of a core: from requests to responses.
//!
//! It answers by itself what it can (bad requests, early refusals, pages), asks the
//! owner for the rest, and sends a response only when what it shows is durable (I3).
//! On its own thread alone; the core's loop calls in: [`Home::serve`] when bytes came or
//! responses may go, [`Home::pump`] when the core was woken, [`Home::tick`] 50 times a
//! second. This file is what a core does between requests.
//!
//! Next: [`serve`] for a connection, [`replies`] for what owners reply, [`owner_turn`] for the owner; [`buyer`],
//! [`batch`], [`gate`], [`merchant`] and [`site`] for the endpoints, [`gather`] for responses that several owners
//! give, [`ops`] for health and metrics.

mod batch;
mod buyer;
mod connect;
mod draw;
mod gate;
mod gather;
mod lists;
mod merchant;
mod open_batches;
mod open_gathers;
mod ops;
mod owner_turn;
mod replies;
mod serve;
mod site;
mod site_pages;
mod state;

use std::sync::Arc;
use std::task::Waker;

use self::owner_turn::Asking;
pub use self::state::{Client, Home, OUT_BYTES_MAX};
use super::ask::Ask;
use super::clock::Now;
use super::counters::{Count, Counters};
use super::owner::Owner;
use super::shared::{Phase, Shared};

/// Batches of due holds and windows in one tick; the rest waits for the next.
const TICK_BATCHES_MAX: usize = 32;
/// Of these, batches that examine rows and find nothing to do.
const TICK_BATCHES_IDLE_MAX: usize = 4;
/// How often an idle engine records the time in its log, in milliseconds.
const CLOCK_MARK_MS: u64 = 60_000;
/// The same while there are valid tickets: a clock that is set back before a restart can revive an expired
/// ticket for at most this long.
const CLOCK_MARK_TICKETS_MS: u64 = 500;

impl Home {
    /// The core's owner, for reading.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// What all cores share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Reads the clock and counts a turn of the core; called once per turn.
    pub fn read_clock(&mut self) -> Now {
        self.shared.state.pulse.beat(self.core);
        self.now = self.clock.now();
        let second = self.now.sale.0 / 1000;
        if second != self.date_s {
            (self.date, self.date_s) = (self.shared.date(second), second);
        }
        if self.shared.phase() >= Phase::Draining {
            self.draining_since_ms.get_or_insert(self.now.mono_ms);
        }
        self.now
    }

    /// The time as of the last [`Self::read_clock`], in monotonic milliseconds.
    pub fn mono_ms(&self) -> u64 {
        self.now.mono_ms
    }

    /// Sets how the core is woken, from any thread, to call [`Self::pump`].
    pub fn register_pump(&mut self, waker: &Waker) {
        self.mesh.waker().register(waker);
    }

    /// One sleep of the core: `sleep` learns whether it may wait until the waker is called. Call
    /// [`Self::read_clock`] afterwards, and [`Self::pump`] if [`Self::has_work`].
    pub fn sleep<R>(&self, sleep: impl FnOnce(bool) -> R) -> R {
        self.mesh.waker().sleep(|| self.has_work(), sleep)
    }

    /// Whether the core may end; to be called once its listening sockets are closed. It has drained when no
    /// connection is left, and may end when all cores have drained: until then others may ask its owner.
    pub fn may_end(&mut self) -> bool {
        if self.connections.open() == 0 && !std::mem::replace(&mut self.has_drained, true) {
            self.shared.one_has_drained();
        }
        self.shared.all_have_drained()
    }

    /// Publishes whether this core can accept connections: the error number if not.
    pub fn accept_fails(&self, error: Option<i32>) {
        self.shared.state.accept_errors.note(self.core, error);
    }

    /// Whether requests, facts or replies wait to be sent by [`Self::pump`].
    pub fn needs_pump(&self) -> bool {
        self.needs_flush
    }

    fn counters(&self) -> &Counters {
        &self.shared.state.counters[self.core]
    }

    /// Counts something on this core.
    pub fn count(&self, count: Count) {
        self.counters().add(count);
    }

    /// Decides what other cores ask, takes their replies, releases responses that have become durable,
    /// and wakes the cores that got messages. Returns whether more work waits already.
    pub fn pump(&mut self) -> bool {
        let more = self.decide_batch();
        self.take_replies();
        self.flush();
        self.release();
        more
    }

    /// Whether [`Self::pump`] would find something to do.
    pub fn has_work(&self) -> bool {
        self.needs_flush || self.contended || self.shared.shown_lsn() > self.released || self.mesh.has_work()
    }

    fn decide_batch(&mut self) -> bool {
        let (now, owner, mesh, cut) = (self.now.sale, &mut self.owner, &mut self.mesh, &mut self.cut);
        self.contended = self.turns.serve(&mut Asking { now, owner, mesh, cut }, self.turn_max);
        self.contended
    }

    /// Whether another home waits for this owner.
    fn somebody_waits(&self) -> bool {
        self.contended || (0..self.mesh.cores()).any(|home| self.mesh.has_ask(home))
    }

    fn take_replies(&mut self) {
        for owner in 0..self.mesh.cores() {
            while let Some((to, reply)) = self.mesh.next_reply(owner) {
                self.deliver(owner, to, reply);
            }
        }
    }

    fn flush(&mut self) {
        self.needs_flush = false;
        self.owner.flush();
        self.mesh.flush();
    }

    fn release(&mut self) {
        let shown = self.shared.shown_lsn();
        if shown > self.released {
            self.released = shown;
            self.connections.release(shown);
            self.retry_batches();
        }
    }

    /// Does what is due: expires holds, ends windows, records the time.
    pub fn tick(&mut self) {
        let now = self.read_clock();
        let mut idle = 0;
        for _ in 0..TICK_BATCHES_MAX {
            let due = self.owner.tick(now.sale);
            self.counters().add_many(Count::Ticked, due as u64);
            idle += usize::from(due == 0);
            if due == 0 && (idle == TICK_BATCHES_IDLE_MAX || !self.owner.has_more_due(now.sale)) {
                break;
            }
            self.owner.flush();
        }
        self.retry_batches();
        // Here and not in `pump`: a connection that only opens and closes does not wake the core.
        self.counters().set_open(self.connections.open());
        let tickets_out = self.shared.gate.tickets.are_out(now.sale);
        let mark_ms = if tickets_out { CLOCK_MARK_TICKETS_MS } else { CLOCK_MARK_MS };
        if self.core == 0 && now.mono_ms - self.marked_ms >= mark_ms {
            self.marked_ms = now.mono_ms;
            self.owner.answer(now.sale, &Ask::Rare(Box::new(super::ask::RareAsk::MarkClock)));
        }
        self.flush();
    }

    /// Closes connections past their deadline; called twice a second.
    pub fn sweep(&mut self) {
        self.sweep_batches();
        let overdue = self.connections.sweep(self.now.mono_ms);
        self.counters().add_many(Count::Overdue, overdue as u64);
        self.connections.give_up_waiting(self.now.mono_ms, self.shared.shown_lsn());
        if self.shared.phase() >= Phase::Draining {
            self.connections.wake_all();
        }
    }
}
