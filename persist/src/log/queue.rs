//! The queue of facts from the owners to the journal: a ticket is an LSN.
//!
//! Many producers, one consumer, bounded, lock-free. The owner knows the LSN of a
//! fact the moment it decides. Only facts that a shard has accepted go in. A producer
//! makes sure of room *before* it decides, so appending cannot fail. It wakes the
//! journal once per batch, and only if it sleeps. Nothing here touches a file. Next:
//! [`super::slots`] for the memory model, [`super::journal`] for the other end.

use std::time::Duration;

use stampede_core::shard::{Accepted, FactSink};
use stampede_core::types::Lsn;

use super::slots::Slots;
use super::sync::{Arc, AtomicBool, Condvar, Mutex, Ordering, fence};
use crate::codec;

/// The queue; shared by all owners and the journal.
pub struct FactQueue {
    slots: Slots,
    /// Slots kept free for owners that have checked for room and not yet appended.
    reserve: u64,
    /// Whether the consumer sleeps or is about to. Written under the lock of `unparked`, by the
    /// consumer (true) and by the thread that wakes it (false); read without the lock by producers,
    /// after a SeqCst fence that pairs with the consumer's: one of the two sees the other.
    sleeping: AtomicBool,
    /// Whether the consumer has to wake although no fact came.
    unparked: Mutex<bool>,
    wake: Condvar,
}

impl FactQueue {
    /// A queue of `slots` (a power of two) whose first fact gets the LSN `first`. Of these,
    /// `reserve` stay free for owners that have checked for room and not yet appended:
    /// the product uses `JOURNAL_SLOTS` and `CORES_MAX * OWNER_BATCH_MAX`.
    ///
    /// # Panics
    /// When `slots` is no power of two, `reserve` is not below it, or `first` is zero.
    pub fn new(slots: usize, reserve: usize, first: Lsn) -> Self {
        assert!(reserve < slots, "some slots must be left after the reserve");
        assert!(first > Lsn::ZERO, "LSNs begin at one");
        Self {
            slots: Slots::new(slots, first.0),
            reserve: reserve as u64,
            sleeping: AtomicBool::new(false),
            unparked: Mutex::new(false),
            wake: Condvar::new(),
        }
    }

    /// How many slots it has.
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// How many slots stay free for owners that have checked for room and not yet appended.
    pub fn reserve(&self) -> usize {
        self.reserve as usize
    }

    /// How many facts wait; may be out of date.
    pub fn len(&self) -> usize {
        let consumed = self.slots.consumed();
        self.slots.claimed().saturating_sub(consumed) as usize
    }

    /// Whether no fact waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an owner may decide a batch of at most
    /// [`OWNER_BATCH_MAX`](stampede_core::limits::OWNER_BATCH_MAX) facts: asked before each batch.
    pub fn has_room(&self) -> bool {
        let consumed = self.slots.consumed();
        let waiting = self.slots.claimed().saturating_sub(consumed);
        waiting + self.reserve <= self.slots.capacity() as u64
    }

    /// An owner's end of the queue.
    pub fn producer(self: &Arc<Self>) -> Producer {
        Producer { queue: Arc::clone(self) }
    }

    /// Takes the fact. The caller has asked [`FactQueue::has_room`] and calls
    /// [`FactQueue::flush`] after its batch.
    ///
    /// # Panics
    /// When there is no room after all; see [`codec::encode`] for bounds of the fact.
    pub fn append(&self, fact: Accepted<'_>) -> Lsn {
        let ticket = self.slots.push(|slot| {
            slot.kind = codec::fact_kind(&fact);
            slot.len = codec::encode(&fact, &mut slot.bytes) as u16;
        });
        Lsn(ticket)
    }

