//! One batch, one transaction: cursor, orders, blocklist, stock rows.
//!
//! The cursor goes first and fences: if it is not where this process left it, nothing is
//! written. Orders are facts and always go in. In the ordinary way a refused row fails
//! the whole batch; the caller then asks for the careful way, which narrows it down under
//! savepoints and sets it aside. Next: [`super::settle`] for the stock rows.

use std::collections::HashSet;
use std::pin::pin;

use bytes::Bytes;
use futures_util::SinkExt;
use stampede_core::types::{ItemId, Lsn, OrderId};

use super::attach::{as_i64, as_u64};
use super::batch::{Batch, BlockedRow, OrderRow};
use super::database::Link;
use super::error::ExportError;
use super::limits::{CAREFUL_ROWS_MAX, COPY_CHUNK_BYTES, COPY_ROWS_MIN};
use super::rows::{COPY_HEADER, COPY_SQL, COPY_TRAILER, OrderArrays, copy_row};
use super::settle::{self, Ledgers, Settled};

/// Whose cursor it is.
#[derive(Clone, Debug)]
pub(super) struct CursorKey {
    pub(super) log_id: String,
    pub(super) epoch: u64,
}

/// How a batch is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner<'a> {
    /// Row by row where needed, since one is refused.
    pub(super) careful: bool,
    /// Off while somebody holds the whole table.
    pub(super) touch_stock: bool,
    /// Items whose stock row Postgres refuses at present.
    pub(super) resting: &'a HashSet<ItemId>,
}

/// A row that Postgres refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SetAside {
    pub(super) lsn: Lsn,
    pub(super) kind: &'static str,
    pub(super) what: String,
    pub(super) reason: String,
    /// For a stock row: its item.
    pub(super) item: Option<ItemId>,
}

/// What a transaction came to; to be told only once it is known to be committed.
#[derive(Default, Debug)]
pub(super) struct Written {
    pub(super) facts: u64,
    pub(super) rows: u64,
    pub(super) settled: Settled,
    pub(super) set_aside: Vec<SetAside>,
    pub(super) replaced: Vec<OrderId>,
}

/// Why a transaction did not come about.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The cursor is not where it was left, or not ours any more.
    Moved,
    Database(ExportError),
}

impl From<ExportError> for WriteError {
    fn from(error: ExportError) -> Self {
        Self::Database(error)
    }
}

/// Named, since the server's default may be another one, under which a version check would
/// fail instead of finding no row.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// A constraint that is checked at COMMIT would not show which row it is about.
const BEGIN_CAREFUL: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET CONSTRAINTS ALL IMMEDIATE";

/// Writes the batch up to, not including, its COMMIT. On an error the transaction is
/// still open, and the books in `ledgers` are void.
pub(super) async fn write(
    link: &mut Link,
    key: &CursorKey,
    batch: &Batch,
    ledgers: &mut Ledgers,
    manner: Manner<'_>,
) -> Result<Written, WriteError> {
    link.execute_batch(if manner.careful { BEGIN_CAREFUL } else { BEGIN }).await?;
    move_cursor(link, key, batch).await?;
    let mut written = Written { facts: batch.facts as u64, ..Written::default() };
    settle::enter(link, ledgers, batch, &mut written.settled).await?;
    if manner.careful {
        write_orders_carefully(link, batch, ledgers, &mut written).await?;
    } else {
        write_orders(link, batch, ledgers, &mut written).await?;
    }
    write_blocked(link, batch).await?;
    write_stock(link, batch, ledgers, manner, &mut written).await?;
    clear_reasons(link, batch).await?;
    settle::note_reasons(link, &written.settled).await?;
    write_set_aside(link, &written.set_aside).await?;
    Ok(written)
}

async fn move_cursor(link: &mut Link, key: &CursorKey, batch: &Batch) -> Result<(), WriteError> {
    const MOVE: &str = "UPDATE stampede_cursor SET lsn = $4, update_time = now() \
         WHERE log_id = $1 AND epoch = $2 AND lsn = $3";
    let (epoch, from, to) = (as_i64(key.epoch), as_i64(batch.from.0), as_i64(batch.to.0));
    match link.execute(MOVE, &[&key.log_id, &epoch, &from, &to]).await? {
        1 => Ok(()),
        _ => Err(WriteError::Moved),
    }
}

