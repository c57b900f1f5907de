//! `stampede export --from-snapshot`: fills a database that lacks facts which the log has trimmed,
//! because it was lost or restored from an old backup. A snapshot and the facts after it fill it.
//!
//! ```text
//! attach (its cursor is ours now) ─▶ check: no row of anybody else is in the way
//!   ─▶ orders of the snapshot ─▶ orders of the facts after it ─▶ blocklist ─▶ items, stock rows
//!   ─▶ the cursor goes to the last fact: only now an engine accepts the database
//! ```
//!
//! Each arrow is a series of small transactions, each fenced by the cursor. Until the last one the
//! cursor stays where it was, so an engine still refuses the database, and if the command was
//! killed, the same command goes on: every write is idempotent. A row that is not this log's is
//! never replaced. A snapshot of November 2026 or older has keyed hashes of idempotency keys and
//! payment references, not the texts: those of orders placed or paid between the cursor and the
//! snapshot are lost, and a row in `stampede_set_aside` says so. No engine may run on the log.
//! Next: [`crate::feed::History`] for the log's side, `refill/state.rs` for the state at its end.

use std::collections::HashMap;
use std::fmt::Write as _;

use stampede_core::record::OrderRecord;
use stampede_core::state_row::StateRow;
use stampede_core::types::{ItemId, Lsn, OrderId};

use super::attach::{AttachError, DatabaseId, LogClaim, attach};
use super::batch::Batch;
use super::database::Database;
use super::error::ExportError;
use super::ledger::{Ledger, Ledgers};
use super::limits::{PREHEAT_PAGE_ORDERS, REFILL_ITEMS, REFILL_NAMED_MAX, REFILL_ORDERS};
use super::orders::Orders;
use super::settle::{self, Touch};
use super::store::{Begin, BlockedBuyer, Connect, CursorKey, CursorMove, CursorRow, SetAside, Store};
use super::write::{
    Written, attempt, blocked_aside, isolate, move_carefully, put_payments, put_payments_carefully,
    put_spec_carefully, set_aside_rows, settle_carefully, update, write_set_aside,
};
use crate::feed::{FeedError, History};

mod state;

use state::{ItemNow, StateNow};

/// The kind of the row in `stampede_set_aside` that says which texts were lost.
pub const REFILLED: &str = "refilled";

/// Why a database was not filled. The rows written so far are this log's; the same command goes on.
#[derive(Debug, thiserror::Error)]
pub enum RefillError {
    /// An engine brings it up to date by itself.
    #[error(
        "the database ends at LSN {cursor} and the log holds everything from LSN {first_retained} on: nothing is \
         missing; start the engine with this database, it exports what is new"
    )]
    NothingMissing {
        /// Where the database ends.
        cursor: Lsn,
        /// Where the log begins.
        first_retained: Lsn,
    },
    /// It does not belong to this log.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Rows of somebody else are in the way.
    #[error(
        "{total} rows in the database are not this log's, and none of them was replaced: {named}; move them out of \
         the way, or use an empty database, then try again"
    )]
    Foreign {
        /// The first of them, in words.
        named: String,
        /// How many.
        total: usize,
    },
    /// Somebody else writes to it.
    #[error("somebody else moved the cursor; stop every engine that uses this database, then try again")]
    Moved,
    /// The snapshot cannot be read.
    #[error("{0}")]
    Snapshot(String),
    /// The log cannot be read.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The database.
    #[error("{0}; what was written stays, try again")]
    Database(#[from] ExportError),
}

/// What was written.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Refilled {
    /// Where the database ended before.
    pub from: Lsn,
    /// Up to where texts may be missing: the snapshot.
    pub snapshot: Lsn,
    /// Where it ends now.
    pub to: Lsn,
    /// Orders in the log.
    pub orders: u64,
    /// Items in the log.
    pub items: u64,
    /// Blocked buyers in the log.
    pub blocked: u64,
    /// Orders whose idempotency key or payment reference is lost.
    pub without_texts: u64,
    /// Rows that Postgres refused; they are in `stampede_set_aside`.
    pub set_aside: u64,
    /// Items from which sold units were withdrawn, and how many: that part is void.
    pub void: Vec<(ItemId, i64)>,
    /// Items that have to stop, and why; the engine is told when it attaches.
    pub paused: Vec<(ItemId, String)>,
}

/// A database that was checked and is about to be filled.
pub struct Refill<'a, C: Connect> {
    database: &'a mut Database<C>,
    history: &'a dyn History,
    id: DatabaseId,
    key: CursorKey,
    now: StateNow,
    /// The names of all items, for the rows of their orders.
    names: Ledgers,
    batch: Batch,
    done: Refilled,
}

