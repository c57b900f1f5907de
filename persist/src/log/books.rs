//! Keeps the books of a sale from its facts alone: a second, independent computation of the
//! engine's state, slow and simple.
//!
//! It knows orders, piles and draws, nothing of time, buyers or caps. Each fact either fits
//! or is refused with a reason. Next: [`super::verify`], which feeds it.

use std::collections::{BTreeMap, HashMap};

use stampede_core::draw::{DrawEntry, DrawSeed, Drawn};
use stampede_core::fact::Fact;
use stampede_core::item::{ItemSpec, OrderState, Pile};
use stampede_core::limits::STOCK_MAX;
use stampede_core::state_row::StateRow;
use stampede_core::types::{ItemId, OrderId, Quantity, UnixMillis};

/// Where the units of an item are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ItemTotals {
    /// Units granted so far, withdrawals taken off.
    pub granted: u64,
    /// Units that can be bought.
    pub available: u64,
    /// Units reserved for unpaid orders.
    pub held: u64,
    /// Units sold.
    pub sold: u64,
    /// Orders ever placed or imported.
    pub orders: u64,
    /// The highest sequence number of its orders.
    pub last_seq: u32,
}

/// The draw of an item, as its facts say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DrawRecord {
    /// The opening: entries are taken from then on.
    pub opens_at_ms: UnixMillis,
    /// How long entries are taken; 0 = the draw was cancelled before the opening.
    pub draw_ms: u32,
    /// Its seed.
    pub seed: DrawSeed,
    /// Its inputs, once it was held.
    pub drawn: Option<Drawn>,
    /// Entries that are not drawn.
    pub waiting: u32,
    /// Units won so far.
    pub units_won: u64,
    /// Entries that were drawn, by number.
    pub entries: Vec<DrawEntry>,
}

/// An order: its state and units, and whether it was drawn.
type OrderEntry = (OrderState, Quantity, bool);

/// The books.
#[derive(Debug, Default)]
pub struct Books {
    items: BTreeMap<ItemId, ItemTotals>,
    orders: HashMap<OrderId, OrderEntry>,
    /// Units given back, of orders that have some.
    refunded: HashMap<OrderId, u32>,
    /// Without their entries, which are among the orders.
    draws: BTreeMap<ItemId, DrawRecord>,
}

type Entry = Result<(), String>;

impl Books {
    /// The totals of each item.
    pub fn items(&self) -> &BTreeMap<ItemId, ItemTotals> {
        &self.items
    }
    /// The totals of each item and its draw, without the books.
    pub fn into_totals(mut self) -> (BTreeMap<ItemId, ItemTotals>, BTreeMap<ItemId, DrawRecord>) {
        for (order, (state, quantity, drawn)) in self.orders {
            if let Some(draw) = self.draws.get_mut(&order.item()).filter(|_| drawn) {
                draw.entries.push(DrawEntry { order, quantity, won: state != OrderState::Lost });
            }
        }
        self.draws.values_mut().for_each(|draw| draw.entries.sort_unstable_by_key(|entry| entry.order));
        (self.items, self.draws)
    }

    /// Loads a row of a snapshot.
    ///
    /// # Errors
    /// Why it does not fit.
    pub fn row(&mut self, row: &StateRow<'_>) -> Result<(), String> {
        match *row {
            StateRow::Item { item, granted, last_seq, ref spec, draw, .. } => {
                self.create(item, granted)?;
                self.totals(item)?.last_seq = last_seq;
                if let Some(draw) = draw {
                    self.plan(item, spec, draw.seed)?;
                    self.draw(item)?.drawn = draw.drawn;
                }
                Ok(())
            }
            StateRow::Order { order, quantity, state, drawn, refunded, .. } => {
                self.enter(order, (state, quantity, drawn), refunded)?;
                if drawn { self.win(order, quantity, state) } else { Ok(()) }
            }
            StateRow::Money(_) | StateRow::Call(_) | StateRow::Blocked { .. } | StateRow::Audit(_) => Ok(()),
        }
    }