async fn write_orders(
    link: &mut Link,
    batch: &Batch,
    ledgers: &Ledgers,
    written: &mut Written,
) -> Result<(), ExportError> {
    if batch.new.len() >= COPY_ROWS_MIN {
        // New since the cursor, which moves in the same transaction: they cannot be there
        // yet. If somebody has put rows of his own there, the careful way sorts it out.
        copy(link, batch, ledgers).await?;
    } else {
        written.replaced.extend(insert(link, batch, &batch.new, ledgers).await?);
    }
    written.rows += batch.new.len() as u64;
    update(link, batch, &batch.moved, written).await
}

/// The name of the item of each of a run of rows; looks up only where the item changes.
struct Names<'a> {
    ledgers: &'a Ledgers,
    last: Option<(ItemId, &'a str)>,
}

impl<'a> Names<'a> {
    fn of(&mut self, item: ItemId) -> &'a str {
        match self.last {
            Some((last, name)) if last == item => name,
            _ => {
                let name = self.ledgers.get(&item).map_or("", |ledger| ledger.name.as_str());
                self.last = Some((item, name));
                name
            }
        }
    }
}

async fn copy(link: &mut Link, batch: &Batch, ledgers: &Ledgers) -> Result<(), ExportError> {
    let lost = |error: tokio_postgres::Error| ExportError::of(&error);
    let statement = link.prepared(COPY_SQL).await?;
    let mut sink = pin!(link.client().copy_in::<_, Bytes>(&statement).await.map_err(lost)?);
    let mut names = Names { ledgers, last: None };
    let mut buffer = Vec::with_capacity(COPY_CHUNK_BYTES + 1024);
    buffer.extend_from_slice(COPY_HEADER);
    for row in &batch.new {
        copy_row(&mut buffer, batch, row, names.of(row.id.item()));
        if buffer.len() >= COPY_CHUNK_BYTES {
            let next = Vec::with_capacity(COPY_CHUNK_BYTES + 1024);
            sink.send(Bytes::from(std::mem::replace(&mut buffer, next))).await.map_err(lost)?;
        }
    }
    buffer.extend_from_slice(COPY_TRAILER);
    sink.send(Bytes::from(buffer)).await.map_err(lost)?;
    sink.as_mut().finish().await.map_err(lost)?;
    Ok(())
}

/// Inserts rows; one that is there already is replaced, since ours is the fact. Returns
/// the orders for which that was so.
async fn insert(
    link: &mut Link,
    batch: &Batch,
    rows: &[OrderRow],
    ledgers: &Ledgers,
) -> Result<Vec<OrderId>, ExportError> {
    const INSERT: &str = "
WITH put AS (
    INSERT INTO stock_order (id, sid, name, buyer, quantity, state, create_time, pay_by, update_time, payment_ref,
        idem_key, lsn)
    SELECT w.id, w.sid, w.name, w.buyer, w.quantity, w.state, to_timestamp(w.created_at_ms / 1000.0),
        to_timestamp(w.pay_by_ms / 1000.0), to_timestamp(w.updated_at_ms / 1000.0), w.payment_ref, w.idem_key, w.lsn
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::bigint[],
        $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::bigint[])
        AS w(id, sid, name, buyer, quantity, state, created_at_ms, pay_by_ms, updated_at_ms, payment_ref, idem_key, lsn)
    ON CONFLICT (id) DO UPDATE SET sid = excluded.sid, name = excluded.name, buyer = excluded.buyer,
        quantity = excluded.quantity, state = excluded.state, create_time = excluded.create_time,
        pay_by = excluded.pay_by, update_time = excluded.update_time, payment_ref = excluded.payment_ref,
        idem_key = excluded.idem_key, lsn = excluded.lsn
    RETURNING id, xmax::text <> '0' AS replaced
)
SELECT id FROM put WHERE replaced";
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let name = |row: &OrderRow| ledgers.get(&row.id.item()).map_or("", |ledger| ledger.name.as_str());
    let a = OrderArrays::of(batch, rows, name);
    let params: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[
        &a.id,
        &a.sid,
        &a.name,
        &a.buyer,
        &a.quantity,
        &a.state,
        &a.created_at_ms,
        &a.pay_by_ms,
        &a.updated_at_ms,
        &a.payment_ref,
        &a.key,
        &a.lsn,
    ];
    let replaced = link.query(INSERT, params).await?;
    Ok(replaced.iter().filter_map(|row| OrderId::from_u64(as_u64(row.get(0)))).collect())
}

/// Moves orders that are there; one that is not (set aside, or deleted by somebody) is
/// itself set aside.
async fn update(
    link: &mut Link,
    batch: &Batch,
    rows: &[OrderRow],
    written: &mut Written,
) -> Result<(), ExportError> {
    const UPDATE: &str = "
UPDATE stock_order o SET state = w.state, update_time = to_timestamp(w.updated_at_ms / 1000.0),
    payment_ref = coalesce(w.payment_ref, o.payment_ref), lsn = w.lsn,
    pay_by = coalesce(to_timestamp(w.pay_by_ms / 1000.0), o.pay_by)
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[])
    AS w(id, state, updated_at_ms, payment_ref, lsn, pay_by_ms)
