//! The real shards behind one front: routing by owner, recording, restarting.

use std::sync::Arc;

use stampede_core::catalogue::Catalogue;
use stampede_core::command::{Command, Outcome};
use stampede_core::fact::Fact;
use stampede_core::limits::Bounds;
use stampede_core::shard::{ApplyError, Shard};
use stampede_core::state_row::StateRow;
use stampede_core::types::{HashSecret, ItemId, Lsn, OrderId, UnixMillis};

use crate::record::{Recorder, keep_row};

pub(crate) const SECRET: HashSecret = HashSecret(*b"a test's secret!");

/// Few orders a buyer, so that random histories come to the bound.
pub(crate) const BOUNDS: Bounds = Bounds { orders_per_buyer_and_item: 5, ..Bounds::DEFAULT };

/// All shards of an engine and everything that they ever decided.
pub(crate) struct Engine {
    pub(crate) shards: Vec<Shard>,
    pub(crate) log: Recorder,
}

impl Engine {
    pub(crate) fn new(cores: usize) -> Self {
        Self { shards: empty_shards(cores), log: Recorder::default() }
    }

    pub(crate) fn cores(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn owner(&self, item: ItemId) -> &Shard {
        &self.shards[item.owner(self.cores())]
    }

    /// Has the owner decide, and the others follow a change of the blocklist.
    pub(crate) fn decide(&mut self, now: UnixMillis, command: &Command<'_>) -> Outcome {
        let core = owner_of(command, self.cores());
        let outcome = self.shards[core].decide(now, command, &mut self.log);
        if let (Command::BlockBuyer { subject, blocked, .. }, Outcome::Done { .. }) = (command, outcome) {
            self.shards[1..].iter_mut().for_each(|shard| shard.follow_block(subject, *blocked));
        }
        outcome
    }

    /// Lets time pass for one shard; the facts that it appended.
    pub(crate) fn tick(&mut self, core: usize, now: UnixMillis, budget: usize) -> &[(Lsn, Fact<'static>)] {
        let before = self.log.facts.len();
        let appended = self.shards[core].tick(now, budget, &mut self.log);
        assert_eq!(appended, self.log.facts.len() - before);
        &self.log.facts[before..]
    }

    pub(crate) fn digest(&self) -> u64 {
        digest(&self.shards)
    }

    /// Every shard's rows, merged into the order that a snapshot has.
    pub(crate) fn rows(&self) -> Vec<StateRow<'static>> {
        let mut rows = Vec::new();
        self.shards.iter().for_each(|shard| shard.rows(&mut |row| rows.push(keep_row(row))));
        rows.sort_by_key(row_key);
        rows
    }

    /// Starts again with another number of cores, from the facts alone.
    pub(crate) fn replay(&mut self, cores: usize) {
        self.shards = replayed(cores, &self.log.facts).expect("a recorded log can be replayed");
    }

    /// Starts again with another number of cores, from a snapshot alone.
    pub(crate) fn reload(&mut self, cores: usize) {
        let clock = self.shards.iter().map(Shard::clock).max().expect("at least one core");
        let mut fresh = empty_shards(cores);
        for row in self.rows() {
            let (first, last) = row_targets(&row, cores);
            for shard in &mut fresh[first..=last] {
                shard.load_row(&row).expect("a row that came out goes in");
            }
        }
        let lsn = Lsn(self.log.facts.len() as u64);
        fresh.iter_mut().for_each(|shard| shard.finish_rows(lsn, clock));
        self.shards = fresh;
    }
}

pub(crate) fn empty_shards(cores: usize) -> Vec<Shard> {
    let catalogue = Arc::new(Catalogue::new(cores));
    (0..cores).map(|index| Shard::with_bounds(index, SECRET, catalogue.clone(), BOUNDS)).collect()
}

pub(crate) fn digest(shards: &[Shard]) -> u64 {
    shards.iter().map(Shard::digest).fold(0, u64::wrapping_add)
}

/// Fresh shards after these facts.
pub(crate) fn replayed(cores: usize, facts: &[(Lsn, Fact<'_>)]) -> Result<Vec<Shard>, ApplyError> {
    let mut shards = empty_shards(cores);
    facts.iter().try_for_each(|(lsn, fact)| apply(&mut shards, *lsn, fact))?;
    Ok(shards)
}

/// Applies a fact where it belongs: at the item's owner, or everywhere.
pub(crate) fn apply(shards: &mut [Shard], lsn: Lsn, fact: &Fact<'_>) -> Result<(), ApplyError> {
    let cores = shards.len();
    match fact.item() {
        Some(item) => shards[item.owner(cores)].apply(lsn, fact),
        None => shards.iter_mut().try_for_each(|shard| shard.apply(lsn, fact)),
    }
}

pub(crate) fn owner_of(command: &Command<'_>, cores: usize) -> usize {
    let order_owner = |order: OrderId| order.item().owner(cores);
    match *command {
        Command::Purchase(ref purchase) => purchase.item.owner(cores),
        Command::CancelOwn { order, .. }
        | Command::Move { order, .. }
        | Command::PayAgain { order, .. }
        | Command::Refund { order, .. }
        | Command::ExtendHold { order, .. } => order_owner(order),
        Command::PutItem { item, .. }
        | Command::AdjustStock { item, .. }
        | Command::SwitchItem { item, .. } => item.owner(cores),
        Command::BlockBuyer { .. } => 0,
    }
}

fn row_key(row: &StateRow<'static>) -> (u8, u64, &'static [u8]) {
    match *row {
        StateRow::Item { item, .. } => (0, item.get().into(), &[]),
        StateRow::Order { order, .. } => (1, order.get(), &[]),
        StateRow::Money(ref row) => (1, row.order.get(), &[]),
        StateRow::Call(ref row) => (2, row.item.get().into(), &[]),
        StateRow::Blocked { subject } => (3, 0, subject),
        StateRow::Audit(ref row) => (4, row.lsn.0, &[]),
    }
}

/// The first and last shard that take a row.
fn row_targets(row: &StateRow<'_>, cores: usize) -> (usize, usize) {
    let one = |item: ItemId| (item.owner(cores), item.owner(cores));
    match *row {
        StateRow::Item { item, .. } => one(item),
        StateRow::Order { order, .. } => one(order.item()),
        StateRow::Money(ref row) => one(row.order.item()),
        StateRow::Call(ref row) => one(row.item),
        StateRow::Blocked { .. } => (0, cores - 1),
        StateRow::Audit(ref row) => row.item.map_or((0, 0), one),
    }
}
