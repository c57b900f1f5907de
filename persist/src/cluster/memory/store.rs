//! Handles to the store in memory, each with a network of its own that fails by a seed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::state::{State, Write, Written};
use crate::cluster::block::{Block, Position};
use crate::cluster::error::ClusterError;
use crate::cluster::ledger::{Ledger, Room};
use crate::cluster::names::{ClusterId, NodeName};
use crate::cluster::records::{ClusterRecord, LeaderRecord, NodeRecord};
use crate::cluster::registry::{Founded, Registry, Seen, Swap};

/// How often a handle's network fails, each in so many of 256 calls. By default never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// The draws; the same seed fails in the same places.
    pub seed: u64,
    /// The request never arrives.
    pub lose_request: u16,
    /// It is carried out and its answer never arrives.
    pub lose_answer: u16,
    /// It is under way when its sender gives up, and arrives later, or never. Reads are lost instead.
    pub delay: u16,
}

/// What happens to one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Arrives,
    RequestLost,
    AnswerLost,
    Late,
}

#[derive(Debug, Default)]
struct Shared {
    state: State,
    under_way: Vec<Write>,
}

/// The store, and what is under way to it.
#[derive(Clone, Debug, Default)]
pub struct MemoryCluster {
    shared: Arc<Mutex<Shared>>,
}

impl MemoryCluster {
    /// A handle without faults, for a node that expects this cluster, or takes any.
    #[must_use]
    pub fn handle(&self, expected: Option<ClusterId>) -> MemoryStore {
        self.handle_with(expected, Faults::default())
    }

    /// A handle whose calls fail so.
    #[must_use]
    pub fn handle_with(&self, expected: Option<ClusterId>, faults: Faults) -> MemoryStore {
        let (cluster, draws) = (self.clone(), faults.seed);
        MemoryStore { cluster, expected, faults, draws, is_cut: false }
    }

    /// Most bytes of blocks that it takes; 0 = no bound.
    pub fn set_quota(&self, bytes: u64) {
        self.lock().state.quota_bytes = bytes;
    }

