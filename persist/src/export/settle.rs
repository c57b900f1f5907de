//! Stock rows: written with a version check, without ever waiting for another session's row lock.
//!
//! One call does the ordinary case for all items of a batch: it locks the rows that can
//! be locked at once, updates those that are as they were left, and enters the books.
//! The rows that it leaves out are then handled one by one: changed (adopted), deleted
//! (put back), or locked (put off; the books know what the row needs). Next:
//! [`super::ledger`].

use std::collections::{BTreeMap, HashMap, HashSet};

use stampede_core::item::ItemSpec;
use stampede_core::types::ItemId;

use super::batch::{Batch, Import, ItemChange};
use super::error::ExportError;
use super::ledger::{Found, Ledger, Ledgers, StockRow};
use super::store::Store;

/// The results of settling.
#[derive(Default, Debug)]
pub(super) struct Settled {
    /// Items whose row somebody had changed, with the version of that row.
    pub(super) adopted: Vec<(ItemId, i64)>,
    /// Items from which sold units were withdrawn, and how many.
    pub(super) void: Vec<(ItemId, i64)>,
    /// Items that have to stop, and why.
    pub(super) tampered: Vec<(ItemId, String)>,
    /// Items whose row is somebody else's and was left as it is, with what it says.
    pub(super) foreign: Vec<(ItemId, String)>,
    /// Items whose row the database accepted without an error and did not write.
    pub(super) swallowed: Vec<ItemId>,
    /// Items whose row is put off.
    pub(super) deferred: Vec<ItemId>,
}

impl Settled {
    /// Adds further results.
    pub(super) fn append(&mut self, more: Self) {
        // Field by field, so that a new field cannot be forgotten here.
        let Self { adopted, void, tampered, foreign, swallowed, deferred } = more;
        self.adopted.extend(adopted);
        self.void.extend(void);
        self.tampered.extend(tampered);
        self.foreign.extend(foreign);
        self.swallowed.extend(swallowed);
        self.deferred.extend(deferred);
    }
}

/// Reads the books of these items that are not in memory yet.
pub(super) async fn load(
    store: &mut impl Store,
    ledgers: &mut Ledgers,
    items: &[ItemId],
) -> Result<(), ExportError> {
    let missing: Vec<ItemId> = items.iter().copied().filter(|item| !ledgers.contains_key(item)).collect();
    if !missing.is_empty() {
        ledgers.extend(store.load_books(&missing).await?);
    }
    Ok(())
}

/// Which stock rows may be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Touch {
    /// None: only the books are entered, the rows are put off.
    None,
    /// The exporter's own rows. A row that may be somebody else's is put off until everything that the log
    /// held is exported: it may already show a later state of the log.
    Ours,
    /// All rows; what cannot be written is reported.
    All,
}

/// Makes books for the items that a batch creates, and enters the batch's changes in all books. The
/// settings are written before. Items with neither books nor a stock row are left out.
pub(super) async fn enter(
    store: &mut impl Store,
    ledgers: &mut Ledgers,
    batch: &Batch,
    stand_ins: &HashMap<ItemId, String>,
    replay: Replay,
    settled: &mut Settled,
) -> Result<(), ExportError> {
    let items: Vec<ItemId> = batch.items.iter().map(|change| change.item).collect();
    load(store, ledgers, &items).await?;
    recover(store, ledgers, batch, settled).await?;
    for change in batch.items.iter().filter(|change| change.created) {
        if let Some(ledger) = ledgers.get_mut(&change.item) {
            // Of existing books only the row is kept: how the exporter left it.
            *ledger = Ledger { row: ledger.row, ..Ledger::new(String::new()) };
        }
    }
    take_over(store, ledgers, batch, replay, settled).await?;
    for change in &batch.items {
        if let Some(ledger) = ledgers.get_mut(&change.item) {
            if let Some(spec) = change.spec {
                let name = stand_ins.get(&change.item).map_or(batch.str(spec.name), String::as_str);
                name.clone_into(&mut ledger.name);
            }
            let unasked = if replay.begins_in_history { change.answered.unwrap_or(0) } else { 0 };
            ledger.outside += unasked;
            ledger.apply(change);
        }
    }
    Ok(())
}

