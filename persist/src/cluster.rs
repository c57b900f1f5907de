//! The cluster's groundwork: who leads, and the log's second home. **The server does not use it yet.**
//!
//! ```text
//! journal ──▶ Ledger.append ─▶ one etcd transaction: same leader? same tail? ─▶ replicated
//! follower ─▶ Registry.wait ─▶ Ledger.read ─▶ blocks, checked against the chain
//! candidate ▶ Registry.swap ─▶ Ledger.seal ─▶ the tail, which nobody else can move any more
//! ```
//!
//! docs/CLUSTER.md has the protocol, byte by byte. Two traits are the seam: [`Ledger`] and [`Registry`]. etcd implements
//! both ([`etcd`]); so does [`memory`], for tests and simulation, which loses, delays and cuts on command. Nothing
//! here may grant anything because of a time: a lease or a silence is a reason to try, only the comparison inside
//! the append is a permission. Next: [`ledger`], [`registry`].

pub mod block;
pub mod error;
pub mod etcd;
pub mod ledger;
pub mod limits;
pub mod memory;
pub mod names;
pub mod records;
pub mod registry;

pub use block::{Block, BlockRefused, Position};
pub use error::ClusterError;
pub use etcd::{EtcdOptions, EtcdStore};
pub use ledger::{Ledger, Room};
pub use memory::{Faults, MemoryCluster, MemoryStore};
pub use names::{ClusterId, ClusterName, Epoch, NameRefused, NodeName, Nonce};
pub use records::{ClusterRecord, LeaderRecord, NodeRecord};
pub use registry::{Founded, Registry, Seen, Swap};
