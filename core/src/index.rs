//! Rows found by hash, in a table of many small parts: none ever has more than
//! [`PART_ROWS_MAX`] rows, and no call moves more than one part.
//!
//! A hash table that grows moves all its rows at once, which blocks a core for a second at
//! ten million of them. Here a part that is full is split in two, and a directory says which
//! part has which rows (R. Fagin and others, *Extendible Hashing*, 1979). So the cost of one
//! step of growing does not depend on the size of the table. Next: [`crate::orders`].
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

/// Most bits of a hash that pick a part: enough for 2^30 rows at half of what a part can have.
/// A part that cannot be split for want of bits grows like any hash table.
const DEPTH_MAX: u32 = 19;
/// The first of them; those below pick the bucket in a part, the top seven are its tag.
const DEPTH_SHIFT: u32 = 32;
/// Free rows in a part after [`Index::keep_headroom`] has looked at it.
const HEADROOM_ROWS: usize = 256;
/// Parts that one call of it looks at.
const HEADROOM_PARTS: usize = 64;
/// Most parts that it splits, however few rows they have.
const HEADROOM_SPLITS: usize = 4;

struct Part {
    rows: HashTable<u32>,
    /// How many bits all its rows share.
    depth: u32,
    /// Those bits.
    pattern: u32,
}

/// Numbers of rows, found by the hash of what they are looked up by.
pub(crate) struct Index {
    /// The part of each pattern of the first `depth` bits.
    directory: Vec<u32>,
    parts: Vec<Part>,
    depth: u32,
    /// The part that [`Self::keep_headroom`] looks at next.
    turn: usize,
    /// Most rows that a call has moved, for tests.
    moved_max: usize,
}

impl Index {
    pub(crate) fn new() -> Self {
        let part = Part { rows: HashTable::new(), depth: 0, pattern: 0 };
        Self { directory: alloc::vec![0], parts: alloc::vec![part], depth: 0, turn: 0, moved_max: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.rows.is_empty())
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
        if self.parts[part].rows.len() >= PART_ROWS_MAX {
            self.split(part, &rehash);
            part = self.part_of(hash);
        }
        let rows = &mut self.parts[part].rows;
        if rows.len() == rows.capacity() {
            self.moved_max = self.moved_max.max(rows.len());
        }
        rows.insert_unique(hash, row, rehash);
    }

    /// Makes the parts for about this many rows, if there are none yet.
    pub(crate) fn reserve(&mut self, rows: usize) {
        if self.parts.len() > 1 || !self.parts[0].rows.is_empty() {
            return;
        }
        let depth = depth_for(rows);
        let share = ((rows >> depth) * 4 / 3).min(PART_ROWS_MAX);
        self.depth = depth;
        self.directory = (0..1 << depth).collect();
        let part = |&pattern: &u32| Part { rows: HashTable::with_capacity(share), depth, pattern };
        self.parts = self.directory.iter().map(part).collect();
    }

    /// Makes room in the next parts if they have little left, or if there are too few of them for
    /// the `expected` rows; moves no more rows than a part has. Returns whether it moved any.
    pub(crate) fn keep_headroom(&mut self, expected: usize, rehash: impl Fn(&u32) -> u64) -> bool {
        let depth = depth_for(expected);
        let (mut moved, mut made) = (0, 0);
        for _ in 0..HEADROOM_PARTS.min(self.parts.len()) {
            let at = self.turn % self.parts.len();
            let part = &self.parts[at];
            let (len, room) = (part.rows.len(), part.rows.capacity() - part.rows.len());
            let splits = len + HEADROOM_ROWS > PART_ROWS_MAX || part.depth < depth;
            let grows = !splits && len > 0 && room < HEADROOM_ROWS.min(len);
            if (splits || grows) && (moved + len > PART_ROWS_MAX || made == HEADROOM_SPLITS) {
                break;
            }
            self.turn = at + 1;
            if splits && self.split(at, &rehash) {
                (moved, made) = (moved + len, made + 1);
            } else if grows {
                self.moved_max = self.moved_max.max(len);
                self.parts[at].rows.reserve(HEADROOM_ROWS.min(PART_ROWS_MAX - len), &rehash);
                (moved, made) = (moved + len, made + 1);
            }
        }
        made > 0
    }

