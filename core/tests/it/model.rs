//! The slow, obvious engine: ordered maps, and every sum counted afresh from the orders.
//!
//! Written from the HTTP contract and the vocabulary, not from the shard. It must
//! never share code with what it checks; of the crate it uses the words alone.

mod draw;

use std::collections::{BTreeMap, BTreeSet};

use stampede_core::command::{
    Command, ItemPatch, ItemView, Movement, OrderView, Outcome, Purchase, Refusal, Ticket,
};
use stampede_core::draw::{DrawSeed, Drawn};
use stampede_core::fact::{Fact, Switch};
use stampede_core::item::{ChallengeRule, FieldError, ItemSpec, OrderState, Payment, TicketRule};
use stampede_core::money::Price;
use stampede_core::state_row::{AuditAction, AuditRow};
use stampede_core::types::{BuyerHash, ItemId, Lsn, OrderId, UnixMillis};

use self::draw::wrong_draw_fields;
use crate::engine::{BOUNDS, SECRET, owner_of};
use crate::record::{keep, keep_spec, keep_str};

/// What a command must come to.
#[derive(Debug)]
pub(crate) enum Expected {
    Exactly(Outcome),
    /// Refused as invalid, for one of these fields.
    InvalidIn(Vec<&'static str>),
    /// Refused for the cap, with one of these live orders (or, if none is near, no hint).
    CapReached(Vec<OrderId>),
}

impl Expected {
    pub(crate) fn allows(&self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::Exactly(expected), outcome) => expected == outcome,
            (Self::InvalidIn(fields), Outcome::Refused(Refusal::Invalid(FieldError { field, .. }))) => {
                fields.contains(field)
            }
            (Self::CapReached(live), Outcome::Refused(Refusal::CapReached { order: Some(order) })) => {
                live.contains(order)
            }
            _ => false,
        }
    }
}

fn refused(refusal: Refusal) -> Expected {
    Expected::Exactly(Outcome::Refused(refusal))
}

pub(crate) struct Item {
    pub(crate) spec: ItemSpec<'static>,
    granted: u64,
    pub(crate) paused: bool,
    closed: bool,
    ended: bool,
    epoch: u32,
    seed: DrawSeed,
    drawn: Option<Drawn>,
    version: u64,
    lsn: Lsn,
    pub(crate) last_seq: u32,
}

pub(crate) struct Order {
    pub(crate) view: OrderView,
    as_placed: OrderView,
    pub(crate) buyer: &'static [u8],
    key: &'static [u8],
    payment_ref: &'static [u8],
    /// Payments that came too late, and the facts that say so.
    late: Vec<(&'static [u8], Lsn)>,
    /// What was told of payments, in order.
    told: Vec<(Told, &'static [u8])>,
    drawn: bool,
}

/// What can be told of a payment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Taken,
    Late,
    Returned,
}

impl Order {
    /// Whether a late payment was given back; `None` = there is none of this reference.
    fn late_of(&self, reference: &[u8]) -> Option<bool> {
        let last = self.told.iter().rev().find(|(_, known)| *known == reference)?;
        (last.0 != Told::Taken && !reference.is_empty()).then_some(last.0 == Told::Returned)
    }
}

/// What a core remembers of time: nothing it decides is dated or numbered earlier.
#[derive(Clone, Copy, Default)]
pub(crate) struct Owner {
    pub(crate) clock: UnixMillis,
    pub(crate) lsn: Lsn,
}

pub(crate) struct Model {
    pub(crate) owners: Vec<Owner>,
    pub(crate) items: BTreeMap<ItemId, Item>,
    pub(crate) orders: BTreeMap<OrderId, Order>,
    pub(crate) blocked: BTreeSet<&'static [u8]>,
    pub(crate) audit: Vec<AuditRow<'static>>,
    lsn: Lsn,
}

fn units(order: &Order) -> u64 {
    order.view.quantity.get().into()
}

fn is_live(state: OrderState) -> bool {
    use OrderState::{Confirmed, Entered, Held, Paid, Pending};
    [Confirmed, Held, Pending, Paid, Entered].contains(&state)
}

impl Model {
    pub(crate) fn new(cores: usize) -> Self {
        Self {
            owners: vec![Owner::default(); cores],
            items: BTreeMap::new(),
            orders: BTreeMap::new(),
            blocked: BTreeSet::new(),
            audit: Vec::new(),
            lsn: Lsn::ZERO,
        }
    }

