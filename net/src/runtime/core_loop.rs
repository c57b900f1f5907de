//! The loop of a core: connections are served where their bytes arrive.
//!
//! One turn:
//!
//! ```text
//!  enter: submit what the last turn left, wait ─▶ completions: bytes in, serve ─▶ pump: other cores, journal
//!    ▲                                                                                │
//!    └──────────── end_turn: one send per connection that has output ◀────────────────┘
//! ```
//!
//! The core sleeps in [`Kernel::enter`] and nowhere else: never in an executor, which does not know what
//! wakes a core. The network wakes it, a timer that ticks 50 times a second, and an event that other
//! cores and the journal write to while it is asleep or about to sleep. The kernel keeps all three until
//! they are taken, so that a thread that is suspended at any point finds them afterwards. Each turn is a
//! heartbeat that [`crate::engine::pulse`] counts.
//!
//! Next: [`super::link`] for one connection, [`super::kernel`] for the system's side.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Wake, Waker};

use rustix::event::{EventfdFlags, eventfd};

use super::admit::{GONE_BEFORE_TAKEN, admit, refusal_bytes};
use super::kernel::{Completion, Kernel, Place};
use super::limits::{ACCEPT_PAUSE_MS, LATE_MS, SHUT_MS, SWEEP_TICKS, WELL_MS};
use super::link::{Link, Turn};
use super::listen::{ListenSocket, refuse_new};
use crate::engine::counters::Count;
use crate::engine::home::Home;
use crate::engine::shared::Phase;
use crate::http::problem::Code;
use crate::http::route::Listener;

/// Whether the loop goes on after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Going {
    On,
    /// The engine has drained, or closes.
    Over,
}

/// Wakes the core out of its sleep in the kernel.
struct WakeEvent(OwnedFd);

impl Wake for WakeEvent {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        // It can only fail if the counter is full: then the core was woken often enough.
        let _full = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// A listening socket, until the engine has drained.
struct Acceptor {
    listener: Listener,
    socket: Option<OwnedFd>,
    connections_max: usize,
    open: usize,
    accepting: bool,
    /// When to accept again after it failed.
    again_ms: u64,
    /// Why accepting failed the last time, unless it has worked for [`WELL_MS`] since.
    failure: Option<i32>,
}

impl Acceptor {
    fn new(socket: ListenSocket) -> Self {
        let ListenSocket { listener, socket, connections_max } = socket;
        let socket = Some(socket.into());
        Self { listener, socket, connections_max, open: 0, accepting: false, again_ms: 0, failure: None }
    }
}

/// A home, its connections and the kernel's side, on one thread.
pub(super) struct CoreLoop<K> {
    home: Home,
    kernel: K,
    wake_event: Arc<WakeEvent>,
    acceptors: Vec<Acceptor>,
    /// By place; a place is free again when no operation is under way for it.
    links: Vec<Option<Box<Link>>>,
    /// Connections that something has happened to in this turn, each once.
    touched: Vec<Place>,
    /// Connections whose last response was in the previous submission.
    leaving: Vec<Place>,
    /// Connections that have more to do as soon as their output is submitted.
    again: Vec<Place>,
    /// Buffers for requests, kept for reuse.
    inputs: Vec<Vec<u8>>,
    /// When to close the listening sockets, in monotonic milliseconds; `None` = the engine does not drain.
    shut_at_ms: Option<u64>,
    /// When the listening sockets were closed because the engine closes, in monotonic milliseconds.
    closed_at_ms: Option<u64>,
    tick_ms: u64,
    ticks: u32,
    ticked: bool,
    /// The home has more to do than it did in one call.
    pump_again: bool,
}

impl<K: Kernel> CoreLoop<K> {
    /// Starts accepting on these sockets, and ticking every `tick_ms` milliseconds.
    pub(super) fn new(
        mut kernel: K,
        mut home: Home,
        sockets: Vec<ListenSocket>,
        tick_ms: u64,
    ) -> io::Result<Self> {
        let wake_event = Arc::new(WakeEvent(eventfd(0, EventfdFlags::CLOEXEC)?));
        home.register_pump(&Waker::from(wake_event.clone()));
        kernel.watch(wake_event.0.as_fd())?;
        kernel.tick_every(tick_ms);
        let acceptors = sockets.into_iter().map(Acceptor::new).collect();
        let mut core = Self {
            home,
            kernel,
            wake_event,
            acceptors,
            links: Vec::new(),
            touched: Vec::new(),
            leaving: Vec::new(),
            again: Vec::new(),
            inputs: Vec::new(),
            shut_at_ms: None,
            closed_at_ms: None,
            tick_ms,
            ticks: 0,
            ticked: false,
            pump_again: false,
        };
        core.accept();
        Ok(core)
    }

