//! The one door to the log: a fact goes in after a shard has judged it, and not before.
//!
//! A decision judges by its own rules and makes the fact itself. What was made elsewhere (an
//! item or an order that stands in Postgres) comes through [`Shard::accept`], which asks the
//! rule of replay, the very same code, before the fact is numbered. So a log never holds a
//! fact that a restart would refuse. [`Trial`] asks that rule about a whole item ahead of its
//! first fact. Next: [`super::apply`] for the rule.

use alloc::sync::Arc;

use super::accepted::{Accepted, FactSink};
use super::apply::PAY_BY_MS_MAX;
use super::error::ApplyError;
use super::state::Shard;
use crate::catalogue::Catalogue;
use crate::command::ItemView;
use crate::fact::Fact;
use crate::gauge::Rules;
use crate::limits::{
    ACTOR_BYTES_MAX, BLOCKED_BUYERS_MAX, IDEMPOTENCY_KEY_BYTES_MAX, ITEMS_MAX, ORDERS_PER_SHARD_MAX,
    PAYMENT_REF_BYTES_MAX, STOCK_MAX, SUBJECT_BYTES_MAX,
};
use crate::types::{HashSecret, ItemId, Lsn, UnixMillis};

impl Shard {
    /// Takes a fact that was made elsewhere: judges it by the rule of replay, appends it, and
    /// books it. The sink must have room for one fact.
    ///
    /// Of a fact that concerns all shards only shard 0 appends; the others
    /// [`apply`](Shard::apply) it under the number that it got.
    ///
    /// # Errors
    /// Why a replay would refuse it, or that a table is full. Nothing was appended then, and the
    /// shard is as it was.
    pub fn accept(&mut self, fact: &Fact<'_>, sink: &mut impl FactSink) -> Result<Lsn, ApplyError> {
        check_bounds(fact).map_err(ApplyError::OutOfRange)?;
        self.check_room(fact)?;
        self.take(fact, || sink.append(Accepted::new(fact)))
    }

    /// Appends that this much time has passed. The sink must have room for one fact.
    pub fn mark_clock(&mut self, now: UnixMillis, sink: &mut impl FactSink) -> Lsn {
        let now = now.max(self.clock);
        let lsn = sink.append(Accepted::new(&Fact::ClockMark { at_ms: now }));
        self.note(lsn, now);
        lsn
    }

    /// Whether there is room for one more item and so many orders of it.
    pub fn has_room_for_item(&self, orders: u64) -> bool {
        let orders_after = (self.orders.len() as u64).saturating_add(orders);
        self.items.len() < ITEMS_MAX / self.catalogue.cores()
            && orders_after <= ORDERS_PER_SHARD_MAX as u64
            && self.orders.has_room()
    }

    /// Whether the import of an item was cut short: it has not ended.
    pub fn is_half_imported(&self, item: ItemId) -> bool {
        self.items.find(item).is_some_and(|slot| self.items.get(slot).has(Rules::IMPORTING))
    }

    /// A replay takes whatever fitted once; what comes anew keeps the bounds of a decision.
    fn check_room(&self, fact: &Fact<'_>) -> Result<(), ApplyError> {
        let fits = match fact {
            Fact::ItemCreated { .. } => self.has_room_for_item(0),
            Fact::BuyerBlocked { blocked: true, .. } => self.blocked.len() < BLOCKED_BUYERS_MAX,
            _ => true,
        };
        if fits { Ok(()) } else { Err(ApplyError::Full) }
    }
}

