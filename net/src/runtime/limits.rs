//! The runtime's intervals and timeouts, in one place.

use std::time::Duration;

/// Time between two ticks of a core, in milliseconds.
pub(super) const TICK_MS: u64 = 20;
/// Ticks between two checks of the connections' deadlines.
pub(super) const SWEEP_TICKS: u32 = 25;
/// How long to wait for connections that are being established before closing a listening socket, in
/// milliseconds.
pub(super) const SHUT_MS: u64 = 100;
/// How long after closing a listening socket earlier accepted connections may still be reported, in
/// milliseconds.
pub(super) const LATE_MS: u64 = 2 * TICK_MS;
/// Pause after a failed accept (no descriptors left), in milliseconds.
pub(super) const ACCEPT_PAUSE_MS: u64 = 50;
/// After this long without a failure, accepting counts as working again, in milliseconds.
pub(super) const WELL_MS: u64 = 1_000;
/// Longest wait for a core's thread to start.
pub(super) const START_MAX: Duration = Duration::from_secs(30);
/// How long to go on reading from a closed connection, so that its last response is not lost to a
/// reset, in milliseconds.
pub(super) const LINGER_MS: u64 = 1_000;
/// How long a write may make no progress, in milliseconds.
pub(super) const WRITE_MS_MAX: u64 = 30_000;
