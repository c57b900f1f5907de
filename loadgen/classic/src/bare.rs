//! The limit to compare with: a server in one thread that does nothing but answer.
//!
//! One receive, one send, one constant response per request; it parses only as far as
//! it must to count requests. Requests that came together are answered together, in one
//! send; a connection whose request says `Connection: close` is closed after the response,
//! and one that brought its request along has never been in epoll's set. It makes no system
//! call that it could do without, and allocates nothing once its connections stand.
//! To order it is slow in a known way, so that what a generator measures can be held
//! against what is true:
//!
//! ```text
//!  request ──▶ at once ─────────────────────────▶ response    (no flags: the limit)
//!          ──▶ queue in the order of leaving ───▶ response    (--delay, --stall --every)
//! ```
//!
//! Never for anything but measuring. Next: `bare/requests.rs`, [`stampede_loadgen::engine`].

mod requests;

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use stampede_loadgen::nap;

use self::requests::Requests;
use crate::listener::listen;

/// Bytes of a response by default: about those of a refusal as sold out.
pub const RESPONSE_BYTES: usize = 230;
/// Most bytes of one request, head and body.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
const EVENTS_MAX: usize = 256;
/// The token of the listener among those of the connections.
const LISTENER: u64 = u64::MAX;

/// Most responses that wait to leave; a connection that asks for more is closed.
const WAITING_MAX: usize = 1 << 20;
/// Longest sleep, in nanoseconds: the wish to stop is seen this soon.
const NAP_NS_MAX: u64 = 100_000_000;

/// Nothing leaves for `length`, once in each `every`; the first time after one `every`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stall {
    /// How long; shorter than `every`.
    pub length: Duration,
    /// From the beginning of one to the beginning of the next.
    pub every: Duration,
}

/// When responses leave; by default at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Manner {
    /// Each response leaves this long after its request.
    pub delay: Duration,
    /// What would leave meanwhile leaves at the end of the stall, on all connections alike.
    pub stall: Option<Stall>,
}

impl Manner {
    /// When the response to a request leaves; both times since the server began. Never decreases
    /// from one request to a later one, so that a queue in the order of arrival is one of leaving.
    fn leaves_ns(&self, arrived_ns: u64) -> u64 {
        let due_ns = arrived_ns + nanos(self.delay);
        let Some(Stall { length, every }) = self.stall else { return due_ns };
        let into_ns = due_ns % nanos(every).max(1);
        let is_stalled = due_ns >= nanos(every) && into_ns < nanos(length);
        if is_stalled { due_ns - into_ns + nanos(length) } else { due_ns }
    }
    fn is_prompt(&self) -> bool {
        *self == Self::default()
    }
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// A bound server that has not begun to answer.
pub struct Bare {
    listener: TcpListener,
    response: Vec<u8>,
    manner: Manner,
}

struct Client {
    socket: OwnedFd,
    /// Tells it from another client that had the same place before.
    serial: u64,
    /// The beginning of a request whose end has not come.
    partial: Vec<u8>,
}

/// Responses of one client that leave together.
struct Waiting {
    leaves_ns: u64,
    index: usize,
    serial: u64,
    count: usize,
    closes: bool,
}

/// A bare server on a thread of this process, at a free port; dropping it ends it.
pub struct Running {
    /// Where it answers.
    pub addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Starts one that answers in this manner.
    ///
    /// # Errors
    /// What the system says when it has no port.
    pub fn start(manner: Manner) -> io::Result<Self> {
        Self::of(Bare::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), RESPONSE_BYTES)?.with_manner(manner))
    }

    /// Starts this one.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(bare: Bare) -> io::Result<Self> {
        let (addr, stop) = (bare.addr()?, Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&stop);
        let thread = Some(thread::spawn(move || bare.serve(&seen)));
        Ok(Self { addr, stop, thread })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Its epoll refused: whoever talked to it has noticed.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// What the loop works with.
