//! An identified buyer, and the refusal of an unauthenticated request.

use stampede_core::types::Subject;

use crate::http::problem::{Code, Problem};

/// An identified buyer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Buyer {
    /// The opaque name.
    pub subject: Subject,
    /// The account's level; 0 if not given.
    pub level: u8,
    /// When the account was opened, in Unix seconds.
    pub since_s: Option<u64>,
}

/// `unauthenticated`, and why.
pub(super) const fn stranger(detail: &'static str) -> Problem {
    Problem::new(Code::Unauthenticated).detail(detail)
}
