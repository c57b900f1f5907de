//! The thread `stampede-exporter`: runs the exporter, and can be stopped at any time.
//!
//! It only decides how long to sleep. Next: [`super::exporter`].

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;

use super::exporter::{Exporter, Step};
use super::limits::{COPY_ROWS_MIN, GATHER_WAIT, IDLE_WAIT};
use super::status::ExportStatus;

/// A running exporter.
#[derive(Debug)]
pub struct ExporterHandle {
    stop: watch::Sender<bool>,
    status: Arc<ExportStatus>,
    thread: JoinHandle<()>,
}

impl ExporterHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn start(mut exporter: Exporter) -> io::Result<Self> {
        let (stop, status) = (exporter.stopper(), exporter.status());
        let thread =
            thread::Builder::new().name("stampede-exporter".to_owned()).spawn(move || run(&mut exporter))?;
        Ok(Self { stop, status, thread })
    }

    /// Its status.
    pub fn status(&self) -> &Arc<ExportStatus> {
        &self.status
    }

    /// Whether the thread has ended: it stopped for good, or it panicked.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops it, also in the middle of a call, and waits for its end. What was not
    /// committed is exported by the next process. To drain first, wait until
    /// [`ExportStatus::exported_lsn`] has reached the durable LSN.
    ///
    /// # Errors
    /// The message of its panic, if it had panicked.
    pub fn stop(self) -> Result<(), String> {
        self.stop.send_replace(true);
        self.thread.thread().unpark();
        self.thread.join().map_err(|panic| match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => (*panic.downcast::<&str>().unwrap_or(Box::new("unknown panic"))).to_owned(),
        })
    }
}

fn run(exporter: &mut Exporter) {
    loop {
        match exporter.step() {
            Step::Again => {}
            Step::Exported(facts) if facts >= COPY_ROWS_MIN => {}
            // After a small batch it waits a moment for more facts: a commit costs the same for them.
            Step::Exported(_) => thread::park_timeout(GATHER_WAIT),
            Step::Idle => thread::park_timeout(IDLE_WAIT),
            Step::Wait(wait) => thread::park_timeout(wait.max(Duration::from_millis(1))),
            Step::Stopped => return,
        }
    }
}