    /// Serves until the engine has drained or closes, or the kernel refuses what it needs. It never yields to
    /// the executor that polls it.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let ended = self.serve_on().await;
        self.send_last_answers();
        ended
    }

    async fn serve_on(&mut self) -> io::Result<()> {
        while self.turn()? == Going::On {}
        Ok(())
    }

    fn turn(&mut self) -> io::Result<Going> {
        self.sleep()?;
        self.home.read_clock();
        while let Some(completion) = self.kernel.next() {
            self.complete(completion)?;
        }
        self.depart();
        let mut again = std::mem::take(&mut self.again);
        again.drain(..).for_each(|place| self.serve(place));
        self.again = again;
        if std::mem::take(&mut self.ticked) {
            self.tick();
        }
        self.end_turn();
        Ok(if self.is_over() { Going::Over } else { Going::On })
    }

    /// Submits what is queued, and sleeps until something happens, unless there is something to do already.
    fn sleep(&mut self) -> io::Result<()> {
        if self.pump_again || !self.again.is_empty() || !self.leaving.is_empty() {
            return self.kernel.enter(false);
        }
        let kernel = &mut self.kernel;
        self.home.sleep(|may_sleep| kernel.enter(may_sleep))
    }

    fn complete(&mut self, completion: Completion<K::Chunk>) -> io::Result<()> {
        match completion {
            Completion::Received { place, chunk, more } => {
                if let Some(Some(link)) = self.links.get_mut(place as usize) {
                    link.lend_buffers(&mut self.kernel, &mut self.inputs);
                    link.received(self.kernel.bytes(&chunk), more, &mut self.home);
                    link.give_back_input(&mut self.inputs);
                    self.touch(place);
                } else {
                    debug_assert!(false, "place {place} was freed with an operation under way");
                }
                self.kernel.give_back(chunk);
            }
            Completion::ReceiveEnded { place, error } => {
                self.with(place, |link, core| link.receive_ended(error, &mut core.home));
            }
            Completion::Unsent { place, rest, error } => {
                self.with(place, |link, core| link.unsent(rest, error, &mut core.kernel, &mut core.home));
            }
            Completion::Sent { place, buffer, result } => {
                self.with(place, |link, core| link.sent(buffer, result, &mut core.kernel, &mut core.home));
            }
            Completion::Accepted { acceptor, socket, more } => {
                self.acceptors[acceptor as usize].accepting = more;
                self.admit(acceptor, socket);
            }
            Completion::AcceptEnded { acceptor, error } => {
                self.accept_ended(acceptor, error);
            }
            Completion::Tick { more } => {
                self.ticked = true;
                if !more {
                    self.kernel.tick_every(self.tick_ms);
                }
            }
            Completion::Woken { more: false } => return self.kernel.watch(self.wake_event.0.as_fd()),
            Completion::Woken { more: true } | Completion::Nothing => {}
        }
        Ok(())
    }

    fn with(&mut self, place: Place, act: impl FnOnce(&mut Link, &mut Self)) {
        let Some(mut link) = self.links.get_mut(place as usize).and_then(Option::take) else {
            debug_assert!(false, "place {place} was freed with an operation under way");
            return;
        };
        act(&mut link, self);
        self.links[place as usize] = Some(link);
        self.touch(place);
    }

