//! The place of an item in the list for buyers.
//!
//! ```text
//!   opens_at_ms, soonest first                        closes_at_ms, last first
//!   on sale ……………… now ……………… upcoming  │  over: ended, or closed by the merchant
//! ```
//!
//! What is on sale comes first because it has opened before now: an item that opens keeps its place.
//! It moves once, when it is over, to after everything that is not over. So a reader that goes through
//! the list page by page, each page starting after the last place of the one before, sees every item
//! whose window does not change, however long that takes; only an item that ended meanwhile may appear
//! twice. Next: [`crate::items`], which keeps the places.

use core::cmp::Reverse;

use crate::types::{ItemId, UnixMillis};

/// A place in the list; the first is the least.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// On sale, or upcoming: when it opens.
    Live(UnixMillis, ItemId),
    /// Over: when its window closed, or would have.
    Over(Reverse<UnixMillis>, ItemId),
}

impl Place {
    /// The place of an item with this window.
    pub const fn new(item: ItemId, opens_at_ms: UnixMillis, closes_at_ms: UnixMillis, is_over: bool) -> Self {
        if is_over { Self::Over(Reverse(closes_at_ms), item) } else { Self::Live(opens_at_ms, item) }
    }

    /// The item at this place.
    pub const fn item(self) -> ItemId {
        match self {
            Self::Live(_, item) | Self::Over(_, item) => item,
        }
    }
}
