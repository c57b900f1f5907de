//! One batch, one transaction: cursor, orders, payments, blocklist, stock rows.
//!
//! The cursor is moved first and fences: if it is not where this process left it, nothing
//! is written. Orders are facts and are always written. Normally a refused row fails the
//! whole batch; the caller then repeats it in the careful way, which isolates the row with
//! savepoints and sets it aside. Next: [`super::settle`] for the stock rows.

use std::collections::{BTreeSet, HashMap, HashSet};

use stampede_core::item::ItemSpec;
use stampede_core::types::{ItemId, Lsn, OrderId};

use super::batch::{Batch, BlockedRow, OrderRow, SpecRow};
use super::error::{ExportError, SWALLOWED};
use super::ledger::{Ledger, Ledgers};
use super::limits::{CAREFUL_ROWS_MAX, COPY_ROWS_MIN, REFILL_ORDERS};
use super::orders::Orders;
use super::settle::{self, Replay, Settled, Touch};
use super::store::{
    Begin, BlockedBuyer, CursorKey, CursorMove, Inserted, PaymentRow, PaymentsPut, SetAside, Store, Updated,
};
use super::while_waiting::while_waiting;

/// How a batch is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteMode<'a> {
    /// With savepoints, to isolate a row that Postgres refuses.
    pub(super) careful: bool,
    /// Which stock rows may be written: none while somebody has locked the whole table.
    pub(super) touch: Touch,
    /// Whether the batch fills an empty database with older facts.
    pub(super) replay: Replay,
    /// Items whose stock row is not touched: Postgres refuses it, or the item's import is not complete.
    pub(super) resting: &'a HashSet<ItemId>,
}

/// The results of a transaction; to be reported only once it is known to be committed.
#[derive(Default, Debug)]
pub(super) struct Written {
    pub(super) facts: u64,
    pub(super) rows: u64,
    pub(super) settled: Settled,
    pub(super) set_aside: Vec<SetAside>,
    pub(super) replaced: Vec<OrderId>,
}

/// Why a batch was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The cursor is not where it was left, or no longer ours.
    Moved,
    Database(ExportError),
}

impl From<ExportError> for WriteError {
    fn from(error: ExportError) -> Self {
        Self::Database(error)
    }
}

/// Writes the batch, without its COMMIT. After an error the transaction is still open, and
/// the books in `ledgers` are invalid. While the database works on the orders, `ahead` is
/// called to do other work.
pub(super) async fn write(
    store: &mut impl Store,
    key: &CursorKey,
    batch: &Batch,
    ledgers: &mut Ledgers,
    mode: WriteMode<'_>,
    ahead: &mut dyn FnMut() -> bool,
) -> Result<Written, WriteError> {
    store.begin(if mode.careful { Begin::Careful } else { Begin::Ordinary }).await?;
    move_cursor(store, key, batch).await?;
    let mut written = Written { facts: batch.facts as u64, ..Written::default() };
    let stand_ins = if mode.careful {
        put_specs_carefully(store, batch, &mut written).await?
    } else {
        settle::put_specs(store, batch).await?;
        HashMap::new()
    };
    settle::enter(store, ledgers, batch, &stand_ins, mode.replay, &mut written.settled).await?;
    let payments = batch.payment_rows();
    if mode.careful {
        write_orders_carefully(store, batch, ledgers, &mut written).await?;
        put_payments_carefully(store, &payments, &mut written).await?;
        write_blocked_carefully(store, batch, &mut written).await?;
    } else {
        write_orders(store, batch, ledgers, &mut written, ahead).await?;
        put_payments(store, &payments, &mut written).await?;
        write_blocked(store, batch, &batch.blocked).await?;
    }
    write_stock(store, batch, ledgers, mode, &mut written).await?;
    clear_reasons(store, batch).await?;
    settle::note_reasons(store, &written.settled).await?;
    write_set_aside(store, &written.set_aside, mode.careful).await?;
    Ok(written)
}

async fn move_cursor(store: &mut impl Store, key: &CursorKey, batch: &Batch) -> Result<(), WriteError> {
    let to = CursorMove { from: batch.from, to: batch.to, chain: batch.chain };
    if store.move_cursor(key, &to).await? { Ok(()) } else { Err(WriteError::Moved) }
}

