//! The watch over the cores and the wall clock, from two threads that are no cores.
//!
//! ```text
//! core ──beat per turn──▶ Pulse ◀──look, ten a second── watch: no beat for 1 s: wake it, alarm, log line
//!                           │                                  no beat for 10 s: end the process
//!                           └──▶ /healthz, /readyz, /metrics ◀── health: answers them while core 0 stands still
//! ```
//!
//! The merchant's connections come in on core 0, so that a core 0 that stands still could not even
//! say so. While it does, the health thread takes the connections that wait at the merchant's address:
//! it answers the three calls that need no core, and everything else with 503. What judges is
//! [`crate::engine::pulse`].

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;
use stampede_core::planted::{Bug, planted};

use crate::engine::clock::{Look, show_ms};
use crate::engine::home::ops;
use crate::engine::pulse::{Finding, Judge, LOOK_MS};
use crate::engine::reasons::Announcer;
use crate::engine::shared::Shared;
use crate::http::answer::{self, Manner};
use crate::http::problem::Code;
use crate::http::route::Route;
use crate::output;

/// The core that the merchant's connections come in on.
const MERCHANT_CORE: usize = 0;
/// How long the health thread waits for a connection, or for a request on one.
const PATIENCE: Duration = Duration::from_millis(LOOK_MS);
/// Bytes of a request that the health thread reads: its first line is all that counts.
const REQUEST_BYTES_MAX: usize = 2 << 10;

/// The watch's own handle of the merchant's listening socket, until the engine drains: while any handle
/// is open, the kernel lets connections in.
#[derive(Clone)]
pub(super) struct Standby(Arc<Mutex<Option<Socket>>>);

impl Standby {
    /// Closes it: from now on nobody stands in for core 0.
    pub(super) fn close(&self) {
        drop(self.0.lock().take());
    }
}

/// Starts both threads. `merchant` is a second handle of the merchant's listening socket.
///
/// # Errors
/// When a thread cannot be started.
pub(super) fn start(shared: Arc<Shared>, merchant: Socket) -> io::Result<Standby> {
    // `accept` must come back when a core was quicker. Nothing else of ours blocks on these sockets.
    merchant.set_read_timeout(Some(PATIENCE))?;
    let standby = Standby(Arc::new(Mutex::new(Some(merchant))));
    let (for_health, its_own) = (shared.clone(), standby.clone());
    let health = thread::Builder::new()
        .name("stampede-health".to_owned())
        .spawn(move || stand_in(&for_health, &its_own))?;
    let health = health.thread().clone();
    thread::Builder::new().name("stampede-watch".to_owned()).spawn(move || watch(&shared, &health))?;
    Ok(standby)
}

// ---- the watch ----

fn watch(shared: &Shared, health: &Thread) -> ! {
    let mut judge = Judge::new(shared.pulse.cores());
    // The start has told of a log that lies ahead.
    let mut was_ahead = shared.clock.is_ahead();
    let mut announcer = Announcer::default();
    loop {
        thread::sleep(Duration::from_millis(LOOK_MS));
        // What helps comes first: to tell somebody may take a while.
        let mut found = Vec::new();
        if !planted(Bug::StaysSilent) {
            judge.look(&shared.pulse, |core, finding| found.push((core, finding)));
        }
        for (core, _) in found.iter().filter(|(_, finding)| finding.is_stall()) {
            shared.mesh.wakers()[*core].shake();
        }
        announcer.announce(shared);
        if shared.pulse.stalled_ms(MERCHANT_CORE) > 0 {
            health.unpark();
        }
        for (core, finding) in found {
            tell(shared, core, finding);
        }
        was_ahead = follow_wall(shared, was_ahead);
    }
}

/// Has the sale clock follow the wall clock, and tells what an operator should know; whether it is ahead.
fn follow_wall(shared: &Shared, was_ahead: bool) -> bool {
    match shared.clock.follow() {
        Look::Followed(by_ms) => {
            tracing::warn!(
                "this machine's clock is {} ahead of the sale's, which follows it",
                show_ms(by_ms)
            );
        }
        Look::Ahead(_) if !was_ahead => {
            let alarm = shared.clock_words();
            tracing::warn!("alarm: {alarm}");
            shared.alarm(alarm);
        }
        Look::Together if was_ahead => {
            tracing::info!("the sale clock and this machine's clock are together again");
        }
        Look::Ahead(_) | Look::Together => {}
    }
    shared.clock.is_ahead()
}