/// Whether the batch repeats history: the database is empty, or its cursor was lost, and is filled from
/// the beginning of a log with older facts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Replay {
    /// The batch begins in that history: its answers are to questions about another database.
    pub(super) begins_in_history: bool,
    /// The batch ends in that history: a row may already show what comes after it.
    pub(super) ends_in_history: bool,
}

/// Handles items whose import ends in this batch: a difference between their row and the log was made
/// by somebody since. An item without a row was imported from another database; its row is made later.
async fn take_over(
    store: &mut impl Store,
    ledgers: &mut Ledgers,
    batch: &Batch,
    replay: Replay,
    settled: &mut Settled,
) -> Result<(), ExportError> {
    let whole = |change: &ItemChange| match change.import {
        Some(Import::Whole(piles)) => Some((change.item, piles)),
        _ => None,
    };
    let mut came: Vec<_> = batch.items.iter().filter_map(whole).collect();
    // Without those whose row the exporter has written before: it is known.
    came.retain(|(item, _)| ledgers.get(item).is_some_and(|ledger| ledger.row.is_none()));
    if came.is_empty() {
        return Ok(());
    }
    let items: Vec<ItemId> = came.iter().map(|(item, _)| *item).collect();
    let rows: HashMap<ItemId, StockRow> = store.stock_rows(&items).await?.into_iter().collect();
    for (item, piles) in came {
        let (Some(ledger), Some(row)) = (ledgers.get_mut(&item), rows.get(&item)) else { continue };
        match ledger.take_over(piles, *row) {
            Found::Adopted => {}
            Found::Void(units) => settled.void.push((item, units)),
            // Compared again at the end of that history, when the books are complete.
            Found::Tampered(_) if replay.ends_in_history => (ledger.row, ledger.outside) = (None, 0),
            Found::Tampered(reason) | Found::Foreign(reason) => settled.tampered.push((item, reason)),
        }
    }
    Ok(())
}