    /// How many requests are under way whose senders have given up.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.lock().under_way.len()
    }

    /// Lets one of those arrive now: the one at this place, the oldest first. Nobody hears the answer.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn deliver(&self, at: usize) {
        let mut shared = self.lock();
        let write = shared.under_way.remove(at);
        drop(shared.state.write(&write));
    }

    /// Drops those for ever.
    pub fn drop_under_way(&self) {
        self.lock().under_way.clear();
    }

    /// A node's presence has run out: time is the caller's.
    pub fn forget(&self, name: &NodeName) {
        self.lock().state.forget(name);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node's way to the store.
#[derive(Debug)]
pub struct MemoryStore {
    cluster: MemoryCluster,
    expected: Option<ClusterId>,
    faults: Faults,
    draws: u64,
    is_cut: bool,
}

impl MemoryStore {
    /// Cuts this handle off, or joins it again.
    pub fn cut(&mut self, is_cut: bool) {
        self.is_cut = is_cut;
    }

    fn fate(&mut self) -> Fate {
        if self.is_cut {
            return Fate::RequestLost;
        }
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.draws = self.draws.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.draws ^ (self.draws >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let drawn = (mixed >> 56) as u16;
        let Faults { lose_request, lose_answer, delay, .. } = self.faults;
        let (lost, unheard) = (lose_request, lose_request + lose_answer);
        match drawn {
            drawn if drawn < lost => Fate::RequestLost,
            drawn if drawn < unheard => Fate::AnswerLost,
            drawn if drawn < unheard + delay => Fate::Late,
            _ => Fate::Arrives,
        }
    }

    fn check_cluster(&self, state: &State) -> Result<(), ClusterError> {
        match (self.expected, state.cluster()) {
            (Some(expected), Ok(there)) if there.id != expected => {
                Err(ClusterError::OtherCluster { found: there.id, expected })
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, write: Write) -> Result<Written, ClusterError> {
        let fate = self.fate();
        let mut shared = self.cluster.lock();
        // Whose keys they are is known before anything is written under them.
        let is_founding = matches!(write, Write::Found(_));
        if fate == Fate::Arrives && !is_founding {
            self.check_cluster(&shared.state)?;
        }
        match fate {
            Fate::Arrives => return shared.state.write(&write),
            Fate::AnswerLost => drop(shared.state.write(&write)),
            Fate::Late => shared.under_way.push(write),
            Fate::RequestLost => {}
        }
        Err(unavailable())
    }

    fn read<T>(&mut self, read: impl FnOnce(&State) -> Result<T, ClusterError>) -> Result<T, ClusterError> {
        if self.fate() != Fate::Arrives {
            return Err(unavailable());
        }
        let shared = self.cluster.lock();
        self.check_cluster(&shared.state)?;
        read(&shared.state)
    }
}

fn unavailable() -> ClusterError {
    ClusterError::Unavailable("no answer".into())
}

impl Ledger for MemoryStore {
    fn seal(&mut self, leader: &LeaderRecord) -> Result<Position, ClusterError> {
        self.read(|state| state.seal(leader))
    }

    fn append(&mut self, leader: &LeaderRecord, block: &Block) -> Result<(), ClusterError> {
        assert_eq!(leader.epoch, block.epoch(), "a leader appends blocks of its own epoch");
        self.write(Write::Append(leader.clone(), Box::new(block.clone()))).map(drop)
    }

    fn read(&mut self, from: Position, blocks_max: usize) -> Result<Vec<Block>, ClusterError> {
        self.read(|state| state.read(from, blocks_max))
    }

    fn bounds(&mut self) -> Result<(Position, Position), ClusterError> {
        self.read(State::bounds)
    }

    fn trim(&mut self, leader: &LeaderRecord, up_to: Position) -> Result<(), ClusterError> {
        self.write(Write::Trim(leader.clone(), up_to)).map(drop)
    }

    fn room(&mut self) -> Result<Room, ClusterError> {
        self.read(|state| Ok(state.room()))
    }
}

impl Registry for MemoryStore {
    fn found(&mut self, cluster: &ClusterRecord) -> Result<Founded, ClusterError> {
        match self.write(Write::Found(cluster.clone()))? {
            Written::Found(founded) => Ok(founded),
            other => unreachable!("{other:?}"),
        }
    }

    fn cluster(&mut self) -> Result<ClusterRecord, ClusterError> {
        self.read(State::cluster)
    }

    fn raise_level(&mut self, leader: &LeaderRecord, from: u32, to: u32) -> Result<bool, ClusterError> {
        assert!(to > from, "a level is raised");
        match self.write(Write::RaiseLevel(leader.clone(), from, to))? {
            Written::Raised(is_raised) => Ok(is_raised),
            other => unreachable!("{other:?}"),
        }
    }

    fn leader(&mut self) -> Result<(LeaderRecord, Seen), ClusterError> {
        self.read(State::leader)
    }

    fn swap(&mut self, old: &LeaderRecord, candidate: &LeaderRecord) -> Result<Swap, ClusterError> {
        if candidate.node.is_none() {
            return Err(ClusterError::Unusable("a candidate has a name".into()));
        }
        match self.write(Write::Swap(old.clone(), candidate.clone()))? {
            Written::Swap(swap) => Ok(swap),
            other => unreachable!("{other:?}"),
        }
    }

    /// Lives until [`MemoryCluster::forget`].
    fn announce(&mut self, node: &NodeRecord, _presence_s: u32) -> Result<(), ClusterError> {
        self.write(Write::Announce(node.clone())).map(drop)
    }

    fn depart(&mut self, node: &NodeRecord) -> Result<(), ClusterError> {
        self.write(Write::Depart(node.clone())).map(drop)
    }

    fn node(&mut self, name: &NodeName) -> Result<Option<NodeRecord>, ClusterError> {
        let nodes = self.nodes()?;
        Ok(nodes.into_iter().find(|node| node.node == *name))
    }

    fn nodes(&mut self) -> Result<Vec<NodeRecord>, ClusterError> {
        self.read(State::nodes)
    }

    /// Returns at once: time is the caller's.
    fn wait(&mut self, seen: Seen, _wait: Duration) -> Result<Seen, ClusterError> {
        self.read(|state| Ok(seen.max(state.seen())))
    }
}
