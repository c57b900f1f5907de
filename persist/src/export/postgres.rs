//! Postgres as the export's store: all its SQL, and no decisions.
//!
//! ```text
//! postgres.rs          which statement implements which call of the `Store`
//! postgres/session.rs  tables, identity, cursor
//! postgres/stock.rs    books and stock rows
//! postgres/orders.rs   orders and the blocklist; rows.rs: their binary format
//! postgres/payments.rs late payments and refunds
//! postgres/pages.rs    what preheating reads
//! ```
//!
//! The connection itself is in [`super::link`], the trait in [`super::store`].

use std::future::Future;
use std::time::Instant;

use stampede_core::item::ItemSpec;
use stampede_core::types::{ItemId, Lsn, OrderId};
use tokio::sync::watch;

use super::claim::{DatabaseId, Nonce};
use super::error::ExportError;
use super::link::{ConnectOptions, Link, Runner};
use super::store::{
    Begin, BlockedBuyer, Connect, CursorKey, CursorMove, CursorRow, Given, Inserted, Ledger, OrderRecord,
    Orders, PaymentRow, PaymentsPut, SetAside, StockRecord, StockRow, Store, Swept, Traits, Updated, Wire,
};

mod orders;
mod pages;
mod payments;
mod rows;
mod session;
mod stock;

pub(super) use session::MIGRATIONS;

/// How to connect to a Postgres database, with the runtime that drives its calls.
#[derive(Debug)]
pub struct Postgres {
    options: ConnectOptions,
    runner: Runner,
}

impl Postgres {
    /// Checks the options; does not connect.
    ///
    /// # Errors
    /// [`ExportError::BadUrl`], or no memory for the runtime.
    pub fn new(options: ConnectOptions) -> Result<Self, ExportError> {
        options.target()?;
        let runner = Runner::new(options.call_wait_max)?;
        Ok(Self { options, runner })
    }

    /// The sender that ends every call, now and later.
    pub(super) fn stopper(&self) -> watch::Sender<bool> {
        self.runner.stopper()
    }
}

impl Connect for Postgres {
    type Store = Link;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn stopping(&self) -> bool {
        self.runner.stopping()
    }

    fn connect(&mut self) -> Result<Link, ExportError> {
        self.runner.connect(&self.options)
    }

    fn run<T, E: From<ExportError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.runner.run(work)
    }
}

impl Store for Link {
    fn wire(&self) -> Wire {
        Self::wire(self)
    }

    async fn begin(&mut self, how: Begin) -> Result<(), ExportError> {
        Self::begin(self, session::begin(how)).await
    }
    async fn commit(&mut self) -> Result<(), ExportError> {
        self.execute_batch("COMMIT").await
    }
    async fn roll_back(&mut self) -> Result<(), ExportError> {
        self.execute_batch("ROLLBACK").await
    }
    async fn savepoint(&mut self) -> Result<(), ExportError> {
        self.execute_batch("SAVEPOINT part").await
    }
    async fn release_savepoint(&mut self) -> Result<(), ExportError> {
        self.execute_batch("RELEASE SAVEPOINT part").await
    }
    async fn roll_back_to_savepoint(&mut self) -> Result<(), ExportError> {
        self.execute_batch("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part").await
    }

    async fn traits(&mut self) -> Result<Traits, ExportError> {
        session::traits(self).await
    }
    async fn schema_version(&mut self) -> Result<i32, ExportError> {
        session::schema_version(self).await
    }
    async fn lock_migrations(&mut self) -> Result<(), ExportError> {
        session::lock_migrations(self).await
    }
    async fn table_in_the_way(&mut self, found: i32) -> Result<Option<String>, ExportError> {
        session::table_in_the_way(self, found).await
    }
    async fn make_identity(&mut self) -> Result<(), ExportError> {
        self.execute_batch(session::IDENTITY).await
    }
    async fn migrate_step(&mut self, from: i32) -> Result<(), ExportError> {
        session::migrate_step(self, from).await
    }
    async fn set_schema_version(&mut self, version: i32) -> Result<(), ExportError> {
        session::set_schema_version(self, version).await
    }

    async fn lock_attaching(&mut self) -> Result<(), ExportError> {
        self.execute_batch("LOCK TABLE stampede_schema IN SHARE ROW EXCLUSIVE MODE").await
    }
    async fn identity(&mut self) -> Result<Option<DatabaseId>, ExportError> {
        session::identity(self).await
    }
    async fn lock_cursors(&mut self) -> Result<Vec<CursorRow>, ExportError> {
        session::lock_cursors(self).await
    }
    async fn clear_books(&mut self) -> Result<(), ExportError> {
        self.execute_batch("DELETE FROM stampede_item").await
    }
    async fn make_cursor(&mut self, log_id: &str, nonce: Nonce) -> Result<Given, ExportError> {
        session::make_cursor(self, log_id, nonce).await
    }
    async fn take_cursor(&mut self, log_id: &str, nonce: Nonce, above: u64) -> Result<Given, ExportError> {
        session::take_cursor(self, log_id, nonce, above).await
    }
    async fn move_cursor(&mut self, key: &CursorKey, to: &CursorMove) -> Result<bool, ExportError> {
        session::move_cursor(self, key, to).await
    }
    async fn holds_cursor(&mut self, key: &CursorKey, left: Lsn) -> Result<bool, ExportError> {
        session::holds_cursor(self, key, left).await
    }

