//! Holding a draw: fixing its inputs, and drawing its entries in order of rank.
//!
//! Between the end of the draw phase and the last entry the item is frozen: nothing
//! gives or takes its units and no entry changes, so that the result follows from
//! [`Fact::DrawHeld`] alone. After a crash a half-done draw goes on where it was: the
//! remaining entries and units are the same. Next: [`crate::draw`].

use super::accepted::{Accepted, FactSink};
use super::error::ApplyError;
use super::state::Shard;
use super::steps::Steps;
use crate::draw::{Drawn, HeldDraw, Ranking};
use crate::fact::Fact;
use crate::item::{OrderState, Pile};
use crate::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};

/// A drawn entry, as its fact has it.
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

    /// Releases the holds that waited for the end of a draw; the next ticks put them back.
    pub(super) fn release_postponed(&mut self) {
        self.release_all |= self.postponed.len() > 0;
    }

    /// Puts released holds back among those that fall due, one for each step.
    pub(super) fn put_back_released(&mut self, steps: &mut Steps) {
        if self.released.len() == 0 && self.release_all {
            core::mem::swap(&mut self.released, &mut self.postponed);
            self.release_all = false;
        }
        while self.released.len() > 0 && steps.take() {
            if let Some(due) = self.released.pop() {
                self.holds.push(due);
            }
        }
    }

    /// Whether released holds wait to be put back.
    pub(super) const fn has_released(&self) -> bool {
        self.release_all || self.released.len() > 0
    }

    /// Begins the item's draw, if it is due. A draw that waits for a paused item is forgotten here
    /// and expected again when the item is switched.
    pub(super) fn begin_draw(&mut self, now: UnixMillis, slot: u32, sink: &mut impl FactSink) -> bool {
        let item = self.items.get(slot);
        if !item.draw_is_due(now) {
            return false;
        }
        let drawn = draw_inputs(item, now);
        let Drawn { entries, units, .. } = drawn;
        let fact = Fact::DrawHeld { at_ms: now, item: item.id(), entries, units, seed: item.seed() };
        let lsn = sink.append(Accepted::new(&fact));
        self.note(lsn, now);
        self.book_draw(lsn, slot, drawn);
        true
    }

    /// Draws entries, one item after the other; gathers their ranking first, a step at a time.
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
        let (to, pay_by_ms) = self.draw_outcome(now, item, quantity);
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

    /// The state of the entry that is the next by rank once it is drawn, and its deadline.
    fn draw_outcome(&self, now: UnixMillis, item: u32, quantity: Quantity) -> (OrderState, UnixMillis) {
        let row = self.items.get(item);
        if row.held_draw().is_some_and(|held| held.fits(quantity)) {
            (OrderState::initial(row.payment()), row.pay_by_ms(now))
        } else {
            (OrderState::Lost, UnixMillis(0))
        }
    }

    // ---- replay ----

    /// Replays a draw that was held: its inputs must be what is there now.
    pub(super) fn take_draw(
        &mut self,
        number: impl FnOnce() -> Lsn,
        at_ms: UnixMillis,
        item: ItemId,
        fact: &Fact<'_>,
    ) -> Result<Lsn, ApplyError> {
        let slot = self.items.find(item).ok_or(ApplyError::UnknownItem(item))?;
        let row = self.items.get(slot);
        let drawn = draw_inputs(row, at_ms);
        let same = matches!(*fact, Fact::DrawHeld { entries, units, seed, .. }
            if (entries, units, seed) == (drawn.entries, drawn.units, row.seed()));
        if !same || !row.draw_is_due(at_ms) {
            return Err(ApplyError::OutOfRange("draw"));
        }
        let lsn = number();
        self.book_draw(lsn, slot, drawn);
        Ok(lsn)
    }

    /// Replays a drawn entry. Whether it was the next by rank is for an auditor to check.
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
        if (drawn.to, drawn.pay_by_ms) != self.draw_outcome(drawn.at_ms, item, drawn.quantity) {
            return Err(ApplyError::OutOfRange("outcome of a drawn entry"));
        }
        self.take_again(item, drawn.quantity.get(), drawn.to.pile())?;
        let lsn = number();
        self.book_entry_drawn(lsn, item, slot, drawn);
        Ok(lsn)
    }

    // ---- booking, shared by decisions and replay ----

    fn book_draw(&mut self, lsn: Lsn, slot: u32, drawn: Drawn) {
        let row = self.items.get_mut(slot);
        row.set_held(lsn, HeldDraw::new(drawn, lsn));
        row.touch(lsn);
        if drawn.entries == 0 {
            self.release_postponed();
        } else {
            self.drawing.push_back(slot);
        }
    }

    /// The stock of a winner was taken before, if its state needs any.
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

/// The inputs of a draw that is held at `now`.
fn draw_inputs(item: &crate::items::Item, now: UnixMillis) -> Drawn {
    let units = if item.over() { 0 } else { item.gauge.stock.available() };
    Drawn { at_ms: now, units, entries: item.entered(), last_seq: item.last_seq }
}
