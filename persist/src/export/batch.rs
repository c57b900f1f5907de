//! Facts folded into rows: one row per order, one change per item.
//!
//! Pure memory: no database, no clock. A batch is kept until its transaction is known to
//! be committed, so that it can be written again unchanged. Next: [`super::write`].

use std::collections::HashMap;

use stampede_core::fact::{ACTOR_IMPORT, ACTOR_POSTGRES, Fact, Switch};
use stampede_core::item::{ItemSpec, OrderState, Pile};
use stampede_core::money::{MoneyKind, MoneyRow, Price, Reference, tell};
use stampede_core::record::OrderRecord;
use stampede_core::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};

use super::payments::PaymentRow;
use super::text;
use crate::log::block::ChainHash;

/// A piece of the batch's text, already escaped.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Text {
    at: u32,
    len: u32,
}

/// The row of an order, or what changed in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderRow {
    pub(crate) id: OrderId,
    pub(crate) lsn: Lsn,
    pub(crate) created_at_ms: UnixMillis,
    pub(crate) updated_at_ms: UnixMillis,
    /// Zero = never; in a row that only moved: unchanged.
    pub(crate) pay_by_ms: UnixMillis,
    pub(crate) quantity: u32,
    pub(crate) state: OrderState,
    /// Empty in a row that only moved.
    pub(crate) buyer: Text,
    pub(crate) key: Text,
    /// Empty = none, or unchanged, as below.
    pub(crate) payment_ref: Text,
    pub(crate) refund_ref: Text,
    /// Units given back; 0 = none, or unchanged.
    pub(crate) refunded: u32,
    /// When it was cancelled or expired; zero = not, or unchanged.
    pub(crate) ended_at_ms: UnixMillis,
    /// Unknown = not known, or unchanged.
    pub(crate) price: Price,
}

/// Units on the piles of an item, or moved between them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Piles {
    /// Available.
    pub count: i64,
    /// Reserved for unpaid orders.
    pub held: i64,
    /// Sold.
    pub sale: i64,
}

impl Piles {
    /// Moves the units of an order from one pile to another.
    pub(crate) fn shift(&mut self, from: Pile, to: Pile, quantity: Quantity) {
        self.shift_units(from, to, quantity.get());
    }

    /// The same for any number of units.
    pub(crate) fn shift_units(&mut self, from: Pile, to: Pile, units: u32) {
        let units = i64::from(units);
        *self.pile(from) -= units;
        *self.pile(to) += units;
    }

    /// These units and those, pile by pile.
    pub(crate) const fn plus(self, more: Self) -> Self {
        Self { count: self.count + more.count, held: self.held + more.held, sale: self.sale + more.sale }
    }

    fn pile(&mut self, pile: Pile) -> &mut i64 {
        match pile {
            Pile::Available => &mut self.count,
            Pile::Held => &mut self.held,
            Pile::Sold => &mut self.sale,
        }
    }
}

/// Settings of an item with its name in the batch's text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpecRow {
    pub(crate) name: Text,
    /// The settings; the name in them is empty.
    pub(crate) spec: ItemSpec<'static>,
}

/// How far the batch gets in the import of an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Import {
    /// More of its orders follow: its numbers are not complete yet.
    Open,
    /// The import ends in the batch; what the batch did to the item up to then.
    Whole(Piles),
}

/// What a batch does to an item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ItemChange {
    pub(crate) item: ItemId,
    /// The last fact in the batch that concerns it.
    pub(crate) lsn: Lsn,
    /// Its first fact is in the batch.
    pub(crate) created: bool,
    /// `None` = the batch holds nothing of its import.
    pub(crate) import: Option<Import>,
    pub(crate) spec: Option<SpecRow>,
    pub(crate) delta: Piles,
    /// Sum of the adjustments by which the engine answered changes made outside.
    pub(crate) answered: Option<i64>,
    /// The engine answered with a pause.
    pub(crate) answered_by_pause: bool,
    pub(crate) resumed: bool,
    pub(crate) paused: Option<bool>,
    pub(crate) closed: Option<bool>,
    pub(crate) ended: Option<bool>,
}