    fn touch(&mut self, place: Place) {
        if let Some(Some(link)) = self.links.get_mut(place as usize)
            && !std::mem::replace(&mut link.is_touched, true)
        {
            self.touched.push(place);
        }
    }

    /// Lets the home go on with a connection.
    fn serve(&mut self, place: Place) {
        if let Some(Some(link)) = self.links.get_mut(place as usize) {
            link.lend_buffers(&mut self.kernel, &mut self.inputs);
            link.serve(&mut self.home);
            link.give_back_input(&mut self.inputs);
            self.touch(place);
        }
    }

    // ---- connections open and close ----

    fn accept(&mut self) {
        let now_ms = self.home.mono_ms();
        for (number, acceptor) in self.acceptors.iter_mut().enumerate() {
            let Some(socket) = &acceptor.socket else { continue };
            if !acceptor.accepting && acceptor.again_ms <= now_ms {
                acceptor.accepting = true;
                self.kernel.accept(number as u32, socket.as_fd());
            }
        }
    }

    /// Notes a failure, and retries in a moment: unless the socket was closed, or one connection failed before it
    /// was accepted, the system lacks something (most likely descriptors) or does not permit it.
    fn accept_ended(&mut self, number: Place, error: i32) {
        let acceptor = &mut self.acceptors[number as usize];
        (acceptor.accepting, acceptor.again_ms) = (false, self.home.mono_ms() + ACCEPT_PAUSE_MS);
        let is_failure = !GONE_BEFORE_TAKEN.contains(&error) && error != libc::EAGAIN;
        if acceptor.socket.is_some() && is_failure {
            acceptor.failure = Some(error);
            self.home.count(Count::AcceptFailures);
            self.home.accept_fails(Some(error));
        }
    }

    /// Clears failures of sockets that accept again: where accepting fails, it fails at each try.
    fn look_at_failures(&mut self) {
        let now_ms = self.home.mono_ms();
        let failed = self.acceptors.iter().any(|acceptor| acceptor.failure.is_some());
        for acceptor in &mut self.acceptors {
            let is_well = acceptor.socket.is_none() || now_ms >= acceptor.again_ms + WELL_MS;
            acceptor.failure = acceptor.failure.filter(|_| !is_well);
        }
        if failed {
            self.home.accept_fails(self.acceptors.iter().find_map(|acceptor| acceptor.failure));
        }
    }

    fn admit(&mut self, number: Place, socket: OwnedFd) {
        let acceptor = &mut self.acceptors[number as usize];
        let listener = acceptor.listener;
        if self.home.shared().phase() == Phase::Closing {
            self.home.count(Count::Accepted);
            self.home.count(Count::TurnedAway);
            turn_away(&socket, Code::Overloaded);
            return;
        }
        // The peer may be gone already.
        let peer = rustix::net::getpeername(&socket).ok().flatten();
        let peer = peer.and_then(|peer| std::net::SocketAddr::try_from(peer).ok());
        let Some(peer) = peer.map(|peer| peer.ip()) else { return };
        let room = (acceptor.open, acceptor.connections_max);
        if let Some(code) = admit(&mut self.home, room, listener, peer) {
            turn_away(&socket, code);
            return;
        }
        acceptor.open += 1;
        let link = Link::new(&mut self.home, socket, (listener, number), peer);
        let place = link.place();
        if self.links.len() <= place as usize {
            self.links.resize_with(place as usize + 1, || None);
        }
        self.links[place as usize] = Some(Box::new(link));
        self.touch(place);
    }

    /// Goes on with connections whose last response was submitted: now it is known whether all of it was sent.
    fn depart(&mut self) {
        let mut leaving = std::mem::take(&mut self.leaving);
        for place in leaving.drain(..) {
            self.with(place, |link, core| link.depart(&mut core.home));
        }
        self.leaving = leaving;
    }

    fn remove(&mut self, place: Place) {
        let Some(link) = self.links[place as usize].take() else { return };
        let (listener, acceptor, peer) = link.end(&mut self.home);
        self.acceptors[acceptor as usize].open -= 1;
        self.home.leave(listener, peer);
    }

