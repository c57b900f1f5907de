//! Looks for stock rows that nobody's order would bring up: edited while nothing is sold
//! (a restock of a sold-out item, most of all), locked when their turn came, left over
//! from a process that died. Reads only. Next: [`super::exporter`].

use stampede_core::types::ItemId;

use super::database::Link;
use super::error::ExportError;
use super::limits::SWEEP_ITEMS_MAX;
use super::settle::item_of;

/// An item that a sweep brought up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Swept {
    pub(super) item: ItemId,
    /// Its row is not as it was left, or not as it should be.
    pub(super) dirty: bool,
    /// What the engine has not answered yet.
    pub(super) outside: i64,
    pub(super) row_version: i64,
    /// Why it has to stop, if the engine has not confirmed that yet.
    pub(super) pause_reason: Option<String>,
}

const SWEEP: &str = "
SELECT * FROM (
    SELECT l.id, (s.version, s.count, s.held, s.sale)
            IS DISTINCT FROM (l.row_version, l.row_count, l.row_held, l.row_sale)
        OR (l.row_count, l.row_held, l.row_sale) IS DISTINCT FROM (l.count + l.outside, l.held, l.sale) AS dirty,
        l.outside, coalesce(l.row_version, 0) AS row_version, l.pause_reason
    FROM stampede_item l LEFT JOIN stock s ON s.id = l.id
) AS found
WHERE dirty OR outside <> 0 OR pause_reason IS NOT NULL ORDER BY dirty DESC, id LIMIT $1";

/// At most [`SWEEP_ITEMS_MAX`] items, the dirty ones first.
pub(super) async fn sweep(link: &mut Link) -> Result<Vec<Swept>, ExportError> {
    let rows = link.query(SWEEP, &[&SWEEP_ITEMS_MAX]).await?;
    let swept = rows.iter().filter_map(|row| {
        Some(Swept {
            item: item_of(row.get(0))?,
            dirty: row.get(1),
            outside: row.get(2),
            row_version: row.get(3),
            pause_reason: row.get(4),
        })
    });
    Ok(swept.collect())
}
