//! When the next request is due, and which purchase it makes.
//!
//! Time comes in as an argument. In the open loop due times are fixed beforehand,
//! whatever the server does: that is what corrects coordinated omission (Gil Tene's
//! term). Next: [`super::worker`].

use super::schedule::{Schedule, Walk};
use crate::workload::{Workload, mix, unit};

/// How many of the latest purchases a repeat chooses from.
const RECENT: usize = 16;

/// What makes requests due.
#[derive(Clone, PartialEq, Debug)]
pub enum Mode {
    /// The clock: a rate over all threads that no server can slow down.
    Open(Schedule),
    /// A connection's next request is due when its last response is in.
    Closed,
}

impl Mode {
    /// The open loop at one rate, in requests per second.
    pub const fn open(per_s: f64) -> Self {
        Self::Open(Schedule::constant(per_s))
    }
    /// Whether the clock makes requests due.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }
}

/// A request that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Due {
    /// The purchase that it makes.
    pub(crate) purchase: u32,
    /// Whether other requests may have the same key.
    pub(crate) shared_key: bool,
    /// When it should leave.
    pub(crate) intended_ns: u64,
}

/// One thread's share of the schedule: every `threads`-th request, from the `thread`-th on.
pub(crate) struct Pace {
    /// `None` in the closed loop.
    walk: Option<Walk>,
    /// When the next request is due, in seconds from the beginning; `None` = never.
    next_s: Option<f64>,
    seed: u64,
    repeat: f64,
    shares_keys: bool,
    thread: u64,
    threads: u64,
    taken: u64,
    limit: u64,
    /// Purchases of one request: the schedule is in purchases.
    per_request: u64,
    begin_ns: u64,
    end_ns: u64,
    recent: [u32; RECENT],
    originals: usize,
}

