//! What happened when: counts and latencies per slice of the run.
//!
//! Bounded, whatever the length: when all slices are used, neighbours are merged and
//! a slice holds twice the time. Plain values; a thread owns its own. Next:
//! [`crate::report`], which draws it.

use hdrhistogram::Histogram;

use crate::meaning::{CODES, Code};

/// Most slices of a timeline.
pub const SLICES_MAX: usize = 256;
/// Length of a slice at first, in nanoseconds.
const SLICE_NS_MIN: u64 = 100_000_000;
/// Longest latency that a slice tells apart, in nanoseconds (an hour).
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Finest difference that a slice tells apart, in nanoseconds.
const LATENCY_NS_STEP: u64 = 1_024;

/// One slice.
#[derive(Clone)]
pub struct Slice {
    /// Requests that became due in it, whether or not they could be sent.
    pub due: u64,
    /// Ends in it, by code.
    pub by_code: [u64; CODES],
    /// Latencies of what ended in it, in nanoseconds, to two digits.
    pub latency: Histogram<u64>,
}

impl Slice {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(LATENCY_NS_STEP, LATENCY_NS_MAX, 2);
        Self { due: 0, by_code: [0; CODES], latency: latency.expect("the bounds are constants") }
    }
    fn absorb(&mut self, other: &Self) {
        self.due += other.due;
        self.by_code.iter_mut().zip(&other.by_code).for_each(|(to, from)| *to += from);
        self.latency.add(&other.latency).expect("all histograms have the same bounds");
    }
}

/// A run, slice by slice.
#[derive(Clone)]
pub struct Timeline {
    begin_ns: u64,
    slice_ns: u64,
    slices: Vec<Slice>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { begin_ns: 0, slice_ns: SLICE_NS_MIN, slices: Vec::new() }
    }
}

impl Timeline {
    /// Sets the moment at which the first slice begins, on the clock of the run.
    pub(crate) const fn begin(&mut self, begin_ns: u64) {
        self.begin_ns = begin_ns;
    }
    /// Length of each slice, in nanoseconds.
    pub const fn slice_ns(&self) -> u64 {
        self.slice_ns
    }
    /// The slices from the beginning on; the last may be shorter than the others.
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }
    /// Counts `count` ends at `now_ns`.
    pub(crate) fn end(&mut self, now_ns: u64, code: Code, latency_ns: u64, count: u64) {
        let slice = self.at(now_ns);
        slice.by_code[code as usize] += count;
        slice.latency.saturating_record_n(latency_ns, count);
    }
    /// Counts `count` purchases that were due at `due_ns`.
    pub(crate) fn due(&mut self, due_ns: u64, count: u64) {
        self.at(due_ns).due += count;
    }

    fn at(&mut self, now_ns: u64) -> &mut Slice {
        let since_ns = now_ns.saturating_sub(self.begin_ns);
        while since_ns / self.slice_ns >= SLICES_MAX as u64 {
            self.coarsen();
        }
        let index = (since_ns / self.slice_ns) as usize;
        while self.slices.len() <= index {
            self.slices.push(Slice::new());
        }
        &mut self.slices[index]
    }
    fn coarsen(&mut self) {
        self.slice_ns *= 2;
        let fine = std::mem::take(&mut self.slices);
        for (index, slice) in fine.into_iter().enumerate() {
            match self.slices.last_mut() {
                Some(last) if index % 2 == 1 => last.absorb(&slice),
                _ => self.slices.push(slice),
            }
        }
    }

    /// Adds what another thread of the same run counted.
    pub(crate) fn absorb(&mut self, other: &Self) {
        if self.slices.is_empty() {
            self.clone_from(other);
            return;
        }
        let mut other = other.clone();
        while other.slice_ns < self.slice_ns {
            other.coarsen();
        }
        while self.slice_ns < other.slice_ns {
            self.coarsen();
        }
        while self.slices.len() < other.slices.len() {
            self.slices.push(Slice::new());
        }
        self.slices.iter_mut().zip(&other.slices).for_each(|(to, from)| to.absorb(from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_few_slices_and_loses_nothing() {
        let mut timeline = Timeline::default();
        timeline.begin(1_000);
        for second in 0..600u64 {
            timeline.due(1_000 + second * 1_000_000_000, 1);
            timeline.end(1_000 + second * 1_000_000_000, Code::Won, second, 1);
        }
        let wons: Vec<_> = timeline.slices().iter().map(|slice| slice.by_code[Code::Won as usize]).collect();
        assert!(timeline.slices().len() <= SLICES_MAX);
        assert_eq!((timeline.slice_ns(), wons.iter().sum::<u64>()), (3_200_000_000, 600));
        assert_eq!(timeline.slices().iter().map(|slice| slice.due).sum::<u64>(), 600);
        // 3.2 s hold three or four of one a second, whenever that is.
        assert!(wons[..wons.len() - 1].iter().all(|&count| (3..=4).contains(&count)), "{wons:?}");
    }

    #[test]
    fn threads_of_unlike_length_are_put_in_step() {
        let (mut long, mut short) = (Timeline::default(), Timeline::default());
        long.end(60_000_000_000, Code::Won, 1, 1);
        short.end(150_000_000, Code::SoldOut, 1, 1);
        let mut sum = Timeline::default();
        sum.absorb(&short);
        sum.absorb(&long);
        assert_eq!(sum.slice_ns(), long.slice_ns());
        assert_eq!(sum.slices()[0].by_code[Code::SoldOut as usize], 1);
        assert_eq!(sum.slices().last().unwrap().by_code[Code::Won as usize], 1);
    }
}
