//! Orders, the blocklist, and refused rows: binary COPY for many rows, arrays for few.

use std::pin::pin;

use bytes::Bytes;
use futures_util::SinkExt;
use stampede_core::types::OrderId;
use tokio_postgres::Row;

use super::super::error::{ExportError, SWALLOWED};
use super::super::limits::COPY_CHUNK_BYTES;
use super::super::link::Link;
use super::super::numbers::{as_i64, as_u64};
use super::super::param::Params;
use super::super::store::{BlockedBuyer, Inserted, Orders, SetAside, Updated};
use super::rows::{COPY_HEADER, COPY_SQL, COPY_TRAILER, OrderArrays, copy_row, orders_sql};

pub(super) async fn copy(link: &mut Link, orders: Orders<'_>) -> Result<(), ExportError> {
    let lost = |error: tokio_postgres::Error| ExportError::of(&error);
    // The only prepared statement; it is gone at the end of the COPY.
    let mut sink = pin!(link.client().copy_in::<_, Bytes>(COPY_SQL).await.map_err(lost)?);
    let mut buffer = Vec::with_capacity(COPY_CHUNK_BYTES + 1024);
    buffer.extend_from_slice(COPY_HEADER);
    for order in orders {
        copy_row(&mut buffer, &order);
        if buffer.len() >= COPY_CHUNK_BYTES {
            let next = Vec::with_capacity(COPY_CHUNK_BYTES + 1024);
            sink.send(Bytes::from(std::mem::replace(&mut buffer, next))).await.map_err(lost)?;
        }
    }
    buffer.extend_from_slice(COPY_TRAILER);
    sink.send(Bytes::from(buffer)).await.map_err(lost)?;
    let written = sink.as_mut().finish().await.map_err(lost)?;
    all_written(written, orders.len())
}

/// A trigger that returns NULL, a rule or a policy reports no error: only the number of rows shows it.
fn all_written(written: u64, sent: usize) -> Result<(), ExportError> {
    if written == sent as u64 {
        return Ok(());
    }
    Err(ExportError::RowRefused(format!("only {written} of {sent} rows were written; {SWALLOWED}")))
}

