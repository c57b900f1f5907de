//! Reads all stock rows and orders for `stampede reconcile`, in one snapshot of the database
//! together with the cursor.
//!
//! Reads only, a page at a time, and checks nothing. Next: [`super::preheat`], which reads the
//! same tables for another purpose.

use stampede_core::types::{ItemId, Lsn};
use tokio_postgres::Row;

use super::database::Database;
use super::error::ExportError;
use super::numbers::{as_u64, item_of};
use crate::log::identity::LogId;

/// Rows in one page.
const PAGE_ROWS: i64 = 10_000;

/// The numbers of a stock row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StockNumbers {
    /// Grows by one with each write of the engine.
    pub version: i64,
    /// Units available.
    pub count: i64,
    /// Units reserved.
    pub held: i64,
    /// Units sold.
    pub sale: i64,
}

/// What the database has of an item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StockLook {
    /// Which.
    pub item: ItemId,
    /// Its row in `stock`.
    pub row: Option<StockNumbers>,
    /// The exporter's own books of it.
    pub books: Option<StockBooks>,
}

/// The exporter's own books of an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StockBooks {
    /// What the facts say: count, held, sale.
    pub facts: [i64; 3],
    /// Units that others added to `count` and the engine has not adopted.
    pub outside: i64,
    /// The stock row as the exporter last left it; `None` = never written.
    pub left: Option<StockNumbers>,
}

/// A row of `stock_order`. Texts are as [`super::text`] writes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrderLook<'a> {
    /// Its id.
    pub id: i64,
    /// The item that it names.
    pub sid: i64,
    /// The buyer.
    pub buyer: &'a str,
    /// Units.
    pub quantity: i32,
    /// The state's name.
    pub state: &'a str,
    /// The idempotency key; empty = none.
    pub key: &'a str,
    /// The payment's reference; empty = none.
    pub payment_ref: &'a str,
    /// The last refund's reference; empty = none.
    pub refund_ref: &'a str,
    /// Units given back.
    pub refunded: i32,
    /// What a unit costs; with an empty currency: not known.
    pub price_minor: i64,
    /// The currency of that.
    pub currency: &'a str,
    /// The last fact that the exporter wrote to it; 0 = none.
    pub lsn: i64,
}

/// A row of `stock_payment`. Texts are as [`super::text`] writes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PaymentLook<'a> {
    /// The order's id.
    pub order: i64,
    /// The fact.
    pub lsn: i64,
    /// The item that it names.
    pub sid: i64,
    /// Its kind.
    pub kind: &'a str,
    /// The late payment's reference; empty = none.
    pub payment_ref: &'a str,
    /// The refund's own reference; empty = none.
    pub refund_ref: &'a str,
    /// Units given back.
    pub quantity: i32,
    /// When it was reported, in milliseconds since 1970; -1 = not a finite time.
    pub at_ms: i64,
}

/// A row that Postgres refused and the exporter set aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AsideLook<'a> {
    /// `order`, `order_move`, `payment`, `stock` and so on.
    pub kind: &'a str,
    /// The row, in short; that of an order begins with `id=`, that of a payment with `order_id=` and `lsn=`.
    pub what: &'a str,
}