    /// Splits a part by the next bit of its rows' hashes; `false` if there is none.
    fn split(&mut self, at: usize, rehash: impl Fn(&u32) -> u64) -> bool {
        let Part { depth, pattern: shared, .. } = self.parts[at];
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
        for row in whole {
            let hash = rehash(&row);
            halves[pattern(hash, depth + 1) >> depth].insert_unique(hash, row, &rehash);
        }
        let [lower, upper] = halves;
        let new = self.parts.len() as u32;
        let upper_pattern = shared | 1 << depth;
        self.parts[at] = Part { rows: lower, depth: depth + 1, pattern: shared };
        self.parts.push(Part { rows: upper, depth: depth + 1, pattern: upper_pattern });
        // Every second of the patterns that end in the bits which all these rows share.
        let upper_patterns = (upper_pattern as usize..1 << self.depth).step_by(2 << depth);
        upper_patterns.for_each(|pattern| self.directory[pattern] = new);
        true
    }

    /// Most rows that one call has moved so far.
    pub(crate) const fn moved_max(&self) -> usize {
        self.moved_max
    }
}

/// How many bits have to pick a part for this many expected rows. Parts are planned three
/// quarters full, since some get more than their share.
fn depth_for(rows: usize) -> u32 {
    rows.div_ceil(PART_ROWS_MAX * 3 / 4).next_power_of_two().ilog2().min(DEPTH_MAX)
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
                index.keep_headroom(0, |&row| hash(row));
            }
        }
        let found = |row: u32| index.find(hash(row), |&at| at == row);
        assert!((0..rows).all(|row| found(row) == Some(row)));
        assert!((rows..2 * rows).all(|row| found(row).is_none()));
        index
    }

    #[test]
    fn growing_keeps_every_row_and_moves_one_part_at_a_time() {
        for rows in [0, 1, 100, PART_ROWS_MAX as u32, 300_000] {
            let index = filled(Index::new(), rows, hash);
            assert!(index.moved_max() <= PART_ROWS_MAX, "{} rows moved at once", index.moved_max());
            assert!(index.parts.iter().all(|part| part.rows.len() <= PART_ROWS_MAX));
            let most = (rows as usize / (PART_ROWS_MAX / 4)).max(1);
            assert!(index.parts.len() <= most, "{} parts for {rows} rows", index.parts.len());
        }
    }

    #[test]
    fn reserved_room_moves_no_row() {
        let mut index = Index::new();
        index.reserve(300_000);
        assert_eq!(filled(index, 300_000, hash).moved_max(), 0);
    }

    #[test]
    fn room_made_ahead_is_enough() {
        let mut index = filled(Index::new(), 10_000, hash);
        while index.keep_headroom(300_000, |&row| hash(row)) {}
        assert!(index.moved_max() <= PART_ROWS_MAX);
        let parts = index.parts.len();
        for row in 10_000..300_000 {
            index.insert(hash(row), row, |&row| hash(row));
        }
        assert_eq!(index.parts.len(), parts, "nothing had to be split");
        let found = |row: u32| index.find(hash(row), |&at| at == row);
        assert!((0..300_000).all(|row| found(row) == Some(row)));
    }

    /// Numbers may come from outside: rows whose hashes are equal must not split for ever.
    #[test]
    fn rows_with_equal_hashes_are_kept() {
        let same = |row: u32| u64::from(row % 4);
        let index = filled(Index::new(), 3 * PART_ROWS_MAX as u32, same);
        assert!(index.parts.len() <= 1 + DEPTH_MAX as usize && index.depth <= DEPTH_MAX);
    }
}