impl<'a, C: Connect> Refill<'a, C> {
    /// Takes the database for this log and checks whether it can be filled. Writes nothing but the
    /// cursor's epoch; the tables must exist.
    ///
    /// # Errors
    /// See [`RefillError`].
    pub fn begin(
        database: &'a mut Database<C>,
        claim: &LogClaim,
        history: &'a dyn History,
    ) -> Result<Self, RefillError> {
        let log_id = claim.log_id.to_string();
        let cursors = database.run(async |store| store.lock_cursors().await)?;
        let theirs = cursors.into_iter().find(|row| row.log_id == log_id).and_then(|row| row.chain);
        // Two checks of attaching cannot pass here: that the log begins in time, and that it still holds
        // the block at the cursor, so there is no hash to compare. The database's own hash is used.
        let mut chain_at = |_| theirs.map_or_else(|| history.chain(), Ok);
        let attached = attach(database, &LogClaim { first_retained: Lsn(1), ..*claim }, &mut chain_at)?;
        let (cursor, first_retained) = (attached.cursor, claim.first_retained);
        if cursor.next() >= first_retained {
            return Err(RefillError::NothingMissing { cursor, first_retained });
        }
        let now = StateNow::of(history);
        let names = now.items.iter().map(|(item, row)| (*item, Ledger::new(row.name.clone()))).collect();
        let done = Refilled {
            from: cursor,
            snapshot: history.snapshot_lsn(),
            to: history.last_lsn(),
            orders: now.orders.len() as u64,
            items: now.items.len() as u64,
            blocked: now.blocked.len() as u64,
            ..Refilled::default()
        };
        let key = CursorKey { log_id, epoch: attached.claim.epoch, nonce: claim.nonce };
        let (id, batch) = (attached.database, Batch::default());
        let mut refill = Self { database, history, id, key, now, names, batch, done };
        refill.check()?;
        Ok(refill)
    }

    /// Which database it is, for the control file.
    pub const fn database(&self) -> DatabaseId {
        self.id
    }

    /// Fills it.
    ///
    /// # Errors
    /// See [`RefillError`].
    pub fn run(mut self) -> Result<Refilled, RefillError> {
        self.snapshot_orders()?;
        self.later_orders()?;
        self.blocklist()?;
        self.items()?;
        self.finish()?;
        Ok(self.done)
    }

    // ---- checking ----

    /// Checks that no row of somebody else is where this log's belong.
    fn check(&mut self) -> Result<(), RefillError> {
        let mut foreign = Foreign::default();
        let items: Vec<ItemId> = self.now.items.keys().copied().collect();
        for items in items.chunks(REFILL_ITEMS) {
            self.check_stock(items, &mut foreign)?;
        }
        for item in items {
            self.check_orders(item, &mut foreign)?;
        }
        foreign.judge()
    }

    /// A stock row without books was written by somebody else, unless its numbers are those of the log.
    fn check_stock(&mut self, items: &[ItemId], foreign: &mut Foreign) -> Result<(), RefillError> {
        let (books, rows) = self.database.run(async |store| -> Result<_, ExportError> {
            Ok((store.load_books(items).await?, store.stock_rows(items).await?))
        })?;
        let books: Ledgers = books.into_iter().collect();
        for (item, row) in rows {
            let ours = self.now.items.get(&item).map(|now| now.piles);
            if !books.contains_key(&item) && ours != Some(row.piles) {
                let piles = row.piles;
                foreign.add(|| {
                    format!("stock {item} (count {}, held {}, sale {})", piles.count, piles.held, piles.sale)
                });
            }
        }
        Ok(())
    }

    /// Finds orders of the item whose numbers are not in the log.
    fn check_orders(&mut self, item: ItemId, foreign: &mut Foreign) -> Result<(), RefillError> {
        let number = i64::from(item.get());
        let (mut after, last) = (number << 32, (number << 32) | i64::from(u32::MAX));
        loop {
            let page =
                self.database.run(async |store| store.orders_page(after, last, PREHEAT_PAGE_ORDERS).await)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id;
            for row in &page {
                if self.now.orders.binary_search(&row.id.cast_unsigned()).is_err() {
                    foreign.add(|| format!("order {} of {}", row.id, row.buyer));
                }
            }
        }
    }

    // ---- orders ----

