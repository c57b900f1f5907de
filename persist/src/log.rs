//! The log: what was decided, durable, in one order.
//!
//! ```text
//! owners ──▶ queue ──▶ journal ──▶ block* ──▶ segment files ──▶ tail ──▶ exporter
//!            (LSN)        │ sync, durable_lsn                └─▶ recovery (start)
//!                         └─▶ status ─▶ homes                └─▶ snapshotter ─▶ trim
//! ```
//!
//! docs/WAL_FORMAT.md draws every byte and gives the rules of recovery. Nothing
//! here may call a fact durable before its sync has returned, write again to a
//! file whose write or sync failed, or remove what a snapshot and Postgres do
//! not yet hold. Where to read next: [`dir`] opens a log, [`journal`] writes it,
//! [`recovery`] reads it at a start.

#[cfg(not(loom))]
pub mod block;
#[cfg(not(loom))]
pub mod books;
#[cfg(not(loom))]
pub mod chain;
#[cfg(not(loom))]
mod chain_at;
#[cfg(not(loom))]
mod choose_snapshot;
#[cfg(not(loom))]
pub mod control;
#[cfg(not(loom))]
pub mod cut;
#[cfg(not(loom))]
pub mod detach;
#[cfg(not(loom))]
pub mod dir;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
pub mod history;
#[cfg(not(loom))]
pub mod identity;
#[cfg(not(loom))]
mod index;
#[cfg(not(loom))]
pub mod inspect;
#[cfg(not(loom))]
pub mod journal;
#[cfg(not(loom))]
mod lag;
#[cfg(not(loom))]
pub mod layout;
#[cfg(not(loom))]
pub mod limits;
#[cfg(not(loom))]
pub mod maintenance;
#[cfg(not(loom))]
pub mod mirror;
#[cfg(not(loom))]
mod options;
pub mod queue;
#[cfg(all(test, not(loom)))]
mod race_tests;
#[cfg(not(loom))]
pub mod rebuild;
#[cfg(not(loom))]
pub mod record;
#[cfg(not(loom))]
pub mod recovery;
#[cfg(not(loom))]
mod repair;
#[cfg(not(loom))]
pub mod replica;
#[cfg(not(loom))]
pub mod segment;
#[cfg(not(loom))]
mod segment_pool;
mod slots;
#[cfg(not(loom))]
pub mod snapshot;
#[cfg(not(loom))]
pub mod snapshotter;
#[cfg(not(loom))]
pub mod status;
#[cfg(not(loom))]
mod stepped;
mod sync;
#[cfg(not(loom))]
pub mod tail;
#[cfg(not(loom))]
pub mod thread;
#[cfg(not(loom))]
mod torn;
#[cfg(not(loom))]
mod trim;
#[cfg(not(loom))]
pub mod verify;
