//! Stock rows: written with a version check, never waiting for somebody else's row lock.
//!
//! One statement does the ordinary case for all items of a batch: it locks the rows that
//! can be locked at once, updates those that are as they were left, and enters the books.
//! What it leaves out is looked at again: changed (adopted), gone (put back), or locked
//! (left for later; the books know what the row is owed). Next: [`super::ledger`].

use std::collections::HashMap;

use stampede_core::types::ItemId;
use tokio_postgres::Row;

use super::batch::{Batch, Created, ItemChange, Piles};
use super::database::Link;
use super::error::ExportError;
use super::ledger::{Found, Ledger, StockRow};

/// Books by item. Right only as of the last commit: after a failure they are read anew.
pub(super) type Ledgers = HashMap<ItemId, Ledger>;

/// What came of settling.
#[derive(Default, Debug)]
pub(super) struct Settled {
    /// Items whose row somebody had changed; with the row's version then.
    pub(super) adopted: Vec<(ItemId, i64)>,
    /// Items of which units were withdrawn that are sold already, and how many.
    pub(super) void: Vec<(ItemId, i64)>,
    /// Items that have to stop, and why.
    pub(super) tampered: Vec<(ItemId, String)>,
    /// Items whose row is left for later.
    pub(super) deferred: Vec<ItemId>,
}

/// Locks what can be locked, updates what is as it was left, enters the books.
const SETTLE: &str = "
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

/// Enters the books and leaves the stock rows alone.
const BOOKS: &str = "
UPDATE stampede_item l SET count = w.count, held = w.held, sale = w.sale, outside = w.outside, paused = w.paused,
    closed = w.closed, ended = w.ended, row_version = w.row_version, row_count = w.row_count, row_held = w.row_held,
    row_sale = w.row_sale
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[], $7::boolean[],
    $8::boolean[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])
    AS w(id, count, held, sale, outside, paused, closed, ended, row_version, row_count, row_held, row_sale)
WHERE l.id = w.id RETURNING l.id, NULL::bigint";

/// Writes rows that are not there from the books, and enters them as left.
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

const LOOK_AND_LOCK: &str =
    "SELECT id, version, count, held, sale FROM stock WHERE id = ANY($1) FOR NO KEY UPDATE SKIP LOCKED";
const LOOK: &str = "SELECT id, version, count, held, sale FROM stock WHERE id = ANY($1)";

const LOAD: &str = "SELECT id, name, count, held, sale, outside, paused, closed, ended, row_version, row_count, \
     row_held, row_sale FROM stampede_item WHERE id = ANY($1)";

/// Books that are lost begin again with what the stock row shows.
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

/// Reads the books of these items that are not in memory yet.
pub(super) async fn load(
    link: &mut Link,
    ledgers: &mut Ledgers,
    items: &[ItemId],
) -> Result<(), ExportError> {
    let missing: Vec<i64> = items.iter().filter(|item| !ledgers.contains_key(item)).map(number).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for row in link.query(LOAD, &[&missing]).await? {
        if let Some(item) = item_of(row.get(0)) {
            ledgers.insert(item, read_ledger(&row));
        }
    }
    Ok(())
}

/// Makes books for the items that a batch creates and enters what it does to all of them.
/// Items that have neither books nor a stock row are left out.
pub(super) async fn enter(
    link: &mut Link,
    ledgers: &mut Ledgers,
    batch: &Batch,
    settled: &mut Settled,
) -> Result<(), ExportError> {
    write_specs(link, batch).await?;
    let items: Vec<ItemId> = batch.items.iter().map(|change| change.item).collect();
    load(link, ledgers, &items).await?;
    preheat(link, ledgers, batch, settled).await?;
    recover(link, ledgers, batch, settled).await?;
    for change in &batch.items {
        if let Some(ledger) = ledgers.get_mut(&change.item) {
            if change.created == Some(Created::New) {
                *ledger = Ledger::new(String::new());
            }
            if let Some(spec) = change.spec {
                batch.str(spec.name).clone_into(&mut ledger.name);
            }
            ledger.apply(change);
        }
    }
    Ok(())
}

/// Items that came from Postgres begin with what their row shows.
async fn preheat(
    link: &mut Link,
    ledgers: &mut Ledgers,
    batch: &Batch,
    settled: &mut Settled,
) -> Result<(), ExportError> {
    let granted = |change: &ItemChange| match change.created {
        Some(Created::FromPostgres(granted)) => Some((change.item, granted)),
        _ => None,
    };
    let came: Vec<(ItemId, i64)> = batch.items.iter().filter_map(granted).collect();
    if came.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = came.iter().map(|(item, _)| number(item)).collect();
    let rows = stock_rows(&link.query(LOOK, &[&numbers]).await?);
    for (item, granted) in came {
        let ledger = match rows.get(&item) {
            Some(row) => Ledger::preheated(String::new(), granted, *row),
            None => {
                settled.tampered.push((item, GONE.to_owned()));
                let mut ledger = Ledger::new(String::new());
                ledger.facts.count = granted;
                ledger
            }
        };
        ledgers.insert(item, ledger);
    }
    Ok(())
}

