//! The limit to compare with: a server in one thread that does nothing but answer.
//!
//! One receive, one send, one constant answer per request; it parses only as far as
//! it must to count requests. To order it is slow in a known way, so that what a
//! generator measures can be held against what is true:
//!
//! ```text
//!  request ──▶ at once ─────────────────────────▶ answer     (no flags: the limit)
//!          ──▶ queue in the order of leaving ───▶ answer     (--delay, --stall --every)
//! ```
//!
//! Never for anything but measuring. Next: [`crate::engine`].

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use memchr::memmem;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of an answer by default: about those of a refusal as sold out.
pub const ANSWER_BYTES: usize = 230;
/// Most bytes of one request, head and body.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
const EVENTS_MAX: usize = 256;
/// The token of the listener among those of the connections.
const LISTENER: u64 = u64::MAX;

/// Most answers that wait to leave; a connection that asks for more is closed.
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

/// When answers leave; by default at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Manner {
    /// Each answer leaves this long after its request.
    pub delay: Duration,
    /// What would leave meanwhile leaves at the end of the stall, on all connections alike.
    pub stall: Option<Stall>,
}

impl Manner {
    /// When the answer to a request leaves; both times since the server began. Never decreases
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
    answer: Vec<u8>,
    manner: Manner,
}

struct Client {
    socket: OwnedFd,
    /// Tells it from another client that had the same place before.
    serial: u64,
    /// The beginning of a request whose end has not come.
    partial: Vec<u8>,
}

/// Answers of one client that leave together.
struct Waiting {
    leaves_ns: u64,
    index: usize,
    serial: u64,
    count: usize,
}

/// What the loop works with.
struct Floor {
    began: Instant,
    clients: Vec<Option<Client>>,
    serials: u64,
    /// In the order of leaving: see [`Manner::leaves_ns`].
    waiting: VecDeque<Waiting>,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Bare {
    /// Binds. An answer has `answer_bytes` bytes in all, but at least its head's.
    ///
    /// # Errors
    /// What the system says when the address cannot be bound.
    pub fn bind(addr: SocketAddr, answer_bytes: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self { listener: socket.into(), answer: answer(answer_bytes), manner: Manner::default() })
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
            let nap = floor.nap();
            let count = match epoll::wait(&epoll, &mut events[..], Some(&nap)) {
                Err(Errno::INTR) => continue,
                count => count?,
            };
            floor.send_due(&self.answer);
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

    fn accept(&self, epoll: &OwnedFd, floor: &mut Floor) {
        while let Ok(socket) = accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            let clients = &mut floor.clients;
            let index = clients.iter().position(Option::is_none).unwrap_or(clients.len());
            let data = epoll::EventData::new_u64(index as u64);
            let _ = sockopt::set_tcp_nodelay(&socket, true);
            if epoll::add(epoll, &socket, data, epoll::EventFlags::IN).is_err() {
                continue;
            }
            floor.serials += 1;
            let client = Some(Client { socket, serial: floor.serials, partial: Vec::new() });
            if index == clients.len() { clients.push(client) } else { clients[index] = client }
        }
    }

    /// One receive and what follows from it; a connection that is over loses its place.
    fn turn(&self, floor: &mut Floor, index: usize) {
        let Floor { began, clients, waiting, inbox, outbox, .. } = floor;
        let Some(slot) = clients.get_mut(index) else { return };
        let Some(client) = slot else { return };
        let stays = match receive(client, inbox) {
            None => false,
            Some(0) => true,
            Some(count) if self.manner.is_prompt() => send_all(client, &self.answer, count, outbox),
            Some(count) => {
                let arrived_ns = nanos(began.elapsed());
                let leaves_ns = self.manner.leaves_ns(arrived_ns);
                waiting.push_back(Waiting { leaves_ns, index, serial: client.serial, count });
                waiting.len() < WAITING_MAX
            }
        };
        if !stays {
            *slot = None;
        }
    }
}

impl Floor {
    fn new() -> Self {
        let (clients, waiting, outbox) = (Vec::new(), VecDeque::new(), Vec::new());
        let inbox = vec![0; 2 * REQUEST_BYTES_MAX];
        Self { began: Instant::now(), clients, serials: 0, waiting, inbox, outbox }
    }

