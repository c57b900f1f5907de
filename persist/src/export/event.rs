//! The interface between exporter and engine: what the exporter asks and reports.
//!
//! Nothing here may block: the exporter calls it between two transactions.
//!
//! # When somebody else changes a stock row
//! `stock.count` may be edited by hand or by the shop's own programs. The exporter
//! detects that by the row's version and numbers, keeps the edit in the row (`count` shows
//! it at once), records the difference as *outside* in its own table in the same
//! transaction, and only then tells the engine:
//!
//! 1. [`ExportEvent::StockChangedOutside`] carries the whole difference between the row
//!    and the facts up to `as_of`.
//! 2. The item's owner answers **through the log**: it either writes
//!    `Fact::StockAdjusted { delta, actor: ACTOR_POSTGRES }`, or, if not enough units are
//!    left for the withdrawal, pauses the item by
//!    `Fact::ItemSwitched { Paused, actor: ACTOR_POSTGRES }` (also if it is paused already).
//!    An item that the engine does not know is ignored.
//! 3. The answer comes back through the feed. An adjustment is not added to the row
//!    again, since it is there already; it only clears *outside*. A pause leaves
//!    *outside* as it is: the engine is asked again when the row changes once more or
//!    when the merchant resumes the item.
//!
//! At most one question per item is open, so a difference is never answered twice.
//! If the process dies in between, *outside* is in the database: the next process
//! first exports every fact that was durable when it started, which includes any
//! answer that was given, and then asks only about what is left. So in the end either
//! granted is the same on both sides, or the item is paused and an alarm was raised.
//!
//! `held` and `sale` must not be edited by others: the engine's numbers win, the item is
//! paused, an alarm is raised. The same holds for a deleted row: it is put back.

use stampede_core::types::{ItemId, Lsn, OrderId};

use super::attach::{AttachError, DatabaseId};
use crate::feed::{FactFeed, FeedError};

/// The engine as the exporter sees it. Its methods are called from the exporter's thread
/// and must not block.
pub trait ExportPort: Send {
    /// The last durable LSN: nothing beyond it is read.
    fn durable_lsn(&self) -> Lsn;
    /// The first LSN that the log still holds.
    fn first_retained_lsn(&self) -> Lsn;
    /// Opens a feed whose first fact is the one after `after`.
    ///
    /// # Errors
    /// When the log no longer holds that fact, or cannot be read.
    fn open_feed(&mut self, after: Lsn) -> Result<Box<dyn FactFeed + Send>, FeedError>;
    /// Everything up to and with this LSN is in Postgres, and Postgres has synced it.
    /// Called once per batch, with numbers that only grow, except after [`ExportEvent::Moved`]:
    /// from then on nothing beyond the smaller number may leave the log.
    fn exported(&mut self, lsn: Lsn);
    /// An event for the engine.
    fn event(&mut self, event: ExportEvent);
}

/// What the exporter tells the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExportEvent {
    /// The database was attached. `database` has to be kept in the control file.
    Attached {
        /// Which database.
        database: DatabaseId,
        /// How far it was exported before.
        cursor: Lsn,
    },
    /// The cursor is not where the exporter left it: a standby without the last commits was promoted,
    /// or a backup was restored. The database holds this log's facts up to `found`, and the log holds
    /// those after it; the export goes on from there. [`ExportPort::exported`] follows with `found`.
    Moved {
        /// Where the exporter left it.
        left: Lsn,
        /// Where it ends.
        found: Lsn,
    },
    /// `stock.count` of an item differs from the facts: adjust the grant by `delta`, or pause.
    StockChangedOutside {
        /// Which item.
        item: ItemId,
        /// Units that the row has more (less, if negative) than the facts up to `as_of` say.
        delta: i64,
        /// The row's version when it was seen.
        seen_version: i64,
        /// The exported LSN to which `delta` refers. An owner that has written an adjustment by
        /// `ACTOR_POSTGRES` after it ignores the event.
        as_of: Lsn,
    },
    /// An item whose rows were tampered with has to stop selling until somebody has checked it.
    PauseItem {
        /// Which item.
        item: ItemId,
        /// Why, for the alarm and the merchant.
        reason: String,
    },
    /// Something for an operator; nothing is lost.
    Alarm(Alarm),
    /// The exporter has stopped for good, and this engine must stop selling: it is another
    /// database, or that of another log, or from the past or the future, or another engine
    /// has taken it over.
    Refused(AttachError),
    /// The exporter has stopped for good because it cannot read the log.
    FeedLost {
        /// What is wrong, and the remedy.
        reason: String,
    },
}

/// Why an operator should check something.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Alarm {
    /// Postgres refused the row, or somebody else's row is in its place; it was put into
    /// `stampede_set_aside`.
    #[error("a row of LSN {lsn} could not be written ({what}): {reason}; it is kept in stampede_set_aside")]
    SetAside {
        /// The fact that made the row.
        lsn: Lsn,
        /// The row, in short.
        what: String,
        /// What Postgres said, or which row is there.
        reason: String,
    },
    /// The row of an order was already there and was written once more.
    #[error("stock_order already held the row of order {order}; it now shows the engine's order")]
    OrderReplaced {
        /// Which order.
        order: OrderId,
    },
    /// A stock row is not as the engine left it.
    #[error("stock row {item}: {reason}")]
    Stock {
        /// Which item.
        item: ItemId,
        /// What was found and done.
        reason: String,
    },
    /// The cursor is not where the exporter left it, and the export goes on from there.
    #[error(
        "the database ends at LSN {found}, although this engine had exported up to LSN {left} (was a standby without \
         the last commits promoted, or a backup restored?); it holds this log's facts up to there, and what it lacks \
         is exported again"
    )]
    Moved {
        /// Where it was left.
        left: Lsn,
        /// Where it is.
        found: Lsn,
    },
    /// Facts are waiting, and none was exported for a while. Raised once until one is.
    #[error("nothing was exported to Postgres for {seconds} s, {waiting} facts are waiting: {reason}")]
    Stalled {
        /// For how long.
        seconds: u64,
        /// How many facts wait.
        waiting: u64,
        /// The last error, with its remedy.
        reason: String,
    },
    /// The database cannot be used at present; the exporter tries again by itself.
    /// Raised once per cause, not per attempt.
    #[error("{reason}")]
    Unreachable {
        /// What is wrong, and the remedy.
        reason: String,
    },
}