    fn snapshot_orders(&mut self) -> Result<(), RefillError> {
        let (history, by_ms) = (self.history, self.history.snapshot_ms());
        self.batch.reset(Lsn::ZERO);
        let mut failed = None;
        let read = history.snapshot_rows(&mut |row| {
            if let StateRow::Money(money) = row {
                self.batch.restore_money(money);
            }
            let (Some(record), StateRow::Order { key, .. }) = (OrderRecord::of_row(row), row) else {
                return Ok(());
            };
            if self.batch.new.len() >= REFILL_ORDERS {
                // The text is not used: `failed` keeps the error itself.
                self.write_orders().map_err(|error| failed.insert(error).to_string())?;
            }
            self.batch.restore(&record, key, by_ms);
            self.done.without_texts += u64::from(lost_text(&record, key, self.done.from));
            Ok(())
        });
        match (failed, read) {
            (Some(error), _) => Err(error),
            (None, Err(reason)) => Err(RefillError::Snapshot(reason)),
            (None, Ok(())) => self.write_orders(),
        }
    }

    /// Facts have keys and references as text.
    fn later_orders(&mut self) -> Result<(), RefillError> {
        let (history, to) = (self.history, self.done.to);
        let mut facts = history.facts();
        let mut reached = history.snapshot_lsn();
        while reached < to {
            self.batch.reset(reached);
            facts.read(to, REFILL_ORDERS, &mut |lsn, fact| {
                self.batch.add(lsn, fact);
                reached = lsn;
            })?;
            self.write_orders()?;
        }
        Ok(())
    }

    /// Writes the orders of the batch, and empties it.
    fn write_orders(&mut self) -> Result<(), RefillError> {
        let Batch { new, imported, moved, payments, .. } = &self.batch;
        if !(new.is_empty() && imported.is_empty() && moved.is_empty() && payments.is_empty()) {
            let (batch, names) = (&self.batch, &self.names);
            let written = carefully(self.database, &self.key, &async |store, careful| {
                put_orders(store, batch, names, careful).await
            })?;
            self.done.set_aside += written.set_aside.len() as u64;
        }
        self.batch.reset(self.batch.to);
        Ok(())
    }

    // ---- blocklist ----

    fn blocklist(&mut self) -> Result<(), RefillError> {
        let (all, by_hand) = (self.blocked_rows(true)?, self.blocked_rows(false)?);
        let gone = all.iter().filter(|buyer| !self.now.blocked.contains_key(*buyer));
        // Rows written by hand are imported at the next start, and so are rows that another log has left in
        // a database to which this log never wrote.
        let ours = self.done.from > Lsn::ZERO;
        let gone = gone.filter(|buyer| ours && by_hand.binary_search(buyer).is_err());
        let gone: Vec<&str> = gone.map(String::as_str).collect();
        let new = self.now.blocked.iter().filter(|(buyer, _)| all.binary_search(buyer).is_err());
        let new: Vec<BlockedBuyer<'_>> = new
            .map(|(buyer, by)| BlockedBuyer { buyer, actor: &by.actor, since_ms: by.since_ms, lsn: by.lsn })
            .collect();
        let fence = &self.key;
        for buyers in new.chunks(REFILL_ITEMS) {
            let written = carefully(self.database, fence, &async |store, careful| {
                Ok(put_blocked(store, buyers, careful).await?)
            })?;
            self.done.set_aside += written.set_aside.len() as u64;
        }
        for buyers in gone.chunks(REFILL_ITEMS) {
            let to = self.done.to;
            let written = carefully(self.database, fence, &async |store, careful| {
                Ok(remove_blocked(store, buyers, to, careful).await?)
            })?;
            self.done.set_aside += written.set_aside.len() as u64;
        }
        Ok(())
    }

    /// The blocklist in the database, sorted as bytes.
    fn blocked_rows(&mut self, all: bool) -> Result<Vec<String>, RefillError> {
        let (mut rows, mut last) = (Vec::new(), String::new());
        loop {
            let page =
                self.database.run(async |store| store.blocked_page(&last, all, PREHEAT_PAGE_ORDERS).await)?;
            let Some(end) = page.last() else { break };
            last.clone_from(end);
            rows.extend(page);
        }
        rows.sort_unstable();
        Ok(rows)
    }

    // ---- items ----

    fn items(&mut self) -> Result<(), RefillError> {
        let items: Vec<&ItemNow> = self.now.items.values().collect();
        let fence = &self.key;
        for items in items.chunks(REFILL_ITEMS) {
            let to = self.done.to;
            let written = carefully(self.database, fence, &async |store, careful| {
                Ok(put_items(store, items, to, careful).await?)
            })?;
            self.done.set_aside += written.set_aside.len() as u64;
            self.done.paused.extend(written.settled.tampered);
            self.done.void.extend(written.settled.void);
        }
        Ok(())
    }

