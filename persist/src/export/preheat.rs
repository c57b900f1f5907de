//! Preheating: imports what is only in Postgres as facts, before the sale.
//!
//! A shop puts its items into `stock` by hand (`INSERT INTO stock (id, name, count) …`), or
//! a data directory was lost and its database was not. Each item that the engine does not
//! know is handed out as `ItemCreated` (and `ItemSwitched`) by `ACTOR_POSTGRES`, followed by
//! its orders as `OrderImported`; each blocked buyer as `BuyerBlocked`. When these facts
//! come back through the feed, the exporter changes nothing in the rows that they came from.
//!
//! An item is imported as a whole or not at all: only if its numbers agree with its orders, and
//! only if all of its facts pass the checks of replay, which a [`Trial`] makes before the first
//! fact is handed out. A row that does not pass is left alone, with an alarm that names it. While
//! its orders come in, the item is paused, so that a crash in between leaves nothing on sale that
//! Postgres has sold; the next start goes on with what is missing.
//!
//! This module reads only, one page at a time, in one snapshot of the database. Next:
//! [`super::foreign`] for the rows.

use std::collections::{HashMap, HashSet};

use stampede_core::draw::DrawSeed;
use stampede_core::fact::{ACTOR_IMPORT, ACTOR_POSTGRES, Fact, Switch};
use stampede_core::item::Pile;
use stampede_core::shard::Trial;
use stampede_core::types::{ItemId, Lsn, UnixMillis};

use super::attach::Attached;
use super::database::Database;
use super::error::ExportError;
use super::foreign::{ImportedOrder, StockSettings, subject_of};
use super::limits::{PREHEAT_PAGE_ITEMS, PREHEAT_PAGE_ORDERS};
use super::store::{Begin, Connect, StockRecord, Store};

/// What the engine knows already, and where new facts go.
pub trait PreheatSink {
    /// Whether the engine knows this item.
    fn knows_item(&mut self, item: ItemId) -> bool;
    /// If the import of this item was cut short: what the engine has of it.
    fn half_taken(&mut self, item: ItemId) -> Option<HalfTaken>;
    /// Whether there is room for one more item with so many orders.
    fn has_room(&mut self, item: ItemId, orders: u64) -> bool;
    /// Whether this buyer is on the engine's blocklist.
    fn knows_blocked(&mut self, subject: &[u8]) -> bool;
    /// Takes a fact. An item's facts come in a row: the item, its orders by id, its switches.
    ///
    /// # Errors
    /// Why the engine cannot take it; preheating then ends.
    fn take(&mut self, fact: &Fact<'_>) -> Result<(), String>;
}

/// What the engine has of an item whose import was cut short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HalfTaken {
    /// Units granted.
    pub granted: u64,
    /// Units held by the orders imported so far.
    pub held: u64,
    /// Units sold by them.
    pub sold: u64,
    /// The number of the last of them; 0 = none.
    pub last_seq: u32,
}

/// What preheating did.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PreheatReport {
    /// Items imported.
    pub items: u64,
    /// Orders imported.
    pub orders: u64,
    /// Blocked buyers imported.
    pub blocked: u64,
    /// Rows left alone, and why; at most the first thousand.
    pub left: Vec<LeftAlone>,
    /// How many rows were left alone.
    pub left_total: u64,
}

/// A row that was not imported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftAlone {
    /// Which: the table and the key.
    pub row: String,
    /// What is wrong with it, or with which of its orders.
    pub reason: String,
}

impl std::fmt::Display for LeftAlone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} was not imported: {}", self.row, self.reason)
    }
}

/// Most rows that a report names as left alone.
const LEFT_MAX: usize = 1_000;

/// Why preheating ended early. The facts so far stay; another call goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum PreheatError {
    /// The database.
    #[error(transparent)]
    Database(#[from] ExportError),
    /// The engine.
    #[error("an item or order from Postgres was not accepted: {0}")]
    Sink(String),
}

/// Hands out everything in the database that the engine does not know.
///
/// Call it after [`super::attach`] and replay, before the first request. `now` is the sale
/// clock. Memory: one page of items or orders.
///
/// # Errors
/// See [`PreheatError`].
pub fn preheat<C: Connect>(
    database: &mut Database<C>,
    attached: &Attached,
    now: UnixMillis,
    sink: &mut dyn PreheatSink,
) -> Result<PreheatReport, PreheatError> {
    database.run(async |store| store.begin(Begin::Snapshot).await)?;
    let mut preheating = Preheating { database, sink, now, report: PreheatReport::default(), muddled: None };
    let done = preheating.blocked(attached).and_then(|()| preheating.items());
    let report = preheating.report;
    let ended = database.run(async |store| store.roll_back().await);
    done?;
    ended?;
    Ok(report)
}

struct Preheating<'a, C: Connect> {
    database: &'a mut Database<C>,
    sink: &'a mut dyn PreheatSink,
    now: UnixMillis,
    report: PreheatReport,
    /// Items that are named by an order whose id belongs to another item or to none, each with such
    /// an order; read when first needed.
    muddled: Option<HashMap<i64, i64>>,
}

