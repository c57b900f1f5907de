//! Replays facts into shards, each owner's on a thread of its own: a restart takes as long as the
//! slowest owner, or as reading and checking the log, whichever is longer.
//!
//! The reader passes facts on in batches and keeps their order within an owner, which is all that
//! matters. A fact that cannot be applied ends the replay before anything on disk is changed.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use stampede_core::catalogue::Catalogue;
use stampede_core::fact::Fact;
use stampede_core::limits::{Bounds, FACT_BYTES_MAX};
use stampede_core::shard::{ApplyError, Shard, rows_of};
use stampede_core::state_row::StateRow;
use stampede_core::types::{HashSecret, ItemId, Lsn};
use stampede_persist::codec;
use stampede_persist::log::rebuild::Rebuild;

/// Bytes of facts in one batch.
const BATCH_BYTES: usize = 128 << 10;
/// Batches that may wait for an owner's thread.
const BATCHES_WAITING_MAX: usize = 8;
/// Most orders for which a replay reserves room in advance, over all shards.
const EXPECTED_ORDERS_MAX: usize = 1 << 23;

/// The shards of all owners, while they are being filled.
pub struct Shards {
    pub(super) shards: Vec<Shard>,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) secret: HashSecret,
}

impl Shards {
    /// Empty shards for that many cores.
    pub fn new(cores: usize, secret: HashSecret) -> Self {
        Self::with_bounds(cores, secret, Bounds::DEFAULT)
    }

    /// The same with other limits of their tables.
    fn with_bounds(cores: usize, secret: HashSecret, bounds: Bounds) -> Self {
        let catalogue = Arc::new(Catalogue::new(cores));
        let shard = |index| Shard::with_bounds(index, secret, catalogue.clone(), bounds);
        Self { shards: (0..cores).map(shard).collect(), catalogue, secret }
    }

    /// Reserves room for the orders that this many facts can contain: every order has a fact of its own.
    pub fn expect_facts(&mut self, facts: Lsn) {
        let share = (facts.0 as usize).min(EXPECTED_ORDERS_MAX) / self.shards.len();
        self.shards.iter_mut().for_each(|shard| shard.expect_orders(share));
    }

    /// How many items and orders there are.
    pub fn counts(&self) -> (usize, usize) {
        let counts = self.shards.iter().map(Shard::counts);
        counts.fold((0, 0), |sum, (items, orders)| (sum.0 + items, sum.1 + orders))
    }

    fn each(
        &mut self,
        owner: Option<ItemId>,
        mut apply: impl FnMut(&mut Shard) -> Result<(), ApplyError>,
    ) -> Result<(), String> {
        let cores = self.shards.len();
        match owner {
            Some(item) => apply(&mut self.shards[item.owner(cores)]),
            None => self.shards.iter_mut().try_for_each(apply),
        }
        .map_err(|error| error.to_string())
    }
}

impl Rebuild for Shards {
    fn row(&mut self, row: &StateRow<'_>) -> Result<(), String> {
        let owner = match row {
            StateRow::Item { item, .. } => Some(*item),
            StateRow::Order { order, .. } => Some(order.item()),
            StateRow::Money(money) => Some(money.order.item()),
            StateRow::Call(call) => Some(call.item),
            StateRow::Blocked { .. } => None,
            // Where the entry concerns no item, shard 0 keeps it.
            StateRow::Audit(audit) => match audit.item {
                Some(item) => Some(item),
                None => return self.shards[0].load_row(row).map_err(|error| error.to_string()),
            },
        };
        self.each(owner, |shard| shard.load_row(row))
    }

    fn fact(&mut self, lsn: Lsn, fact: &Fact<'_>) -> Result<(), String> {
        self.each(fact.item(), |shard| shard.apply(lsn, fact))
    }

