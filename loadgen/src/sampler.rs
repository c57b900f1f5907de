//! Samples the stock: reads the merchant API four times a second during a run.
//!
//! On a thread of its own that can disturb nothing: when the pages do not come it gives
//! up in silence, and the end of a run does not wait for a response that hangs. Next:
//! [`crate::record::Stock`], which keeps what was seen.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::unix_ms;
use crate::engine::Outcome;
use crate::record::Stock;
use crate::verify::Merchant;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Looks that may fail one after the other before it gives up.
const FAILURES_MAX: u32 = 8;
/// Most items that are read one by one; with more, nothing is sampled.
pub const ITEMS_MAX: usize = 32;
/// How long the end of a run waits for the last look.
const LAST_LOOK_WAIT: Duration = Duration::from_secs(1);
/// Most samples that are kept; beyond that every second one is dropped.
const SAMPLES_MAX: usize = 1_024;

/// Samples by Unix milliseconds, while they are taken.
type Samples = Arc<Mutex<Vec<(u64, i64)>>>;

/// A thread that watches the stock until it is told that the run is over.
pub struct Sampler {
    over: Sender<()>,
    thread: thread::JoinHandle<()>,
    samples: Samples,
}

impl Sampler {
    /// Begins to watch, with a first look before it returns: it shows where the stock began. `None` if
    /// there are more than [`ITEMS_MAX`] items, none, or no thread for it.
    pub fn start(merchant: Merchant, items: Vec<u32>) -> Option<Self> {
        if items.is_empty() || items.len() > ITEMS_MAX {
            return None;
        }
        let (over, told) = mpsc::channel();
        let samples = Samples::default();
        let kept = Arc::clone(&samples);
        look(&merchant, &items).into_iter().for_each(|sample| keep(&kept, sample));
        let watch = move || {
            let mut failures = 0;
            let mut last = false;
            while failures < FAILURES_MAX && !last {
                // The last look comes after the run: it shows where the stock ended.
                last = told.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout);
                match look(&merchant, &items) {
                    Some(sample) => keep(&kept, sample),
                    None => failures += 1,
                }
            }
        };
        let thread = thread::Builder::new().name("sampler".to_owned()).spawn(watch).ok()?;
        Some(Self { over, thread, samples })
    }

    /// Ends it: what was seen, by time since the run's first request was due; `None` if that is less
    /// than two looks. Waits a second at most.
    pub fn finish(self, outcome: &Outcome) -> Option<Stock> {
        let _ = self.over.send(());
        let deadline = Instant::now() + LAST_LOOK_WAIT;
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        if self.thread.is_finished() {
            let _ = self.thread.join();
        }
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stock(&samples, outcome.began_at_ms.saturating_add(outcome.tally.begin_ns / 1_000_000))
    }
}

fn look(merchant: &Merchant, items: &[u32]) -> Option<(u64, i64)> {
    let pages: Option<Vec<_>> = items.iter().map(|&item| merchant.item(item).ok()).collect();
    Some((unix_ms(), pages?.iter().map(|page| page.totals.available).sum()))
}

fn keep(samples: &Samples, sample: (u64, i64)) {
    let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
    if samples.len() >= SAMPLES_MAX {
        let mut index = 0;
        samples.retain(|_| {
            index += 1;
            index % 2 == 1
        });
    }
    samples.push(sample);
}

/// Times since the beginning; of the looks before it only the latest counts, as the stock at the beginning.
fn stock(samples: &[(u64, i64)], began_at_ms: u64) -> Option<Stock> {
    let before = samples.iter().filter(|&&(at_ms, _)| at_ms < began_at_ms).count();
    let from = before.saturating_sub(1);
    let samples: Vec<_> =
        samples[from..].iter().map(|&(at_ms, left)| (at_ms.saturating_sub(began_at_ms), left)).collect();
    (samples.len() > 1).then_some(Stock { samples })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_run_from_the_beginning() {
        let seen = [(10, 9), (20, 8), (30, 7), (40, 0)];
        assert_eq!(stock(&seen, 25).unwrap().samples, [(0, 8), (5, 7), (15, 0)]);
        assert_eq!(stock(&seen, 10).unwrap().samples[0], (0, 9));
        assert!(stock(&seen, 50).is_none() && stock(&[], 0).is_none());
    }

    #[test]
    fn a_long_watch_keeps_a_bounded_number() {
        let samples = Samples::default();
        (0..10_000).for_each(|n| keep(&samples, (n, 0)));
        let kept = samples.lock().unwrap().clone();
        assert!(kept.len() <= SAMPLES_MAX && kept[0].0 == 0 && kept.last().unwrap().0 == 9_999);
    }

    #[test]
    fn nobody_there_disturbs_nothing() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let sampler = Sampler::start(Merchant::new(&format!("http://{closed}"), "t"), vec![1]).unwrap();
        let (tally, history, gave_up) = (crate::engine::Tally::default(), None, None);
        let outcome = Outcome { tally, history, gave_up, interrupted: false, trouble: None, began_at_ms: 0 };
        assert!(sampler.finish(&outcome).is_none());
        assert!(Sampler::start(Merchant::new("http://x", "t"), vec![1; ITEMS_MAX + 1]).is_none());
    }
}