/// Somebody emptied the books: they begin again with the stock row, and the item stops.
async fn recover(
    link: &mut Link,
    ledgers: &mut Ledgers,
    batch: &Batch,
    settled: &mut Settled,
) -> Result<(), ExportError> {
    let lost: Vec<ItemId> =
        batch.items.iter().map(|change| change.item).filter(|item| !ledgers.contains_key(item)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = lost.iter().map(number).collect();
    link.execute(RECOVER, &[&numbers]).await?;
    load(link, ledgers, &lost).await?;
    for item in lost {
        settled.tampered.push((item, "its row in stampede_item is gone; the books begin again".to_owned()));
    }
    Ok(())
}

async fn write_specs(link: &mut Link, batch: &Batch) -> Result<(), ExportError> {
    let specs: Vec<_> =
        batch.items.iter().filter_map(|change| change.spec.map(|spec| (change.item, spec))).collect();
    if specs.is_empty() {
        return Ok(());
    }
    let big = |value: u64| value.cast_signed();
    let id: Vec<i64> = specs.iter().map(|(item, _)| number(item)).collect();
    let name: Vec<&str> = specs.iter().map(|(_, row)| batch.str(row.name)).collect();
    let price: Vec<i64> = specs.iter().map(|(_, row)| big(row.spec.price_minor)).collect();
    let currency: Vec<&str> =
        specs.iter().map(|(_, row)| std::str::from_utf8(&row.spec.currency).unwrap_or("XXX")).collect();
    let opens: Vec<i64> = specs.iter().map(|(_, row)| big(row.spec.opens_at_ms.0)).collect();
    let closes: Vec<i64> = specs.iter().map(|(_, row)| big(row.spec.closes_at_ms.0)).collect();
    let cap: Vec<i32> = specs.iter().map(|(_, row)| row.spec.cap.cast_signed()).collect();
    let payment: Vec<&str> = specs.iter().map(|(_, row)| row.spec.payment.name()).collect();
    let hold: Vec<i64> = specs.iter().map(|(_, row)| big(row.spec.hold_ms)).collect();
    let ticket: Vec<&str> = specs.iter().map(|(_, row)| row.spec.ticket.name()).collect();
    let challenge: Vec<&str> = specs.iter().map(|(_, row)| row.spec.challenge.name()).collect();
    let level: Vec<i32> = specs.iter().map(|(_, row)| i32::from(row.spec.min_level)).collect();
    let age: Vec<i64> = specs.iter().map(|(_, row)| i64::from(row.spec.min_account_age_s)).collect();
    let admit: Vec<i64> = specs.iter().map(|(_, row)| i64::from(row.spec.admit_per_s)).collect();
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

const GONE: &str = "it was deleted by somebody else; it is put back with the engine's numbers, the item is paused: \
     check it, then resume it";

/// Brings the stock rows of these items to what the books say; with `touch_stock` off,
/// enters the books alone.
pub(super) async fn settle(
    link: &mut Link,
    ledgers: &mut Ledgers,
    items: &[ItemId],
    touch_stock: bool,
    settled: &mut Settled,
) -> Result<(), ExportError> {
    if !touch_stock {
        write_books(link, ledgers, items, BOOKS).await?;
        settled.deferred.extend_from_slice(items);
        return Ok(());
    }
    let missed = write_books(link, ledgers, items, SETTLE).await?;
    if missed.is_empty() {
        return Ok(());
    }
    let met = meet(link, ledgers, &missed, settled).await?;
    // The rows that were met are locked by us now: a second pass finds them as entered.
    let still = write_books(link, ledgers, &met, SETTLE).await?;
    settled.deferred.extend(still);
    Ok(())
}

/// Writes the books and, where possible, the rows; returns the items whose row was left out.
async fn write_books(
    link: &mut Link,
    ledgers: &mut Ledgers,
    items: &[ItemId],
    sql: &'static str,
) -> Result<Vec<ItemId>, ExportError> {
    let known: Vec<(ItemId, &Ledger)> =
        items.iter().filter_map(|item| ledgers.get(item).map(|ledger| (*item, ledger))).collect();
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let column =
        |of: fn(&Ledger) -> i64| -> Vec<i64> { known.iter().map(|(_, ledger)| of(ledger)).collect() };
    let flag =
        |of: fn(&Ledger) -> bool| -> Vec<bool> { known.iter().map(|(_, ledger)| of(ledger)).collect() };
    let row = |of: fn(StockRow) -> i64| -> Vec<Option<i64>> {
        known.iter().map(|(_, ledger)| ledger.row.map(of)).collect()
    };
    let id: Vec<i64> = known.iter().map(|(item, _)| number(item)).collect();
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
    Ok(note_rows(ledgers, &rows))
}

/// Enters the versions of rows that were written; returns the items of those that were not.
fn note_rows(ledgers: &mut Ledgers, rows: &[Row]) -> Vec<ItemId> {
    let mut missed = Vec::new();
    for row in rows {
        let Some(item) = item_of(row.get(0)) else { continue };
        match (row.get::<_, Option<i64>>(1), ledgers.get_mut(&item)) {
            (Some(version), Some(ledger)) => ledger.row = Some(StockRow { version, piles: ledger.wanted() }),
            _ => missed.push(item),
        }
    }
    missed
}

/// Looks at rows that were left out: adopts what was changed, puts back what is gone.
/// Returns the items to be written once more.
async fn meet(
    link: &mut Link,
    ledgers: &mut Ledgers,
    missed: &[ItemId],
    settled: &mut Settled,
) -> Result<Vec<ItemId>, ExportError> {
    let numbers: Vec<i64> = missed.iter().map(number).collect();
    let free = stock_rows(&link.query(LOOK_AND_LOCK, &[&numbers]).await?);
    let there = stock_rows(&link.query(LOOK, &[&numbers]).await?);
    let (mut met, mut gone) = (Vec::new(), Vec::new());
    for item in missed {
        let Some(ledger) = ledgers.get_mut(item) else { continue };
        match (free.get(item), there.contains_key(item)) {
            (Some(row), _) if ledger.row == Some(*row) => met.push(*item),
            (Some(row), _) => {
                let found = ledger.meet(*row);
                settled.adopted.push((*item, row.version));
                match found {
                    Found::Adopted => {}
                    Found::Void(units) => settled.void.push((*item, units)),
                    Found::Tampered(reason) => settled.tampered.push((*item, reason)),
                }
                met.push(*item);
            }
            (None, true) => settled.deferred.push(*item),
            (None, false) => {
                if ledger.row.is_some() {
                    settled.tampered.push((*item, GONE.to_owned()));
                }
                gone.push(*item);
            }
        }
    }
    put_back(link, ledgers, &gone, settled).await?;
    Ok(met)
}

async fn put_back(
    link: &mut Link,
    ledgers: &mut Ledgers,
    gone: &[ItemId],
    settled: &mut Settled,
) -> Result<(), ExportError> {
    if gone.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = gone.iter().map(number).collect();
    let rows = link.query(PUT, &[&numbers]).await?;
    note_rows(ledgers, &rows);
    let written: Vec<Option<ItemId>> = rows.iter().map(|row| item_of(row.get(0))).collect();
    settled.deferred.extend(gone.iter().filter(|item| !written.contains(&Some(**item))));
    Ok(())
}

/// A pause that the engine has not confirmed yet outlives this process.
pub(super) async fn note_reasons(link: &mut Link, settled: &Settled) -> Result<(), ExportError> {
    const NOTE: &str = "UPDATE stampede_item l SET pause_reason = w.reason \
         FROM unnest($1::bigint[], $2::text[]) AS w(id, reason) WHERE l.id = w.id";
    if settled.tampered.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = settled.tampered.iter().map(|(item, _)| number(item)).collect();
    let reasons: Vec<&str> = settled.tampered.iter().map(|(_, reason)| reason.as_str()).collect();
    link.execute(NOTE, &[&ids, &reasons]).await?;
    Ok(())
}

pub(super) fn number(item: &ItemId) -> i64 {
    i64::from(item.get())
}

pub(super) fn item_of(number: i64) -> Option<ItemId> {
    u64::try_from(number).ok().and_then(ItemId::new)
}

fn stock_rows(rows: &[Row]) -> HashMap<ItemId, StockRow> {
    rows.iter().filter_map(|row| Some((item_of(row.get(0))?, read_stock_row(row, 1)?))).collect()
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

/// Four columns from `at` on; `None` if there is no row behind them.
fn read_stock_row(row: &Row, at: usize) -> Option<StockRow> {
    let column = |offset: usize| row.get::<_, Option<i64>>(at + offset);
    let piles = Piles { count: column(1)?, held: column(2)?, sale: column(3)? };
    Some(StockRow { version: column(0)?, piles })
}