    // ---- the end of a turn ----

    /// Exchanges messages with other cores and the journal, and sends all output.
    fn end_turn(&mut self) {
        self.pump_again = self.home.has_work() && self.home.pump();
        while let Some(id) = self.home.connections.next_ready() {
            self.serve(id.place);
        }
        // Connections that were served just now may have asked other cores.
        if self.home.needs_pump() {
            self.pump_again |= self.home.pump();
        }
        let mut touched = std::mem::take(&mut self.touched);
        for place in touched.drain(..) {
            let Some(Some(link)) = self.links.get_mut(place as usize) else { continue };
            link.is_touched = false;
            match link.end_turn(&mut self.home, &mut self.kernel) {
                Turn::Wait => {}
                Turn::Again => self.again.push(place),
                Turn::Leave => self.leaving.push(place),
                Turn::Over => self.remove(place),
            }
        }
        self.touched = touched;
    }

    /// Submits the last responses and closes, since there is no further turn.
    fn send_last_answers(&mut self) {
        if let Err(error) = self.kernel.enter(false) {
            tracing::debug!("the last submission: {error}");
        }
    }

    fn tick(&mut self) {
        self.home.tick();
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(SWEEP_TICKS) {
            self.home.sweep();
        }
        self.look_at_failures();
        self.accept();
    }

    /// Whether this was the last turn.
    fn is_over(&mut self) -> bool {
        let is_over = match self.home.shared().phase() {
            Phase::Serving | Phase::LameDuck => return false,
            Phase::Draining => self.drains(),
            Phase::Closing => self.closes(),
        };
        if is_over {
            while self.home.pump() {}
        }
        is_over
    }

    /// Drains, and closes the listening sockets last: clients that have connected already are served. Returns
    /// whether all cores have drained.
    ///
    /// Closing a listening socket resets connections that were not accepted yet. So it refuses new ones for a
    /// moment first, in which those that are being established arrive and are accepted.
    fn drains(&mut self) -> bool {
        let now_ms = self.home.mono_ms();
        let shut_at_ms = *self.shut_at_ms.get_or_insert_with(|| {
            self.acceptors.iter().filter_map(|acceptor| acceptor.socket.as_ref()).for_each(refuse_new_ones);
            self.home.connections.wake_all();
            now_ms + SHUT_MS
        });
        if now_ms < shut_at_ms {
            return false;
        }
        self.shut();
        // Connections that were accepted before come with the next completions.
        now_ms >= shut_at_ms + LATE_MS && self.home.may_end()
    }

    /// Closes the listening sockets, and refuses connections that were accepted meanwhile. Returns whether that is
    /// over.
    fn closes(&mut self) -> bool {
        let now_ms = self.home.mono_ms();
        if self.closed_at_ms.is_none() {
            self.shut();
        }
        now_ms >= *self.closed_at_ms.get_or_insert(now_ms) + LATE_MS
    }

    fn shut(&mut self) {
        for (number, acceptor) in self.acceptors.iter_mut().enumerate() {
            if let Some(socket) = acceptor.socket.take() {
                self.kernel.close_acceptor(number as u32, socket);
            }
        }
    }
}

fn refuse_new_ones(listener: &OwnedFd) {
    if let Err(error) = refuse_new(listener) {
        tracing::info!(
            "connections that arrive while this port closes are reset, since the system does not let it refuse \
             them first ({error}); with shutdown.lame_duck_ms a load balancer stops sending them before"
        );
    }
}

/// Tells a connection why it is refused. One attempt: a client that does not read it is cut off.
fn turn_away(socket: &OwnedFd, code: Code) {
    let _sent = rustix::net::send(socket, &refusal_bytes(code), rustix::net::SendFlags::DONTWAIT);
    // Closing a socket with unread bytes sends a reset, which may overtake the response: so read them.
    let mut thrown_away = [0; 4096];
    let _read = rustix::net::recv(socket, &mut thrown_away[..], rustix::net::RecvFlags::DONTWAIT);
}

#[cfg(test)]
mod tests;