    /// Wakes the journal if it sleeps: once per batch of facts, after them.
    pub fn flush(&self) {
        // Pairs with the fence in `park`: either this load sees that the journal is going to
        // sleep, or the journal sees the facts appended before this call.
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) {
            let _guard = self.lock_unparked();
            self.sleeping.store(false, Ordering::Relaxed);
            self.wake.notify_one();
        }
    }

    /// Wakes the journal although no fact came: a spare segment is ready, or it has to stop. As with
    /// `std::thread`, the next [`FactQueue::park`] returns at once if the journal is awake.
    #[cfg_attr(loom, allow(dead_code))]
    pub(super) fn unpark(&self) {
        *self.lock_unparked() = true;
        self.sleeping.store(false, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// The next LSN to be taken.
    #[cfg(test)]
    fn head(&self) -> Lsn {
        Lsn(self.slots.consumed())
    }

    /// Reads the fact with this LSN: kind and payload; `None` while it is not there. For the journal.
    pub(super) fn peek<R>(&self, lsn: Lsn, read: impl FnOnce(u16, &[u8]) -> R) -> Option<R> {
        self.slots.peek(lsn.0, |slot| read(slot.kind, &slot.bytes[..usize::from(slot.len)]))
    }

    /// Frees the slots before this LSN. For the journal.
    pub(super) fn release(&self, until: Lsn) {
        self.slots.release(until.0);
    }

    /// Sleeps until a fact is there, [`FactQueue::unpark`] is called, or the time is over. For the journal.
    pub(super) fn park(&self, at_most: Duration) {
        let mut unparked = self.lock_unparked();
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst); // see `flush`
        let busy = *unparked || self.slots.is_ready(self.slots.consumed());
        if !busy {
            // Spurious wake-ups do no harm: the journal looks, finds nothing and comes back.
            #[cfg(not(loom))]
            self.wake.wait_for(&mut unparked, at_most);
            #[cfg(loom)]
            {
                unparked = self.wake.wait_timeout(unparked, at_most).unwrap().0;
            }
        }
        *unparked = false;
        self.sleeping.store(false, Ordering::Relaxed);
    }

    #[cfg(not(loom))]
    fn lock_unparked(&self) -> parking_lot::MutexGuard<'_, bool> {
        self.unparked.lock()
    }
    #[cfg(loom)]
    fn lock_unparked(&self) -> loom::sync::MutexGuard<'_, bool> {
        self.unparked.lock().unwrap()
    }
}

impl std::fmt::Debug for FactQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FactQueue").field("slots", &self.capacity()).field("waiting", &self.len()).finish()
    }
}

/// An owner's end of the queue: the [`FactSink`] that its decisions go into.
#[derive(Clone, Debug)]
pub struct Producer {
    queue: Arc<FactQueue>,
}

impl Producer {
    /// See [`FactQueue::has_room`].
    pub fn has_room(&self) -> bool {
        self.queue.has_room()
    }
    /// See [`FactQueue::flush`].
    pub fn flush(&self) {
        self.queue.flush();
    }
}

impl FactSink for Producer {
    fn append(&mut self, fact: Accepted<'_>) -> Lsn {
        self.queue.append(fact)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use stampede_core::fact::Fact;
    use stampede_core::types::UnixMillis;

    fn mark(n: u64) -> Fact<'static> {
        Fact::ClockMark { at_ms: UnixMillis(n) }
    }

    /// Takes the facts that are there, else parks, until `n` facts came. Returns their times.
    fn take(queue: &FactQueue, n: usize) -> Vec<u64> {
        let mut seen = Vec::new();
        while seen.len() < n {
            let lsn = queue.head();
            let got = queue.peek(lsn, |kind, payload| match codec::decode(kind, payload).unwrap() {
                Fact::ClockMark { at_ms } => at_ms.0,
                other => panic!("unexpected {other:?}"),
            });
            match got {
                Some(at_ms) => {
                    seen.push(at_ms);
                    queue.release(lsn.next());
                }
                // In loom a wait never times out: a lost wake-up would be a deadlock, which it reports.
                None => queue.park(Duration::from_secs(1)),
            }
        }
        seen
    }

