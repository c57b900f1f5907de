//! The owner's side of a core: it decides, and appends its decisions to the log's queue.
//!
//! It reserves room in the queue before it decides, so that a decision cannot fail
//! half-way; without room it changes nothing. It never waits for the disk.

use std::collections::HashMap;
use std::sync::Arc;

use stampede_core::command::{Command, Movement, Outcome, Purchase, Refusal};
use stampede_core::draw::DrawSeed;
use stampede_core::fact::{ACTOR_POSTGRES, Switch};
use stampede_core::limits::OWNER_BATCH_MAX;
use stampede_core::shard::{Ahead, Shard};
use stampede_core::types::{BuyerHash, ItemId, Lsn, OrderId, UnixMillis};
use stampede_persist::log::queue::Producer;

use super::ask::{
    Ask, Busy, OrderOf, OwnedAudit, OwnedItem, OwnedMoney, OwnedOrder, PurchaseAsk, RareAsk, RareReply,
    Reply, Who,
};
use super::batch::{Chunk, RecordAsk, RecordOp};
use super::books::BooksReply;
use super::shared::Shared;
use super::tables::TableWatch;
use crate::http::batch::answer::RecordAnswer;

/// The actor in the log for the merchant API.
const ACTOR_MERCHANT: &str = "merchant";
/// The actor in the log for `stampede reconcile`.
const ACTOR_RECONCILE: &str = "reconcile";
/// The actor in the log for simulated payments.
const ACTOR_DEMO: &str = "demo";

/// Records of a chunk whose data is prefetched before they are decided.
const LOOK_AHEAD: usize = 64;

/// One core's shard and its way to the log.
pub struct Owner {
    shard: Shard,
    producer: Producer,
    shared: Arc<Shared>,
    /// Facts that may still be appended before the next check for room in the queue.
    room: usize,
    /// Facts for which there is room whenever the queue reports room.
    batch: usize,
    /// The source of seeds for draws.
    seeds: fn() -> DrawSeed,
    /// Whether facts were appended since the journal was last woken.
    unflushed: bool,
    /// Requests of the exporter that could not be decided for lack of room; at most two per item.
    unanswered: Vec<RareAsk>,
    /// Per item: the last fact that took over an edit made in the database.
    followed: HashMap<ItemId, Lsn>,
    tables: TableWatch,
}

impl Owner {
    /// The owner of a recovered shard.
    pub fn new(shard: Shard, producer: Producer, shared: Arc<Shared>) -> Self {
        Self::with_seeds(shard, producer, shared, fresh_seed)
    }

    /// As [`Owner::new`], with another source of seeds for draws: for simulations.
    pub fn with_seeds(
        shard: Shard,
        producer: Producer,
        shared: Arc<Shared>,
        seeds: fn() -> DrawSeed,
    ) -> Self {
        let batch = (shared.queue.reserve() / shared.mesh.cores()).min(OWNER_BATCH_MAX);
        let mut owner = Self {
            shard,
            producer,
            shared,
            room: 0,
            batch,
            seeds,
            unflushed: false,
            unanswered: Vec::new(),
            followed: HashMap::new(),
            tables: TableWatch::default(),
        };
        // Counters show the limits of the tables from the start.
        owner.tables.look(&owner.shard, &owner.shared);
        owner
    }

    /// Its state, for reading.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Decides or reads.
    pub fn answer(&mut self, now: UnixMillis, ask: &Ask) -> Reply {
        match ask {
            Ask::Purchase(purchase) => self.purchase(now, purchase),
            Ask::CancelOwn(order, buyer) => self.cancel_own(now, *order, *buyer),
            Ask::OrderOf(order, buyer) => Reply::Order(self.shard.order_of(*buyer, *order)),
            // Comes by value: see [`Owner::decide_chunk`].
            Ask::Batch(_) => Reply::Busy(Busy::Overloaded),
            Ask::Rare(ask) => self.rare(now, ask),
        }
    }

    /// Decides up to `most` records of a chunk, from where it stopped before, or fewer if there is no room
    /// for one; then [`Chunk::busy`] says why. Returns how many it examined.
    pub fn decide_chunk(&mut self, now: UnixMillis, chunk: &mut Chunk, most: usize) -> usize {
        chunk.busy = None;
        let from = chunk.answers.len();
        let until = from.saturating_add(most).min(chunk.len());
        for number in from..until {
            if (number - from).is_multiple_of(LOOK_AHEAD) {
                self.look_ahead(&chunk.asks()[number..(number + LOOK_AHEAD).min(until)]);
            }
            if let Err(busy) = self.make_room() {
                chunk.busy = Some(busy);
                return number - from + 1;
            }
            let (ask, subject, reference) = chunk.get(number);
            let (command, refunds) = command_of(&ask.op, subject, reference);
            let before = self.shard.lsn();
            let outcome = self.shard.decide(now, &command, &mut self.producer);
            self.note_appended(before);
            chunk.after = chunk.after.max(outcome.shown_after());
            chunk.answers.push(RecordAnswer::of(&outcome, refunds));
        }
        until - from
    }

