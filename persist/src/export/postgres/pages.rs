//! What preheating reads, a page at a time; nothing is judged here.

use stampede_core::types::ItemId;
use tokio_postgres::Row;

use super::super::database::Link;
use super::super::error::ExportError;
use super::super::store::{OrderRecord, Piles, StockRecord};
use super::stock::numbers;
use crate::export::reconcile::item_of;

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
     FROM stock WHERE id > $1 ORDER BY id LIMIT $2";

pub(super) async fn stock(
    link: &mut Link,
    after: i64,
    rows_max: i64,
) -> Result<Vec<StockRecord>, ExportError> {
    Ok(link.query(STOCK, &[&after, &rows_max]).await?.iter().map(stock_record).collect())
}

fn stock_record(row: &Row) -> StockRecord {
    StockRecord {
        id: row.get(0),
        name: row.get(1),
        piles: Piles { count: row.get(2), held: row.get(3), sale: row.get(4) },
        price_minor: row.get(5),
        currency: row.get(6),
        opens_at_ms: row.get(7),
        closes_at_ms: row.get(8),
        cap: row.get(9),
        payment: row.get(10),
        hold_ms: row.get(11),
        ticket: row.get(12),
        challenge: row.get(13),
        min_level: row.get(14),
        min_account_age_s: row.get(15),
        admit_per_s: row.get(16),
        paused: row.get(17),
        closed: row.get(18),
        ended: row.get(19),
    }
}

pub(super) async fn items_with_orders(link: &mut Link, items: &[ItemId]) -> Result<Vec<ItemId>, ExportError> {
    const WITH_ORDERS: &str = "SELECT w.id FROM unnest($1::bigint[]) AS w(id) \
         WHERE EXISTS (SELECT FROM stock_order o WHERE o.id > w.id << 32 AND o.id < (w.id + 1) << 32)";
    let rows = link.query(WITH_ORDERS, &[&numbers(items)]).await?;
    Ok(rows.iter().filter_map(|row| item_of(row.get(0))).collect())
}

const ORDERS: &str = "SELECT id, quantity, state, (extract(epoch FROM create_time) * 1000)::bigint, \
     coalesce((extract(epoch FROM pay_by) * 1000)::bigint, 0), buyer, coalesce(idem_key, ''), \
     coalesce(payment_ref, '') FROM stock_order WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3";

pub(super) async fn orders(
    link: &mut Link,
    after: i64,
    before: i64,
    rows_max: i64,
) -> Result<Vec<OrderRecord>, ExportError> {
    let rows = link.query(ORDERS, &[&after, &before, &rows_max]).await?;
    let read = rows.iter().map(|row| OrderRecord {
        id: row.get(0),
        quantity: row.get(1),
        state: row.get(2),
        create_time_ms: row.get(3),
        pay_by_ms: row.get(4),
        buyer: row.get(5),
        idem_key: row.get(6),
        payment_ref: row.get(7),
    });
    Ok(read.collect())
}

pub(super) async fn muddled_items(link: &mut Link) -> Result<Vec<i64>, ExportError> {
    const MUDDLED: &str = "SELECT DISTINCT sid FROM stock_order WHERE id >> 32 <> sid OR id & 4294967295 = 0";
    Ok(link.query(MUDDLED, &[]).await?.iter().map(|row| row.get(0)).collect())
}