    // ---- the end ----

    fn finish(&mut self) -> Result<(), RefillError> {
        let Refilled { from, snapshot, to, without_texts, .. } = self.done;
        let end = CursorMove { from, to, chain: self.history.chain()? };
        let note = SetAside {
            lsn: snapshot,
            kind: REFILLED,
            what: format!("after={from} upto={snapshot} orders={without_texts}"),
            reason:
                "this database was filled from a snapshot without idempotency keys and payment references: \
                     those of orders placed or paid after the first LSN, up to the second, are lost"
                    .to_owned(),
            item: None,
            order: None,
        };
        let key = &self.key;
        let done = self.database.run(async |store| {
            transaction(store, Begin::Ordinary, key, async |store| {
                if without_texts > 0 {
                    store.set_aside(&[note]).await?;
                }
                if store.move_cursor(key, &end).await? { Ok(()) } else { Err(TransactionError::Moved) }
            })
            .await
        });
        done.map_err(|part: TransactionError| part.into_refill_error())
    }
}

/// Whether a text of this order is lost: neither in the log nor in a database that ends at `cursor`.
fn lost_text(record: &OrderRecord<'_>, key: &[u8], cursor: Lsn) -> bool {
    let key = record.key_hash != 0 && key.is_empty() && record.lsn > cursor;
    let payment = record.payment_ref_hash != 0 && record.state_lsn > cursor;
    key || payment
}

/// Why a transaction was not committed.
#[derive(Debug)]
enum TransactionError {
    Moved,
    Foreign(Vec<OrderId>),
    Database(ExportError),
}

impl From<ExportError> for TransactionError {
    fn from(error: ExportError) -> Self {
        Self::Database(error)
    }
}

impl TransactionError {
    fn into_refill_error(self) -> RefillError {
        match self {
            Self::Moved => RefillError::Moved,
            Self::Database(error) => RefillError::Database(error),
            Self::Foreign(orders) => {
                let mut foreign = Foreign::default();
                orders.iter().for_each(|order| foreign.add(|| format!("order {order}")));
                RefillError::Foreign { named: foreign.named, total: foreign.total }
            }
        }
    }
}

/// One transaction of the fill; it only commits while the cursor is ours.
async fn transaction<S: Store, T>(
    store: &mut S,
    how: Begin,
    key: &CursorKey,
    work: impl AsyncFnOnce(&mut S) -> Result<T, TransactionError>,
) -> Result<T, TransactionError> {
    store.begin(how).await?;
    // Locked until the commit: nobody can take over the database in between.
    let ours =
        |row: &CursorRow| (&row.log_id, row.epoch, row.nonce) == (&key.log_id, key.epoch, Some(key.nonce));
    let done = match store.lock_cursors().await {
        Ok(rows) if rows.iter().any(ours) => work(store).await,
        Ok(_) => Err(TransactionError::Moved),
        Err(error) => Err(TransactionError::Database(error)),
    };
    match done {
        Ok(done) => {
            store.commit().await?;
            Ok(done)
        }
        Err(part) => {
            // This may fail: the connection may be lost, and the transaction with it.
            let _rolled_back = store.roll_back().await;
            Err(part)
        }
    }
}

/// One transaction of the fill. If the database refuses a row, it is done again in the careful way: that
/// row is set aside, the rest is written.
fn carefully<C: Connect, T>(
    database: &mut Database<C>,
    key: &CursorKey,
    work: &impl AsyncFn(&mut C::Store, bool) -> Result<T, TransactionError>,
) -> Result<T, RefillError> {
    let mut attempt = |how: Begin| {
        let careful = how == Begin::Careful;
        database
            .run(async |store| transaction(store, how, key, async |store| work(store, careful).await).await)
    };
    match attempt(Begin::Ordinary) {
        Err(TransactionError::Database(ExportError::RowRefused(_))) => attempt(Begin::Careful),
        other => other,
    }
    .map_err(TransactionError::into_refill_error)
}

