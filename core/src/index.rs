//! Rows found by hash, in a table of many small parts that grow one by one.
//!
//! A hash table that grows moves all its rows at once; at a million rows that holds up
//! a core for a good part of a second. A part has 1/256 of them. Next: [`crate::orders`].

use alloc::vec::Vec;

use hashbrown::HashTable;

/// Parts of an index; a power of two.
pub(crate) const PARTS: usize = 256;

/// Numbers of rows, found by the hash of what they are looked up by.
pub(crate) struct Index {
    parts: Vec<HashTable<u32>>,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { parts: (0..PARTS).map(|_| HashTable::new()).collect() }
    }

    pub(crate) fn find(&self, hash: u64, same: impl FnMut(&u32) -> bool) -> Option<u32> {
        self.parts[part_of(hash)].find(hash, same).copied()
    }

    /// Adds a row that is not there yet.
    pub(crate) fn insert(&mut self, hash: u64, row: u32, rehash: impl Fn(&u32) -> u64) {
        self.parts[part_of(hash)].insert_unique(hash, row, rehash);
    }

    /// Makes room for `more` rows in all parts, with a margin for those that get more than
    /// their share: six standard deviations. Fewer rows than parts are not worth it: each makes
    /// its own part when it comes.
    pub(crate) fn reserve(&mut self, more: usize, rehash: impl Fn(&u32) -> u64) {
        if more < PARTS {
            return;
        }
        let share = more.div_ceil(PARTS);
        let margin = 6 * (share.isqrt() + 1);
        self.parts.iter_mut().for_each(|part| part.reserve(share + margin, &rehash));
    }

    /// Makes room in one part if little is left there: its share of `headroom`.
    pub(crate) fn keep_headroom(&mut self, part: usize, headroom: usize, rehash: impl Fn(&u32) -> u64) {
        let part = &mut self.parts[part % PARTS];
        let share = headroom / PARTS;
        if !part.is_empty() && part.capacity() - part.len() < share / 2 {
            part.reserve(share, rehash);
        }
    }
}

/// Bits that neither picks the bucket in a part (the low ones) nor is its tag (the top seven).
fn part_of(hash: u64) -> usize {
    (hash >> 40) as usize % PARTS
}