    fn look_ahead(&self, asks: &[RecordAsk]) {
        self.shard.look_ahead(asks.iter().map(|ask| match ask.op {
            RecordOp::Purchase { item, buyer, .. } => Ahead::Purchase(item, buyer),
            RecordOp::Move(order, _) => Ahead::Order(order),
        }));
    }

    /// Handles a request of the exporter. What cannot be decided for lack of room is retried with each tick.
    pub fn answer_outside(&mut self, now: UnixMillis, ask: RareAsk) {
        if matches!(self.rare(now, &ask), Reply::Busy(_)) {
            self.unanswered.push(ask);
        }
    }

    fn purchase(&mut self, now: UnixMillis, ask: &PurchaseAsk) -> Reply {
        self.decide(
            now,
            &Command::Purchase(Purchase {
                item: ask.item,
                buyer: ask.buyer,
                subject: ask.subject.as_bytes(),
                quantity: ask.quantity,
                key: ask.key.as_bytes(),
                ticket: ask.ticket,
            }),
        )
    }

    fn cancel_own(&mut self, now: UnixMillis, order: OrderId, buyer: BuyerHash) -> Reply {
        self.decide(now, &Command::CancelOwn { order, buyer })
    }

    fn decide(&mut self, now: UnixMillis, command: &Command<'_>) -> Reply {
        match self.try_decide(now, command) {
            Ok(outcome) => Reply::Outcome(outcome),
            Err(busy) => Reply::Busy(busy),
        }
    }

    fn try_decide(&mut self, now: UnixMillis, command: &Command<'_>) -> Result<Outcome, Busy> {
        self.make_room()?;
        let before = self.shard.lsn();
        let outcome = self.shard.decide(now, command, &mut self.producer);
        self.note_appended(before);
        Ok(outcome)
    }

    /// Makes sure that there is room for one more fact in the queue and on the disk.
    fn make_room(&mut self) -> Result<(), Busy> {
        if !self.shared.accepting() {
            return Err(Busy::LogFull);
        }
        if self.room == 0 {
            if !self.producer.has_room() {
                return Err(Busy::Overloaded);
            }
            self.room = self.batch;
        }
        Ok(())
    }

    fn note_appended(&mut self, before: Lsn) {
        if self.shard.lsn() != before {
            self.room -= 1;
            self.unflushed = true;
        }
    }

    /// Wakes the journal if facts were appended: once per batch.
    pub fn flush(&mut self) {
        if std::mem::take(&mut self.unflushed) {
            self.room = 0;
            self.producer.flush();
        }
    }

    /// Does what is due: holds draws, expires holds, ends windows. Returns how many facts that made.
    pub fn tick(&mut self, now: UnixMillis) -> usize {
        self.shard.keep_headroom();
        self.tables.look(&self.shard, &self.shared);
        for ask in std::mem::take(&mut self.unanswered) {
            self.answer_outside(now, ask);
        }
        if self.shard.next_due().is_none_or(|due| due > now) || self.make_room().is_err() {
            return 0;
        }
        let appended = self.shard.tick(now, self.room, &mut self.producer);
        self.room -= appended;
        self.unflushed |= appended > 0;
        appended
    }

    /// Whether the last tick left something due for the next.
    pub fn has_more_due(&self, now: UnixMillis) -> bool {
        self.shard.next_due().is_some_and(|due| due <= now)
    }

    // ---- infrequent requests ----

