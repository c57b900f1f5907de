//! An order as reconciliation compares it: the same record out of the engine's memory, the
//! log or Postgres, and a digest over many records.
//!
//! A digest is a sum, so that it does not depend on the order in which records come. It does
//! not protect against records that were forged on purpose. Next: [`crate::shard`], which
//! gives the engine's own.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::command::{ItemView, OrderView};
use crate::item::OrderState;
use crate::money::Price;
use crate::shard::Shard;
use crate::state_row::StateRow;
use crate::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};

/// One order, with everything that its facts say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrderRecord<'a> {
    /// Which.
    pub order: OrderId,
    /// Its units.
    pub quantity: Quantity,
    /// Where it stands.
    pub state: OrderState,
    /// When it was placed.
    pub created_at_ms: UnixMillis,
    /// When it expires unpaid; zero = never.
    pub pay_by_ms: UnixMillis,
    /// The fact that placed it.
    pub lsn: Lsn,
    /// The last fact that changed it.
    pub state_lsn: Lsn,
    /// Keyed hash of its idempotency key; zero = none.
    pub key_hash: u64,
    /// Keyed hash of its payment's reference; zero = none.
    pub payment_ref_hash: u64,
    /// Keyed hash of its last refund's reference; zero = none.
    pub refund_ref_hash: u64,
    /// Units given back.
    pub refunded: u32,
    /// What a unit of it costs.
    pub price: Price,
    /// The buyer.
    pub subject: &'a [u8],
}

impl<'a> OrderRecord<'a> {
    /// The order in a row of a snapshot, without the references, which are rows of their own; `None` =
    /// the row is not an order.
    pub const fn of_row(row: &StateRow<'a>) -> Option<Self> {
        let StateRow::Order {
            order,
            quantity,
            state,
            created_at_ms,
            pay_by_ms,
            lsn,
            state_lsn,
            key_hash,
            payment_ref_hash,
            price,
            refunded,
            subject,
            ..
        } = *row
        else {
            return None;
        };
        Some(Self {
            order,
            quantity,
            state,
            created_at_ms,
            pay_by_ms,
            lsn,
            state_lsn,
            key_hash,
            payment_ref_hash,
            refund_ref_hash: 0,
            refunded,
            price,
            subject,
        })
    }
}

impl OrderRecord<'_> {
    /// Its part of a digest (SipHash-1-3 under a key of zeros).
    pub fn digest(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        let numbers = [
            self.order.get(),
            u64::from(self.quantity.get()) << 8 | u64::from(self.state.code()),
            self.created_at_ms.0,
            self.pay_by_ms.0,
            self.lsn.0,
            self.state_lsn.0,
            self.key_hash,
            self.payment_ref_hash,
            self.refund_ref_hash,
            u64::from(self.refunded),
            self.price.minor,
        ];
        for number in numbers {
            hasher.write_u64(number);
        }
        hasher.write(&self.price.currency);
        hasher.write(self.subject);
        hasher.finish()
    }
}

/// How many records, and the wrapping sum of their digests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecordDigest {
    /// How many.
    pub orders: u64,
    /// Sum of [`OrderRecord::digest`].
    pub sum: u64,
}

impl RecordDigest {
    /// Counts one more record.
    pub fn add(&mut self, record: &OrderRecord<'_>) {
        self.orders += 1;
        self.sum = self.sum.wrapping_add(record.digest());
    }
}

/// An item's totals and a range of its orders, read in one step of its owner.
#[derive(Clone, Copy, Debug)]
pub struct BooksPage<'a> {
    /// The item.
    pub item: ItemView<'a>,
    /// The last fact of the shard: every fact of the item up to it is in here, none after it.
    pub as_of: Lsn,
    /// The sequence number of its last order.
    pub last_seq: u32,
    /// The range ends with this sequence number.
    pub to: u32,
    /// The orders in the range.
    pub digest: RecordDigest,
}

impl Shard {
    /// An item's totals and the digest of its orders with sequence numbers above `after`, at
    /// most `limit` orders. `None` if there is no such item.
    pub fn books_page(&self, item: ItemId, after: u32, limit: u32) -> Option<BooksPage<'_>> {
        let view = self.item(item)?;
        let seqs = self.seqs(item)?;
        let last_seq = view.accepted;
        // All of what is left, or as much as the limit lets through.
        let beyond = seqs.after(after).nth(limit as usize);
        let to = match beyond {
            Some(_) => seqs.after(after).take(limit as usize).last().unwrap_or(after),
            None => last_seq.max(after),
        };
        let mut digest = RecordDigest::default();
        self.records(item, after, to).for_each(|record| digest.add(&record));
        Some(BooksPage { item: view, as_of: self.lsn(), last_seq, to, digest })
    }

    /// An item's orders with sequence numbers above `after`, up to and with `to`.
    pub fn records(&self, item: ItemId, after: u32, to: u32) -> impl Iterator<Item = OrderRecord<'_>> {
        let seqs = self.seqs(item).into_iter().flat_map(move |seqs| seqs.after(after));
        seqs.take_while(move |&seq| seq <= to).filter_map(move |seq| self.record(OrderId::new(item, seq)))
    }

    fn record(&self, order: OrderId) -> Option<OrderRecord<'_>> {
        let (owned, [key_hash, payment_ref_hash, refund_ref_hash]) = self.order_with_hashes(order)?;
        let OrderView { quantity, state, created_at_ms, pay_by_ms, price, refunded, lsn, state_lsn, .. } =
            owned.order;
        let subject = owned.subject;
        Some(OrderRecord {
            order,
            quantity,
            state,
            created_at_ms,
            pay_by_ms,
            lsn,
            state_lsn,
            key_hash,
            payment_ref_hash,
            refund_ref_hash,
            refunded,
            price,
            subject,
        })
    }
}
