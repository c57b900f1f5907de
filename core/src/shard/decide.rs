//! The rules: what is refused, and what becomes a fact.
//!
//! Each command is judged first, then reserves (the stock's compare-and-swap), and only
//! then appends its fact and books it, on a path that cannot fail.

use super::accepted::{Accepted, FactSink};
use super::flags::{created_flags, switched};
use super::state::Shard;
use crate::command::{Command, ItemPatch, Movement, OrderView, Outcome, Purchase, Refusal};
use crate::draw::{DrawRow, DrawSeed};
use crate::fact::{ACTOR_BUYER, ACTOR_CLOCK, ACTOR_POSTGRES, Fact, Switch};
use crate::gauge::Rules;
use crate::item::{FieldError, ItemSpec, OrderState, Pile};
use crate::items::NewItem;
use crate::limits::{HOLD_MS_MAX, STOCK_MAX};
use crate::money::{Late, MoneyKind, MoneyRow};
use crate::orders::NewOrder;
use crate::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};

type Judged<T> = Result<T, Refusal>;

/// What a purchase needs once it has been judged good.
struct Sale {
    item: u32,
    state: OrderState,
    order: OrderId,
    pay_by_ms: UnixMillis,
}

enum Verdict {
    Sell(Sale),
    Replay(u32),
}

/// Who asks for something about an order's money, and the payment's reference; empty = none.
#[derive(Clone, Copy)]
struct By<'a> {
    actor: &'a str,
    reference: &'a [u8],
}

/// An order's next step.
struct Step<'a> {
    slot: u32,
    to: OrderState,
    payment_ref: &'a [u8],
    actor: &'a str,
}

impl Shard {
    /// Judges a command and, if it is good, appends its one fact and books it.
    ///
    /// The sink must have room for one fact. Time never runs backwards: a `now` before
    /// [`Self::clock`] counts as that.
    pub fn decide(&mut self, now: UnixMillis, command: &Command<'_>, sink: &mut impl FactSink) -> Outcome {
        let now = now.max(self.clock);
        let judged = match *command {
            Command::Purchase(ref purchase) => self.purchase(now, purchase, sink),
            Command::CancelOwn { order, buyer } => self.cancel_own(now, order, buyer, sink),
            Command::Move { order, movement, payment_ref, actor } => {
                let by = By { actor, reference: payment_ref };
                match movement {
                    Movement::Pay => self.pay(now, order, by, false, sink),
                    Movement::Refund => self.refund(now, order, by, (&[], None), sink),
                    Movement::Cancel => self.cancel(now, order, by, sink),
                }
            }
            Command::PayAgain { order, payment_ref, actor } => {
                self.pay(now, order, By { actor, reference: payment_ref }, true, sink)
            }
            Command::Refund { order, payment_ref, refund_ref, units, actor } => {
                self.refund(now, order, By { actor, reference: payment_ref }, (refund_ref, units), sink)
            }
            Command::ExtendHold { order, pay_by_ms, actor } => {
                self.extend(now, order, pay_by_ms, actor, sink)
            }
            Command::PutItem { item, ref patch, seed, actor } => {
                self.put_item(now, item, (patch, seed), actor, sink)
            }
            Command::AdjustStock { item, delta, actor, key } => match self.judge_call(item, key, delta) {
                Ok(None) => self.adjust(now, item, delta, (actor, key), sink),
                known => known.map(|lsn| Outcome::Done { lsn: lsn.unwrap_or_default(), changed: false }),
            },
            Command::SwitchItem { item, switch, actor, key } => {
                match self.judge_call(item, key, i64::from(switch.code())) {
                    Ok(None) => self.switch(now, item, switch, (actor, key), sink),
                    known => known.map(|lsn| Outcome::Done { lsn: lsn.unwrap_or_default(), changed: false }),
                }
            }
            Command::BlockBuyer { subject, blocked, actor } => self.block(now, subject, blocked, actor, sink),
        };
        judged.unwrap_or_else(Outcome::Refused)
    }

    // ---- purchase ----

