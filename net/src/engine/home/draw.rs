//! The public page of a draw's entries: no identity is asked for. It costs a hop and many
//! look-ups, so the rate of an address counts for it.

use stampede_core::shard::Shard;
use stampede_core::types::{ItemId, OrderId};

use super::{Called, Caller, Home};
use crate::engine::ask::{Ask, RareAsk};
use crate::engine::render::Call;
use crate::http::draw::DrawPage;
use crate::http::route::DrawQuery;

impl Home {
    pub(super) fn draw_page(&mut self, query: DrawQuery, caller: &Caller<'_>) -> Called {
        self.rate_address(caller)?;
        let after = query.after.map_or(0, OrderId::get);
        let ask = RareAsk::Draw(query.item, after, usize::from(query.limit));
        self.ask(query.item, Call::Other, Ask::Rare(Box::new(ask)), caller)
    }
}

/// The page as the owner of the item sees it; `None` if there is no such item, or no draw.
pub(in crate::engine) fn read_page(
    shard: &Shard,
    item: ItemId,
    after: u64,
    limit: usize,
) -> Option<DrawPage> {
    let seen = shard.item(item)?;
    let view = seen.draw?;
    let (entries, next_after) = shard.draw_entries(item, after, limit).unwrap_or_default();
    // A commitment must not be shown and then lost; a result rests on the draw alone.
    let after = view.held.map_or(seen.lsn, |held| held.lsn);
    Some(DrawPage { item, draw_ms: seen.spec.draw_ms, view, entries, next_after, after })
}
