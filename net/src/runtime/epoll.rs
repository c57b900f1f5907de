//! The transport on plain epoll, for machines where io_uring is missing or refused.
//!
//! Docker's default seccomp profile, gVisor and `kernel.io_uring_disabled` refuse io_uring, and older
//! kernels lack parts of it. This implements the same trait ([`Kernel`]) with calls that every kernel has:
//! readiness comes in, and the results of what was tried on it go out as completions.
//!
//! # Readiness
//! A connection is registered once, edge-triggered, when it first receives. From then on two flags per
//! connection hold what the kernel last reported: *readable* until a receive returns less than it asked for,
//! *waiting to write* from a short send until the socket takes bytes again. An edge that comes while nothing
//! receives is kept in the flag, so that receiving can stop and resume without a system call. A hang-up is
//! final: then only a receive that returns 0 or an error ends receiving. Listening sockets are
//! level-triggered: while connections wait, every wait ends at once.
//!
//! # Fairness
//! A socket brings at most one buffer per turn; the rest waits for the next turn, after the others.
//!
//! Next: [`super::core_loop`] for what is done with it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use super::kernel::{Completion, Kernel, Place, Spares};

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;
/// Bytes that one socket brings before the others get their turn.
const RECEIVE_BYTES: usize = 16 << 10;
/// Connections accepted before anything else gets its turn.
const ACCEPT_AT_ONCE: usize = 64;

/// What an event is about: the upper half of its data; the lower is a place or the number of a listening socket.
const CONNECTION: u64 = 0;
const ACCEPTOR: u64 = 1 << 32;
const WAKE: u64 = 2 << 32;

/// What a connection is watched for.
const RECEIVES: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);
/// The same while a send waits, or has waited before.
const SENDS_TOO: EventFlags = RECEIVES.union(EventFlags::OUT);

/// A connection, as far as readiness goes.
#[derive(Default)]
struct Socket {
    /// Its descriptor, which the link owns; `None` = this place is free or was never registered.
    fd: Option<RawFd>,
    receiving: bool,
    readable: bool,
    /// The peer has hung up, or the socket has failed.
    hung_up: bool,
    /// A send that waits for the peer to read, and how much of it was sent before.
    resting: Option<(Vec<u8>, usize)>,
    /// The kernel was asked to report when the socket takes bytes again.
    asks_for_room: bool,
    /// It is in one of the lists of sockets to try.
    is_listed: bool,
}

/// A listening socket.
struct Acceptor {
    number: Place,
    fd: RawFd,
    ready: bool,
}

/// Bytes in the one receive buffer.
pub(super) struct Chunk {
    len: usize,
}

/// An epoll instance and what it has reported.
pub(super) struct Epoll {
    epoll: OwnedFd,
    events: Vec<Event>,
    sockets: Vec<Socket>,
    acceptors: Vec<Acceptor>,
    /// Places to receive on in this turn.
    ready: VecDeque<Place>,
    /// Places to receive on in the next turn.
    later: VecDeque<Place>,
    /// What has happened without a wait.
    happened: VecDeque<Completion<Chunk>>,
    received: Box<[u8]>,
    spares: Spares,
    tick: Option<(Duration, Instant)>,
    woken: bool,
    accepted: usize,
}