/// Whether every value fits the log's records. What is read from a log fits by itself.
fn check_bounds(fact: &Fact<'_>) -> Result<(), &'static str> {
    let ensure = |ok: bool, field| if ok { Ok(()) } else { Err(field) };
    let time = |at: UnixMillis, field| ensure(at.0 <= PAY_BY_MS_MAX, field);
    let subject = |bytes: &[u8]| ensure((1..=SUBJECT_BYTES_MAX).contains(&bytes.len()), "buyer");
    let key = |bytes: &[u8]| ensure(bytes.len() <= IDEMPOTENCY_KEY_BYTES_MAX, "idempotency key");
    let payment_ref = |bytes: &[u8]| ensure(bytes.len() <= PAYMENT_REF_BYTES_MAX, "payment reference");
    let actor = |name: &str| ensure(name.len() <= ACTOR_BYTES_MAX, "actor");
    time(fact.at_ms(), "at_ms")?;
    match *fact {
        Fact::ItemCreated { actor: name, .. } | Fact::ItemChanged { actor: name, .. } => actor(name),
        Fact::ItemSwitched { actor: name, key: idem, .. } => {
            key(idem)?;
            actor(name)
        }
        Fact::StockAdjusted { delta, actor: name, key: idem, .. } => {
            ensure(delta.unsigned_abs() <= STOCK_MAX, "stock")?;
            key(idem)?;
            actor(name)
        }
        Fact::OrderPlaced { pay_by_ms, subject: buyer, key: idem, .. } => {
            time(pay_by_ms, "pay_by_ms")?;
            subject(buyer)?;
            key(idem)
        }
        Fact::HoldExtended { pay_by_ms, actor: name, .. } => {
            time(pay_by_ms, "pay_by_ms")?;
            actor(name)
        }
        Fact::OrderRefunded { refund_ref: reference, actor: name, .. }
        | Fact::PaymentLate { payment_ref: reference, actor: name, .. }
        | Fact::OrderMoved { payment_ref: reference, actor: name, .. } => {
            payment_ref(reference)?;
            actor(name)
        }
        Fact::LatePaymentReturned { payment_ref: reference, refund_ref, actor: name, .. } => {
            payment_ref(reference)?;
            payment_ref(refund_ref)?;
            actor(name)
        }
        Fact::DrawHeld { units, .. } => ensure(units <= STOCK_MAX, "units"),
        Fact::EntryDrawn { pay_by_ms, .. } => time(pay_by_ms, "pay_by_ms"),
        Fact::BuyerBlocked { subject: buyer, actor: name, .. } => {
            subject(buyer)?;
            actor(name)
        }
        Fact::OrderImported {
            created_at_ms,
            pay_by_ms,
            subject: buyer,
            key: idem,
            payment_ref: reference,
            money,
            ..
        } => {
            payment_ref(money.refund_ref)?;
            time(created_at_ms, "create_time")?;
            time(pay_by_ms, "pay_by_ms")?;
            subject(buyer)?;
            key(idem)?;
            payment_ref(reference)
        }
        Fact::ClockMark { .. } => Ok(()),
    }
}

/// A trial of one item that is to be taken over: its facts are judged by the rule of replay,
/// and nothing is kept of an order but what the item's numbers show. So a whole item can be
/// judged before the first of its facts is appended, however many orders it has.
pub struct Trial {
    shard: Shard,
    orders: u64,
}

impl Trial {
    /// A trial of nothing yet.
    pub fn new() -> Self {
        let catalogue = Arc::new(Catalogue::new(1));
        Self { shard: Shard::new(0, HashSecret([0; 16]), catalogue), orders: 0 }
    }

    /// Judges the next fact.
    ///
    /// # Errors
    /// Why [`Shard::accept`] would refuse it after those before.
    pub fn take(&mut self, fact: &Fact<'_>) -> Result<(), ApplyError> {
        let lsn = self.shard.lsn.next();
        let Fact::OrderImported { order, state, .. } = *fact else {
            check_bounds(fact).map_err(ApplyError::OutOfRange)?;
            return self.shard.apply(lsn, fact);
        };
        self.orders += 1;
        let shard = &mut self.shard;
        check_bounds(fact).map_err(ApplyError::OutOfRange)?;
        let (item, new) = shard.judge_placed(order, fact)?;
        shard.take_again(item, new.live_units(), new.state.pile())?;
        shard.book_units(item, order, new.live_units(), state, lsn);
        shard.note(lsn, fact.at_ms());
        Ok(())
    }

    /// The item as the facts so far leave it.
    pub fn item(&self, item: ItemId) -> Option<ItemView<'_>> {
        self.shard.item(item)
    }

    /// How many orders were judged.
    pub const fn orders(&self) -> u64 {
        self.orders
    }
}

impl Default for Trial {
    fn default() -> Self {
        Self::new()
    }
}
