//! The orders of a batch, as a store writes them: a view, nothing is copied.
//!
//! Next: [`super::batch`] for where they come from, [`super::store`] for where they go.

use stampede_core::item::OrderState;
use stampede_core::money::Price;
use stampede_core::types::{ItemId, Lsn, OrderId, UnixMillis};

use super::batch::{Batch, OrderRow};
use super::ledger::Ledgers;

/// Some of the orders of a batch.
#[derive(Clone, Copy)]
pub struct Orders<'a> {
    batch: &'a Batch,
    rows: &'a [OrderRow],
    ledgers: &'a Ledgers,
}

/// One order. Texts are escaped bytes (see [`super::text`]), valid as UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order<'a> {
    /// Which, and of which item.
    pub id: OrderId,
    /// The name of its item, if there is one.
    pub name: Option<&'a str>,
    /// Empty in an order that is only to be updated.
    pub buyer: &'a [u8],
    /// Units.
    pub quantity: u32,
    /// Its state now.
    pub state: OrderState,
    /// When it was placed; meaningless in an order that is only to be updated.
    pub created_at_ms: UnixMillis,
    /// Its deadline for the payment; `None` = none, or unchanged.
    pub pay_by_ms: Option<UnixMillis>,
    /// When it changed last.
    pub updated_at_ms: UnixMillis,
    /// The payment's reference; `None` = none, or unchanged.
    pub payment_ref: Option<&'a [u8]>,
    /// The last refund's reference; `None` = none, or unchanged.
    pub refund_ref: Option<&'a [u8]>,
    /// Units given back; 0 = none, or unchanged.
    pub refunded: u32,
    /// When it was cancelled or expired; `None` = not, or unchanged.
    pub ended_at_ms: Option<UnixMillis>,
    /// What a unit costs; `None` = not known, or unchanged.
    pub price: Option<Price>,
    /// The idempotency key, if there was one.
    pub key: Option<&'a [u8]>,
    /// The last fact about it.
    pub lsn: Lsn,
}

impl<'a> Orders<'a> {
    pub(super) const fn new(batch: &'a Batch, rows: &'a [OrderRow], ledgers: &'a Ledgers) -> Self {
        Self { batch, rows, ledgers }
    }

    /// How many.
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All of them, in the order of their facts.
    pub const fn iter(&self) -> OrdersIter<'a> {
        OrdersIter { orders: *self, next: 0, last: None }
    }

    /// The two halves, the second first.
    pub(super) const fn halves(&self) -> [Self; 2] {
        let (first, second) = self.rows.split_at(self.rows.len() / 2);
        [Self { rows: second, ..*self }, Self { rows: first, ..*self }]
    }

    /// The rows themselves.
    pub(super) const fn rows(&self) -> &'a [OrderRow] {
        self.rows
    }
}

impl<'a> IntoIterator for Orders<'a> {
    type Item = Order<'a>;
    type IntoIter = OrdersIter<'a>;

    fn into_iter(self) -> OrdersIter<'a> {
        self.iter()
    }
}

/// Goes through [`Orders`].
pub struct OrdersIter<'a> {
    orders: Orders<'a>,
    next: usize,
    /// Names are looked up only where the item changes.
    last: Option<(ItemId, &'a str)>,
}

impl<'a> OrdersIter<'a> {
    fn name_of(&mut self, item: ItemId) -> &'a str {
        match self.last {
            Some((last, name)) if last == item => name,
            _ => {
                let name = self.orders.ledgers.get(&item).map_or("", |ledger| ledger.name.as_str());
                self.last = Some((item, name));
                name
            }
        }
    }
}

impl<'a> Iterator for OrdersIter<'a> {
    type Item = Order<'a>;

    fn next(&mut self) -> Option<Order<'a>> {
        let (batch, row) = (self.orders.batch, self.orders.rows.get(self.next)?);
        self.next += 1;
        let name = self.name_of(row.id.item());
        Some(Order {
            id: row.id,
            name: Some(name).filter(|name| !name.is_empty()),
            buyer: batch.bytes(row.buyer),
            quantity: row.quantity,
            state: row.state,
            created_at_ms: row.created_at_ms,
            pay_by_ms: Some(row.pay_by_ms).filter(|at| at.0 > 0),
            updated_at_ms: row.updated_at_ms,
            payment_ref: row.payment_ref.some().map(|text| batch.bytes(text)),
            refund_ref: row.refund_ref.some().map(|text| batch.bytes(text)),
            refunded: row.refunded,
            ended_at_ms: Some(row.ended_at_ms).filter(|at| at.0 > 0),
            price: row.price.known(),
            key: row.key.some().map(|text| batch.bytes(text)),
            lsn: row.lsn,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.orders.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for OrdersIter<'_> {}
