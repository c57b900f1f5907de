//! Where the log's atomics come from: the standard library, or loom when it explores
//! every order of them (`RUSTFLAGS="--cfg loom"`).
//!
//! Nothing else in [`super::queue`] and [`super::slots`] may name `std::sync`. The locks are not
//! those of the standard library: it is precompiled, so ThreadSanitizer would not see what they order.

#[cfg(loom)]
pub(super) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU64, Ordering, fence},
    sync::{Condvar, Mutex},
};

#[cfg(not(loom))]
pub(super) use parking_lot::{Condvar, Mutex};
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

// Loom explores what the queue itself does, not how it is shared.
pub(super) use std::sync::Arc;

/// The standard cell behind loom's interface.
#[cfg(not(loom))]
#[derive(Debug)]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(super) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }
    /// Hands out the pointer for reading; the caller argues that nobody writes meanwhile.
    pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }
    /// Hands out the pointer for writing; the caller argues that nobody else has it meanwhile.
    pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}
