//! The database as the export sees it: a trait with all calls that the export needs.
//!
//! The logic (batches, books, attaching, preheating) decides; a [`Store`] reads and writes
//! rows and decides nothing. The product's store is [`super::postgres`]; the tests have one
//! in memory, so that the same code runs there without a server, a thread or a timer. The
//! users of this trait must not name SQL or a database client.

use std::future::Future;
use std::time::Instant;

use stampede_core::item::ItemSpec;
use stampede_core::types::{ItemId, Lsn, OrderId, UnixMillis};

pub use super::batch::Piles;
use super::claim::{Claim, DatabaseId, Nonce};
use super::error::ExportError;
pub use super::ledger::{Ledger, StockRow};
pub use super::orders::{Order, Orders, OrdersIter};
pub use super::payments::{PaymentRow, PaymentsPut};
use crate::log::block::ChainHash;

/// How to connect to a database, and what else the export needs from outside: the time, the stop
/// signal, and a driver for its calls.
pub trait Connect {
    /// A connection.
    type Store: Store;

    /// The monotonic time. It alone decides when something is tried again.
    fn now(&self) -> Instant;

    /// Whether the exporter was told to stop.
    fn stopping(&self) -> bool;

    /// Makes a connection. Blocks, with a limit of its own.
    ///
    /// # Errors
    /// [`ExportError`] says what is wrong and what to do.
    fn connect(&mut self) -> Result<Self::Store, ExportError>;

    /// Drives calls to their end, with one time limit for all of them.
    ///
    /// # Errors
    /// The work's own, [`ExportError::Stalled`] after the limit, [`ExportError::Stopping`] on a
    /// stop. After these two the connection is in an unknown state and has to be dropped.
    fn run<T, E: From<ExportError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E>;
}

/// The properties of a database on which it depends whether the export can use it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Traits {
    /// 150004 is 15.4.
    pub version: i32,
    /// Its encoding of text, by Postgres's name.
    pub encoding: String,
    /// Our tables that are not plain durable tables, and what they are.
    pub odd_tables: Vec<(String, String)>,
}

/// The path of a connection, as far as an operator should know.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Wire {
    /// Orders and buyers go over a network in clear text.
    pub clear: bool,
    /// A pooler or a proxy is in between.
    pub pooler: bool,
}

/// How a transaction begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// To write, and to see what others have committed by the time of each call.
    Ordinary,
    /// The same; but checks that the database would make at the commit are made at each call, so
    /// that a refusal shows its row.
    Careful,
    /// To read, everything as of one moment.
    Snapshot,
}

/// Who may move a cursor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CursorKey {
    /// The log, in hexadecimal digits.
    pub log_id: String,
    /// The epoch that the database has given to the process.
    pub epoch: u64,
    /// The process.
    pub nonce: Nonce,
}

/// A row of `stampede_cursor`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CursorRow {
    /// The log, in hexadecimal digits.
    pub log_id: String,
    /// Grows by one with each process that takes over.
    pub epoch: u64,
    /// The process that may write; `None` = an older program without nonces.
    pub nonce: Option<Nonce>,
    /// The last exported LSN.
    pub lsn: Lsn,
    /// The hash of the log's block that holds it; `None` = not known.
    pub chain: Option<ChainHash>,
    /// When it was given to a process or moved last, by the database's clock: microseconds since 1970.
    pub touched_us: i64,
}

/// What a process gets when it takes a cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Given {
    /// The epoch under which it may write.
    pub epoch: u64,
    /// When it was given, by the database's clock: microseconds since 1970.
    pub since_us: i64,
}

impl Given {
    pub(super) const fn at(self, left: Lsn) -> Claim {
        Claim { epoch: self.epoch, since_us: self.since_us, left }
    }
}

/// The cursor's move in a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CursorMove {
    /// Where the cursor has to be.
    pub from: Lsn,
    /// Where it goes.
    pub to: Lsn,
    /// The hash of the log's block that holds `to`.
    pub chain: ChainHash,
}