    // ---- what can be seen ----

    fn sum_in(&self, item: ItemId, states: &[OrderState]) -> u64 {
        self.orders_of_item(item).filter(|order| states.contains(&order.view.state)).map(units).sum()
    }

    pub(crate) fn orders_of_item(&self, item: ItemId) -> impl Iterator<Item = &Order> {
        self.orders.values().filter(move |order| order.view.order.item() == item)
    }

    pub(crate) fn held(&self, item: ItemId) -> u64 {
        self.sum_in(item, &[OrderState::Held])
    }

    pub(crate) fn sold(&self, item: ItemId) -> u64 {
        self.sum_in(item, &[OrderState::Confirmed, OrderState::Paid])
    }

    pub(crate) fn available(&self, item: ItemId) -> u64 {
        let taken = self.held(item) + self.sold(item);
        self.items[&item].granted.checked_sub(taken).expect("the model itself oversold")
    }

    /// All but `shown_version` and `shown_lsn`, which are of pages.
    pub(crate) fn view(&self, id: ItemId) -> Option<ItemView<'static>> {
        let item = self.items.get(&id)?;
        Some(ItemView {
            item: id,
            spec: item.spec,
            granted: item.granted,
            available: self.available(id),
            held: self.held(id),
            sold: self.sold(id),
            accepted: item.last_seq,
            draw: self.draw_view(id),
            flags: u8::from(item.paused)
                | u8::from(item.closed) << 1
                | u8::from(item.ended) << 2
                | u8::from(item.drawn.is_some()) << 3,
            epoch: item.epoch,
            version: item.version,
            shown_version: 0,
            shown_lsn: Lsn::ZERO,
            lsn: item.lsn,
        })
    }

    // ---- commands ----

    pub(crate) fn decide(&mut self, now: UnixMillis, command: &Command<'_>) -> Expected {
        let core = owner_of(command, self.owners.len());
        let now = now.max(self.owners[core].clock);
        match *command {
            Command::Purchase(ref purchase) => self.purchase(now, purchase),
            Command::CancelOwn { order, buyer } => self.cancel_own(now, order, buyer),
            Command::Move { order, movement, payment_ref, actor } => {
                self.move_order(now, order, movement, payment_ref, actor)
            }
            Command::PutItem { item, ref patch, seed, actor } => self.put(now, item, patch, seed, actor),
            Command::PayAgain { .. } | Command::Refund { .. } | Command::ExtendHold { .. } => {
                panic!("see money.rs for these")
            }
            Command::AdjustStock { item, delta, actor, .. } => self.adjust(now, item, delta, actor),
            Command::SwitchItem { item, switch, actor, .. } => self.switch(now, item, switch, actor),
            Command::BlockBuyer { subject, blocked, actor } => self.block(now, subject, blocked, actor),
        }
    }

    fn number(&mut self, core: usize, now: UnixMillis) -> Lsn {
        self.lsn = self.lsn.next();
        self.owners[core] = Owner { clock: now, lsn: self.lsn };
        self.lsn
    }

    /// Numbers a fact about an item and counts it there.
    fn touch(&mut self, id: ItemId, now: UnixMillis) -> Lsn {
        let lsn = self.number(id.owner(self.owners.len()), now);
        if let Some(item) = self.items.get_mut(&id) {
            item.version += 1;
            item.lsn = lsn;
        }
        lsn
    }

