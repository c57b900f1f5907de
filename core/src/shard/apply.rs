//! Replay: books facts that were decided before, and refuses one that cannot follow.
//!
//! It never decides again. It checks what the decision guaranteed, so that every fact
//! is checked on two independent paths. A refusal here means that the log is not a log
//! of this engine, or that the engine had a bug; the caller must not go on.

use alloc::boxed::Box;

use super::drawing::EntryDrawn;
use super::error::ApplyError;
use super::flags::{created_flags, switched};
use super::state::Shard;
use crate::draw::{DrawRow, DrawSeed};
use crate::fact::{Fact, ImportedMoney};
use crate::gauge::Rules;
use crate::item::{ItemSpec, OrderState, Pile};
use crate::items::NewItem;
use crate::limits::{HOLD_MS_MAX, STOCK_MAX, UNIX_MILLIS_MAX};
use crate::money::{Late, MoneyKind, MoneyRow, Price};
use crate::orders::NewOrder;
use crate::state_row::CallRow;
use crate::types::{HashSecret, ItemId, Lsn, OrderId, Quantity, UnixMillis};

type Applied = Result<(), ApplyError>;
/// The number of a fact that was booked.
type Taken = Result<Lsn, ApplyError>;

impl Shard {
    /// Books a fact that was decided earlier, by this shard or by one that owned its items.
    ///
    /// # Errors
    /// If the fact cannot follow the ones before it; the shard must not be used after that.
    pub fn apply(&mut self, lsn: Lsn, fact: &Fact<'_>) -> Applied {
        if lsn <= self.lsn {
            return Err(ApplyError::OutOfOrder(lsn));
        }
        self.take(fact, || lsn).map(|_| ())
    }

    /// Checks a fact, gets its LSN, and books it, in this order: a refused fact gets no LSN and
    /// leaves the shard as it was.
    pub(super) fn take(&mut self, fact: &Fact<'_>, number: impl FnOnce() -> Lsn) -> Taken {
        let lsn = match *fact {
            Fact::ItemCreated { item, ref spec, granted, seed, actor, .. } => {
                self.take_created(number, item, (spec, seed, actor), granted)?
            }
            Fact::ItemChanged { at_ms, item, ref spec, seed, .. } => {
                self.take_changed(number, at_ms, item, (spec, seed))?
            }
            Fact::StockAdjusted { item, delta, key, .. } => {
                let lsn = self.take_adjusted(number, item, delta)?;
                self.note_call(lsn, item, key, delta);
                lsn
            }
            Fact::ItemSwitched { item, switch, actor, key, .. } => {
                let (slot, lsn) = (self.known(item)?, number());
                self.book_switch(lsn, slot, switched(self.items.get(slot).flags(), switch, actor));
                self.note_call(lsn, item, key, i64::from(switch.code()));
                lsn
            }
            Fact::OrderPlaced { order, .. } | Fact::OrderImported { order, .. } => {
                self.take_placed(number, order, fact)?
            }
            Fact::OrderMoved { at_ms, order, quantity, from, to, payment_ref, .. } => {
                self.take_moved(number, (at_ms, order, quantity), (from, to), payment_ref)?
            }
            Fact::OrderRefunded { .. } => self.take_refund(number, fact)?,
            Fact::PaymentLate { at_ms, order, payment_ref, .. } => {
                let slot = self.orders.find(order).ok_or(ApplyError::UnknownOrder(order))?;
                let lsn = number();
                self.book_payment(slot, (MoneyKind::LatePayment, lsn, at_ms), payment_ref);
                lsn
            }
            Fact::LatePaymentReturned { at_ms, order, payment_ref, refund_ref, .. } => {
                let slot = self.orders.find(order).ok_or(ApplyError::UnknownOrder(order))?;
                if self.orders.late(slot, self.reference(payment_ref)) != Some(Late::Open) {
                    return Err(ApplyError::OutOfRange("payment_ref"));
                }
                let lsn = number();
                self.book_return(slot, (lsn, at_ms), payment_ref, refund_ref);
                lsn
            }
            Fact::HoldExtended { at_ms, order, quantity, state, pay_by_ms, .. } => {
                let slot = self.orders.find(order).ok_or(ApplyError::UnknownOrder(order))?;
                let seen = self.orders.view(slot);
                let waits = matches!(state, OrderState::Held | OrderState::Pending);
                if !waits || (seen.state, seen.quantity) != (state, quantity) {
                    return Err(ApplyError::WrongState { order, actual: seen.state });
                }
                check_deadline(seen.created_at_ms, pay_by_ms, PAY_BY_MS_MAX)?;
                let lsn = number();
                self.book_deadline((lsn, at_ms), slot, pay_by_ms);
                lsn
            }
            Fact::DrawHeld { at_ms, item, .. } => self.take_draw(number, at_ms, item, fact)?,
            Fact::EntryDrawn { at_ms, order, quantity, to, pay_by_ms } => {
                self.take_entry_drawn(number, &EntryDrawn { at_ms, order, quantity, to, pay_by_ms })?
            }
            Fact::BuyerBlocked { subject, blocked, .. } => {
                self.book_block(subject, blocked);
                number()
            }
            Fact::ClockMark { .. } => number(),
        };
        if fact.item().is_some() || self.index == 0 {
            self.audit.note(lsn, fact);
        }
        self.note(lsn, fact.at_ms());
        Ok(lsn)
    }

