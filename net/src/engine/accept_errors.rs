//! Whether each core can accept connections: the error of its last failed `accept`.
//!
//! A server that is out of descriptors, or in a sandbox that refuses the call, goes on serving its open
//! connections and leaves everybody else waiting; nothing else shows that something is wrong.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

/// Error numbers by core; 0 = it accepts connections. Written by that core alone, read by any thread
/// (Relaxed: shown to people).
pub struct AcceptErrors(Vec<AtomicI32>);

impl AcceptErrors {
    /// For that many cores, without an error.
    pub fn new(cores: usize) -> Self {
        Self((0..cores).map(|_| AtomicI32::new(0)).collect())
    }

    /// The core itself: why it cannot accept connections; `None` = it can.
    pub fn note(&self, core: usize, error: Option<i32>) {
        self.0[core].store(error.unwrap_or(0), Ordering::Relaxed);
    }

    /// What is wrong and what to do, if some core cannot accept connections.
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
        Some(format!("new connections cannot be accepted: {error}{remedy}. Open connections are served"))
    }
}