/// A buyer put on the blocklist or taken off it: the last change in the batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockedRow {
    pub(crate) buyer: Text,
    pub(crate) blocked: bool,
    pub(crate) at_ms: UnixMillis,
    pub(crate) actor: Text,
    pub(crate) lsn: Lsn,
}

/// A payment or refund that is not in the order's row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PaymentLine {
    pub(crate) order: OrderId,
    pub(crate) lsn: Lsn,
    pub(crate) kind: MoneyKind,
    pub(crate) at_ms: UnixMillis,
    pub(crate) units: u32,
    pub(crate) payment_ref: Text,
    pub(crate) refund_ref: Text,
}

#[derive(Clone, Copy)]
enum Place {
    New(u32),
    Moved(u32),
}

/// Facts after `from`, up to and with `to`, as rows.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) from: Lsn,
    pub(crate) to: Lsn,
    /// The hash of the log's block that holds `to`; set when the batch is full.
    pub(crate) chain: ChainHash,
    pub(crate) facts: usize,
    /// Orders placed in this batch, in the state that they reached in it.
    pub(crate) new: Vec<OrderRow>,
    /// Imported orders, as they came; in the database that they came from, the rows exist.
    pub(crate) imported: Vec<OrderRow>,
    /// Orders from before the batch, or imported in it, that moved in it.
    pub(crate) moved: Vec<OrderRow>,
    /// Late payments and refunds, in the order of their facts.
    pub(crate) payments: Vec<PaymentLine>,
    pub(crate) items: Vec<ItemChange>,
    pub(crate) blocked: Vec<BlockedRow>,
    text: Vec<u8>,
    /// The late payments of the order that was restored last, by hash.
    late_of_last: Vec<(u64, Text)>,
    /// Built at the first move only: a batch of new orders alone needs no table.
    places: HashMap<OrderId, Place>,
    placed: usize,
    item_places: HashMap<ItemId, u32>,
    last_item: Option<(ItemId, u32)>,
    blocked_places: HashMap<Vec<u8>, u32>,
}

impl Batch {
    /// Empties it, keeping its memory, for the facts after `from`.
    pub(crate) fn reset(&mut self, from: Lsn) {
        (self.from, self.to, self.facts, self.placed) = (from, from, 0, 0);
        self.new.clear();
        self.imported.clear();
        self.moved.clear();
        self.payments.clear();
        self.items.clear();
        self.blocked.clear();
        self.text.clear();
        self.places.clear();
        self.item_places.clear();
        self.last_item = None;
        self.blocked_places.clear();
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.facts == 0 && self.items.is_empty()
    }

    /// Makes the batch check the item's stock row, even if no fact concerns it.
    pub(crate) fn touch(&mut self, item: ItemId) {
        let known = self.item_places.get(&item).map(|place| self.items[*place as usize].lsn);
        self.item(known.unwrap_or(self.to), item);
    }

    /// A piece of text of this batch.
    pub(crate) fn str(&self, text: Text) -> &str {
        std::str::from_utf8(self.bytes(text)).expect("the batch holds escaped text only")
    }

    /// The same as bytes, for COPY.
    pub(crate) fn bytes(&self, text: Text) -> &[u8] {
        &self.text[text.at as usize..(text.at + text.len) as usize]
    }

