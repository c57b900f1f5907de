//! The only place that imports atomics, so that loom can replace them.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Runs both sides at once, each on a thread of its own, and waits for them.
///
/// Neither may run on the thread that calls: loom 0.7 does not see a race with what the
/// first thread did before the other took its first step, and would try one order only.
#[cfg(all(test, loom))]
pub(crate) fn race<A: 'static, B: 'static>(
    one: impl FnOnce() -> A + 'static,
    other: impl FnOnce() -> B + 'static,
) -> (A, B) {
    let (one, other) = (loom::thread::spawn(one), loom::thread::spawn(other));
    (one.join().expect("one side ends"), other.join().expect("the other side ends"))
}
