//! Rows of orders in the binary format of COPY, and as arrays for the smaller statements.
//!
//! The layout is that of Postgres's own documentation ("COPY, Binary Format"): a header,
//! per row a 16-bit count of fields, per field a 32-bit length and the value in network
//! order, a trailer. Written straight into one buffer, nothing is allocated per row.

use stampede_core::types::UnixMillis;

use super::super::param::Param;
use super::super::store::{Order, Orders};

/// Pieces of SQL about rows of `stock_order`, as literals for `concat!`.
macro_rules! orders_sql {
    // The columns, in the order in which `copy_row` writes them.
    (columns) => {
        "(id, sid, name, buyer, quantity, state, create_time, pay_by, update_time, payment_ref, idem_key, lsn, \
         price_minor, currency, refund_ref, refunded, end_time)"
    };
    // The parameters of `OrderArrays::params`, as a table `w`.
    (rows) => {
        "unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::bigint[], \
             $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::text[], \
             $15::text[], $16::integer[], $17::bigint[]) \
         AS w(id, sid, name, buyer, quantity, state, created_at_ms, pay_by_ms, updated_at_ms, payment_ref, idem_key, \
             lsn, price_minor, currency, refund_ref, refunded, ended_at_ms)"
    };
    // Inserts rows of such a table, which follows.
    (insert_from) => {
        concat!(
            "INSERT INTO stock_order AS o ",
            orders_sql!(columns),
            " SELECT w.id, w.sid, w.name, w.buyer, w.quantity, w.state, to_timestamp(w.created_at_ms / 1000.0), \
                 to_timestamp(w.pay_by_ms / 1000.0), to_timestamp(w.updated_at_ms / 1000.0), w.payment_ref, \
                 w.idem_key, w.lsn, w.price_minor, w.currency, w.refund_ref, w.refunded, \
                 to_timestamp(w.ended_at_ms / 1000.0) \
             FROM "
        )
    };
    // When the row `o` was created, in Unix milliseconds; NULL if that is infinite.
    (created_ms) => {
        "CASE WHEN isfinite(o.create_time) THEN (extract(epoch FROM o.create_time) * 1000)::bigint END"
    };
}
pub(super) use orders_sql;

pub(super) const COPY_SQL: &str =
    concat!("COPY stock_order ", orders_sql!(columns), " FROM STDIN (FORMAT binary)");

/// The beginning of a COPY: signature, flags, no extension.
pub(super) const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The end of a COPY.
pub(super) const COPY_TRAILER: &[u8] = b"\xff\xff";

const COLUMNS: i16 = 17;
/// Postgres counts from 2000-01-01, in microseconds.
const EPOCH_2000_MS: i64 = 946_684_800_000;

/// Appends one row.
pub(super) fn copy_row(buffer: &mut Vec<u8>, order: &Order<'_>) {
    buffer.extend_from_slice(&COLUMNS.to_be_bytes());
    put_i64(buffer, order.id.get().cast_signed());
    put_i64(buffer, i64::from(order.id.item().get()));
    put_bytes(buffer, order.name.map(str::as_bytes));
    put_bytes(buffer, Some(order.buyer));
    put_i32(buffer, order.quantity.cast_signed());
    put_bytes(buffer, Some(order.state.name().as_bytes()));
    put_i64(buffer, micros(order.created_at_ms));
    match order.pay_by_ms {
        None => put_bytes(buffer, None),
        Some(at) => put_i64(buffer, micros(at)),
    }
    put_i64(buffer, micros(order.updated_at_ms));
    put_bytes(buffer, order.payment_ref);
    put_bytes(buffer, order.key);
    put_i64(buffer, order.lsn.0.cast_signed());
    match order.price {
        None => {
            put_bytes(buffer, None);
            put_bytes(buffer, None);
        }
        Some(price) => {
            put_i64(buffer, price.minor.cast_signed());
            put_bytes(buffer, Some(&price.currency));
        }
    }
    put_bytes(buffer, order.refund_ref);
    put_i32(buffer, order.refunded.cast_signed());
    match order.ended_at_ms {
        None => put_bytes(buffer, None),
        Some(at) => put_i64(buffer, micros(at)),
    }
}

