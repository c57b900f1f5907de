//! Holding a draw: fixing what it comes from, and drawing its entries in order of rank.
//!
//! Between the end of the draw phase and the last entry the item is frozen: nothing
//! gives or takes its units and no entry changes, so that the result follows from
//! [`Fact::DrawHeld`] alone. What is half done at a crash goes on from there: the
//! entries that are left, and the units that are left, are what they were.
//! Next: [`crate::draw`].

use super::accepted::{Accepted, FactSink};
use super::error::ApplyError;
use super::state::Shard;
use super::steps::Steps;
use crate::draw::{Drawn, Held, Ranking};
use crate::fact::Fact;
use crate::item::{OrderState, Pile};
use crate::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};

/// An entry that is drawn: what the fact says of it.
#[derive(Clone, Copy)]
pub(super) struct EntryDrawn {
    pub(super) at_ms: UnixMillis,
    pub(super) order: OrderId,
    pub(super) quantity: Quantity,
    pub(super) to: OrderState,
    pub(super) pay_by_ms: UnixMillis,
}

impl Shard {
    // ---- what falls due ----

    /// Remembers when the item's draw has to be held. Called whenever that, or what it
    /// waits for, may have changed.
    pub(super) fn expect_draw(&mut self, slot: u32) {
        if let Some(draws_at_ms) = self.items.get(slot).draws_at_ms() {
            self.draws.push((draws_at_ms, slot));
        }
    }

    /// Lets the holds go back that waited for the end of a draw; the next ticks put them back.
    pub(super) fn release_postponed(&mut self) {
        self.releases |= self.postponed.len() > 0;
    }

    /// Puts holds back that were let go, as many as there are steps for.
    pub(super) fn put_back_postponed(&mut self, steps: &mut Steps) {
        if self.released.len() == 0 && self.releases {
            core::mem::swap(&mut self.released, &mut self.postponed);
            self.releases = false;
        }
        while self.released.len() > 0 && steps.take() {
            if let Some(due) = self.released.pop() {
                self.holds.push(due);
            }
        }
    }

    /// Whether holds wait to be put back.
    pub(super) const fn puts_back(&self) -> bool {
        self.releases || self.released.len() > 0
    }

    /// Holds the draws that are due. One that waits for a paused item is forgotten here and
    /// expected again when the item is switched.
    pub(super) fn hold_draws(
        &mut self,
        now: UnixMillis,
        budget: usize,
        steps: &mut Steps,
        sink: &mut impl FactSink,
    ) -> usize {
        let mut appended = 0;
        while appended < budget && steps.take() {
            let Some(slot) = self.draws.pop_by(now) else { break };
            if self.items.get(slot).draw_is_due(now) {
                self.hold_draw(now, slot, sink);
                appended += 1;
            }
        }
        appended
    }

    fn hold_draw(&mut self, now: UnixMillis, slot: u32, sink: &mut impl FactSink) {
        let item = self.items.get(slot);
        let drawn = what_is_drawn(item, now);
        let Drawn { entries, units, .. } = drawn;
        let fact = Fact::DrawHeld { at_ms: now, item: item.id(), entries, units, seed: item.seed() };
        let lsn = sink.append(Accepted::new(&fact));
        self.note(lsn, now);
        self.book_draw(lsn, slot, drawn);
    }

    /// Draws entries, of one item after the other; gathers their ranking first, a step at a time.
    pub(super) fn draw_entries_due(
        &mut self,
        now: UnixMillis,
        budget: usize,
        steps: &mut Steps,
        sink: &mut impl FactSink,
    ) -> usize {
        let mut appended = 0;
        while appended < budget && steps.take() {
            let Some(&slot) = self.drawing.front() else { break };
            let mut ranking = self.ranking_of(slot);
            let orders = &self.orders;
            let is_entered =
                |order| orders.find(order).is_some_and(|slot| orders.view(slot).state == OrderState::Entered);
            let seqs = self.items.get(slot).seqs();
            if !ranking.gather(seqs, &mut steps.gather, is_entered) {
                self.ranking = Some(ranking);
                break;
            }
            let order = ranking.pop().expect("as many entries as were counted");
            self.ranking = Some(ranking);
            self.draw_entry(now, slot, order, sink);
            appended += 1;
        }
        appended
    }

    fn ranking_of(&mut self, slot: u32) -> Ranking {
        let item = self.items.get(slot);
        let made = self.ranking.take().filter(|ranking| ranking.item == item.id());
        made.unwrap_or_else(|| Ranking::new(item.id(), item.seed(), item.last_seq, item.entered()))
    }

