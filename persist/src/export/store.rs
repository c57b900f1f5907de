//! What the export asks of a database, in its own words: the seam under its logic.
//!
//! The logic (batches, books, attaching, preheating) decides; a [`Store`] reads and writes
//! rows and decides nothing. The product's store is [`super::postgres`]; the tests have one
//! in memory, so that the same machine runs there without a server, a thread or a timer.
//! No SQL and no client of a database may be named on this side of it.

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

/// How to come to a database, and what the export needs of the world besides: the time, the
/// word to stop, and something that waits for an answer.
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

    /// Drives calls to their end, within one time limit for all of them.
    ///
    /// # Errors
    /// The work's own, [`ExportError::Stalled`] past the limit, [`ExportError::Stopping`] on a
    /// stop. After the latter two the connection is in an unknown state and has to be dropped.
    fn run<T, E: From<ExportError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E>;
}

/// What a database is like, as far as the export cannot work with any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Traits {
    /// 150004 is 15.4.
    pub version: i32,
    /// The encoding in which it keeps texts, by Postgres's name.
    pub encoding: String,
    /// Tables of ours that are not plain durable tables, with what they are.
    pub odd_tables: Vec<(String, String)>,
}

/// What a connection goes over, as far as an operator should know.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Wire {
    /// Orders and buyers go over a network in clear text.
    pub clear: bool,
    /// A pooler or a proxy stands in between.
    pub pooler: bool,
}

/// How a transaction begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// To write, and to see what others have committed by the time of each call.
    Ordinary,
    /// The same; whatever the database would only check at the commit is checked at each call,
    /// so that a refusal names its row.
    Careful,
    /// To read, everything as of one moment.
    Snapshot,
}

/// Who may move a cursor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CursorKey {
    /// The log, in hexadecimal digits.
    pub log_id: String,
    /// The epoch that the database has given.
    pub epoch: u64,
    /// The process to which it was given.
    pub nonce: Nonce,
}

/// A row of `stampede_cursor`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CursorRow {
    /// The log, in hexadecimal digits.
    pub log_id: String,
    /// Grows by one with each process that takes over.
    pub epoch: u64,
    /// The process that may write; `None` = one of a program that drew no such number.
    pub nonce: Option<Nonce>,
    /// The last exported LSN.
    pub lsn: Lsn,
    /// The hash of the log's block that holds it; `None` = not known.
    pub chain: Option<ChainHash>,
    /// When it was given to a process or moved last, by the database's clock: microseconds since 1970.
    pub touched_us: i64,
}

/// What a process gets with a cursor.
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

/// Where a batch leads from and to.
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
    /// Who said so.
    pub actor: &'a str,
    /// Since when.
    pub since_ms: UnixMillis,
    /// The fact.
    pub lsn: Lsn,
}

/// A row that was refused for its own sake, for `stampede_set_aside`.
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
    /// For a stock row that is to be left alone for a while: its item.
    pub item: Option<ItemId>,
    /// For an order under whose id somebody else's row stands: that id.
    pub order: Option<OrderId>,
}

/// What became of orders that were written as new.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Inserted {
    /// Those whose row was there already and was written anew, in any order.
    pub replaced: Vec<OrderId>,
    /// Those under whose id somebody else's row stands, in any order: it was left as it is.
    pub foreign: Vec<OrderId>,
    /// Those that the database took without a word and did not write, in any order.
    pub swallowed: Vec<OrderId>,
}

/// What became of orders that were to be updated.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Updated {
    /// Those that have no row of this item, or were set aside because somebody else's row stands under
    /// their id, in any order.
    pub missing: Vec<OrderId>,
    /// Those whose row is there and was left as it was without a word, in any order.
    pub swallowed: Vec<OrderId>,
}

/// An item that a sweep brought up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swept {
    /// Which.
    pub item: ItemId,
    /// Its row is not as it was left, or not as it should be.
    pub dirty: bool,
    /// What the engine has not answered yet.
    pub outside: i64,
    /// The version at which its row was left; 0 = never written.
    pub row_version: i64,
    /// Why it has to stop, if the engine has not confirmed that yet.
    pub pause_reason: Option<String>,
}