impl Epoll {
    /// An epoll instance for the calling thread.
    ///
    /// # Errors
    /// No descriptor is left, or a sandbox refuses what it needs.
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        // A sandbox may refuse the calls that everything depends on: find out now, not during the sale.
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &event, EventData::new_u64(WAKE), EventFlags::IN)?;
        drop(event);
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        Ok(Self {
            epoll,
            events,
            sockets: Vec::new(),
            acceptors: Vec::new(),
            ready: VecDeque::new(),
            later: VecDeque::new(),
            happened: VecDeque::new(),
            received: vec![0; RECEIVE_BYTES].into(),
            spares: Spares::default(),
            tick: None,
            woken: false,
            accepted: 0,
        })
    }

    /// How long a wait may last: not at all while there is something to report.
    fn patience(&self, wait: bool) -> Duration {
        let idle = self.happened.is_empty() && self.later.is_empty() && self.ready.is_empty();
        let next_tick =
            self.tick.map_or(Duration::MAX, |(_, at)| at.saturating_duration_since(Instant::now()));
        if wait && idle { next_tick } else { Duration::ZERO }
    }

    /// Stores what the kernel has reported.
    fn note(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            let (data, flags) = (event.data.u64(), event.flags);
            let number = data as u32;
            match data & !u64::from(u32::MAX) {
                CONNECTION => self.note_socket(number, flags),
                ACCEPTOR => {
                    if let Some(acceptor) =
                        self.acceptors.iter_mut().find(|acceptor| acceptor.number == number)
                    {
                        acceptor.ready = true;
                    }
                }
                _ => self.woken = true,
            }
        }
        self.events = events;
    }

    fn note_socket(&mut self, place: Place, flags: EventFlags) {
        let Some(socket) = self.sockets.get_mut(place as usize) else { return };
        let hung_up = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        socket.hung_up |= hung_up;
        socket.readable |= hung_up || flags.contains(EventFlags::IN);
        let writable = flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
        if writable && let Some((buffer, from)) = socket.resting.take() {
            self.try_rest(place, buffer, from);
        }
        self.list(place);
    }

    /// Lists a place for this turn, if it receives and may have bytes.
    fn list(&mut self, place: Place) {
        let socket = &mut self.sockets[place as usize];
        if socket.receiving && socket.readable && !std::mem::replace(&mut socket.is_listed, true) {
            self.ready.push_back(place);
        }
    }

    /// The entry of a place, registered with the kernel.
    fn socket(&mut self, place: Place, fd: BorrowedFd<'_>) -> Result<&mut Socket, Errno> {
        let row = place as usize;
        if self.sockets.len() <= row {
            self.sockets.resize_with(row + 1, Socket::default);
        }
        let socket = &mut self.sockets[row];
        if socket.fd.is_none() {
            epoll::add(&self.epoll, fd, EventData::new_u64(CONNECTION | u64::from(place)), RECEIVES)?;
            // What came before is reported at the next wait.
            *socket = Socket { fd: Some(fd.as_raw_fd()), is_listed: socket.is_listed, ..Socket::default() };
        }
        Ok(socket)
    }

    /// One receive on a place that may have bytes; `None` = nothing to report.
    fn receive_on(&mut self, place: Place) -> Option<Completion<Chunk>> {
        let socket = self.sockets.get_mut(place as usize)?;
        socket.is_listed = false;
        let fd = socket.fd.filter(|_| socket.receiving && socket.readable)?;
        let came = retry_on_intr(|| recv(borrow(fd), &mut self.received[..], RecvFlags::DONTWAIT));
        match came.map(|(len, _)| len) {
            Ok(0) => {
                socket.receiving = false;
                Some(Completion::ReceiveEnded { place, error: 0 })
            }
            Ok(len) => {
                // Less than was asked for: everything was read, unless a hang-up follows.
                socket.readable = len == self.received.len() || socket.hung_up;
                if socket.readable && !std::mem::replace(&mut socket.is_listed, true) {
                    self.later.push_back(place);
                }
                Some(Completion::Received { place, chunk: Chunk { len }, more: true })
            }
            Err(Errno::AGAIN) => {
                socket.readable = false;
                None
            }
            Err(error) => {
                socket.receiving = false;
                Some(Completion::ReceiveEnded { place, error: error.raw_os_error() })
            }
        }
    }

    /// The next connection at a listening socket that has some; they take turns, so that a flood at one keeps
    /// nobody out of the other.
    fn accept_next(&mut self) -> Option<Completion<Chunk>> {
        loop {
            if self.accepted >= ACCEPT_AT_ONCE {
                return None;
            }
            let at = self.acceptors.iter().position(|acceptor| acceptor.ready)?;
            let (acceptor, fd) = (self.acceptors[at].number, self.acceptors[at].fd);
            match accept_with(borrow(fd), SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    self.accepted += 1;
                    self.acceptors[at..].rotate_left(1);
                    return Some(Completion::Accepted { acceptor, socket, more: true });
                }
                // Gone before it was accepted: ignore it.
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => self.acceptors[at].ready = false,
                Err(error) => {
                    self.forget_acceptor(acceptor);
                    return Some(Completion::AcceptEnded { acceptor, error: error.raw_os_error() });
                }
            }
        }
    }

    fn forget_acceptor(&mut self, number: Place) {
        if let Some(at) = self.acceptors.iter().position(|acceptor| acceptor.number == number) {
            let acceptor = self.acceptors.swap_remove(at);
            let _closed_already = epoll::delete(&self.epoll, borrow(acceptor.fd));
        }
    }

    fn due(&mut self) -> bool {
        let Some((every, at)) = &mut self.tick else { return false };
        let now = Instant::now();
        let due = now >= *at;
        if due {
            // A thread that was suspended for long ticks once, not once for each missed tick.
            *at = now + *every;
        }
        due
    }

    /// Sends what the socket takes of a waiting send; it goes on waiting if that is nothing.
    fn try_rest(&mut self, place: Place, buffer: Vec<u8>, from: usize) {
        let sent = match self.sockets[place as usize].fd {
            Some(fd) => send_now(borrow(fd), &buffer[from..]),
            None => Err(Errno::CANCELED),
        };
        let sent = match sent {
            Err(Errno::AGAIN) => match self.ask_for_room(place) {
                Ok(()) => {
                    self.sockets[place as usize].resting = Some((buffer, from));
                    return;
                }
                Err(error) => Err(error),
            },
            sent => sent,
        };
        let result = sent.map_err(Errno::raw_os_error);
        self.happened.push_back(Completion::Sent { place, buffer, result });
    }

    /// Asks the kernel to report when a socket takes bytes again: at once, if it does already.
    fn ask_for_room(&mut self, place: Place) -> Result<(), Errno> {
        let socket = &mut self.sockets[place as usize];
        if let Some(fd) = socket.fd.filter(|_| !socket.asks_for_room) {
            epoll::modify(
                &self.epoll,
                borrow(fd),
                EventData::new_u64(CONNECTION | u64::from(place)),
                SENDS_TOO,
            )?;
            socket.asks_for_room = true;
        }
        Ok(())
    }
}

