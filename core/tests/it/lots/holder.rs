//! A lot core's side: sells out of its lease, parks what does not fit, asks for more.
//!
//! It never says *sold out* by itself: that is read from the board or comes from the owner.

use std::collections::VecDeque;

use super::facts::Fact;
use super::system::{Answer, Bug, Bus, Keeping, Message};

/// One buyer's wish, at one core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purchase {
    /// Rises with the order of arrival, over all cores.
    pub(crate) id: u64,
    pub(crate) units: u64,
}

/// A question that is under way to the owner.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The last purchase that was parked when it was put, if any: an answer that there is
    /// nothing is good for purchases up to here, since they had arrived before.
    up_to: Option<u64>,
}

/// The state of one core.
#[derive(Default, Debug)]
pub(crate) struct Holder {
    core: usize,
    parked_max: usize,
    lease: u64,
    parked: VecDeque<Purchase>,
    asked: Option<Asked>,
    /// The last grant: with a quarter of it left, more is asked for. Zero: not before it is needed.
    last_grant: u64,
    grants_seen: u64,
    /// A recall that waits for grants that are still under way: its round and their number.
    recall: Option<(u64, u64)>,
    /// Odd: paused. Rises with each pause and each end of one.
    epoch: u64,
}

impl Holder {
    pub(crate) fn new(core: usize, parked_max: usize, lease: u64, epoch: u64) -> Self {
        Self { core, parked_max, lease, epoch, ..Self::default() }
    }

    /// Units here.
    pub(crate) fn lease(&self) -> u64 {
        self.lease
    }

    /// Whether nobody waits here for anything.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.parked.is_empty() && self.asked.is_none() && self.recall.is_none()
    }

    fn is_paused(&self) -> bool {
        self.epoch % 2 == 1
    }

    /// A purchase arrives.
    pub(crate) fn buy(&mut self, purchase: Purchase, bus: &mut Bus) {
        if self.is_paused() {
            bus.answer(purchase.id, Answer::Paused);
        } else if bus.board.is_sold_out() {
            bus.answer(purchase.id, Answer::SoldOut);
        } else if self.parked.len() == self.parked_max {
            bus.answer(purchase.id, Answer::Busy);
        } else {
            self.parked.push_back(purchase);
            self.settle(bus);
        }
    }

    /// An order is cancelled or expires here: its units are available at this core.
    pub(crate) fn give_back(&mut self, order: u64, units: u64, bus: &mut Bus) {
        bus.append(Fact::Returned { core: self.core, order, units });
        let lost = bus.bug == Some(Bug::ReturnLost) && self.recall.is_some();
        self.lease += if lost { 0 } else { units };
        if bus.bug != Some(Bug::MarkStays) {
            bus.board.came_back();
        }
        self.settle(bus);
    }

    /// Sells to whoever waits, in order, and asks for what is missing.
    fn settle(&mut self, bus: &mut Bus) {
        while let Some(next) =
            self.parked.front().filter(|next| next.units <= self.lease && !self.is_paused())
        {
            bus.append(Fact::Sold { core: self.core, order: next.id, units: next.units });
            bus.answer(next.id, Answer::Sold);
            self.lease -= next.units;
            self.parked.pop_front();
        }
        let missing = self.parked.front().map(|next| next.units);
        let ends_soon = self.lease < self.last_grant / 4;
        if self.asked.is_none() && (missing.is_some() || ends_soon) {
            self.asked = Some(Asked { up_to: self.parked.back().map(|last| last.id) });
            bus.tell_owner(Message::Ask { core: self.core, want: missing.unwrap_or(0) });
        }
    }

    /// A message of the owner.
    pub(crate) fn receive(&mut self, message: &Message, bus: &mut Bus) {
        match *message {
            Message::Grant { units } => {
                self.lease += units;
                self.last_grant = units;
                self.grants_seen += 1;
                self.asked = None;
                self.settle(bus);
                self.yield_if_due(bus);
            }
            Message::Dry { available } => self.refuse_parked(available, bus),
            Message::Recall { round, grants_sent, epoch } => {
                self.turn_to(epoch, bus);
                self.recall = Some((round, grants_sent));
                self.yield_if_due(bus);
            }
            Message::Resume { epoch } => self.turn_to(epoch, bus),
            Message::Ask { .. } | Message::Yield { .. } => unreachable!("the owner's"),
        }
    }

    /// At some instant since the question was put, the whole system had just `available`.
    fn refuse_parked(&mut self, available: u64, bus: &mut Bus) {
        let up_to = self.asked.take().and_then(|asked| asked.up_to);
        let is_refused = |next: &Purchase| Some(next.id) <= up_to && next.units > available;
        for refused in self.parked.iter().filter(|next| is_refused(next)) {
            bus.answer(refused.id, Answer::SoldOut);
        }
        self.parked.retain(|next| !is_refused(next));
        self.settle(bus);
    }

    /// Messages may overtake each other: an older epoch changes nothing.
    fn turn_to(&mut self, epoch: u64, bus: &mut Bus) {
        self.epoch = self.epoch.max(epoch);
        if self.is_paused() {
            self.parked.drain(..).for_each(|next| bus.answer(next.id, Answer::Paused));
        }
    }

    /// Gives everything away, once every grant that the owner had sent before has arrived.
    fn yield_if_due(&mut self, bus: &mut Bus) {
        let all_seen = |sent| self.grants_seen == sent || bus.bug == Some(Bug::GrantsOvertaken);
        let Some((round, _)) = self.recall.filter(|&(_, sent)| all_seen(sent)) else { return };
        self.recall = None;
        self.last_grant = 0;
        let units = std::mem::take(&mut self.lease);
        if bus.keeping == Keeping::Logged && units > 0 {
            bus.append(Fact::Yielded { core: self.core, units });
        }
        bus.tell_owner(Message::Yield { round, units });
    }
}
