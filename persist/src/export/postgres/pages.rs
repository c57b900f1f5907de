//! What preheating reads, a page at a time; nothing is checked here.

use std::cell::Cell;

use stampede_core::types::ItemId;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::super::error::ExportError;
use super::super::link::Link;
use super::super::store::{OrderRecord, Piles, StockRecord};
use super::stock::numbers;
use crate::export::numbers::item_of;

pub(super) async fn blocked(
    link: &mut Link,
    after: &str,
    all: bool,
    buyers_max: i64,
) -> Result<Vec<String>, ExportError> {
    const PAGE: &str = "SELECT buyer FROM stampede_blocked WHERE buyer > $1 AND (lsn = 0 OR $2) \
         ORDER BY buyer LIMIT $3";
    let rows = link.query(PAGE, &[&after, &all, &buyers_max]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

const STOCK: &str = "SELECT id, name, count, held, sale, price_minor, currency, opens_at_ms, closes_at_ms, cap, \
     payment, hold_ms, ticket, challenge, min_level, min_account_age_s, admit_per_s, paused, closed, ended \
     FROM stock WHERE id >= $1 ORDER BY id LIMIT $2";

pub(super) async fn stock(
    link: &mut Link,
    from: i64,
    rows_max: i64,
) -> Result<Vec<StockRecord>, ExportError> {
    Ok(link.query(STOCK, &[&from, &rows_max]).await?.iter().map(stock_record).collect())
}

fn stock_record(row: &Row) -> StockRecord {
    let nulls = &Cell::new(false);
    StockRecord {
        id: row.get(0),
        name: column(row, 1, nulls),
        piles: Piles {
            count: column(row, 2, nulls),
            held: column(row, 3, nulls),
            sale: column(row, 4, nulls),
        },
        price_minor: column(row, 5, nulls),
        currency: column(row, 6, nulls),
        opens_at_ms: column(row, 7, nulls),
        closes_at_ms: column(row, 8, nulls),
        cap: column(row, 9, nulls),
        payment: column(row, 10, nulls),
        hold_ms: column(row, 11, nulls),
        ticket: column(row, 12, nulls),
        challenge: column(row, 13, nulls),
        min_level: column(row, 14, nulls),
        min_account_age_s: column(row, 15, nulls),
        admit_per_s: column(row, 16, nulls),
        paused: column(row, 17, nulls),
        closed: column(row, 18, nulls),
        ended: column(row, 19, nulls),
        has_null: nulls.get(),
    }
}

/// A column that may be NULL if a shop has changed its tables; then `nulls` is set, and the value is empty.
fn column<'r, T: FromSql<'r> + Default>(row: &'r Row, at: usize, nulls: &Cell<bool>) -> T {
    row.get::<_, Option<T>>(at).unwrap_or_else(|| {
        nulls.set(true);
        T::default()
    })
}

pub(super) async fn items_with_orders(link: &mut Link, items: &[ItemId]) -> Result<Vec<ItemId>, ExportError> {
    const WITH_ORDERS: &str = "SELECT w.id FROM unnest($1::bigint[]) AS w(id) \
         WHERE EXISTS (SELECT FROM stock_order o WHERE o.id > w.id << 32 AND o.id <= (w.id << 32 | 4294967295))";
    let rows = link.query(WITH_ORDERS, &[&numbers(items)]).await?;
    Ok(rows.iter().filter_map(|row| item_of(row.get(0))).collect())
}

/// A time may be infinite, for which there is no number of milliseconds: -1.
const ORDERS: &str = "SELECT id, quantity, state, \
     CASE WHEN isfinite(create_time) THEN (extract(epoch FROM create_time) * 1000)::bigint \
         WHEN create_time IS NOT NULL THEN -1 END, \
     CASE WHEN pay_by IS NULL THEN 0 WHEN isfinite(pay_by) THEN (extract(epoch FROM pay_by) * 1000)::bigint \
         ELSE -1 END, \
     buyer, coalesce(idem_key, ''), coalesce(payment_ref, ''), coalesce(price_minor, 0), coalesce(currency, ''), \
     coalesce(refund_ref, ''), coalesce(refunded, 0) \
     FROM stock_order WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3";

pub(super) async fn orders(
    link: &mut Link,
    after: i64,
    last: i64,
    rows_max: i64,
) -> Result<Vec<OrderRecord>, ExportError> {
    let rows = link.query(ORDERS, &[&after, &last, &rows_max]).await?;
    Ok(rows.iter().map(order_record).collect())
}

fn order_record(row: &Row) -> OrderRecord {
    let nulls = &Cell::new(false);
    OrderRecord {
        id: row.get(0),
        quantity: column(row, 1, nulls),
        state: column(row, 2, nulls),
        create_time_ms: column(row, 3, nulls),
        pay_by_ms: column(row, 4, nulls),
        buyer: column(row, 5, nulls),
        idem_key: column(row, 6, nulls),
        payment_ref: column(row, 7, nulls),
        price_minor: column(row, 8, nulls),
        currency: column(row, 9, nulls),
        refund_ref: column(row, 10, nulls),
        refunded: column(row, 11, nulls),
        has_null: nulls.get(),
    }
}

pub(super) async fn mismatched_items(link: &mut Link) -> Result<Vec<(i64, i64)>, ExportError> {
    const MUDDLED: &str = "SELECT item, min(id) FROM ( \
             SELECT id, unnest(ARRAY[sid, id >> 32]) AS item FROM stock_order \
             WHERE sid IS DISTINCT FROM id >> 32 OR id & 4294967295 = 0 \
         ) AS muddled WHERE item IS NOT NULL GROUP BY item ORDER BY item";
    Ok(link.query(MUDDLED, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}
