//! Numbers that can be used once (nonces), one bit each: any core can use a number, only the
//! first use counts, and there is no lock and no table.
//!
//! ```text
//!  one ring per core       number ─▶ bit of the ring      (number + bits reuses it)
//!  issued by that core:    clears the bit, then publishes the number
//!  used on any core:       sets the bit; if it was set before, the number was used before
//! ```
//!
//! A number expires when half a ring of later ones was issued, so that no bit is reused while
//! another core is about to set it.

use alloc::boxed::Box;

use crate::sync::{AtomicU64, Ordering};

/// A ring of numbers. Issued by one core, used by all.
pub struct OnceRing {
    /// The next number. Written by its core (Release: the bit is clear by then), read by all
    /// (Acquire).
    next: AtomicU64,
    /// Set by the core that uses a number (AcqRel: exactly one is first), cleared by the ring's core.
    used: Box<[AtomicU64]>,
}

impl OnceRing {
    /// A ring of `bits`, a multiple of 64; it takes `bits / 8` bytes.
    ///
    /// # Panics
    /// When `bits` is zero or no multiple of 64.
    pub fn new(bits: u64) -> Self {
        assert!(bits > 0 && bits.is_multiple_of(64), "whole words");
        Self { next: AtomicU64::new(0), used: (0..bits / 64).map(|_| AtomicU64::new(0)).collect() }
    }

    fn bits(&self) -> u64 {
        self.used.len() as u64 * 64
    }

    fn bit(&self, number: u64) -> (&AtomicU64, u64) {
        let at = number % self.bits();
        (&self.used[(at / 64) as usize], 1 << (at % 64))
    }

    /// The ring's own core only: a new number.
    pub fn issue(&self) -> u64 {
        let number = self.next.load(Ordering::Relaxed);
        let (word, bit) = self.bit(number);
        word.fetch_and(!bit, Ordering::Relaxed);
        self.next.store(number + 1, Ordering::Release);
        number
    }

    /// Uses a number. True if it was issued, has not expired, and this is its first use.
    pub fn take(&self, number: u64) -> bool {
        let next = self.next.load(Ordering::Acquire);
        if number >= next || next - number > self.bits() / 2 {
            return false;
        }
        let (word, bit) = self.bit(number);
        word.fetch_or(bit, Ordering::AcqRel) & bit == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const BITS: u64 = 128;

    #[test]
    fn a_number_expires_before_its_bit_is_reused() {
        let ring = OnceRing::new(BITS);
        let first = ring.issue();
        assert_eq!((1..BITS / 2).map(|_| ring.issue()).last(), Some(BITS / 2 - 1));
        assert!(ring.take(first), "the oldest that has not expired");
        assert!(!ring.take(first));
        ring.issue();
        assert!(!ring.take(first) && ring.take(first + 1), "one too old, the next is not");
        (0..2).for_each(|_| assert!(ring.issue() > first));
        assert!(!ring.take(first + 2), "too old, although never used");
        assert!(!ring.take(BITS), "not issued yet");
        assert_eq!((BITS / 2 + 3..=BITS).map(|_| ring.issue()).last(), Some(BITS));
        assert!(ring.take(BITS), "the bit is clear again");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::race;
    use loom::sync::Arc;

    /// Two cores use one number at once, while the ring's core issues another in the same word.
    #[test]
    fn a_number_is_used_once() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let ring = Arc::new(OnceRing::new(64));
            let number = ring.issue();
            let (mine, yours, own) = (ring.clone(), ring.clone(), ring.clone());
            let issuer = loom::thread::spawn(move || own.issue());
            let (mine, yours) = race(move || mine.take(number), move || yours.take(number));
            issuer.join().expect("the issuer ends");
            assert!(mine ^ yours, "exactly one of them");
            assert!(!ring.take(number));
        });
    }

    /// A published number can be used: a core that sees it finds the bit clear, although an older
    /// number had set it.
    #[test]
    fn a_new_number_is_not_taken_for_an_old_one() {
        loom::model(|| {
            let ring = Arc::new(OnceRing::new(64));
            let old = ring.issue();
            assert!(ring.take(old));
            (0..63).for_each(|_| {
                ring.issue();
            });
            let own = ring.clone();
            race(
                move || own.issue(),
                move || {
                    let next = old + 64;
                    let known = ring.next.load(Ordering::Relaxed) > next;
                    let used = ring.take(next);
                    assert!(used || !known, "a number that was issued was not usable");
                },
            );
        });
    }
}
