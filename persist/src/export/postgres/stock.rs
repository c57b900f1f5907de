//! Books and stock rows: the statements, with their arrays and rows. `settle.rs` decides
//! what to do with the results.

use stampede_core::item::ItemSpec;
use stampede_core::types::ItemId;
use tokio_postgres::Row;

use super::super::error::ExportError;
use super::super::link::Link;
use super::super::store::{Ledger, Piles, StockRow, Swept};
use crate::export::numbers::item_of;

/// Locks the rows that can be locked, updates those that are as they were left, enters the books.
pub(super) const SETTLE: &str = "
WITH want AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[],
        $7::boolean[], $8::boolean[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])
        AS w(id, count, held, sale, outside, paused, closed, ended, row_version, row_count, row_held, row_sale)
), free AS (
    SELECT s.id FROM stock s JOIN want w ON s.id = w.id FOR NO KEY UPDATE OF s SKIP LOCKED
), done AS (
    UPDATE stock s SET count = w.count + w.outside, held = w.held, sale = w.sale, version = s.version + 1,
        paused = w.paused, closed = w.closed, ended = w.ended, name = l.name, price_minor = l.price_minor,
        currency = l.currency, opens_at_ms = l.opens_at_ms, closes_at_ms = l.closes_at_ms, cap = l.cap,
        payment = l.payment, hold_ms = l.hold_ms, ticket = l.ticket, challenge = l.challenge,
        min_level = l.min_level, min_account_age_s = l.min_account_age_s, admit_per_s = l.admit_per_s,
        update_time = now()
    FROM want w JOIN free f ON f.id = w.id JOIN stampede_item l ON l.id = w.id
    WHERE s.id = w.id AND s.version = w.row_version AND s.count = w.row_count AND s.held = w.row_held
        AND s.sale = w.row_sale
    RETURNING s.id, s.version
)
UPDATE stampede_item l SET count = w.count, held = w.held, sale = w.sale, outside = w.outside, paused = w.paused,
    closed = w.closed, ended = w.ended,
    row_version = coalesce(d.version, w.row_version),
    row_count = CASE WHEN d.id IS NULL THEN w.row_count ELSE w.count + w.outside END,
    row_held = CASE WHEN d.id IS NULL THEN w.row_held ELSE w.held END,
    row_sale = CASE WHEN d.id IS NULL THEN w.row_sale ELSE w.sale END
FROM want w LEFT JOIN done d ON d.id = w.id WHERE l.id = w.id RETURNING l.id, d.version";

/// Enters the books and does not touch the stock rows.
pub(super) const BOOKS: &str = "
UPDATE stampede_item l SET count = w.count, held = w.held, sale = w.sale, outside = w.outside, paused = w.paused,
    closed = w.closed, ended = w.ended, row_version = w.row_version, row_count = w.row_count, row_held = w.row_held,
    row_sale = w.row_sale
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[], $7::boolean[],
    $8::boolean[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])
    AS w(id, count, held, sale, outside, paused, closed, ended, row_version, row_count, row_held, row_sale)
WHERE l.id = w.id RETURNING l.id, NULL::bigint";

/// Writes missing rows from the books, and enters them as left.
const PUT: &str = "
WITH made AS (
    INSERT INTO stock (id, name, count, held, sale, version, price_minor, currency, opens_at_ms, closes_at_ms, cap,
        payment, hold_ms, ticket, challenge, min_level, min_account_age_s, admit_per_s, paused, closed, ended)
    SELECT id, name, count + outside, held, sale, coalesce(row_version, 0) + 1, price_minor, currency, opens_at_ms,
        closes_at_ms, cap, payment, hold_ms, ticket, challenge, min_level, min_account_age_s, admit_per_s, paused,
        closed, ended
    FROM stampede_item WHERE id = ANY($1) ON CONFLICT (id) DO NOTHING RETURNING id, version
)
UPDATE stampede_item l SET row_version = m.version, row_count = l.count + l.outside, row_held = l.held,
    row_sale = l.sale
FROM made m WHERE l.id = m.id RETURNING l.id, m.version";

/// Leaves out rows that another session has locked.
pub(super) const READ_AND_LOCK: &str =
    "SELECT id, version, count, held, sale FROM stock WHERE id = ANY($1) FOR NO KEY UPDATE SKIP LOCKED";
pub(super) const READ: &str = "SELECT id, version, count, held, sale FROM stock WHERE id = ANY($1)";

const LOAD: &str = "SELECT id, name, count, held, sale, outside, paused, closed, ended, row_version, row_count, \
     row_held, row_sale FROM stampede_item WHERE id = ANY($1)";

/// Lost books start again with the numbers of the stock row.
const RECOVER: &str = "
INSERT INTO stampede_item (id, name, count, held, sale, price_minor, currency, opens_at_ms, closes_at_ms, cap, payment,
    hold_ms, ticket, challenge, min_level, min_account_age_s, admit_per_s, paused, closed, ended, row_version,
    row_count, row_held, row_sale)
