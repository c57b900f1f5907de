//! Rows found by hash, in a table of many small parts: none ever has more than
//! [`PART_ROWS_MAX`] rows, and no call moves more than one part.
//!
//! A hash table that grows moves all its rows at once, which holds up a core for a second at
//! ten million of them. Here a part that is full is split in two, and a directory says which
//! part has which rows (R. Fagin and others, *Extendible Hashing*, 1979). So what growing costs
//! at a time does not depend on how large the table is. Next: [`crate::orders`].
//!
//! ```text
//! hash: …[ directory ]…[ bucket ]      directory        parts
//!          bits 32..           ↘         0 ─────────────▶ 0 (bits …0)
//!                                        1 ─────────────▶ 1 (bits .01)
//!                                        2 ─────────────▶ 0
//!                                        3 ─────────────▶ 2 (bits .11)
//! ```

use alloc::vec::Vec;
use core::mem;

use hashbrown::HashTable;

use crate::limits::INDEX_PART_ROWS_MAX as PART_ROWS_MAX;
use crate::planted::{Bug, planted};

/// Most bits of a hash that pick a part: enough for 2^30 rows at half of what a part can have.
/// A part that cannot be split for want of bits grows like any hash table.
const DEPTH_MAX: u32 = 19;
/// The first of them; those below pick the bucket in a part, the top seven are its tag.
const DEPTH_SHIFT: u32 = 32;
/// Rows that a part has room for when [`Index::keep_headroom`] leaves it.
const HEADROOM_ROWS: usize = 256;
/// Parts that one call of it looks at.
const HEADROOM_PARTS: usize = 64;

struct Part {
    rows: HashTable<u32>,
    /// How many bits all its rows share.
    depth: u32,
}

/// Numbers of rows, found by the hash of what they are looked up by.
pub(crate) struct Index {
    /// The part of each pattern of the first `depth` bits.
    directory: Vec<u32>,
    parts: Vec<Part>,
    depth: u32,
    /// The part whose room is looked after next.
    turn: usize,
    /// Most rows that a call has moved: tests look at it.
    moved_max: usize,
}

impl Index {
    pub(crate) fn new() -> Self {
        let part = Part { rows: HashTable::new(), depth: 0 };
        Self { directory: alloc::vec![0], parts: alloc::vec![part], depth: 0, turn: 0, moved_max: 0 }
    }

    fn part_of(&self, hash: u64) -> usize {
        self.directory[pattern(hash, self.depth)] as usize
    }

    pub(crate) fn find(&self, hash: u64, same: impl FnMut(&u32) -> bool) -> Option<u32> {
        self.parts[self.part_of(hash)].rows.find(hash, same).copied()
    }

    /// Adds a row that is not there yet.
    pub(crate) fn insert(&mut self, hash: u64, row: u32, rehash: impl Fn(&u32) -> u64) {
        let mut part = self.part_of(hash);
        if self.parts[part].rows.len() >= PART_ROWS_MAX && !planted(Bug::ReservesAtOnce) {
            self.split(part, &rehash);
            part = self.part_of(hash);
        }
        let rows = &mut self.parts[part].rows;
        if rows.len() == rows.capacity() {
            self.moved_max = self.moved_max.max(rows.len());
        }
        rows.insert_unique(hash, row, rehash);
    }

    /// Makes the parts for about so many rows, if there are none yet.
    pub(crate) fn reserve(&mut self, rows: usize) {
        if self.parts.len() > 1 || !self.parts[0].rows.is_empty() {
            return;
        }
        // Three quarters full: some parts get more than their share.
        let depth = rows.div_ceil(PART_ROWS_MAX * 3 / 4).next_power_of_two().ilog2().min(DEPTH_MAX);
        let share = ((rows >> depth) * 4 / 3).min(PART_ROWS_MAX);
        self.depth = depth;
        self.directory = (0..1 << depth).collect();
        self.parts =
            self.directory.iter().map(|_| Part { rows: HashTable::with_capacity(share), depth }).collect();
    }