    fn draw_entry(&mut self, now: UnixMillis, item: u32, order: OrderId, sink: &mut impl FactSink) {
        let slot = self.orders.find(order).expect("a ranked order is there");
        let quantity = self.orders.view(slot).quantity;
        let (to, pay_by_ms) = self.fate(now, item, quantity);
        let row = self.items.get(item);
        if to.pile() != Pile::Available {
            let taken = row.gauge.stock.try_take(u64::from(quantity.get()));
            assert!(taken, "item {}: a winner's units were there when the draw was held", row.id());
        }
        let drawn = EntryDrawn { at_ms: now, order, quantity, to, pay_by_ms };
        let fact = Fact::EntryDrawn { at_ms: now, order, quantity, to, pay_by_ms };
        let lsn = sink.append(Accepted::new(&fact));
        self.note(lsn, now);
        self.book_entry_drawn(lsn, item, slot, &drawn);
    }

    /// What becomes of an entry that is the next in order of rank, and until when it is to be paid.
    fn fate(&self, now: UnixMillis, item: u32, quantity: Quantity) -> (OrderState, UnixMillis) {
        let row = self.items.get(item);
        if row.held_draw().is_some_and(|held| held.fits(quantity)) {
            (OrderState::initial(row.payment()), row.pay_by_ms(now))
        } else {
            (OrderState::Lost, UnixMillis(0))
        }
    }

    // ---- replay ----

    /// A draw that was held: what it came from must be what is there now.
    pub(super) fn take_draw(
        &mut self,
        number: impl FnOnce() -> Lsn,
        at_ms: UnixMillis,
        item: ItemId,
        fact: &Fact<'_>,
    ) -> Result<Lsn, ApplyError> {
        let slot = self.items.find(item).ok_or(ApplyError::UnknownItem(item))?;
        let row = self.items.get(slot);
        let drawn = what_is_drawn(row, at_ms);
        let same = matches!(*fact, Fact::DrawHeld { entries, units, seed, .. }
            if (entries, units, seed) == (drawn.entries, drawn.units, row.seed()));
        if !same || !row.draw_is_due(at_ms) {
            return Err(ApplyError::OutOfRange("draw"));
        }
        let lsn = number();
        self.book_draw(lsn, slot, drawn);
        Ok(lsn)
    }

    /// An entry that was drawn. Whether it was its turn is for an auditor to say.
    pub(super) fn take_entry_drawn(
        &mut self,
        number: impl FnOnce() -> Lsn,
        drawn: &EntryDrawn,
    ) -> Result<Lsn, ApplyError> {
        let order = drawn.order;
        let slot = self.orders.find(order).ok_or(ApplyError::UnknownOrder(order))?;
        let item = self.items.find(order.item()).ok_or(ApplyError::UnknownItem(order.item()))?;
        let seen = self.orders.view(slot);
        let fits = (seen.state, seen.quantity) == (OrderState::Entered, drawn.quantity);
        if !fits || !self.items.get(item).is_drawing() {
            return Err(ApplyError::WrongState { order, actual: seen.state });
        }
        if (drawn.to, drawn.pay_by_ms) != self.fate(drawn.at_ms, item, drawn.quantity) {
            return Err(ApplyError::OutOfRange("fate of an entry"));
        }
        self.take_again(item, drawn.quantity.get(), drawn.to.pile())?;
        let lsn = number();
        self.book_entry_drawn(lsn, item, slot, drawn);
        Ok(lsn)
    }

    // ---- booking that both roads share ----

    fn book_draw(&mut self, lsn: Lsn, slot: u32, drawn: Drawn) {
        let row = self.items.get_mut(slot);
        row.set_held(lsn, Held::new(drawn, lsn));
        row.touch(lsn);
        if drawn.entries == 0 {
            self.release_postponed();
        } else {
            self.drawing.push_back(slot);
        }
    }

    /// The stock, if a winner's state needs any, was taken before.
    fn book_entry_drawn(&mut self, lsn: Lsn, item: u32, slot: u32, drawn: &EntryDrawn) {
        self.orders.set_drawn(slot, drawn.pay_by_ms);
        self.book_move(lsn, slot, drawn.to);
        if drawn.pay_by_ms.0 != 0 {
            self.holds.push((drawn.pay_by_ms, slot));
        }
        let row = self.items.get_mut(item);
        let won = (drawn.to != OrderState::Lost).then_some(drawn.quantity);
        let noted = row.held_draw_mut().is_some_and(|held| held.note(won, lsn));
        assert!(noted, "item {}: more was won than there was", row.id());
        if row.entered() == 0 {
            row.show(lsn);
            self.drawing.retain(|&at| at != item);
            self.ranking = None;
            self.release_postponed();
        }
    }
}

/// What a draw held at `now` comes from.
fn what_is_drawn(item: &crate::items::Item, now: UnixMillis) -> Drawn {
    let units = if item.over() { 0 } else { item.gauge.stock.available() };
    Drawn { at_ms: now, units, entries: item.entered(), last_seq: item.last_seq }
}