    fn purchase(&mut self, now: UnixMillis, p: &Purchase<'_>, sink: &mut impl FactSink) -> Judged<Outcome> {
        let key_hash = self.reference(p.key);
        let sale = match self.judge_purchase(now, p, key_hash)? {
            Verdict::Sell(sale) => sale,
            Verdict::Replay(slot) => return Ok(Outcome::Replayed(self.as_placed(slot))),
        };
        self.enter_holder(sale.item, p.buyer);
        let gauge = &self.items.get(sale.item).gauge;
        if sale.state.pile() != Pile::Available && !gauge.stock.try_take(u64::from(p.quantity.get())) {
            return Err(Refusal::SoldOut);
        }
        let lsn = sink.append(Accepted::new(&Fact::OrderPlaced {
            at_ms: now,
            order: sale.order,
            quantity: p.quantity,
            state: sale.state,
            pay_by_ms: sale.pay_by_ms,
            subject: p.subject,
            key: p.key,
            price: self.items.get(sale.item).price(),
        }));
        self.note(lsn, now);
        let slot = self.book_order(
            sale.item,
            &NewOrder {
                id: sale.order,
                quantity: p.quantity,
                state: sale.state,
                created_at_ms: now,
                pay_by_ms: sale.pay_by_ms,
                lsn,
                state_lsn: lsn,
                key_hash,
                key: p.key,
                price: self.items.get(sale.item).price(),
                refunded: 0,
                entry: sale.state == OrderState::Entered,
                drawn: false,
                buyer: p.buyer,
                subject: p.subject,
            },
        );
        let price = self.items.get(sale.item).price();
        Ok(Outcome::Placed(OrderView { price, ..self.orders.view(slot) }))
    }

    /// Idempotency, window, ticket, cap, stock, in this order: the retry of a placed purchase
    /// gets its order even if the sale is over or its ticket has expired by now.
    fn judge_purchase(&self, now: UnixMillis, p: &Purchase<'_>, key_hash: u64) -> Judged<Verdict> {
        let slot = self.gauge(p.item).ok_or(Refusal::NotFound)?.slot();
        let item = self.items.get(slot);
        let holding = self.orders.holding(p.buyer, p.item);
        if let Some(holding) = holding.filter(|_| key_hash != 0)
            && let Some(order) = self.orders.find_key(holding, key_hash)
        {
            let same = self.orders.view(order).quantity == p.quantity;
            return if same { Ok(Verdict::Replay(order)) } else { Err(Refusal::KeyReused) };
        }
        judge_window(now, item)?;
        p.ticket.check()?;
        let units = p.quantity.get();
        if units > item.cap() {
            return Err(Refusal::BadQuantity);
        }
        if let Some(holding) = holding.filter(|&holding| self.orders.units(holding) + units > item.cap()) {
            return Err(Refusal::CapReached { order: self.orders.live_order(holding) });
        }
        let enters = item.takes_entries(now);
        if let Some(order) = holding.filter(|_| enters).and_then(|holding| self.orders.entered(holding)) {
            return Err(Refusal::CapReached { order: Some(order) });
        }
        if holding.is_some_and(|holding| self.orders.is_used_up(holding, item.cap())) {
            return Err(Refusal::OrdersUsedUp);
        }
        if item.gauge.stock.available() < u64::from(units) {
            return Err(Refusal::SoldOut);
        }
        if item.is_frozen(now) {
            return Err(Refusal::Overloaded);
        }
        if item.last_seq == u32::MAX || !self.orders.has_room() {
            return Err(Refusal::Overloaded);
        }
        Ok(Verdict::Sell(Sale {
            item: slot,
            state: if enters { OrderState::Entered } else { OrderState::initial(item.payment()) },
            order: OrderId::new(p.item, item.last_seq + 1),
            pay_by_ms: if enters { UnixMillis(0) } else { item.pay_by_ms(now) },
        }))
    }

    /// The order as its first answer showed it.
    fn as_placed(&self, slot: u32) -> OrderView {
        let order = OrderView { refunded: 0, ..self.order_view(slot) };
        let order = match self.orders.first_deadline(slot) {
            Some(pay_by_ms) => OrderView { pay_by_ms, ..order },
            None => order,
        };
        if self.orders.is_entry(slot) {
            let (state, pay_by_ms) = (OrderState::Entered, UnixMillis(0));
            return OrderView { state, pay_by_ms, state_lsn: order.lsn, ..order };
        }
        let item = self.items.find(order.order.item()).expect("an order has its item");
        let state = OrderState::initial(self.items.get(item).payment());
        OrderView { state, state_lsn: order.lsn, ..order }
    }

