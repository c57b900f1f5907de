//! The ring of slots under the queue of facts: the crate's only `unsafe`.
//!
//! A ticket is claimed with `fetch_add`; ticket `t` belongs to slot `t & mask`.
//! Each slot carries a stamp: the ticket whose bytes it holds. Who may touch the
//! bytes of a slot follows from three numbers alone:
//!
//! ```text
//!   consumed ≤ t < claimed, stamp ≠ t    the producer that claimed t, alone
//!   consumed ≤ t < claimed, stamp = t    the consumer, alone
//!   t < consumed                         nobody, until t + slots is claimed
//! ```
//!
//! The ring never blocks and never allocates after it is made. It must not be
//! used by two consumers: [`super::queue`] makes sure of that. Source: the stamped
//! slots of Vyukov's bounded queue, without its retry loop, since producers check
//! for room beforehand.

use stampede_core::limits::FACT_BYTES_MAX;

use super::sync::{AtomicU64, Ordering, UnsafeCell};

/// The stamp of a slot that was never filled; no ticket reaches it.
const NEVER: u64 = u64::MAX;

/// An encoded fact.
pub(super) struct Payload {
    pub(super) kind: u16,
    pub(super) len: u16,
    pub(super) bytes: [u8; FACT_BYTES_MAX],
}

/// One slot: nineteen cache lines, none shared with another slot.
#[repr(align(64))]
struct Slot {
    /// The ticket whose bytes stand here. Written by the producer of that ticket
    /// (Release: the bytes come first), read by the consumer (Acquire).
    stamp: AtomicU64,
    payload: UnsafeCell<Payload>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot>() == 19 * 64);

/// A counter on cache lines of its own, so that producers and the consumer share none.
#[repr(align(128))]
struct CachePadded(AtomicU64);

pub(super) struct Slots {
    /// The next ticket. Producers add to it; everybody reads it. SeqCst, so that a producer
    /// that checks for room sees every claim before it in the one order of all claims.
    claimed: CachePadded,
    /// The first ticket whose slot is still in use. Written by the consumer (Release: it has
    /// finished with the bytes), read by producers (Acquire) before they reuse the slot.
    consumed: CachePadded,
    ring: Box<[Slot]>,
}

// SAFETY: the bytes of a slot are reached only as the table above allows, and each change of
// hands goes through `stamp` (Release/Acquire) or `consumed` (Release/Acquire), so no two
// threads ever reach the same bytes without one having happened before the other.
unsafe impl Sync for Slots {}

impl Slots {
    /// A ring whose first ticket is `first`.
    pub(super) fn new(slots: usize, first: u64) -> Self {
        assert!(slots.is_power_of_two(), "slots are found with a mask");
        let empty = || Slot {
            stamp: AtomicU64::new(NEVER),
            payload: UnsafeCell::new(Payload { kind: 0, len: 0, bytes: [0; FACT_BYTES_MAX] }),
        };
        let ring = (0..slots).map(|_| empty()).collect();
        Self {
            claimed: CachePadded(AtomicU64::new(first)),
            consumed: CachePadded(AtomicU64::new(first)),
            ring,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.ring.len()
    }

    pub(super) fn claimed(&self) -> u64 {
        self.claimed.0.load(Ordering::SeqCst)
    }

    pub(super) fn consumed(&self) -> u64 {
        self.consumed.0.load(Ordering::Acquire)
    }

    fn slot(&self, ticket: u64) -> &Slot {
        &self.ring[(ticket & (self.ring.len() as u64 - 1)) as usize]
    }

    /// Claims the next ticket, lets `fill` write its slot, publishes it and returns it.
    ///
    /// # Panics
    /// When the ring is full: the caller did not check for room. Nothing is overwritten,
    /// but the claimed ticket stays empty for ever, so the process has to end.
    pub(super) fn push(&self, fill: impl FnOnce(&mut Payload)) -> u64 {
        let ticket = self.claimed.0.fetch_add(1, Ordering::SeqCst);
        assert!(ticket - self.consumed() < self.ring.len() as u64, "room was made sure of before deciding");
        let slot = self.slot(ticket);
        slot.payload.with_mut(|payload| {
            // SAFETY: `fetch_add` gave this ticket to this call alone, its stamp is not yet set, and
            // the assert above has seen (Acquire) that the consumer is done with the ticket that
            // had the slot before: by the table, the bytes are this producer's alone.
            fill(unsafe { &mut *payload });
        });
        slot.stamp.store(ticket, Ordering::Release);
        ticket
    }

    /// Whether this ticket was published.
    pub(super) fn is_ready(&self, ticket: u64) -> bool {
        self.slot(ticket).stamp.load(Ordering::Acquire) == ticket
    }

    /// Reads the slot of a ticket that was not freed yet with [`Slots::release`]; `None` if the
    /// ticket is not published. For the one consumer.
    pub(super) fn peek<R>(&self, ticket: u64, read: impl FnOnce(&Payload) -> R) -> Option<R> {
        assert!(ticket >= self.consumed(), "a freed slot is not read again");
        if !self.is_ready(ticket) {
            return None;
        }
        Some(self.slot(ticket).payload.with(|payload| {
            // SAFETY: the stamp (Acquire) says that the producer has finished, and no producer gets
            // the slot again before `consumed` passes this ticket, which only this consumer does.
            read(unsafe { &*payload })
        }))
    }

    /// Frees the slots of all tickets before `until`. For the one consumer.
    pub(super) fn release(&self, until: u64) {
        debug_assert!(until >= self.consumed());
        self.consumed.0.store(until, Ordering::Release);
    }
}
