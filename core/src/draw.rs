//! The draw of an item: its seed, what is published of it, and the ranks of the entries.
//!
//! For the first `draw_ms` of its window such an item takes entries; then they are
//! drawn in order of rank. The seed is generated before the opening. Its commitment is
//! published at once and the seed itself when the draw is held, so nobody can choose
//! the seed once the entries are known, and everybody can recompute who won.
//! docs/DRAW.md has the whole protocol. Next: [`crate::shard`], which runs the draw.

use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest, Sha256};

use crate::seqs::Seqs;
use crate::types::{ItemId, Lsn, OrderId, Quantity, UnixMillis};

/// First input of the commitment's hash, so that no other hash can pass for it.
const COMMITMENT_TAG: &[u8] = b"stampede-draw-seed-1";
/// First input of a rank's hash. With seed and order it fills one block of SHA-256 (55 bytes).
const RANK_TAG: &[u8] = b"stampede-draw-1";

/// The seed of a draw: 32 random bytes, a secret until the draw is held. All zeros = none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DrawSeed(pub [u8; 32]);

impl DrawSeed {
    /// No seed.
    pub const NONE: Self = Self([0; 32]);

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

/// Hides the seed: it must not get into a message by accident.
impl fmt::Debug for DrawSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() { "DrawSeed(none)" } else { "DrawSeed(…)" })
    }
}

/// The commitment to the seed of an item: SHA-256 over `stampede-draw-seed-1`, the item's
/// number (32 bits, big endian) and the seed.
pub fn commitment(item: ItemId, seed: &DrawSeed) -> [u8; 32] {
    let hash = Sha256::new().chain_update(COMMITMENT_TAG).chain_update(item.get().to_be_bytes());
    hash.chain_update(seed.0).finalize().into()
}

/// The rank of an entry: SHA-256 over `stampede-draw-1`, the seed and the order's number
/// (64 bits, big endian). The lowest goes first, compared as bytes.
pub fn rank(seed: &DrawSeed, order: OrderId) -> [u8; 32] {
    let hash = Sha256::new().chain_update(RANK_TAG).chain_update(seed.0);
    hash.chain_update(order.get().to_be_bytes()).finalize().into()
}

/// The inputs of a draw, fixed when it was held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Drawn {
    /// When it was held.
    pub at_ms: UnixMillis,
    /// Units that could be won.
    pub units: u64,
    /// Entries that took part.
    pub entries: u32,
    /// The item's last order at that moment: every entry is numbered up to it.
    pub last_seq: u32,
}

/// The draw of an item as a snapshot keeps it; its length is one of the item's settings.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DrawRow {
    /// The seed.
    pub seed: DrawSeed,
    /// Its inputs, if it was held.
    pub drawn: Option<Drawn>,
}

impl DrawRow {
    /// A draw with this seed that was not held yet; `None` without a seed.
    pub fn of(seed: DrawSeed) -> Option<Self> {
        (!seed.is_none()).then_some(Self { seed, drawn: None })
    }
}

/// The draw of an item as its readers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrawView {
    /// The first moment at which it is held, unless the item is paused then.
    pub draws_at_ms: UnixMillis,
    /// See [`commitment`].
    pub commitment: [u8; 32],
    /// Entries that wait to be drawn.
    pub entered: u32,
    /// Its result so far, once it was held.
    pub held: Option<HeldView>,
}

/// A draw that was held. Entries are still being drawn while [`DrawView::entered`] is not zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldView {
    /// Its inputs.
    pub drawn: Drawn,
    /// The seed, now public.
    pub seed: DrawSeed,
    /// Entries that have won so far.
    pub winners: u32,
    /// The last fact of the draw so far: this may be shown once it is durable. Zero after a
    /// restart from a snapshot, where everything is durable.
    pub lsn: Lsn,
}

/// One entry of a draw that was held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrawEntry {
    /// The order.
    pub order: OrderId,
    /// Its units.
    pub quantity: Quantity,
    /// Whether it won, whatever happened to the order later.
    pub won: bool,
}

