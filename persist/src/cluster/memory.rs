//! A ledger and registry in memory: one linearizable store, and handles whose network fails by a seed.
//!
//! For tests and for simulation: no thread, no clock, no waiting. A request is lost before it arrives, its answer is
//! lost after it was carried out, or it is late: it stays under way while its sender gives up, and
//! arrives when [`MemoryCluster::deliver`] says so. What the store does with a request is one step. Next: [`store`].

mod state;
mod store;

pub use store::{Faults, MemoryCluster, MemoryStore};