    fn rare(&mut self, now: UnixMillis, ask: &RareAsk) -> Reply {
        let reply = match *ask {
            RareAsk::PutItem(item, _, Some(seen))
                if self.shard.item(item).is_some_and(|item| item.shown_lsn != seen) =>
            {
                let item = self.shard.item(item).map(|item| OwnedItem::new(&item));
                Ok(item.map_or(RareReply::Item(None), RareReply::Stale))
            }
            RareAsk::PutItem(item, _, Some(_)) if self.shard.item(item).is_none() => {
                Ok(RareReply::Item(None))
            }
            RareAsk::PutItem(item, ref patch, _) => {
                let (patch, seed) = (patch.get(), (self.seeds)());
                self.change(now, item, &Command::PutItem { item, patch, seed, actor: ACTOR_MERCHANT })
            }
            RareAsk::Adjust(item, delta, who, ref key) => {
                let (actor, key) = (actor(who), key.as_bytes());
                self.change(now, item, &Command::AdjustStock { item, delta, actor, key })
            }
            RareAsk::SwitchItem(item, switch, who, ref key) => {
                let (actor, key) = (actor(who), key.as_bytes());
                self.change(now, item, &Command::SwitchItem { item, switch, actor, key })
            }
            RareAsk::Move(order, movement, ref payment_ref) => {
                return self.move_order(now, order, movement, payment_ref);
            }
            RareAsk::PayAgain(order, ref payment_ref) => {
                let (payment_ref, actor) = (payment_ref.as_bytes(), ACTOR_MERCHANT);
                return self.decide(now, &Command::PayAgain { order, payment_ref, actor });
            }
            RareAsk::Refund(order, ref refund) => {
                let (payment_ref, refund_ref) = (refund.payment_ref.as_bytes(), refund.refund_ref.as_bytes());
                let (units, actor) = (refund.units, ACTOR_MERCHANT);
                return self.decide(now, &Command::Refund { order, payment_ref, refund_ref, units, actor });
            }
            RareAsk::Extend(order, pay_by_ms) => {
                return self.decide(now, &Command::ExtendHold { order, pay_by_ms, actor: ACTOR_MERCHANT });
            }
            RareAsk::PayOwn(order, buyer) => return self.pay_own(now, order, buyer),
            RareAsk::Block(ref subject, blocked) => {
                let subject = subject.as_bytes();
                return self.decide(now, &Command::BlockBuyer { subject, blocked, actor: ACTOR_MERCHANT });
            }
            RareAsk::FollowPostgres { item, delta, as_of } => {
                self.follow_postgres(now, item, delta, as_of).map(|()| RareReply::Followed)
            }
            RareAsk::MarkClock => self.mark_clock(now),
            _ => Ok(self.read(ask)),
        };
        reply.map_or_else(Reply::Busy, |reply| Reply::Rare(Box::new(reply)))
    }

    fn change(&mut self, now: UnixMillis, item: ItemId, command: &Command<'_>) -> Result<RareReply, Busy> {
        let outcome = self.try_decide(now, command)?;
        Ok(RareReply::Changed(outcome, self.shard.item(item).map(|item| OwnedItem::new(&item))))
    }

    fn move_order(
        &mut self,
        now: UnixMillis,
        order: OrderId,
        movement: Movement,
        payment_ref: &str,
    ) -> Reply {
        let payment_ref = payment_ref.as_bytes();
        self.decide(now, &Command::Move { order, movement, payment_ref, actor: ACTOR_MERCHANT })
    }

    /// Pays the buyer's own order. The check whose it is and the payment are one step of the one thread
    /// that may do either.
    fn pay_own(&mut self, now: UnixMillis, order: OrderId, buyer: BuyerHash) -> Reply {
        if self.shard.order_of(buyer, order).is_none() {
            return Reply::Outcome(Outcome::Refused(Refusal::NotFound));
        }
        let payment_ref = format!("demo-{order}");
        let (movement, payment_ref) = (Movement::Pay, payment_ref.as_bytes());
        self.decide(now, &Command::Move { order, movement, payment_ref, actor: ACTOR_DEMO })
    }