/// The state of an item's draw.
pub(crate) struct Draw {
    pub(crate) seed: DrawSeed,
    commitment: [u8; 32],
    /// Orders in the state `entered`.
    pub(crate) entered: u32,
    pub(crate) held: Option<HeldDraw>,
}

/// A draw that was held, and its progress.
pub(crate) struct HeldDraw {
    pub(crate) drawn: Drawn,
    units_won: u64,
    winners: u32,
    lsn: Lsn,
}

impl Draw {
    pub(crate) fn new(item: ItemId, seed: DrawSeed) -> Self {
        Self { seed, commitment: commitment(item, &seed), entered: 0, held: None }
    }

    /// The draw in a snapshot; its entries are counted as their rows come.
    pub(crate) fn from_row(item: ItemId, row: &DrawRow) -> Self {
        let held = row.drawn.map(|drawn| HeldDraw::new(drawn, Lsn::ZERO));
        Self { held, ..Self::new(item, row.seed) }
    }

    pub(crate) fn row(&self) -> Option<DrawRow> {
        let drawn = self.held.as_ref().map(|held| held.drawn);
        (!self.seed.is_none()).then_some(DrawRow { seed: self.seed, drawn })
    }

    pub(crate) fn view(&self, draws_at_ms: UnixMillis) -> DrawView {
        let seed = self.seed;
        let held =
            self.held.as_ref().map(|h| HeldView { drawn: h.drawn, seed, winners: h.winners, lsn: h.lsn });
        DrawView { draws_at_ms, commitment: self.commitment, entered: self.entered, held }
    }
}

impl HeldDraw {
    pub(crate) const fn new(drawn: Drawn, lsn: Lsn) -> Self {
        Self { drawn, units_won: 0, winners: 0, lsn }
    }

    /// Whether an entry of this many units wins, if it is the next by rank.
    pub(crate) fn fits(&self, quantity: Quantity) -> bool {
        u64::from(quantity.get()) <= self.drawn.units - self.units_won
    }

    /// Records a drawn entry; false if it won more units than were left.
    pub(crate) fn note(&mut self, won: Option<Quantity>, lsn: Lsn) -> bool {
        self.lsn = lsn;
        let Some(quantity) = won else { return true };
        let fits = self.fits(quantity);
        self.units_won += if fits { u64::from(quantity.get()) } else { 0 };
        self.winners += 1;
        fits
    }
}

/// Average entries in one bucket of a ranking: what is sorted at once.
const BUCKET_ENTRIES: u32 = 128;
/// Most buckets, as a power of two.
const BUCKET_BITS_MAX: u32 = 16;

/// The entries of a draw in order of rank, gathered and sorted in small steps: a million of
/// them must not block the owner.
///
/// The first bits of its rank put an entry into a bucket; a bucket is sorted when the one
/// before it is empty. Only the first 64 bits of a rank are kept. They almost always differ;
/// where they do not, the ranks are computed again.
pub(crate) struct Ranking {
    pub(crate) item: ItemId,
    seed: DrawSeed,
    /// Orders up to this sequence number were looked at.
    seen: u32,
    last_seq: u32,
    /// Shifts the first 64 bits of a rank to the number of its bucket.
    shift: u32,
    buckets: Vec<Vec<(u64, u32)>>,
    bucket: usize,
    sorted: bool,
}

impl Ranking {
    /// A ranking of about `entries` entries of the item, none gathered yet.
    pub(crate) fn new(item: ItemId, seed: DrawSeed, last_seq: u32, entries: u32) -> Self {
        let wanted = (entries / BUCKET_ENTRIES).max(2).next_power_of_two();
        let bits = wanted.ilog2().min(BUCKET_BITS_MAX);
        let buckets = (0..1 << bits).map(|_| Vec::new()).collect();
        Self { item, seed, seen: 0, last_seq, shift: 64 - bits, buckets, bucket: 0, sorted: false }
    }