/// A visitor of all rows. Called in this order: the cursor, rows set aside, stock rows by id, and for each
/// range of orders the orders by id, then their payments by order and LSN.
pub trait Looker {
    /// How far the log was exported (zero = never), and up to where without rows of `stock_payment`.
    /// Returns false to stop: nothing more is visited.
    fn cursor(&mut self, cursor: Lsn, payments_after: Lsn) -> bool;
    /// A row that was set aside.
    fn aside(&mut self, aside: &AsideLook<'_>);
    /// An item that has a stock row or books.
    fn stock(&mut self, stock: &StockLook);
    /// Orders with ids above `after` and below `end` are visited next.
    fn range(&mut self, after: i64, end: i64);
    /// The next order of the range.
    fn order(&mut self, order: &OrderLook<'_>);
    /// All orders of the range were visited.
    fn range_done(&mut self);
    /// The next payment or refund of an order in the range.
    fn payment(&mut self, payment: &PaymentLook<'_>);
    /// All payments of the range were visited.
    fn payments_done(&mut self);
    /// Only if some items are read: an order that names one of them, but has an id of another item
    /// or of none.
    fn astray(&mut self, order: &OrderLook<'_>);
}

/// Reads all items, or only these, ascending. Returns false if the visitor stopped it.
/// Memory: one page of rows.
///
/// # Errors
/// [`ExportError`] says what is wrong and what to do.
pub fn look(
    database: &mut Database,
    log_id: LogId,
    only: Option<&[ItemId]>,
    looker: &mut dyn Looker,
) -> Result<bool, ExportError> {
    database.run(async |link| -> Result<(), ExportError> {
        link.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    })?;
    let looked = Looking { database, looker }.all(log_id, only);
    let ended = database.run(async |link| link.execute_batch("ROLLBACK").await);
    let wanted = looked?;
    ended?;
    Ok(wanted)
}

struct Looking<'a> {
    database: &'a mut Database,
    looker: &'a mut dyn Looker,
}

impl Looking<'_> {
    fn all(&mut self, log_id: LogId, only: Option<&[ItemId]>) -> Result<bool, ExportError> {
        let log_id = log_id.to_string();
        let cursor = self.database.run(async |link| link.query(CURSOR, &[&log_id]).await)?;
        let cursor = cursor.first().map_or((0, 0), |row| (row.get(0), row.get(1)));
        if !self.looker.cursor(Lsn(as_u64(cursor.0)), Lsn(as_u64(cursor.1))) {
            return Ok(false);
        }
        self.asides()?;
        match only {
            None => {
                self.stocks(None)?;
                self.orders(i64::MIN, i64::MAX)?;
            }
            Some(items) => {
                let ids: Vec<i64> = items.iter().map(|item| i64::from(item.get())).collect();
                self.stocks(Some(&ids))?;
                for item in items {
                    let number = i64::from(item.get());
                    self.orders(number << 32, (number + 1).checked_mul(1 << 32).unwrap_or(i64::MAX))?;
                }
                self.astray(&ids)?;
            }
        }
        Ok(true)
    }

    fn asides(&mut self) -> Result<(), ExportError> {
        let mut last = 0_i64;
        loop {
            let page = self.database.run(async |link| link.query(ASIDES, &[&last, &PAGE_ROWS]).await)?;
            let Some(end) = page.last() else { return Ok(()) };
            last = end.get(0);
            for row in &page {
                self.looker.aside(&AsideLook { kind: row.get(1), what: row.get(2) });
            }
        }
    }

    fn stocks(&mut self, only: Option<&[i64]>) -> Result<(), ExportError> {
        let mut last = 0_i64;
        loop {
            let params = (&last, &PAGE_ROWS, &only);
            let page =
                self.database.run(async |link| link.query(STOCKS, &[params.0, params.1, params.2]).await)?;
            let Some(end) = page.last() else { return Ok(()) };
            last = end.get(0);
            for stock in page.iter().filter_map(stock_of) {
                self.looker.stock(&stock);
            }
        }
    }

    /// Orders that name one of these items and have an id that is not one of its own.
    fn astray(&mut self, ids: &[i64]) -> Result<(), ExportError> {
        let page = self.database.run(async |link| link.query(ASTRAY, &[&ids, &PAGE_ROWS]).await)?;
        page.iter().for_each(|row| self.looker.astray(&order_of(row)));
        Ok(())
    }

    /// Orders with ids above `after` and below `end`.
    fn orders(&mut self, first: i64, end: i64) -> Result<(), ExportError> {
        self.looker.range(first, end);
        let mut after = first;
        loop {
            let params = (&after, &end);
            let page = self
                .database
                .run(async |link| link.query(ORDERS, &[params.0, params.1, &PAGE_ROWS]).await)?;
            let Some(last) = page.last() else {
                self.looker.range_done();
                return self.payments(first, end);
            };
            after = last.get(0);
            page.iter().for_each(|row| self.looker.order(&order_of(row)));
        }
    }

    /// Payments of orders with ids above `after` and below `end`.
    fn payments(&mut self, after: i64, end: i64) -> Result<(), ExportError> {
        let mut done = (after, i64::MAX);
        loop {
            let (order, lsn) = done;
            let page = self
                .database
                .run(async |link| link.query(PAYMENTS, &[&order, &lsn, &end, &PAGE_ROWS]).await)?;
            let Some(last) = page.last() else {
                self.looker.payments_done();
                return Ok(());
            };
            done = (last.get(0), last.get(1));
            page.iter().for_each(|row| self.looker.payment(&payment_of(row)));
        }
    }
}

fn order_of(row: &Row) -> OrderLook<'_> {
    // Somebody may have dropped a NOT NULL: NULL becomes an empty value, which no order of ours has.
    let text = |at: usize| row.get::<_, Option<&str>>(at).unwrap_or_default();
    OrderLook {
        id: row.get(0),
        sid: row.get::<_, Option<i64>>(1).unwrap_or_default(),
        buyer: text(2),
        quantity: row.get::<_, Option<i32>>(3).unwrap_or_default(),
        state: text(4),
        key: text(5),
        payment_ref: text(6),
        lsn: row.get::<_, Option<i64>>(7).unwrap_or_default(),
        refund_ref: text(8),
        refunded: row.get::<_, Option<i32>>(9).unwrap_or_default(),
        price_minor: row.get::<_, Option<i64>>(10).unwrap_or_default(),
        currency: text(11),
    }
}

fn payment_of(row: &Row) -> PaymentLook<'_> {
    let text = |at: usize| row.get::<_, Option<&str>>(at).unwrap_or_default();
    PaymentLook {
        order: row.get(0),
        lsn: row.get(1),
        sid: row.get::<_, Option<i64>>(2).unwrap_or_default(),
        kind: text(3),
        payment_ref: text(4),
        refund_ref: text(5),
        quantity: row.get::<_, Option<i32>>(6).unwrap_or_default(),
        at_ms: row.get::<_, Option<i64>>(7).unwrap_or(-1),
    }
}