/// A buyer who may not buy, for `stampede_blocked`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockedBuyer<'a> {
    /// The subject as text, see [`super::text`].
    pub buyer: &'a str,
    /// Who blocked the buyer.
    pub actor: &'a str,
    /// Since when.
    pub since_ms: UnixMillis,
    /// The fact.
    pub lsn: Lsn,
}

/// A refused row, for `stampede_set_aside`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetAside {
    /// The fact that made the row.
    pub lsn: Lsn,
    /// `order`, `order_move`, `payment`, `stock`, `item` or `blocked`.
    pub kind: &'static str,
    /// The row, as text.
    pub what: String,
    /// What the database said.
    pub reason: String,
    /// For a stock row, which is then not touched for a while: its item.
    pub item: Option<ItemId>,
    /// For an order whose id a row of somebody else has: that id.
    pub order: Option<OrderId>,
}

/// The special cases among inserted orders, each list in any order.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Inserted {
    /// Orders whose row existed already and was written again.
    pub replaced: Vec<OrderId>,
    /// Orders whose id a row of somebody else has; it was left as it is.
    pub foreign: Vec<OrderId>,
    /// Orders that the database accepted without an error and did not write.
    pub swallowed: Vec<OrderId>,
}

/// The special cases among updated orders, each list in any order.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Updated {
    /// Orders without a row of this item, or set aside because a row of somebody else has their id.
    pub missing: Vec<OrderId>,
    /// Orders whose row exists and was not changed, without an error.
    pub swallowed: Vec<OrderId>,
}

/// An item that a sweep found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swept {
    /// Which.
    pub item: ItemId,
    /// Its row is not as the exporter left it, or not as the books say.
    pub dirty: bool,
    /// The difference that the engine has not answered yet.
    pub outside: i64,
    /// The version of its row as the exporter left it; 0 = never written.
    pub row_version: i64,
    /// Why it has to stop, if the engine has not confirmed that yet.
    pub pause_reason: Option<String>,
}

/// A whole row of `stock`, which anybody may have written: nothing is checked yet.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "named after the columns, which the migration describes")]
pub struct StockRecord {
    pub id: i64,
    pub name: String,
    pub piles: Piles,
    pub price_minor: i64,
    pub currency: String,
    pub opens_at_ms: i64,
    pub closes_at_ms: i64,
    pub cap: i32,
    pub payment: String,
    pub hold_ms: i64,
    pub ticket: String,
    pub challenge: String,
    pub min_level: i32,
    pub min_account_age_s: i64,
    pub admit_per_s: i64,
    pub paused: bool,
    pub closed: bool,
    pub ended: bool,
    /// A column is NULL, because somebody has dropped its NOT NULL; its field above is then empty.
    pub has_null: bool,
}

/// What preheating reads of a row of `stock_order`: nothing is checked yet.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "named after the columns, which the migration describes")]
pub struct OrderRecord {
    pub id: i64,
    pub quantity: i32,
    pub state: String,
    /// Milliseconds since 1970, like every time here; -1 = not a finite time.
    pub create_time_ms: i64,
    /// 0 = none.
    pub pay_by_ms: i64,
    pub buyer: String,
    /// Empty = none, as below.
    pub idem_key: String,
    pub payment_ref: String,
    /// With an empty currency: not known.
    pub price_minor: i64,
    pub currency: String,
    pub refund_ref: String,
    pub refunded: i32,
    /// As in [`StockRecord`].
    pub has_null: bool,
}

/// One connection to a database. Each method is one call to it.
///
/// After [`ExportError::RowRefused`], [`ExportError::Locked`] or [`ExportError::Conflict`] in a
/// transaction only a rollback, whole or to the savepoint, may follow. After any other error
/// the connection cannot be used any more; what it had not committed is lost. If a commit was
/// not answered, only the cursor shows whether it happened.
#[expect(async_fn_in_trait, reason = "Connect::run drives it on the same thread; nothing has to be Send")]
pub trait Store {
    /// The path of the connection.
    fn wire(&self) -> Wire {
        Wire::default()
    }