pub(super) async fn insert(link: &mut Link, orders: Orders<'_>) -> Result<Inserted, ExportError> {
    // Two rows are the same order if everything is equal that never changes in an order.
    const INSERT: &str = concat!(
        "WITH w AS (SELECT * FROM ",
        orders_sql!(rows),
        "), put AS (",
        orders_sql!(insert_from),
        "w
    ON CONFLICT (id) DO UPDATE SET sid = excluded.sid, name = excluded.name, buyer = excluded.buyer,
        quantity = excluded.quantity, state = excluded.state, create_time = excluded.create_time,
        pay_by = excluded.pay_by, update_time = excluded.update_time, payment_ref = excluded.payment_ref,
        idem_key = excluded.idem_key, lsn = excluded.lsn, price_minor = excluded.price_minor,
        currency = excluded.currency, refund_ref = excluded.refund_ref, refunded = excluded.refunded,
        end_time = excluded.end_time
    WHERE o.lsn <> 0 AND o.sid = excluded.sid AND o.buyer = excluded.buyer AND o.quantity = excluded.quantity
        AND ",
        orders_sql!(created_ms),
        " = (extract(epoch FROM excluded.create_time) * 1000)::bigint
    RETURNING o.id, o.xmax::text <> '0' AS replaced
)
SELECT id, 'replaced' AS outcome FROM put WHERE replaced
UNION ALL SELECT w.id, CASE WHEN EXISTS (SELECT FROM stock_order o WHERE o.id = w.id
        AND (o.lsn <> 0 AND o.sid = w.sid AND o.buyer = w.buyer AND o.quantity = w.quantity AND ",
        orders_sql!(created_ms),
        " = w.created_at_ms) IS NOT TRUE) THEN 'foreign' ELSE 'swallowed' END
    FROM w WHERE NOT EXISTS (SELECT FROM put WHERE put.id = w.id)"
    );
    let arrays = OrderArrays::of(orders);
    let found = link.query(INSERT, &arrays.params()).await?;
    let of = |outcome: &str| order_ids(found.iter().filter(|row| row.get::<_, &str>(1) == outcome));
    Ok(Inserted { replaced: of("replaced"), foreign: of("foreign"), swallowed: of("swallowed") })
}

/// Never replaces a row of another order; a row that is at least as new stays as it is.
pub(super) async fn refill(link: &mut Link, orders: Orders<'_>) -> Result<Vec<OrderId>, ExportError> {
    const REFILL: &str = concat!(
        orders_sql!(insert_from),
        orders_sql!(rows),
        "
ON CONFLICT (id) DO UPDATE SET state = excluded.state, pay_by = excluded.pay_by,
    update_time = greatest(o.update_time, excluded.update_time),
    payment_ref = coalesce(excluded.payment_ref, o.payment_ref), idem_key = coalesce(o.idem_key, excluded.idem_key),
    lsn = excluded.lsn, price_minor = coalesce(o.price_minor, excluded.price_minor),
    currency = coalesce(o.currency, excluded.currency), refund_ref = coalesce(excluded.refund_ref, o.refund_ref),
    refunded = excluded.refunded, end_time = coalesce(excluded.end_time, o.end_time)
WHERE (o.sid, o.buyer, o.quantity) = (excluded.sid, excluded.buyer, excluded.quantity)
    AND o.lsn < excluded.lsn AND (o.lsn > 0 OR o.state <> excluded.state)
    AND ",
        orders_sql!(created_ms),
        " = (extract(epoch FROM excluded.create_time) * 1000)::bigint"
    );
    const FOREIGN: &str = concat!(
        "SELECT w.id FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::integer[], $5::bigint[]) \
             AS w(id, sid, buyer, quantity, created_at_ms) JOIN stock_order o ON o.id = w.id \
         WHERE (o.sid, o.buyer, o.quantity, ",
        orders_sql!(created_ms),
        ") IS DISTINCT FROM (w.sid, w.buyer, w.quantity, w.created_at_ms)"
    );
    let a = OrderArrays::of(orders);
    link.execute(REFILL, &a.params()).await?;
    let there = link.query("SELECT FROM stock_order WHERE id = ANY($1)", &[&a.id]).await?;
    all_written(there.len() as u64, orders.len())?;
    let params: Params<'_> = &[&a.id, &a.sid, &a.buyer, &a.quantity, &a.created_at_ms];
    Ok(order_ids(&link.query(FOREIGN, params).await?))
}

pub(super) async fn update(link: &mut Link, orders: Orders<'_>) -> Result<Updated, ExportError> {
    const UPDATE: &str = "
UPDATE stock_order o SET state = w.state, update_time = to_timestamp(w.updated_at_ms / 1000.0),
    payment_ref = coalesce(w.payment_ref, o.payment_ref), lsn = w.lsn,
    pay_by = coalesce(to_timestamp(w.pay_by_ms / 1000.0), o.pay_by),
    refund_ref = coalesce(w.refund_ref, o.refund_ref), refunded = greatest(o.refunded, w.refunded),
    end_time = coalesce(to_timestamp(w.ended_at_ms / 1000.0), o.end_time)
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::text[], $9::integer[], $10::bigint[])
    AS w(id, state, updated_at_ms, payment_ref, lsn, pay_by_ms, sid, refund_ref, refunded, ended_at_ms)
WHERE o.id = w.id AND o.sid = w.sid AND NOT EXISTS (SELECT FROM stampede_set_aside a WHERE a.order_id = w.id)";
    const LEFT_OUT: &str = "SELECT id, is_there FROM (SELECT w.id, w.lsn, o.lsn AS found, o.id IS NOT NULL \
             AND NOT EXISTS (SELECT FROM stampede_set_aside a WHERE a.order_id = w.id) AS is_there \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS w(id, sid, lsn) \
         LEFT JOIN stock_order o ON o.id = w.id AND o.sid = w.sid) AS looked \
         WHERE NOT is_there OR found <> lsn";
    let a = OrderArrays::of(orders);
    let params: Params<'_> = &[
        &a.id,
        &a.state,
        &a.updated_at_ms,
        &a.payment_ref,
        &a.lsn,
        &a.pay_by_ms,
        &a.sid,
        &a.refund_ref,
        &a.refunded,
        &a.ended_at_ms,
    ];
    if link.execute(UPDATE, params).await? == orders.len() as u64 {
        return Ok(Updated::default());
    }
    let left_out = link.query(LEFT_OUT, &[&a.id, &a.sid, &a.lsn]).await?;
    let of = |there: bool| order_ids(left_out.iter().filter(|row| row.get::<_, bool>(1) == there));
    Ok(Updated { missing: of(false), swallowed: of(true) })
}