    /// Looks at the item's next orders, one for each step; true when it has seen all.
    pub(crate) fn gather(
        &mut self,
        seqs: &Seqs,
        steps: &mut usize,
        is_entered: impl Fn(OrderId) -> bool,
    ) -> bool {
        let last_seq = self.last_seq;
        let mut ahead = seqs.after(self.seen).take_while(|&seq| seq <= last_seq);
        for seq in ahead.by_ref().take(*steps) {
            *steps -= 1;
            self.seen = seq;
            let order = OrderId::new(self.item, seq);
            if is_entered(order) {
                let prefix = prefix(&rank(&self.seed, order));
                self.buckets[(prefix >> self.shift) as usize].push((prefix, seq));
            }
        }
        ahead.next().is_none()
    }

    /// Removes the entry with the lowest rank; to be called once all are gathered.
    pub(crate) fn pop(&mut self) -> Option<OrderId> {
        loop {
            let bucket = self.buckets.get_mut(self.bucket)?;
            if !self.sorted {
                let (item, seed) = (self.item, self.seed);
                let whole = |seq| rank(&seed, OrderId::new(item, seq));
                bucket.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| whole(b.1).cmp(&whole(a.1))));
                self.sorted = true;
            }
            if let Some((_, seq)) = bucket.pop() {
                return Some(OrderId::new(self.item, seq));
            }
            *bucket = Vec::new();
            (self.bucket, self.sorted) = (self.bucket + 1, false);
        }
    }
}

fn prefix(rank: &[u8; 32]) -> u64 {
    rank.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;

    fn item() -> ItemId {
        ItemId::new(7).expect("valid")
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Computed with `sha256sum`; docs/DRAW.md shows the same figures.
    #[test]
    fn hashes_are_what_the_protocol_says() {
        let seed = DrawSeed(core::array::from_fn(|n| n as u8));
        assert_eq!(hex(&commitment(item(), &seed)), COMMITMENT_HEX);
        assert_eq!(hex(&rank(&seed, OrderId::new(item(), 1))), RANK_HEX);
        assert_eq!(RANK_TAG.len() + 32 + 8, 55, "a rank costs one block");
    }

    const COMMITMENT_HEX: &str = "e01dce05c637e79d256a1da1353c674bda63fc6a19437a2ac3773f04a6e1da98";
    const RANK_HEX: &str = "3f2eb9d61f52e625e0dbe0bfdf8db64a707feac0207f92921ef54d9ac121094c";

    #[test]
    fn debug_output_hides_a_seed() {
        assert_eq!(format!("{:?} {:?}", DrawSeed([0xAB; 32]), DrawSeed::NONE), "DrawSeed(…) DrawSeed(none)");
    }

    #[test]
    fn entries_come_out_by_rank_whatever_the_step_size() {
        let seed = DrawSeed([9; 32]);
        for entries in [0, 1, 2, 100, 5_000] {
            let mut seqs = Seqs::new();
            (1..=2 * entries).for_each(|seq| seqs.push(seq));
            for step in [1, 7, usize::MAX] {
                let mut ranking = Ranking::new(item(), seed, 2 * entries, entries);
                // Every second order is an entry.
                while !ranking.gather(&seqs, &mut { step }, |order| order.seq() % 2 == 0) {}
                let popped: Vec<_> = core::iter::from_fn(|| ranking.pop()).collect();
                let mut expected: Vec<_> = (1..=entries).map(|n| OrderId::new(item(), 2 * n)).collect();
                expected.sort_by_key(|&order| rank(&seed, order));
                assert_eq!(popped, expected);
            }
        }
    }

    #[test]
    fn a_smaller_entry_may_win_where_a_larger_one_did_not() {
        let drawn = Drawn { at_ms: UnixMillis(1), units: 3, entries: 3, last_seq: 3 };
        let mut held = HeldDraw::new(drawn, Lsn(1));
        let units = |n| Quantity::new(n).expect("small");
        assert!(held.fits(units(3)) && held.note(Some(units(2)), Lsn(2)));
        assert!(!held.fits(units(2)) && held.note(None, Lsn(3)));
        assert!(held.fits(units(1)) && held.note(Some(units(1)), Lsn(4)));
        assert_eq!((held.winners, held.units_won), (2, 3));
        assert!(!held.note(Some(units(1)), Lsn(5)), "more than there was");
    }
}