/// Sends as much as the socket takes now.
fn send_now(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    retry_on_intr(|| send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL))
}

/// A descriptor that is registered here.
fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: a number stands in `sockets` or `acceptors` only from the call that lent the descriptor
    // until `close` or `close_acceptor` takes it, which strike the number out before or as they close it:
    // whoever owns it closes it in no other way (`Link`, `Acceptor`). Nothing here keeps the result.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

impl Kernel for Epoll {
    type Chunk = Chunk;

    fn enter(&mut self, wait: bool) -> io::Result<()> {
        let patience = self.patience(wait);
        // In whole milliseconds, rounded up: the one form of the call that every kernel has.
        let ms = patience.as_micros().div_ceil(1_000).min(60_000) as i64;
        let timeout = Timespec { tv_sec: ms / 1_000, tv_nsec: (ms % 1_000) * 1_000_000 };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) => self.note(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Sockets that had their turn come after those with new bytes.
        self.ready.append(&mut self.later);
        self.accepted = 0;
        Ok(())
    }

    fn next(&mut self) -> Option<Completion<Chunk>> {
        if let Some(completion) = self.happened.pop_front() {
            return Some(completion);
        }
        if std::mem::take(&mut self.woken) {
            return Some(Completion::Woken { more: true });
        }
        while let Some(place) = self.ready.pop_front() {
            if let Some(completion) = self.receive_on(place) {
                return Some(completion);
            }
        }
        if let Some(completion) = self.accept_next() {
            return Some(completion);
        }
        self.due().then_some(Completion::Tick { more: true })
    }