    // ---- orders ----

    fn cancel_own(
        &mut self,
        now: UnixMillis,
        order: OrderId,
        buyer: crate::types::BuyerHash,
        sink: &mut impl FactSink,
    ) -> Judged<Outcome> {
        let slot = self.orders.find(order).ok_or(Refusal::NotFound)?;
        if self.orders.buyer(slot) != buyer {
            return Err(Refusal::NotFound);
        }
        let step = Step { slot, to: OrderState::Cancelled, payment_ref: &[], actor: ACTOR_BUYER };
        match self.orders.view(slot).state {
            OrderState::Cancelled => Ok(Outcome::Moved(self.order_view(slot))),
            OrderState::Confirmed | OrderState::Held | OrderState::Pending | OrderState::Entered => {
                self.step(now, &step, sink)
            }
            _ => Err(Refusal::NotCancellable),
        }
    }

    /// The table of docs/API.md, "Payments": what a payment does in each state of its order.
    /// `again`: units that were given back are taken once more, if some are left and the cap allows.
    fn pay(
        &mut self,
        now: UnixMillis,
        order: OrderId,
        by: By<'_>,
        again: bool,
        sink: &mut impl FactSink,
    ) -> Judged<Outcome> {
        use OrderState::{Cancelled, Confirmed, Entered, Expired, Held, Lost, Paid, Pending, Refunded};
        let slot = self.orders.find(order).ok_or(Refusal::NotFound)?;
        let seen = self.order_view(slot);
        let late = expired(&seen, now);
        let same = self.same_payment(slot, by.reference);
        // This payment was refunded: it may neither be accepted nor refunded again.
        if let Some(Late::Returned(_)) = self.orders.late(slot, self.reference(by.reference)) {
            return Err(Refusal::AlreadyRefunded);
        }
        let refusal = match seen.state {
            Paid if same => return Ok(Outcome::Moved(seen)),
            Paid => Refusal::AlreadyPaid,
            Refunded if same => return Err(Refusal::AlreadyRefunded),
            Entered => return Err(Refusal::NotDrawn),
            Refunded | Lost => Refusal::HoldExpired,
            Held | Pending if late && !again => Refusal::HoldExpired,
            Cancelled | Expired if !again => Refusal::HoldExpired,
            Cancelled | Expired if !self.cap_allows(&seen, slot) => {
                Refusal::CapReached { order: self.orders.live_order_of(slot) }
            }
            Confirmed | Held | Pending | Cancelled | Expired => {
                let step = Step { slot, to: Paid, payment_ref: by.reference, actor: by.actor };
                match self.step(now, &step, sink) {
                    // The order is over: the payment has to be refunded, unless the merchant asks again.
                    Err(Refusal::SoldOut) if late || matches!(seen.state, Cancelled | Expired) => {
                        Refusal::SoldOut
                    }
                    done => return done,
                }
            }
        };
        Ok(self.note_late_payment(now, (slot, order), by, refusal, sink))
    }

    /// A payment that its order cannot accept becomes a fact, once for each reference.
    fn note_late_payment(
        &mut self,
        now: UnixMillis,
        (slot, order): (u32, OrderId),
        by: By<'_>,
        refusal: Refusal,
        sink: &mut impl FactSink,
    ) -> Outcome {
        let hash = self.reference(by.reference);
        let known = self
            .orders
            .money(slot)
            .find(|row| row.kind == MoneyKind::LatePayment && row.reference_hash == hash);
        let known = known.map(|row| row.lsn);
        match known {
            Some(lsn) => Outcome::Noted(refusal, lsn),
            None if hash == 0 || !self.orders.has_room_for_row(slot) => Outcome::Refused(refusal),
            None => {
                let (payment_ref, actor) = (by.reference, by.actor);
                let fact = Fact::PaymentLate { at_ms: now, order, payment_ref, actor };
                let lsn = self.append(now, &fact, sink);
                self.book_payment(slot, (MoneyKind::LatePayment, lsn, now), payment_ref);
                Outcome::Noted(refusal, lsn)
            }
        }
    }