    /// Begins a transaction.
    async fn begin(&mut self, how: Begin) -> Result<(), ExportError>;
    /// Commits it: all of it, or nothing.
    async fn commit(&mut self) -> Result<(), ExportError>;
    /// Ends it without a trace.
    async fn roll_back(&mut self) -> Result<(), ExportError>;
    /// Sets the one savepoint. Savepoints are not nested.
    async fn savepoint(&mut self) -> Result<(), ExportError>;
    /// Drops the savepoint and keeps what was done since.
    async fn release_savepoint(&mut self) -> Result<(), ExportError>;
    /// Undoes what was done since the savepoint, and drops it.
    async fn roll_back_to_savepoint(&mut self) -> Result<(), ExportError>;

    /// The properties of the database.
    async fn traits(&mut self) -> Result<Traits, ExportError>;
    /// The version of the tables; 0 = there are none.
    async fn schema_version(&mut self) -> Result<i32, ExportError>;
    /// Waits until nobody else is migrating, and keeps others from it until the end of the transaction.
    async fn lock_migrations(&mut self) -> Result<(), ExportError>;
    /// The name of an existing table that only a later version than `found` (0 = none) would create.
    async fn table_in_the_way(&mut self, found: i32) -> Result<Option<String>, ExportError>;
    /// Makes the row with the version of the tables, and draws the database's identity.
    async fn make_identity(&mut self) -> Result<(), ExportError>;
    /// Brings the tables from version `from` to the next; the row still says `from` after that.
    async fn migrate_step(&mut self, from: i32) -> Result<(), ExportError>;
    /// Records the version of the tables.
    async fn set_schema_version(&mut self, version: i32) -> Result<(), ExportError>;

    /// Keeps others from attaching until the end of the transaction. Batches do not wait for it.
    async fn lock_attaching(&mut self) -> Result<(), ExportError>;
    /// Which database this is; `None` = the row is gone.
    async fn identity(&mut self) -> Result<Option<DatabaseId>, ExportError>;
    /// All cursors by log, locked until the end of the transaction.
    async fn lock_cursors(&mut self) -> Result<Vec<CursorRow>, ExportError>;
    /// Empties the books of all items.
    async fn clear_books(&mut self) -> Result<(), ExportError>;
    /// Makes a cursor at [`Lsn::ZERO`] for this process.
    async fn make_cursor(&mut self, log_id: &str, nonce: Nonce) -> Result<Given, ExportError>;
    /// Gives the log's cursor to this process, under the epoch after the row's and after `above`.
    async fn take_cursor(&mut self, log_id: &str, nonce: Nonce, above: u64) -> Result<Given, ExportError>;
    /// Moves the cursor; `false` = it is not at `from`, or not this process's, and nothing moved.
    async fn move_cursor(&mut self, key: &CursorKey, to: &CursorMove) -> Result<bool, ExportError>;
    /// Whether the cursor is still this process's and still at `left`.
    async fn holds_cursor(&mut self, key: &CursorKey, left: Lsn) -> Result<bool, ExportError>;

