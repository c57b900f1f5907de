//! Cursors of lists that are not sorted by id: what `next_after` says, and
//! `after` takes.
//!
//! ```text
//!   s1764086400000-42           behind item 42, which opens then and is not over
//!   e1764086400000-42           behind item 42, which is over and closed then
//!   1764086400000-4294967297    behind the order that was created then
//! ```
//!
//! A cursor holds the position itself, not only the row's id: that row may have moved since.

use core::cmp::Reverse;

use stampede_core::limits::UNIX_MILLIS_MAX;
use stampede_core::place::Place;
use stampede_core::types::{ItemId, OrderId, UnixMillis};

use crate::http::chars::decimal;

/// When an order was created, and which.
pub type Age = (UnixMillis, OrderId);

/// The cursor of a position in the buyers' list of items.
pub fn place_text(place: Place) -> String {
    match place {
        Place::Live(opens, item) => format!("s{}-{item}", opens.0),
        Place::Over(Reverse(closes), item) => format!("e{}-{item}", closes.0),
    }
}

/// The position that a cursor stands for.
pub fn place(text: &str) -> Option<Place> {
    let is_over = text.starts_with('e');
    let (at_ms, item) = split(text.strip_prefix(['s', 'e'])?)?;
    Some(Place::new(ItemId::new(item)?, at_ms, at_ms, is_over))
}

/// The cursor of an order's age.
pub fn age_text((at_ms, order): Age) -> String {
    format!("{}-{order}", at_ms.0)
}

/// The age that a cursor stands for.
pub fn age(text: &str) -> Option<Age> {
    let (at_ms, order) = split(text)?;
    Some((at_ms, OrderId::from_u64(order)?))
}

fn split(text: &str) -> Option<(UnixMillis, u64)> {
    let (at_ms, id) = text.split_once('-')?;
    let at_ms = decimal(at_ms.as_bytes()).filter(|&at_ms| at_ms <= UNIX_MILLIS_MAX)?;
    Some((UnixMillis(at_ms), decimal(id.as_bytes())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_nothing_else_is_one() {
        let item = ItemId::new(42).expect("valid");
        for at_ms in [0, 1_764_086_400_000, UNIX_MILLIS_MAX].map(UnixMillis) {
            for is_over in [false, true] {
                let there = Place::new(item, at_ms, at_ms, is_over);
                assert_eq!(place(&place_text(there)), Some(there));
            }
            let there = (at_ms, OrderId::new(item, 7));
            assert_eq!(age(&age_text(there)), Some(there));
        }
        for text in
            ["", "s", "s-", "s1-", "s-1", "s1-0", "x1-1", "1-1", "s1-1-1", "s01-1", "s1-2147483648", "s+1-1"]
        {
            assert_eq!(place(text), None, "{text}");
        }
        assert_eq!(place(&format!("s{}-1", UNIX_MILLIS_MAX + 1)), None);
        for text in ["", "-", "1-", "-4294967297", "1-1", "s1-4294967297", "1-4294967297 "] {
            assert_eq!(age(text), None, "{text}");
        }
    }
}