async fn put_blocked(
    store: &mut impl Store,
    buyers: &[BlockedBuyer<'_>],
    careful: bool,
) -> Result<Written, ExportError> {
    let mut written = Written::default();
    if !careful {
        store.block(buyers).await?;
        return Ok(written);
    }
    for row in buyers {
        let one = std::slice::from_ref(row);
        if let Err(reason) = attempt(store, async |store| store.block(one).await).await? {
            written.set_aside.push(blocked_aside(row.lsn, row.buyer, true, reason));
        }
    }
    write_set_aside(store, &written.set_aside, careful).await?;
    Ok(written)
}

async fn remove_blocked(
    store: &mut impl Store,
    buyers: &[&str],
    lsn: Lsn,
    careful: bool,
) -> Result<Written, ExportError> {
    let mut written = Written::default();
    if !careful {
        store.unblock(buyers).await?;
        return Ok(written);
    }
    for buyer in buyers {
        let one = std::slice::from_ref(buyer);
        if let Err(reason) = attempt(store, async |store| store.unblock(one).await).await? {
            written.set_aside.push(blocked_aside(lsn, buyer, false, reason));
        }
    }
    write_set_aside(store, &written.set_aside, careful).await?;
    Ok(written)
}

async fn put_orders<S: Store>(
    store: &mut S,
    batch: &Batch,
    names: &Ledgers,
    careful: bool,
) -> Result<Written, TransactionError> {
    let mut written = Written::default();
    let payments = batch.payment_rows();
    if careful {
        for rows in [&batch.new, &batch.imported] {
            let rows = (batch, &**rows, names);
            isolate(store, rows, "order", &mut written, async |store: &mut S, orders, written| {
                put_new(store, orders, written).await
            })
            .await?;
        }
        move_carefully(store, batch, names, &mut written).await?;
        put_payments_carefully(store, &payments, &mut written).await?;
    } else {
        put_new(store, Orders::new(batch, &batch.new, names), &mut written).await?;
        put_new(store, Orders::new(batch, &batch.imported, names), &mut written).await?;
        update(store, batch, Orders::new(batch, &batch.moved, names), &mut written).await?;
        put_payments(store, &payments, &mut written).await?;
    }
    write_set_aside(store, &written.set_aside, false).await?;
    if written.replaced.is_empty() { Ok(written) } else { Err(TransactionError::Foreign(written.replaced)) }
}

/// Rows of other orders are returned in `replaced`, which must stay empty here.
async fn put_new(
    store: &mut impl Store,
    orders: Orders<'_>,
    written: &mut Written,
) -> Result<(), ExportError> {
    if orders.is_empty() {
        return Ok(());
    }
    let mut foreign = store.refill_orders(orders).await?;
    written.replaced.append(&mut foreign);
    Ok(())
}

/// Brings books and stock rows to the final state. What somebody else has edited since the exporter
/// left a row is treated as in a batch: adopted, or the item has to stop.
async fn put_items(
    store: &mut impl Store,
    items: &[&ItemNow],
    lsn: Lsn,
    careful: bool,
) -> Result<Written, ExportError> {
    let (mut written, mut stand_ins) = (Written::default(), HashMap::new());
    if careful {
        for now in items {
            let spec = (now.item, now.spec());
            if let Some(name) = put_spec_carefully(store, lsn, spec, &mut written).await? {
                stand_ins.insert(now.item, name);
            }
        }
    } else {
        let specs: Vec<_> = items.iter().map(|now| (now.item, now.spec())).collect();
        store.put_specs(&specs).await?;
    }
    let ids: Vec<ItemId> = items.iter().map(|now| now.item).collect();
    let mut ledgers = Ledgers::new();
    settle::load(store, &mut ledgers, &ids).await?;
    for now in items {
        let mut ledger = now.ledger();
        ledger.row = ledgers.get(&now.item).and_then(|ledger| ledger.row);
        ledger.name = stand_ins.remove(&now.item).unwrap_or(ledger.name);
        ledgers.insert(now.item, ledger);
    }
    if careful {
        for item in &ids {
            settle_carefully(store, &mut ledgers, *item, lsn, Touch::All, &mut written).await?;
        }
    } else {
        settle::settle(store, &mut ledgers, &ids, Touch::All, &mut written.settled).await?;
    }
    set_aside_rows(&ledgers, &mut written, |_| lsn);
    settle::note_reasons(store, &written.settled).await?;
    write_set_aside(store, &written.set_aside, careful).await?;
    Ok(written)
}

/// Rows that are not this log's, in words.
#[derive(Default)]
struct Foreign {
    named: String,
    total: usize,
}

impl Foreign {
    fn add(&mut self, words: impl FnOnce() -> String) {
        self.total += 1;
        if self.total <= REFILL_NAMED_MAX {
            let joint = if self.named.is_empty() { "" } else { ", " };
            let _infallible = write!(self.named, "{joint}{}", words());
        }
    }

    fn judge(self) -> Result<(), RefillError> {
        match self.total {
            0 => Ok(()),
            total => Err(RefillError::Foreign { named: self.named, total }),
        }
    }
}
