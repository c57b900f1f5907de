//! Saving a shard's state as rows, loading it from rows, and its digest.
//!
//! Loading what was saved gives the same state: same [`Shard::digest`], same rows.

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::slice;

use siphasher::sip::SipHasher13;

use super::apply::{PAY_BY_MS_MAX, check_deadline};
use super::error::ApplyError;
use super::state::Shard;
use crate::gauge::Rules;
use crate::item::OrderState;
use crate::items::{Item, NewItem};
use crate::limits::STOCK_MAX;
use crate::money::{MoneyKind, MoneyRow};
use crate::orders::NewOrder;
use crate::state_row::StateRow;
use crate::types::{Lsn, UnixMillis};

/// Visits the state of all these shards as one, in the order of [`crate::state_row`]: their
/// items are merged by id.
pub fn rows_of(shards: &[Shard], visit: &mut dyn FnMut(&StateRow<'_>)) {
    let items = shards.iter().flat_map(|shard| shard.items.after(0).map(move |item| (shard, item)));
    let mut items: Vec<_> = items.collect();
    items.sort_unstable_by_key(|(_, item)| item.id());
    items.iter().for_each(|(_, item)| visit(&item_row(item)));
    items.iter().for_each(|(shard, item)| shard.order_rows(item, visit));
    for (_, item) in &items {
        item.calls().for_each(|call| visit(&StateRow::Call(*call)));
    }
    let decides = shards.iter().find(|shard| shard.index == 0);
    if let Some(shard) = decides {
        let mut subjects: Vec<&[u8]> = shard.blocked.values().map(|s| &**s).collect();
        subjects.sort_unstable();
        subjects.into_iter().for_each(|subject| visit(&StateRow::Blocked { subject }));
    }
    let mut audit: Vec<_> = shards.iter().flat_map(|shard| shard.audit.after(Lsn::ZERO)).collect();
    audit.sort_by_key(|row| row.lsn);
    audit.into_iter().for_each(|row| visit(&StateRow::Audit(row)));
}

fn item_row(item: &Item) -> StateRow<'_> {
    StateRow::Item {
        item: item.id(),
        spec: item.spec(),
        granted: item.granted,
        flags: item.flags(),
        epoch: item.epoch(),
        draw: item.draw_row(),
        version: item.version,
        last_seq: item.last_seq,
        lsn: item.lsn,
    }
}

