//! How the server handles signals.
//!
//! | signal | meaning |
//! |---|---|
//! | TERM, INT, QUIT, XCPU, PWR | an orderly shutdown; a second one of them ends the process at once |
//! | HUP | a terminal was closed, or somebody expects a reload: a log line, and it goes on selling |
//! | USR1, USR2, timers, background job control, file size limit, real-time signals | ignored |
//! | KILL, STOP, TSTP, signals of a broken program (SEGV, ABRT, …) | the default |
//!
//! By default most of them would end the process during a sale, without draining. One `unsafe` call: the
//! standard library cannot ignore a signal.

use std::sync::mpsc::Sender;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU};
use signal_hook::iterator::Signals;

use super::event::{EXIT_FORCED, Event};
use crate::output;

/// Signals for an orderly shutdown.
const STOPS: [i32; 5] = [SIGTERM, SIGINT, SIGQUIT, SIGXCPU, libc::SIGPWR];
/// Ignored signals, which would end or stop the process by default; besides the real-time ones.
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

/// Sets up all handlers, and reports the signals for a shutdown as events.
///
/// # Errors
/// The system refuses a handler or a thread.
pub(super) fn watch(events: Sender<Event>) -> anyhow::Result<()> {
    MEANINGLESS.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()).for_each(ignore);
    let mut signals = Signals::new(STOPS.into_iter().chain([SIGHUP])).context("cannot handle signals")?;
    std::thread::Builder::new().name("stampede-signals".to_owned()).spawn(move || {
        let mut stops = 0;
        for signal in signals.forever() {
            if signal == SIGHUP {
                tracing::info!(
                    "SIGHUP: nothing changes; settings, keys and tokens are read only at the start"
                );
                continue;
            }
            stops += 1;
            let told = events.send(Event::Signal).is_ok();
            // The second one ends the process at once.
            if stops == 2 && told {
                output::exit(EXIT_FORCED);
            }
        }
    })?;
    Ok(())
}

fn ignore(signal: i32) {
    // SAFETY: an ignored signal runs no code of ours. The call fails for a number that is no signal, and then
    // changes nothing.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}
