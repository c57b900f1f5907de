//! Proofs of work are done on threads of their own, so that no connection waits for a buyer's sums.
//!
//! ```text
//!  Worker ── job ──▶ Pool: a queue and a few threads ── answer ──▶ Desk ── bell (eventfd) ──▶ Worker
//! ```
//!
//! How long each took is a step of its own in the report ([`super::step::Step::Solve`]), and no part of
//! the server's. Next: [`super::flow`], which finds the puzzle.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use sha2::{Digest, Sha256};

/// Tries for each expected one before a proof of work counts as unsolvable.
const TRIES_PER_EXPECTED: u64 = 64;
/// Tries between two looks whether anybody still waits.
const TRIES_PER_LOOK: u64 = 4_096;
/// Most threads that solve.
const THREADS_MAX: usize = 8;

/// A proof of work that stands beside a drawn challenge: a number is wanted such that SHA-256 of
/// `challenge:number` begins with `bits` zero bits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Puzzle {
    pub(crate) challenge: Box<str>,
    pub(crate) bits: u32,
}

impl Puzzle {
    /// What goes into the request for a ticket; `None` if there is no answer within reach, or `over`.
    fn solve(&self, over: &AtomicBool) -> Option<Box<str>> {
        let Self { challenge, bits } = self;
        let is_right = |number: &u64| {
            let hash = Sha256::digest(format!("{challenge}:{number}"));
            u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]).leading_zeros() >= *bits
        };
        let tries = TRIES_PER_EXPECTED << bits;
        for first in (0..tries).step_by(TRIES_PER_LOOK as usize) {
            if let Some(answer) = (first..first + TRIES_PER_LOOK).find(is_right) {
                return Some(format!("\"challenge\":\"{challenge}\",\"answer\":\"{answer}\"").into());
            }
            if over.load(Ordering::Relaxed) {
                return None;
            }
        }
        None
    }
}

/// Where one worker finds what was solved for it.
pub(crate) struct Desk {
    solved: Mutex<Vec<(u64, Option<Box<str>>)>>,
    bell: OwnedFd,
}

impl Desk {
    /// An empty desk with a bell that rings when something is put on it.
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Self { solved: Mutex::default(), bell }))
    }
    /// Readable while something lies here.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
    /// Takes everything, and silences the bell: the jobs' numbers and their answers.
    pub(crate) fn take(&self) -> Vec<(u64, Option<Box<str>>)> {
        // Nothing to read only means that somebody was here already.
        let _silent = rustix::io::read(&self.bell, &mut [0; 8]);
        std::mem::take(&mut self.solved.lock().unwrap_or_else(PoisonError::into_inner))
    }
    fn put(&self, number: u64, answer: Option<Box<str>>) {
        self.solved.lock().unwrap_or_else(PoisonError::into_inner).push((number, answer));
        // A counter that is full rings already.
        let _rings = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

struct Job {
    number: u64,
    puzzle: Puzzle,
    desk: Arc<Desk>,
}

/// The threads that solve, and what waits for them: at most one job per buyer under way.
#[derive(Default)]
pub(crate) struct Pool {
    jobs: Mutex<VecDeque<Job>>,
    more: Condvar,
    over: AtomicBool,
}

impl Pool {
    /// How many threads to start: one per processor, up to a few.
    pub(crate) fn threads() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
    }
    /// Takes a puzzle; its answer comes to the desk under this number.
    pub(crate) fn submit(&self, number: u64, puzzle: Puzzle, desk: &Arc<Desk>) {
        let job = Job { number, puzzle, desk: Arc::clone(desk) };
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
        self.more.notify_one();
    }
    /// Solves until the pool is closed.
    pub(crate) fn work(&self) {
        while let Some(Job { number, puzzle, desk }) = self.next() {
            desk.put(number, puzzle.solve(&self.over));
        }
    }
    /// Ends its threads, in mid-sum if need be.
    pub(crate) fn close(&self) {
        let _jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        self.over.store(true, Ordering::Relaxed);
        self.more.notify_all();
    }
    fn next(&self) -> Option<Job> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.over.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(job) = jobs.pop_front() {
                return Some(job);
            }
            jobs = self.more.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_of_work_is_solved() {
        let puzzle = Puzzle { challenge: "abc".into(), bits: 9 };
        let text = puzzle.solve(&AtomicBool::new(false)).unwrap();
        let answer =
            text.strip_prefix(r#""challenge":"abc","answer":""#).and_then(|rest| rest.strip_suffix('"'));
        let hash = Sha256::digest(format!("abc:{}", answer.unwrap()));
        assert!(hash[0] == 0 && hash[1] < 0x80, "{hash:?}");
    }

    #[test]
    fn answers_come_to_the_desk_and_a_closed_pool_ends() {
        let (pool, desk) = (Pool::default(), Desk::new().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| pool.work());
            pool.submit(7, Puzzle { challenge: "x".into(), bits: 4 }, &desk);
            let mut polled = [rustix::event::PollFd::new(&desk.bell, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut polled, None).unwrap();
            let solved = desk.take();
            assert!(matches!(&solved[..], [(7, Some(_))]), "{solved:?}");
            // Far beyond what is solved in the time of a test: closing ends it all the same.
            pool.submit(8, Puzzle { challenge: "y".into(), bits: 32 }, &desk);
            pool.close();
        });
    }
}
