//! The standard output of a command, for its result.
//!
//! It waits for a slow reader, even on a non-blocking stream. If the reader closes the stream, the command
//! goes on without output, since its work and its exit code still matter; only a command that does nothing
//! but print ends there.

use std::io::{self, ErrorKind, StdoutLock, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};

use super::failure::Failure;

/// Where a command's result goes.
pub(super) struct Printer {
    out: StdoutLock<'static>,
    /// Whether the command does more than print.
    goes_on: bool,
    /// Nothing is written any more.
    is_over: bool,
    /// Why, unless the reader has gone away.
    failed: Option<io::Error>,
}

impl Printer {
    /// For a command that goes on without a reader (`goes_on`), or for one that only prints.
    pub(super) fn new(goes_on: bool) -> Self {
        Self { out: io::stdout().lock(), goes_on, is_over: false, failed: None }
    }

    /// The command's exit code; an error if its output could not be written and the command itself succeeded.
    pub(super) fn finish(mut self, code: ExitCode) -> Result<ExitCode, Failure> {
        self.flush()?;
        match self.failed {
            Some(error) if code == ExitCode::SUCCESS => Err(Failure::Output(error)),
            _ => Ok(code),
        }
    }

    fn again<T>(
        &mut self,
        nothing: T,
        mut attempt: impl FnMut(&mut StdoutLock<'static>) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.is_over {
            return Ok(nothing);
        }
        loop {
            match attempt(&mut self.out) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for_room(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if self.goes_on => {
                    self.is_over = true;
                    self.failed = Some(error).filter(|error| error.kind() != ErrorKind::BrokenPipe);
                    return Ok(nothing);
                }
                done => return done,
            }
        }
    }
}

impl Write for Printer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.again(bytes.len(), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.again((), Write::flush)
    }
}

/// Waits until the standard output can take more; the next write reports any error.
fn wait_for_room() {
    let out = io::stdout();
    let _tried_again = poll(&mut [PollFd::new(&out.as_fd(), PollFlags::OUT)], None);
}
