//! The seam over the simulated tables: what each of Postgres's statements does to the rows.
//!
//! Where a statement of `persist/src/export/postgres/` says so in one clause, this says so
//! in one line; the equivalence test compares the two.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::ops::Bound;
use std::sync::Arc;
use std::task::Poll;

use stampede_core::item::ItemSpec;
use stampede_core::types::{ItemId, Lsn, OrderId};
use stampede_persist::export::store::{
    Begin, BlockedBuyer, CursorKey, CursorMove, CursorRow, Given, Inserted, Ledger, OrderRecord, Orders,
    PaymentRow, PaymentsPut, SetAside, StockRecord, StockRow, Store, Swept, Traits, Updated,
};
use stampede_persist::export::{DatabaseId, ExportError, Nonce, SCHEMA_VERSION};

use super::plan::Call;
use super::tables::{
    AsideLine, Books, OrderLine, PaymentLine, Refusal, SchemaRow, Spec, StockLine, broken_check,
};
use super::{SimDatabase, State, Transaction};

type Answer<T> = Result<T, ExportError>;

/// A connection. When it is dropped, what it had not committed is gone.
pub struct SimStore {
    database: SimDatabase,
    session: u64,
}

impl SimStore {
    pub(super) const fn new(database: SimDatabase, session: u64) -> Self {
        Self { database, session }
    }

    /// The answer is there at the second look: whoever has something else to do does it meanwhile.
    async fn call<T>(&mut self, call: Call, work: impl FnOnce(&mut State) -> Answer<T>) -> Answer<T> {
        look_once_more().await;
        self.database.state().call(self.session, call, work)
    }
}

impl Drop for SimStore {
    fn drop(&mut self) {
        // A test that panics in mid-call has other worries.
        if let Ok(mut state) = self.database.0.lock() {
            state.end_session(self.session);
        }
    }
}