    /// Enters a fact.
    ///
    /// # Errors
    /// Why it contradicts those before it.
    pub fn fact(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::ItemCreated { item, granted, ref spec, seed, .. } => {
                self.create(item, granted)?;
                self.plan(item, spec, seed)
            }
            Fact::StockAdjusted { item, delta, .. } => self.adjust(item, delta),
            Fact::ItemChanged { item, ref spec, seed, .. } => {
                self.totals(item)?;
                self.plan(item, spec, seed)
            }
            Fact::ItemSwitched { item, .. } => self.totals(item).map(|_| ()),
            Fact::OrderPlaced { order, quantity, state, .. } => {
                let last = self.totals(order.item())?.last_seq;
                if order.seq() != last.saturating_add(1) {
                    return Err(format!("order {order} has sequence number {} after {last}", order.seq()));
                }
                self.enter(order, (state, quantity, false), 0)
            }
            Fact::OrderImported { order, quantity, state, money, .. } => {
                self.enter(order, (state, quantity, false), money.refunded)
            }
            Fact::OrderRefunded { order, quantity, units, refunded, .. } => {
                self.refund(order, quantity, (units.get(), refunded.get()))
            }
            Fact::PaymentLate { order, .. }
            | Fact::LatePaymentReturned { order, .. }
            | Fact::HoldExtended { order, .. } => {
                let known = self.orders.contains_key(&order);
                if known { Ok(()) } else { Err(format!("order {order} was never placed")) }
            }
            Fact::OrderMoved { order, quantity, from, to, .. } => self.shift(order, quantity, from, to),
            Fact::DrawHeld { at_ms, item, entries, units, seed } => {
                self.hold(at_ms, item, (entries, units, seed))
            }
            Fact::EntryDrawn { order, quantity, to, .. } => {
                self.shift(order, quantity, OrderState::Entered, to)?;
                if let Some(entry) = self.orders.get_mut(&order) {
                    entry.2 = true;
                }
                self.win(order, quantity, to)
            }
            Fact::BuyerBlocked { .. } | Fact::ClockMark { .. } => Ok(()),
        }
    }

    fn totals(&mut self, item: ItemId) -> Result<&mut ItemTotals, String> {
        self.items.get_mut(&item).ok_or_else(|| format!("item {item} was never created"))
    }

    fn create(&mut self, item: ItemId, granted: u64) -> Entry {
        let totals = ItemTotals { granted, available: granted, ..ItemTotals::default() };
        match self.items.insert(item, totals) {
            None => Ok(()),
            Some(_) => Err(format!("item {item} was created twice")),
        }
    }

    fn adjust(&mut self, item: ItemId, delta: i64) -> Entry {
        let totals = self.totals(item)?;
        let short = || format!("item {item} has {} available and cannot change by {delta}", totals.available);
        let available = totals.available.checked_add_signed(delta).ok_or_else(short)?;
        let granted = totals.granted.checked_add_signed(delta).filter(|units| *units <= STOCK_MAX);
        totals.granted =
            granted.ok_or_else(|| format!("item {item} would be granted more than {STOCK_MAX}"))?;
        totals.available = available;
        self.conserved(item)
    }

    /// Puts a new order on the pile of its state.
    fn enter(&mut self, order: OrderId, entry: OrderEntry, refunded: u32) -> Entry {
        let (state, quantity, _) = entry;
        if self.orders.insert(order, entry).is_some() {
            return Err(format!("order {order} was placed twice"));
        }
        let totals = self.totals(order.item())?;
        totals.orders += 1;
        totals.last_seq = totals.last_seq.max(order.seq());
        self.wait(order.item(), state, 1);
        if refunded > 0 {
            self.refunded.insert(order, refunded);
        }
        self.carry(order, quantity.get().saturating_sub(refunded), Pile::Available, state.pile())
    }

    fn refund(&mut self, order: OrderId, quantity: Quantity, (units, refunded): (u32, u32)) -> Entry {
        let before = self.refunded.get(&order).copied().unwrap_or(0);
        if before + units != refunded || refunded > quantity.get() {
            return Err(format!(
                "order {order} has {before} units refunded; {units} more do not make {refunded}"
            ));
        }
        if refunded == quantity.get() {
            self.shift(order, quantity, OrderState::Paid, OrderState::Refunded)?;
        } else {
            let known = self.orders.get(&order).ok_or_else(|| format!("order {order} was never placed"))?;
            if (known.0, known.1) != (OrderState::Paid, quantity) {
                return Err(format!("order {order} is {} and is refunded in part", known.0.name()));
            }
            self.carry(order, units, Pile::Sold, Pile::Available)?;
        }
        self.refunded.insert(order, refunded);
        Ok(())
    }

    fn shift(&mut self, order: OrderId, quantity: Quantity, from: OrderState, to: OrderState) -> Entry {
        let known = self.orders.get_mut(&order).ok_or_else(|| format!("order {order} was never placed"))?;
        if (known.0, known.1) != (from, quantity) {
            let (state, units) = (known.0.name(), known.1.get());
            let (said, moved) = (from.name(), quantity.get());
            return Err(format!("order {order} is {state} with {units} units, not {said} with {moved}"));
        }
        known.0 = to;
        self.wait(order.item(), from, -1);
        let refunded = self.refunded.get(&order).copied().unwrap_or(0);
        self.carry(order, quantity.get() - refunded, from.pile(), to.pile())
    }

    // ---- draws ----

    fn plan(&mut self, item: ItemId, spec: &ItemSpec<'_>, seed: DrawSeed) -> Entry {
        if seed.is_none() {
            return Ok(());
        }
        let waits =
            |(order, entry): (&OrderId, &OrderEntry)| order.item() == item && entry.0 == OrderState::Entered;
        let known = self.draws.contains_key(&item);
        let waiting = if known { 0 } else { self.orders.iter().filter(|entry| waits(*entry)).count() as u32 };
        let fresh = DrawRecord {
            opens_at_ms: spec.opens_at_ms,
            draw_ms: spec.draw_ms,
            seed,
            drawn: None,
            waiting,
            units_won: 0,
            entries: Vec::new(),
        };
        let draw = self.draws.entry(item).or_insert(fresh);
        (draw.opens_at_ms, draw.draw_ms) = (spec.opens_at_ms, spec.draw_ms);
        if draw.seed == seed { Ok(()) } else { Err(format!("the seed of item {item} was replaced")) }
    }

    fn draw(&mut self, item: ItemId) -> Result<&mut DrawRecord, String> {
        self.draws.get_mut(&item).ok_or_else(|| format!("item {item} has no draw"))
    }

    /// Counts the waiting entries; an item with imported entries alone has no draw.
    fn wait(&mut self, item: ItemId, state: OrderState, more: i32) {
        if let Some(draw) = self.draws.get_mut(&item).filter(|_| state == OrderState::Entered) {
            draw.waiting = draw.waiting.saturating_add_signed(more);
        }
    }

    fn hold(&mut self, at_ms: UnixMillis, item: ItemId, said: (u32, u64, DrawSeed)) -> Entry {
        let ItemTotals { available, last_seq, .. } = *self.totals(item)?;
        let (entries, units, seed) = said;
        let draw = self.draw(item)?;
        if draw.drawn.is_some() {
            return Err(format!("the draw of item {item} was held twice"));
        }
        if seed != draw.seed {
            return Err(format!("the draw of item {item} was held with another seed"));
        }
        if entries != draw.waiting || (units != available && units != 0) {
            let waiting = draw.waiting;
            return Err(format!(
                "the draw of item {item} was held for {entries} entries and {units} units; there were \
                 {waiting} and {available}"
            ));
        }
        draw.drawn = Some(Drawn { at_ms, units, entries, last_seq });
        Ok(())
    }

    fn win(&mut self, order: OrderId, quantity: Quantity, state: OrderState) -> Entry {
        let draw = self.draw(order.item())?;
        let units = draw.drawn.ok_or_else(|| format!("order {order} was drawn before the draw"))?.units;
        if state != OrderState::Lost {
            draw.units_won += u64::from(quantity.get());
        }
        if draw.units_won <= units {
            Ok(())
        } else {
            Err(format!("order {order} won although not enough units were left"))
        }
    }

    /// Moves units of an order from one pile to another.
    fn carry(&mut self, order: OrderId, units: u32, from: Pile, to: Pile) -> Entry {
        let item = order.item();
        let units = u64::from(units);
        let totals = self.totals(item)?;
        if from != to {
            let source = pile(totals, from);
            *source = source.checked_sub(units).ok_or_else(|| {
                format!("order {order} takes {units} units of item {item}, but fewer are left: oversold")
            })?;
            *pile(totals, to) += units;
        }
        self.conserved(item)
    }

    fn conserved(&mut self, item: ItemId) -> Entry {
        let t = *self.totals(item)?;
        let sum = t.available + t.held + t.sold;
        if t.granted == sum {
            return Ok(());
        }
        let ItemTotals { granted, available, held, sold, .. } = t;
        Err(format!("item {item}: granted {granted} != available {available} + held {held} + sold {sold}"))
    }
}

fn pile(totals: &mut ItemTotals, pile: Pile) -> &mut u64 {
    match pile {
        Pile::Available => &mut totals.available,
        Pile::Held => &mut totals.held,
        Pile::Sold => &mut totals.sold,
    }
}
