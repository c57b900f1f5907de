//! What to compare, how long to wait, and whether to pause what differs.

use std::time::Duration;

use stampede_core::types::ItemId;

/// Pause between two looks at something that is not there yet.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How to compare.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// This item alone; `None` = all.
    pub item: Option<ItemId>,
    /// How long to wait for what is under way: the log's and the exporter's progress, an engine
    /// that starts again, a stock row that somebody has edited and the exporter will follow.
    pub patience: Duration,
    /// Whether to pause an item that differs.
    pub pause: bool,
}
