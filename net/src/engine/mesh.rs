//! The rings between cores: per pair one for requests and one for replies.
//!
//! They are bounded, and a core is woken once per batch. A home never has more requests
//! open at an owner than a ring holds, so that an owner always has room for its replies. Next: [`crate::engine::home`].

use std::sync::{Arc, OnceLock};
use std::task::Waker;

use crossbeam::queue::{ArrayQueue, SegQueue};
use stampede_core::wake::WakeFlag;

use super::ask::{Ask, RareAsk, Reply, ReplyTo};

/// Requests that all homes together may have open at one owner.
const OPEN_QUESTIONS_MAX: usize = 16_384;
/// Fewest per pair of cores.
const RING_SLOTS_MIN: usize = 256;

/// Wakes a sleeping core: once per batch, from any thread.
#[derive(Default)]
pub struct CoreWaker {
    flag: WakeFlag,
    /// Set once, read without a lock: a thread that is suspended while it wakes a core blocks no other.
    waker: OnceLock<Waker>,
}

impl CoreWaker {
    /// Makes the core check its rings and the durable LSN.
    pub fn wake(&self) {
        if self.flag.raise() {
            self.shake();
        }
    }

    /// Calls the core's waker whatever the flag says: for a core that should be awake and is not.
    pub fn shake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// The core itself: one sleep; see [`WakeFlag::sleep`].
    pub fn sleep<R>(&self, has_work: impl FnOnce() -> bool, sleep: impl FnOnce(bool) -> R) -> R {
        self.flag.sleep(has_work, sleep)
    }

    /// The core itself: sets how it is woken. Call it once: the first waker stays.
    pub fn register(&self, waker: &Waker) {
        let first = self.waker.set(waker.clone());
        debug_assert!(first.is_ok(), "a core is woken in one way");
    }
}

/// The rings of one pair: a home that asks, an owner that replies.
struct Pair {
    asks: ArrayQueue<(ReplyTo, Ask)>,
    replies: ArrayQueue<(ReplyTo, Reply)>,
}

/// All rings. Shared by all cores.
pub struct Mesh {
    cores: usize,
    pairs: Vec<Pair>,
    wakers: Vec<Arc<CoreWaker>>,
    /// Requests from threads that are no cores, one inbox per core. Unbounded by itself; its
    /// user is the exporter, with at most one open request per item.
    outside: Vec<SegQueue<RareAsk>>,
}

impl Mesh {
    /// Rings for that many cores.
    pub fn new(cores: usize) -> Self {
        Self::with_slots(cores, (OPEN_QUESTIONS_MAX / cores).max(RING_SLOTS_MIN))
    }

    /// Rings for that many cores, with `slots` slots each.
    pub fn with_slots(cores: usize, slots: usize) -> Self {
        let pair = |_| Pair { asks: ArrayQueue::new(slots), replies: ArrayQueue::new(slots) };
        Self {
            cores,
            pairs: (0..cores * cores).map(pair).collect(),
            wakers: (0..cores).map(|_| Arc::default()).collect(),
            outside: (0..cores).map(|_| SegQueue::new()).collect(),
        }
    }

    /// How many cores.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// How each core is woken.
    pub fn wakers(&self) -> &[Arc<CoreWaker>] {
        &self.wakers
    }

    /// Sends a request to a core from a thread that is no core, and wakes it.
    pub fn ask_from_outside(&self, core: usize, ask: RareAsk) {
        self.outside[core].push(ask);
        self.wakers[core].wake();
    }

    /// How many requests of a home wait for an owner: for tests and simulations.
    pub fn waiting(&self, home: usize, owner: usize) -> usize {
        self.pair(home, owner).asks.len()
    }

    fn pair(&self, home: usize, owner: usize) -> &Pair {
        &self.pairs[home * self.cores + owner]
    }
}

/// One core's end of the mesh.
pub struct Endpoint {
    mesh: Arc<Mesh>,
    core: usize,
    /// Open requests at each owner.
    open: Vec<usize>,
    /// Cores that got messages since they were last woken.
    touched: Vec<bool>,
}

impl Endpoint {
    /// The end that belongs to `core`.
    pub fn new(mesh: Arc<Mesh>, core: usize) -> Self {
        let cores = mesh.cores;
        Self { mesh, core, open: vec![0; cores], touched: vec![false; cores] }
    }

    /// How many cores.
    pub fn cores(&self) -> usize {
        self.mesh.cores
    }

    /// This core's waker.
    pub fn waker(&self) -> &CoreWaker {
        &self.mesh.wakers[self.core]
    }

    /// Whether an owner can take one more request: then [`Self::ask`] succeeds.
    pub fn may_ask(&self, owner: usize) -> bool {
        self.open[owner] < self.mesh.pair(self.core, owner).replies.capacity()
    }

    /// Sends a request to an owner. Returns `false` and drops it if too many are open there; the
    /// client is then told to try again.
    pub fn ask(&mut self, owner: usize, to: ReplyTo, ask: Ask) -> bool {
        let pair = self.mesh.pair(self.core, owner);
        if self.open[owner] >= pair.replies.capacity() || pair.asks.push((to, ask)).is_err() {
            return false;
        }
        self.open[owner] += 1;
        self.touched[owner] = true;
        true
    }

    /// Whether requests or replies wait for this core.
    pub fn has_work(&self) -> bool {
        let pairs = |other| (self.mesh.pair(other, self.core), self.mesh.pair(self.core, other));
        !self.mesh.outside[self.core].is_empty()
            || (0..self.mesh.cores)
                .map(pairs)
                .any(|(to, from)| !to.asks.is_empty() || !from.replies.is_empty())
    }

    /// Whether a request of this home waits for this owner.
    pub fn has_ask(&self, home: usize) -> bool {
        !self.mesh.pair(home, self.core).asks.is_empty()
    }

    /// Whether a request from outside the cores waits for this owner.
    pub fn has_outside(&self) -> bool {
        !self.mesh.outside[self.core].is_empty()
    }

    /// The next request of a home to this owner.
    pub fn next_ask(&self, home: usize) -> Option<(ReplyTo, Ask)> {
        self.mesh.pair(home, self.core).asks.pop()
    }

    /// The next request from outside the cores.
    pub fn next_outside(&self) -> Option<RareAsk> {
        self.mesh.outside[self.core].pop()
    }

    /// Sends a reply to a home.
    ///
    /// # Panics
    /// Never: a home has at most as many requests open as its ring of replies holds.
    pub fn reply(&mut self, home: usize, to: ReplyTo, reply: Reply) {
        let pushed = self.mesh.pair(home, self.core).replies.push((to, reply));
        assert!(pushed.is_ok(), "a home asked more than its ring of replies holds");
        self.touched[home] = true;
    }

    /// The next reply of an owner to this home.
    pub fn next_reply(&mut self, owner: usize) -> Option<(ReplyTo, Reply)> {
        let reply = self.mesh.pair(self.core, owner).replies.pop()?;
        self.open[owner] -= 1;
        Some(reply)
    }

    /// Wakes the cores that got messages since the last call: once per batch.
    pub fn flush(&mut self) {
        for (core, touched) in self.touched.iter_mut().enumerate() {
            if std::mem::take(touched) {
                self.mesh.wakers[core].wake();
            }
        }
    }
}