impl Pace {
    /// The share of one thread; `requests` is the limit over all threads.
    pub(crate) fn new(
        mode: &Mode,
        workload: &Workload,
        thread: u64,
        threads: u64,
        requests: Option<u64>,
    ) -> Self {
        let per_request = workload.per_request();
        let all = requests.unwrap_or(u64::MAX).div_ceil(per_request).min(u64::from(u32::MAX));
        let limit = all / threads + u64::from(thread < all % threads);
        let mut walk = match mode {
            Mode::Open(schedule) => Some(Walk::new(schedule.clone())),
            Mode::Closed => None,
        };
        let next_s = walk.as_mut().and_then(|walk| walk.due_s(thread * per_request));
        Self {
            walk,
            next_s,
            seed: workload.seed,
            repeat: workload.repeat,
            shares_keys: workload.shares_keys(),
            thread,
            threads,
            taken: 0,
            limit,
            per_request,
            begin_ns: 0,
            end_ns: u64::MAX,
            recent: [0; RECENT],
            originals: 0,
        }
    }
    /// Sets the first moment and the first moment after.
    pub(crate) const fn window(&mut self, begin_ns: u64, end_ns: u64) {
        (self.begin_ns, self.end_ns) = (begin_ns, end_ns);
    }
    /// The first moment after the window; the far future if it has no end.
    pub(crate) const fn end_ns(&self) -> u64 {
        self.end_ns
    }
    /// Nothing more is due.
    pub(crate) const fn stop(&mut self) {
        self.limit = self.taken;
    }
    /// Whether more will be due.
    pub(crate) fn is_over(&self, now_ns: u64) -> bool {
        let dry = self.walk.is_some() && self.next_s.is_none();
        self.taken >= self.limit || now_ns >= self.end_ns || dry
    }
    /// When the next request is due, if there is one and the window is open.
    pub(crate) fn next_ns(&self, now_ns: u64) -> Option<u64> {
        if now_ns >= self.end_ns { None } else { self.due_ns(now_ns) }
    }
    /// The next request if it is due now.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<Due> {
        if now_ns >= self.end_ns { None } else { self.take_backlog(now_ns) }
    }
    /// The next request that was due by then, even if the window has closed.
    pub(crate) fn take_backlog(&mut self, by_ns: u64) -> Option<Due> {
        let intended_ns = self.due_ns(by_ns).filter(|&due_ns| due_ns <= by_ns)?;
        let (purchase, shared_key) = self.choose();
        self.taken += 1;
        if let Some(walk) = &mut self.walk {
            self.next_s = walk.due_s((self.taken * self.threads + self.thread) * self.per_request);
        }
        Some(Due { purchase, shared_key, intended_ns })
    }

    fn due_ns(&self, now_ns: u64) -> Option<u64> {
        if self.taken >= self.limit {
            return None;
        }
        let due_ns = match self.walk {
            None => now_ns,
            Some(_) => self.begin_ns + (self.next_s? * 1e9) as u64,
        };
        (due_ns < self.end_ns).then_some(due_ns)
    }
    const fn number(&self) -> u64 {
        self.taken * self.threads + self.thread
    }
    fn choose(&mut self) -> (u32, bool) {
        let number = self.number();
        if self.repeat > 0.0 {
            let dice = mix(self.seed ^ mix(!number));
            let known = self.originals.min(RECENT);
            if known > 0 && unit(dice) < self.repeat {
                return (self.recent[mix(dice) as usize % known], true);
            }
            self.recent[self.originals % RECENT] = number as u32;
            self.originals += 1;
        }
        (number as u32, self.shares_keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{self, Batch, Format};
    use crate::workload::Target;

    fn all(pace: &mut Pace, now_ns: u64) -> Vec<Due> {
        std::iter::from_fn(|| pace.take(now_ns)).collect()
    }

    #[test]
    fn threads_share_the_schedule() {
        let workload = Workload::purchases(1, 1);
        let mut seen = Vec::new();
        for thread in 0..3 {
            let mut pace = Pace::new(&Mode::open(1000.0), &workload, thread, 3, Some(10));
            pace.window(500, u64::MAX);
            assert_eq!(pace.take(0), None);
            seen.extend(all(&mut pace, 1_000_000_000).iter().map(|due| (due.purchase, due.intended_ns)));
        }
        seen.sort_unstable();
        let expected: Vec<_> = (0..10).map(|n| (n, 500 + u64::from(n) * 1_000_000)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_batch_is_due_when_its_first_purchase_is() {
        let batch = Batch {
            token: String::new(),
            item: 1,
            items: 1,
            count: 25,
            records: 10,
            format: Format::Binary,
            mode: batch::Mode::Winners,
            tag: 0,
        };
        let workload = Workload { target: Target::Batch(batch), ..Workload::purchases(1, 1) };
        let mut pace = Pace::new(&Mode::open(1_000.0), &workload, 0, 1, Some(25));
        pace.window(0, u64::MAX);
        let due: Vec<_> =
            all(&mut pace, 1_000_000_000).iter().map(|due| (due.purchase, due.intended_ns)).collect();
        assert_eq!(due, [(0, 0), (1, 10_000_000), (2, 20_000_000)]);
    }

    #[test]
    fn a_late_call_gets_the_intended_times_of_the_window_only() {
        let mut pace = Pace::new(&Mode::open(100.0), &Workload::purchases(1, 1), 0, 1, None);
        pace.window(0, 1_000_000_000);
        assert_eq!(pace.take(5_000_000_000), None);
        let due: Vec<_> = std::iter::from_fn(|| pace.take_backlog(5_000_000_000)).collect();
        assert_eq!((due.len(), due[99].intended_ns), (100, 990_000_000));
    }

    #[test]
    fn repeats_have_their_share_and_name_earlier_purchases() {
        let workload = Workload { repeat: 0.25, ..Workload::purchases(1, 7) };
        let mut pace = Pace::new(&Mode::Closed, &workload, 0, 1, Some(10_000));
        let due = all(&mut pace, 0);
        let repeats = due.iter().enumerate().filter(|(index, due)| due.purchase != *index as u32);
        assert!(repeats.clone().all(|(index, due)| (due.purchase as usize) < index && due.shared_key));
        assert!((2_300..2_700).contains(&repeats.count()));
        let mut again = Pace::new(&Mode::Closed, &workload, 0, 1, Some(10_000));
        assert_eq!(all(&mut again, 0), due, "the same seed makes the same choices");
    }
}