WHERE o.id = w.id";
    const MISSING: &str = "SELECT w.id FROM unnest($1::bigint[]) AS w(id) \
         WHERE NOT EXISTS (SELECT FROM stock_order o WHERE o.id = w.id)";
    if rows.is_empty() {
        return Ok(());
    }
    let a = OrderArrays::of(batch, rows, |_| "");
    let params: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
        &[&a.id, &a.state, &a.updated_at_ms, &a.payment_ref, &a.lsn, &a.pay_by_ms];
    let done = link.execute(UPDATE, params).await?;
    written.rows += done;
    if done == rows.len() as u64 {
        return Ok(());
    }
    let missing = link.query(MISSING, &[&a.id]).await?;
    let missing: HashSet<i64> = missing.iter().map(|row| row.get(0)).collect();
    for row in rows.iter().filter(|row| missing.contains(&row.id.get().cast_signed())) {
        let reason = "its order is not in stock_order (set aside before, or deleted)".to_owned();
        written.set_aside.push(aside(batch, row, "order_move", reason));
    }
    Ok(())
}

/// The same with savepoints: what is refused is halved until the row stands alone.
async fn write_orders_carefully(
    link: &mut Link,
    batch: &Batch,
    ledgers: &Ledgers,
    written: &mut Written,
) -> Result<(), ExportError> {
    for rows in batch.new.chunks(CAREFUL_ROWS_MAX) {
        halve(link, batch, rows, "order", written, async |link, rows, written| {
            let replaced = insert(link, batch, rows, ledgers).await?;
            written.replaced.extend(replaced);
            written.rows += rows.len() as u64;
            Ok(())
        })
        .await?;
    }
    for rows in batch.moved.chunks(CAREFUL_ROWS_MAX) {
        halve(link, batch, rows, "order_move", written, async |link, rows, written| {
            update(link, batch, rows, written).await
        })
        .await?;
    }
    Ok(())
}

