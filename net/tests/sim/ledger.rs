//! The database's part of a history: what goes wrong there, and what must stand there in the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stampede_net::engine::shared::Shared;
use stampede_net::server::export::Port;
use stampede_persist::export::limits::FACTS_PER_BATCH_MAX;
use stampede_persist::export::text::escape;
use stampede_persist::export::{ExportStatus, Exporter, ExporterOptions, LogId, Step as Exported};
use stampede_persist::log::dir::Stepped;

use crate::book::{Book, Red, ensure};
use crate::coverage::Fault;
use crate::engine::nonce;
use crate::past::Past;
use crate::sim_database::{Backup, Call, Fault as DbFault, Refusal, Rule, SimDatabase, at_call, at_nth};
use crate::sim_disk::Rng;

/// Calls at which a transaction is worth interrupting.
const CALLS: &[Call] = &[
    Call::Connect,
    Call::Begin,
    Call::Commit,
    Call::MoveCursor,
    Call::LockStockRows,
    Call::Settle,
    Call::InsertOrders,
    Call::UpdateOrders,
    Call::LockAttaching,
    Call::TakeCursor,
    Call::MakeStockRows,
];

/// Most facts of a batch, by the life: so few that one is read while another is written, or all.
const FACTS_PER_BATCH: [usize; 4] = [3, FACTS_PER_BATCH_MAX, 8, FACTS_PER_BATCH_MAX];

/// A database, and what somebody else has done to it.
pub(crate) struct Desk {
    pub(crate) database: SimDatabase,
    log: LogId,
    /// What stood there before the engine first saw it.
    pub(crate) past: Option<Past>,
    /// Tells the processes of one engine from those of another.
    pub(crate) side: u64,
    /// The furthest that was committed, whatever was put back since.
    furthest: u64,
    backup: Option<Backup>,
    /// What was there before the backup was put back: where the operator finds it again.
    before_restore: Option<Backup>,
    locked: Vec<i64>,
    /// Units that somebody else put on sale or took off in all, and those taken off, by item.
    deltas: BTreeMap<u32, (i64, i64)>,
    /// Whether rows were lost, so that not every edit can be followed.
    lost_rows: bool,
    /// Whether somebody else wrote to stock rows.
    pub(crate) edited: bool,
    /// Whether somebody else refused rows.
    pub(crate) refuses: bool,
}

pub(crate) type Machine = Exporter<SimDatabase>;

impl Desk {
    pub(crate) fn new(seed: u64, log: LogId) -> Self {
        Self {
            database: SimDatabase::new(seed),
            log,
            past: None,
            side: 0,
            furthest: 0,
            backup: None,
            before_restore: None,
            locked: Vec::new(),
            deltas: BTreeMap::new(),
            lost_rows: false,
            edited: false,
            refuses: false,
        }
    }

    /// The same database, as an engine sees it that runs on a copy of the directory.
    pub(crate) fn beside(&self) -> Self {
        let fresh = Self::new(self.database.seed(), self.log);
        Self { database: self.database.clone(), past: self.past.clone(), side: self.side + 1, ..fresh }
    }

    /// The exporter of a life.
    pub(crate) fn exporter(&self, shared: &Arc<Shared>, log: &Stepped, status: Arc<ExportStatus>) -> Machine {
        let control = log.maintenance.control();
        let mut options = ExporterOptions::over(self.database.clone(), control.log_id, nonce(&control, self));
        let lives = self.database.seed() ^ control.epoch;
        options.facts_per_batch_max = FACTS_PER_BATCH[(lives % FACTS_PER_BATCH.len() as u64) as usize];
        options.database = control.database.map(stampede_persist::export::DatabaseId);
        let port = Port::new(shared.clone(), log.maintenance.clone());
        Exporter::over(options, Box::new(port), status)
    }

    /// Faults that its calls had so far.
    pub(crate) fn injected(&self) -> u64 {
        self.database.counts().injected().values().sum()
    }

