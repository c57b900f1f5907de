//! How the rate changes over a run, and so when each request is due.
//!
//! A schedule is a row of segments in which the rate runs along a straight line. Due
//! times follow from it alone, whatever the server does. Next: [`super::pace`].

/// Most segments of a schedule.
pub const SEGMENTS_MAX: usize = 1_000;
/// Highest rate, in requests per second.
pub const PER_S_MAX: f64 = 1e8;

/// A stretch of time with a rate that runs along a straight line.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Segment {
    /// Its length in seconds; above 0.
    pub length_s: f64,
    /// The rate at its beginning, per second.
    pub from_per_s: f64,
    /// The rate at its end, per second.
    pub to_per_s: f64,
}

impl Segment {
    /// Requests due in it.
    fn requests(&self) -> f64 {
        (self.from_per_s + self.to_per_s) / 2.0 * self.length_s
    }
    /// When the rate has brought `requests`, in seconds from its beginning: the positive
    /// root of `from·t + slope/2·t² = requests`, in the form that does not cancel.
    fn reach_s(&self, requests: f64) -> f64 {
        let slope = (self.to_per_s - self.from_per_s) / self.length_s;
        let root = (self.from_per_s * self.from_per_s + 2.0 * slope * requests).max(0.0).sqrt();
        let sum = self.from_per_s + root;
        if sum > 0.0 { 2.0 * requests / sum } else { 0.0 }
    }
}

/// A schedule that cannot be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScheduleError {
    /// A rate below 0, not a number, or too high.
    #[error("a rate of the shape must be 0 to 100 million a second")]
    Rate,
    /// A stretch without length.
    #[error("each stretch of the shape needs a length above 0")]
    Length,
    /// Nothing would ever be sent.
    #[error("the shape never has a rate above 0")]
    Empty,
    /// Too many stretches.
    #[error("a shape has at most 1000 stretches")]
    TooLong,
}

/// When requests are due: the segments one after the other, then the last rate for ever.
#[derive(Clone, PartialEq, Debug)]
pub struct Schedule {
    segments: Vec<Segment>,
    tail_per_s: f64,
}

impl Schedule {
    /// One rate for ever, in requests per second.
    pub const fn constant(per_s: f64) -> Self {
        Self { segments: Vec::new(), tail_per_s: per_s }
    }
    /// These stretches, then the last one's rate for ever.
    ///
    /// # Errors
    /// [`ScheduleError`] says what cannot be.
    pub fn new(segments: Vec<Segment>) -> Result<Self, ScheduleError> {
        let sound = |per_s: f64| (0.0..=PER_S_MAX).contains(&per_s);
        if segments.len() > SEGMENTS_MAX {
            return Err(ScheduleError::TooLong);
        }
        if !segments.iter().all(|segment| sound(segment.from_per_s) && sound(segment.to_per_s)) {
            return Err(ScheduleError::Rate);
        }
        if !segments.iter().all(|segment| segment.length_s > 0.0 && segment.length_s.is_finite()) {
            return Err(ScheduleError::Length);
        }
        if segments.iter().all(|segment| segment.requests() == 0.0) {
            return Err(ScheduleError::Empty);
        }
        let tail_per_s = segments.last().map_or(0.0, |segment| segment.to_per_s);
        Ok(Self { segments, tail_per_s })
    }
    /// The highest rate, in requests per second.
    pub fn peak_per_s(&self) -> f64 {
        self.segments
            .iter()
            .map(|segment| segment.from_per_s.max(segment.to_per_s))
            .fold(self.tail_per_s, f64::max)
    }
    /// The stretches; none for a constant rate.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
    /// Whether the rate is the same all the time.
    pub const fn is_constant(&self) -> bool {
        self.segments.is_empty()
    }
}

/// Walks along a schedule; the requested times must not decrease.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    schedule: Schedule,
    segment: usize,
    before_s: f64,
    before: f64,
}