impl Shard {
    /// Visits the whole state as rows, in the order of [`crate::state_row`].
    pub fn rows(&self, visit: &mut dyn FnMut(&StateRow<'_>)) {
        rows_of(slice::from_ref(self), visit);
    }

    fn order_rows(&self, item: &Item, visit: &mut dyn FnMut(&StateRow<'_>)) {
        for slot in self.slots_after(item, 0) {
            let order = self.order_view(slot);
            let mut money: Vec<MoneyRow<'_>> = self.orders.money(slot).collect();
            money.reverse();
            let bare = money.iter().find(|row| is_bare(row)).map_or(0, |row| row.reference_hash);
            visit(&StateRow::Order {
                order: order.order,
                quantity: order.quantity,
                state: order.state,
                created_at_ms: order.created_at_ms,
                pay_by_ms: order.pay_by_ms,
                lsn: order.lsn,
                state_lsn: order.state_lsn,
                key_hash: self.orders.key_hash(slot),
                payment_ref_hash: bare,
                key: self.orders.key(slot),
                price: order.price,
                refunded: order.refunded,
                entry: self.orders.is_entry(slot),
                drawn: self.orders.is_drawn(slot),
                subject: self.orders.subject(slot),
            });
            let kept = money.iter().filter(|row| !is_bare(row));
            kept.for_each(|row| visit(&StateRow::Money(*row)));
        }
    }

    /// Loads one row of a snapshot. After the last row call [`Self::finish_rows`] with the
    /// snapshot's LSN and clock.
    ///
    /// # Errors
    /// If the row cannot follow the ones before it; the shard must not be used after that.
    pub fn load_row(&mut self, row: &StateRow<'_>) -> Result<(), ApplyError> {
        match *row {
            StateRow::Item { item, spec, granted, flags, epoch, draw, version, last_seq, lsn } => {
                if self.items.find(item).is_some() {
                    return Err(ApplyError::ItemExists(item));
                }
                spec.check().map_err(|error| ApplyError::OutOfRange(error.field))?;
                if granted > STOCK_MAX {
                    return Err(ApplyError::OutOfRange("stock"));
                }
                let held = draw.is_some_and(|draw| draw.drawn.is_some());
                if held != (flags & Rules::DRAWN != 0) || (spec.draw_ms != 0 && draw.is_none()) {
                    return Err(ApplyError::OutOfRange("draw"));
                }
                let new = NewItem { id: item, spec, granted, flags, epoch, draw };
                let slot = self.book_item(lsn, &new);
                let row = self.items.get_mut(slot);
                (row.version, row.last_seq) = (version, last_seq);
            }
            StateRow::Order { .. } => self.load_order(row)?,
            StateRow::Money(ref row) => {
                let slot = self.orders.find(row.order).ok_or(ApplyError::UnknownOrder(row.order))?;
                let own = row.kind.has_its_own_hash();
                let reference_hash = if own { row.reference_hash } else { self.reference(row.reference) };
                self.book_money(slot, &MoneyRow { reference_hash, ..*row });
            }
            StateRow::Call(call) => {
                let slot = self.items.find(call.item).ok_or(ApplyError::UnknownItem(call.item))?;
                self.items.get_mut(slot).note_call(call);
            }
            StateRow::Blocked { subject } => self.book_block(subject, true),
            StateRow::Audit(ref row) => self.audit.push(row),
        }
        Ok(())
    }

    fn load_order(&mut self, row: &StateRow<'_>) -> Result<(), ApplyError> {
        let StateRow::Order {
            order, quantity, state, subject, pay_by_ms, refunded, payment_ref_hash, ..
        } = *row
        else {
            return Ok(());
        };
        let slot = self.items.find(order.item()).ok_or(ApplyError::UnknownItem(order.item()))?;
        let item = self.items.get(slot);
        // Rows come in the order of their numbers.
        if order.seq() > item.last_seq || order.seq() <= item.seqs().last() {
            let expected = item.seqs().last().saturating_add(1);
            return Err(ApplyError::SequenceGap { order, expected });
        }
        if !self.orders.has_room() {
            return Err(ApplyError::Full);
        }
        check_order(row)?;
        let buyer = self.secret.buyer(subject);
        self.enter_holder(slot, buyer);
        let live = quantity.get().checked_sub(refunded).ok_or(ApplyError::OutOfRange("refunded"))?;
        let units = u64::from(live);
        let item = self.items.get_mut(slot);
        if state.pile() != crate::item::Pile::Available && !item.gauge.stock.try_take(units) {
            return Err(ApplyError::Oversold(order.item()));
        }
        item.move_units(units, crate::item::Pile::Available, state.pile());
        item.assert_conserved();
        self.items.add_order(slot, order.seq());
        self.load_entry(slot, row)?;
        if let Some(new) = new_order(row, buyer) {
            let placed = self.orders.insert(&new);
            self.items.get_mut(slot).note_price(order.seq(), new.price);
            if payment_ref_hash != 0 {
                let (kind, at_ms, lsn) = (MoneyKind::Payment, UnixMillis(0), Lsn::ZERO);
                let reference_hash = payment_ref_hash;
                let bare = MoneyRow { order, kind, at_ms, lsn, units: 0, reference_hash, reference: &[] };
                self.orders.add_money(placed, &bare);
            }
            if pay_by_ms.0 != 0 && matches!(state, OrderState::Held | OrderState::Pending) {
                self.holds.push((pay_by_ms, placed));
            }
        }
        Ok(())
    }

    /// Counts an order towards the draw that it waits for or took part in.
    fn load_entry(&mut self, slot: u32, row: &StateRow<'_>) -> Result<(), ApplyError> {
        let StateRow::Order { quantity, state, drawn, .. } = *row else { return Ok(()) };
        let item = self.items.get_mut(slot);
        if state == OrderState::Entered {
            item.count_entered(1);
            if item.has(Rules::DRAWN) && item.entered() == 1 {
                self.drawing.push_back(slot);
            }
        }
        let won = (state != OrderState::Lost).then_some(quantity);
        let fits = !drawn || item.held_draw_mut().is_some_and(|held| held.note(won, Lsn::ZERO));
        if fits { Ok(()) } else { Err(ApplyError::OutOfRange("draw")) }
    }

    /// Ends the loading of a snapshot that covers the log up to `lsn`, taken when the sale
    /// clock showed `clock`.
    pub fn finish_rows(&mut self, lsn: Lsn, clock: UnixMillis) {
        self.note(lsn, clock);
    }

    /// A number that is equal for two shards with the same items, orders and blocked
    /// buyers. Digests of shards add up (wrapping), so that the sum does not depend on
    /// how items are spread over cores. The audit trail does not count.
    pub fn digest(&self) -> u64 {
        let mut sum = 0u64;
        self.rows(&mut |row| {
            if !matches!(row, StateRow::Audit(_)) {
                let mut hasher = SipHasher13::new();
                row.hash(&mut hasher);
                sum = sum.wrapping_add(hasher.finish());
            }
        });
        sum
    }
}

/// A payment of which only the hash is known.
fn is_bare(row: &MoneyRow<'_>) -> bool {
    row.kind == MoneyKind::Payment && row.reference.is_empty() && row.reference_hash != 0
}

/// Checks an order's deadline and its marks.
fn check_order(row: &StateRow<'_>) -> Result<(), ApplyError> {
    let StateRow::Order { state, created_at_ms, pay_by_ms, entry, drawn, .. } = *row else { return Ok(()) };
    let entered = state == OrderState::Entered;
    if (entered && (!entry || drawn)) || (drawn && !entry) {
        return Err(ApplyError::OutOfRange("state"));
    }
    check_deadline(created_at_ms, pay_by_ms, PAY_BY_MS_MAX)
}

fn new_order<'a>(row: &StateRow<'a>, buyer: crate::types::BuyerHash) -> Option<NewOrder<'a>> {
    match *row {
        StateRow::Order {
            order,
            quantity,
            state,
            created_at_ms,
            pay_by_ms,
            lsn,
            state_lsn,
            key_hash,
            key,
            price,
            refunded,
            entry,
            drawn,
            subject,
            ..
        } => Some(NewOrder {
            id: order,
            quantity,
            state,
            created_at_ms,
            pay_by_ms,
            lsn,
            state_lsn,
            key_hash,
            key,
            price,
            refunded,
            entry,
            drawn,
            buyer,
            subject,
        }),
        _ => None,
    }
}
