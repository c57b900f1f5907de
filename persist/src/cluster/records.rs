//! What the registry and the ledger keep besides blocks: the cluster, its leader, its nodes. Next: [`super::registry`].

use std::fmt;

use super::limits::{ADDRESS_BYTES_MAX, VERSION_BYTES_MAX};
use super::names::{ClusterId, Epoch, NodeName, Nonce};
use crate::log::identity::LogId;

/// What is decided once, when a cluster is made; only the level grows.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterRecord {
    /// Which cluster it is.
    pub id: ClusterId,
    /// The identity of its one log, on every node.
    pub log_id: LogId,
    /// The secret under which every node hashes buyers' names.
    pub secret: [u8; 32],
    /// The newest kind of facts that may be written: what every node of the cluster knows.
    pub level: u32,
}

/// Without the secret.
impl fmt::Debug for ClusterRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterRecord({}, {:?}, level {})", self.id, self.log_id, self.level)
    }
}

/// Who leads.
///
/// The nonce makes the record one of a kind, also when an old copy of etcd hands out an epoch a second time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaderRecord {
    /// The epoch; [`Epoch::NONE`] = nobody has led yet.
    pub epoch: Epoch,
    /// The leader; `None` before the first.
    pub node: Option<NodeName>,
    /// Where the other nodes reach it, as its settings say; at most [`ADDRESS_BYTES_MAX`] bytes.
    pub address: String,
    /// Drawn by the candidate for this one swap.
    pub nonce: Nonce,
}

impl LeaderRecord {
    /// Before the first leader.
    #[must_use]
    pub const fn nobody() -> Self {
        Self { epoch: Epoch::NONE, node: None, address: String::new(), nonce: Nonce([0; 16]) }
    }

    /// Its node, for a sentence.
    #[must_use]
    pub fn name(&self) -> &str {
        self.node.as_ref().map_or("nobody", NodeName::as_str)
    }
}

/// A node that is there. Tells others where it is; nothing is permitted by it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRecord {
    /// Its name.
    pub node: NodeName,
    /// Where the other nodes reach it; at most [`ADDRESS_BYTES_MAX`] bytes.
    pub address: String,
    /// Drawn by the process: two processes with one name are told apart by it.
    pub nonce: Nonce,
    /// The program's version; at most [`VERSION_BYTES_MAX`] bytes.
    pub version: String,
    /// The newest kind of facts that it knows.
    pub level: u32,
}

/// Whether this can stand in a record.
pub(super) fn fits(address: &str, version: &str) -> bool {
    let is_plain = |text: &str| text.chars().all(|c| !c.is_control());
    address.len() <= ADDRESS_BYTES_MAX
        && version.len() <= VERSION_BYTES_MAX
        && is_plain(address)
        && is_plain(version)
}