    fn bytes(&self, chunk: &Chunk) -> &[u8] {
        &self.received[..chunk.len]
    }

    fn give_back(&mut self, _: Chunk) {}

    fn tick_every(&mut self, ms: u64) {
        let every = Duration::from_millis(ms);
        self.tick = Some((every, Instant::now() + every));
    }

    fn watch(&mut self, event: BorrowedFd<'_>) -> io::Result<()> {
        // Edge-triggered: each write to it is reported once, and nobody has to read it.
        Ok(epoll::add(&self.epoll, event, EventData::new_u64(WAKE), EventFlags::IN | EventFlags::ET)?)
    }

    fn accept(&mut self, acceptor: Place, listener: BorrowedFd<'_>) {
        let ready = || -> Result<(), Errno> {
            let flags = fcntl_getfl(listener)? | OFlags::NONBLOCK;
            fcntl_setfl(listener, flags)?;
            epoll::add(
                &self.epoll,
                listener,
                EventData::new_u64(ACCEPTOR | u64::from(acceptor)),
                EventFlags::IN,
            )
        };
        match ready() {
            Ok(()) => {
                self.acceptors.push(Acceptor { number: acceptor, fd: listener.as_raw_fd(), ready: false });
            }
            Err(error) => {
                self.happened.push_back(Completion::AcceptEnded { acceptor, error: error.raw_os_error() });
            }
        }
    }

    fn close_acceptor(&mut self, acceptor: Place, listener: OwnedFd) {
        self.forget_acceptor(acceptor);
        drop(listener);
    }

    fn receive(&mut self, place: Place, socket: BorrowedFd<'_>) {
        match self.socket(place, socket) {
            Ok(socket) => {
                socket.receiving = true;
                self.list(place);
            }
            Err(error) => {
                let error = error.raw_os_error();
                self.happened.push_back(Completion::ReceiveEnded { place, error });
            }
        }
    }

    fn stop_receiving(&mut self, place: Place) {
        let Some(socket) = self.sockets.get_mut(place as usize) else { return };
        if std::mem::take(&mut socket.receiving) {
            self.happened.push_back(Completion::ReceiveEnded { place, error: libc::ECANCELED });
        }
    }

    fn send(&mut self, place: Place, socket: BorrowedFd<'_>, buffer: Vec<u8>) {
        match send_now(socket, &buffer) {
            Ok(len) if len == buffer.len() => self.spares.put(buffer),
            sent => {
                let mut rest = buffer;
                rest.drain(..sent.unwrap_or(0));
                rest.shrink_to_fit();
                let error = sent.err().map_or(libc::EAGAIN, Errno::raw_os_error);
                self.happened.push_back(Completion::Unsent { place, rest, error });
            }
        }
    }

    fn send_rest(&mut self, place: Place, socket: BorrowedFd<'_>, buffer: Vec<u8>, from: usize) {
        match self.socket(place, socket) {
            Ok(_) => self.try_rest(place, buffer, from),
            Err(error) => {
                let result = Err(error.raw_os_error());
                self.happened.push_back(Completion::Sent { place, buffer, result });
            }
        }
    }

    fn close(&mut self, place: Place, socket: OwnedFd) {
        // The kernel forgets a socket when its last descriptor is closed: no event comes later.
        drop(socket);
        self.stop_receiving(place);
        let Some(entry) = self.sockets.get_mut(place as usize) else { return };
        if let Some((buffer, _)) = entry.resting.take() {
            let result = Err(libc::ECANCELED);
            self.happened.push_back(Completion::Sent { place, buffer, result });
        }
        *entry = Socket { is_listed: entry.is_listed, ..Socket::default() };
    }

    fn spare(&mut self) -> Vec<u8> {
        self.spares.take()
    }

    fn put_spare(&mut self, buffer: Vec<u8>) {
        self.spares.put(buffer);
    }
}

#[cfg(test)]
mod tests;