/// Is not ready at the first look.
async fn look_once_more() {
    let mut looked = false;
    poll_fn(|_| if std::mem::replace(&mut looked, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

fn number(item: ItemId) -> i64 {
    i64::from(item.get())
}

fn item_of(number: i64) -> Option<ItemId> {
    u64::try_from(number).ok().and_then(ItemId::new)
}

fn spec_of(spec: &ItemSpec<'_>) -> Spec {
    Spec {
        name: spec.name.to_owned(),
        price_minor: spec.price_minor.cast_signed(),
        currency: String::from_utf8_lossy(&spec.currency).into_owned(),
        opens_at_ms: spec.opens_at_ms.0.cast_signed(),
        closes_at_ms: spec.closes_at_ms.0.cast_signed(),
        cap: spec.cap.cast_signed(),
        payment: spec.payment.name().to_owned(),
        hold_ms: spec.hold_ms.cast_signed(),
        ticket: spec.ticket.name().to_owned(),
        challenge: spec.challenge.name().to_owned(),
        min_level: i32::from(spec.min_level),
        min_account_age_s: i64::from(spec.min_account_age_s),
        admit_per_s: i64::from(spec.admit_per_s),
    }
}

impl State {
    fn begin(&mut self, session: u64, how: Begin) {
        assert!(self.open.is_none(), "a transaction is begun twice");
        let careful = how == Begin::Careful;
        let open = Transaction { session, careful, failed: false, savepoint: None, refused_at_commit: None };
        self.open = Some(open);
    }

    fn commit(&mut self) -> Answer<()> {
        let open = self.open.take().expect("a transaction to commit");
        match open.refused_at_commit {
            None => Ok(()),
            Some(reason) => Err(ExportError::RowRefused(reason)),
        }
    }

    fn roll_back(&mut self) {
        self.open = None;
        self.undo.back_to_start(&mut self.tables);
    }

    fn transaction(&mut self) -> &mut Transaction {
        self.open.as_mut().expect("a transaction is open")
    }

    /// Whoever reads or writes stock rows waits for a lock on all of them.
    fn stock_open(&mut self) -> Answer<()> {
        if self.outside.stock_table_locked { self.locked_out() } else { Ok(()) }
    }

    fn order_open(&mut self, id: i64) -> Answer<()> {
        if self.outside.orders_locked.contains(&id) { self.locked_out() } else { Ok(()) }
    }

    /// Refuses now, or at the commit.
    fn refuse(&mut self, table: &str, name: &str, deferred: bool) -> Answer<()> {
        let reason = format!("new row for relation \"{table}\" violates check constraint \"{name}\"");
        match &mut self.open {
            Some(open) if deferred && !open.careful => {
                open.refused_at_commit.get_or_insert(reason);
                Ok(())
            }
            _ => Err(ExportError::RowRefused(reason)),
        }
    }

    fn put_order(&mut self, line: OrderLine) -> Answer<()> {
        let hit = self.outside.refusals.iter().find(|refusal| refusal.hits_order(&line));
        if let Some((name, deferred)) = hit.map(|refusal| (refusal.name.clone(), refusal.deferred)) {
            self.refuse("stock_order", &name, deferred)?;
        }
        self.tables.set_order(&mut self.undo, line);
        Ok(())
    }

    fn put_stock(&mut self, id: i64, line: StockLine) -> Answer<()> {
        let hits = || self.outside.refusals.iter().filter(|refusal| refusal.hits_stock(id, &line));
        // Of several constraints that are broken, Postgres names the first by name.
        let now = hits().filter(|refusal| !refusal.deferred).map(|refusal| refusal.name.as_str());
        let now = now.chain(broken_check(&line)).min().map(str::to_owned);
        let later = hits().find(|refusal| refusal.deferred).map(|refusal| refusal.name.clone());
        if let Some(name) = now {
            self.refuse("stock", &name, false)?;
        }
        if let Some(name) = later {
            self.refuse("stock", &name, true)?;
        }
        self.tables.set_stock(&mut self.undo, id, line);
        Ok(())
    }

    fn migrated(&self) -> Answer<SchemaRow> {
        let gone = || ExportError::Other("relation \"stampede_schema\" does not exist".to_owned());
        self.tables.schema.ok_or_else(gone)
    }

    /// The cursor, if it is this process's.
    fn held_cursor(&self, key: &CursorKey) -> Option<&CursorRow> {
        let row = self.tables.cursors.get(&key.log_id)?;
        (row.epoch == key.epoch && row.nonce == Some(key.nonce)).then_some(row)
    }

    fn move_cursor(&mut self, key: &CursorKey, to: &CursorMove) -> bool {
        let Some(row) = self.held_cursor(key).filter(|row| row.lsn == to.from).cloned() else { return false };
        let touched_us = self.now_us();
        let row = CursorRow { lsn: to.to, chain: Some(to.chain), touched_us, ..row };
        self.tables.set_cursor(&mut self.undo, row);
        true
    }

    fn make_cursor(&mut self, log_id: &str, nonce: Nonce) -> Given {
        let (epoch, nonce, touched_us) = (1, Some(nonce), self.now_us());
        let log_id = log_id.to_owned();
        let row = CursorRow { log_id, epoch, nonce, lsn: Lsn::ZERO, chain: None, touched_us };
        self.tables.set_cursor(&mut self.undo, row);
        Given { epoch, since_us: touched_us }
    }

    fn take_cursor(&mut self, log_id: &str, nonce: Nonce, above: u64) -> Answer<Given> {
        let gone = || ExportError::Other("there is no such cursor".to_owned());
        let row = self.tables.cursors.get(log_id).cloned().ok_or_else(gone)?;
        let (epoch, touched_us) = (row.epoch.max(above) + 1, self.now_us());
        self.tables.set_cursor(&mut self.undo, CursorRow { epoch, nonce: Some(nonce), touched_us, ..row });
        Ok(Given { epoch, since_us: touched_us })
    }

    fn rows_of(&self, items: &[ItemId], skip_locked: bool) -> Vec<(ItemId, StockRow)> {
        let locked = |id| skip_locked && self.outside.stock_locked.contains(&id);
        let row = |item: &ItemId| {
            let line = self.tables.stock.get(&number(*item)).filter(|_| !locked(number(*item)))?;
            Some((*item, line.row))
        };
        items.iter().filter_map(row).collect()
    }

    fn put_spec(&mut self, id: i64, spec: &ItemSpec<'_>) {
        let spec = Arc::new(spec_of(spec));
        let books = match self.tables.books.get(&id) {
            Some(books) => Books { spec, ..books.clone() },
            None => Books {
                spec,
                facts: Default::default(),
                outside: 0,
                paused: false,
                closed: false,
                ended: false,
                row: None,
                pause_reason: None,
            },
        };
        self.tables.set_books(&mut self.undo, id, books);
    }

    fn recover_books(&mut self, id: i64) {
        let Some(line) = self.tables.stock.get(&id).filter(|_| !self.tables.books.contains_key(&id)) else {
            return;
        };
        let books = Books {
            spec: Arc::clone(&line.spec),
            facts: line.row.piles,
            outside: 0,
            paused: line.paused,
            closed: line.closed,
            ended: line.ended,
            row: Some(line.row),
            pause_reason: None,
        };
        self.tables.set_books(&mut self.undo, id, books);
    }

    /// The stock row, if it is as the books left it and free; then the books.
    fn settle(&mut self, id: i64, ledger: &Ledger) -> Answer<Option<Option<i64>>> {
        let Some(books) = self.tables.books.get(&id).cloned() else { return Ok(None) };
        let free = !self.outside.stock_locked.contains(&id);
        let line = self.tables.stock.get(&id).filter(|line| free && Some(line.row) == ledger.row);
        let written = line.map(|line| StockRow { version: line.row.version + 1, piles: ledger.wanted() });
        if let Some(row) = written {
            let (paused, closed, ended) = (ledger.paused, ledger.closed, ledger.ended);
            let line = StockLine { row, spec: Arc::clone(&books.spec), paused, closed, ended };
            self.put_stock(id, line)?;
        }
        self.enter(id, books, ledger, written.or(ledger.row));
        Ok(Some(written.map(|row| row.version)))
    }

    fn enter(&mut self, id: i64, books: Books, ledger: &Ledger, row: Option<StockRow>) {
        let books = Books {
            facts: ledger.facts,
            outside: ledger.outside,
            paused: ledger.paused,
            closed: ledger.closed,
            ended: ledger.ended,
            row,
            ..books
        };
        self.tables.set_books(&mut self.undo, id, books);
    }

    fn make_stock_row(&mut self, id: i64) -> Answer<Option<i64>> {
        let Some(books) = self.tables.books.get(&id).filter(|_| !self.tables.stock.contains_key(&id)) else {
            return Ok(None);
        };
        let mut books = books.clone();
        let mut piles = books.facts;
        piles.count += books.outside;
        let row = StockRow { version: books.row.map_or(0, |row| row.version) + 1, piles };
        books.row = Some(row);
        let (paused, closed, ended) = (books.paused, books.closed, books.ended);
        let line = StockLine { row, spec: Arc::clone(&books.spec), paused, closed, ended };
        self.put_stock(id, line)?;
        self.tables.set_books(&mut self.undo, id, books);
        Ok(Some(row.version))
    }

    fn set_reason(&mut self, id: i64, reason: Option<&str>) {
        let Some(books) = self.tables.books.get(&id) else { return };
        if books.pause_reason.as_deref() != reason {
            let books = Books { pause_reason: reason.map(str::to_owned), ..books.clone() };
            self.tables.set_books(&mut self.undo, id, books);
        }
    }

    fn copy_orders(&mut self, orders: Orders<'_>) -> Answer<()> {
        for order in orders {
            if self.tables.orders.contains_key(&order.id.get().cast_signed()) {
                let text = format!(
                    "duplicate key value violates unique constraint \"stock_order_pkey\" (Key (id)=({}) already exists.)",
                    order.id
                );
                return Err(ExportError::RowRefused(text));
            }
            self.put_order(OrderLine::of(&order))?;
        }
        Ok(())
    }

    fn insert_orders(&mut self, orders: Orders<'_>) -> Answer<Inserted> {
        let mut inserted = Inserted::default();
        for order in orders {
            let id = order.id.get().cast_signed();
            let line = OrderLine::of(&order);
            if let Some(there) = self.tables.orders.get(&id) {
                let ours = there.lsn != 0 && there.is_same_order(&line);
                // Postgres checks the new row before it looks what is there.
                let hits = |refusal: &&Refusal| !refusal.deferred && refusal.hits_order(&line);
                if let Some(name) = self.outside.refusals.iter().find(hits).map(|hit| hit.name.clone()) {
                    self.refuse("stock_order", &name, false)?;
                }
                self.order_open(id)?;
                if !ours {
                    inserted.foreign.push(order.id);
                    continue;
                }
                inserted.replaced.push(order.id);
            }
            self.put_order(line)?;
        }
        Ok(inserted)
    }

    fn refill_orders(&mut self, orders: Orders<'_>) -> Answer<Vec<OrderId>> {
        let mut foreign = Vec::new();
        for order in orders {
            let mut line = OrderLine::of(&order);
            if let Some(there) = self.tables.orders.get(&line.record.id).cloned() {
                self.order_open(line.record.id)?;
                if !there.is_same_order(&line) {
                    foreign.push(order.id);
                    continue;
                }
                let as_new = there.lsn >= line.lsn;
                if as_new || (there.lsn == 0 && there.record.state == line.record.state) {
                    continue;
                }
                line.keep_of(&there);
            }
            self.put_order(line)?;
        }
        Ok(foreign)
    }

    fn update_orders(&mut self, orders: Orders<'_>) -> Answer<Vec<OrderId>> {
        let mut missing = Vec::new();
        for order in orders {
            let id = order.id.get().cast_signed();
            let is_aside = self.tables.set_aside.iter().any(|line| line.4 == Some(id));
            let line = self.tables.orders.get(&id).filter(|line| !is_aside && line.sid == id >> 32);
            let Some(mut line) = line.cloned() else {
                missing.push(order.id);
                continue;
            };
            self.order_open(id)?;
            line.update(&order);
            self.put_order(line)?;
        }
        Ok(missing)
    }

    fn put_payments(&mut self, rows: &[PaymentRow<'_>]) -> Answer<PaymentsPut> {
        let mut put = PaymentsPut::default();
        for row in rows {
            let (key, line) = PaymentLine::of(row);
            // Postgres checks the new row before it looks what is there.
            let hit = self.outside.refusals.iter().find(|refusal| refusal.hits_payment(&line));
            if let Some((name, deferred)) = hit.map(|refusal| (refusal.name.clone(), refusal.deferred)) {
                self.refuse("stock_payment", &name, deferred)?;
            }
            match self.tables.payments.get(&key) {
                Some(there) if *there == line => {}
                Some(_) => put.foreign.push((row.order, row.lsn)),
                None => self.tables.add_payment(&mut self.undo, key, line),
            }
        }
        Ok(put)
    }

    fn keep(&mut self, row: &SetAside) {
        let order = row.order.map(|order| order.get().cast_signed());
        let line =
            (row.lsn.0.cast_signed(), row.kind.to_owned(), row.what.clone(), row.reason.clone(), order);
        let again =
            |old: &&AsideLine| row.kind == "stock" && old.1 == line.1 && old.2 == line.2 && old.3 == line.3;
        if self.tables.set_aside.iter().find(again).is_none() {
            self.tables.add_set_aside(&mut self.undo, line);
        }
    }

    fn sweep(&self, items_max: i64) -> Vec<Swept> {
        let look = |(id, books): (&i64, &Books)| {
            let found = self.tables.stock.get(id).map(|line| line.row);
            let mut wanted = books.facts;
            wanted.count += books.outside;
            let dirty = found != books.row || books.row.map(|row| row.piles) != Some(wanted);
            let told = dirty || books.outside != 0 || books.pause_reason.is_some();
            let item = item_of(*id).filter(|_| told)?;
            let row_version = books.row.map_or(0, |row| row.version);
            let pause_reason = books.pause_reason.clone();
            Some(Swept { item, dirty, outside: books.outside, row_version, pause_reason })
        };
        let mut swept: Vec<Swept> = self.tables.books.iter().filter_map(look).collect();
        swept.sort_by_key(|swept| (!swept.dirty, swept.item));
        swept.truncate(usize::try_from(items_max).unwrap_or(0));
        swept
    }

    fn orders_between(&self, after: i64, before: i64) -> impl Iterator<Item = &OrderLine> {
        let range = after.saturating_add(1)..before.max(after.saturating_add(1));
        self.tables.orders.range(range).map(|(_, line)| line)
    }
}

impl Store for SimStore {
    async fn begin(&mut self, how: Begin) -> Answer<()> {
        let session = self.session;
        self.call(Call::Begin, |state| {
            state.begin(session, how);
            Ok(())
        })
        .await
    }
    async fn commit(&mut self) -> Answer<()> {
        self.call(Call::Commit, State::commit).await
    }
    async fn roll_back(&mut self) -> Answer<()> {
        self.call(Call::RollBack, |state| {
            state.roll_back();
            Ok(())
        })
        .await
    }
    async fn savepoint(&mut self) -> Answer<()> {
        self.call(Call::Savepoint, |state| {
            let mark = state.undo.mark();
            assert!(state.transaction().savepoint.replace(mark).is_none(), "savepoints are not nested");
            Ok(())
        })
        .await
    }
    async fn release_savepoint(&mut self) -> Answer<()> {
        self.call(Call::ReleaseSavepoint, |state| {
            state.transaction().savepoint.take().expect("a savepoint");
            Ok(())
        })
        .await
    }
    async fn roll_back_to_savepoint(&mut self) -> Answer<()> {
        self.call(Call::RollBackToSavepoint, |state| {
            let mark = state.transaction().savepoint.take().expect("a savepoint");
            state.transaction().failed = false;
            state.undo.back_to(mark, &mut state.tables);
            Ok(())
        })
        .await
    }

    async fn traits(&mut self) -> Answer<Traits> {
        let traits = Traits { version: 150_000, encoding: "UTF8".to_owned(), odd_tables: Vec::new() };
        self.call(Call::Traits, |_| Ok(traits)).await
    }
    async fn schema_version(&mut self) -> Answer<i32> {
        self.call(Call::SchemaVersion, |state| Ok(state.tables.schema.map_or(0, |row| row.version))).await
    }
    async fn lock_migrations(&mut self) -> Answer<()> {
        self.call(Call::LockMigrations, |_| Ok(())).await
    }
    async fn table_in_the_way(&mut self, _: i32) -> Answer<Option<String>> {
        self.call(Call::TableInTheWay, |_| Ok(None)).await
    }
    async fn make_identity(&mut self) -> Answer<()> {
        self.call(Call::MakeIdentity, |state| {
            let database = u128::from(state.seed).to_be_bytes();
            state.tables.set_schema(&mut state.undo, SchemaRow { version: 0, database });
            Ok(())
        })
        .await
    }
    async fn migrate_step(&mut self, from: i32) -> Answer<()> {
        assert!((0..SCHEMA_VERSION).contains(&from), "no such migration");
        self.call(Call::MigrateStep, |state| state.migrated().map(drop)).await
    }
    async fn set_schema_version(&mut self, version: i32) -> Answer<()> {
        self.call(Call::SetSchemaVersion, |state| {
            let row = SchemaRow { version, ..state.migrated()? };
            state.tables.set_schema(&mut state.undo, row);
            Ok(())
        })
        .await
    }

    async fn lock_attaching(&mut self) -> Answer<()> {
        self.call(Call::LockAttaching, |state| state.migrated().map(drop)).await
    }
    async fn identity(&mut self) -> Answer<Option<DatabaseId>> {
        self.call(Call::Identity, |state| Ok(Some(DatabaseId(state.migrated()?.database)))).await
    }
    async fn lock_cursors(&mut self) -> Answer<Vec<CursorRow>> {
        self.call(Call::LockCursors, |state| Ok(state.tables.cursors.values().cloned().collect())).await
    }
    async fn clear_books(&mut self) -> Answer<()> {
        self.call(Call::ClearBooks, |state| {
            state.tables.clear_books(&mut state.undo);
            Ok(())
        })
        .await
    }
    async fn make_cursor(&mut self, log_id: &str, nonce: Nonce) -> Answer<Given> {
        self.call(Call::MakeCursor, |state| Ok(state.make_cursor(log_id, nonce))).await
    }
    async fn take_cursor(&mut self, log_id: &str, nonce: Nonce, above: u64) -> Answer<Given> {
        self.call(Call::TakeCursor, |state| state.take_cursor(log_id, nonce, above)).await
    }
    async fn move_cursor(&mut self, key: &CursorKey, to: &CursorMove) -> Answer<bool> {
        self.call(Call::MoveCursor, |state| Ok(state.move_cursor(key, to))).await
    }
    async fn holds_cursor(&mut self, key: &CursorKey, left: Lsn) -> Answer<bool> {
        let holds = |state: &mut State| state.held_cursor(key).is_some_and(|row| row.lsn == left);
        self.call(Call::HoldsCursor, |state| Ok(holds(state))).await
    }

    async fn load_books(&mut self, items: &[ItemId]) -> Answer<Vec<(ItemId, Ledger)>> {
        self.call(Call::LoadBooks, |state| {
            let ledger = |item: &ItemId| {
                let books = state.tables.books.get(&number(*item))?;
                let (name, facts, outside) = (books.spec.name.clone(), books.facts, books.outside);
                let (paused, closed, ended, row) = (books.paused, books.closed, books.ended, books.row);
                Some((*item, Ledger { name, facts, outside, paused, closed, ended, row }))
            };
            Ok(items.iter().filter_map(ledger).collect())
        })
        .await
    }
    async fn put_specs(&mut self, specs: &[(ItemId, ItemSpec<'_>)]) -> Answer<()> {
        self.call(Call::PutSpecs, |state| {
            specs.iter().for_each(|(item, spec)| state.put_spec(number(*item), spec));
            Ok(())
        })
        .await
    }
    async fn recover_books(&mut self, items: &[ItemId]) -> Answer<()> {
        self.call(Call::RecoverBooks, |state| {
            state.stock_open()?;
            items.iter().for_each(|item| state.recover_books(number(*item)));
            Ok(())
        })
        .await
    }
    async fn stock_rows(&mut self, items: &[ItemId]) -> Answer<Vec<(ItemId, StockRow)>> {
        self.call(Call::StockRows, |state| {
            state.stock_open()?;
            Ok(state.rows_of(items, false))
        })
        .await
    }
    async fn lock_stock_rows(&mut self, items: &[ItemId]) -> Answer<Vec<(ItemId, StockRow)>> {
        self.call(Call::LockStockRows, |state| {
            state.stock_open()?;
            Ok(state.rows_of(items, true))
        })
        .await
    }
    async fn settle(&mut self, books: &[(ItemId, &Ledger)]) -> Answer<Vec<(ItemId, Option<i64>)>> {
        self.call(Call::Settle, |state| {
            state.stock_open()?;
            let mut settled = Vec::with_capacity(books.len());
            for (item, ledger) in books {
                if let Some(version) = state.settle(number(*item), ledger)? {
                    settled.push((*item, version));
                }
            }
            Ok(settled)
        })
        .await
    }
    async fn enter_books(&mut self, books: &[(ItemId, &Ledger)]) -> Answer<()> {
        self.call(Call::EnterBooks, |state| {
            for (item, ledger) in books {
                if let Some(old) = state.tables.books.get(&number(*item)).cloned() {
                    state.enter(number(*item), old, ledger, ledger.row);
                }
            }
            Ok(())
        })
        .await
    }
    async fn make_stock_rows(&mut self, items: &[ItemId]) -> Answer<Vec<(ItemId, i64)>> {
        self.call(Call::MakeStockRows, |state| {
            state.stock_open()?;
            let mut made = Vec::new();
            for item in items {
                if let Some(version) = state.make_stock_row(number(*item))? {
                    made.push((*item, version));
                }
            }
            Ok(made)
        })
        .await
    }
    async fn note_pauses(&mut self, reasons: &[(ItemId, &str)]) -> Answer<()> {
        let items: BTreeSet<ItemId> = reasons.iter().map(|(item, _)| *item).collect();
        assert_eq!(items.len(), reasons.len(), "each item at most once");
        self.call(Call::NotePauses, |state| {
            reasons.iter().for_each(|(item, reason)| state.set_reason(number(*item), Some(reason)));
            Ok(())
        })
        .await
    }
    async fn clear_pauses(&mut self, items: &[ItemId]) -> Answer<()> {
        self.call(Call::ClearPauses, |state| {
            items.iter().for_each(|item| state.set_reason(number(*item), None));
            Ok(())
        })
        .await
    }

    async fn copy_orders(&mut self, orders: Orders<'_>) -> Answer<()> {
        self.call(Call::CopyOrders, |state| state.copy_orders(orders)).await
    }
    async fn insert_orders(&mut self, orders: Orders<'_>) -> Answer<Inserted> {
        self.call(Call::InsertOrders, |state| state.insert_orders(orders)).await
    }
    async fn refill_orders(&mut self, orders: Orders<'_>) -> Answer<Vec<OrderId>> {
        self.call(Call::RefillOrders, |state| state.refill_orders(orders)).await
    }
    async fn update_orders(&mut self, orders: Orders<'_>) -> Answer<Updated> {
        let updated = |state: &mut State| state.update_orders(orders);
        let missing = self.call(Call::UpdateOrders, updated).await?;
        Ok(Updated { missing, swallowed: Vec::new() })
    }
    async fn put_payments(&mut self, rows: &[PaymentRow<'_>]) -> Answer<PaymentsPut> {
        self.call(Call::PutPayments, |state| state.put_payments(rows)).await
    }
    async fn block(&mut self, buyers: &[BlockedBuyer<'_>]) -> Answer<()> {
        self.call(Call::Block, |state| {
            for row in buyers {
                let line = (row.actor.to_owned(), row.since_ms.0.cast_signed(), row.lsn.0.cast_signed());
                state.tables.set_blocked(&mut state.undo, row.buyer, Some(line));
            }
            Ok(())
        })
        .await
    }
    async fn unblock(&mut self, buyers: &[&str]) -> Answer<()> {
        self.call(Call::Unblock, |state| {
            buyers.iter().for_each(|buyer| state.tables.set_blocked(&mut state.undo, buyer, None));
            Ok(())
        })
        .await
    }
    async fn set_aside(&mut self, rows: &[SetAside]) -> Answer<()> {
        self.call(Call::SetAside, |state| {
            rows.iter().for_each(|row| state.keep(row));
            Ok(())
        })
        .await
    }

    async fn sweep(&mut self, items_max: i64) -> Answer<Vec<Swept>> {
        self.call(Call::Sweep, |state| {
            state.stock_open()?;
            Ok(state.sweep(items_max))
        })
        .await
    }

    async fn blocked_page(&mut self, after: &str, all: bool, buyers_max: i64) -> Answer<Vec<String>> {
        self.call(Call::BlockedPage, |state| {
            let blocked = state.tables.blocked.iter();
            let page = blocked.filter(|(buyer, line)| buyer.as_str() > after && (all || line.2 == 0));
            Ok(page.take(buyers_max as usize).map(|(buyer, _)| buyer.clone()).collect())
        })
        .await
    }
    async fn stock_page(&mut self, from: i64, rows_max: i64) -> Answer<Vec<StockRecord>> {
        self.call(Call::StockPage, |state| {
            state.stock_open()?;
            let page = state.tables.stock.range(from..).take(rows_max as usize);
            Ok(page.map(|(id, line)| line.record(*id)).collect())
        })
        .await
    }
    async fn items_with_orders(&mut self, items: &[ItemId]) -> Answer<Vec<ItemId>> {
        self.call(Call::ItemsWithOrders, |state| {
            let has = |item: &ItemId| {
                let id = number(*item);
                state.orders_between(id << 32, (id + 1) << 32).next().is_some()
            };
            Ok(items.iter().copied().filter(has).collect())
        })
        .await
    }
    async fn orders_page(&mut self, after: i64, last: i64, rows_max: i64) -> Answer<Vec<OrderRecord>> {
        self.call(Call::OrdersPage, |state| {
            let page = state.orders_between(after, last.saturating_add(1)).take(rows_max as usize);
            Ok(page.map(|line| line.record.clone()).collect())
        })
        .await
    }
    async fn mismatched_items(&mut self) -> Answer<Vec<(i64, i64)>> {
        self.call(Call::MuddledItems, |state| {
            let muddled = state
                .tables
                .orders
                .iter()
                .filter(|(id, line)| **id >> 32 != line.sid || **id & 0xFFFF_FFFF == 0);
            let mut first = BTreeMap::new();
            for (id, line) in muddled {
                for item in [line.sid, *id >> 32] {
                    first.entry(item).or_insert(*id);
                }
            }
            Ok(first.into_iter().collect())
        })
        .await
    }
}