impl Walk {
    pub(crate) const fn new(schedule: Schedule) -> Self {
        Self { schedule, segment: 0, before_s: 0.0, before: 0.0 }
    }
    /// When the request with this number (from 0) is due, in seconds; `None` = never.
    pub(crate) fn due_s(&mut self, number: u64) -> Option<f64> {
        let number = number as f64;
        while let Some(segment) = self.schedule.segments.get(self.segment) {
            let within = number - self.before;
            if within < segment.requests() {
                return Some(self.before_s + segment.reach_s(within));
            }
            self.before += segment.requests();
            self.before_s += segment.length_s;
            self.segment += 1;
        }
        let per_s = self.schedule.tail_per_s;
        (per_s > 0.0).then(|| self.before_s + (number - self.before) / per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(length_s: f64, from_per_s: f64, to_per_s: f64) -> Segment {
        Segment { length_s, from_per_s, to_per_s }
    }

    /// Due times of the first requests that are due before `until_s`.
    fn walk(segments: &[Segment], until_s: f64) -> Vec<f64> {
        let mut walk = Walk::new(Schedule::new(segments.to_vec()).unwrap());
        (0..).map_while(|number| walk.due_s(number)).take_while(|&due_s| due_s < until_s).collect()
    }

    /// The slow way: adds up the rate in tiny steps.
    fn counted(segments: &[Segment], until_s: f64) -> f64 {
        let (mut sum, mut begin_s, step_s) = (0.0, 0.0, 1e-4);
        for segment in segments {
            let steps = (segment.length_s.min(until_s - begin_s).max(0.0) / step_s).round() as u64;
            for step in 0..steps {
                let at = (step as f64 + 0.5) * step_s / segment.length_s;
                sum += (segment.from_per_s + (segment.to_per_s - segment.from_per_s) * at) * step_s;
            }
            begin_s += segment.length_s;
        }
        sum
    }

    #[test]
    fn as_many_are_due_as_the_rate_brings() {
        let shapes = [
            vec![segment(10.0, 0.0, 1_000.0)],
            vec![segment(10.0, 1_000.0, 0.0)],
            vec![segment(2.0, 0.0, 0.0), segment(8.0, 500.0, 500.0)],
            vec![segment(1.0, 100.0, 100.0), segment(3.0, 100.0, 900.0), segment(6.0, 900.0, 50.0)],
        ];
        for segments in shapes {
            let due_s = walk(&segments, 10.0);
            assert!(due_s.is_sorted(), "{segments:?}");
            for until_s in [0.5, 1.0, 2.5, 5.0, 9.9] {
                let due = due_s.iter().filter(|&&at_s| at_s < until_s).count() as f64;
                let expected = counted(&segments, until_s);
                assert!((due - expected).abs() <= 1.5, "{segments:?}: {due} until {until_s}, not {expected}");
            }
        }
    }

    #[test]
    fn a_spike_begins_on_time_and_a_flood_that_ends_ends() {
        let due_s = walk(&[segment(3.0, 0.0, 0.0), segment(1.0, 10.0, 10.0)], 5.0);
        assert_eq!((due_s[0], due_s.len()), (3.0, 20));
        let due_s = walk(&[segment(1.0, 10.0, 0.0)], 1e9);
        assert_eq!(due_s.len(), 5);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let new = |segments: &[Segment]| Schedule::new(segments.to_vec()).err();
        assert_eq!(new(&[segment(1.0, -1.0, 2.0)]), Some(ScheduleError::Rate));
        assert_eq!(new(&[segment(1.0, f64::NAN, 2.0)]), Some(ScheduleError::Rate));
        assert_eq!(new(&[segment(0.0, 1.0, 2.0)]), Some(ScheduleError::Length));
        assert_eq!(new(&[segment(1.0, 0.0, 0.0)]), Some(ScheduleError::Empty));
        assert_eq!(new(&[segment(1.0, 1.0, 1.0); SEGMENTS_MAX + 1]), Some(ScheduleError::TooLong));
    }
}