async fn write_orders(
    store: &mut impl Store,
    batch: &Batch,
    ledgers: &Ledgers,
    written: &mut Written,
    ahead: &mut dyn FnMut() -> bool,
) -> Result<(), ExportError> {
    let new = Orders::new(batch, &batch.new, ledgers);
    if new.len() >= COPY_ROWS_MIN {
        // They are new since the cursor, which moves in the same transaction, so they cannot exist
        // yet. If somebody else has written such rows, the careful way handles it.
        while_waiting(store.copy_orders(new), ahead).await?;
        written.rows += new.len() as u64;
    } else {
        while_waiting(insert(store, batch, new, written), ahead).await?;
    }
    for rows in batch.imported.chunks(REFILL_ORDERS) {
        let imported = Orders::new(batch, rows, ledgers);
        while_waiting(put_imported(store, batch, imported, written), ahead).await?;
    }
    let moved = Orders::new(batch, &batch.moved, ledgers);
    while_waiting(update(store, batch, moved, written), ahead).await
}

/// Writes imported orders where they are missing: this database may be a replacement of the one that they
/// came from. A row of another order is left as it is.
async fn put_imported(
    store: &mut impl Store,
    batch: &Batch,
    orders: Orders<'_>,
    written: &mut Written,
) -> Result<(), ExportError> {
    if orders.is_empty() {
        return Ok(());
    }
    let foreign = store.refill_orders(orders).await?;
    set_aside_foreign(batch, orders, foreign, written);
    Ok(())
}

/// Inserts rows. An existing row of somebody else is left as it is, and ours is set aside: that row may be
/// another engine's paid order, and overwriting it would leave no trace.
async fn insert(
    store: &mut impl Store,
    batch: &Batch,
    orders: Orders<'_>,
    written: &mut Written,
) -> Result<(), ExportError> {
    if orders.is_empty() {
        return Ok(());
    }
    let Inserted { mut replaced, foreign, swallowed } = store.insert_orders(orders).await?;
    replaced.sort_unstable();
    written.replaced.append(&mut replaced);
    written.rows += (orders.len() - foreign.len() - swallowed.len()) as u64;
    set_aside_swallowed(batch, orders, "order", swallowed, written);
    set_aside_foreign(batch, orders, foreign, written);
    Ok(())
}

/// Sets aside orders whose ids rows of somebody else have.
fn set_aside_foreign(batch: &Batch, orders: Orders<'_>, foreign: Vec<OrderId>, written: &mut Written) {
    let foreign: HashSet<OrderId> = foreign.into_iter().collect();
    for row in orders.rows().iter().filter(|row| foreign.contains(&row.id)) {
        let reason =
            "stock_order holds a row of somebody else under this id; it was left as it is".to_owned();
        written.set_aside.push(SetAside { order: Some(row.id), ..aside(batch, row, "order", reason) });
    }
    let items: BTreeSet<ItemId> = foreign.iter().map(|order| order.item()).collect();
    written.settled.tampered.extend(items.into_iter().map(|item| (item, FOREIGN_ORDERS.to_owned())));
}

const FOREIGN_ORDERS: &str = "stock_order holds rows of somebody else under ids of its orders; they were left as they \
     are, the engine's orders are in stampede_set_aside, the item is paused: check which are right before you resume it";

/// Updates existing orders. If an order's row is missing (set aside, deleted, or somebody else's),
/// the update itself is set aside.
pub(super) async fn update(
    store: &mut impl Store,
    batch: &Batch,
    orders: Orders<'_>,
    written: &mut Written,
) -> Result<(), ExportError> {
    if orders.is_empty() {
        return Ok(());
    }
    let Updated { missing, swallowed } = store.update_orders(orders).await?;
    written.rows += (orders.len() - missing.len() - swallowed.len()) as u64;
    set_aside_swallowed(batch, orders, "order_move", swallowed, written);
    let missing: HashSet<OrderId> = missing.into_iter().collect();
    for row in orders.rows().iter().filter(|row| missing.contains(&row.id)) {
        let reason = "its order is not in stock_order (set aside before, deleted, or replaced)".to_owned();
        written.set_aside.push(aside(batch, row, "order_move", reason));
    }
    Ok(())
}

/// Sets aside orders that the database accepted without an error and did not write.
fn set_aside_swallowed(
    batch: &Batch,
    orders: Orders<'_>,
    kind: &'static str,
    swallowed: Vec<OrderId>,
    written: &mut Written,
) {
    let swallowed: HashSet<OrderId> = swallowed.into_iter().collect();
    let rows = orders.rows().iter().filter(|row| swallowed.contains(&row.id));
    written.set_aside.extend(rows.map(|row| aside(batch, row, kind, SWALLOWED.to_owned())));
}