    fn purchase(&mut self, now: UnixMillis, p: &Purchase<'_>) -> Expected {
        let Some(item) = self.items.get(&p.item) else { return refused(Refusal::NotFound) };
        let mine: Vec<&Order> = self.orders_of_item(p.item).filter(|o| o.buyer == p.subject).collect();
        if let Some(first) = mine.iter().find(|order| !p.key.is_empty() && order.key == p.key) {
            return if first.view.quantity == p.quantity {
                replayed(first)
            } else {
                refused(Refusal::KeyReused)
            };
        }
        let spec = item.spec;
        if let Err(refusal) = window(item, now) {
            return refused(refusal);
        }
        match p.ticket {
            Ticket::Good => {}
            Ticket::Missing => return refused(Refusal::TicketRequired),
            Ticket::Invalid => return refused(Refusal::TicketInvalid),
        }
        let wanted = u64::from(p.quantity.get());
        if wanted > u64::from(spec.cap) {
            return refused(Refusal::BadQuantity);
        }
        let placed = mine.len();
        let live: Vec<&Order> = mine.into_iter().filter(|order| is_live(order.view.state)).collect();
        if live.iter().map(|order| units(order)).sum::<u64>() + wanted > u64::from(spec.cap) {
            return Expected::CapReached(live.iter().map(|order| order.view.order).collect());
        }
        let enters = item.takes_entries(now);
        if let Some(entry) = live.iter().find(|order| enters && order.view.state == OrderState::Entered) {
            return Expected::CapReached(vec![entry.view.order]);
        }
        if placed >= usize::from(BOUNDS.orders_per_buyer_and_item).max(spec.cap as usize) {
            return refused(Refusal::OrdersUsedUp);
        }
        if self.available(p.item) < wanted {
            return refused(Refusal::SoldOut);
        }
        if self.frozen(p.item, now) {
            return refused(Refusal::Overloaded);
        }
        self.place(now, p, &spec, enters)
    }

    fn place(&mut self, now: UnixMillis, p: &Purchase<'_>, spec: &ItemSpec<'_>, enters: bool) -> Expected {
        let lsn = self.touch(p.item, now);
        let item = self.items.get_mut(&p.item).expect("found before");
        item.last_seq += 1;
        let waits = !enters && spec.payment != Payment::OnOrder && spec.hold_ms > 0;
        let view = OrderView {
            order: OrderId::new(p.item, item.last_seq),
            quantity: p.quantity,
            state: if enters { OrderState::Entered } else { first_state(spec.payment) },
            created_at_ms: now,
            pay_by_ms: UnixMillis(if waits { now.0 + spec.hold_ms } else { 0 }),
            lsn,
            state_lsn: lsn,
            price: Price { minor: spec.price_minor, currency: spec.currency },
            refunded: 0,
        };
        let (buyer, key) = (keep(p.subject), keep(p.key));
        let order = Order {
            view,
            as_placed: view,
            buyer,
            key,
            payment_ref: b"",
            late: Vec::new(),
            told: Vec::new(),
            drawn: false,
        };
        self.orders.insert(view.order, order);
        Expected::Exactly(Outcome::Placed(view))
    }

    fn cancel_own(&mut self, now: UnixMillis, id: OrderId, buyer: BuyerHash) -> Expected {
        match self.orders.get(&id) {
            Some(order) if SECRET.buyer(order.buyer) == buyer => self.cancel(now, id, b"", "buyer"),
            _ => refused(Refusal::NotFound),
        }
    }

    fn cancel(&mut self, now: UnixMillis, id: OrderId, reference: &[u8], actor: &str) -> Expected {
        use OrderState::{Cancelled, Confirmed, Entered, Held, Pending};
        match self.orders[&id].view.state {
            Confirmed | Held | Pending | Entered if self.frozen(id.item(), now) => {
                refused(Refusal::Overloaded)
            }
            Confirmed | Held | Pending | Entered => self.go(now, id, Cancelled, reference, actor),
            Cancelled => Expected::Exactly(Outcome::Moved(self.orders[&id].view)),
            _ => refused(Refusal::NotCancellable),
        }
    }

