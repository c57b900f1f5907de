//! The parts of a log that is ready for writing, to be driven by its threads or by a test.
//!
//! Next: [`super::thread`] for the threads, [`super::dir`] for how it is assembled.

use std::sync::Arc;

use super::journal::Journal;
use super::maintenance::Maintenance;
use super::queue::FactQueue;
use super::status::LogStatus;
use crate::disk::DiskLock;

/// A log with its journal as a state machine, which the caller steps.
pub struct Stepped {
    /// The writer.
    pub journal: Journal,
    /// Spares, snapshots, trimming.
    pub maintenance: Arc<Maintenance>,
    /// Where facts go in.
    pub queue: Arc<FactQueue>,
    /// How far it has come.
    pub status: Arc<LogStatus>,
    /// Holds the directory until it is dropped.
    pub lock: DirLock,
}

/// Holds a data directory until it is dropped.
pub struct DirLock {
    _lock: Box<dyn DiskLock>,
}

impl DirLock {
    pub(super) fn new(lock: Box<dyn DiskLock>) -> Self {
        Self { _lock: lock }
    }
}