    /// One of the next calls is the last that the process makes.
    pub(crate) fn end_at_call(&self, rng: &mut Rng) {
        let fault = if rng.coin() { DbFault::DiesAfter } else { DbFault::Dies };
        self.database.set_plan(Some(at_call(1 + rng.below(14), fault)));
    }

    /// How far the database holds the log now.
    pub(crate) fn cursor(&self) -> u64 {
        self.database.cursor(self.log).map_or(0, |lsn| lsn.0)
    }

    /// Up to where the log may be trimmed for the database's sake.
    pub(crate) fn may_trim(&mut self) -> u64 {
        self.furthest = self.furthest.max(self.cursor());
        self.furthest
    }

    /// Something goes wrong, or somebody else comes along. What it was.
    pub(crate) fn disturb(&mut self, rng: &mut Rng, items: &[u32]) -> Fault {
        self.furthest = self.furthest.max(self.cursor());
        let item = i64::from(items[rng.below(items.len() as u64) as usize]);
        match rng.below(16) {
            0..6 => {
                let fault = DbFault::ALL[rng.below(DbFault::ALL.len() as u64) as usize];
                let call = CALLS[rng.below(CALLS.len() as u64) as usize];
                let plan =
                    if rng.coin() { at_call(1 + rng.below(12), fault) } else { at_nth(call, 1, fault) };
                self.database.set_plan(Some(plan));
                match fault {
                    DbFault::Dies => Fault::DbDies,
                    DbFault::DiesAfter => Fault::DbAnswerLost,
                    DbFault::Stalls | DbFault::StallsAfter => Fault::DbStalls,
                    _ => Fault::DbComplains,
                }
            }
            6 => {
                self.database.set_down(true);
                Fault::DbDown
            }
            7 => {
                self.database.set_down(false);
                self.database.kill_sessions();
                Fault::DbKilled
            }
            8 | 9 => {
                let delta = rng.below(5) as i64 - 2;
                let bump = i64::from(rng.coin());
                // The table's own check lets no count go below zero.
                let fits = |line: &crate::sim_database::StockLine| line.row.piles.count + delta >= 0;
                let fits = self.database.look(|tables| tables.stock.get(&item).is_some_and(fits));
                let edited = fits
                    && self.database.edit_stock(item, |line| {
                        line.row.piles.count += delta;
                        line.row.version += bump;
                    });
                self.edited |= edited;
                if edited {
                    let (sum, withdrawn) = self.deltas.entry(item as u32).or_default();
                    *sum += delta;
                    *withdrawn += delta.min(0).abs();
                }
                Fault::DbEdited
            }
            10 => {
                self.edited |= self.database.delete_stock(item);
                self.lost_rows = true;
                Fault::DbDeleted
            }
            11 => {
                self.database.lock_stock(item, true);
                self.locked.push(item);
                Fault::DbLocked
            }
            12 => {
                self.unlock();
                Fault::DbLocked
            }
            13 => {
                let rule = Rule::CountUpTo { id: item, count: 1 };
                let refusal = Refusal { name: "few".to_owned(), rule, deferred: rng.coin() };
                self.database.refuse(refusal);
                self.refuses = true;
                Fault::DbRefuses
            }
            14 => {
                // One of a database that was never migrated is none.
                self.backup = self.database.database().map(|_| self.database.back_up());
                Fault::DbKilled
            }
            _ => self.put_back(),
        }
    }

    fn unlock(&mut self) {
        self.locked.drain(..).for_each(|item| {
            self.database.lock_stock(item, false);
        });
    }

    fn put_back(&mut self) -> Fault {
        if let (Some(backup), None) = (&self.backup, &self.before_restore) {
            self.before_restore = Some(self.database.back_up());
            self.database.restore(backup);
            self.lost_rows = true;
            self.locked.clear();
        }
        Fault::DbRestored
    }

    /// The operator finds what was there before somebody put a backup back.
    pub(crate) fn decide(&mut self) -> bool {
        match self.before_restore.take() {
            Some(before) if self.cursor() < self.furthest => {
                self.database.restore(&before);
                true
            }
            _ => false,
        }
    }