    /// The books of these items, in any order; items without books are left out.
    async fn load_books(&mut self, items: &[ItemId]) -> Result<Vec<(ItemId, Ledger)>, ExportError>;
    /// Writes the settings of items; an item without books gets empty ones.
    async fn put_specs(&mut self, specs: &[(ItemId, ItemSpec<'_>)]) -> Result<(), ExportError>;
    /// Makes books from the stock row, for each of these items that has a row and no books.
    async fn recover_books(&mut self, items: &[ItemId]) -> Result<(), ExportError>;
    /// The stock rows of these items, in any order; items without a row are left out.
    async fn stock_rows(&mut self, items: &[ItemId]) -> Result<Vec<(ItemId, StockRow)>, ExportError>;
    /// The same, locked until the end of the transaction; rows that others have locked are left out.
    async fn lock_stock_rows(&mut self, items: &[ItemId]) -> Result<Vec<(ItemId, StockRow)>, ExportError>;
    /// Enters the books of items, and writes with the next version each of their stock rows that is
    /// still as the books left it and that nobody else has locked. Returns for each item with books,
    /// in any order, the version written, or `None` if its row was left out.
    async fn settle(
        &mut self,
        books: &[(ItemId, &Ledger)],
    ) -> Result<Vec<(ItemId, Option<i64>)>, ExportError>;
    /// Enters the books of items and does not touch their stock rows.
    async fn enter_books(&mut self, books: &[(ItemId, &Ledger)]) -> Result<(), ExportError>;
    /// Makes missing stock rows of items from their books, and enters them as left. Returns the
    /// version of each new row, in any order.
    async fn make_stock_rows(&mut self, items: &[ItemId]) -> Result<Vec<(ItemId, i64)>, ExportError>;
    /// Records why items have to stop, until the engine has confirmed it; each item at most once.
    async fn note_pauses(&mut self, reasons: &[(ItemId, &str)]) -> Result<(), ExportError>;
    /// The engine has switched these items.
    async fn clear_pauses(&mut self, items: &[ItemId]) -> Result<(), ExportError>;

    /// Writes many new orders fast. Refused if one of them exists already, or if fewer rows were
    /// written than sent.
    async fn copy_orders(&mut self, orders: Orders<'_>) -> Result<(), ExportError>;
    /// Writes new orders. An existing row is written again if it is the engine's row of this order
    /// (it has an LSN, and the same item, buyer, units and time of creation), otherwise left as it is.
    async fn insert_orders(&mut self, orders: Orders<'_>) -> Result<Inserted, ExportError>;
    /// Writes orders whose facts the log no longer holds. An older row is updated; a key or a
    /// reference in it stays if it is not known here. Returns, in any order, those whose row is of
    /// another order (item, buyer, units or time of creation differ): it was left as it is.
    async fn refill_orders(&mut self, orders: Orders<'_>) -> Result<Vec<OrderId>, ExportError>;
    /// Writes state, time of change, deadline and payment reference (where there is one) of orders.
    async fn update_orders(&mut self, orders: Orders<'_>) -> Result<Updated, ExportError>;
    /// Writes late payments and refunds. An existing row stays as it is.
    async fn put_payments(&mut self, rows: &[PaymentRow<'_>]) -> Result<PaymentsPut, ExportError>;
    /// Enters buyers in the blocklist; existing entries, also those made by hand, are overwritten and
    /// become the engine's. Refused if one of them was not written.
    async fn block(&mut self, buyers: &[BlockedBuyer<'_>]) -> Result<(), ExportError>;
    /// Removes buyers, given as text, from the blocklist. Refused if one of them is still there.
    async fn unblock(&mut self, buyers: &[&str]) -> Result<(), ExportError>;
    /// Keeps refused rows; a stock row that is kept with the same reason already is not kept again.
    async fn set_aside(&mut self, rows: &[SetAside]) -> Result<(), ExportError>;

    /// At most `items_max` items whose row is not as it was left or not as the books say, that have a
    /// difference without an answer, or that have a reason to stop: the former first, then by item.
    async fn sweep(&mut self, items_max: i64) -> Result<Vec<Swept>, ExportError>;

    /// Blocked buyers as text after this one, in the database's order; without `all` only those that
    /// were entered by hand.
    async fn blocked_page(
        &mut self,
        after: &str,
        all: bool,
        buyers_max: i64,
    ) -> Result<Vec<String>, ExportError>;
    /// Rows of `stock` from this id on, by id.
    async fn stock_page(&mut self, from: i64, rows_max: i64) -> Result<Vec<StockRecord>, ExportError>;
    /// The items among these that have orders.
    async fn items_with_orders(&mut self, items: &[ItemId]) -> Result<Vec<ItemId>, ExportError>;
    /// Orders after the id `after` up to and including `last`, by id.
    async fn orders_page(
        &mut self,
        after: i64,
        last: i64,
        rows_max: i64,
    ) -> Result<Vec<OrderRecord>, ExportError>;
    /// Items with an order whose id belongs to another item, and items whose id such an order has;
    /// each with the first of these orders.
    async fn mismatched_items(&mut self) -> Result<Vec<(i64, i64)>, ExportError>;
}