/// Writes late payments and refunds, once for each fact.
pub(super) async fn put_payments(
    store: &mut impl Store,
    rows: &[PaymentRow<'_>],
    written: &mut Written,
) -> Result<(), ExportError> {
    if rows.is_empty() {
        return Ok(());
    }
    let PaymentsPut { foreign, swallowed } = store.put_payments(rows).await?;
    written.rows += (rows.len() - foreign.len() - swallowed.len()) as u64;
    for (left_out, reason) in [(foreign, FOREIGN_PAYMENT), (swallowed, SWALLOWED)] {
        let left_out: HashSet<(OrderId, Lsn)> = left_out.into_iter().collect();
        let rows = rows.iter().filter(|row| left_out.contains(&(row.order, row.lsn)));
        written.set_aside.extend(rows.map(|row| payment_aside(row, reason.to_owned())));
    }
    Ok(())
}

/// The same with savepoints: what is refused is halved until the refused row stands alone.
pub(super) async fn put_payments_carefully(
    store: &mut impl Store,
    rows: &[PaymentRow<'_>],
    written: &mut Written,
) -> Result<(), ExportError> {
    let mut open: Vec<&[PaymentRow<'_>]> = rows.chunks(CAREFUL_ROWS_MAX).rev().collect();
    while let Some(rows) = open.pop() {
        let done = attempt(store, async |store| put_payments(store, rows, written).await).await?;
        match (done, rows) {
            (Ok(()), _) => {}
            (Err(reason), [row]) => written.set_aside.push(payment_aside(row, reason)),
            (Err(_), rows) => {
                let (first, second) = rows.split_at(rows.len() / 2);
                open.extend([second, first]);
            }
        }
    }
    Ok(())
}

const FOREIGN_PAYMENT: &str =
    "stock_payment holds a row of somebody else under this order and LSN; it was left as it is";

fn payment_aside(row: &PaymentRow<'_>, reason: String) -> SetAside {
    let what = format!(
        "order_id={} lsn={} kind={} payment_ref={} refund_ref={} quantity={} create_time_ms={}",
        row.order,
        row.lsn,
        row.kind.name(),
        row.payment_ref,
        row.refund_ref,
        row.units,
        row.at_ms.0
    );
    SetAside { lsn: row.lsn, kind: "payment", what, reason, item: None, order: None }
}

/// Does one thing under a savepoint. The inner error says why the database refused a row: then all of
/// it was undone.
pub(super) async fn attempt<S: Store>(
    store: &mut S,
    work: impl AsyncFnOnce(&mut S) -> Result<(), ExportError>,
) -> Result<Result<(), String>, ExportError> {
    store.savepoint().await?;
    match work(store).await {
        Ok(()) => store.release_savepoint().await.map(Ok),
        Err(ExportError::RowRefused(reason)) => {
            store.roll_back_to_savepoint().await?;
            Ok(Err(reason))
        }
        Err(other) => Err(other),
    }
}

/// Writes the settings of items one by one. Every item needs books, so an item whose settings are refused
/// gets a placeholder name, and its own name is set aside. Returns the placeholders.
async fn put_specs_carefully(
    store: &mut impl Store,
    batch: &Batch,
    written: &mut Written,
) -> Result<HashMap<ItemId, String>, ExportError> {
    let mut stand_ins = HashMap::new();
    for change in &batch.items {
        let Some(SpecRow { name, spec }) = change.spec else { continue };
        let spec = ItemSpec { name: batch.str(name), ..spec };
        if let Some(stand_in) = put_spec_carefully(store, change.lsn, (change.item, spec), written).await? {
            stand_ins.insert(change.item, stand_in);
        }
    }
    Ok(stand_ins)
}

/// Writes the settings of one item, as `put_specs_carefully`.
pub(super) async fn put_spec_carefully(
    store: &mut impl Store,
    lsn: Lsn,
    (item, spec): (ItemId, ItemSpec<'_>),
    written: &mut Written,
) -> Result<Option<String>, ExportError> {
    let done = attempt(store, async |store| store.put_specs(&[(item, spec)]).await).await?;
    let Err(reason) = done else { return Ok(None) };
    let stand_in = format!("item {item}");
    store.put_specs(&[(item, ItemSpec { name: &stand_in, ..spec })]).await?;
    let what = format!("id={item} name={}", spec.name);
    written.set_aside.push(SetAside { lsn, kind: "item", what, reason, item: None, order: None });
    Ok(Some(stand_in))
}

/// As [`write_blocked`], one by one with savepoints.
async fn write_blocked_carefully(
    store: &mut impl Store,
    batch: &Batch,
    written: &mut Written,
) -> Result<(), ExportError> {
    for row in &batch.blocked {
        let one = std::slice::from_ref(row);
        let done = attempt(store, async |store| write_blocked(store, batch, one).await).await?;
        if let Err(reason) = done {
            written.set_aside.push(blocked_aside(row.lsn, batch.str(row.buyer), row.blocked, reason));
        }
    }
    Ok(())
}

pub(super) fn blocked_aside(lsn: Lsn, buyer: &str, blocked: bool, reason: String) -> SetAside {
    let what = format!("buyer={buyer} blocked={blocked}");
    SetAside { lsn, kind: "blocked", what, reason, item: None, order: None }
}

/// Writes rows to `stampede_set_aside`; if `careful`, one by one with savepoints. A row that is refused
/// there, too, is only in its alarm; its fact stays in the log until that is trimmed.
pub(super) async fn write_set_aside(
    store: &mut impl Store,
    rows: &[SetAside],
    careful: bool,
) -> Result<(), ExportError> {
    if !careful {
        return if rows.is_empty() { Ok(()) } else { store.set_aside(rows).await };
    }
    for row in rows {
        let one = std::slice::from_ref(row);
        if let Err(reason) = attempt(store, async |store| store.set_aside(one).await).await? {
            tracing::warn!(target: "stampede::export", "stampede_set_aside takes no row of LSN {}: {reason}", row.lsn);
        }
    }
    Ok(())
}

/// As [`write_orders`], with savepoints.
async fn write_orders_carefully<S: Store>(
    store: &mut S,
    batch: &Batch,
    ledgers: &Ledgers,
    written: &mut Written,
) -> Result<(), ExportError> {
    let (new, imported) = ((batch, &*batch.new, ledgers), (batch, &*batch.imported, ledgers));
    isolate(store, new, "order", written, async |store: &mut S, orders, written| {
        insert(store, batch, orders, written).await
    })
    .await?;
    isolate(store, imported, "order", written, async |store: &mut S, orders, written| {
        put_imported(store, batch, orders, written).await
    })
    .await?;
    move_carefully(store, batch, ledgers, written).await
}

/// As [`update`] for all orders of the batch that moved, with savepoints.
pub(super) async fn move_carefully<S: Store>(
    store: &mut S,
    batch: &Batch,
    ledgers: &Ledgers,
    written: &mut Written,
) -> Result<(), ExportError> {
    let moved = (batch, &*batch.moved, ledgers);
    isolate(store, moved, "order_move", written, async |store: &mut S, orders, written| {
        update(store, batch, orders, written).await
    })
    .await
}

/// Writes orders with savepoints: what is refused is halved until the refused row stands alone and is
/// set aside.
pub(super) async fn isolate<S: Store>(
    store: &mut S,
    (batch, rows, ledgers): (&Batch, &[OrderRow], &Ledgers),
    kind: &'static str,
    written: &mut Written,
    put: impl AsyncFn(&mut S, Orders<'_>, &mut Written) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let chunks = rows.chunks(CAREFUL_ROWS_MAX).rev();
    let mut open: Vec<Orders<'_>> = chunks.map(|rows| Orders::new(batch, rows, ledgers)).collect();
    while let Some(orders) = open.pop() {
        let done = attempt(store, async |store: &mut S| put(store, orders, written).await).await?;
        match (done, orders.rows()) {
            (Ok(()), _) => {}
            (Err(reason), [row]) => written.set_aside.push(aside(batch, row, kind, reason)),
            (Err(_), _) => open.extend(orders.halves()),
        }
    }
    Ok(())
}

fn aside(batch: &Batch, row: &OrderRow, kind: &'static str, reason: String) -> SetAside {
    let what = format!(
        "id={} sid={} buyer={} quantity={} state={} create_time_ms={} pay_by_ms={} update_time_ms={} \
         payment_ref={} idem_key={} price_minor={} currency={} refund_ref={} refunded={} lsn={}",
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
        row.price.minor,
        row.price.currency(),
        batch.str(row.refund_ref),
        row.refunded,
        row.lsn
    );
    SetAside { lsn: row.lsn, kind, what, reason, item: None, order: None }
}

/// Writes changes of the blocklist.
async fn write_blocked(
    store: &mut impl Store,
    batch: &Batch,
    rows: &[BlockedRow],
) -> Result<(), ExportError> {
    let (on, off): (Vec<&BlockedRow>, Vec<_>) = rows.iter().partition(|row| row.blocked);
    if !on.is_empty() {
        let entry = |row: &&BlockedRow| BlockedBuyer {
            buyer: batch.str(row.buyer),
            actor: batch.str(row.actor),
            since_ms: row.at_ms,
            lsn: row.lsn,
        };
        store.block(&on.iter().map(entry).collect::<Vec<_>>()).await?;
    }
    if !off.is_empty() {
        store.unblock(&off.iter().map(|row| batch.str(row.buyer)).collect::<Vec<_>>()).await?;
    }
    Ok(())
}

async fn write_stock(
    store: &mut impl Store,
    batch: &Batch,
    ledgers: &mut Ledgers,
    mode: WriteMode<'_>,
    written: &mut Written,
) -> Result<(), ExportError> {
    write_stock_rows(store, batch, ledgers, mode, written).await?;
    set_aside_rows(ledgers, written, |item| {
        batch.items.iter().find(|change| change.item == item).map_or(batch.to, |change| change.lsn)
    });
    Ok(())
}

/// Sets aside our stock rows where there is a row of somebody else, and the item stops; and those that
/// were swallowed.
pub(super) fn set_aside_rows(ledgers: &Ledgers, written: &mut Written, lsn_of: impl Fn(ItemId) -> Lsn) {
    for (item, reason) in std::mem::take(&mut written.settled.foreign) {
        let Some(ledger) = ledgers.get(&item) else { continue };
        if !ledger.paused {
            written.settled.tampered.push((item, reason.clone()));
        }
        written.set_aside.push(stock_aside(lsn_of(item), item, ledger, reason));
    }
    for item in std::mem::take(&mut written.settled.swallowed) {
        let Some(ledger) = ledgers.get(&item) else { continue };
        written.set_aside.push(stock_aside(lsn_of(item), item, ledger, SWALLOWED.to_owned()));
    }
}

async fn write_stock_rows(
    store: &mut impl Store,
    batch: &Batch,
    ledgers: &mut Ledgers,
    mode: WriteMode<'_>,
    written: &mut Written,
) -> Result<(), ExportError> {
    let items = batch.items.iter().map(|change| change.item);
    let (resting, items): (Vec<ItemId>, Vec<ItemId>) = items.partition(|item| mode.resting.contains(item));
    settle::settle(store, ledgers, &resting, Touch::None, &mut written.settled).await?;
    if !mode.careful {
        return settle::settle(store, ledgers, &items, mode.touch, &mut written.settled).await;
    }
    for change in batch.items.iter().filter(|change| !mode.resting.contains(&change.item)) {
        settle_carefully(store, ledgers, change.item, change.lsn, mode.touch, written).await?;
    }
    Ok(())
}

/// Settles one item under a savepoint: if Postgres refuses its row, only the books are entered.
pub(super) async fn settle_carefully<S: Store>(
    store: &mut S,
    ledgers: &mut Ledgers,
    item: ItemId,
    lsn: Lsn,
    touch: Touch,
    written: &mut Written,
) -> Result<(), ExportError> {
    let before = ledgers.get(&item).cloned();
    let mut settled = Settled::default();
    let settle = async |store: &mut S| settle::settle(store, ledgers, &[item], touch, &mut settled).await;
    if let Err(reason) = attempt(store, settle).await? {
        settled = Settled::default();
        if let Some(before) = before {
            written.set_aside.push(stock_aside(lsn, item, &before, reason));
            ledgers.insert(item, before);
        }
        settle::settle(store, ledgers, &[item], Touch::None, &mut settled).await?;
    }
    written.settled.append(settled);
    Ok(())
}

fn stock_aside(lsn: Lsn, item: ItemId, books: &Ledger, reason: String) -> SetAside {
    let wanted = books.wanted();
    let what = format!("stock id={item} count={} held={} sale={}", wanted.count, wanted.held, wanted.sale);
    SetAside { lsn, kind: "stock", what, reason, item: Some(item), order: None }
}

/// Once the engine has paused or resumed an item, the reason to pause it is no longer needed.
async fn clear_reasons(store: &mut impl Store, batch: &Batch) -> Result<(), ExportError> {
    let switched: Vec<ItemId> =
        batch.items.iter().filter(|change| change.paused.is_some()).map(|change| change.item).collect();
    if switched.is_empty() { Ok(()) } else { store.clear_pauses(&switched).await }
}