    /// Makes room in one of the next parts if one has little left. Says whether it moved any rows.
    pub(crate) fn keep_headroom(&mut self, rehash: impl Fn(&u32) -> u64) -> bool {
        for _ in 0..HEADROOM_PARTS.min(self.parts.len()) {
            let at = self.turn % self.parts.len();
            self.turn = at + 1;
            let rows = &mut self.parts[at].rows;
            let (len, room) = (rows.len(), rows.capacity() - rows.len());
            if len + HEADROOM_ROWS > PART_ROWS_MAX {
                return self.split(at, rehash);
            }
            if len > 0 && room < HEADROOM_ROWS.min(len) {
                rows.reserve(HEADROOM_ROWS.min(PART_ROWS_MAX - len), rehash);
                self.moved_max = self.moved_max.max(len);
                return true;
            }
        }
        false
    }

    /// Splits a part by the next bit of its rows' hashes; `false` if there is none.
    fn split(&mut self, at: usize, rehash: impl Fn(&u32) -> u64) -> bool {
        let depth = self.parts[at].depth;
        if depth == DEPTH_MAX {
            return false;
        }
        if depth == self.depth {
            self.directory.extend_from_within(..);
            self.depth += 1;
        }
        let whole = mem::take(&mut self.parts[at].rows);
        self.moved_max = self.moved_max.max(whole.len());
        let mut halves = [HashTable::with_capacity(PART_ROWS_MAX), HashTable::with_capacity(PART_ROWS_MAX)];
        let mut first = 0;
        for row in whole {
            let hash = rehash(&row);
            first = hash;
            halves[pattern(hash, depth + 1) >> depth].insert_unique(hash, row, &rehash);
        }
        let [lower, upper] = halves;
        let new = self.parts.len() as u32;
        self.parts[at] = Part { rows: lower, depth: depth + 1 };
        self.parts.push(Part { rows: upper, depth: depth + 1 });
        // Every second of the patterns that end in the bits which all these rows share.
        let upper_patterns = (pattern(first, depth) | 1 << depth..1 << self.depth).step_by(2 << depth);
        upper_patterns.for_each(|pattern| self.directory[pattern] = new);
        true
    }

    /// Most rows that one call has moved so far.
    pub(crate) const fn moved_max(&self) -> usize {
        self.moved_max
    }
}

/// The first `depth` of the bits that pick a part.
pub(crate) const fn pattern(hash: u64, depth: u32) -> usize {
    (hash >> DEPTH_SHIFT) as usize & ((1 << depth) - 1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

    fn hash(row: u32) -> u64 {
        let mixed = (u64::from(row) + 1).wrapping_mul(SPREAD);
        (mixed ^ (mixed >> 29)).wrapping_mul(SPREAD)
    }

    fn filled(mut index: Index, rows: u32, hash: impl Fn(u32) -> u64) -> Index {
        for row in 0..rows {
            index.insert(hash(row), row, |&row| hash(row));
            if row % 100 == 0 {
                index.keep_headroom(|&row| hash(row));
            }
        }
        let found = |row: u32| index.find(hash(row), |&at| at == row);
        assert!((0..rows).all(|row| found(row) == Some(row)));
        assert!((rows..2 * rows).all(|row| found(row).is_none()));
        index
    }

    #[test]
    fn rows_are_found_however_large_it_grows_and_no_call_moves_more_than_a_part() {
        for rows in [0, 1, 100, PART_ROWS_MAX as u32, 300_000] {
            let index = filled(Index::new(), rows, hash);
            assert!(index.moved_max() <= PART_ROWS_MAX, "{} rows moved at once", index.moved_max());
            assert!(index.parts.iter().all(|part| part.rows.len() <= PART_ROWS_MAX));
            let most = (rows as usize / (PART_ROWS_MAX / 4)).max(1);
            assert!(index.parts.len() <= most, "{} parts for {rows} rows", index.parts.len());
        }
    }

    #[test]
    fn nothing_moves_where_room_was_made_before() {
        let mut index = Index::new();
        index.reserve(300_000);
        assert_eq!(filled(index, 300_000, hash).moved_max(), 0);
    }

    /// Numbers may come from outside: rows that no bit tells apart must not split for ever.
    #[test]
    fn rows_that_cannot_be_told_apart_are_kept_all_the_same() {
        let same = |row: u32| u64::from(row % 4);
        let index = filled(Index::new(), 3 * PART_ROWS_MAX as u32, same);
        assert!(index.parts.len() <= 1 + DEPTH_MAX as usize && index.depth <= DEPTH_MAX);
    }
}