    /// Folds the next fact in.
    pub(crate) fn add(&mut self, lsn: Lsn, fact: &Fact<'_>) {
        self.to = lsn;
        self.facts += 1;
        match *fact {
            Fact::ItemCreated { item, ref spec, granted, actor, .. } => {
                let granted = i64::try_from(granted).expect("STOCK_MAX fits a signed column");
                self.add_item(lsn, item, spec, granted, actor);
            }
            Fact::ItemChanged { at_ms, item, ref spec, .. } => self.change_item(lsn, at_ms, item, spec),
            Fact::StockAdjusted { item, delta, actor, .. } => self.adjust(lsn, item, delta, actor),
            Fact::ItemSwitched { item, switch, actor, .. } => self.switch(lsn, item, switch, actor),
            Fact::OrderPlaced { at_ms, order, quantity, state, pay_by_ms, subject, key, price } => {
                let (buyer, key) = (self.push_text(subject), self.push_text(key));
                let row = OrderRow::new(order, lsn, at_ms, quantity, state);
                self.new.push(OrderRow { pay_by_ms, buyer, key, price, ..row });
                self.item(lsn, order.item()).delta.shift(Pile::Available, state.pile(), quantity);
            }
            Fact::OrderMoved { at_ms, order, quantity, from, to, payment_ref, .. } => {
                let row = self.move_order(lsn, at_ms, order, (quantity, to, UnixMillis(0)), payment_ref);
                if matches!(to, OrderState::Cancelled | OrderState::Expired) {
                    row.ended_at_ms = at_ms;
                }
                self.item(lsn, order.item()).delta.shift(from.pile(), to.pile(), quantity);
            }
            Fact::OrderRefunded { at_ms, order, quantity, units, refunded, refund_ref, .. } => {
                let to = if refunded == quantity { OrderState::Refunded } else { OrderState::Paid };
                let refund_ref = self.push_text(refund_ref);
                let row = self.move_order(lsn, at_ms, order, (quantity, to, UnixMillis(0)), &[]);
                row.refunded = refunded.get();
                tell(&mut row.refund_ref, refund_ref);
                let (kind, units_back, payment_ref) = (MoneyKind::Refund, units.get(), Text::default());
                self.note_payment(order, (kind, lsn, at_ms), units_back, (payment_ref, refund_ref));
                self.item(lsn, order.item()).delta.shift(Pile::Sold, Pile::Available, units);
            }
            Fact::HoldExtended { at_ms, order, quantity, state, pay_by_ms, .. } => {
                self.move_order(lsn, at_ms, order, (quantity, state, pay_by_ms), &[]);
            }
            Fact::EntryDrawn { at_ms, order, quantity, to, pay_by_ms } => {
                self.move_order(lsn, at_ms, order, (quantity, to, pay_by_ms), &[]);
                self.item(lsn, order.item()).delta.shift(Pile::Available, to.pile(), quantity);
            }
            Fact::BuyerBlocked { at_ms, subject, blocked, actor } => {
                self.block(lsn, at_ms, subject, blocked, actor);
            }
            Fact::OrderImported {
                order,
                quantity,
                state,
                created_at_ms,
                pay_by_ms,
                subject,
                key,
                payment_ref,
                money,
                ..
            } => {
                let row = OrderRow {
                    pay_by_ms,
                    buyer: self.push_text(subject),
                    key: self.push_text(key),
                    payment_ref: self.push_text(payment_ref),
                    refund_ref: self.push_text(money.refund_ref),
                    refunded: money.refunded,
                    price: money.price,
                    ..OrderRow::new(order, lsn, created_at_ms, quantity, state)
                };
                self.imported.push(row);
                let change = self.item(lsn, order.item());
                // Its refunded units are available.
                change.delta.shift_units(Pile::Available, state.pile(), quantity.get() - money.refunded);
                change.import = Some(Import::Open);
            }
            // A payment that came too late changes no order.
            Fact::PaymentLate { at_ms, order, payment_ref, .. } => {
                let payment_ref = self.push_text(payment_ref);
                let kind = MoneyKind::LatePayment;
                self.note_payment(order, (kind, lsn, at_ms), 0, (payment_ref, Text::default()));
            }
            Fact::LatePaymentReturned { at_ms, order, payment_ref, refund_ref, .. } => {
                let references = (self.push_text(payment_ref), self.push_text(refund_ref));
                self.note_payment(order, (MoneyKind::LateReturned, lsn, at_ms), 0, references);
            }
            Fact::DrawHeld { .. } | Fact::ClockMark { .. } => {}
        }
    }

    /// Adds an order out of a snapshot, before its payments ([`Batch::restore_money`]). A snapshot does
    /// not say when the order changed last; it was `by_ms` at the latest.
    pub(crate) fn restore(&mut self, record: &OrderRecord<'_>, key: &[u8], by_ms: UnixMillis) {
        let moved = record.state_lsn != record.lsn;
        let OrderRecord { order, quantity, state, created_at_ms, state_lsn, .. } = *record;
        let row = OrderRow {
            updated_at_ms: if moved { by_ms } else { created_at_ms },
            pay_by_ms: record.pay_by_ms,
            buyer: self.push_text(record.subject),
            key: self.push_text(key),
            refunded: record.refunded,
            price: record.price,
            ..OrderRow::new(order, state_lsn, created_at_ms, quantity, state)
        };
        self.new.push(row);
        self.late_of_last.clear();
    }

