//! Reads a page of a draw's entries from a shard.

use stampede_core::shard::Shard;
use stampede_core::types::ItemId;

use crate::http::draw::DrawPage;

/// The page as the owner of the item sees it; `None` if there is no such item, or no draw.
pub(super) fn read_page(shard: &Shard, item: ItemId, after: u64, limit: usize) -> Option<DrawPage> {
    let seen = shard.item(item)?;
    let view = seen.draw?;
    let (entries, next_after) = shard.draw_entries(item, after, limit).unwrap_or_default();
    // A commitment that was shown must not be lost; a result depends on the draw alone.
    let after = view.held.map_or(seen.lsn, |held| held.lsn);
    Some(DrawPage { item, draw_ms: seen.spec.draw_ms, view, entries, next_after, after })
}
