//! Streams that nobody reads: what the standard output and error of a program under test
//! may lead to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::Stdio;
use std::ptr::{null, null_mut};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Why nobody reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A pipe whose reader is gone.
    DeadReader,
    /// A full pipe that blocks the writer.
    FullPipe,
    /// A full pipe that returns an error to the writer.
    FullPipeThatDoesNotWait,
    /// A file on a full disk.
    FullDisk,
    /// A terminal whose output somebody has stopped (Ctrl-S).
    StoppedTerminal,
    /// A terminal that was closed.
    ClosedTerminal,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::DeadReader,
        Self::FullPipe,
        Self::FullPipeThatDoesNotWait,
        Self::FullDisk,
        Self::StoppedTerminal,
        Self::ClosedTerminal,
    ];
}

/// One such stream.
pub(crate) struct Sink {
    /// What the program writes to.
    writer: OwnedFd,
    /// The other end, if there is one.
    pub(crate) reader: Option<File>,
}

impl Sink {
    pub(crate) fn new(kind: Kind) -> Self {
        match kind {
            Kind::DeadReader => Self { writer: pipe().1, reader: None },
            Kind::FullPipe => Self::full_pipe(false),
            Kind::FullPipeThatDoesNotWait => Self::full_pipe(true),
            Kind::FullDisk => {
                let full =
                    OpenOptions::new().write(true).open("/dev/full").expect("it exists on every Linux");
                Self { writer: full.into(), reader: None }
            }
            Kind::StoppedTerminal => {
                let (near, far) = terminal();
                // SAFETY: stops the output of our own terminal.
                let stopped = unsafe { libc::tcflow(std::os::fd::AsRawFd::as_raw_fd(&far), libc::TCOOFF) };
                assert_eq!(stopped, 0, "{}", io::Error::last_os_error());
                Self { writer: far, reader: Some(near.into()) }
            }
            Kind::ClosedTerminal => Self { writer: terminal().1, reader: None },
        }
    }

    fn full_pipe(stays_so: bool) -> Self {
        let (reader, writer) = pipe();
        let flags = fcntl_getfl(&writer).expect("its flags");
        fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("its flags");
        let mut filler = File::from(writer.try_clone().expect("a descriptor"));
        while filler.write(b"what was written before\n").is_ok() {}
        while filler.write(b"\n").is_ok() {}
        if !stays_so {
            fcntl_setfl(&writer, flags).expect("its flags");
        }
        Self { writer, reader: Some(reader.into()) }
    }

    /// For a child process.
    pub(crate) fn stdio(&self) -> Stdio {
        Stdio::from(self.writer.as_fd().try_clone_to_owned().expect("a descriptor"))
    }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = io::pipe().expect("a pipe");
    (reader.into(), writer.into())
}

/// A pseudo-terminal: the user's side, and the program's side.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut near, mut far) = (-1, -1);
    // SAFETY: both numbers are ours to write to; nothing else is asked for.
    let opened = unsafe { libc::openpty(&raw mut near, &raw mut far, null_mut(), null(), null()) };
    assert_eq!(opened, 0, "{}", io::Error::last_os_error());
    // SAFETY: the call has just made this descriptor, and nobody else knows it.
    let near = unsafe { OwnedFd::from_raw_fd(near) };
    // SAFETY: the same.
    (near, unsafe { OwnedFd::from_raw_fd(far) })
}
