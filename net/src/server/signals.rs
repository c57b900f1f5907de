//! What signals mean to a server.
//!
//! | signal | meaning |
//! |---|---|
//! | TERM, INT, QUIT, XCPU, PWR | stop in order; the second one of them ends the process at once |
//! | HUP | a terminal was closed, or somebody expects files to be read again: a log line, and it sells on |
//! | USR1, USR2, timers, job control of a terminal in the background, a file that may not grow, real-time ones | ignored |
//! | KILL, STOP, TSTP, those of a broken program (SEGV, ABRT, …) | as everywhere |
//!
//! Left to itself, most of them would end the process in mid-sale, undrained. One `unsafe` call: the
//! standard library cannot ignore a signal.

use std::sync::mpsc::Sender;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU};
use signal_hook::iterator::Signals;

use super::event::{EXIT_FORCED, Event};
use crate::output;

/// Those on which it stops in order.
const STOPS: [i32; 5] = [SIGTERM, SIGINT, SIGQUIT, SIGXCPU, libc::SIGPWR];
/// Those that would end or stop the process and mean nothing to it; the real-time ones come on top.
const MEANINGLESS: [i32; 10] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGSTKFLT,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGXFSZ,
];

/// Decides about all of them, and tells of those on which to stop.
///
/// # Errors
/// The system refuses to have a signal handled, or gives no thread.
pub(super) fn watch(events: Sender<Event>) -> anyhow::Result<()> {
    MEANINGLESS.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()).for_each(ignore);
    let mut signals = Signals::new(STOPS.into_iter().chain([SIGHUP])).context("cannot handle signals")?;
    std::thread::Builder::new().name("stampede-signals".to_owned()).spawn(move || {
        let mut stops = 0;
        for signal in signals.forever() {
            if signal == SIGHUP {
                tracing::info!("SIGHUP: it sells on; settings, keys and tokens are read at a start alone");
                continue;
            }
            stops += 1;
            let told = events.send(Event::Signal).is_ok();
            // The second one does not wait for anybody.
            if stops == 2 && told {
                output::exit(EXIT_FORCED);
            }
        }
    })?;
    Ok(())
}

fn ignore(signal: i32) {
    // SAFETY: to ignore a signal runs no code of ours when it comes. It is refused for a number that is no
    // signal, which leaves everything as it was.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}