fn micros(at: UnixMillis) -> i64 {
    (at.0.cast_signed() - EPOCH_2000_MS) * 1_000
}

fn put_i64(buffer: &mut Vec<u8>, value: i64) {
    buffer.extend_from_slice(&[0, 0, 0, 8]);
    buffer.extend_from_slice(&value.to_be_bytes());
}

fn put_i32(buffer: &mut Vec<u8>, value: i32) {
    buffer.extend_from_slice(&[0, 0, 0, 4]);
    buffer.extend_from_slice(&value.to_be_bytes());
}

fn put_bytes(buffer: &mut Vec<u8>, value: Option<&[u8]>) {
    let Some(value) = value else {
        return buffer.extend_from_slice(&(-1i32).to_be_bytes());
    };
    let len = i32::try_from(value.len()).expect("texts of a row are far below 2 GiB");
    buffer.extend_from_slice(&len.to_be_bytes());
    buffer.extend_from_slice(value);
}

/// Rows as one array per column. Times go as Unix milliseconds; SQL makes timestamps of them.
#[derive(Default)]
pub(super) struct OrderArrays<'a> {
    pub(super) id: Vec<i64>,
    pub(super) sid: Vec<i64>,
    pub(super) name: Vec<Option<&'a str>>,
    pub(super) buyer: Vec<&'a str>,
    pub(super) quantity: Vec<i32>,
    pub(super) state: Vec<&'static str>,
    pub(super) created_at_ms: Vec<i64>,
    pub(super) pay_by_ms: Vec<Option<i64>>,
    pub(super) updated_at_ms: Vec<i64>,
    pub(super) payment_ref: Vec<Option<&'a str>>,
    pub(super) key: Vec<Option<&'a str>>,
    pub(super) lsn: Vec<i64>,
    pub(super) price_minor: Vec<Option<i64>>,
    pub(super) currency: Vec<Option<String>>,
    pub(super) refund_ref: Vec<Option<&'a str>>,
    pub(super) refunded: Vec<i32>,
    pub(super) ended_at_ms: Vec<Option<i64>>,
}

impl<'a> OrderArrays<'a> {
    /// All columns, in the order of `orders_sql!(rows)`.
    pub(super) fn params(&self) -> [&dyn Param; COLUMNS as usize] {
        [
            &self.id,
            &self.sid,
            &self.name,
            &self.buyer,
            &self.quantity,
            &self.state,
            &self.created_at_ms,
            &self.pay_by_ms,
            &self.updated_at_ms,
            &self.payment_ref,
            &self.key,
            &self.lsn,
            &self.price_minor,
            &self.currency,
            &self.refund_ref,
            &self.refunded,
            &self.ended_at_ms,
        ]
    }

    pub(super) fn of(orders: Orders<'a>) -> Self {
        let mut arrays = Self::default();
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).expect("a batch holds escaped text only");
        for order in orders {
            arrays.id.push(order.id.get().cast_signed());
            arrays.sid.push(i64::from(order.id.item().get()));
            arrays.name.push(order.name);
            arrays.buyer.push(text(order.buyer));
            arrays.quantity.push(order.quantity.cast_signed());
            arrays.state.push(order.state.name());
            arrays.created_at_ms.push(order.created_at_ms.0.cast_signed());
            arrays.pay_by_ms.push(order.pay_by_ms.map(|at| at.0.cast_signed()));
            arrays.updated_at_ms.push(order.updated_at_ms.0.cast_signed());
            arrays.payment_ref.push(order.payment_ref.map(text));
            arrays.key.push(order.key.map(text));
            arrays.lsn.push(order.lsn.0.cast_signed());
            arrays.price_minor.push(order.price.map(|price| price.minor.cast_signed()));
            arrays.currency.push(order.price.map(|price| price.currency().to_owned()));
            arrays.refund_ref.push(order.refund_ref.map(text));
            arrays.refunded.push(order.refunded.cast_signed());
            arrays.ended_at_ms.push(order.ended_at_ms.map(|at| at.0.cast_signed()));
        }
        arrays
    }
}