    pub(super) fn known(&self, item: ItemId) -> Result<u32, ApplyError> {
        self.items.find(item).ok_or(ApplyError::UnknownItem(item))
    }

    fn take_created(
        &mut self,
        number: impl FnOnce() -> Lsn,
        item: ItemId,
        (spec, seed, actor): (&ItemSpec<'_>, DrawSeed, &str),
        granted: u64,
    ) -> Taken {
        if self.items.find(item).is_some() {
            return Err(ApplyError::ItemExists(item));
        }
        spec.check().map_err(|error| ApplyError::OutOfRange(error.field))?;
        if granted > STOCK_MAX {
            return Err(ApplyError::OutOfRange("stock"));
        }
        check_seed(spec, seed)?;
        let lsn = number();
        let (draw, flags) = (DrawRow::of(seed), created_flags(actor));
        self.book_item(lsn, &NewItem { id: item, spec: *spec, granted, flags, epoch: 0, draw });
        Ok(lsn)
    }

    fn take_changed(
        &mut self,
        number: impl FnOnce() -> Lsn,
        at_ms: UnixMillis,
        item: ItemId,
        (spec, seed): (&ItemSpec<'_>, DrawSeed),
    ) -> Taken {
        let slot = self.known(item)?;
        spec.check().map_err(|error| ApplyError::OutOfRange(error.field))?;
        if spec.payment != self.items.get(slot).payment() {
            return Err(ApplyError::OutOfRange("payment"));
        }
        check_seed(spec, seed)?;
        let (row, current) = (self.items.get(slot), self.items.get(slot).seed());
        let fixed = row.draw_has_begun(at_ms) && row.draws_at_ms() != Some(spec.draws_at_ms());
        if fixed || (!current.is_none() && current != seed) {
            return Err(ApplyError::OutOfRange("draw"));
        }
        let lsn = number();
        self.book_change(lsn, at_ms, slot, (spec, seed));
        Ok(lsn)
    }

    fn take_adjusted(&mut self, number: impl FnOnce() -> Lsn, item: ItemId, delta: i64) -> Taken {
        let slot = self.known(item)?;
        let row = self.items.get(slot);
        let granted = row.granted.checked_add_signed(delta).filter(|&granted| granted <= STOCK_MAX);
        let granted = granted.ok_or(ApplyError::OutOfRange("stock"))?;
        if row.is_drawing() {
            return Err(ApplyError::Drawing(item));
        }
        if !row.gauge.stock.try_take(delta.min(0).unsigned_abs()) {
            return Err(ApplyError::Oversold(item));
        }
        let lsn = number();
        self.book_adjustment(lsn, slot, granted, delta.max(0) as u64);
        Ok(lsn)
    }

    fn take_placed(&mut self, number: impl FnOnce() -> Lsn, order: OrderId, fact: &Fact<'_>) -> Taken {
        let (item, new) = self.judge_placed(order, fact)?;
        self.enter_holder(item, new.buyer);
        self.take_again(item, new.live_units(), new.state.pile())?;
        let lsn = number();
        let slot = self.book_order(item, &NewOrder { lsn, state_lsn: lsn, ..new });
        if let Fact::OrderImported { payment_ref, money, .. } = *fact {
            self.book_imported_money(slot, lsn, payment_ref, &money);
        }
        Ok(lsn)
    }

    /// Checks everything but the stock. Returns the item, and the order as a row without an LSN.
    pub(super) fn judge_placed<'a>(
        &self,
        order: OrderId,
        fact: &Fact<'a>,
    ) -> Result<(u32, NewOrder<'a>), ApplyError> {
        let item = self.known(order.item())?;
        let last_seq = self.items.get(item).last_seq;
        // An import keeps the numbers that it finds; it is only sure that they ascend.
        let follows = match fact {
            Fact::OrderImported { .. } => order.seq() > last_seq,
            _ => Some(order.seq()) == last_seq.checked_add(1),
        };
        if !follows {
            return Err(ApplyError::SequenceGap { order, expected: last_seq.wrapping_add(1) });
        }
        if !self.orders.has_room() {
            return Err(ApplyError::Full);
        }
        let new = placed(fact, Lsn::ZERO, &self.secret).ok_or(ApplyError::UnknownOrder(order))?;
        let all = new.state == OrderState::Refunded;
        let given_back =
            if all { new.refunded <= new.quantity.get() } else { new.refunded < new.quantity.get() };
        if !given_back || (new.refunded > 0 && !all && new.state != OrderState::Paid) {
            return Err(ApplyError::OutOfRange("refunded"));
        }
        self.check_placed(item, &new, fact)?;
        // A fact older than the field: the price was that of the item at the time.
        let old = matches!(fact, Fact::OrderPlaced { .. }) && new.price == Price::UNKNOWN;
        let price = if old { self.items.get(item).price() } else { new.price };
        Ok((item, NewOrder { price, ..new }))
    }

    /// Checks the order's deadline, and its state against the item's draw.
    fn check_placed(&self, item: u32, new: &NewOrder<'_>, fact: &Fact<'_>) -> Applied {
        let placed = matches!(fact, Fact::OrderPlaced { .. });
        let last_ms = if placed { new.created_at_ms.0 + HOLD_MS_MAX } else { PAY_BY_MS_MAX };
        check_deadline(new.created_at_ms, new.pay_by_ms, last_ms)?;
        let row = self.items.get(item);
        if row.is_drawing() {
            return Err(ApplyError::Drawing(row.id()));
        }
        let entered = new.state == OrderState::Entered;
        if placed && entered != row.takes_entries(fact.at_ms()) {
            return Err(ApplyError::OutOfRange("state"));
        }
        Ok(())
    }

    fn take_moved(
        &mut self,
        number: impl FnOnce() -> Lsn,
        (at_ms, order, quantity): (UnixMillis, OrderId, Quantity),
        (from, to): (OrderState, OrderState),
        payment_ref: &[u8],
    ) -> Taken {
        let slot = self.orders.find(order).ok_or(ApplyError::UnknownOrder(order))?;
        let seen = self.orders.view(slot);
        if seen.state != from || seen.quantity != quantity || !can_follow(from, to) {
            return Err(ApplyError::WrongState { order, actual: seen.state });
        }
        let item = self.known(order.item())?;
        let touches = from.pile() == Pile::Available || to.pile() == Pile::Available;
        if touches && self.items.get(item).is_drawing() {
            return Err(ApplyError::Drawing(order.item()));
        }
        if from.pile() == Pile::Available {
            self.take_again(item, quantity.get(), to.pile())?;
        }
        let lsn = number();
        self.book_move(lsn, slot, to);
        self.book_end(slot, to, (lsn, at_ms));
        if to == OrderState::Paid || !payment_ref.is_empty() {
            self.book_payment(slot, (MoneyKind::Payment, lsn, at_ms), payment_ref);
        }
        Ok(lsn)
    }

    fn take_refund(&mut self, number: impl FnOnce() -> Lsn, fact: &Fact<'_>) -> Taken {
        let Fact::OrderRefunded { at_ms, order, quantity, units, refunded, refund_ref, .. } = *fact else {
            return Err(ApplyError::OutOfRange("refund"));
        };
        let slot = self.orders.find(order).ok_or(ApplyError::UnknownOrder(order))?;
        let seen = self.orders.view(slot);
        if seen.state != OrderState::Paid || seen.quantity != quantity {
            return Err(ApplyError::WrongState { order, actual: seen.state });
        }
        if seen.refunded + units.get() != refunded.get() || refunded > quantity {
            return Err(ApplyError::OutOfRange("refunded"));
        }
        let item = self.known(order.item())?;
        if self.items.get(item).is_drawing() {
            return Err(ApplyError::Drawing(order.item()));
        }
        let lsn = number();
        let refund = self.refund_row((at_ms, lsn), order, units.get(), refund_ref);
        self.book_refund(slot, &refund, quantity, refunded.get());
        Ok(lsn)
    }

    pub(super) fn refund_row<'a>(
        &self,
        (at_ms, lsn): (UnixMillis, Lsn),
        order: OrderId,
        units: u32,
        reference: &'a [u8],
    ) -> MoneyRow<'a> {
        let reference_hash = self.reference(reference);
        MoneyRow { order, kind: MoneyKind::Refund, at_ms, lsn, units, reference_hash, reference }
    }

    /// Books what Postgres knew of an order's money; it did not know the times.
    fn book_imported_money(&mut self, slot: u32, lsn: Lsn, payment_ref: &[u8], money: &ImportedMoney<'_>) {
        if !payment_ref.is_empty() {
            self.book_payment(slot, (MoneyKind::Payment, lsn, UnixMillis(0)), payment_ref);
        }
        let seen = self.orders.view(slot);
        if money.refunded > 0 || !money.refund_ref.is_empty() {
            let refund = self.refund_row((UnixMillis(0), lsn), seen.order, money.refunded, money.refund_ref);
            self.orders.add_money(slot, &refund);
        }
    }

    /// Records the key of a call about an item, if it had one.
    pub(super) fn note_call(&mut self, lsn: Lsn, item: ItemId, key: &[u8], asked: i64) {
        let key_hash = self.reference(key);
        if let Some(slot) = self.items.find(item).filter(|_| key_hash != 0) {
            self.items.get_mut(slot).note_call(CallRow { item, key_hash, asked, lsn });
        }
    }

    /// Takes the stock that the decision took.
    pub(super) fn take_again(&self, item: u32, units: u32, pile: Pile) -> Applied {
        let item = self.items.get(item);
        let taken = pile == Pile::Available || item.gauge.stock.try_take(u64::from(units));
        if taken { Ok(()) } else { Err(ApplyError::Oversold(item.id())) }
    }

    // ---- booking, shared by decisions and replay ----

    pub(super) fn book_change(
        &mut self,
        lsn: Lsn,
        at_ms: UnixMillis,
        slot: u32,
        (spec, seed): (&ItemSpec<'_>, DrawSeed),
    ) {
        let item = self.items.get(slot);
        let moved = spec.closes_at_ms != item.closes_at_ms();
        let (flags, begins_anew) = (item.flags(), spec.closes_at_ms > at_ms && item.has(Rules::ENDED));
        self.items.change(slot, lsn, spec);
        self.items.get_mut(slot).set_seed(seed);
        if begins_anew {
            self.items.set_flags(slot, lsn, flags & !Rules::ENDED);
        }
        self.items.get_mut(slot).touch(lsn);
        if moved {
            self.windows.push((spec.closes_at_ms, slot));
        }
        self.expect_draw(slot);
    }

    /// Withdrawn units were taken from the gauge before; granted ones are given here.
    pub(super) fn book_adjustment(&mut self, lsn: Lsn, slot: u32, granted: u64, given: u64) {
        let item = self.items.get_mut(slot);
        item.set_granted(granted);
        item.gauge.stock.give(given);
        item.touch(lsn);
    }

    pub(super) fn book_switch(&mut self, lsn: Lsn, slot: u32, flags: u8) {
        self.items.set_flags(slot, lsn, flags);
        self.items.get_mut(slot).touch(lsn);
        // A draw may have waited for this switch, or may no longer delay the holds that wait for it.
        self.expect_draw(slot);
        self.release_postponed();
    }

    /// Follows the decision of shard 0 to block or unblock a buyer. Not for replay.
    pub fn follow_block(&mut self, subject: &[u8], blocked: bool) {
        self.book_block(subject, blocked);
    }

    pub(super) fn book_block(&mut self, subject: &[u8], blocked: bool) {
        let buyer = self.secret.buyer(subject);
        if blocked {
            self.blocked.insert(buyer, Box::from(subject));
        } else {
            self.blocked.remove(&buyer);
        }
    }
}