/// A whole row of `stock`, as anybody may have written it: nothing is checked yet.
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
    /// A column is NULL, since somebody has dropped its NOT NULL; the value above is nothing then.
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
/// the connection is of no more use; what it had not committed is void. Whether a commit that
/// was not answered came about, only the cursor tells.
#[expect(async_fn_in_trait, reason = "driven where it is made, by Connect::run; nothing has to be sent")]
pub trait Store {
    /// What the connection goes over.
    fn wire(&self) -> Wire {
        Wire::default()
    }

    /// Begins a transaction.
    async fn begin(&mut self, how: Begin) -> Result<(), ExportError>;
    /// Commits it: everything in it is there, or nothing.
    async fn commit(&mut self) -> Result<(), ExportError>;
    /// Ends it without a trace.
    async fn roll_back(&mut self) -> Result<(), ExportError>;
    /// Sets the one savepoint. Savepoints are not nested.
    async fn savepoint(&mut self) -> Result<(), ExportError>;
    /// Drops the savepoint; what was done since stays.
    async fn release_savepoint(&mut self) -> Result<(), ExportError>;
    /// Undoes what was done since the savepoint, and drops it.
    async fn roll_back_to_savepoint(&mut self) -> Result<(), ExportError>;

    /// What it is like.
    async fn traits(&mut self) -> Result<Traits, ExportError>;
    /// The version of the tables; 0 = there are none.
    async fn schema_version(&mut self) -> Result<i32, ExportError>;
    /// Waits until nobody else is migrating, and keeps others from it until the end of the transaction.
    async fn lock_migrations(&mut self) -> Result<(), ExportError>;
    /// The name of a table that is there although ours of this version (0 = none) are not that far.
    async fn table_in_the_way(&mut self, found: i32) -> Result<Option<String>, ExportError>;
    /// Makes the row that says which version the tables have, and draws the database's identity.
    async fn make_identity(&mut self) -> Result<(), ExportError>;
    /// Brings the tables from version `from` to the next; the row still says `from` then.
    async fn migrate_step(&mut self, from: i32) -> Result<(), ExportError>;
    /// Notes the version of the tables.
    async fn set_schema_version(&mut self, version: i32) -> Result<(), ExportError>;

    /// Keeps others from attaching until the end of the transaction. Batches are not held up.
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
    /// Whether the cursor is still this process's, and where it left it.
    async fn holds_cursor(&mut self, key: &CursorKey, left: Lsn) -> Result<bool, ExportError>;