    /// Until the next answer leaves, if that is soon.
    fn nap(&self) -> Timespec {
        let left_ns = match self.waiting.front() {
            Some(first) => first.leaves_ns.saturating_sub(nanos(self.began.elapsed())).min(NAP_NS_MAX),
            None => NAP_NS_MAX,
        };
        Timespec { tv_sec: 0, tv_nsec: left_ns as i64 }
    }

    /// Sends what leaves by now, if its client is still there.
    fn send_due(&mut self, answer: &[u8]) {
        if self.waiting.is_empty() {
            return;
        }
        let now_ns = nanos(self.began.elapsed());
        while self.waiting.front().is_some_and(|due| due.leaves_ns <= now_ns) {
            let Some(due) = self.waiting.pop_front() else { return };
            let slot = &mut self.clients[due.index];
            let client = slot.as_ref().filter(|client| client.serial == due.serial);
            if client.is_some_and(|client| !send_all(client, answer, due.count, &mut self.outbox)) {
                *slot = None;
            }
        }
    }
}

/// One receive: how many requests it completed; `None` when the connection is over.
fn receive(client: &mut Client, inbox: &mut [u8]) -> Option<usize> {
    let kept = client.partial.len();
    inbox[..kept].copy_from_slice(&client.partial);
    client.partial.clear();
    let count = match recv(client.socket.as_fd(), &mut inbox[kept..], RecvFlags::empty()) {
        Ok((count, _)) if count > 0 => count,
        Err(Errno::AGAIN | Errno::INTR) => 0,
        _ => return None,
    };
    let (requests, used) = count_requests(&inbox[..kept + count]);
    client.partial.extend_from_slice(&inbox[used..kept + count]);
    (client.partial.len() <= REQUEST_BYTES_MAX).then_some(requests)
}

/// Sends so many answers or tells that it cannot: a client that does not read is not worth a buffer here.
fn send_all(client: &Client, answer: &[u8], count: usize, outbox: &mut Vec<u8>) -> bool {
    let sent = |bytes: &[u8]| send(client.socket.as_fd(), bytes, SendFlags::NOSIGNAL) == Ok(bytes.len());
    if count == 1 {
        return sent(answer);
    }
    outbox.clear();
    (0..count).for_each(|_| outbox.extend_from_slice(answer));
    sent(outbox)
}

/// How many whole requests the bytes begin with, and how many bytes these take.
fn count_requests(bytes: &[u8]) -> (usize, usize) {
    let (mut requests, mut used) = (0, 0);
    while let Some(end) = memmem::find(&bytes[used..], b"\r\n\r\n") {
        let head = &bytes[used..used + end + 2];
        let whole = end + 4 + if head.starts_with(b"GET ") { 0 } else { body_bytes(head) };
        if bytes.len() - used < whole {
            break;
        }
        used += whole;
        requests += 1;
    }
    (requests, used)
}

fn body_bytes(head: &[u8]) -> usize {
    let mut lines = head.split(|&b| b == b'\n');
    let name = b"content-length:";
    let line = lines.find(|line| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name));
    let value = line.and_then(|line| std::str::from_utf8(&line[name.len()..]).ok());
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn answer(bytes: usize) -> Vec<u8> {
    let head = |body: usize| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {body}\r\n\r\n")
            .into_bytes()
    };
    let body = bytes.saturating_sub(head(bytes).len());
    let mut answer = head(body);
    answer.resize(answer.len() + body, b' ');
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_whole() {
        let post = b"POST / HTTP/1.1\r\nHost: h\r\ncontent-length: 3\r\n\r\nabc";
        let get = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let both = [post.as_slice(), get].concat();
        assert_eq!(count_requests(&both), (2, both.len()));
        for cut in 0..both.len() {
            let expected = if cut < post.len() { (0, 0) } else { (1, post.len()) };
            assert_eq!(count_requests(&both[..cut]), expected, "at {cut}");
        }
    }

    #[test]
    fn an_answer_has_the_length_asked_for() {
        assert!(answer(230).len().abs_diff(230) <= 2);
        assert!(answer(0).ends_with(b"Content-Length: 0\r\n\r\n"));
    }

    #[test]
    fn answers_leave_when_they_should_and_in_order() {
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