struct Floor {
    began: Instant,
    clients: Vec<Option<Client>>,
    /// Places that a client has left.
    vacant: Vec<usize>,
    serials: u64,
    /// In the order of leaving: see [`Manner::leaves_ns`].
    waiting: VecDeque<Waiting>,
    inbox: Vec<u8>,
    /// The response, as often as it was ever sent at once.
    outbox: Vec<u8>,
}

impl Bare {
    /// Binds. A response has `response_bytes` bytes in all, but at least its head's.
    ///
    /// # Errors
    /// What the system says when the address cannot be bound.
    pub fn bind(addr: SocketAddr, response_bytes: usize) -> io::Result<Self> {
        let listener = listen(addr)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, response: response(response_bytes), manner: Manner::default() })
    }

    /// The same server with these bytes as its whole response, head included.
    #[must_use]
    pub fn with_response(self, response: Vec<u8>) -> Self {
        Self { response, ..self }
    }

    /// The same server, slow in this manner.
    ///
    /// # Panics
    /// If a stall is not shorter than the time from one to the next: nothing would ever leave.
    #[must_use]
    pub fn with_manner(mut self, manner: Manner) -> Self {
        assert!(manner.stall.is_none_or(|stall| stall.length < stall.every), "a stall has to end");
        self.manner = manner;
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` is set, which it sees within a tenth of a second.
    ///
    /// # Errors
    /// What the system says when it refuses epoll. Faults of a connection end that connection.
    pub fn serve(&self, stop: &AtomicBool) -> io::Result<()> {
        if !self.manner.is_prompt() {
            // Answers are to leave when they should, not up to 50 us later.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &self.listener, data, epoll::EventFlags::IN)?;
        let mut floor = Floor::new();
        let quiet = epoll::Event { flags: epoll::EventFlags::empty(), data };
        let mut events = [quiet; EVENTS_MAX];
        while !stop.load(Ordering::Relaxed) {
            let count = nap::wait(&epoll, &mut events, floor.nap())?;
            floor.send_due(&self.response);
            for event in &events[..count] {
                let data = event.data;
                if data.u64() == LISTENER {
                    self.accept(&epoll, &mut floor);
                } else {
                    self.turn(&mut floor, data.u64() as usize);
                }
            }
        }
        Ok(())
    }

    /// Takes in who has come. Who brought a request along is answered at once.
    fn accept(&self, epoll: &OwnedFd, floor: &mut Floor) {
        while let Ok(socket) = accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            let index = floor.seat(socket);
            self.turn(floor, index);
            let Some(client) = &floor.clients[index] else { continue };
            let data = epoll::EventData::new_u64(index as u64);
            if epoll::add(epoll, &client.socket, data, epoll::EventFlags::IN).is_err() {
                floor.leave(index);
            }
        }
    }

    /// One receive and what follows from it; a connection that is over loses its place.
    fn turn(&self, floor: &mut Floor, index: usize) {
        let Floor { began, clients, waiting, inbox, outbox, .. } = floor;
        let Some(Some(client)) = clients.get_mut(index) else { return };
        let stays = match receive(client, inbox) {
            None => false,
            Some(Requests { count: 0, .. }) => true,
            Some(Requests { count, closes, .. }) if self.manner.is_prompt() => {
                send_all(client, &self.response, count, outbox) && !closes
            }
            Some(Requests { count, closes, .. }) => {
                let arrived_ns = nanos(began.elapsed());
                let leaves_ns = self.manner.leaves_ns(arrived_ns);
                waiting.push_back(Waiting { leaves_ns, index, serial: client.serial, count, closes });
                waiting.len() < WAITING_MAX
            }
        };
        if !stays {
            floor.leave(index);
        }
    }
}

impl Floor {
    fn new() -> Self {
        let (clients, vacant) = (Vec::new(), Vec::new());
        let (waiting, outbox) = (VecDeque::new(), Vec::new());
        let inbox = vec![0; 2 * REQUEST_BYTES_MAX];
        Self { began: Instant::now(), clients, vacant, serials: 0, waiting, inbox, outbox }
    }

    /// Gives a connection a place; tells which.
    fn seat(&mut self, socket: OwnedFd) -> usize {
        self.serials += 1;
        let client = Some(Client { socket, serial: self.serials, partial: Vec::new() });
        if let Some(index) = self.vacant.pop() {
            self.clients[index] = client;
            return index;
        }
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// Closes a connection and frees its place.
    fn leave(&mut self, index: usize) {
        if self.clients[index].take().is_some() {
            self.vacant.push(index);
        }
    }

    /// Until the next answer leaves, if that is soon.
    fn nap(&self) -> Duration {
        let left_ns = match self.waiting.front() {
            Some(first) => first.leaves_ns.saturating_sub(nanos(self.began.elapsed())).min(NAP_NS_MAX),
            None => NAP_NS_MAX,
        };
        Duration::from_nanos(left_ns)
    }

    /// Sends what leaves by now, if its client is still there.
    fn send_due(&mut self, response: &[u8]) {
        if self.waiting.is_empty() {
            return;
        }
        let now_ns = nanos(self.began.elapsed());
        while self.waiting.front().is_some_and(|due| due.leaves_ns <= now_ns) {
            let Some(due) = self.waiting.pop_front() else { return };
            let client = self.clients[due.index].as_ref().filter(|client| client.serial == due.serial);
            let Some(client) = client else { continue };
            if !send_all(client, response, due.count, &mut self.outbox) || due.closes {
                self.leave(due.index);
            }
        }
    }
}

/// One receive: the requests that it completed; `None` when the connection is over.
fn receive(client: &mut Client, inbox: &mut [u8]) -> Option<Requests> {
    let kept = client.partial.len();
    inbox[..kept].copy_from_slice(&client.partial);
    client.partial.clear();
    let count = match recv(client.socket.as_fd(), &mut inbox[kept..], RecvFlags::empty()) {
        Ok((count, _)) if count > 0 => count,
        Err(Errno::AGAIN | Errno::INTR) => 0,
        _ => return None,
    };
    let requests = Requests::of(&inbox[..kept + count]);
    client.partial.extend_from_slice(&inbox[requests.bytes..kept + count]);
    (client.partial.len() <= REQUEST_BYTES_MAX).then_some(requests)
}

/// Sends so many responses or tells that it cannot: a client that does not read is not worth a buffer here.
fn send_all(client: &Client, response: &[u8], count: usize, outbox: &mut Vec<u8>) -> bool {
    let bytes = response.len() * count;
    while outbox.len() < bytes {
        outbox.extend_from_slice(response);
    }
    send(client.socket.as_fd(), &outbox[..bytes], SendFlags::NOSIGNAL) == Ok(bytes)
}

fn response(bytes: usize) -> Vec<u8> {
    let head = |body: usize| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {body}\r\n\r\n")
            .into_bytes()
    };
    let body = bytes.saturating_sub(head(bytes).len());
    let mut response = head(body);
    response.resize(response.len() + body, b' ');
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_the_requested_length() {
        assert!(response(230).len().abs_diff(230) <= 2);
        assert!(response(0).ends_with(b"Content-Length: 0\r\n\r\n"));
    }

    #[test]
    fn responses_leave_on_time_and_in_order() {
        let ms = Duration::from_millis;
        let manner = Manner { delay: ms(5), stall: Some(Stall { length: ms(100), every: ms(1_000) }) };
        for (arrived_ms, leaves_ms) in
            [(0, 5), (94, 99), (994, 999), (995, 1_100), (1_050, 1_100), (1_095, 1_100), (1_096, 1_101)]
        {
            assert_eq!(manner.leaves_ns(arrived_ms * 1_000_000), leaves_ms * 1_000_000, "at {arrived_ms} ms");
        }
        let times: Vec<_> = (0..5_000).map(|at| manner.leaves_ns(at * 1_000_000)).collect();
        assert!(times.is_sorted());
        assert!(Manner::default().is_prompt() && !manner.is_prompt());
    }
}
