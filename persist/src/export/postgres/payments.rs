//! Rows of `stock_payment`: late payments and refunds, by arrays.

use stampede_core::types::{Lsn, OrderId};

use super::super::error::ExportError;
use super::super::link::Link;
use super::super::numbers::{as_i64, as_u64};
use super::super::param::Params;
use super::super::store::{PaymentRow, PaymentsPut};

/// The columns of the rows, as a table `w`.
macro_rules! with_rows {
    ($sql:literal) => {
        concat!(
            "WITH w AS (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], \
                 $6::text[], $7::integer[], $8::bigint[]) \
                 AS w(order_id, lsn, sid, kind, payment_ref, refund_ref, quantity, at_ms)) ",
            $sql
        )
    };
}

/// An existing row stays as it is: if it is equal, there is nothing to do, else it is somebody else's.
pub(super) async fn put(link: &mut Link, rows: &[PaymentRow<'_>]) -> Result<PaymentsPut, ExportError> {
    const PUT: &str = with_rows!(
        "INSERT INTO stock_payment (order_id, lsn, sid, kind, payment_ref, refund_ref, quantity, create_time) \
         SELECT order_id, lsn, sid, kind, nullif(payment_ref, ''), nullif(refund_ref, ''), quantity, \
             to_timestamp(at_ms / 1000.0) FROM w ON CONFLICT (order_id, lsn) DO NOTHING"
    );
    const LEFT_OUT: &str = with_rows!(
        "SELECT w.order_id, w.lsn, p.lsn IS NOT NULL FROM w LEFT JOIN stock_payment p USING (order_id, lsn) \
         WHERE (p.sid, p.kind, coalesce(p.payment_ref, ''), coalesce(p.refund_ref, ''), p.quantity, \
                 CASE WHEN isfinite(p.create_time) THEN (extract(epoch FROM p.create_time) * 1000)::bigint END) \
             IS DISTINCT FROM (w.sid, w.kind, w.payment_ref, w.refund_ref, w.quantity, w.at_ms) \
         ORDER BY w.order_id, w.lsn"
    );
    let order: Vec<i64> = rows.iter().map(|row| row.order.get().cast_signed()).collect();
    let lsn: Vec<i64> = rows.iter().map(|row| as_i64(row.lsn.0)).collect();
    let sid: Vec<i64> = rows.iter().map(|row| i64::from(row.order.item().get())).collect();
    let kind: Vec<&str> = rows.iter().map(|row| row.kind.name()).collect();
    let payment: Vec<&str> = rows.iter().map(|row| row.payment_ref).collect();
    let refund: Vec<&str> = rows.iter().map(|row| row.refund_ref).collect();
    let quantity: Vec<i32> = rows.iter().map(|row| row.units.cast_signed()).collect();
    let at_ms: Vec<i64> = rows.iter().map(|row| as_i64(row.at_ms.0)).collect();
    let params: Params<'_> = &[&order, &lsn, &sid, &kind, &payment, &refund, &quantity, &at_ms];
    if link.execute(PUT, params).await? == rows.len() as u64 {
        return Ok(PaymentsPut::default());
    }
    let mut put = PaymentsPut::default();
    for row in link.query(LEFT_OUT, params).await? {
        let Some(order) = OrderId::from_u64(as_u64(row.get(0))) else { continue };
        let list = if row.get(2) { &mut put.foreign } else { &mut put.swallowed };
        list.push((order, Lsn(as_u64(row.get(1)))));
    }
    Ok(put)
}
