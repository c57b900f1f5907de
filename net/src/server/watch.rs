//! The watch over the cores and the wall clock, on threads that are no cores.
//!
//! ```text
//! core ──beat per turn──▶ Pulse ◀──look, ten a second── watch: no beat for 1 s: wake it, count it
//!                           │                             │      no beat for 10 s: end the process
//!                           │                             ▼
//!                           │                           reporter: alarm, log line, reasons, wall clock
//!                           └──▶ /healthz, /readyz, /metrics ◀── health: answers while core 0 is stalled
//! ```
//!
//! The watch takes no lock and never waits: a thread may be suspended while it holds a lock, and what helps
//! against that must not need the same lock. So reporting, which takes locks, is the reporter's.
//!
//! Core 0 serves the merchant API, so a stalled core 0 could not even say so. Meanwhile the health thread
//! ([`super::stand_in`]) takes the connections that wait for the merchant API: it answers the three endpoints
//! that need no core, and everything else with 503. [`crate::engine::pulse`] detects stalls.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use socket2::Socket;

use super::stand_in::{Answers, HealthSocket, StandIn};
use crate::engine::clock::{Look, show_ms};
use crate::engine::health::health;
use crate::engine::pulse::{Finding, LOOK_MS, StallDetector};
use crate::engine::reasons::Announcer;
use crate::engine::shared::Shared;
use crate::http::answer::{self, ResponseMode};
use crate::http::problem::Code;
use crate::http::route::{Listener, Route};
use crate::output;

/// The core that serves the merchant API.
const MERCHANT_CORE: usize = 0;
/// Time between two looks of the watch, and of the reporter.
const LOOK: Duration = Duration::from_millis(LOOK_MS);
/// Findings per core that may wait for the reporter.
const FINDINGS_PER_CORE: usize = 8;

/// The running watch; it ends when this is dropped.
pub(super) struct Watch {
    health: StandIn,
    is_over: Arc<AtomicBool>,
}

impl Watch {
    /// Closes its handle of the merchant API's listening socket: from now on nothing stands in for core 0, and
    /// once core 0 has closed its own handle, connections are refused.
    pub(super) fn close_socket(&self) {
        self.health.leave();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Starts its threads. `merchant` is a second handle of the merchant API's listening socket.
///
/// # Errors
/// When a thread cannot be started.
pub(super) fn start(shared: Arc<Shared>, merchant: Socket) -> io::Result<Watch> {
    let socket = HealthSocket { listener: Listener::Merchant, socket: merchant, skips_proxy_headers: false };
    let health = StandIn::start("stampede-health", vec![socket], ForCore0(shared.clone()))?;
    let is_over = Arc::new(AtomicBool::new(false));
    let findings = Arc::new(ArrayQueue::new(FINDINGS_PER_CORE * shared.state.pulse.cores()));
    let (state, found, over) = (shared.clone(), findings.clone(), is_over.clone());
    let reporter = thread::Builder::new().name("stampede-tell".to_owned()).spawn(move || {
        let mut reporter = Reporter::new(state, found);
        while !over.load(Ordering::Relaxed) {
            reporter.report();
            thread::park_timeout(LOOK);
        }
    })?;
    let (health_thread, reporter, over) = (health.call().clone(), reporter.thread().clone(), is_over.clone());
    thread::Builder::new().name("stampede-watch".to_owned()).spawn(move || {
        let mut watch = Looks::new(shared, findings, [health_thread, reporter]);
        while !over.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
            if watch.look() {
                // The reporter has a moment for its last line; it may be blocked, too.
                thread::sleep(LOOK);
                output::exit(output::EXIT_BROKEN);
            }
        }
    })?;
    Ok(Watch { health, is_over })
}

// ---- the watch ----

/// The watch itself.
struct Looks {
    shared: Arc<Shared>,
    detector: StallDetector,
    looked: Instant,
    findings: Arc<ArrayQueue<(usize, Finding)>>,
    /// Woken when a core is stalled: the health thread and the reporter.
    helpers: [Thread; 2],
}

impl Looks {
    fn new(shared: Arc<Shared>, findings: Arc<ArrayQueue<(usize, Finding)>>, helpers: [Thread; 2]) -> Self {
        let detector = StallDetector::new(shared.state.pulse.cores());
        Self { shared, detector, looked: Instant::now(), findings, helpers }
    }

    /// One look; returns whether a core is given up. Takes no lock.
    fn look(&mut self) -> bool {
        let elapsed = std::mem::replace(&mut self.looked, Instant::now()).elapsed();
        let (shared, findings, mut is_hopeless) = (&self.shared, &self.findings, false);
        self.detector.look(&shared.state.pulse, elapsed.as_millis() as u64, |core, finding| {
            if finding.is_stall() {
                shared.mesh.wakers()[core].shake();
            }
            is_hopeless |= finding == Finding::Hopeless;
            // A blocked reporter misses some findings.
            let _full = findings.push((core, finding));
        });
        if !self.findings.is_empty() {
            self.helpers.iter().for_each(Thread::unpark);
        }
        is_hopeless
    }
}

// ---- the reporter ----

struct Reporter {
    shared: Arc<Shared>,
    findings: Arc<ArrayQueue<(usize, Finding)>>,
    announcer: Announcer,
    was_ahead: bool,
}

impl Reporter {
    fn new(shared: Arc<Shared>, findings: Arc<ArrayQueue<(usize, Finding)>>) -> Self {
        // The start has reported a log that is ahead.
        let was_ahead = shared.clock.is_ahead();
        Self { shared, findings, announcer: Announcer::default(), was_ahead }
    }