/// A deadline lies after the order's time and at or before `last_ms`: within the longest hold
/// where it was set with the order. An entry's is set when it is drawn, however late that is.
pub(super) fn check_deadline(created_at_ms: UnixMillis, pay_by_ms: UnixMillis, last_ms: u64) -> Applied {
    let follows = pay_by_ms > created_at_ms && pay_by_ms.0 <= last_ms;
    if pay_by_ms.0 == 0 || follows { Ok(()) } else { Err(ApplyError::OutOfRange("pay_by_ms")) }
}

/// The latest possible deadline.
pub(super) const PAY_BY_MS_MAX: u64 = UNIX_MILLIS_MAX + HOLD_MS_MAX;

/// An item with a draw needs a seed for it.
fn check_seed(spec: &ItemSpec<'_>, seed: DrawSeed) -> Applied {
    if spec.draw_ms != 0 && seed.is_none() { Err(ApplyError::OutOfRange("seed")) } else { Ok(()) }
}

/// The arrows in the picture at [`OrderState`], without those of a draw.
fn can_follow(from: OrderState, to: OrderState) -> bool {
    use OrderState::{Cancelled, Confirmed, Entered, Expired, Held, Paid, Pending, Refunded};
    matches!(
        (from, to),
        (Confirmed | Held | Pending, Paid | Cancelled)
            | (Expired | Cancelled, Paid)
            | (Held | Pending, Expired)
            | (Paid, Refunded)
            | (Entered, Cancelled)
    )
}

