//! What was requested and what the responses said: evidence for the checker.
//!
//! Winners, unknowns and everything about repeated keys are kept in full (32 bytes
//! each); a refusal of a key that was used once takes 8. Holds no text: names
//! follow from [`Names`]. Next: [`crate::check`].

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};

use crate::meaning::{Class, Code};
use crate::window::Window;
use crate::workload::{ITEMS_MAX, ItemPicker, Items, Names};

const FORMAT: &str = "stampede-history-4";
const ENTRY_BYTES: usize = 32;
/// Longest first line of a file: it holds a baseline per item.
const HEADER_BYTES_MAX: u64 = 16 << 20;
/// Most entries that a file may announce; a larger number is damage.
const ENTRIES_MAX: u64 = 1 << 32;

/// One request's purchase, when it was requested and its final outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The purchase; repeats of it have the same number, hence the same key and buyer.
    pub purchase: u32,
    /// What came of it.
    pub code: Code,
    /// How many requests it took, saturating.
    pub attempts: u8,
    /// The order that was acked; 0 = none.
    pub order_id: u64,
    /// Its units as acked.
    pub quantity: u32,
    /// The low half of its `created_at_ms` as acked.
    pub created_low: u32,
    /// When the first request left, in units of 10 µs since the run began, saturating.
    pub invoked_10us: u32,
    /// When its end was known, in the same units.
    pub done_10us: u32,
    /// Whether a request of it was sent and never answered, and so may have been decided by itself.
    pub doubted: bool,
}

/// How an item stood before a run, which is responsible only for what came later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Orders up to this number existed.
    pub order_id: u64,
    /// Units granted; 0 = not known, taken to be as many as at the end.
    pub granted: i64,
    /// Units held and sold; `None` = not known.
    pub out: Option<i64>,
    /// When it is on sale; `None` = not known.
    pub window: Option<Window>,
}

/// Everything that one run requested and was told.
#[derive(Clone, PartialEq, Debug)]
pub struct History {
    /// Whose names and keys they are.
    pub names: Names,
    /// The items; which purchase is of which follows from the seed.
    pub items: Items,
    /// Units requested per purchase.
    pub quantity: u32,
    /// How the items stood before the run, where that is known.
    pub baselines: BTreeMap<u32, Baseline>,
    entries: Vec<Entry>,
    refused: Vec<u64>,
}

impl History {
    /// An empty history.
    pub const fn new(names: Names, items: Items, quantity: u32) -> Self {
        let baselines = BTreeMap::new();
        Self { names, items, quantity, baselines, entries: Vec::new(), refused: Vec::new() }
    }
    /// The part that is about one item.
    pub fn of_item(&self, item: u32) -> Self {
        let mut part = Self::new(self.names, Items::one(item), self.quantity);
        part.baselines.extend(self.baselines.get(&item).map(|&baseline| (item, baseline)));
        if self.items == Items::one(item) {
            (part.entries, part.refused) = (self.entries.clone(), self.refused.clone());
            return part;
        }
        let picker = ItemPicker::new(self.items, self.names.seed);
        let is_of_item = |purchase: u32| picker.item(purchase) == item;
        part.entries.extend(self.entries.iter().filter(|entry| is_of_item(entry.purchase)));
        part.refused.extend(self.refused.iter().filter(|&&packed| is_of_item((packed >> 8) as u32)));
        part
    }
    /// How the first of its items stood before the run: the only one after [`History::of_item`].
    pub fn baseline(&self) -> Baseline {
        self.baselines.get(&self.items.first).copied().unwrap_or_default()
    }
    /// Adds an entry in full.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }
    /// Adds the refusal of a purchase whose key was used by one request only.
    pub fn push_refused(&mut self, purchase: u32, code: Code) {
        self.refused.push(u64::from(purchase) << 8 | code as u64);
    }
    /// The entries kept in full.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
    /// The plain refusals: purchase and code.
    pub fn refused(&self) -> impl Iterator<Item = (u32, Code)> + '_ {
        self.refused.iter().map(|&packed| ((packed >> 8) as u32, Code::ALL[(packed & 0xFF) as usize]))
    }
    /// Takes over what another thread of the same run kept.
    pub fn absorb(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.refused.extend(other.refused);
    }
    /// How many different orders clients were told about. A winner whose first response was
    /// lost shows as a replay among the outcomes, and once here.
    pub fn orders_acked(&self) -> usize {
        let acked = self.entries.iter().filter(|entry| entry.code.class() == Class::Winner);
        acked.map(|entry| entry.order_id).collect::<HashSet<_>>().len()
    }
    /// How many ended in this class.
    pub fn count(&self, class: Class) -> usize {
        let full = self.entries.iter().filter(|entry| entry.code.class() == class).count();
        full + self.refused().filter(|(_, code)| code.class() == class).count()
    }
}

