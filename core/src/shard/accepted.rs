//! Facts that a shard has accepted: the only ones that a log takes.
//!
//! Next: [`super::accept`] for how a fact from elsewhere becomes one.

use core::ops::Deref;

use crate::fact::Fact;
use crate::types::Lsn;

/// A fact that a shard has decided, or has checked as replay does.
///
/// Only a shard makes one, and a [`FactSink`] takes nothing else. It costs nothing: a reference.
#[derive(Clone, Copy, Debug)]
pub struct Accepted<'a>(&'a Fact<'a>);

impl<'a> Accepted<'a> {
    pub(super) const fn new(fact: &'a Fact<'a>) -> Self {
        Self(fact)
    }

    /// A fact that no shard has seen, for tests of what comes after a shard. Only dev-dependencies
    /// have the feature, so no program that sells has this.
    #[cfg(feature = "forged")]
    pub const fn forged(fact: &'a Fact<'a>) -> Self {
        Self(fact)
    }
}

impl<'a> Deref for Accepted<'a> {
    type Target = Fact<'a>;
    fn deref(&self) -> &Fact<'a> {
        self.0
    }
}

/// Where decided facts go: the queue to the log, or a list in a test.
///
/// Contract: the caller has made sure of room, so `append` cannot fail; the LSNs of one
/// sink only grow. It takes nothing but what a shard has accepted, so that a log cannot
/// hold a fact that a replay refuses.
pub trait FactSink {
    /// Takes the fact and returns its place in the one total order.
    fn append(&mut self, fact: Accepted<'_>) -> Lsn;
}
