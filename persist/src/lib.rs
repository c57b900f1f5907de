//! Everything durable: the log, recovery, snapshots and the export to Postgres.

#[cfg(not(any(loom, tsan)))]
pub mod cluster;
#[cfg(not(any(loom, tsan)))]
pub mod export;

pub mod codec;
#[cfg(not(loom))]
pub mod disk;
#[cfg(not(loom))]
pub mod feed;
pub mod log;