SELECT id, name, count, held, sale, price_minor, currency, opens_at_ms, closes_at_ms, cap, payment, hold_ms, ticket,
    challenge, min_level, min_account_age_s, admit_per_s, paused, closed, ended, version, count, held, sale
FROM stock WHERE id = ANY($1) ON CONFLICT (id) DO NOTHING";

const SPECS: &str = "
INSERT INTO stampede_item AS l (id, name, count, held, sale, price_minor, currency, opens_at_ms, closes_at_ms, cap,
    payment, hold_ms, ticket, challenge, min_level, min_account_age_s, admit_per_s)
SELECT w.id, w.name, 0, 0, 0, w.price_minor, w.currency, w.opens_at_ms, w.closes_at_ms, w.cap, w.payment, w.hold_ms,
    w.ticket, w.challenge, w.min_level, w.min_account_age_s, w.admit_per_s
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::integer[],
    $8::text[], $9::bigint[], $10::text[], $11::text[], $12::integer[], $13::bigint[], $14::bigint[])
    AS w(id, name, price_minor, currency, opens_at_ms, closes_at_ms, cap, payment, hold_ms, ticket, challenge,
        min_level, min_account_age_s, admit_per_s)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, price_minor = excluded.price_minor,
    currency = excluded.currency, opens_at_ms = excluded.opens_at_ms, closes_at_ms = excluded.closes_at_ms,
    cap = excluded.cap, payment = excluded.payment, hold_ms = excluded.hold_ms, ticket = excluded.ticket,
    challenge = excluded.challenge, min_level = excluded.min_level,
    min_account_age_s = excluded.min_account_age_s, admit_per_s = excluded.admit_per_s";

const SWEEP: &str = "
SELECT * FROM (
    SELECT l.id, (s.version, s.count, s.held, s.sale)
            IS DISTINCT FROM (l.row_version, l.row_count, l.row_held, l.row_sale)
        OR (l.row_count, l.row_held, l.row_sale) IS DISTINCT FROM (l.count + l.outside, l.held, l.sale) AS dirty,
        l.outside, coalesce(l.row_version, 0) AS row_version, l.pause_reason
    FROM stampede_item l LEFT JOIN stock s ON s.id = l.id
) AS found
WHERE dirty OR outside <> 0 OR pause_reason IS NOT NULL ORDER BY dirty DESC, id LIMIT $1";

pub(super) async fn load_books(
    link: &mut Link,
    items: &[ItemId],
) -> Result<Vec<(ItemId, Ledger)>, ExportError> {
    let rows = link.query(LOAD, &[&numbers(items)]).await?;
    Ok(rows.iter().filter_map(|row| Some((item_of(row.get(0))?, read_ledger(row)))).collect())
}

pub(super) async fn recover_books(link: &mut Link, items: &[ItemId]) -> Result<(), ExportError> {
    link.execute(RECOVER, &[&numbers(items)]).await.map(drop)
}

pub(super) async fn look(
    link: &mut Link,
    sql: &'static str,
    items: &[ItemId],
) -> Result<Vec<(ItemId, StockRow)>, ExportError> {
    let rows = link.query(sql, &[&numbers(items)]).await?;
    Ok(rows.iter().filter_map(|row| Some((item_of(row.get(0))?, read_stock_row(row, 1)?))).collect())
}