    /// Whether the cap allows the buyer to have the units of a cancelled or expired order again.
    fn cap_allows(&self, seen: &OrderView, slot: u32) -> bool {
        let item = self.items.find(seen.order.item()).expect("an order has its item");
        let units = self.orders.units_of(slot) + seen.quantity.get();
        units <= self.items.get(item).cap()
    }

    /// The table of docs/API.md, "Payments". If a refund names a payment, it must be the order's own, or
    /// one that came too late.
    fn refund(
        &mut self,
        now: UnixMillis,
        order: OrderId,
        by: By<'_>,
        (refund_ref, units): (&[u8], Option<Quantity>),
        sink: &mut impl FactSink,
    ) -> Judged<Outcome> {
        let slot = self.orders.find(order).ok_or(Refusal::NotFound)?;
        let seen = self.order_view(slot);
        if self.orders.late(slot, self.reference(by.reference)).is_some() {
            return self.return_late(now, slot, by, (refund_ref, units), sink);
        }
        if !matches!(seen.state, OrderState::Paid | OrderState::Refunded) {
            return Err(Refusal::NotCancellable);
        }
        let named = !by.reference.is_empty();
        if named && !self.same_payment(slot, by.reference) {
            return Err(Refusal::OtherPayment);
        }
        let hash = self.reference(refund_ref);
        let this = |row: &MoneyRow<'_>| row.kind == MoneyKind::Refund && row.reference_hash == hash;
        let known = self.orders.money(slot).find(|row| hash != 0 && this(row)).map(|row| row.units);
        if let Some(known) = known {
            let same = units.is_none_or(|units| units.get() == known);
            return if same { Ok(Outcome::Moved(seen)) } else { Err(Refusal::KeyReused) };
        }
        if self.returned_under(slot, refund_ref) {
            return Err(Refusal::KeyReused);
        }
        let left = seen.quantity.get() - seen.refunded;
        if seen.state == OrderState::Refunded {
            // Without a reference of its own it may be a retry of the refund before.
            return if hash == 0 { Ok(Outcome::Moved(seen)) } else { Err(Refusal::AlreadyRefunded) };
        }
        let all = Quantity::new(u64::from(left)).ok_or(Refusal::AlreadyRefunded)?;
        let units = units.unwrap_or(all);
        if units > all {
            return Err(invalid("quantity", "more than is left of the order"));
        }
        if units < all && hash == 0 {
            return Err(invalid(
                "refund_ref",
                "is needed to refund a part: it tells a retry from a second refund",
            ));
        }
        if units < all && !self.orders.has_room_for_row(slot) {
            return Err(invalid("quantity", "this order has too many refunds; refund all that is left"));
        }
        self.book_new_refund(now, slot, (units, refund_ref), by.actor, sink)
    }

    /// Records that a late payment was refunded. The order and its units stay as they are.
    fn return_late(
        &mut self,
        now: UnixMillis,
        slot: u32,
        by: By<'_>,
        (refund_ref, units): (&[u8], Option<Quantity>),
        sink: &mut impl FactSink,
    ) -> Judged<Outcome> {
        let (seen, hash) = (self.order_view(slot), self.reference(refund_ref));
        if units.is_some() {
            return Err(invalid("quantity", "a late payment took no units: it is refunded as a whole"));
        }
        if let Some(Late::Returned(known)) = self.orders.late(slot, self.reference(by.reference)) {
            let same = hash == 0 || known == refund_ref;
            return if same { Ok(Outcome::Moved(seen)) } else { Err(Refusal::AlreadyRefunded) };
        }
        let refund = |row: MoneyRow<'_>| row.kind == MoneyKind::Refund && row.reference_hash == hash;
        let used = hash != 0 && self.orders.money(slot).any(refund);
        if used || self.returned_under(slot, refund_ref) {
            return Err(Refusal::KeyReused);
        }
        if !self.orders.has_room_for_money() {
            return Err(Refusal::Overloaded);
        }
        let (order, payment_ref, actor) = (seen.order, by.reference, by.actor);
        let fact = Fact::LatePaymentReturned { at_ms: now, order, payment_ref, refund_ref, actor };
        let lsn = self.append(now, &fact, sink);
        self.book_return(slot, (lsn, now), payment_ref, refund_ref);
        Ok(Outcome::Moved(self.order_view(slot)))
    }