impl<C: Connect> Preheating<'_, C> {
    /// Imports the blocklist. A database that this log was exported to may be behind the log, so
    /// there only rows count that were written by hand.
    fn blocked(&mut self, attached: &Attached) -> Result<(), PreheatError> {
        let fresh = attached.cursor == Lsn::ZERO;
        let mut last = String::new();
        loop {
            let page = self
                .database
                .run(async |store| store.blocked_page(&last, fresh, PREHEAT_PAGE_ORDERS).await)?;
            for buyer in &page {
                self.block(buyer)?;
            }
            let Some(end) = page.into_iter().next_back() else { return Ok(()) };
            last = end;
        }
    }

    fn block(&mut self, buyer: &str) -> Result<(), PreheatError> {
        let Some(subject) = subject_of(buyer) else {
            self.leave(format!("blocked buyer {buyer:?}"), "the buyer is not 1 to 255 bytes".to_owned());
            return Ok(());
        };
        if self.sink.knows_blocked(&subject) {
            return Ok(());
        }
        let (at_ms, actor) = (self.now, ACTOR_POSTGRES);
        match self.sink.take(&Fact::BuyerBlocked { at_ms, subject: &subject, blocked: true, actor }) {
            Ok(()) => self.report.blocked += 1,
            Err(reason) => self.leave(format!("blocked buyer {buyer:?}"), reason),
        }
        Ok(())
    }

    fn items(&mut self) -> Result<(), PreheatError> {
        let mut next = Some(i64::MIN);
        while let Some(from) = next {
            let page = self.database.run(async |store| store.stock_page(from, PREHEAT_PAGE_ITEMS).await)?;
            next = page.last().and_then(|end| end.id.checked_add(1));
            let mut wanted = Vec::new();
            for row in page {
                let Some(item) = u64::try_from(row.id).ok().and_then(ItemId::new) else {
                    self.leave(stock_row(row.id), "the id is not 1 to 2147483647".to_owned());
                    continue;
                };
                let half = self.sink.half_taken(item);
                if half.is_some() || !self.sink.knows_item(item) {
                    wanted.push(Wanted { item, row, half });
                }
            }
            self.page(&wanted)?;
        }
        Ok(())
    }

    fn page(&mut self, wanted: &[Wanted]) -> Result<(), PreheatError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let items: Vec<ItemId> = wanted.iter().map(|wanted| wanted.item).collect();
        let with_orders = self.database.run(async |store| store.items_with_orders(&items).await)?;
        let with_orders: HashSet<ItemId> = with_orders.into_iter().collect();
        for wanted in wanted {
            let has_orders = with_orders.contains(&wanted.item);
            match self.judge(wanted, has_orders)? {
                Ok(stock) => self.hand_out(wanted, &stock, has_orders)?,
                Err(reason) => self.leave(stock_row(wanted.row.id), reason),
            }
        }
        Ok(())
    }

    /// Whether the item can be imported: checks its settings, each of its orders, and its numbers
    /// against its orders.
    fn judge(&mut self, wanted: &Wanted, has_orders: bool) -> Result<Judged<StockSettings>, PreheatError> {
        let stock = match StockSettings::read(&wanted.row) {
            Ok(stock) => stock,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Some(order) = self.muddled()?.get(&wanted.row.id) {
            return Ok(Err(format!("the id of order {order} is not its sid * 2^32 + a number")));
        }
        let mut trial = Trial::new();
        if let Err(error) = trial.take(&self.created(wanted.item, &stock, has_orders)) {
            return Ok(Err(error.to_string()));
        }
        if has_orders && let Err(reason) = self.try_orders(wanted, &mut trial)? {
            return Ok(Err(reason));
        }
        let item = trial.item(wanted.item).expect("created above");
        let (held, sold) = (item.held, item.sold);
        if (held, sold) != (stock.held, stock.sale) {
            return Ok(Err(format!(
                "its row says held {} and sale {}, but its orders add up to {held} and {sold}",
                stock.held, stock.sale
            )));
        }
        if wanted.half.is_some_and(|half| half.granted != stock.granted) {
            return Ok(Err(CHANGED_SINCE.to_owned()));
        }
        let fits = wanted.half.is_some() || self.sink.has_room(wanted.item, trial.orders());
        Ok(if fits { Ok(stock) } else { Err("the engine has no room for it".to_owned()) })
    }

    /// Checks every order as replay does; those that are imported already must add up to what the
    /// engine has.
    fn try_orders(&mut self, wanted: &Wanted, trial: &mut Trial) -> Result<Judged<()>, PreheatError> {
        let (mut held, mut sold, mut there) = (0, 0, None);
        let mut page = self.orders(wanted.item, first_order(wanted.item))?;
        while let Some((last, _)) = page.last() {
            let last = *last;
            for (id, order) in &page {
                let order = match order {
                    Ok(order) => order,
                    Err(reason) => return Ok(Err(format!("order {id}: {reason}"))),
                };
                if let Err(error) = trial.take(&order.fact(self.now)) {
                    return Ok(Err(format!("order {id}: {error}")));
                }
                if wanted.half.is_some_and(|half| order.id.seq() <= half.last_seq) {
                    let units = u64::from(order.quantity.get());
                    held += if order.state.pile() == Pile::Held { units } else { 0 };
                    sold += if order.state.pile() == Pile::Sold { units } else { 0 };
                    there = Some(order.id.seq());
                }
            }
            page = self.orders(wanted.item, last)?;
        }
        let same =
            |half: HalfTaken| (half.held, half.sold, half.last_seq) == (held, sold, there.unwrap_or(0));
        Ok(if wanted.half.is_none_or(same) { Ok(()) } else { Err(CHANGED_SINCE.to_owned()) })
    }

    /// The first fact of an item. If more facts follow, the item begins paused.
    fn created<'s>(&self, item: ItemId, stock: &'s StockSettings, has_orders: bool) -> Fact<'s> {
        let actor = if has_orders || stock.is_switched() { ACTOR_IMPORT } else { ACTOR_POSTGRES };
        // The database knows nothing of a draw.
        let (spec, granted, seed) = (stock.spec(), stock.granted, DrawSeed::NONE);
        Fact::ItemCreated { at_ms: self.now, item, spec, granted, seed, actor }
    }

    /// Hands out the facts of an item, or those that are missing. It sells nothing before the last.
    fn hand_out(
        &mut self,
        wanted: &Wanted,
        stock: &StockSettings,
        has_orders: bool,
    ) -> Result<(), PreheatError> {
        let item = wanted.item;
        self.report.items += 1;
        if wanted.half.is_none() {
            self.take(&self.created(item, stock, has_orders))?;
        }
        if has_orders {
            self.hand_out_orders(item, wanted.half.map_or(0, |half| half.last_seq))?;
        }
        for (on, switch) in [(stock.closed, Switch::Closed), (stock.ended, Switch::Ended)] {
            if on {
                self.switch(item, switch, ACTOR_POSTGRES)?;
            }
        }
        match stock.paused {
            true => self.switch(item, Switch::Paused, ACTOR_IMPORT),
            false if has_orders || stock.is_switched() || wanted.half.is_some() => {
                self.switch(item, Switch::Resumed, ACTOR_IMPORT)
            }
            false => Ok(()),
        }
    }

    fn hand_out_orders(&mut self, item: ItemId, after_seq: u32) -> Result<(), PreheatError> {
        let mut page = self.orders(item, first_order(item) + i64::from(after_seq))?;
        while let Some((last, _)) = page.last() {
            let last = *last;
            for (_, order) in &page {
                let order = order.as_ref().map_err(|reason| PreheatError::Sink(reason.clone()))?;
                self.report.orders += 1;
                self.take(&order.fact(self.now))?;
            }
            page = self.orders(item, last)?;
        }
        Ok(())
    }

    /// The next page of the item's orders, by id.
    fn orders(&mut self, item: ItemId, after: i64) -> Result<Vec<JudgedOrder>, PreheatError> {
        let last = first_order(item) | i64::from(u32::MAX);
        let page =
            self.database.run(async |store| store.orders_page(after, last, PREHEAT_PAGE_ORDERS).await)?;
        Ok(page.iter().map(|row| (row.id, ImportedOrder::read(row))).collect())
    }

    /// Items that have to be left alone, because an order's id and its item do not match.
    fn muddled(&mut self) -> Result<&HashMap<i64, i64>, PreheatError> {
        if self.muddled.is_none() {
            let muddled = self.database.run(async |store| store.mismatched_items().await)?;
            self.muddled = Some(muddled.into_iter().collect());
        }
        Ok(self.muddled.get_or_insert_default())
    }

    fn switch(&mut self, item: ItemId, switch: Switch, actor: &str) -> Result<(), PreheatError> {
        self.take(&Fact::ItemSwitched { at_ms: self.now, item, switch, actor, key: &[] })
    }

    fn take(&mut self, fact: &Fact<'_>) -> Result<(), PreheatError> {
        self.sink.take(fact).map_err(PreheatError::Sink)
    }

    fn leave(&mut self, row: String, reason: String) {
        let left = LeftAlone { row, reason };
        tracing::warn!(target: "stampede::export", "{left}");
        self.report.left_total += 1;
        if self.report.left.len() < LEFT_MAX {
            self.report.left.push(left);
        }
    }
}

/// A row that the engine does not know, or not all of.
struct Wanted {
    item: ItemId,
    row: StockRecord,
    half: Option<HalfTaken>,
}

/// A row that passed its checks, or why it is left alone.
type Judged<T> = Result<T, String>;

const CHANGED_SINCE: &str = "only a part of its orders was imported before a crash, and its rows have changed \
     since; it sells nothing: close it, and create another item for the units that are left";

fn stock_row(id: i64) -> String {
    format!("stock row {id}")
}

/// Just before the first id that an order of the item can have.
fn first_order(item: ItemId) -> i64 {
    i64::from(item.get()) << 32
}

/// An order by its id, or what is wrong with it.
type JudgedOrder = (i64, Judged<ImportedOrder>);
