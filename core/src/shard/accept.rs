//! The only way into the log: a fact is appended after a shard has checked it, never before.
//!
//! A decision follows its own rules and makes the fact itself. A fact made elsewhere (an item
//! or an order out of Postgres) comes through [`Shard::accept`], which checks it with the code
//! of replay before it gets an LSN. So a log never holds a fact that a restart would refuse.
//! [`Trial`] checks a whole item in that way before its first fact is appended. Next:
//! [`super::apply`] for the checks.

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
    /// Takes a fact that was made elsewhere: checks it as replay does, appends it, and books it.
    /// The sink must have room for one fact.
    ///
    /// A fact that concerns all shards is appended by shard 0 alone; the others
    /// [`apply`](Shard::apply) it under its LSN.
    ///
    /// # Errors
    /// Why a replay would refuse it, or that a table is full. Nothing was appended then, and the
    /// shard is as it was.
    pub fn accept(&mut self, fact: &Fact<'_>, sink: &mut impl FactSink) -> Result<Lsn, ApplyError> {
        check_bounds(fact).map_err(ApplyError::OutOfRange)?;
        self.check_room(fact)?;
        self.take(fact, || sink.append(Accepted::new(fact)))
    }

    /// Appends a mark of the sale clock. The sink must have room for one fact.
    pub fn mark_clock(&mut self, now: UnixMillis, sink: &mut impl FactSink) -> Lsn {
        let now = now.max(self.clock);
        let lsn = sink.append(Accepted::new(&Fact::ClockMark { at_ms: now }));
        self.note(lsn, now);
        lsn
    }

    /// Whether there is room for one more item with this many orders.
    pub fn has_room_for_item(&self, orders: u64) -> bool {
        let orders_after = (self.orders.len() as u64).saturating_add(orders);
        self.items.len() < ITEMS_MAX / self.catalogue.cores()
            && orders_after <= ORDERS_PER_SHARD_MAX as u64
            && self.orders.has_room()
    }

    /// Whether the import of an item has begun and not ended.
    pub fn is_half_imported(&self, item: ItemId) -> bool {
        self.items.find(item).is_some_and(|slot| self.items.get(slot).has(Rules::IMPORTING))
    }

    /// A replay takes what was accepted once; a new fact has to keep the bounds of a decision.
    fn check_room(&self, fact: &Fact<'_>) -> Result<(), ApplyError> {
        let fits = match fact {
            Fact::ItemCreated { .. } => self.has_room_for_item(0),
            Fact::BuyerBlocked { blocked: true, .. } => self.blocked.len() < BLOCKED_BUYERS_MAX,
            _ => true,
        };
        if fits { Ok(()) } else { Err(ApplyError::Full) }
    }
}

/// Whether every value fits the log's records. Values read from a log always do.
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

/// A trial import of one item: its facts are checked as replay does, and of an order only the
/// sums in its item are kept. So a whole item can be checked before the first of its facts is
/// appended, however many orders it has.
pub struct Trial {
    shard: Shard,
    orders: u64,
}

impl Trial {
    /// An empty trial.
    pub fn new() -> Self {
        let catalogue = Arc::new(Catalogue::new(1));
        Self { shard: Shard::new(0, HashSecret([0; 16]), catalogue), orders: 0 }
    }

    /// Checks the next fact.
    ///
    /// # Errors
    /// Why [`Shard::accept`] would refuse it after the facts before it.
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

    /// How many orders were checked.
    pub const fn orders(&self) -> u64 {
        self.orders
    }
}

impl Default for Trial {
    fn default() -> Self {
        Self::new()
    }
}