    fn rows(&self, visit: &mut dyn FnMut(StateRow<'_>)) {
        rows_of(&self.shards, &mut |row| visit(*row));
    }
}

/// Empty shards for the snapshotter: one per owner, so that a snapshot can hold whatever the owners' tables
/// can.
pub(super) fn empty(cores: usize, secret: HashSecret) -> Box<dyn Rebuild> {
    Box::new(empty_with_bounds(cores, secret, Bounds::DEFAULT))
}

fn empty_with_bounds(cores: usize, secret: HashSecret, bounds: Bounds) -> Shards {
    Shards::with_bounds(cores, secret, bounds)
}

/// Fills shards from a log, in parallel. Rows of a snapshot come first, on the calling thread.
pub struct Replay<'a> {
    state: &'a mut Shards,
    cores: usize,
    lanes: Vec<Lane>,
}

/// The channel to one owner's thread, which returns its shard at the end.
struct Lane {
    filling: Batch,
    batches: SyncSender<Batch>,
    thread: JoinHandle<Result<Shard, String>>,
}

/// Facts in a row, as the log encodes them.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    facts: Vec<(Lsn, u16, usize)>,
}

impl Batch {
    fn push(&mut self, lsn: Lsn, fact: &Fact<'_>) {
        let start = self.bytes.len();
        self.bytes.resize(start + FACT_BYTES_MAX, 0);
        let len = codec::encode(fact, &mut self.bytes[start..]);
        self.bytes.truncate(start + len);
        self.facts.push((lsn, codec::fact_kind(fact), len));
    }

    fn apply(&self, shard: &mut Shard) -> Result<(), String> {
        let mut rest = &self.bytes[..];
        for &(lsn, kind, len) in &self.facts {
            let (payload, behind) = rest.split_at(len);
            rest = behind;
            let fact = codec::decode(kind, payload).map_err(|error| format!("LSN {lsn}: {error}"))?;
            shard.apply(lsn, &fact).map_err(|error| format!("LSN {lsn}: {error}"))?;
        }
        Ok(())
    }
}

impl<'a> Replay<'a> {
    /// A replay into these shards.
    pub fn new(state: &'a mut Shards) -> Self {
        Self { cores: state.shards.len(), state, lanes: Vec::new() }
    }

    fn start_lanes(&mut self) -> Result<(), String> {
        for (owner, shard) in std::mem::take(&mut self.state.shards).into_iter().enumerate() {
            let (batches, inbox) = sync_channel(BATCHES_WAITING_MAX);
            let named = std::thread::Builder::new().name(format!("stampede-replay-{owner}"));
            let thread = named.spawn(move || fill(shard, &inbox)).map_err(|error| error.to_string())?;
            self.lanes.push(Lane { filling: Batch::default(), batches, thread });
        }
        Ok(())
    }

    fn give(&mut self, owner: usize, lsn: Lsn, fact: &Fact<'_>) -> Result<(), String> {
        let lane = &mut self.lanes[owner];
        lane.filling.push(lsn, fact);
        if lane.filling.bytes.len() < BATCH_BYTES {
            return Ok(());
        }
        let batch = std::mem::take(&mut lane.filling);
        // A thread that takes no more has found a fact that cannot be applied.
        if lane.batches.send(batch).is_err() { self.end_lanes() } else { Ok(()) }
    }

    /// Waits for all threads and takes the shards back.
    fn end_lanes(&mut self) -> Result<(), String> {
        let lanes = std::mem::take(&mut self.lanes);
        let threads: Vec<_> = lanes
            .into_iter()
            .map(|Lane { filling, batches, thread }| {
                // If this fails, the thread has ended with an error, which is returned below.
                let _taken = batches.send(filling);
                thread
            })
            .collect();
        for thread in threads {
            let shard = thread.join().map_err(|_| "a replay thread panicked".to_owned())??;
            self.state.shards.push(shard);
        }
        Ok(())
    }
}

fn fill(mut shard: Shard, inbox: &Receiver<Batch>) -> Result<Shard, String> {
    for batch in inbox {
        batch.apply(&mut shard)?;
    }
    Ok(shard)
}

