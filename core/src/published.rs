//! A value that one core replaces and every core reads without a lock.
//!
//! Replaced values stay allocated until the whole is dropped, so a reader's
//! reference cannot dangle. Meant for values that are replaced a handful of times
//! (a filter that doubles, a table that grows), never per request.
//!
//! All `unsafe` of the crate is in this file. Ownership: each node is made by
//! `Box::into_raw` in `publish`, reachable from `newest` from then on, and freed
//! only in `Drop`, which has `&mut self` and therefore no readers.

use alloc::boxed::Box;
use core::marker::PhantomData;
use core::ptr;

use crate::sync::{AtomicPtr, Ordering};

struct Node<T> {
    value: T,
    older: *mut Node<T>,
}

/// At most one current value of type `T`.
pub(crate) struct Published<T> {
    newest: AtomicPtr<Node<T>>,
    owns: PhantomData<Box<Node<T>>>,
}

impl<T> Published<T> {
    /// With no value yet.
    pub(crate) fn none() -> Self {
        Self { newest: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// The current value.
    pub(crate) fn get(&self) -> Option<&T> {
        // Acquire pairs with the Release in `publish`: the node's content is seen.
        let node = self.newest.load(Ordering::Acquire);
        // SAFETY: null or a node that lives as long as `self` (see the head of this file).
        unsafe { node.as_ref() }.map(|node| &node.value)
    }

    /// The current value and all before it, newest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        // Acquire as in `get`; the older nodes were linked before the newest was published.
        let newest = self.newest.load(Ordering::Acquire);
        // SAFETY: null or a node that lives as long as `self` (see the head of this file).
        let first = unsafe { newest.as_ref() };
        core::iter::successors(first, |node| {
            // SAFETY: as above; `older` is set before the node is published and never changed.
            unsafe { node.older.as_ref() }
        })
        .map(|node| &node.value)
    }

    /// Makes `value` the current one. One writer at a time: the owner core.
    pub(crate) fn publish(&self, value: T) {
        let older = self.newest.load(Ordering::Relaxed);
        let node = Box::into_raw(Box::new(Node { value, older }));
        self.newest.store(node, Ordering::Release);
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        let mut node = self.newest.load(Ordering::Relaxed);
        while !node.is_null() {
            // SAFETY: made by `Box::into_raw`, freed here alone, and nobody can read: `&mut self`.
            let boxed = unsafe { Box::from_raw(node) };
            node = boxed.older;
        }
    }
}

// SAFETY: it hands out `&T` to any thread and drops `T` on any thread.
unsafe impl<T: Send + Sync> Sync for Published<T> {}
// SAFETY: as above; the raw pointers are owned.
unsafe impl<T: Send + Sync> Send for Published<T> {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use alloc::sync::Arc;

    #[test]
    fn old_values_outlive_their_readers_and_are_freed_at_the_end() {
        let probe = Arc::new(());
        let published = Published::none();
        assert!(published.get().is_none());
        published.publish((1, probe.clone()));
        let first = published.get().expect("published");
        published.publish((2, probe.clone()));
        assert_eq!((first.0, published.get().expect("published").0), (1, 2));
        assert_eq!(published.all().map(|value| value.0).collect::<std::vec::Vec<_>>(), [2, 1]);
        drop(published);
        assert_eq!(Arc::strong_count(&probe), 1);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::{AtomicU64, race};
    use loom::sync::Arc;

    /// The parts are atomics, because loom watches no plain memory: to it they are the
    /// content that `publish` has to make visible.
    #[test]
    fn a_reader_sees_a_whole_value() {
        loom::model(|| {
            let published = Arc::new(Published::none());
            let owner = published.clone();
            let publish_twice = move || (1..3).for_each(|n| owner.publish(pair(n)));
            race(publish_twice, move || {
                if let Some((a, b)) = published.get() {
                    let (a, b) = (a.load(Ordering::Relaxed), b.load(Ordering::Relaxed));
                    assert!(a == b && a != 0, "half a value: {a}, {b}");
                }
            });
        });
    }

    fn pair(n: u64) -> (AtomicU64, AtomicU64) {
        let pair = (AtomicU64::new(0), AtomicU64::new(0));
        pair.0.store(n, Ordering::Relaxed);
        pair.1.store(n, Ordering::Relaxed);
        pair
    }
}
