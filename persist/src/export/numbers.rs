//! Conversions between Postgres's signed integers and our unsigned ones.

use stampede_core::types::ItemId;

/// Our numbers fit a signed column easily; a negative one there is not ours and becomes 0.
pub(super) fn as_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The item with this number, if it can be one.
pub(super) fn item_of(number: i64) -> Option<ItemId> {
    u64::try_from(number).ok().and_then(ItemId::new)
}