    fn report(&mut self) {
        while let Some((core, finding)) = self.findings.pop() {
            self.report_finding(core, finding);
        }
        self.announcer.announce(&self.shared);
        self.follow_wall();
    }

    fn report_finding(&self, core: usize, finding: Finding) {
        match finding {
            Finding::Stalled => {
                let alarm = format!("core {core} has not run for a second; requests on it get no response");
                tracing::error!("alarm: {alarm}");
                self.shared.alarm(alarm);
            }
            Finding::StandsStill(_) => {}
            Finding::TurnsAgain(after_ms) => {
                let alarm = format!("core {core} runs again; it was stalled for {after_ms} ms");
                tracing::warn!("alarm: {alarm}");
                self.shared.alarm(alarm);
            }
            Finding::Hopeless => tracing::error!(
                "core {core} has not run for ten seconds; ending the process, so that it is started again"
            ),
        }
    }

    /// Has the sale clock follow the wall clock, and reports what an operator should know.
    fn follow_wall(&mut self) {
        match self.shared.clock.follow() {
            Look::Followed(by_ms) => {
                tracing::warn!(
                    "this machine's clock is {} ahead of the sale clock, which follows it",
                    show_ms(by_ms)
                );
            }
            Look::Ahead(_) if !self.was_ahead => {
                let alarm = self.shared.clock_words();
                tracing::warn!("alarm: {alarm}");
                self.shared.alarm(alarm);
            }
            Look::Together if self.was_ahead => {
                tracing::info!("the sale clock and this machine's clock agree again");
            }
            Look::Ahead(_) | Look::Together => {}
        }
        self.was_ahead = self.shared.clock.is_ahead();
    }
}

// ---- the stand-in for core 0 ----

struct ForCore0(Arc<Shared>);

impl Answers for ForCore0 {
    fn is_on_duty(&self) -> bool {
        self.0.state.pulse.stalled_ms(MERCHANT_CORE) > 0
    }

    fn answer(&self, route: Option<Route>, out: &mut Vec<u8>) {
        let date = answer::date_line(self.0.clock.now().sale.0 / 1000);
        match route {
            Some(route) => health(out, &route, &self.0, ResponseMode::CLOSE, &date),
            None => answer::problem(out, &Code::Overloaded.problem(), ResponseMode::CLOSE, &date),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::task::{Wake, Waker};

    use super::*;
    use crate::rig::Base;

    /// Stands for an eventfd; the first thread that writes to it is suspended in the call.
    struct Bell {
        rung: ArrayQueue<()>,
        held: parking_lot::Mutex<()>,
        is_first: AtomicBool,
    }

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            let _full = self.rung.push(());
            if self.is_first.swap(false, Ordering::Relaxed) {
                drop(self.held.lock());
            }
        }
    }

    /// A suspended thread may hold any lock that threads of the engine take: that of the alarms, or that of a
    /// core's waker while it wakes the core.
    #[test]
    fn the_watch_works_whatever_a_suspended_thread_has_locked() {
        let base = Base::new(1, 1_000);
        let shared = &base.shared;
        let bell = Arc::new(Bell {
            rung: ArrayQueue::new(1_000),
            held: parking_lot::Mutex::new(()),
            is_first: AtomicBool::new(true),
        });
        shared.mesh.wakers()[0].register(&Waker::from(bell.clone()));
        let until = bell.held.lock();
        let alarms = shared.hold_alarms();
        let (waking, state) = (shared.clone(), shared.clone());
        let (tell, told) = channel();
        thread::scope(|scope| {
            // The flag is raised before a sleep only: a core that has slept, and is woken.
            scope.spawn(move || waking.mesh.wakers()[0].sleep(|| false, |_| waking.mesh.wakers()[0].wake()));
            while bell.rung.is_empty() {
                thread::yield_now();
            }
            scope.spawn(move || {
                let findings = Arc::new(ArrayQueue::new(8));
                let mut watch = Looks::new(state, findings, [thread::current(), thread::current()]);
                while !watch.look() {
                    watch.looked = Instant::now().checked_sub(LOOK).expect("it has run for longer");
                }
                let _gone = tell.send(());
            });
            let ended = told.recv_timeout(Duration::from_secs(30));
            drop((until, alarms));
            ended.expect("the watch waits for a thread that is held");
        });
        assert_eq!(shared.state.pulse.stalls(0), 1);
        assert!(bell.rung.len() > 80, "it was woken at each look: {}", bell.rung.len());
    }
}
