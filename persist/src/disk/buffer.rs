//! A buffer at a sector's alignment, which direct writes need.
//!
//! Without `unsafe`: it allocates a sector too much and begins inside. It must
//! never reallocate, for that would move the alignment. Next: [`super::real`].

use super::SECTOR_BYTES;

/// A zeroed byte buffer whose first byte lies at a multiple of [`SECTOR_BYTES`].
pub struct AlignedBuffer {
    store: Box<[u8]>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// A buffer of `len` zero bytes.
    pub fn new(len: usize) -> Self {
        let store = vec![0_u8; len + SECTOR_BYTES].into_boxed_slice();
        let start = store.as_ptr().align_offset(SECTOR_BYTES);
        assert!(start < SECTOR_BYTES, "an address always has an aligned one within a sector");
        Self { store, start, len }
    }
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.store[self.start..self.start + self.len]
    }
    /// The bytes, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.store[self.start..self.start + self.len]
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.len)
    }
}

/// Whether direct I/O may use this slice's address.
pub fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(SECTOR_BYTES) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_begins_at_a_sector() {
        for len in [0, 1, 4096, 10_000, 1 << 20] {
            let buffer = AlignedBuffer::new(len);
            assert_eq!(buffer.as_slice().as_ptr().addr() % 4096, 0);
            assert_eq!(buffer.as_slice().len(), len);
        }
    }
}