    #[test]
    fn two_producers_lose_no_fact_and_no_wake_up() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let queue = Arc::new(FactQueue::new(2, 0, Lsn(1)));
            let producers: Vec<_> = [10, 20]
                .into_iter()
                .map(|at| {
                    let mut producer = queue.producer();
                    loom::thread::spawn(move || {
                        let lsn = producer.append(Accepted::forged(&mark(at)));
                        producer.flush();
                        lsn
                    })
                })
                .collect();
            let seen = take(&queue, 2);
            let lsns: Vec<_> = producers.into_iter().map(|p| p.join().unwrap()).collect();
            // The ticket is the place in the order.
            assert_eq!(seen[lsns[0].0 as usize - 1], 10);
            assert_eq!(seen[lsns[1].0 as usize - 1], 20);
        });
    }

    #[test]
    fn a_slot_is_reused_only_after_it_was_given_back() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let queue = Arc::new(FactQueue::new(1, 0, Lsn(1)));
            let mut producer = queue.producer();
            let thread = loom::thread::spawn(move || {
                producer.append(Accepted::forged(&mark(1)));
                producer.flush();
                while !producer.has_room_for_one() {
                    loom::thread::yield_now();
                }
                producer.append(Accepted::forged(&mark(2)));
                producer.flush();
            });
            assert_eq!(take(&queue, 2), [1, 2]);
            thread.join().unwrap();
        });
    }

    impl Producer {
        fn has_room_for_one(&self) -> bool {
            self.queue.len() < self.queue.capacity()
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use stampede_core::fact::Fact;
    use stampede_core::types::UnixMillis;

    fn mark(n: u64) -> Fact<'static> {
        Fact::ClockMark { at_ms: UnixMillis(n) }
    }

    #[test]
    fn room_ends_before_the_slots_do() {
        let queue = FactQueue::new(8, 3, Lsn(7));
        let mut decided = 0;
        while queue.has_room() {
            assert_eq!(queue.append(Accepted::forged(&mark(decided))), Lsn(7 + decided));
            decided += 1;
        }
        assert_eq!(decided, 6, "six wait, one more would leave less than the reserve");
        assert!(queue.peek(Lsn(7), |_, _| ()).is_some());
        queue.release(Lsn(9));
        assert!(queue.has_room());
    }

    #[test]
    #[should_panic(expected = "room was made sure of")]
    fn a_full_ring_refuses_instead_of_overwriting() {
        let queue = FactQueue::new(2, 0, Lsn(1));
        for n in 0..3 {
            queue.append(Accepted::forged(&mark(n)));
        }
    }

    #[test]
    fn many_producers_keep_each_fact_in_ticket_order() {
        const PRODUCERS: u64 = 4;
        const EACH: u64 = 20_000;
        let queue = Arc::new(FactQueue::new(256, 128, Lsn(1)));
        let threads: Vec<_> = (0..PRODUCERS)
            .map(|p| {
                let mut producer = queue.producer();
                std::thread::spawn(move || {
                    let mut sent = Vec::new();
                    for n in 0..EACH {
                        while !producer.has_room() {
                            std::thread::yield_now();
                        }
                        sent.push((producer.append(Accepted::forged(&mark(p * EACH + n))), p * EACH + n));
                        producer.flush();
                    }
                    sent
                })
            })
            .collect();
        let mut taken = Vec::new();
        while taken.len() < (PRODUCERS * EACH) as usize {
            let lsn = queue.head();
            match queue.peek(lsn, |kind, payload| codec::decode(kind, payload).unwrap().at_ms().0) {
                Some(at_ms) => {
                    taken.push(at_ms);
                    queue.release(lsn.next());
                }
                None => queue.park(Duration::from_secs(5)),
            }
        }
        for (lsn, at_ms) in threads.into_iter().flat_map(|t| t.join().unwrap()) {
            assert_eq!(taken[lsn.0 as usize - 1], at_ms);
        }
    }
}