    /// Whether a late payment of the order was refunded under this reference.
    fn returned_under(&self, slot: u32, refund_ref: &[u8]) -> bool {
        let same = |row: MoneyRow<'_>| row.kind == MoneyKind::LateReturned && row.reference == refund_ref;
        !refund_ref.is_empty() && self.orders.money(slot).any(same)
    }

    fn book_new_refund(
        &mut self,
        now: UnixMillis,
        slot: u32,
        (units, refund_ref): (Quantity, &[u8]),
        actor: &str,
        sink: &mut impl FactSink,
    ) -> Judged<Outcome> {
        let OrderView { order, quantity, refunded, .. } = self.orders.view(slot);
        let item = self.items.find(order.item()).ok_or(Refusal::NotFound)?;
        if self.items.get(item).is_frozen(now) {
            return Err(Refusal::Overloaded);
        }
        let refunded = Quantity::new(u64::from(refunded + units.get())).ok_or(Refusal::BadQuantity)?;
        let fact = Fact::OrderRefunded { at_ms: now, order, quantity, units, refunded, refund_ref, actor };
        let lsn = self.append(now, &fact, sink);
        let refund = self.refund_row((now, lsn), order, units.get(), refund_ref);
        self.book_refund(slot, &refund, quantity, refunded.get());
        Ok(Outcome::Moved(self.order_view(slot)))
    }

    fn cancel(
        &mut self,
        now: UnixMillis,
        order: OrderId,
        by: By<'_>,
        sink: &mut impl FactSink,
    ) -> Judged<Outcome> {
        use OrderState::{Cancelled, Confirmed, Entered, Held, Pending};
        let slot = self.orders.find(order).ok_or(Refusal::NotFound)?;
        match self.orders.view(slot).state {
            Cancelled => Ok(Outcome::Moved(self.order_view(slot))),
            Confirmed | Held | Pending | Entered => self.step(
                now,
                &Step { slot, to: Cancelled, payment_ref: by.reference, actor: by.actor },
                sink,
            ),
            _ => Err(Refusal::NotCancellable),
        }
    }

    /// Gives an unpaid order more time, up to a whole hold from now and [`HOLD_MS_MAX`] in all.
    fn extend(
        &mut self,
        now: UnixMillis,
        order: OrderId,
        pay_by_ms: UnixMillis,
        actor: &str,
        sink: &mut impl FactSink,
    ) -> Judged<Outcome> {
        let slot = self.orders.find(order).ok_or(Refusal::NotFound)?;
        let seen = self.order_view(slot);
        let item = self.items.find(order.item()).ok_or(Refusal::NotFound)?;
        match seen.state {
            OrderState::Held | OrderState::Pending if seen.pay_by_ms.0 == 0 => {
                return Err(Refusal::NotExtendable);
            }
            OrderState::Held | OrderState::Pending if expired(&seen, now) => {
                return Err(Refusal::HoldExpired);
            }
            OrderState::Held | OrderState::Pending => {}
            OrderState::Expired => return Err(Refusal::HoldExpired),
            _ => return Err(Refusal::NotExtendable),
        }
        if pay_by_ms == seen.pay_by_ms {
            return Ok(Outcome::Moved(seen));
        }
        let longest = (now.0 + self.items.get(item).hold_ms()).min(seen.created_at_ms.0 + HOLD_MS_MAX);
        if pay_by_ms < seen.pay_by_ms || pay_by_ms.0 > longest {
            return Err(invalid("pay_by_ms", "must be later, and at most the item's hold_ms from now"));
        }
        let (quantity, state) = (seen.quantity, seen.state);
        let fact = Fact::HoldExtended { at_ms: now, order, quantity, state, pay_by_ms, actor };
        let lsn = self.append(now, &fact, sink);
        self.book_deadline((lsn, now), slot, pay_by_ms);
        Ok(Outcome::Moved(self.order_view(slot)))
    }