    fn read(&mut self, ask: &RareAsk) -> RareReply {
        let order = |owned: stampede_core::shard::OwnedOrder<'_>| OwnedOrder {
            order: owned.order,
            subject: owned.subject.into(),
            key: owned.key.into(),
            money: self.shard.money(owned.order.order).iter().map(OwnedMoney::new).collect(),
        };
        match *ask {
            RareAsk::Item(item) => RareReply::Item(self.shard.item(item).map(|item| OwnedItem::new(&item))),
            RareAsk::Items(after, limit, newest) => RareReply::Items(match newest {
                true => self.shard.items_before(after, limit).map(|item| OwnedItem::new(&item)).collect(),
                false => self.shard.items_after(after, limit).map(|item| OwnedItem::new(&item)).collect(),
            }),
            RareAsk::Listed(behind, limit) => RareReply::Items(
                self.shard.items_listed(behind, limit).map(|item| OwnedItem::new(&item)).collect(),
            ),
            RareAsk::Order(id) => RareReply::Order(self.shard.order(id).map(order)),
            RareAsk::OrderPage(id, buyer) => {
                let found = self.shard.order_of(buyer, id).zip(self.shard.item(id.item()));
                let page = found.map(|(order, item)| OrderOf { order, item: OwnedItem::new(&item) });
                RareReply::OrderPage(page)
            }
            RareAsk::OrdersOf(buyer, item, after, limit) => {
                let orders = self.shard.orders_of(buyer, item, after, limit);
                RareReply::Orders(orders.into_iter().map(order).collect())
            }
            RareAsk::NewestOf(buyer, behind, limit) => {
                let orders = self.shard.newest_orders_of(buyer, behind, limit);
                orders.map_or(RareReply::TooManyOrders, |orders| {
                    RareReply::Orders(orders.into_iter().map(order).collect())
                })
            }
            RareAsk::Orders(ref filter, after, limit) => {
                let page = self.shard.orders_page(filter, after, limit);
                RareReply::OrdersPage(page.orders.into_iter().map(order).collect(), page.looked_to)
            }
            RareAsk::LatePayments(item, after, limit) => {
                let mut late = self.shard.late_payments_after(item, after, limit + 1);
                let more = late.len() > limit;
                late.truncate(limit);
                let looked_to = late.last().filter(|_| more).map(|owned| owned.order.order);
                RareReply::OrdersPage(late.into_iter().map(order).collect(), looked_to)
            }
            RareAsk::Draw(item, after, limit) => {
                RareReply::Draw(super::draw_page::read_page(&self.shard, item, after, limit))
            }
            RareAsk::Audit(after, limit, newest) => {
                let owned = |row| OwnedAudit::new(&row);
                RareReply::Audit(match newest {
                    true => self.shard.audit_before(after).take(limit).map(owned).collect(),
                    false => self.shard.audit_after(after).take(limit).map(owned).collect(),
                })
            }
            RareAsk::Books(item, after, limit, with_rows) => {
                RareReply::Books(BooksReply::read(&self.shard, item, (after, limit), with_rows))
            }
            RareAsk::FollowBlock(ref subject, blocked) => {
                // Owner 0 decided it, and may have decided the opposite while this request waited.
                if self.shard.index() > 0 {
                    self.shard.follow_block(subject.as_bytes(), blocked);
                }
                RareReply::Followed
            }
            _ => RareReply::Followed,
        }
    }

    /// See `stampede_persist::export::event` for the protocol.
    fn follow_postgres(&mut self, now: UnixMillis, item: ItemId, delta: i64, as_of: Lsn) -> Result<(), Busy> {
        if self.followed.get(&item).is_some_and(|&answered| answered > as_of) {
            return Ok(());
        }
        let adjust = Command::AdjustStock { item, delta, actor: ACTOR_POSTGRES, key: &[] };
        let answer = match self.try_decide(now, &adjust)? {
            Outcome::Refused(Refusal::NotFound) => return Ok(()),
            // In the middle of its draw an item takes no changes; a moment later it may.
            Outcome::Refused(Refusal::Overloaded) => return Err(Busy::Overloaded),
            Outcome::Refused(_) => {
                // The change cannot be made: pause the item until somebody has looked into it.
                let (switch, actor) = (Switch::Paused, ACTOR_POSTGRES);
                let pause = Command::SwitchItem { item, switch, actor, key: &[] };
                self.try_decide(now, &pause)?
            }
            done => done,
        };
        self.followed.insert(item, answer.shown_after());
        Ok(())
    }

    fn mark_clock(&mut self, now: UnixMillis) -> Result<RareReply, Busy> {
        self.make_room()?;
        self.shard.mark_clock(now, &mut self.producer);
        self.room -= 1;
        self.unflushed = true;
        Ok(RareReply::Followed)
    }
}

/// The command of a record, and whether it is a refund.
fn command_of<'a>(op: &RecordOp, subject: &'a [u8], reference: &'a [u8]) -> (Command<'a>, bool) {
    match *op {
        RecordOp::Purchase { item, buyer, quantity, ticket } => {
            (Command::Purchase(Purchase { item, buyer, subject, quantity, key: reference, ticket }), false)
        }
        RecordOp::Move(order, movement) => {
            let actor = ACTOR_MERCHANT;
            let command = Command::Move { order, movement, payment_ref: reference, actor };
            (command, movement == Movement::Refund)
        }
    }
}

/// Random bytes for a draw. Where the system gives none, the owner refuses the draw.
pub fn fresh_seed() -> DrawSeed {
    let mut seed = DrawSeed::NONE;
    match getrandom::fill(&mut seed.0) {
        Ok(()) => seed,
        Err(_) => DrawSeed::NONE,
    }
}

const fn actor(who: Who) -> &'static str {
    match who {
        Who::Merchant => ACTOR_MERCHANT,
        Who::Postgres => ACTOR_POSTGRES,
        Who::Reconcile => ACTOR_RECONCILE,
    }
}
