//! The runtime's intervals and timeouts, in one place.

use std::time::Duration;

/// How often time passes for the owner, in milliseconds.
pub(super) const TICK_MS: u64 = 20;
/// Every so many ticks, deadlines of connections are looked at.
pub(super) const SWEEP_TICKS: u32 = 25;
/// How long connections that are on their way are waited for before a listening socket is closed, in
/// milliseconds.
pub(super) const SHUT_MS: u64 = 100;
/// How long completions of what was accepted before may come after a listening socket was closed, in
/// milliseconds.
pub(super) const LATE_MS: u64 = 2 * TICK_MS;
/// Pause after a failed accept (no descriptors left), in milliseconds.
pub(super) const ACCEPT_PAUSE_MS: u64 = 50;
/// How long accepting has to go without a failure before it counts as well again, in milliseconds.
pub(super) const WELL_MS: u64 = 1_000;
/// Longest wait for a core's thread to begin.
pub(super) const START_MAX: Duration = Duration::from_secs(30);
/// How long a closed connection is read on, so that its last answer is not lost to a reset,
/// in milliseconds.
pub(super) const LINGER_MS: u64 = 1_000;
/// How long a write may stand still, in milliseconds.
pub(super) const WRITE_MS_MAX: u64 = 30_000;
