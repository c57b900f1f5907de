//! When an item is on sale.

use serde::{Deserialize, Serialize};

/// When an item is on sale: from `opens_at_ms` until before `closes_at_ms`, in Unix milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The first moment.
    pub opens_at_ms: u64,
    /// The first moment at which it is over.
    pub closes_at_ms: u64,
}

impl Window {
    pub(crate) const fn has(&self, at_ms: u64) -> bool {
        self.opens_at_ms <= at_ms && at_ms < self.closes_at_ms
    }
}
