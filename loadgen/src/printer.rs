//! What the generator prints. No reader, or the lack of one, changes what it does or its exit code.
//!
//! Results go to the standard output and wait for a slow reader, also where the stream itself would not
//! wait. A reader that has gone away has read enough. A result that could not be written for another
//! reason, such as a full disk, turns the exit code 0 into a failure and leaves every other one alone
//! ([`settle`]). Everything else goes to the standard error, which nobody waits for. The macros of the
//! standard library panic where this does not: nothing else in this crate prints.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};

/// Bytes that a pipe with any room takes at once.
const CHUNK_BYTES: usize = 4096;
/// Longest wait for room for a line on the standard error.
const LINE_WAIT: Duration = Duration::from_secs(1);
/// Pause before a stream that takes nothing is tried again although it has room, by its own word.
const PAUSE: Duration = Duration::from_millis(10);

/// Why nothing more goes to the standard output; empty: its reader has gone away, or somebody who
/// waits no longer has interrupted us.
static OVER: OnceLock<String> = OnceLock::new();

/// Prints a part of the result.
pub fn print(text: &str) {
    if OVER.get().is_some() {
        return;
    }
    let why = match offer(io::stdout().as_fd(), text.as_bytes(), None) {
        Ok(()) => return,
        Err(Errno::PIPE | Errno::INTR) => String::new(),
        Err(error) => error.to_string(),
    };
    let _first_reason_stays = OVER.set(why);
}

/// The same with the end of the line.
pub fn print_line(text: &str) {
    print(&format!("{text}\n"));
}

/// Says a line on the standard error, if it can be said within a second.
pub fn tell(line: &str) {
    let _nobody_listens = offer(io::stderr().as_fd(), format!("{line}\n").as_bytes(), Some(LINE_WAIT));
}

/// Shows how it goes, where there is room at this moment.
pub fn show(text: &str) {
    let _nobody_looks = offer(io::stderr().as_fd(), text.as_bytes(), Some(Duration::ZERO));
}

/// The exit code of the program `name`, now that everything was printed; `failed` where the result is not where it should be.
pub fn settle(name: &str, code: u8, failed: u8) -> u8 {
    match OVER.get() {
        Some(why) if !why.is_empty() => {
            tell(&format!("{name}: cannot write to the standard output: {why}"));
            if code == 0 { failed } else { code }
        }
        _ => code,
    }
}

/// Writes all of it, waiting for room: `None` = until there is some, or a signal comes.
fn offer(fd: BorrowedFd<'_>, text: &[u8], within: Option<Duration>) -> Result<(), Errno> {
    let within = within.map(|within| Timespec {
        tv_sec: within.as_secs().cast_signed(),
        tv_nsec: i64::from(within.subsec_nanos()),
    });
    let mut rest = text;
    while !rest.is_empty() {
        if poll(&mut [PollFd::new(&fd, PollFlags::OUT)], within.as_ref())? == 0 {
            return Err(Errno::AGAIN);
        }
        match write(fd, &rest[..rest.len().min(CHUNK_BYTES)]) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::AGAIN) if within.is_none() => std::thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
