//! The numbers of items and orders in paths and queries.

use stampede_core::types::{ItemId, OrderId};

use crate::http::chars::decimal;

pub(super) fn item(id: &str) -> Option<ItemId> {
    decimal(id.as_bytes()).and_then(ItemId::new)
}

pub(super) fn order(id: &str) -> Option<OrderId> {
    decimal(id.as_bytes()).and_then(OrderId::from_u64)
}