    fn move_order(
        &mut self,
        now: UnixMillis,
        id: OrderId,
        movement: Movement,
        reference: &[u8],
        actor: &str,
    ) -> Expected {
        let Some(order) = self.orders.get(&id) else { return refused(Refusal::NotFound) };
        match (movement, order.view.state) {
            (Movement::Pay, _) => self.pay(now, id, reference, actor),
            (Movement::Cancel, _) => self.cancel(now, id, reference, actor),
            (Movement::Refund, _) if order.late_of(reference).is_some() => {
                self.give_back(now, id, reference, actor)
            }
            (Movement::Refund, OrderState::Paid | OrderState::Refunded)
                if !reference.is_empty() && reference != order.payment_ref =>
            {
                refused(Refusal::OtherPayment)
            }
            (Movement::Refund, OrderState::Paid) if self.frozen(id.item(), now) => {
                refused(Refusal::Overloaded)
            }
            (Movement::Refund, OrderState::Paid) => self.go(now, id, OrderState::Refunded, b"", actor),
            (Movement::Refund, OrderState::Refunded) => Expected::Exactly(Outcome::Moved(order.view)),
            (Movement::Refund, _) => refused(Refusal::NotCancellable),
        }
    }

    /// A late payment is ticked off, once.
    fn give_back(&mut self, now: UnixMillis, id: OrderId, reference: &[u8], actor: &str) -> Expected {
        let is_back = self.orders[&id].late_of(reference).expect("asked before");
        if !is_back {
            let lsn = self.number(id.item().owner(self.owners.len()), now);
            let order = self.orders.get_mut(&id).expect("found before");
            order.told.push((Told::Returned, keep(reference)));
            order.view.state_lsn = lsn;
            let row = audit_row(lsn, now, AuditAction::LatePaymentReturned, actor);
            self.audit.push(AuditRow { item: Some(id.item()), order: Some(id), ..row });
        }
        Expected::Exactly(Outcome::Moved(self.orders[&id].view))
    }

    fn pay(&mut self, now: UnixMillis, id: OrderId, reference: &[u8], actor: &str) -> Expected {
        let order = &self.orders[&id];
        if order.late_of(reference) == Some(true) {
            return refused(Refusal::AlreadyRefunded);
        }
        let item = id.item();
        let too_late = order.view.pay_by_ms.0 != 0 && now >= order.view.pay_by_ms;
        match order.view.state {
            OrderState::Held | OrderState::Pending if too_late => {
                self.late(now, id, reference, Refusal::HoldExpired)
            }
            OrderState::Pending if self.frozen(item, now) => refused(Refusal::Overloaded),
            OrderState::Pending if self.items[&item].paused => refused(Refusal::Paused),
            OrderState::Pending if self.available(item) < units(order) => refused(Refusal::SoldOut),
            OrderState::Confirmed | OrderState::Held | OrderState::Pending => {
                self.go(now, id, OrderState::Paid, reference, actor)
            }
            OrderState::Paid if order.payment_ref == reference => {
                Expected::Exactly(Outcome::Moved(order.view))
            }
            OrderState::Refunded if order.payment_ref == reference => refused(Refusal::AlreadyRefunded),
            OrderState::Paid => self.late(now, id, reference, Refusal::AlreadyPaid),
            OrderState::Entered => refused(Refusal::NotDrawn),
            OrderState::Cancelled | OrderState::Expired | OrderState::Refunded | OrderState::Lost => {
                self.late(now, id, reference, Refusal::HoldExpired)
            }
        }
    }