    fn same_payment(&self, slot: u32, payment_ref: &[u8]) -> bool {
        self.orders.reference_hash(slot, MoneyKind::Payment) == self.reference(payment_ref)
    }

    /// The result of an earlier call with the same key, if there was one. The same key for something
    /// else is refused.
    fn judge_call(&self, item: ItemId, key: &[u8], asked: i64) -> Judged<Option<Lsn>> {
        let key_hash = self.reference(key);
        let slot = self.items.find(item).filter(|_| key_hash != 0);
        match slot.and_then(|slot| self.items.get(slot).call(key_hash)) {
            Some(call) if call.asked == asked => Ok(Some(call.lsn)),
            Some(_) => Err(Refusal::KeyReused),
            None => Ok(None),
        }
    }

    /// Changes an order's state; takes the stock of a pending one that is paid. While a draw of the
    /// item runs, no units may come or go.
    fn step(&mut self, now: UnixMillis, step: &Step<'_>, sink: &mut impl FactSink) -> Judged<Outcome> {
        let order = self.orders.view(step.slot);
        let (from, to) = (order.state.pile(), step.to.pile());
        let item = self.items.find(order.order.item()).ok_or(Refusal::NotFound)?;
        let row = self.items.get(item);
        if (from == Pile::Available || to == Pile::Available) && row.is_frozen(now) {
            return Err(Refusal::Overloaded);
        }
        if (from, to) == (Pile::Available, Pile::Sold) {
            if row.has(Rules::PAUSED) {
                return Err(Refusal::Paused);
            }
            if !row.gauge.stock.try_take(u64::from(order.quantity.get())) {
                return Err(Refusal::SoldOut);
            }
        }
        let fact = Fact::OrderMoved {
            at_ms: now,
            order: order.order,
            quantity: order.quantity,
            from: order.state,
            to: step.to,
            payment_ref: step.payment_ref,
            actor: step.actor,
        };
        let lsn = self.append(now, &fact, sink);
        self.book_move(lsn, step.slot, step.to);
        self.book_end(step.slot, step.to, (lsn, now));
        if step.to == OrderState::Paid || !step.payment_ref.is_empty() {
            self.book_payment(step.slot, (MoneyKind::Payment, lsn, now), step.payment_ref);
        }
        Ok(Outcome::Moved(self.order_view(step.slot)))
    }

    pub(super) fn expire(&mut self, now: UnixMillis, slot: u32, sink: &mut impl FactSink) -> bool {
        let order = self.orders.view(slot);
        let waiting = matches!(order.state, OrderState::Held | OrderState::Pending);
        if !waiting || !expired(&order, now) {
            return false;
        }
        let step = Step { slot, to: OrderState::Expired, payment_ref: &[], actor: ACTOR_CLOCK };
        let stepped = self.step(now, &step, sink);
        if stepped == Err(Refusal::Overloaded) {
            self.postponed.push((order.pay_by_ms, slot));
        }
        stepped.is_ok()
    }

    // ---- items ----

