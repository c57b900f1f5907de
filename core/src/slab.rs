//! Rows in chunks: growing moves nothing and doubles nothing, and a row keeps its number for ever.

use alloc::vec::Vec;
use core::mem::MaybeUninit;

use crate::limits::{SUBJECT_BYTES_PER_SHARD_MAX, TEXT_BYTES_PER_SHARD_MAX};

const CHUNK_BITS: u32 = 12;
const CHUNK_ROWS: usize = 1 << CHUNK_BITS;
/// The smallest piece of memory that a kernel clears.
const PAGE_BYTES: usize = 4096;

/// A growing table of rows, numbered from 0.
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a row and returns its number.
    pub(crate) fn push(&mut self, row: T) -> u32 {
        let slot = self.len;
        self.reserve(1);
        self.chunks[slot >> CHUNK_BITS].push(row);
        self.len += 1;
        slot as u32
    }

    /// Removes the last row.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        self.chunks[self.len >> CHUNK_BITS].pop()
    }

    /// Makes room for `more` rows, so that adding them allocates nothing.
    pub(crate) fn reserve(&mut self, more: usize) {
        let chunks = (self.len + more).div_ceil(CHUNK_ROWS);
        self.chunks.reserve(chunks.saturating_sub(self.chunks.len()));
        while self.chunks.len() < chunks {
            self.chunks.push(Vec::with_capacity(CHUNK_ROWS));
        }
    }

    /// Makes room for `headroom` more rows, and one chunk at a time for the `expected` ones. It
    /// writes to the new chunk: the kernel clears memory at its first use, which takes longer
    /// than adding a row.
    pub(crate) fn keep_headroom(&mut self, headroom: usize, expected: usize) {
        self.reserve(headroom);
        let rows = self.chunks.len() << CHUNK_BITS;
        if rows < expected {
            self.reserve(rows + 1 - self.len);
            let rows_per_page = (PAGE_BYTES / size_of::<T>()).max(1);
            let last = self.chunks.last_mut().into_iter().flat_map(|chunk| chunk.spare_capacity_mut());
            last.step_by(rows_per_page).for_each(|row| *row = MaybeUninit::zeroed());
        }
    }

    pub(crate) fn get(&self, slot: u32) -> &T {
        &self.chunks[slot as usize >> CHUNK_BITS][slot as usize & (CHUNK_ROWS - 1)]
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut T {
        &mut self.chunks[slot as usize >> CHUNK_BITS][slot as usize & (CHUNK_ROWS - 1)]
    }
}

/// Short byte strings, packed one after the other in chunks; never removed.
pub(crate) struct Arena {
    chunks: Vec<Vec<u8>>,
}

const ARENA_CHUNK_BITS: u32 = 16;
const ARENA_CHUNK_BYTES: usize = 1 << ARENA_CHUNK_BITS;

/// The position of a string: 40 bits, in two parts so that a row need not be aligned for it.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) lower: u32,
    pub(crate) upper: u8,
}

const _: () = assert!(SUBJECT_BYTES_PER_SHARD_MAX <= 1 << 40 && 2 * TEXT_BYTES_PER_SHARD_MAX <= 1 << 38);

impl Arena {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    /// Bytes in use, counted in whole chunks.
    pub(crate) const fn bytes(&self) -> u64 {
        (self.chunks.len() as u64) << ARENA_CHUNK_BITS
    }

    /// Stores a string of at most 255 bytes with its length before it, and returns its position.
    pub(crate) fn push_text(&mut self, bytes: &[u8]) -> Place {
        self.make_room(1 + bytes.len());
        let place = self.push(&[bytes.len() as u8]);
        self.push(bytes);
        place
    }

    /// The string that [`Self::push_text`] has stored there.
    pub(crate) fn text(&self, place: Place) -> &[u8] {
        let len = usize::from(self.get(place, 1)[0]);
        let start = place.lower as usize & (ARENA_CHUNK_BYTES - 1);
        &self.chunk(place)[start + 1..start + 1 + len]
    }

    /// Makes sure that the next `bytes` bytes lie in one chunk.
    fn make_room(&mut self, bytes: usize) {
        if self.chunks.last().is_none_or(|chunk| chunk.len() + bytes > ARENA_CHUNK_BYTES) {
            self.chunks.push(Vec::with_capacity(ARENA_CHUNK_BYTES));
        }
    }

    /// Stores a string and returns its position.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Place {
        self.make_room(bytes.len());
        let chunk = self.chunks.len() - 1;
        let start = self.chunks[chunk].len();
        self.chunks[chunk].extend_from_slice(bytes);
        let place = ((chunk as u64) << ARENA_CHUNK_BITS) | start as u64;
        Place { lower: place as u32, upper: (place >> 32) as u8 }
    }

    pub(crate) fn get(&self, place: Place, len: u8) -> &[u8] {
        let start = place.lower as usize & (ARENA_CHUNK_BYTES - 1);
        &self.chunk(place)[start..start + len as usize]
    }

    fn chunk(&self, place: Place) -> &[u8] {
        let place = u64::from(place.upper) << 32 | u64::from(place.lower);
        &self.chunks[(place >> ARENA_CHUNK_BITS) as usize]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_numbers_over_chunks() {
        let mut slab = Slab::new();
        let slots: Vec<u32> = (0..10_000u32).map(|n| slab.push(n)).collect();
        assert!(slots.iter().all(|&slot| *slab.get(slot) == slot));
        *slab.get_mut(5_000) = 7;
        assert_eq!((*slab.get(5_000), slab.len()), (7, 10_000));
    }

    #[test]
    fn room_for_the_expected_rows_is_made_chunk_by_chunk() {
        let mut slab: Slab<u64> = Slab::new();
        for chunks in 1..=3 {
            slab.keep_headroom(0, 3 * CHUNK_ROWS);
            assert_eq!(slab.chunks.len(), chunks);
        }
        slab.keep_headroom(0, 3 * CHUNK_ROWS);
        assert_eq!((slab.chunks.len(), slab.len()), (3, 0));
        (0..10_000).for_each(|n| assert_eq!(slab.push(n), n as u32));
        assert!((0..10_000).all(|n| *slab.get(n) == u64::from(n)));
    }

    #[test]
    fn texts_come_back_whole_over_chunks() {
        let mut arena = Arena::new();
        let text = [b'x'; 255];
        let places: Vec<Place> = (0..2_000).map(|n| arena.push_text(&text[..n % 256])).collect();
        for (n, &place) in places.iter().enumerate() {
            assert_eq!(arena.text(place), &text[..n % 256]);
        }
    }

    #[test]
    fn strings_come_back_whole_over_chunks() {
        let mut arena = Arena::new();
        let text = [b'x'; 61];
        let places: Vec<Place> = (0..5_000u32)
            .map(|n| arena.push(&[&n.to_le_bytes()[..], &text[..n as usize % 58]].concat()))
            .collect();
        for (n, &place) in (0u32..).zip(&places) {
            let bytes = arena.get(place, 4 + (n % 58) as u8);
            assert_eq!(bytes[..4], n.to_le_bytes());
        }
    }
}
