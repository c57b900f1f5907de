//! Waits for sockets, to the nanosecond, with calls that every kernel has.
//!
//! `epoll_wait` itself counts in milliseconds, and its successor that does not (`epoll_pwait2`, Linux 5.11)
//! is missing on older kernels and in many sandboxes. So the last fraction of a millisecond is a `ppoll` on the
//! epoll instance. While there is always something to do that is not needed, and one call stays one call.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::{self, Event};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// How many events there are, after a wait of at most `nap` if there are none. A signal ends the wait, and
/// so does the last whole millisecond: whoever is to be woken to the nanosecond waits again.
///
/// # Errors
/// What the system refuses; waiting again would not help.
pub fn wait(epoll: &OwnedFd, events: &mut [Event], nap: Duration) -> io::Result<usize> {
    let whole =
        Timespec { tv_sec: nap.as_secs().cast_signed(), tv_nsec: i64::from(nap.subsec_millis()) * 1_000_000 };
    let count = take(epoll, events, &whole)?;
    if count > 0 || nap.is_zero() || nap >= Duration::from_millis(1) {
        return Ok(count);
    }
    let nap = Timespec { tv_sec: 0, tv_nsec: i64::from(nap.subsec_nanos()) };
    match poll(&mut [PollFd::new(epoll, PollFlags::IN)], Some(&nap)) {
        Ok(0) | Err(Errno::INTR) => Ok(0),
        Ok(_) => take(epoll, events, &AT_ONCE),
        Err(error) => Err(error.into()),
    }
}

/// What there is after so many whole milliseconds.
fn take(epoll: &OwnedFd, events: &mut [Event], within: &Timespec) -> io::Result<usize> {
    match epoll::wait(epoll, events, Some(within)) {
        Ok(count) => Ok(count),
        Err(Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