    /// Adds a payment or a refund of the order that was added last.
    pub(crate) fn restore_money(&mut self, money: &MoneyRow<'_>) {
        let (reference, none) = (self.push_text(money.reference), Text::default());
        let Some(row) = self.new.last_mut().filter(|row| row.id == money.order) else { return };
        let references = match money.kind {
            MoneyKind::Payment => {
                tell(&mut row.payment_ref, reference);
                return;
            }
            MoneyKind::Refund => {
                tell(&mut row.refund_ref, reference);
                (none, reference)
            }
            MoneyKind::LatePayment => {
                self.late_of_last.push((money.reference_hash, reference));
                (reference, none)
            }
            MoneyKind::LateReturned => {
                let late = self.late_of_last.iter().find(|(hash, _)| *hash == money.reference_hash);
                (late.map_or(none, |(_, text)| *text), reference)
            }
            MoneyKind::Ended => {
                row.ended_at_ms = money.at_ms;
                return;
            }
            MoneyKind::Extension => return,
        };
        // Money that came with an imported order has no time: it is no fact of this log.
        if money.at_ms.0 != 0 {
            self.note_payment(money.order, (money.kind, money.lsn, money.at_ms), money.units, references);
        }
    }

    fn note_payment(
        &mut self,
        order: OrderId,
        (kind, lsn, at_ms): (MoneyKind, Lsn, UnixMillis),
        units: u32,
        (payment_ref, refund_ref): (Text, Text),
    ) {
        self.payments.push(PaymentLine { order, lsn, kind, at_ms, units, payment_ref, refund_ref });
    }