    /// Whether somebody has put an old backup back, and a newer one is to be found.
    pub(crate) fn is_behind(&self) -> bool {
        self.before_restore.is_some() && self.cursor() < self.furthest
    }

    /// It was filled from the log: nobody looks for a newer backup any more.
    pub(crate) fn was_filled(&mut self) {
        self.before_restore = None;
        // An edit that was not answered before is not carried over.
        self.lost_rows = true;
    }

    /// Nothing disturbs any more.
    pub(crate) fn calm(&mut self) {
        self.database.set_plan(None);
        self.database.set_down(false);
        self.unlock();
        self.database.refuse_no_more();
        self.decide();
    }

    /// Lets time pass as long as the exporter wants to wait, at most for a while.
    pub(crate) fn wait(&self, step: Exported) {
        match step {
            Exported::Wait(wait) => self.database.advance(wait),
            Exported::Idle => self.database.advance(Duration::from_millis(500)),
            _ => {}
        }
    }

    /// Rows = facts (I6), and where nobody else wrote: stock rows = memory (I8).
    pub(crate) fn check(&self, book: &Book) -> Result<(), Red> {
        self.database.look(|tables| {
            for (id, order) in &book.orders {
                let row = tables.orders.get(&(*id as i64));
                let row = row.ok_or_else(|| format!("I6 order {id} is missing in the database"))?;
                let theirs =
                    (i64::from(row.record.quantity), row.record.state.as_str(), row.record.create_time_ms);
                let ours = (order.quantity as i64, order.state.name(), order.created as i64);
                ensure!(ours == theirs, "I6 order {id}: the log says {ours:?}, the database {theirs:?}");
                let (ended, told) = (row.end_time_ms, order.ended);
                ensure!(ended == told as i64, "I20 order {id}: ended at {told}, the database has {ended}");
                let buyer = row.record.buyer.as_bytes() == &*order.buyer;
                ensure!(buyer, "I6 order {id} is of {} in the database", row.record.buyer);
            }
            for ((id, lsn), (kind, payment_ref, refund_ref, units, at)) in &book.payments {
                let row = tables.payments.get(&(*id as i64, *lsn as i64));
                let row = row.ok_or_else(|| format!("I20 order {id}: the database lacks LSN {lsn}"))?;
                let ours = (kind.name(), escape(payment_ref), escape(refund_ref), *units as i32, *at as i64);
                let texts = (row.payment_ref.clone(), row.refund_ref.clone());
                let theirs = (&*row.kind, texts.0, texts.1, row.quantity, row.create_time_ms);
                ensure!(ours == theirs, "I20 order {id}: told {ours:?}, the database has {theirs:?}");
            }
            let (rows, told) = (tables.payments.len(), book.payments.len());
            ensure!(rows == told, "I6 {rows} late payments and refunds in the database, {told} in the log");
            let (rows, orders) = (tables.orders.len(), book.orders.len());
            ensure!(rows == orders, "I6 {rows} orders in the database, {orders} in the log");
            for (id, item) in &book.items {
                let Some(line) = tables.stock.get(&i64::from(*id)) else {
                    ensure!(self.edited || self.refuses, "I8 item {id} has no row in the database");
                    continue;
                };
                let piles = line.row.piles;
                let (taken, granted) = (book.taken(*id), piles.count + piles.held + piles.sale);
                let same = granted == item.granted && piles.held + piles.sale == taken;
                // Units that were sold before the withdrawal was seen cannot be withdrawn.
                let (asked, withdrawn) = self.deltas.get(id).copied().unwrap_or_default();
                let followed = item.followed;
                let exact = (asked..=asked + withdrawn).contains(&followed);
                let settled = exact || item.stopped || self.lost_rows || self.refuses;
                ensure!(
                    settled,
                    "I8 item {id}: somebody changed its row by {asked}, {followed} was followed"
                );
                let excused = (self.edited || self.refuses) && item.paused;
                ensure!(
                    same || excused,
                    "I8 item {id}: the database has {piles:?}, the log {} granted and {taken} taken",
                    item.granted
                );
            }
            Ok(())
        })
    }
}