    /// The books of those of these items that have any, in any order.
    async fn load_books(&mut self, items: &[ItemId]) -> Result<Vec<(ItemId, Ledger)>, ExportError>;
    /// Notes the settings of items; one without books gets empty ones.
    async fn put_specs(&mut self, specs: &[(ItemId, ItemSpec<'_>)]) -> Result<(), ExportError>;
    /// Makes books out of the stock rows of those of these items that have a row and no books.
    async fn recover_books(&mut self, items: &[ItemId]) -> Result<(), ExportError>;
    /// The stock rows of those of these items that have one, in any order.
    async fn stock_rows(&mut self, items: &[ItemId]) -> Result<Vec<(ItemId, StockRow)>, ExportError>;
    /// The same, locked until the end of the transaction, without those that others hold locked.
    async fn lock_stock_rows(&mut self, items: &[ItemId]) -> Result<Vec<(ItemId, StockRow)>, ExportError>;
    /// Enters the books of items, and writes, with the next version, the stock row of each that
    /// is still as the books left it and that nobody holds locked. Returns, for each item that has
    /// books, in any order, the version written, or `None` if its row was left out.
    async fn settle(
        &mut self,
        books: &[(ItemId, &Ledger)],
    ) -> Result<Vec<(ItemId, Option<i64>)>, ExportError>;
    /// Enters the books of items and leaves their stock rows alone.
    async fn enter_books(&mut self, books: &[(ItemId, &Ledger)]) -> Result<(), ExportError>;
    /// Makes the stock rows of items out of their books and enters them as left, where there is
    /// none yet. Returns the version of each row made, in any order.
    async fn make_stock_rows(&mut self, items: &[ItemId]) -> Result<Vec<(ItemId, i64)>, ExportError>;
    /// Notes why items have to stop until the engine has confirmed it; each item at most once.
    async fn note_pauses(&mut self, reasons: &[(ItemId, &str)]) -> Result<(), ExportError>;
    /// The engine has switched these items.
    async fn clear_pauses(&mut self, items: &[ItemId]) -> Result<(), ExportError>;

    /// Writes many new orders fast; one that is there already is refused, and so is all of it if
    /// fewer rows were written than sent.
    async fn copy_orders(&mut self, orders: Orders<'_>) -> Result<(), ExportError>;
    /// Writes new orders. A row that is there already is written anew if it is the engine's row of
    /// this order (it has an LSN, and the same item, buyer, units and time of creation), and left as it is
    /// otherwise.
    async fn insert_orders(&mut self, orders: Orders<'_>) -> Result<Inserted, ExportError>;
    /// Writes orders whose facts the log no longer holds. One that is there is brought to its state
    /// here, unless it is as new; a key or a reference that is known there stays. Returns those
    /// that are there and are another order (item, buyer, units or time of creation differ), in any
    /// order: they were left as they are.
    async fn refill_orders(&mut self, orders: Orders<'_>) -> Result<Vec<OrderId>, ExportError>;
    /// Writes state, time of change, deadline and payment reference (where there is one) of orders.
    async fn update_orders(&mut self, orders: Orders<'_>) -> Result<Updated, ExportError>;
    /// Writes what was told of money. A row that is there already stays as it is.
    async fn put_payments(&mut self, rows: &[PaymentRow<'_>]) -> Result<PaymentsPut, ExportError>;
    /// Enters buyers in the blocklist, anew where they are in it: an entry made by hand says the same,
    /// and is the engine's from then on. Refused if one of them was not written.
    async fn block(&mut self, buyers: &[BlockedBuyer<'_>]) -> Result<(), ExportError>;
    /// Strikes buyers, given as text, off the blocklist. Refused if one of them is still there.
    async fn unblock(&mut self, buyers: &[&str]) -> Result<(), ExportError>;
    /// Keeps rows that were refused; a stock row that is kept with the same reason is not kept again.
    async fn set_aside(&mut self, rows: &[SetAside]) -> Result<(), ExportError>;

    /// At most `items_max` items whose row is not as it was left or not as the books say, that
    /// have a difference without an answer, or a reason to stop: the first of these first, by item.
    async fn sweep(&mut self, items_max: i64) -> Result<Vec<Swept>, ExportError>;

    /// Blocked buyers as text after this one, in the database's own order; without `all` only those
    /// that no engine has written.
    async fn blocked_page(
        &mut self,
        after: &str,
        all: bool,
        buyers_max: i64,
    ) -> Result<Vec<String>, ExportError>;
    /// Rows of `stock` from this id on, by id.
    async fn stock_page(&mut self, from: i64, rows_max: i64) -> Result<Vec<StockRecord>, ExportError>;
    /// Those of these items that have orders.
    async fn items_with_orders(&mut self, items: &[ItemId]) -> Result<Vec<ItemId>, ExportError>;
    /// Orders after one id, up to and with another, by id.
    async fn orders_page(
        &mut self,
        after: i64,
        last: i64,
        rows_max: i64,
    ) -> Result<Vec<OrderRecord>, ExportError>;
    /// Items that are named by an order whose own id is not one of that item's, or whose id names
    /// them although it is of another; each with the first such order.
    async fn muddled_items(&mut self) -> Result<Vec<(i64, i64)>, ExportError>;
}
