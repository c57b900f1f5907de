//! What ends the server, and its exit codes.
//!
//! Every thread reports to one loop, in [`super`].

use std::time::Duration;

/// The log could not be written: acknowledged orders are safe, nothing more is sold.
pub(super) const EXIT_LOG_FAILED: u8 = 74;
/// It was told to end at once, or the shutdown took longer than its deadline.
pub(super) const EXIT_FORCED: u8 = 75;
/// Time kept for the last steps of a shutdown (sync, mark clean) within the deadline.
pub(super) const LAST_STEPS: Duration = Duration::from_millis(500);

/// Everything that can end the server.
pub(super) enum Event {
    /// A signal on which to stop; see [`super::signals`].
    Signal,
    /// The journal can no longer write.
    LogFailed(String),
    /// A core's thread has ended; `in_order`: because it was told to, with nothing left to do.
    CoreEnded { in_order: bool },
}
