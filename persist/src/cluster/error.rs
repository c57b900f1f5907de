//! What can go wrong with the cluster's store, in words: what happened, and what is to be done.
//!
//! One enum for both traits, since the caller's question is always what to do next: step down, wait, or call the operator.
//! No text here shows a password or the buyers' secret. Next: [`super::ledger`].

use stampede_core::types::Lsn;

use super::names::{ClusterId, Epoch, NodeName};

/// Why a call to the ledger or the registry failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClusterError {
    /// Another node leads. Whoever gets this acknowledges nothing any more under its own epoch.
    #[error("node {leader} leads in epoch {epoch}; this node steps down and follows it")]
    Fenced {
        /// The epoch that is current now.
        epoch: Epoch,
        /// Its leader.
        leader: String,
        /// Whether the block of this append is in the history all the same: it arrived before the change of
        /// leader, and the new leader has it. `None` for calls that append nothing, and where it cannot be told
        /// any more, because the place is trimmed.
        kept: Option<bool>,
    },
    /// No member of the store answered in time. A write may have come about: the same call again tells.
    #[error(
        "etcd cannot be used now: {0}; it is tried again. Check that a majority of its members runs and is reachable"
    )]
    Unavailable(String),
    /// The store takes no more bytes.
    #[error(
        "etcd is out of space ({0}); nothing is sold until there is room: raise --quota-backend-bytes or trim, then `etcdctl \
         defrag` on each member and `etcdctl alarm disarm`"
    )]
    OutOfSpace(String),
    /// User, password, certificate or rights are wrong.
    #[error(
        "etcd does not let this node in: {0}; correct user, password or certificates, or grant the user readwrite on \
         the prefix of this cluster"
    )]
    Denied(String),
    /// The keys under this name belong to another cluster.
    #[error(
        "the keys of this name in etcd belong to cluster {found}, and this node to cluster {expected}; give this \
         cluster another name, or correct the endpoints"
    )]
    OtherCluster {
        /// Whose keys they are.
        found: ClusterId,
        /// Whose node this is.
        expected: ClusterId,
    },
    /// There is no cluster of this name.
    #[error(
        "there is no cluster {0} in this etcd; make it once with `stampede cluster init`, or correct name and endpoints"
    )]
    NotFounded(String),
    /// The blocks asked for were trimmed.
    #[error(
        "the ledger begins with LSN {first}; what lies before it is in snapshots: get one from another node"
    )]
    Compacted {
        /// The first LSN that is still there.
        first: Lsn,
    },
    /// The ledger's end is not where this leader left it.
    #[error(
        "the ledger ends with LSN {found} and not with {expected}, where this leader left it; was etcd restored from a \
         backup? Stop all nodes and see `stampede cluster rebuild`"
    )]
    WentBack {
        /// Where it ends.
        found: Lsn,
        /// Where the leader left it.
        expected: Lsn,
    },
    /// A process is there under this node's name.
    #[error("another process is there as node {node}, at {address}; give each node a name of its own")]
    NameTaken {
        /// The name.
        node: NodeName,
        /// Where the other one is.
        address: String,
    },
    /// Something that nobody of ours has written, or that was damaged.
    #[error(
        "the value of {key} in etcd is not what was written: {what}; nothing is read over it. Keep a copy of etcd's data, \
         and see `stampede cluster rebuild`"
    )]
    Corrupt {
        /// Which key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// A value or an option cannot be used.
    #[error("{0}")]
    Unusable(String),
}

impl ClusterError {
    /// Whether the same call may succeed later without a hand.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether this node has to stop leading at once.
    #[must_use]
    pub const fn ends_leading(&self) -> bool {
        !matches!(self, Self::Unavailable(_) | Self::OutOfSpace(_))
    }
}
