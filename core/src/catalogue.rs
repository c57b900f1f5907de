//! Finds the gauge of an item by its number, from any core, without a lock.
//!
//! The items of an owner core lie in [`TABLES`] tables, written by that owner alone; items are
//! never removed. A table is open-addressed with linear probing and is replaced by one twice
//! as large when it is three quarters full (readers finish on the old one: see
//! [`crate::published`]). There are many, so that replacing one moves few items however many
//! there are. Next: [`crate::shard`].

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::gauge::Gauge;
use crate::limits::ITEMS_MAX;
use crate::published::Published;
use crate::sync::{AtomicU32, Ordering};
use crate::types::ItemId;

const SLOTS_MIN: usize = 4;
/// Tables of an owner: each gets a few thousand of [`ITEMS_MAX`] items at most.
const TABLES: usize = if cfg!(loom) { 1 } else { 256 };

const _: () = assert!(cfg!(loom) || ITEMS_MAX / TABLES <= 1 << 13);

struct Table {
    slots: Box<[Published<Arc<Gauge>>]>,
    /// Slots that are taken. The owner's alone.
    taken: AtomicU32,
}

impl Table {
    fn with_slots(slots: usize) -> Self {
        Self { slots: (0..slots).map(|_| Published::none()).collect(), taken: AtomicU32::new(0) }
    }

    fn probe(&self, item: ItemId) -> impl Iterator<Item = &Published<Arc<Gauge>>> {
        let hash = hash(item) as usize;
        let mask = self.slots.len() - 1;
        (0..self.slots.len()).map(move |step| &self.slots[(hash + step) & mask])
    }

    fn find(&self, item: ItemId) -> Option<&Arc<Gauge>> {
        for slot in self.probe(item) {
            let gauge = slot.get()?;
            if gauge.item() == item {
                return Some(gauge);
            }
        }
        None
    }

    fn insert(&self, gauge: Arc<Gauge>) {
        let free = self.probe(gauge.item()).find(|slot| slot.get().is_none());
        free.expect("a table is never full").publish(gauge);
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        (self.taken.load(Ordering::Relaxed) as usize + 1) * 4 > self.slots.len() * 3
    }

    /// A table twice as large with the same items.
    fn doubled(&self) -> Self {
        let larger = Self::with_slots(self.slots.len() * 2);
        self.slots.iter().filter_map(Published::get).for_each(|gauge| larger.insert(gauge.clone()));
        larger
    }
}

/// All items of the engine. Shared by the cores; each part is written by one owner.
pub struct Catalogue {
    /// [`TABLES`] of each owner, one owner after the other.
    tables: Box<[Published<Table>]>,
    cores: usize,
}

impl Catalogue {
    /// An empty catalogue for this many owner cores.
    pub fn new(cores: usize) -> Self {
        Self { tables: (0..cores * TABLES).map(|_| Published::none()).collect(), cores }
    }

    /// How many owner cores it serves.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// The gauge of an item, if there is such an item.
    pub fn find(&self, item: ItemId) -> Option<&Gauge> {
        self.table_of(item).get()?.find(item).map(|gauge| &**gauge)
    }

    fn table_of(&self, item: ItemId) -> &Published<Table> {
        // Not the bits that pick the slot.
        &self.tables[item.owner(self.cores) * TABLES + (hash(item) >> 24) as usize % TABLES]
    }

    /// Owner only: adds the gauge of a new item.
    pub(crate) fn insert(&self, gauge: Arc<Gauge>) {
        let published = self.table_of(gauge.item());
        match published.get() {
            None => published.publish(Table::with_slots(SLOTS_MIN)),
            Some(table) if table.is_full() => published.publish(table.doubled()),
            Some(_) => {}
        }
        published.get().expect("published above").insert(gauge);
    }
}

/// 32 well mixed bits.
fn hash(item: ItemId) -> u32 {
    (u64::from(item.get()).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 32) as u32
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn finds_every_item_and_no_other() {
        let catalogue = Catalogue::new(3);
        let mut counts = [0; 3];
        for id in (1..=2_000).map(|n| ItemId::new(n * 7).expect("valid")) {
            let owner = id.owner(3);
            catalogue.insert(Arc::new(Gauge::new(id, 0)));
            counts[owner] += 1;
        }
        let known = |n| catalogue.find(ItemId::new(n).expect("valid")).is_some();
        assert!((1..=14_000).all(|n| known(n) == (n % 7 == 0)));
        assert!(counts.iter().all(|&count| count > 500), "uneven: {counts:?}");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::race;

    fn item(id: u64) -> ItemId {
        ItemId::new(id).expect("valid")
    }

    /// A gauge whose stock tells which item it is of, by an atomic that loom watches.
    fn gauge(id: u64) -> Arc<Gauge> {
        let gauge = Arc::new(Gauge::new(item(id), 0));
        gauge.stock.give(id * 100);
        gauge
    }

    fn available(catalogue: &Catalogue, id: u64) -> Option<u64> {
        catalogue.find(item(id)).map(|gauge| gauge.stock.available())
    }

    /// A core that reads while the table is replaced finds what was there before, and of
    /// the item that is being added either nothing or the whole gauge.
    #[test]
    fn a_reader_finds_its_item_while_the_table_grows() {
        loom::model(|| {
            let catalogue = Arc::new(Catalogue::new(1));
            let small = Table::with_slots(2);
            small.insert(gauge(1));
            catalogue.table_of(item(1)).publish(small);
            let (owner, reader) = (catalogue.clone(), catalogue.clone());
            // One item in two slots: the next one needs a larger table.
            race(
                move || owner.insert(gauge(2)),
                move || {
                    assert_eq!(available(&reader, 1), Some(100));
                    let added = available(&reader, 2);
                    assert!(added.is_none_or(|units| units == 200), "half a gauge: {added:?}");
                },
            );
            assert_eq!(available(&catalogue, 2), Some(200));
        });
    }
}
