//! A pool of connections, as an app tier has one: a fixed number, taken and given back.
//!
//! A taker waits while all are out; that wait is part of what the designs are measured by.
//! Next: [`crate::shop`], which takes.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::error::ClassicError;

/// How a connection is made.
type Make<T> = Box<dyn Fn() -> Result<T, ClassicError> + Send + Sync>;

/// Connections that are lent out one at a time, the last one given back first.
pub struct Pool<T> {
    make: Make<T>,
    /// Those that are not out; `None` stands for one that is made when it is taken.
    idle: Mutex<Vec<Option<T>>>,
    given_back: Condvar,
}

/// A connection on loan; dropping it gives it back.
pub struct Loan<'a, T> {
    pool: &'a Pool<T>,
    /// `None` once it is known to be broken.
    connection: Option<T>,
}

impl<T> Pool<T> {
    /// A pool of at most `size` connections, of which `made` are made at once and the others
    /// when all of those are out.
    ///
    /// # Errors
    /// What `make` says.
    pub fn new(
        size: u32,
        made: u32,
        make: impl Fn() -> Result<T, ClassicError> + Send + Sync + 'static,
    ) -> Result<Self, ClassicError> {
        // Taken from the end: those that are made come first.
        let mut idle: Vec<Option<T>> = (made..size).map(|_| None).collect();
        for _ in 0..made.min(size) {
            idle.push(Some(make()?));
        }
        Ok(Self { make: Box::new(make), idle: Mutex::new(idle), given_back: Condvar::new() })
    }

    /// Waits for a connection and takes it.
    ///
    /// # Errors
    /// What `make` says, if a broken one has to be made again.
    pub fn take(&self) -> Result<Loan<'_, T>, ClassicError> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = loop {
            match idle.pop() {
                Some(taken) => break taken,
                None => idle = self.given_back.wait(idle).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(idle);
        // From here on the loan's drop gives the place back, whatever happens.
        let mut loan = Loan { pool: self, connection: taken };
        if loan.connection.is_none() {
            loan.connection = Some((self.make)()?);
        }
        Ok(loan)
    }
}

impl<T> Loan<'_, T> {
    /// Gives back an empty place instead of the connection, which is in an unknown state.
    pub fn discard(mut self) {
        self.connection = None;
    }
}

impl<T> Deref for Loan<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.connection.as_ref().expect("only discard empties a loan, and it consumes it")
    }
}

impl<T> DerefMut for Loan<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.connection.as_mut().expect("only discard empties a loan, and it consumes it")
    }
}

impl<T> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(self.connection.take());
        drop(idle);
        self.pool.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn the_pool_is_bounded_and_replaces_broken_connections() {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let pool = Pool::new(2, 1, || Ok(MADE.fetch_add(1, Ordering::Relaxed))).unwrap();
        let (out, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let loan = pool.take().unwrap();
                        most.fetch_max(out.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                        std::thread::yield_now();
                        out.fetch_sub(1, Ordering::Relaxed);
                        drop(loan);
                    }
                });
            }
        });
        drop((pool.take().unwrap(), pool.take().unwrap()));
        assert_eq!((most.load(Ordering::Relaxed).max(2), MADE.load(Ordering::Relaxed)), (2, 2));
        pool.take().unwrap().discard();
        let (one, other) = (pool.take().unwrap(), pool.take().unwrap());
        assert_eq!(MADE.load(Ordering::Relaxed), 3, "one was made again");
        assert!(*one == 2 || *other == 2);
    }
}
