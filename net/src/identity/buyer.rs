//! A verified buyer, and the refusal of a request that nobody vouches for.

use stampede_core::types::Subject;

use crate::http::problem::{Code, Problem};

/// A buyer whom somebody vouches for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Buyer {
    /// The opaque name.
    pub subject: Subject,
    /// The account's level; 0 if it was not said.
    pub level: u8,
    /// When the account was opened, in Unix seconds.
    pub since_s: Option<u64>,
}

/// `unauthenticated`, and why.
pub(super) const fn stranger(detail: &'static str) -> Problem {
    Problem::new(Code::Unauthenticated).detail(detail)
}