fn stock_of(row: &Row) -> Option<StockLook> {
    let numbers = |at: usize| {
        let column = |offset: usize| row.get::<_, Option<i64>>(at + offset);
        let (version, count, held, sale) = (column(0)?, column(1)?, column(2)?, column(3)?);
        Some(StockNumbers { version, count, held, sale })
    };
    let facts = |at: usize| {
        let column = |offset: usize| row.get::<_, Option<i64>>(at + offset);
        Some([column(0)?, column(1)?, column(2)?])
    };
    let books = facts(5).map(|facts| StockBooks {
        facts,
        outside: row.get::<_, Option<i64>>(8).unwrap_or(0),
        left: numbers(9),
    });
    Some(StockLook { item: item_of(row.get(0))?, row: numbers(1), books })
}

const CURSOR: &str = "SELECT lsn, payments_after FROM stampede_cursor WHERE log_id = $1";

const ASIDES: &str = "SELECT id, kind, what FROM stampede_set_aside WHERE id > $1 ORDER BY id LIMIT $2";

const STOCKS: &str = "SELECT id, s.version, s.count, s.held, s.sale, l.count, l.held, l.sale, l.outside, \
     l.row_version, l.row_count, l.row_held, l.row_sale \
     FROM stock s FULL JOIN stampede_item l USING (id) \
     WHERE id > $1 AND ($3::bigint[] IS NULL OR id = ANY($3)) ORDER BY id LIMIT $2";

const ASTRAY: &str = "SELECT id, sid, buyer, quantity, state, coalesce(idem_key, ''), coalesce(payment_ref, ''), lsn, \
     coalesce(refund_ref, ''), refunded, price_minor, coalesce(currency, '') \
     FROM stock_order WHERE sid = ANY($1) AND id >> 32 <> sid ORDER BY id LIMIT $2";

const ORDERS: &str = "SELECT id, sid, buyer, quantity, state, coalesce(idem_key, ''), coalesce(payment_ref, ''), lsn, \
     coalesce(refund_ref, ''), refunded, price_minor, coalesce(currency, '') \
     FROM stock_order WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3";

const PAYMENTS: &str = "SELECT order_id, lsn, sid, kind, payment_ref, refund_ref, quantity, \
     CASE WHEN isfinite(create_time) THEN (extract(epoch FROM create_time) * 1000)::bigint END \
     FROM stock_payment WHERE (order_id, lsn) > ($1, $2) AND order_id < $3 ORDER BY order_id, lsn LIMIT $4";
