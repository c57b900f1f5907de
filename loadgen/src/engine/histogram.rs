//! The histogram of every latency of a run: the same bounds everywhere, so that parts add up.

use hdrhistogram::Histogram;

/// Longest latency that is told apart, in nanoseconds (an hour); longer ones count as this.
pub(super) const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Finest difference that is told apart, in nanoseconds.
const LATENCY_NS_STEP: u64 = 128;

/// An empty one, in nanoseconds.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_STEP, LATENCY_NS_MAX, 3).expect("the bounds are constants")
}
