//! The words of the product as types: a number with a meaning is not a number.
//!
//! See the vocabulary in docs/ARCHITECTURE.md. Next: [`crate::item`].

use alloc::boxed::Box;
use core::fmt;
use core::hash::Hasher;

use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher13 as SipHasher13_128};

use crate::limits::{INLINE_BYTES_MAX, ITEM_ID_MAX, QUANTITY_MAX, SUBJECT_BYTES_MAX};

/// An item on sale: `1 ..= ITEM_ID_MAX`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ItemId(u32);

impl ItemId {
    /// The item with this number, or `None` outside `1 ..= ITEM_ID_MAX`.
    pub const fn new(id: u64) -> Option<Self> {
        if id == 0 || id > ITEM_ID_MAX as u64 { None } else { Some(Self(id as u32)) }
    }
    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
    /// The core among `cores` that owns this item. Stable for a given number of cores.
    ///
    /// Fibonacci hashing: consecutive ids, which shops use, spread evenly.
    pub const fn owner(self, cores: usize) -> usize {
        let hash = (self.0 as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (((hash >> 32) * cores as u64) >> 32) as usize
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An order: the item in the upper 32 bits, its sequence number within the item
/// (from 1) in the lower. It therefore names its owner for any number of cores.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OrderId(u64);

impl OrderId {
    /// The `seq`-th order of an item.
    pub const fn new(item: ItemId, seq: u32) -> Self {
        Self((item.0 as u64) << 32 | seq as u64)
    }
    /// The order with this number, or `None` if no item or sequence number fits it.
    pub const fn from_u64(id: u64) -> Option<Self> {
        match ItemId::new(id >> 32) {
            Some(item) if id as u32 != 0 => Some(Self::new(item, id as u32)),
            _ => None,
        }
    }
    /// The number; fits a signed 64-bit integer.
    pub const fn get(self) -> u64 {
        self.0
    }
    /// The item that was bought.
    pub const fn item(self) -> ItemId {
        ItemId((self.0 >> 32) as u32)
    }
    /// The sequence number within the item, from 1.
    pub const fn seq(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Log sequence number: the place of a fact in the one total order, from 1. Zero is "before all".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first fact.
    pub const ZERO: Self = Self(0);
    /// The one after this.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A point on the sale clock, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UnixMillis(pub u64);

/// Units in one purchase: `1 ..= QUANTITY_MAX`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Quantity(u32);

impl Quantity {
    /// One unit.
    pub const ONE: Self = Self(1);
    /// That many units, or `None` outside `1 ..= QUANTITY_MAX`.
    pub const fn new(units: u64) -> Option<Self> {
        if units == 0 || units > QUANTITY_MAX as u64 { None } else { Some(Self(units as u32)) }
    }
    /// The number of units.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Up to 255 bytes by value, for what travels between cores. Up to [`INLINE_BYTES_MAX`] of them
/// need no allocation: most ids are shorter, and rings with room for the longest would be slow.
#[derive(Clone)]
pub struct ShortBytes(Storage);

#[derive(Clone)]
enum Storage {
    Inline { len: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Boxed(Box<[u8]>),
}

const _: () = assert!(size_of::<ShortBytes>() == 64, "one cache line");

impl ShortBytes {
    /// No bytes.
    pub const EMPTY: Self = Self(Storage::Inline { len: 0, bytes: [0; INLINE_BYTES_MAX] });

    /// A copy of these bytes, or `None` if they are more than 255.
    pub fn new(given: &[u8]) -> Option<Self> {
        let len = u8::try_from(given.len()).ok()?;
        if given.len() > INLINE_BYTES_MAX {
            return Some(Self(Storage::Boxed(given.into())));
        }
        let mut bytes = [0; INLINE_BYTES_MAX];
        bytes[..given.len()].copy_from_slice(given);
        Some(Self(Storage::Inline { len, bytes }))
    }
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Storage::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Storage::Boxed(bytes) => bytes,
        }
    }
}

impl PartialEq for ShortBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}
impl Eq for ShortBytes {}
impl fmt::Debug for ShortBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

/// A buyer's opaque name out of the verified token: 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Subject(ShortBytes);

impl Subject {
    /// The subject with these bytes, or `None` if it is empty or too long.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if !(1..=SUBJECT_BYTES_MAX).contains(&bytes.len()) {
            return None;
        }
        ShortBytes::new(bytes).map(Self)
    }
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

/// The secret under which buyers and idempotency keys are hashed. Drawn when a data
/// directory is made and kept with it, since snapshots store hashes.
#[derive(Clone, Copy)]
pub struct HashSecret(pub [u8; 16]);

/// A buyer in memory: a 128-bit keyed hash of the subject.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BuyerHash(pub [u64; 2]);

impl HashSecret {
    /// The hash of a subject (SipHash-1-3, 128 bits).
    pub fn buyer(&self, subject: &[u8]) -> BuyerHash {
        BuyerHash(self.wide(subject))
    }
    /// The hash that identifies a verified token while the process runs (SipHash-1-3, 128 bits).
    pub fn token(&self, token: &[u8]) -> [u64; 2] {
        self.wide(token)
    }
    fn wide(&self, bytes: &[u8]) -> [u64; 2] {
        let mut hasher = SipHasher13_128::new_with_key(&self.0);
        hasher.write(bytes);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }
    /// The hash of an idempotency key or payment reference within its scope
    /// (SipHash-1-3); never zero, which stands for "none".
    pub fn reference(&self, reference: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(reference);
        hasher.finish().max(1)
    }
}