/// If somebody has deleted books, they start again with the stock row, and the item stops.
async fn recover(
    store: &mut impl Store,
    ledgers: &mut Ledgers,
    batch: &Batch,
    settled: &mut Settled,
) -> Result<(), ExportError> {
    let lost: Vec<ItemId> =
        batch.items.iter().map(|change| change.item).filter(|item| !ledgers.contains_key(item)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    store.recover_books(&lost).await?;
    load(store, ledgers, &lost).await?;
    for item in lost {
        let reason =
            "its row in stampede_item was deleted; it starts again with the numbers of the stock row";
        settled.tampered.push((item, reason.to_owned()));
    }
    Ok(())
}

pub(super) async fn put_specs(store: &mut impl Store, batch: &Batch) -> Result<(), ExportError> {
    let spec_of = |change: &ItemChange| {
        change.spec.map(|row| (change.item, ItemSpec { name: batch.str(row.name), ..row.spec }))
    };
    let specs: Vec<(ItemId, ItemSpec<'_>)> = batch.items.iter().filter_map(spec_of).collect();
    if specs.is_empty() { Ok(()) } else { store.put_specs(&specs).await }
}

const GONE: &str = "it was deleted by somebody else; it was put back with the engine's numbers, the item is paused: \
     check it, then resume it";

/// Brings the stock rows of these items in line with the books, as far as they may be written.
pub(super) async fn settle(
    store: &mut impl Store,
    ledgers: &mut Ledgers,
    items: &[ItemId],
    touch: Touch,
    settled: &mut Settled,
) -> Result<(), ExportError> {
    if touch == Touch::None {
        let known = books_of(ledgers, items);
        if !known.is_empty() {
            store.enter_books(&known).await?;
        }
        settled.deferred.extend_from_slice(items);
        return Ok(());
    }
    let missed = write_rows(store, ledgers, items).await?;
    if missed.is_empty() {
        return Ok(());
    }
    let reconciled = reconcile(store, ledgers, &missed, touch, settled).await?;
    // These rows are locked by us now: the second pass finds them as entered.
    let still = write_rows(store, ledgers, &reconciled).await?;
    settled.swallowed.extend(&still);
    settled.deferred.extend(still);
    Ok(())
}

fn books_of<'a>(ledgers: &'a Ledgers, items: &[ItemId]) -> Vec<(ItemId, &'a Ledger)> {
    items.iter().filter_map(|item| ledgers.get(item).map(|ledger| (*item, ledger))).collect()
}

/// Writes the books and, where possible, the rows; returns the items whose row was left out.
async fn write_rows(
    store: &mut impl Store,
    ledgers: &mut Ledgers,
    items: &[ItemId],
) -> Result<Vec<ItemId>, ExportError> {
    let known = books_of(ledgers, items);
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let written: HashMap<ItemId, Option<i64>> = store.settle(&known).await?.into_iter().collect();
    // In the order of the batch: the reports must not depend on the order in which a store answers.
    let mut missed = Vec::new();
    for item in items {
        match written.get(item) {
            Some(Some(version)) => note_row(ledgers, *item, *version),
            Some(None) => missed.push(*item),
            None => {}
        }
    }
    Ok(missed)
}

/// The row was written as the books say.
fn note_row(ledgers: &mut Ledgers, item: ItemId, version: i64) {
    if let Some(ledger) = ledgers.get_mut(&item) {
        ledger.row = Some(StockRow { version, piles: ledger.wanted() });
    }
}

/// Handles rows that were left out: adopts changed ones, puts back deleted ones.
/// Returns the items to be written once more.
async fn reconcile(
    store: &mut impl Store,
    ledgers: &mut Ledgers,
    missed: &[ItemId],
    touch: Touch,
    settled: &mut Settled,
) -> Result<Vec<ItemId>, ExportError> {
    let free: HashMap<ItemId, StockRow> = store.lock_stock_rows(missed).await?.into_iter().collect();
    let there: HashSet<ItemId> = store.stock_rows(missed).await?.into_iter().map(|(item, _)| item).collect();
    let (mut reconciled, mut gone) = (Vec::new(), Vec::new());
    for item in missed {
        let Some(ledger) = ledgers.get_mut(item) else { continue };
        match (free.get(item), there.contains(item)) {
            (Some(row), _) if ledger.row == Some(*row) => reconciled.push(*item),
            (Some(row), _) => {
                match ledger.reconcile(*row) {
                    Found::Adopted => {}
                    Found::Void(units) => settled.void.push((*item, units)),
                    Found::Tampered(reason) => settled.tampered.push((*item, reason)),
                    Found::Foreign(_) if touch == Touch::Ours => {
                        settled.deferred.push(*item);
                        continue;
                    }
                    Found::Foreign(reason) => {
                        settled.foreign.push((*item, reason));
                        continue;
                    }
                }
                settled.adopted.push((*item, row.version));
                reconciled.push(*item);
            }
            (None, true) => settled.deferred.push(*item),
            (None, false) => {
                if ledger.row.is_some() {
                    settled.tampered.push((*item, GONE.to_owned()));
                }
                gone.push(*item);
            }
        }
    }
    put_back(store, ledgers, &gone, settled).await?;
    Ok(reconciled)
}

async fn put_back(
    store: &mut impl Store,
    ledgers: &mut Ledgers,
    gone: &[ItemId],
    settled: &mut Settled,
) -> Result<(), ExportError> {
    if gone.is_empty() {
        return Ok(());
    }
    let made: HashMap<ItemId, i64> = store.make_stock_rows(gone).await?.into_iter().collect();
    let mut left = Vec::new();
    for item in gone {
        match made.get(item) {
            Some(version) => note_row(ledgers, *item, *version),
            None => left.push(*item),
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    // Somebody else has made the row meanwhile, or the database has swallowed ours.
    let there: HashSet<ItemId> = store.stock_rows(&left).await?.into_iter().map(|(item, _)| item).collect();
    settled.swallowed.extend(left.iter().filter(|item| !there.contains(item)));
    settled.deferred.extend(left);
    Ok(())
}

/// Keeps the reason of a pause in the database until the engine has confirmed the pause, even over a restart.
pub(super) async fn note_reasons(store: &mut impl Store, settled: &Settled) -> Result<(), ExportError> {
    let reasons: BTreeMap<ItemId, &str> =
        settled.tampered.iter().map(|(item, reason)| (*item, reason.as_str())).collect();
    if reasons.is_empty() {
        return Ok(());
    }
    store.note_pauses(&Vec::from_iter(reasons)).await
}