    fn put_item(
        &mut self,
        now: UnixMillis,
        id: ItemId,
        (patch, seed): (&ItemPatch<'_>, DrawSeed),
        actor: &str,
        sink: &mut impl FactSink,
    ) -> Judged<Outcome> {
        if let Some(slot) = self.items.find(id) {
            return self.change_item(now, slot, (patch, seed), actor, sink);
        }
        let (spec, granted) = patch.create().map_err(Refusal::Invalid)?;
        spec.check().map_err(Refusal::Invalid)?;
        if granted > STOCK_MAX {
            return Err(invalid("stock", "above 2^40"));
        }
        let seed = judge_draw(now, &spec, DrawSeed::NONE, seed)?;
        if self.items.len() >= self.items_max() {
            return Err(Refusal::Overloaded);
        }
        let fact = Fact::ItemCreated { at_ms: now, item: id, spec, granted, seed, actor };
        let lsn = self.append(now, &fact, sink);
        let (draw, flags) = (DrawRow::of(seed), created_flags(actor));
        self.book_item(lsn, &NewItem { id, spec, granted, flags, epoch: 0, draw });
        Ok(Outcome::Done { lsn, changed: true })
    }

    fn change_item(
        &mut self,
        now: UnixMillis,
        slot: u32,
        (patch, seed): (&ItemPatch<'_>, DrawSeed),
        actor: &str,
        sink: &mut impl FactSink,
    ) -> Judged<Outcome> {
        let item = self.items.get(slot);
        let (id, current) = (item.id(), item.spec());
        let spec = patch.apply_to(&current);
        if patch.payment.is_some_and(|payment| payment != current.payment) {
            return Err(invalid("payment", "cannot change once the item exists"));
        }
        // The request that created the item may be sent again; another stock would be ignored in silence.
        if patch.stock.is_some_and(|stock| stock != item.granted) {
            return Err(invalid("stock", "can only be set on creation; use restock to change it"));
        }
        if item.has(Rules::CLOSED) && spec.closes_at_ms != current.closes_at_ms {
            return Err(invalid("closes_at_ms", "the item was closed for good"));
        }
        spec.check().map_err(Refusal::Invalid)?;
        if spec == current {
            return Ok(Outcome::Done { lsn: item.lsn, changed: false });
        }
        let seed = match item.draw_has_begun(now) {
            true => judge_begun_draw(&current, &spec, item.seed())?,
            false if draw_time(&spec) == draw_time(&current) => item.seed(),
            false => judge_draw(now, &spec, item.seed(), seed)?,
        };
        let fact = Fact::ItemChanged { at_ms: now, item: id, spec, seed, actor };
        let lsn = sink.append(Accepted::new(&fact));
        self.audit.note(lsn, &fact);
        // The name may be borrowed from the row that is about to change.
        let name: alloc::boxed::Box<str> = spec.name.into();
        let spec = crate::item::ItemSpec { name: &name, ..spec };
        self.note(lsn, now);
        self.book_change(lsn, now, slot, (&spec, seed));
        Ok(Outcome::Done { lsn, changed: true })
    }

    fn adjust(
        &mut self,
        now: UnixMillis,
        id: ItemId,
        delta: i64,
        (actor, key): (&str, &[u8]),
        sink: &mut impl FactSink,
    ) -> Judged<Outcome> {
        let slot = self.items.find(id).ok_or(Refusal::NotFound)?;
        let item = self.items.get(slot);
        if delta == 0 {
            return Err(invalid("add", "must not be 0"));
        }
        if item.is_frozen(now) {
            return Err(Refusal::Overloaded);
        }
        let granted = item.granted.checked_add_signed(delta).filter(|&granted| granted <= STOCK_MAX);
        let withdrawn = delta.min(0).unsigned_abs();
        let available = item.gauge.stock.available();
        let Some(granted) = granted else {
            return Err(if delta > 0 {
                invalid("add", "stock above 2^40")
            } else {
                Refusal::StockInUse { available }
            });
        };
        if !item.gauge.stock.try_take(withdrawn) {
            return Err(Refusal::StockInUse { available });
        }
        let lsn = self.append(now, &Fact::StockAdjusted { at_ms: now, item: id, delta, actor, key }, sink);
        self.book_adjustment(lsn, slot, granted, delta.max(0) as u64);
        self.note_call(lsn, id, key, delta);
        Ok(Outcome::Done { lsn, changed: true })
    }

    fn switch(
        &mut self,
        now: UnixMillis,
        id: ItemId,
        switch: Switch,
        (actor, key): (&str, &[u8]),
        sink: &mut impl FactSink,
    ) -> Judged<Outcome> {
        let slot = self.items.find(id).ok_or(Refusal::NotFound)?;
        let item = self.items.get(slot);
        if item.has(Rules::IMPORTING) && switch == Switch::Resumed {
            return Err(invalid(
                "item",
                "not all of its orders were imported from Postgres; close it, or restart",
            ));
        }
        let flags = switched(item.flags(), switch, actor);
        // Two switches become facts even if they change nothing: a pause in the name of the database,
        // which answers the exporter; and a call with a key, whose retry must not count after another
        // switch.
        if flags == item.flags() && actor != ACTOR_POSTGRES && key.is_empty() {
            return Ok(Outcome::Done { lsn: item.lsn, changed: false });
        }
        let lsn = self.append(now, &Fact::ItemSwitched { at_ms: now, item: id, switch, actor, key }, sink);
        self.book_switch(lsn, slot, flags);
        self.note_call(lsn, id, key, i64::from(switch.code()));
        Ok(Outcome::Done { lsn, changed: true })
    }

    pub(super) fn end_window(&mut self, now: UnixMillis, slot: u32, sink: &mut impl FactSink) -> bool {
        let item = self.items.get(slot);
        if item.over() || item.closes_at_ms() > now {
            return false;
        }
        let id = item.id();
        matches!(
            self.switch(now, id, Switch::Ended, (ACTOR_CLOCK, &[]), sink),
            Ok(Outcome::Done { changed: true, .. })
        )
    }

    // ---- buyers ----

    fn block(
        &mut self,
        now: UnixMillis,
        subject: &[u8],
        blocked: bool,
        actor: &str,
        sink: &mut impl FactSink,
    ) -> Judged<Outcome> {
        if self.is_blocked(self.secret.buyer(subject)) == blocked {
            return Ok(Outcome::Done { lsn: self.lsn, changed: false });
        }
        if blocked && self.blocked.len() >= self.bounds.blocked {
            return Err(Refusal::Overloaded);
        }
        let lsn = self.append(now, &Fact::BuyerBlocked { at_ms: now, subject, blocked, actor }, sink);
        self.book_block(subject, blocked);
        Ok(Outcome::Done { lsn, changed: true })
    }

    fn append(&mut self, now: UnixMillis, fact: &Fact<'_>, sink: &mut impl FactSink) -> Lsn {
        let lsn = sink.append(Accepted::new(fact));
        self.audit.note(lsn, fact);
        self.note(lsn, now);
        lsn
    }
}

fn judge_window(now: UnixMillis, item: &crate::items::Item) -> Judged<()> {
    if item.over() || now >= item.closes_at_ms() {
        Err(Refusal::Ended)
    } else if now < item.opens_at_ms() {
        Err(Refusal::NotOpen { opens_in_ms: item.opens_at_ms().0 - now.0 })
    } else if item.has(Rules::PAUSED) {
        Err(Refusal::Paused)
    } else {
        Ok(())
    }
}

fn expired(order: &OrderView, now: UnixMillis) -> bool {
    order.pay_by_ms.0 != 0 && now >= order.pay_by_ms
}

/// The settings that say when a draw is held.
const fn draw_time(spec: &ItemSpec<'_>) -> (UnixMillis, u32) {
    (spec.opens_at_ms, spec.draw_ms)
}

/// The seed of an item under new settings: the one that it has, or a fresh one. A draw must be
/// announced, with its commitment, before the opening.
fn judge_draw(now: UnixMillis, spec: &ItemSpec<'_>, kept: DrawSeed, fresh: DrawSeed) -> Judged<DrawSeed> {
    match () {
        () if spec.draw_ms == 0 => Ok(kept),
        () if spec.opens_at_ms <= now => Err(invalid("opens_at_ms", "a draw must be announced before it")),
        () if !kept.is_none() => Ok(kept),
        () if fresh.is_none() => Err(invalid("draw_ms", "needs a seed, and none was given")),
        () => Ok(fresh),
    }
}

/// A draw that takes entries already keeps its time and length.
fn judge_begun_draw(current: &ItemSpec<'_>, spec: &ItemSpec<'_>, seed: DrawSeed) -> Judged<DrawSeed> {
    const BEGUN: &str = "the draw has begun";
    match () {
        () if spec.opens_at_ms != current.opens_at_ms => Err(invalid("opens_at_ms", BEGUN)),
        () if spec.draw_ms != current.draw_ms => Err(invalid("draw_ms", BEGUN)),
        () => Ok(seed),
    }
}

const fn invalid(field: &'static str, reason: &'static str) -> Refusal {
    Refusal::Invalid(FieldError { field, reason })
}
