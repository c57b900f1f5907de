//! Finds the moment at which a server stood still: requests were waiting, and nothing was answered.
//!
//! Next: [`crate::record::TimelineRecord`], which it reads.

use std::fmt;

use super::model::Record;
use crate::meaning::Code;
use crate::units::{show_count, show_ns};

/// Shortest silence that is worth a line, in milliseconds.
const SILENCE_MS_MIN: u64 = 300;
/// Requests that have to be waiting: fewer may just be a slow response.
const WAITING_MIN: u64 = 3;

/// A stretch of a run without any response, though requests were waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Silence {
    /// When it began, in milliseconds from the beginning of the run, to a slice.
    pub from_ms: u64,
    /// How long it was at least, in milliseconds, to a slice.
    pub length_ms: u64,
    /// Requests that waited at its end.
    pub waiting: u64,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from_ms, length_ms, waiting } = self;
        let [from, length] = [from_ms, length_ms].map(|ms| show_ns(ms.saturating_mul(1_000_000)));
        write!(
            f,
            "no response for {length} or more, from {from} into the run; {} were waiting",
            show_count(*waiting)
        )
    }
}

impl Record {
    /// The longest silence of the run, if there was one of 300 ms or more. Not looked for where buyers
    /// wait for the opening (the whole flow), since nothing is requested then.
    pub fn silence(&self) -> Option<Silence> {
        if self.config.flow == "whole" {
            return None;
        }
        let slice_ms = self.timeline.slice_ms;
        let (mut longest, mut current): (Option<Silence>, Option<Silence>) = (None, None);
        let (mut due, mut ended) = (0, 0);
        for (index, slice) in self.timeline.slices.iter().enumerate() {
            due += slice.due;
            let sent = slice.outcomes.iter().filter(|(name, _)| *name != Code::Unsent.name());
            let ends: u64 = sent.map(|(_, count)| count).sum();
            ended += ends;
            if ends > 0 {
                current = None;
                continue;
            }
            let from_ms = current.map_or(index as u64 * slice_ms, |silence| silence.from_ms);
            let length_ms = (index as u64 + 1) * slice_ms - from_ms;
            let silence = Silence { from_ms, length_ms, waiting: due - ended.min(due) };
            current = Some(silence);
            let counts = length_ms >= SILENCE_MS_MIN && silence.waiting >= WAITING_MIN;
            if counts && longest.is_none_or(|longest| longest.length_ms < length_ms) {
                longest = current;
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SliceRecord;
    use crate::record::tests::sample;

    /// A run whose slices of 100 ms have these many due and answered requests.
    fn silence(slices: &[(u64, u64)]) -> Option<Silence> {
        let mut record = sample();
        let slice = |&(due, ended): &(u64, u64)| SliceRecord {
            due,
            outcomes: (ended > 0).then(|| ("won".to_owned(), ended)).into_iter().collect(),
            latency_ns: None,
        };
        record.timeline.slices = slices.iter().map(slice).collect();
        record.silence()
    }

    #[test]
    fn a_stall_is_found_and_a_lull_is_not() {
        let stall = [(10, 10), (10, 5), (10, 0), (10, 0), (10, 0), (10, 45), (10, 0), (10, 20)];
        assert_eq!(silence(&stall), Some(Silence { from_ms: 200, length_ms: 300, waiting: 35 }));
        // The closed loop: nothing is due while nothing is answered, but four wait.
        let closed = [(14, 10), (0, 0), (0, 0), (0, 0), (0, 0), (10, 10)];
        assert_eq!(silence(&closed), Some(Silence { from_ms: 100, length_ms: 400, waiting: 4 }));
        // No requests: the server owes no response.
        assert_eq!(silence(&[(10, 10), (0, 0), (0, 0), (0, 0), (0, 0), (10, 10)]), None);
        assert_eq!(silence(&[(1, 1), (0, 0), (1, 0), (0, 0), (0, 1)]), None);
        assert_eq!(silence(&[(10, 10), (10, 0), (10, 0), (10, 30)]), None);
    }
}