/// A file that is not a history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It could not be read or written.
    #[error("the history could not be read or written: {0}")]
    Io(#[from] io::Error),
    /// It is something else, or damaged.
    #[error("not a history file of this version ({0}); take one that `run --history FILE` wrote")]
    Format(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    seed: u64,
    users: Option<u32>,
    first_item: u32,
    items: u32,
    zipf: f64,
    quantity: u32,
    baselines: BTreeMap<u32, Baseline>,
    entries: u64,
    refused: u64,
}

impl History {
    /// Writes it: one line of JSON, then entries of 32 bytes and refusals of 8, little-endian.
    ///
    /// # Errors
    /// [`HistoryError::Io`].
    pub fn write(&self, out: &mut impl Write) -> Result<(), HistoryError> {
        let header = Header {
            format: FORMAT.to_owned(),
            seed: self.names.seed,
            users: self.names.users,
            first_item: self.items.first,
            items: self.items.count,
            zipf: self.items.zipf,
            quantity: self.quantity,
            baselines: self.baselines.clone(),
            entries: self.entries.len() as u64,
            refused: self.refused.len() as u64,
        };
        serde_json::to_writer(&mut *out, &header).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
        for entry in &self.entries {
            out.write_all(&encode(entry))?;
        }
        for refused in &self.refused {
            out.write_all(&refused.to_le_bytes())?;
        }
        Ok(out.flush()?)
    }

    /// Reads what [`History::write`] wrote.
    ///
    /// # Errors
    /// [`HistoryError`] if it cannot be read, is of another kind or is cut short.
    pub fn read(input: &mut impl BufRead) -> Result<Self, HistoryError> {
        let mut line = Vec::new();
        input.by_ref().take(HEADER_BYTES_MAX).read_until(b'\n', &mut line)?;
        let header: Header = serde_json::from_slice(&line).map_err(|_| HistoryError::Format("no header"))?;
        if header.format != FORMAT || header.entries > ENTRIES_MAX || header.refused > ENTRIES_MAX {
            return Err(HistoryError::Format("another format"));
        }
        let names = Names { seed: header.seed, users: header.users };
        if !(1..=ITEMS_MAX).contains(&header.items) {
            return Err(HistoryError::Format("an impossible number of items"));
        }
        let items = Items { first: header.first_item, count: header.items, zipf: header.zipf };
        let mut history = Self::new(names, items, header.quantity);
        history.baselines = header.baselines;
        for _ in 0..header.entries {
            let mut bytes = [0; ENTRY_BYTES];
            input.read_exact(&mut bytes)?;
            history.push(decode(&bytes).ok_or(HistoryError::Format("an unknown outcome"))?);
        }
        for _ in 0..header.refused {
            let mut bytes = [0; 8];
            input.read_exact(&mut bytes)?;
            let code =
                Code::ALL.get(usize::from(bytes[0])).ok_or(HistoryError::Format("an unknown outcome"))?;
            history.push_refused((u64::from_le_bytes(bytes) >> 8) as u32, *code);
        }
        Ok(history)
    }
}

fn encode(entry: &Entry) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..8].copy_from_slice(&entry.order_id.to_le_bytes());
    let words = [entry.purchase, entry.quantity, entry.created_low, entry.invoked_10us, entry.done_10us];
    for (field, word) in bytes[8..28].chunks_exact_mut(4).zip(words) {
        field.copy_from_slice(&word.to_le_bytes());
    }
    bytes[28] = entry.code as u8;
    bytes[29] = entry.attempts;
    bytes[30] = u8::from(entry.doubted);
    bytes
}

fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Entry> {
    let mut wide = [0; 8];
    wide.copy_from_slice(&bytes[..8]);
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Some(Entry {
        order_id: u64::from_le_bytes(wide),
        purchase: word(8),
        quantity: word(12),
        created_low: word(16),
        invoked_10us: word(20),
        done_10us: word(24),
        code: *Code::ALL.get(usize::from(bytes[28]))?,
        attempts: bytes[29],
        doubted: bytes[30] != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> History {
        let items = Items { first: 9, count: 3, zipf: 0.7 };
        let mut history = History::new(Names { seed: u64::MAX, users: Some(3) }, items, 2);
        history.baselines.insert(10, Baseline { order_id: 77, granted: 78, ..Baseline::default() });
        let entry = Entry {
            purchase: u32::MAX,
            code: Code::Replayed,
            attempts: 3,
            order_id: 1 << 40,
            quantity: 2,
            created_low: 5,
            invoked_10us: 6,
            done_10us: 7,
            doubted: true,
        };
        history.push(entry);
        history.push_refused(u32::MAX, Code::SoldOut);
        history
    }

    #[test]
    fn every_entry_is_of_one_item() {
        let mut history = sample();
        let mut entry = *history.entries().first().unwrap();
        for purchase in 0..1_000 {
            entry.purchase = purchase;
            history.push(entry);
            history.push_refused(purchase, Code::SoldOut);
        }
        let parts: Vec<_> = history.items.numbers().map(|item| history.of_item(item)).collect();
        let sum = |class| parts.iter().map(|part| part.count(class)).sum::<usize>();
        assert_eq!((sum(Class::Winner), sum(Class::Refusal)), (1_001, 1_001));
        assert!(parts.iter().all(|part| part.count(Class::Winner) > 100));
        assert_eq!((parts[0].baseline().order_id, parts[1].baseline().order_id), (0, 77));
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        sample().write(&mut bytes).unwrap();
        assert_eq!(History::read(&mut bytes.as_slice()).unwrap(), sample());
        assert_eq!((sample().count(Class::Winner), sample().count(Class::Refusal)), (1, 1));
        for cut in 0..bytes.len() {
            assert!(History::read(&mut &bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
