//! The durable half: the log, recovery, snapshots and the export to Postgres.

#[cfg(not(loom))]
pub mod export;

#[cfg(not(loom))]
pub mod disk;
#[cfg(not(loom))]
pub mod feed;
pub mod codec;
pub mod log;
