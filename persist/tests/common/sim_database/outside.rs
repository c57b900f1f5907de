//! What somebody else does to the database between two transactions, and what a checker
//! reads: plain values of what is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::MutexGuard;

use stampede_core::types::Lsn;
use stampede_persist::export::store::CursorRow;
use stampede_persist::export::{DatabaseId, LogId, Nonce};

use super::plan::Counts;
use super::tables::{Books, OrderLine, PaymentLine, Refusal, StockLine, Tables};
use super::{SimDatabase, State};

/// Locks that others hold, constraints that others made.
#[derive(Default)]
pub struct Outside {
    pub(super) stock_locked: BTreeSet<i64>,
    pub(super) orders_locked: BTreeSet<i64>,
    pub(super) stock_table_locked: bool,
    pub(super) refusals: Vec<Refusal>,
}

/// A copy of the database, to be put back later.
#[derive(Clone)]
pub struct Backup(Tables);

impl SimDatabase {
    /// The state, at rest: no transaction is open.
    fn at_rest(&self) -> MutexGuard<'_, State> {
        let state = self.state();
        assert!(state.open.is_none(), "a transaction is open");
        state
    }

    fn happens(&self, what: &'static str) -> MutexGuard<'_, State> {
        let mut state = self.at_rest();
        state.counts.happen(what);
        state
    }

    /// Changes a stock row as it is put; `false` = there is none, or it is locked.
    pub fn edit_stock(&self, id: i64, edit: impl FnOnce(&mut StockLine)) -> bool {
        let mut state = self.happens("stock row edited");
        if state.outside.stock_locked.contains(&id) {
            return false;
        }
        state.tables.stock.get_mut(&id).map(edit).is_some()
    }

    /// Puts a stock row there, in place of any.
    pub fn insert_stock(&self, id: i64, line: StockLine) {
        self.happens("stock row inserted").tables.stock.insert(id, line);
    }

    /// Deletes a stock row; `false` = there is none, or it is locked.
    pub fn delete_stock(&self, id: i64) -> bool {
        let mut state = self.happens("stock row deleted");
        !state.outside.stock_locked.contains(&id) && state.tables.stock.remove(&id).is_some()
    }

    /// Deletes the books of an item; whether there were any.
    pub fn delete_books(&self, id: i64) -> bool {
        self.happens("books deleted").tables.books.remove(&id).is_some()
    }

    /// Puts an order there, in place of any.
    pub fn insert_order(&self, line: OrderLine) {
        self.happens("order inserted").tables.orders.insert(line.record.id, line);
    }

    /// Puts what was told of an order's money there, in place of any.
    pub fn insert_payment(&self, key: (i64, i64), line: PaymentLine) {
        self.happens("payment inserted").tables.payments.insert(key, line);
    }

    /// Deletes an order; whether there was one.
    pub fn delete_order(&self, id: i64) -> bool {
        self.happens("order deleted").tables.orders.remove(&id).is_some()
    }

    /// Blocks a buyer by hand.
    pub fn block_as(&self, buyer: &str, lsn: i64) {
        let mut state = self.happens("a line of stampede_blocked");
        state.tables.blocked.insert(buyer.to_owned(), ("another log".to_owned(), 1, lsn));
    }

    /// Puts a buyer on the blocklist, as SQL would.
    pub fn block_by_hand(&self, buyer: &str) {
        let mut state = self.happens("buyer blocked by hand");
        state.tables.blocked.insert(buyer.to_owned(), (String::new(), 0, 0));
    }

    /// Another session holds a stock row locked, or no longer; `false` = there is none to lock.
    pub fn lock_stock(&self, id: i64, locked: bool) -> bool {
        let mut state = self.happens(if locked { "stock row locked" } else { "stock row let go" });
        if !locked {
            return state.outside.stock_locked.remove(&id);
        }
        state.tables.stock.contains_key(&id) && state.outside.stock_locked.insert(id)
    }

    /// Another session holds the whole stock table locked, or no longer.
    pub fn lock_stock_table(&self, locked: bool) {
        let what = if locked { "stock table locked" } else { "stock table let go" };
        self.happens(what).outside.stock_table_locked = locked;
    }

    /// Another session holds an order's row locked, or no longer.
    pub fn lock_order(&self, id: i64, locked: bool) {
        let mut state = self.happens(if locked { "order locked" } else { "order let go" });
        let set = &mut state.outside.orders_locked;
        if locked {
            set.insert(id)
        } else {
            set.remove(&id)
        };
    }

    /// Adds a constraint; rows that are there already stay.
    pub fn refuse(&self, refusal: Refusal) {
        self.happens("constraint added").outside.refusals.push(refusal);
    }

    /// Drops all constraints that were added.
    pub fn refuse_no_more(&self) {
        self.happens("constraints dropped").outside.refusals.clear();
    }

    /// Another engine takes the log's cursor over.
    pub fn take_over(&self, log: LogId, nonce: Nonce) {
        let mut state = self.happens("taken over by another engine");
        let now_us = state.now_us();
        if let Some(row) = state.tables.cursors.get_mut(&log.to_string()) {
            (row.epoch, row.nonce, row.touched_us) = (row.epoch + 1, Some(nonce), now_us);
        }
    }

    /// Somebody deletes all cursors.
    pub fn delete_cursors(&self) {
        self.happens("cursors deleted").tables.cursors.clear();
    }

    /// Somebody edits the log's cursor by hand; whether there is one.
    pub fn edit_cursor(&self, log: LogId, edit: impl FnOnce(&mut CursorRow)) -> bool {
        let mut state = self.happens("cursor edited by hand");
        state.tables.cursors.get_mut(&log.to_string()).map(edit).is_some()
    }

    /// Another database answers at this place: same rows, another identity.
    pub fn change_identity(&self, database: DatabaseId) {
        let mut state = self.happens("another database answers");
        if let Some(row) = &mut state.tables.schema {
            row.database = database.0;
        }
        state.end_all_sessions();
    }

    /// A copy of everything.
    pub fn back_up(&self) -> Backup {
        Backup(self.at_rest().tables.clone())
    }

    /// Puts an earlier copy back; every connection is lost.
    pub fn restore(&self, backup: &Backup) {
        let mut state = self.happens("restored from a backup");
        state.tables = backup.0.clone();
        state.end_all_sessions();
        let outside = &mut state.outside;
        outside.stock_locked.clear();
        outside.orders_locked.clear();
        outside.stock_table_locked = false;
    }

    /// Every connection is lost, whatever was going on.
    pub fn kill_sessions(&self) {
        let mut state = self.state();
        state.counts.happen("connections killed");
        state.end_all_sessions();
    }

    /// The server is away, or back. What was not committed is gone.
    pub fn set_down(&self, down: bool) {
        let mut state = self.state();
        state.counts.happen(if down { "server down" } else { "server up" });
        state.down = down;
        state.end_all_sessions();
    }

    /// Everything that is committed, without the time at which a cursor was touched: that depends
    /// on how many calls there were.
    pub fn tables(&self) -> Tables {
        let mut tables = self.at_rest().tables.clone();
        tables.cursors.values_mut().for_each(|row| row.touched_us = 0);
        tables
    }

    /// Looks at what is committed without copying it.
    pub fn look<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.at_rest().tables)
    }

    /// Orders by id.
    pub fn orders(&self) -> BTreeMap<i64, OrderLine> {
        self.at_rest().tables.orders.clone()
    }

    /// Stock rows by id.
    pub fn stock(&self) -> BTreeMap<i64, StockLine> {
        self.at_rest().tables.stock.clone()
    }

    /// Books by item.
    pub fn books(&self) -> BTreeMap<i64, Books> {
        self.at_rest().tables.books.clone()
    }

    /// How far the log was exported; `None` = never.
    pub fn cursor(&self, log: LogId) -> Option<Lsn> {
        self.at_rest().tables.cursors.get(&log.to_string()).map(|row| row.lsn)
    }

    /// Which database this is; `None` before it was migrated.
    pub fn database(&self) -> Option<DatabaseId> {
        self.at_rest().tables.schema.map(|row| DatabaseId(row.database))
    }

    /// How often what was done to the exporter so far.
    pub fn counts(&self) -> Counts {
        self.state().counts.clone()
    }
}