async fn halve(
    link: &mut Link,
    batch: &Batch,
    rows: &[OrderRow],
    kind: &'static str,
    written: &mut Written,
    attempt: impl AsyncFn(&mut Link, &[OrderRow], &mut Written) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let mut open = vec![rows];
    while let Some(rows) = open.pop() {
        link.execute_batch("SAVEPOINT part").await?;
        match attempt(link, rows, written).await {
            Ok(()) => link.execute_batch("RELEASE SAVEPOINT part").await?,
            Err(ExportError::RowRefused(reason)) => {
                link.execute_batch("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part").await?;
                match rows {
                    [row] => written.set_aside.push(aside(batch, row, kind, reason)),
                    _ => {
                        let (first, second) = rows.split_at(rows.len() / 2);
                        open.extend([second, first]);
                    }
                }
            }
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn aside(batch: &Batch, row: &OrderRow, kind: &'static str, reason: String) -> SetAside {
    let what = format!(
        "id={} sid={} buyer={} quantity={} state={} create_time_ms={} pay_by_ms={} update_time_ms={} \
         payment_ref={} idem_key={} lsn={}",
        row.id,
        row.id.item(),
        batch.str(row.buyer),
        row.quantity,
        row.state.name(),
        row.created_at_ms.0,
        row.pay_by_ms.0,
        row.updated_at_ms.0,
        batch.str(row.payment_ref),
        batch.str(row.key),
        row.lsn
    );
    SetAside { lsn: row.lsn, kind, what, reason, item: None }
}

async fn write_blocked(link: &mut Link, batch: &Batch) -> Result<(), ExportError> {
    const BLOCK: &str = "INSERT INTO stampede_blocked (buyer, actor, since, lsn) \
         SELECT w.buyer, w.actor, to_timestamp(w.at_ms / 1000.0), w.lsn \
         FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS w(buyer, actor, at_ms, lsn) \
         ON CONFLICT (buyer) DO UPDATE SET actor = excluded.actor, since = excluded.since, lsn = excluded.lsn";
    const UNBLOCK: &str = "DELETE FROM stampede_blocked WHERE buyer = ANY($1)";
    let (on, off): (Vec<&BlockedRow>, Vec<_>) = batch.blocked.iter().partition(|row| row.blocked);
    if !on.is_empty() {
        let buyer: Vec<&str> = on.iter().map(|row| batch.str(row.buyer)).collect();
        let actor: Vec<&str> = on.iter().map(|row| batch.str(row.actor)).collect();
        let at_ms: Vec<i64> = on.iter().map(|row| as_i64(row.at_ms.0)).collect();
        let lsn: Vec<i64> = on.iter().map(|row| as_i64(row.lsn.0)).collect();
        link.execute(BLOCK, &[&buyer, &actor, &at_ms, &lsn]).await?;
    }
    if !off.is_empty() {
        let buyer: Vec<&str> = off.iter().map(|row| batch.str(row.buyer)).collect();
        link.execute(UNBLOCK, &[&buyer]).await?;
    }
    Ok(())
}

async fn write_stock(
    link: &mut Link,
    batch: &Batch,
    ledgers: &mut Ledgers,
    manner: Manner<'_>,
    written: &mut Written,
) -> Result<(), ExportError> {
    let items = batch.items.iter().map(|change| change.item);
    let (resting, items): (Vec<ItemId>, Vec<ItemId>) = items.partition(|item| manner.resting.contains(item));
    settle::settle(link, ledgers, &resting, false, &mut written.settled).await?;
    if !manner.careful {
        return settle::settle(link, ledgers, &items, manner.touch_stock, &mut written.settled).await;
    }
    for change in batch.items.iter().filter(|change| !manner.resting.contains(&change.item)) {
        settle_carefully(link, ledgers, change.item, change.lsn, manner, written).await?;
    }
    Ok(())
}

/// One item under a savepoint: if Postgres refuses its row, the books are entered alone.
async fn settle_carefully(
    link: &mut Link,
    ledgers: &mut Ledgers,
    item: ItemId,
    lsn: Lsn,
    manner: Manner<'_>,
    written: &mut Written,
) -> Result<(), ExportError> {
    let before = ledgers.get(&item).cloned();
    let mut settled = Settled::default();
    link.execute_batch("SAVEPOINT part").await?;
    match settle::settle(link, ledgers, &[item], manner.touch_stock, &mut settled).await {
        Ok(()) => link.execute_batch("RELEASE SAVEPOINT part").await?,
        Err(ExportError::RowRefused(reason)) => {
            link.execute_batch("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part").await?;
            settled = Settled::default();
            if let Some(before) = before {
                let wanted = before.wanted();
                let what = format!(
                    "stock id={item} count={} held={} sale={}",
                    wanted.count, wanted.held, wanted.sale
                );
                ledgers.insert(item, before);
                written.set_aside.push(SetAside { lsn, kind: "stock", what, reason, item: Some(item) });
            }
            settle::settle(link, ledgers, &[item], false, &mut settled).await?;
        }
        Err(other) => return Err(other),
    }
    written.settled.adopted.append(&mut settled.adopted);
    written.settled.tampered.append(&mut settled.tampered);
    written.settled.deferred.append(&mut settled.deferred);
    Ok(())
}

/// An item that was switched by the engine needs no reminder to pause any more.
async fn clear_reasons(link: &mut Link, batch: &Batch) -> Result<(), ExportError> {
    let switched: Vec<i64> = batch
        .items
        .iter()
        .filter(|change| change.paused.is_some())
        .map(|change| settle::number(&change.item))
        .collect();
    if switched.is_empty() {
        return Ok(());
    }
    const CLEAR: &str = "UPDATE stampede_item SET pause_reason = NULL \
         WHERE id = ANY($1) AND pause_reason IS NOT NULL";
    link.execute(CLEAR, &[&switched]).await?;
    Ok(())
}

/// A stock row that stays refused is noted once, not at every attempt.
async fn write_set_aside(link: &mut Link, rows: &[SetAside]) -> Result<(), ExportError> {
    const ASIDE: &str = "INSERT INTO stampede_set_aside (lsn, kind, what, reason) \
         SELECT w.lsn, w.kind, w.what, w.reason \
         FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) AS w(lsn, kind, what, reason) \
         WHERE w.kind <> 'stock' OR NOT EXISTS (SELECT FROM stampede_set_aside s \
             WHERE s.kind = 'stock' AND s.what = w.what AND s.reason = w.reason)";
    if rows.is_empty() {
        return Ok(());
    }
    let lsn: Vec<i64> = rows.iter().map(|row| as_i64(row.lsn.0)).collect();
    let kind: Vec<&str> = rows.iter().map(|row| row.kind).collect();
    let what: Vec<&str> = rows.iter().map(|row| row.what.as_str()).collect();
    let reason: Vec<&str> = rows.iter().map(|row| row.reason.as_str()).collect();
    link.execute(ASIDE, &[&lsn, &kind, &what, &reason]).await?;
    Ok(())
}
