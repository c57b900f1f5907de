//! Whether the system lets connections in to each core: what the last failed `accept` of each said.
//!
//! A server that is out of descriptors, or in a sandbox that refuses the call, serves whom it has and
//! leaves everybody else waiting, and nothing else of it looks ill.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

/// Error numbers by core; 0 = connections are let in. Written by the core alone, read by whoever tells
/// (Relaxed: shown to people).
pub struct AcceptErrors(Vec<AtomicI32>);

impl AcceptErrors {
    /// Of so many cores, which are all well.
    pub fn new(cores: usize) -> Self {
        Self((0..cores).map(|_| AtomicI32::new(0)).collect())
    }

    /// The core itself: why no connection comes in; `None` = they do.
    pub fn note(&self, core: usize, error: Option<i32>) {
        self.0[core].store(error.unwrap_or(0), Ordering::Relaxed);
    }

    /// What is wrong and what to do, if no connection comes in to some core.
    pub fn failure(&self) -> Option<String> {
        let error = self.0.iter().map(|core| core.load(Ordering::Relaxed)).find(|error| *error != 0)?;
        let remedy = match error {
            libc::EMFILE => "; raise the process's limit of open files (`ulimit -n`, LimitNOFILE=)",
            libc::ENFILE => "; raise the machine's limit of open files (fs.file-max)",
            libc::ENOBUFS | libc::ENOMEM => "; the machine is out of memory for sockets",
            libc::EPERM | libc::EACCES => "; a firewall or a sandbox refuses it",
            _ => "",
        };
        let error = io::Error::from_raw_os_error(error);
        Some(format!("new connections are not let in: {error}{remedy}. Those that are open are served"))
    }
}
