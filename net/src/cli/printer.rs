//! The standard output of a command, for its result.
//!
//! It waits for a slow reader, also where the stream itself would not. A reader that has gone away
//! has read enough: the command goes on without it, since what it does, and the verdict that its exit code
//! gives, are not for that reader alone. Only a command that does nothing but print ends there.

use std::io::{self, ErrorKind, StdoutLock, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};

use super::failure::Failure;

/// Where a command's result goes.
pub(super) struct Printer {
    out: StdoutLock<'static>,
    /// Whether the command has more to do than to print.
    goes_on: bool,
    /// Nothing is written any more.
    is_over: bool,
    /// Why, unless the reader has gone away.
    failed: Option<io::Error>,
}

impl Printer {
    /// For a command that is worth its while without a reader, or for one that is not.
    pub(super) fn new(goes_on: bool) -> Self {
        Self { out: io::stdout().lock(), goes_on, is_over: false, failed: None }
    }

    /// The command's exit code, or that its result is not where it should be: a failure only where there
    /// is none that weighs more.
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

/// Whatever comes of it: the next attempt to write says what is wrong.
fn wait_for_room() {
    let out = io::stdout();
    let _tried_again = poll(&mut [PollFd::new(&out.as_fd(), PollFlags::OUT)], None);
}
