//! Keeps the books of a sale from its facts alone: a second, slow opinion beside the
//! engine's own state.
//!
//! It knows orders and piles, nothing of time, buyers or caps. Each fact either fits
//! or is refused with a reason. Next: [`super::verify`], which feeds it.

use std::collections::{BTreeMap, HashMap};

use stampede_core::fact::Fact;
use stampede_core::item::{OrderState, Pile};
use stampede_core::limits::STOCK_MAX;
use stampede_core::state_row::StateRow;
use stampede_core::types::{ItemId, OrderId, Quantity};

/// Where the units of an item are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ItemTotals {
    /// Units granted so far, withdrawals taken off.
    pub granted: u64,
    /// Units that can be bought.
    pub available: u64,
    /// Units set aside for unpaid orders.
    pub held: u64,
    /// Units sold.
    pub sold: u64,
    /// Orders ever placed or imported.
    pub orders: u64,
    /// The highest sequence number of its orders.
    pub last_seq: u32,
}

/// The books.
#[derive(Debug, Default)]
pub struct Books {
    items: BTreeMap<ItemId, ItemTotals>,
    orders: HashMap<OrderId, (OrderState, Quantity)>,
}

type Entry = Result<(), String>;

impl Books {
    /// The totals of each item.
    pub fn items(&self) -> &BTreeMap<ItemId, ItemTotals> {
        &self.items
    }
    /// The totals of each item, without the books.
    pub fn into_items(self) -> BTreeMap<ItemId, ItemTotals> {
        self.items
    }

    /// Takes over a row of a snapshot.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn row(&mut self, row: &StateRow<'_>) -> Result<(), String> {
        match *row {
            StateRow::Item { item, granted, last_seq, .. } => {
                self.create(item, granted)?;
                self.totals(item)?.last_seq = last_seq;
                Ok(())
            }
            StateRow::Order { order, quantity, state, .. } => self.enter(order, quantity, state),
            StateRow::Blocked { .. } | StateRow::Audit(_) => Ok(()),
        }
    }

    /// Enters a fact.
    ///
    /// # Errors
    /// Why it contradicts those before it.
    pub fn fact(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::ItemCreated { item, granted, .. } => self.create(item, granted),
            Fact::StockAdjusted { item, delta, .. } => self.adjust(item, delta),
            Fact::ItemChanged { item, .. } | Fact::ItemSwitched { item, .. } => self.totals(item).map(|_| ()),
            Fact::OrderPlaced { order, quantity, state, .. } => {
                let last = self.totals(order.item())?.last_seq;
                if order.seq() != last.saturating_add(1) {
                    return Err(format!("order {order} has sequence number {} after {last}", order.seq()));
                }
                self.enter(order, quantity, state)
            }
            Fact::OrderImported { order, quantity, state, .. } => self.enter(order, quantity, state),
            Fact::OrderMoved { order, quantity, from, to, .. } => self.shift(order, quantity, from, to),
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
        let short = || format!("item {item} has {} available; {delta} cannot be added", totals.available);
        let available = totals.available.checked_add_signed(delta).ok_or_else(short)?;
        let granted = totals.granted.checked_add_signed(delta).filter(|units| *units <= STOCK_MAX);
        totals.granted =
            granted.ok_or_else(|| format!("item {item} would be granted more than {STOCK_MAX}"))?;
        totals.available = available;
        self.conserved(item)
    }

    /// Puts a new order on the pile of its state.
    fn enter(&mut self, order: OrderId, quantity: Quantity, state: OrderState) -> Entry {
        if self.orders.insert(order, (state, quantity)).is_some() {
            return Err(format!("order {order} was placed twice"));
        }
        let totals = self.totals(order.item())?;
        totals.orders += 1;
        totals.last_seq = totals.last_seq.max(order.seq());
        self.carry(order, quantity, Pile::Available, state.pile())
    }

    fn shift(&mut self, order: OrderId, quantity: Quantity, from: OrderState, to: OrderState) -> Entry {
        let known = self.orders.get_mut(&order).ok_or_else(|| format!("order {order} was never placed"))?;
        if *known != (from, quantity) {
            let (state, units) = (known.0.name(), known.1.get());
            let (said, moved) = (from.name(), quantity.get());
            return Err(format!("order {order} is {state} with {units} units, not {said} with {moved}"));
        }
        known.0 = to;
        self.carry(order, quantity, from.pile(), to.pile())
    }

    /// Carries the units of an order from one pile to another.
    fn carry(&mut self, order: OrderId, quantity: Quantity, from: Pile, to: Pile) -> Entry {
        let item = order.item();
        let units = u64::from(quantity.get());
        let totals = self.totals(item)?;
        if from != to {
            let source = pile(totals, from);
            *source = source.checked_sub(units).ok_or_else(|| {
                format!("order {order} takes {units} units of item {item} where fewer are left: oversold")
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
        Err(format!(
            "item {item}: granted {granted} is not available {available} + held {held} + sold {sold}"
        ))
    }
}

fn pile(totals: &mut ItemTotals, pile: Pile) -> &mut u64 {
    match pile {
        Pile::Available => &mut totals.available,
        Pile::Held => &mut totals.held,
        Pile::Sold => &mut totals.sold,
    }
}
