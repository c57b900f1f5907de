//! A file of the simulated disk: what is written, and what of it is durable.
//!
//! Sectors are shared between copies, so that a crash copies no file.

use std::collections::BTreeMap;
use std::sync::Arc;

use stampede_persist::disk::SECTOR_BYTES;

use super::{ATOM_BYTES, Landing, Rng};

/// The bytes of a sector; `None` = zeros.
type Sector = Option<Arc<[u8; SECTOR_BYTES]>>;

#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) len: usize,
    pub(super) sectors: Vec<Sector>,
    pub(super) durable_len: usize,
    /// For each unsynced sector: its durable content.
    pub(super) unsynced: BTreeMap<usize, Sector>,
}

impl Inode {
    pub(super) fn durable(bytes: &[u8]) -> Self {
        let sector = |bytes: &[u8]| {
            let mut whole = [0; SECTOR_BYTES];
            let holds_something = bytes != &whole[..bytes.len()];
            whole[..bytes.len()].copy_from_slice(bytes);
            holds_something.then(|| Arc::new(whole))
        };
        let sectors = bytes.chunks(SECTOR_BYTES).map(sector).collect();
        Self { len: bytes.len(), sectors, durable_len: bytes.len(), unsynced: BTreeMap::new() }
    }

    /// Whether each sector is shared with an earlier copy; does not compare bytes.
    pub(super) fn is_shared_with(&self, other: &Self) -> bool {
        let same = |(one, other): (&Sector, &Sector)| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.len == other.len && self.sectors.iter().zip(&other.sectors).all(same)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(0, &mut bytes);
        bytes
    }

    pub(super) fn read(&self, offset: usize, buffer: &mut [u8]) -> usize {
        let from = offset.min(self.len);
        let len = buffer.len().min(self.len - from);
        let mut done = 0;
        while done < len {
            let (sector, skip) = ((from + done) / SECTOR_BYTES, (from + done) % SECTOR_BYTES);
            let piece = (SECTOR_BYTES - skip).min(len - done);
            let target = &mut buffer[done..done + piece];
            match &self.sectors[sector] {
                Some(bytes) => target.copy_from_slice(&bytes[skip..skip + piece]),
                None => target.fill(0),
            }
            done += piece;
        }
        len
    }

    fn grow(&mut self, len: usize) {
        self.len = self.len.max(len);
        self.sectors.resize(self.len.div_ceil(SECTOR_BYTES), None);
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.grow(offset + bytes.len());
        let mut done = 0;
        while done < bytes.len() {
            let (sector, skip) = ((offset + done) / SECTOR_BYTES, (offset + done) % SECTOR_BYTES);
            let piece = &bytes[done..done + (SECTOR_BYTES - skip).min(bytes.len() - done)];
            let place = &mut self.sectors[sector];
            self.unsynced.entry(sector).or_insert_with(|| place.clone());
            let mut whole = place.as_deref().copied().unwrap_or([0; SECTOR_BYTES]);
            whole[skip..skip + piece.len()].copy_from_slice(piece);
            *place = Some(Arc::new(whole));
            done += piece.len();
        }
    }

    pub(super) fn zero_fill(&mut self, bytes: usize) {
        self.grow(bytes);
        for sector in 0..bytes.div_ceil(SECTOR_BYTES) {
            let old = self.sectors[sector].take();
            self.unsynced.entry(sector).or_insert(old);
        }
    }

    pub(super) fn sync(&mut self) {
        self.durable_len = self.len;
        self.unsynced.clear();
    }

    pub(super) fn sync_range(&mut self, offset: usize, len: usize) {
        self.durable_len = self.len;
        for sector in offset / SECTOR_BYTES..(offset + len) / SECTOR_BYTES {
            self.unsynced.remove(&sector);
        }
    }

    /// A power cut: each unsynced sector has its old content, its new one, or a part of both.
    pub(super) fn cut(&mut self, rng: &mut Rng, fine_tears: bool, landing: Landing) {
        if self.unsynced.is_empty() && self.len == self.durable_len {
            return;
        }
        let len = if rng.coin() { self.len } else { self.durable_len };
        let unsynced = std::mem::take(&mut self.unsynced);
        let drawn =
            if landing == Landing::Any { 0 } else { rng.below(unsynced.len().max(1) as u64) as usize };
        for (number, (sector, old)) in unsynced.into_iter().enumerate() {
            let landed = match landing {
                Landing::Any => {
                    self.land_any(rng, fine_tears, sector, old);
                    continue;
                }
                Landing::Before => number < drawn,
                Landing::From => number >= drawn,
                Landing::AllButOne => number != drawn,
                Landing::OnlyOne => number == drawn,
                Landing::All => true,
            };
            if !landed {
                self.sectors[sector] = old;
            }
        }
        (self.len, self.durable_len) = (len, len);
        self.sectors.resize(len.div_ceil(SECTOR_BYTES), None);
    }

    fn land_any(&mut self, rng: &mut Rng, fine_tears: bool, sector: usize, old: Sector) {
        match rng.next() & 3 {
            0 | 1 => self.sectors[sector] = old,
            2 if fine_tears => {
                let cut = rng.below((SECTOR_BYTES / ATOM_BYTES) as u64) as usize * ATOM_BYTES;
                let zeros = [0; SECTOR_BYTES];
                let mut torn = *old.as_deref().unwrap_or(&zeros);
                let new = self.sectors[sector].as_deref().unwrap_or(&zeros);
                torn[..cut].copy_from_slice(&new[..cut]);
                self.sectors[sector] = Some(Arc::new(torn));
            }
            _ => {}
        }
    }
}