    /// A payment that the order cannot take: a fact, once for each reference.
    fn late(&mut self, now: UnixMillis, id: OrderId, reference: &[u8], refusal: Refusal) -> Expected {
        if reference.is_empty() {
            return refused(refusal);
        }
        let known = self.orders[&id].late.iter().find(|(known, _)| *known == reference).map(|(_, lsn)| *lsn);
        let lsn = known.unwrap_or_else(|| {
            let lsn = self.number(id.item().owner(self.owners.len()), now);
            let order = self.orders.get_mut(&id).expect("found before");
            order.late.push((keep(reference), lsn));
            order.told.push((Told::Late, keep(reference)));
            order.view.state_lsn = lsn;
            lsn
        });
        Expected::Exactly(Outcome::Noted(refusal, lsn))
    }

    fn go(&mut self, now: UnixMillis, id: OrderId, to: OrderState, reference: &[u8], by: &str) -> Expected {
        let lsn = self.touch(id.item(), now);
        let order = self.orders.get_mut(&id).expect("found before");
        (order.view.state, order.view.state_lsn) = (to, lsn);
        if !reference.is_empty() || to == OrderState::Paid {
            order.payment_ref = keep(reference);
            order.told.push((Told::Taken, keep(reference)));
        }
        if to == OrderState::Refunded {
            order.view.refunded = order.view.quantity.get();
        }
        let view = order.view;
        let action = match to {
            OrderState::Cancelled if by != "buyer" => Some(AuditAction::OrderCancelled),
            OrderState::Refunded => Some(AuditAction::OrderRefunded),
            _ => None,
        };
        if let Some(action) = action {
            let row = audit_row(lsn, now, action, by);
            let units = view.quantity.get().into();
            self.audit.push(AuditRow { item: Some(id.item()), order: Some(id), units, ..row });
        }
        Expected::Exactly(Outcome::Moved(view))
    }

    fn put(
        &mut self,
        now: UnixMillis,
        id: ItemId,
        patch: &ItemPatch<'_>,
        seed: DrawSeed,
        actor: &str,
    ) -> Expected {
        match self.items.get(&id) {
            Some(_) => self.change(now, id, (patch, seed), actor),
            None => self.create(now, id, (patch, seed), actor),
        }
    }