pub(super) async fn put_specs(link: &mut Link, specs: &[(ItemId, ItemSpec<'_>)]) -> Result<(), ExportError> {
    let big = |value: u64| value.cast_signed();
    let id: Vec<i64> = specs.iter().map(|(item, _)| number(item)).collect();
    let name: Vec<&str> = specs.iter().map(|(_, row)| row.name).collect();
    let price: Vec<i64> = specs.iter().map(|(_, row)| big(row.price_minor)).collect();
    let currency: Vec<&str> =
        specs.iter().map(|(_, row)| std::str::from_utf8(&row.currency).unwrap_or("XXX")).collect();
    let opens: Vec<i64> = specs.iter().map(|(_, row)| big(row.opens_at_ms.0)).collect();
    let closes: Vec<i64> = specs.iter().map(|(_, row)| big(row.closes_at_ms.0)).collect();
    let cap: Vec<i32> = specs.iter().map(|(_, row)| row.cap.cast_signed()).collect();
    let payment: Vec<&str> = specs.iter().map(|(_, row)| row.payment.name()).collect();
    let hold: Vec<i64> = specs.iter().map(|(_, row)| big(row.hold_ms)).collect();
    let ticket: Vec<&str> = specs.iter().map(|(_, row)| row.ticket.name()).collect();
    let challenge: Vec<&str> = specs.iter().map(|(_, row)| row.challenge.name()).collect();
    let level: Vec<i32> = specs.iter().map(|(_, row)| i32::from(row.min_level)).collect();
    let age: Vec<i64> = specs.iter().map(|(_, row)| i64::from(row.min_account_age_s)).collect();
    let admit: Vec<i64> = specs.iter().map(|(_, row)| i64::from(row.admit_per_s)).collect();
    link.execute(
        SPECS,
        &[
            &id, &name, &price, &currency, &opens, &closes, &cap, &payment, &hold, &ticket, &challenge,
            &level, &age, &admit,
        ],
    )
    .await?;
    Ok(())
}

/// Runs [`SETTLE`] or [`BOOKS`].
pub(super) async fn write_books(
    link: &mut Link,
    sql: &'static str,
    books: &[(ItemId, &Ledger)],
) -> Result<Vec<(ItemId, Option<i64>)>, ExportError> {
    let column =
        |of: fn(&Ledger) -> i64| -> Vec<i64> { books.iter().map(|(_, ledger)| of(ledger)).collect() };
    let flag =
        |of: fn(&Ledger) -> bool| -> Vec<bool> { books.iter().map(|(_, ledger)| of(ledger)).collect() };
    let row = |of: fn(StockRow) -> i64| -> Vec<Option<i64>> {
        books.iter().map(|(_, ledger)| ledger.row.map(of)).collect()
    };
    let id: Vec<i64> = books.iter().map(|(item, _)| number(item)).collect();
    let (count, held, sale) = (column(|l| l.facts.count), column(|l| l.facts.held), column(|l| l.facts.sale));
    let outside = column(|l| l.outside);
    let (paused, closed, ended) = (flag(|l| l.paused), flag(|l| l.closed), flag(|l| l.ended));
    let (version, row_count) = (row(|r| r.version), row(|r| r.piles.count));
    let (row_held, row_sale) = (row(|r| r.piles.held), row(|r| r.piles.sale));
    let rows = link
        .query(
            sql,
            &[
                &id, &count, &held, &sale, &outside, &paused, &closed, &ended, &version, &row_count,
                &row_held, &row_sale,
            ],
        )
        .await?;
    Ok(rows.iter().filter_map(|row| Some((item_of(row.get(0))?, row.get(1)))).collect())
}

pub(super) async fn make_stock_rows(
    link: &mut Link,
    items: &[ItemId],
) -> Result<Vec<(ItemId, i64)>, ExportError> {
    let rows = link.query(PUT, &[&numbers(items)]).await?;
    Ok(rows.iter().filter_map(|row| Some((item_of(row.get(0))?, row.get(1)))).collect())
}

pub(super) async fn note_pauses(link: &mut Link, reasons: &[(ItemId, &str)]) -> Result<(), ExportError> {
    const NOTE: &str = "UPDATE stampede_item l SET pause_reason = w.reason \
         FROM unnest($1::bigint[], $2::text[]) AS w(id, reason) WHERE l.id = w.id";
    let ids: Vec<i64> = reasons.iter().map(|(item, _)| number(item)).collect();
    let reasons: Vec<&str> = reasons.iter().map(|(_, reason)| *reason).collect();
    link.execute(NOTE, &[&ids, &reasons]).await.map(drop)
}

pub(super) async fn clear_pauses(link: &mut Link, items: &[ItemId]) -> Result<(), ExportError> {
    const CLEAR: &str = "UPDATE stampede_item SET pause_reason = NULL \
         WHERE id = ANY($1) AND pause_reason IS NOT NULL";
    link.execute(CLEAR, &[&numbers(items)]).await.map(drop)
}

pub(super) async fn sweep(link: &mut Link, items_max: i64) -> Result<Vec<Swept>, ExportError> {
    let rows = link.query(SWEEP, &[&items_max]).await?;
    let swept = rows.iter().filter_map(|row| {
        Some(Swept {
            item: item_of(row.get(0))?,
            dirty: row.get(1),
            outside: row.get(2),
            row_version: row.get(3),
            pause_reason: row.get(4),
        })
    });
    Ok(swept.collect())
}

fn number(item: &ItemId) -> i64 {
    i64::from(item.get())
}

pub(super) fn numbers(items: &[ItemId]) -> Vec<i64> {
    items.iter().map(number).collect()
}

fn read_ledger(row: &Row) -> Ledger {
    Ledger {
        name: row.get(1),
        facts: Piles { count: row.get(2), held: row.get(3), sale: row.get(4) },
        outside: row.get(5),
        paused: row.get(6),
        closed: row.get(7),
        ended: row.get(8),
        row: read_stock_row(row, 9),
    }
}

/// Four columns from `at` on; `None` if they are NULL: there is no row.
fn read_stock_row(row: &Row, at: usize) -> Option<StockRow> {
    let column = |offset: usize| row.get::<_, Option<i64>>(at + offset);
    let piles = Piles { count: column(1)?, held: column(2)?, sale: column(3)? };
    Some(StockRow { version: column(0)?, piles })
}