/// The order that a fact places, as a row.
fn placed<'a>(fact: &Fact<'a>, lsn: Lsn, secret: &HashSecret) -> Option<NewOrder<'a>> {
    let hash = |reference: &[u8]| if reference.is_empty() { 0 } else { secret.reference(reference) };
    let row = |id: OrderId,
               quantity: Quantity,
               state: OrderState,
               at: (UnixMillis, UnixMillis),
               key: &'a [u8],
               price: Price,
               subject| NewOrder {
        id,
        quantity,
        state,
        created_at_ms: at.0,
        pay_by_ms: at.1,
        lsn,
        state_lsn: lsn,
        key_hash: hash(key),
        key,
        price,
        refunded: 0,
        entry: matches!(state, OrderState::Entered | OrderState::Lost),
        drawn: false,
        buyer: secret.buyer(subject),
        subject,
    };
    match *fact {
        Fact::OrderPlaced { at_ms, order, quantity, state, pay_by_ms, subject, key, price } => {
            Some(row(order, quantity, state, (at_ms, pay_by_ms), key, price, subject))
        }
        Fact::OrderImported {
            order,
            quantity,
            state,
            created_at_ms,
            pay_by_ms,
            subject,
            key,
            money: ImportedMoney { price, refunded, .. },
            ..
        } => {
            let new = row(order, quantity, state, (created_at_ms, pay_by_ms), key, price, subject);
            Some(NewOrder { refunded, ..new })
        }
        _ => None,
    }
}