    /// The late payments and refunds as rows for a store.
    pub(crate) fn payment_rows(&self) -> Vec<PaymentRow<'_>> {
        let row = |line: &PaymentLine| {
            let PaymentLine { order, lsn, kind, at_ms, units, payment_ref, refund_ref } = *line;
            let (payment_ref, refund_ref) = (self.str(payment_ref), self.str(refund_ref));
            PaymentRow { order, lsn, kind, payment_ref, refund_ref, units, at_ms }
        };
        self.payments.iter().map(row).collect()
    }

    fn push_text(&mut self, bytes: &[u8]) -> Text {
        let at = self.text.len();
        text::escape_into(bytes, &mut self.text);
        Text { at: at as u32, len: (self.text.len() - at) as u32 }
    }

    fn item(&mut self, lsn: Lsn, item: ItemId) -> &mut ItemChange {
        let place = match self.last_item {
            Some((last, place)) if last == item => place,
            _ => {
                let next = self.items.len() as u32;
                let place = *self.item_places.entry(item).or_insert(next);
                if place == next {
                    self.items.push(ItemChange::new(item));
                }
                self.last_item = Some((item, place));
                place
            }
        };
        let change = &mut self.items[place as usize];
        change.lsn = lsn;
        change
    }

    fn spec_row(&mut self, spec: &ItemSpec<'_>) -> SpecRow {
        // A name is UTF-8 without control characters: it needs no escapes.
        let at = self.text.len() as u32;
        self.text.extend_from_slice(spec.name.as_bytes());
        let name = Text { at, len: spec.name.len() as u32 };
        SpecRow { name, spec: ItemSpec { name: "", ..*spec } }
    }

    fn add_item(&mut self, lsn: Lsn, item: ItemId, spec: &ItemSpec<'_>, granted: i64, actor: &str) {
        let spec = self.spec_row(spec);
        let change = self.item(lsn, item);
        change.spec = Some(spec);
        change.created = true;
        change.delta.count += granted;
        if actor == ACTOR_IMPORT {
            change.import = Some(Import::Open);
            change.paused = Some(true);
        } else if actor == ACTOR_POSTGRES {
            change.import = Some(Import::Whole(change.delta));
        }
    }

    fn change_item(&mut self, lsn: Lsn, at_ms: UnixMillis, item: ItemId, spec: &ItemSpec<'_>) {
        let reopened = spec.closes_at_ms > at_ms;
        let spec = self.spec_row(spec);
        let change = self.item(lsn, item);
        change.spec = Some(spec);
        if reopened {
            change.ended = Some(false);
        }
    }

    fn adjust(&mut self, lsn: Lsn, item: ItemId, delta: i64, actor: &str) {
        let change = self.item(lsn, item);
        change.delta.count += delta;
        if actor == ACTOR_POSTGRES {
            *change.answered.get_or_insert(0) += delta;
        }
    }

    fn switch(&mut self, lsn: Lsn, item: ItemId, switch: Switch, actor: &str) {
        let change = self.item(lsn, item);
        if actor == ACTOR_IMPORT {
            // The last fact of an import.
            change.import = Some(Import::Whole(change.delta));
        }
        match switch {
            Switch::Paused => {
                change.paused = Some(true);
                change.answered_by_pause |= actor == ACTOR_POSTGRES;
            }
            Switch::Resumed => {
                change.paused = Some(false);
                change.resumed = true;
            }
            Switch::Closed => change.closed = Some(true),
            Switch::Ended => change.ended = Some(true),
        }
    }

    fn move_order(
        &mut self,
        lsn: Lsn,
        at_ms: UnixMillis,
        order: OrderId,
        (quantity, to, pay_by_ms): (Quantity, OrderState, UnixMillis),
        payment_ref: &[u8],
    ) -> &mut OrderRow {
        let payment_ref = self.push_text(payment_ref);
        let row = match self.place(order) {
            Some(Place::New(at)) => &mut self.new[at as usize],
            Some(Place::Moved(at)) => &mut self.moved[at as usize],
            None => {
                let at = self.moved.len();
                self.places.insert(order, Place::Moved(at as u32));
                let row = OrderRow::new(order, lsn, at_ms, quantity, to);
                self.moved.push(OrderRow { pay_by_ms, payment_ref, ..row });
                return &mut self.moved[at];
            }
        };
        (row.state, row.lsn, row.updated_at_ms) = (to, lsn, at_ms);
        if pay_by_ms.0 != 0 {
            row.pay_by_ms = pay_by_ms;
        }
        tell(&mut row.payment_ref, payment_ref);
        row
    }

    fn place(&mut self, order: OrderId) -> Option<Place> {
        for (at, row) in self.new.iter().enumerate().skip(self.placed) {
            self.places.insert(row.id, Place::New(at as u32));
        }
        self.placed = self.new.len();
        self.places.get(&order).copied()
    }

    fn block(&mut self, lsn: Lsn, at_ms: UnixMillis, subject: &[u8], blocked: bool, actor: &str) {
        let buyer = self.push_text(subject);
        let actor = self.push_text(actor.as_bytes());
        let row = BlockedRow { buyer, blocked, at_ms, actor, lsn };
        let next = self.blocked.len() as u32;
        let place = *self.blocked_places.entry(subject.to_vec()).or_insert(next);
        if place == next {
            self.blocked.push(row);
        } else {
            self.blocked[place as usize] = row;
        }
    }
}

impl OrderRow {
    /// A row that has no buyer, deadline, texts or money yet.
    fn new(id: OrderId, lsn: Lsn, at_ms: UnixMillis, quantity: Quantity, state: OrderState) -> Self {
        Self {
            id,
            lsn,
            created_at_ms: at_ms,
            updated_at_ms: at_ms,
            pay_by_ms: UnixMillis(0),
            quantity: quantity.get(),
            state,
            buyer: Text::default(),
            key: Text::default(),
            payment_ref: Text::default(),
            refund_ref: Text::default(),
            refunded: 0,
            ended_at_ms: UnixMillis(0),
            price: Price::UNKNOWN,
        }
    }
}

impl Reference for Text {
    fn is_given(self) -> bool {
        self.len > 0
    }
}

impl Text {
    /// `None` for the empty text, which stands for "none".
    pub(crate) fn some(self) -> Option<Self> {
        (self.len > 0).then_some(self)
    }
}

impl ItemChange {
    /// A change that changes nothing yet.
    pub(crate) const fn new(item: ItemId) -> Self {
        Self {
            item,
            lsn: Lsn::ZERO,
            created: false,
            import: None,
            spec: None,
            delta: Piles { count: 0, held: 0, sale: 0 },
            answered: None,
            answered_by_pause: false,
            resumed: false,
            paused: None,
            closed: None,
            ended: None,
        }
    }
}
