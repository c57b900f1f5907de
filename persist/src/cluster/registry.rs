//! The seam to who leads: the cluster's identity, the epoch, the nodes.
//!
//! Calls block as those of [`super::ledger`] do. Presence tells who is there and nothing more: whether a node leads is
//! decided by [`Registry::swap`] and by the comparison in every append. Next: [`super::etcd`].

use std::time::Duration;

use super::error::ClusterError;
use super::names::NodeName;
use super::records::{ClusterRecord, LeaderRecord, NodeRecord};

/// What came of making a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Founded {
    /// It is made, by this call or by the same one before it.
    Now,
    /// There is another one of this name.
    Already(ClusterRecord),
}

/// What came of a swap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Swap {
    /// This candidate leads, under this record.
    Won(LeaderRecord),
    /// Somebody else does.
    Lost(LeaderRecord),
}

/// How far somebody has looked. Grows with each change; means something to one store only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Seen(pub u64);

/// Who leads, and which cluster it is. See [`super::ledger::Ledger`] about errors.
pub trait Registry {
    /// Makes the cluster: its record, no leader, an empty chain. All of it or nothing. Repeatable.
    ///
    /// # Errors
    /// [`ClusterError::Corrupt`] when some of its keys are there without the others.
    fn found(&mut self, cluster: &ClusterRecord) -> Result<Founded, ClusterError>;

    /// The cluster's record.
    ///
    /// # Errors
    /// [`ClusterError::NotFounded`] or [`ClusterError::OtherCluster`].
    fn cluster(&mut self) -> Result<ClusterRecord, ClusterError>;

    /// Raises the level, if this node leads and the level is still `from`; `false` if it is another one.
    ///
    /// # Errors
    /// [`ClusterError::Fenced`] when it does not lead.
    ///
    /// # Panics
    /// When `to` is not above `from`.
    fn raise_level(&mut self, leader: &LeaderRecord, from: u32, to: u32) -> Result<bool, ClusterError>;

    /// Who leads, and how far this has looked.
    ///
    /// # Errors
    /// See [`ClusterError`].
    fn leader(&mut self) -> Result<(LeaderRecord, Seen), ClusterError>;

    /// Makes the candidate the leader in the epoch after `old`, if `old` is still the leader. `candidate.epoch`
    /// is not looked at. Of several who try at once one wins. Repeatable with the same nonce.
    ///
    /// # Errors
    /// [`ClusterError::Unavailable`]: unknown; the same call again tells.
    fn swap(&mut self, old: &LeaderRecord, candidate: &LeaderRecord) -> Result<Swap, ClusterError>;

    /// Says that this node is there, for `presence_s` seconds ([`super::limits::PRESENCE_S`]); to be repeated
    /// several times within them.
    ///
    /// # Errors
    /// [`ClusterError::NameTaken`] while a process with another nonce is there under its name.
    fn announce(&mut self, node: &NodeRecord, presence_s: u32) -> Result<(), ClusterError>;

    /// Says that this node goes. Does nothing if it is not there.
    ///
    /// # Errors
    /// See [`ClusterError`].
    fn depart(&mut self, node: &NodeRecord) -> Result<(), ClusterError>;

    /// The node of this name, if it is there.
    ///
    /// # Errors
    /// See [`ClusterError`].
    fn node(&mut self, name: &NodeName) -> Result<Option<NodeRecord>, ClusterError>;

    /// The nodes that are there, by name.
    ///
    /// # Errors
    /// See [`ClusterError`].
    fn nodes(&mut self) -> Result<Vec<NodeRecord>, ClusterError>;

    /// Waits until leader, end of the chain, nodes or cluster have changed since `seen`, at most for `wait`; says
    /// how far it has looked. Changes after `seen` are never missed, and it may return without one: what
    /// changed has to be read.
    ///
    /// # Errors
    /// [`ClusterError::Unavailable`] when the store cannot be asked.
    fn wait(&mut self, seen: Seen, wait: Duration) -> Result<Seen, ClusterError>;
}