fn order_ids<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<OrderId> {
    rows.into_iter().filter_map(|row| OrderId::from_u64(as_u64(row.get(0)))).collect()
}

pub(super) async fn block(link: &mut Link, buyers: &[BlockedBuyer<'_>]) -> Result<(), ExportError> {
    const BLOCK: &str = "INSERT INTO stampede_blocked (buyer, actor, since, lsn) \
         SELECT w.buyer, w.actor, to_timestamp(w.at_ms / 1000.0), w.lsn \
         FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS w(buyer, actor, at_ms, lsn) \
         ON CONFLICT (buyer) DO UPDATE SET actor = excluded.actor, since = excluded.since, lsn = excluded.lsn";
    let buyer: Vec<&str> = buyers.iter().map(|row| row.buyer).collect();
    let actor: Vec<&str> = buyers.iter().map(|row| row.actor).collect();
    let at_ms: Vec<i64> = buyers.iter().map(|row| as_i64(row.since_ms.0)).collect();
    let lsn: Vec<i64> = buyers.iter().map(|row| as_i64(row.lsn.0)).collect();
    all_written(link.execute(BLOCK, &[&buyer, &actor, &at_ms, &lsn]).await?, buyers.len())
}

pub(super) async fn unblock(link: &mut Link, buyers: &[&str]) -> Result<(), ExportError> {
    const LEFT: &str = "SELECT FROM stampede_blocked WHERE buyer = ANY($1)";
    let gone = link.execute("DELETE FROM stampede_blocked WHERE buyer = ANY($1)", &[&buyers]).await?;
    if gone == buyers.len() as u64 || link.query(LEFT, &[&buyers]).await?.is_empty() {
        return Ok(());
    }
    all_written(gone, buyers.len())
}

pub(super) async fn set_aside(link: &mut Link, rows: &[SetAside]) -> Result<(), ExportError> {
    const ASIDE: &str = "INSERT INTO stampede_set_aside (lsn, kind, what, reason, order_id) \
         SELECT w.lsn, w.kind, w.what, w.reason, w.order_id \
         FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[]) \
         AS w(lsn, kind, what, reason, order_id) \
         WHERE w.kind <> 'stock' OR NOT EXISTS (SELECT FROM stampede_set_aside s \
             WHERE s.kind = 'stock' AND s.what = w.what AND s.reason = w.reason)";
    let lsn: Vec<i64> = rows.iter().map(|row| as_i64(row.lsn.0)).collect();
    let kind: Vec<&str> = rows.iter().map(|row| row.kind).collect();
    let what: Vec<&str> = rows.iter().map(|row| row.what.as_str()).collect();
    let reason: Vec<&str> = rows.iter().map(|row| row.reason.as_str()).collect();
    let order: Vec<Option<i64>> = rows.iter().map(|row| row.order.map(|id| id.get().cast_signed())).collect();
    link.execute(ASIDE, &[&lsn, &kind, &what, &reason, &order]).await.map(drop)
}