fn tell(shared: &Shared, core: usize, finding: Finding) {
    match finding {
        Finding::Stalled => {
            let alarm = format!("core {core} has stood still for a second; requests on it get no answer");
            tracing::error!("alarm: {alarm}");
            shared.alarm(alarm);
        }
        Finding::StandsStill(_) => {}
        Finding::TurnsAgain(after_ms) => {
            let alarm = format!("core {core} works again; it had stood still for {after_ms} ms");
            tracing::warn!("alarm: {alarm}");
            shared.alarm(alarm);
        }
        Finding::Hopeless => {
            tracing::error!(
                "core {core} has stood still for ten seconds; ending the process, so that it is started again"
            );
            output::abort();
        }
    }
}

// ---- the stand-in ----

fn stand_in(shared: &Shared, standby: &Standby) {
    loop {
        if shared.pulse.stalled_ms(MERCHANT_CORE) == 0 {
            thread::park();
            continue;
        }
        let connection = match &*standby.0.lock() {
            Some(merchant) => next_connection(merchant),
            None => return,
        };
        if let Some(stream) = connection {
            // Somebody who went away needs no answer.
            let _gone = answer_one(shared, stream);
        }
    }
}

/// A connection that waits, if there is one.
fn next_connection(merchant: &Socket) -> Option<TcpStream> {
    let patience = Timespec { tv_sec: 0, tv_nsec: PATIENCE.as_nanos() as i64 };
    if poll(&mut [PollFd::new(merchant, PollFlags::IN)], Some(&patience)).is_err() {
        // Interrupted, or not allowed here: one try per pause all the same.
        thread::sleep(PATIENCE / 10);
    }
    // Closed, out of descriptors, or the core was quicker.
    let (socket, _) = merchant.accept().map_err(|_| thread::sleep(PATIENCE / 10)).ok()?;
    Some(socket.into())
}

fn answer_one(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let asked = read_request(&mut stream)?;
    let date = answer::date_line(shared.clock.now().sale.0 / 1000);
    let mut out = Vec::new();
    match route(&asked) {
        Some(route) => ops::health(&mut out, &route, shared, Manner::CLOSE, &date),
        None => answer::problem(&mut out, &Code::Overloaded.problem(), Manner::CLOSE, &date),
    }
    stream.write_all(&out)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // What is unread would turn the end into a reset, which may overtake the answer.
    let _rest = stream.read(&mut [0; REQUEST_BYTES_MAX]);
    Ok(())
}

/// What comes within a moment, up to the end of a head.
fn read_request(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let until = Instant::now() + PATIENCE;
    let (mut asked, mut part) = (Vec::new(), [0; 512]);
    while asked.len() < REQUEST_BYTES_MAX && !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => break,
            len => asked.extend_from_slice(&part[..len]),
        }
    }
    Ok(asked)
}

/// Which of the three calls a request is.
fn route(asked: &[u8]) -> Option<Route> {
    let line = asked.split(|byte| *byte == b'\r').next()?;
    match line {
        b"GET /healthz HTTP/1.1" | b"GET /healthz HTTP/1.0" => Some(Route::Healthz),
        b"GET /readyz HTTP/1.1" | b"GET /readyz HTTP/1.0" => Some(Route::Readyz),
        b"GET /metrics HTTP/1.1" | b"GET /metrics HTTP/1.0" => Some(Route::Metrics),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_calls_that_need_no_core_are_told_from_all_others() {
        assert_eq!(route(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"), Some(Route::Healthz));
        assert_eq!(route(b"GET /readyz HTTP/1.0\r\n\r\n"), Some(Route::Readyz));
        assert_eq!(route(b"GET /metrics HTTP/1.1\r\n"), Some(Route::Metrics));
        for other in [
            "",
            "GET /admin/items HTTP/1.1\r\n\r\n",
            "POST /healthz HTTP/1.1\r\n\r\n",
            "GET /healthz/ HTTP/1.1\r\n",
        ] {
            assert_eq!(route(other.as_bytes()), None, "{other}");
        }
    }
}
