//! What falls due, soonest first: a binary heap in chunks.
//!
//! `BinaryHeap` lies in one piece and copies all of it when it grows, which blocks a core for
//! a good part of a second at ten million rows. In chunks, growing moves nothing. Next:
//! [`crate::slab`].

use crate::slab::Slab;
use crate::types::UnixMillis;

/// Something that falls due: when, and the row (order or item) that it concerns.
pub(crate) type Due = (UnixMillis, u32);

/// Everything that will fall due; the soonest comes out first, and the lowest row of several.
pub(crate) struct DueHeap {
    rows: Slab<Due>,
}

impl DueHeap {
    pub(crate) const fn new() -> Self {
        Self { rows: Slab::new() }
    }

    /// What falls due next.
    pub(crate) fn peek(&self) -> Option<Due> {
        (self.rows.len() > 0).then(|| *self.rows.get(0))
    }

    pub(crate) fn push(&mut self, due: Due) {
        let mut at = self.rows.push(due);
        while at > 0 {
            let parent = (at - 1) / 2;
            let above = *self.rows.get(parent);
            if above <= due {
                break;
            }
            *self.rows.get_mut(at) = above;
            at = parent;
        }
        *self.rows.get_mut(at) = due;
    }

    /// Removes the row that falls due next, if it is due by `now`.
    pub(crate) fn pop_by(&mut self, now: UnixMillis) -> Option<u32> {
        let (due, row) = self.peek()?;
        if due > now {
            return None;
        }
        let last = self.rows.pop()?;
        if self.rows.len() > 0 {
            self.sink(last);
        }
        Some(row)
    }

    /// Replaces the row at the top and lets the new one sink to its place.
    fn sink(&mut self, due: Due) {
        let len = self.rows.len() as u32;
        let mut at = 0;
        loop {
            let left = 2 * at + 1;
            if left >= len {
                break;
            }
            let right = left + 1;
            let right_is_first = right < len && self.rows.get(right) < self.rows.get(left);
            let child = if right_is_first { right } else { left };
            let below = *self.rows.get(child);
            if due <= below {
                break;
            }
            *self.rows.get_mut(at) = below;
            at = child;
        }
        *self.rows.get_mut(at) = due;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn rows_come_out_in_the_order_they_fall_due() {
        for count in [0_u32, 1, 2, 3, 1_000, 10_000] {
            let mut heap = DueHeap::new();
            let due = |n: u32| UnixMillis(u64::from(n.wrapping_mul(2_654_435_761) % 997));
            let mut expected: Vec<Due> = (0..count).map(|n| (due(n), n)).collect();
            expected.iter().for_each(|&row| heap.push(row));
            expected.sort_unstable();
            assert_eq!(heap.peek(), expected.first().copied());
            for now in 0..1_000 {
                let rows = core::iter::from_fn(|| heap.pop_by(UnixMillis(now))).collect::<Vec<_>>();
                let in_time = expected.iter().filter(|row| row.0 == UnixMillis(now)).map(|row| row.1);
                assert_eq!(rows, in_time.collect::<Vec<_>>(), "of {count} at {now}");
            }
            assert_eq!(heap.peek(), None);
        }
    }
}