    async fn load_books(&mut self, items: &[ItemId]) -> Result<Vec<(ItemId, Ledger)>, ExportError> {
        stock::load_books(self, items).await
    }
    async fn put_specs(&mut self, specs: &[(ItemId, ItemSpec<'_>)]) -> Result<(), ExportError> {
        stock::put_specs(self, specs).await
    }
    async fn recover_books(&mut self, items: &[ItemId]) -> Result<(), ExportError> {
        stock::recover_books(self, items).await
    }
    async fn stock_rows(&mut self, items: &[ItemId]) -> Result<Vec<(ItemId, StockRow)>, ExportError> {
        stock::look(self, stock::READ, items).await
    }
    async fn lock_stock_rows(&mut self, items: &[ItemId]) -> Result<Vec<(ItemId, StockRow)>, ExportError> {
        stock::look(self, stock::READ_AND_LOCK, items).await
    }
    async fn settle(
        &mut self,
        books: &[(ItemId, &Ledger)],
    ) -> Result<Vec<(ItemId, Option<i64>)>, ExportError> {
        stock::write_books(self, stock::SETTLE, books).await
    }
    async fn enter_books(&mut self, books: &[(ItemId, &Ledger)]) -> Result<(), ExportError> {
        stock::write_books(self, stock::BOOKS, books).await.map(drop)
    }
    async fn make_stock_rows(&mut self, items: &[ItemId]) -> Result<Vec<(ItemId, i64)>, ExportError> {
        stock::make_stock_rows(self, items).await
    }
    async fn note_pauses(&mut self, reasons: &[(ItemId, &str)]) -> Result<(), ExportError> {
        stock::note_pauses(self, reasons).await
    }
    async fn clear_pauses(&mut self, items: &[ItemId]) -> Result<(), ExportError> {
        stock::clear_pauses(self, items).await
    }

    async fn copy_orders(&mut self, orders: Orders<'_>) -> Result<(), ExportError> {
        orders::copy(self, orders).await
    }
    async fn insert_orders(&mut self, orders: Orders<'_>) -> Result<Inserted, ExportError> {
        orders::insert(self, orders).await
    }
    async fn refill_orders(&mut self, orders: Orders<'_>) -> Result<Vec<OrderId>, ExportError> {
        orders::refill(self, orders).await
    }
    async fn update_orders(&mut self, orders: Orders<'_>) -> Result<Updated, ExportError> {
        orders::update(self, orders).await
    }
    async fn put_payments(&mut self, rows: &[PaymentRow<'_>]) -> Result<PaymentsPut, ExportError> {
        payments::put(self, rows).await
    }
    async fn block(&mut self, buyers: &[BlockedBuyer<'_>]) -> Result<(), ExportError> {
        orders::block(self, buyers).await
    }
    async fn unblock(&mut self, buyers: &[&str]) -> Result<(), ExportError> {
        orders::unblock(self, buyers).await
    }
    async fn set_aside(&mut self, rows: &[SetAside]) -> Result<(), ExportError> {
        orders::set_aside(self, rows).await
    }

    async fn sweep(&mut self, items_max: i64) -> Result<Vec<Swept>, ExportError> {
        stock::sweep(self, items_max).await
    }

    async fn blocked_page(
        &mut self,
        after: &str,
        all: bool,
        buyers_max: i64,
    ) -> Result<Vec<String>, ExportError> {
        pages::blocked(self, after, all, buyers_max).await
    }
    async fn stock_page(&mut self, from: i64, rows_max: i64) -> Result<Vec<StockRecord>, ExportError> {
        pages::stock(self, from, rows_max).await
    }
    async fn items_with_orders(&mut self, items: &[ItemId]) -> Result<Vec<ItemId>, ExportError> {
        pages::items_with_orders(self, items).await
    }
    async fn orders_page(
        &mut self,
        after: i64,
        last: i64,
        rows_max: i64,
    ) -> Result<Vec<OrderRecord>, ExportError> {
        pages::orders(self, after, last, rows_max).await
    }
    async fn mismatched_items(&mut self) -> Result<Vec<(i64, i64)>, ExportError> {
        pages::mismatched_items(self).await
    }
}