    fn create(
        &mut self,
        now: UnixMillis,
        id: ItemId,
        (patch, seed): (&ItemPatch<'_>, DrawSeed),
        actor: &str,
    ) -> Expected {
        let (Some(name), Some(granted), Some(opens_at_ms), Some(closes_at_ms)) =
            (patch.name, patch.stock, patch.opens_at_ms, patch.closes_at_ms)
        else {
            return Expected::InvalidIn(missing_fields(patch));
        };
        let blank = ItemSpec {
            name,
            price_minor: 0,
            currency: *b"CNY",
            opens_at_ms,
            closes_at_ms,
            cap: 1,
            payment: patch.payment.unwrap_or(Payment::OnOrder),
            hold_ms: 0,
            ticket: TicketRule::Never,
            challenge: ChallengeRule::Never,
            min_level: 0,
            min_account_age_s: 0,
            admit_per_s: 0,
            draw_ms: 0,
        };
        let spec = keep_spec(&patched(&blank, patch));
        let mut wrong = wrong_fields(&spec);
        wrong.extend((granted > 1 << 40).then_some("stock"));
        wrong.extend((spec.draw_ms > 0 && spec.opens_at_ms <= now).then_some("opens_at_ms"));
        if !wrong.is_empty() {
            return Expected::InvalidIn(wrong);
        }
        let (paused, closed, ended) = (false, false, false);
        let (epoch, version, lsn, last_seq, drawn) = (0, 0, Lsn::ZERO, 0, None);
        let seed = if spec.draw_ms > 0 { seed } else { DrawSeed::NONE };
        let item = Item { spec, granted, paused, closed, ended, epoch, seed, drawn, version, lsn, last_seq };
        self.items.insert(id, item);
        self.changed(now, id, AuditAction::ItemCreated, granted as i64, actor)
    }

    fn change(
        &mut self,
        now: UnixMillis,
        id: ItemId,
        (patch, seed): (&ItemPatch<'_>, DrawSeed),
        actor: &str,
    ) -> Expected {
        let item = &self.items[&id];
        let before = item.spec;
        let spec = patched(&before, patch);
        let mut wrong = wrong_fields(&spec);
        wrong.extend(patch.payment.filter(|&payment| payment != before.payment).map(|_| "payment"));
        wrong.extend(patch.stock.filter(|&stock| stock != item.granted).map(|_| "stock"));
        wrong.extend((item.closed && spec.closes_at_ms != before.closes_at_ms).then_some("closes_at_ms"));
        wrong.extend(wrong_draw_fields(now, &before, &spec));
        if !wrong.is_empty() {
            return Expected::InvalidIn(wrong);
        }
        if spec == before {
            return Expected::Exactly(Outcome::Done { lsn: item.lsn, changed: false });
        }
        let item = self.items.get_mut(&id).expect("found before");
        item.spec = keep_spec(&spec);
        if spec.draw_ms > 0 && item.seed.is_none() {
            item.seed = seed;
        }
        let window = |spec: &ItemSpec<'_>| (spec.opens_at_ms, spec.closes_at_ms);
        item.epoch += u32::from(window(&before) != window(&spec));
        item.ended &= spec.closes_at_ms <= now;
        self.changed(now, id, AuditAction::ItemChanged, 0, actor)
    }

    /// Numbers a merchant's change that was made just now.
    fn changed(&mut self, now: UnixMillis, id: ItemId, what: AuditAction, units: i64, by: &str) -> Expected {
        let lsn = self.touch(id, now);
        self.audit.push(AuditRow { item: Some(id), units, ..audit_row(lsn, now, what, by) });
        Expected::Exactly(Outcome::Done { lsn, changed: true })
    }

    fn adjust(&mut self, now: UnixMillis, id: ItemId, delta: i64, actor: &str) -> Expected {
        let Some(item) = self.items.get(&id) else { return refused(Refusal::NotFound) };
        let (granted, available) = (i128::from(item.granted), self.available(id));
        let after = granted + i128::from(delta);
        if delta == 0 {
            return Expected::InvalidIn(vec!["add"]);
        }
        if self.frozen(id, now) {
            return refused(Refusal::Overloaded);
        }
        if after > 1 << 40 {
            return Expected::InvalidIn(vec!["add"]);
        }
        if i128::from(available) + i128::from(delta) < 0 {
            return refused(Refusal::StockInUse { available });
        }
        self.items.get_mut(&id).expect("found before").granted = after as u64;
        self.changed(now, id, AuditAction::StockAdjusted, delta, actor)
    }

    fn switch(&mut self, now: UnixMillis, id: ItemId, switch: Switch, actor: &str) -> Expected {
        let Some(item) = self.items.get_mut(&id) else { return refused(Refusal::NotFound) };
        let (flag, value, action) = match switch {
            Switch::Paused => (&mut item.paused, true, AuditAction::Paused),
            Switch::Resumed => (&mut item.paused, false, AuditAction::Resumed),
            Switch::Closed => (&mut item.closed, true, AuditAction::Closed),
            Switch::Ended => panic!("only the clock ends a window"),
        };
        // What the database asked for is always answered by a fact.
        let was = std::mem::replace(flag, value);
        if was == value && actor != "postgres" {
            return Expected::Exactly(Outcome::Done { lsn: item.lsn, changed: false });
        }
        item.epoch += u32::from(switch == Switch::Closed && was != value);
        self.changed(now, id, action, 0, actor)
    }

    fn block(&mut self, now: UnixMillis, subject: &[u8], blocked: bool, actor: &str) -> Expected {
        if self.blocked.contains(subject) == blocked {
            return Expected::Exactly(Outcome::Done { lsn: self.owners[0].lsn, changed: false });
        }
        let subject = keep(subject);
        let action = if blocked {
            self.blocked.insert(subject);
            AuditAction::BuyerBlocked
        } else {
            self.blocked.remove(subject);
            AuditAction::BuyerUnblocked
        };
        let lsn = self.number(0, now);
        self.audit.push(AuditRow { subject, ..audit_row(lsn, now, action, actor) });
        Expected::Exactly(Outcome::Done { lsn, changed: true })
    }

    // ---- time ----

    fn is_mine(&self, core: usize, item: ItemId) -> bool {
        item.owner(self.owners.len()) == core
    }

    /// The unpaid orders of a core whose time is up, and when it was.
    pub(crate) fn due_orders(&self, core: usize, now: UnixMillis) -> Vec<(UnixMillis, OrderId)> {
        use OrderState::{Held, Pending};
        let waiting = self.orders.values().map(|order| order.view).filter(|view| {
            [Held, Pending].contains(&view.state) && view.pay_by_ms.0 != 0 && view.pay_by_ms <= now
        });
        waiting.filter(|v| self.is_mine(core, v.order.item())).map(|v| (v.pay_by_ms, v.order)).collect()
    }

    /// The items of a core whose window ran out unnoticed so far.
    pub(crate) fn due_windows(&self, core: usize, now: UnixMillis) -> Vec<ItemId> {
        let ran_out = |item: &Item| !item.closed && !item.ended && item.spec.closes_at_ms <= now;
        let due = self.items.iter().filter(|(id, item)| self.is_mine(core, **id) && ran_out(item));
        due.map(|(id, _)| *id).collect()
    }

    /// Follows what a core did at a tick, after checking that it had to do just that. Which
    /// of several orders with the same deadline goes first is left to it.
    pub(crate) fn tick(&mut self, core: usize, now: UnixMillis, budget: usize, facts: &[(Lsn, Fact<'_>)]) {
        let now = now.max(self.owners[core].clock);
        assert!(facts.len() <= budget, "{} facts of a tick for {budget}", facts.len());
        for (lsn, fact) in facts {
            assert_eq!((*lsn, fact.at_ms()), (self.lsn.next(), now));
            self.follow(core, now, fact);
        }
        if facts.len() < budget {
            let left = (self.expiring(core, now), self.due_windows(core, now), self.due_draws(core, now));
            assert_eq!(left, Default::default(), "left at {now:?} by {facts:?}");
        }
    }

    fn follow(&mut self, core: usize, now: UnixMillis, fact: &Fact<'_>) {
        let first_due = self.expiring(core, now).into_iter().min().map(|(due, _)| due);
        match *fact {
            Fact::OrderMoved {
                order, quantity, from, to: OrderState::Expired, payment_ref, actor, ..
            } => {
                let view = self.orders[&order].view;
                assert_eq!(Some(view.pay_by_ms), first_due, "expired before its turn: {view:?}");
                assert!(!self.frozen(order.item(), now), "expired in the middle of a draw: {view:?}");
                assert_eq!((quantity, from), (view.quantity, view.state));
                assert_eq!((payment_ref, actor), (&b""[..], "clock"));
                self.go(now, order, OrderState::Expired, b"", "clock");
            }
            Fact::ItemSwitched { item, switch: Switch::Ended, actor: "clock", .. } => {
                assert_eq!(first_due, None, "a window ended before the orders that are due");
                assert!(self.due_windows(core, now).contains(&item), "item {item} ended early");
                assert!(!self.draw_due(item, now), "item {item} ended before its draw");
                self.items.get_mut(&item).expect("it is due").ended = true;
                self.touch(item, now);
            }
            Fact::DrawHeld { item, entries, units, seed, .. } => {
                self.hold_draw(now, item, (entries, units, seed));
            }
            Fact::EntryDrawn { order, quantity, to, pay_by_ms, .. } => {
                self.draw_entry(now, order, (quantity, to, pay_by_ms));
            }
            _ => panic!("not a clock's fact: {fact:?}"),
        }
    }
}

fn audit_row(lsn: Lsn, at_ms: UnixMillis, action: AuditAction, actor: &str) -> AuditRow<'static> {
    let (item, order, units, subject) = (None, None, 0, &b""[..]);
    AuditRow { lsn, at_ms, action, item, order, units, actor: keep_str(actor), subject }
}

fn first_state(payment: Payment) -> OrderState {
    match payment {
        Payment::OnOrder => OrderState::Confirmed,
        Payment::Hold => OrderState::Held,
        Payment::OnPayment => OrderState::Pending,
    }
}

fn replayed(first: &Order) -> Expected {
    Expected::Exactly(Outcome::Replayed(first.as_placed))
}

fn window(item: &Item, now: UnixMillis) -> Result<(), Refusal> {
    let (opens, closes) = (item.spec.opens_at_ms, item.spec.closes_at_ms);
    if item.closed || item.ended || closes <= now {
        return Err(Refusal::Ended);
    }
    if now < opens {
        return Err(Refusal::NotOpen { opens_in_ms: opens.0 - now.0 });
    }
    if item.paused { Err(Refusal::Paused) } else { Ok(()) }
}

fn patched<'a>(spec: &ItemSpec<'a>, patch: &ItemPatch<'a>) -> ItemSpec<'a> {
    let mut new = *spec;
    fn set<T: Copy>(field: &mut T, value: Option<T>) {
        *field = value.unwrap_or(*field);
    }
    set(&mut new.name, patch.name);
    set(&mut new.price_minor, patch.price_minor);
    set(&mut new.currency, patch.currency);
    set(&mut new.opens_at_ms, patch.opens_at_ms);
    set(&mut new.closes_at_ms, patch.closes_at_ms);
    set(&mut new.cap, patch.cap);
    set(&mut new.hold_ms, patch.hold_ms);
    set(&mut new.ticket, patch.ticket);
    set(&mut new.challenge, patch.challenge);
    set(&mut new.min_level, patch.min_level);
    set(&mut new.min_account_age_s, patch.min_account_age_s);
    set(&mut new.admit_per_s, patch.admit_per_s);
    set(&mut new.draw_ms, patch.draw_ms);
    new
}

fn missing_fields(patch: &ItemPatch<'_>) -> Vec<&'static str> {
    let needed = [
        (patch.name.is_none(), "name"),
        (patch.stock.is_none(), "stock"),
        (patch.opens_at_ms.is_none(), "opens_at_ms"),
        (patch.closes_at_ms.is_none(), "closes_at_ms"),
    ];
    needed.into_iter().filter(|(missing, _)| *missing).map(|(_, field)| field).collect()
}

fn wrong_fields(spec: &ItemSpec<'_>) -> Vec<&'static str> {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let name = spec.name;
    let name_wrong = name.trim().is_empty() || name.len() > 200 || name.chars().any(char::is_control);
    let hold_wrong = spec.hold_ms > 30 * DAY_MS || (spec.payment == Payment::Hold && spec.hold_ms == 0);
    let closes_wrong = spec.closes_at_ms <= spec.opens_at_ms || spec.closes_at_ms.0 > 253_402_300_799_999;
    let draw = u64::from(spec.draw_ms);
    let draw_wrong = draw != 0
        && (!(1_000..=7 * DAY_MS).contains(&draw)
            || spec.closes_at_ms.0 <= spec.opens_at_ms.0.saturating_add(draw));
    let checks = [
        (name_wrong, "name"),
        (spec.price_minor > 1 << 53, "price_minor"),
        (!spec.currency.iter().all(u8::is_ascii_uppercase), "currency"),
        (closes_wrong, "closes_at_ms"),
        (spec.cap == 0 || spec.cap > 1_000_000, "cap"),
        (hold_wrong, "hold_ms"),
        (spec.challenge != ChallengeRule::Never && spec.ticket == TicketRule::Never, "challenge"),
        (draw_wrong, "draw_ms"),
    ];
    checks.into_iter().filter(|(wrong, _)| *wrong).map(|(_, field)| field).collect()
}
