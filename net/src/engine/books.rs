//! An item's totals as its owner has them, for `stampede reconcile`: units, a digest of a range of its
//! orders, and those orders themselves where asked for.
//!
//! The owner reads all of it in one step, so it is the state after exactly the facts up to
//! `as_of`; the range bounds the step. Next: [`crate::reconcile`], which compares it.

use stampede_core::record::{OrderRecord, RecordDigest};
use stampede_core::shard::Shard;
use stampede_core::types::{HashSecret, ItemId, Lsn};
use stampede_persist::export::text;

use crate::http::json_out::Object;
use crate::http::limits::BOOKS_ORDERS_MAX;

/// A page of an item's totals and orders.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BooksReply {
    /// Of which item.
    pub item: ItemId,
    /// Includes every fact of the item up to this one, and none after it.
    pub as_of: Lsn,
    /// Units granted, available, held, sold.
    pub piles: [u64; 4],
    /// The sequence number of its last order.
    pub last_seq: u32,
    /// The range of sequence numbers: above the first, up to and including the second.
    pub range: (u32, u32),
    /// A digest of the orders in the range.
    pub digest: RecordDigest,
    /// Each of them as JSON, where asked for.
    rows: Option<Vec<u8>>,
}

impl BooksReply {
    /// Reads them; `None` if there is no such item.
    pub fn read(shard: &Shard, item: ItemId, range: (u32, u32), with_rows: bool) -> Option<Self> {
        let (after, limit) = range;
        let page = shard.books_page(item, after, limit.min(u32::from(BOOKS_ORDERS_MAX)))?;
        let view = &page.item;
        let rows = with_rows.then(|| {
            let mut json = vec![b'['];
            for (at, record) in shard.records(item, after, page.to).enumerate() {
                if at > 0 {
                    json.push(b',');
                }
                crate::http::json_out::object(&mut json, |object| fill_record(object, &record));
            }
            json.push(b']');
            json
        });
        Some(Self {
            item,
            as_of: page.as_of,
            piles: [view.granted, view.available, view.held, view.sold],
            last_seq: page.last_seq,
            range: (after, page.to),
            digest: page.digest,
            rows,
        })
    }

    /// Fills the object of the answer.
    pub fn fill(&self, object: &mut Object<'_>) {
        let [granted, available, held, sold] = self.piles;
        object.number("item_id", self.item.get()).number("as_of_lsn", self.as_of.0);
        object.number("granted", granted).number("available", available);
        object.number("held", held).number("sold", sold);
        object.number("last_seq", self.last_seq).number("after", self.range.0).number("to", self.range.1);
        object.number("orders", self.digest.orders).text("digest", &format!("{:016x}", self.digest.sum));
        if let Some(rows) = &self.rows {
            object.raw("rows", rows);
        }
    }
}

/// A number by which an engine and a data directory recognise that they belong together; it tells nothing else.
pub fn mark(secret: &HashSecret) -> u64 {
    secret.reference(b"stampede reconcile")
}

fn fill_record(object: &mut Object<'_>, record: &OrderRecord<'_>) {
    object.quoted("order_id", record.order.get()).number("quantity", record.quantity.get());
    object.text("state", record.state.name()).text("buyer", &text::escape(record.subject));
    object.number("created_at_ms", record.created_at_ms.0).number("pay_by_ms", record.pay_by_ms.0);
    object.number("lsn", record.lsn.0).number("state_lsn", record.state_lsn.0);
    object.text("key_hash", &format!("{:016x}", record.key_hash));
    object.text("payment_ref_hash", &format!("{:016x}", record.payment_ref_hash));
    object.text("refund_ref_hash", &format!("{:016x}", record.refund_ref_hash));
    object.number("refunded", record.refunded);
    object.text("price", &format!("{} {}", record.price.minor, record.price.currency()));
}