impl Rebuild for Replay<'_> {
    fn row(&mut self, row: &StateRow<'_>) -> Result<(), String> {
        self.state.row(row)
    }

    fn fact(&mut self, lsn: Lsn, fact: &Fact<'_>) -> Result<(), String> {
        if self.lanes.is_empty() {
            self.start_lanes()?;
        }
        match fact.item() {
            Some(item) => self.give(item.owner(self.cores), lsn, fact),
            None => (0..self.cores).try_for_each(|owner| self.give(owner, lsn, fact)),
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        self.end_lanes()
    }

    fn rows(&self, visit: &mut dyn FnMut(StateRow<'_>)) {
        self.state.rows(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stampede_core::item::ItemSpec;
    use stampede_core::sample::{Item, Order, item_id, spec};
    use stampede_core::types::OrderId;

    const SECRET: HashSecret = HashSecret([1; 16]);

    fn placed(order: OrderId) -> Fact<'static> {
        Order { subject: b"alice", ..Order::new(order) }.placed()
    }

    fn created(item: ItemId) -> Fact<'static> {
        Item { spec: ItemSpec { cap: 99, ..spec("one of many") }, ..Item::new(item, 99) }.created()
    }

    /// An order of an item that was never created: no shard can take it.
    #[test]
    fn a_fact_that_cannot_be_applied_is_reported_with_its_lsn() {
        let fact = placed(OrderId::new(item_id(7), 1));
        let mut state = Shards::new(2, SECRET);
        let mut replay = Replay::new(&mut state);
        let applied = replay.fact(Lsn(41), &fact).and_then(|()| replay.finish());
        assert_eq!(applied, Err("LSN 41: item 7 was never created".to_owned()));
    }

    /// All owners together can hold more than one shard can: a snapshot of that still works, has its rows
    /// in order, and can be loaded.
    #[test]
    fn a_snapshot_takes_what_the_tables_of_all_owners_can() {
        const OWNERS: usize = 4;
        let bounds = Bounds { orders: 10, ..Bounds::DEFAULT };
        let mut owners = Shards::with_bounds(OWNERS, SECRET, bounds);
        let mut snapshot = empty_with_bounds(OWNERS, SECRET, bounds);
        let mut lsn = 0;
        let mut both = |fact: &Fact<'_>| {
            lsn += 1;
            owners.fact(Lsn(lsn), fact).expect("an owner has room");
            snapshot.fact(Lsn(lsn), fact).expect("a snapshot has room for what the owners have");
        };
        // An item for each owner, with as many orders as it has room for.
        let items = (0..OWNERS).map(|owner| (1..).map(item_id).find(|item| item.owner(OWNERS) == owner));
        for item in items.flatten() {
            both(&created(item));
            for seq in 1..=10 {
                both(&placed(OrderId::new(item, seq)));
            }
        }
        assert_eq!(owners.counts(), snapshot.counts());
        let (mut keys, mut again) = (Vec::new(), Shards::with_bounds(OWNERS, SECRET, bounds));
        snapshot.rows(&mut |row| {
            again.row(&row).expect("a row that came out goes in");
            keys.push(match row {
                StateRow::Item { item, .. } => (0, u64::from(item.get())),
                StateRow::Order { order, .. } => (1, order.get()),
                StateRow::Money(_) | StateRow::Call(_) => return,
                StateRow::Blocked { .. } => (2, 0),
                StateRow::Audit(row) => (3, row.lsn.0),
            });
        });
        assert!(keys.is_sorted(), "rows are in order: {keys:?}");
        let digest = |shards: &Shards| shards.shards.iter().map(Shard::digest).fold(0, u64::wrapping_add);
        assert_eq!(digest(&again), digest(&owners));
        assert_eq!(keys.iter().filter(|key| key.0 == 3).count(), OWNERS, "the audit trail is in it");
    }
}
