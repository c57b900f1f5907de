//! The limit to compare with: a server in one thread that does nothing but answer.
//!
//! One receive, one send, one constant answer per request; it parses only as far as
//! it must to count requests. Never for anything but measuring. Next: [`crate::engine`].

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

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

/// A bound server that has not begun to answer.
pub struct Bare {
    listener: TcpListener,
    answer: Vec<u8>,
}

struct Client {
    socket: OwnedFd,
    /// The beginning of a request whose end has not come.
    partial: Vec<u8>,
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
        Ok(Self { listener: socket.into(), answer: answer(answer_bytes) })
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
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &self.listener, data, epoll::EventFlags::IN)?;
        let mut clients: Vec<Option<Client>> = Vec::new();
        let mut inbox = vec![0; 2 * REQUEST_BYTES_MAX];
        let mut outbox = Vec::new();
        let quiet = epoll::Event { flags: epoll::EventFlags::empty(), data };
        let mut events = [quiet; EVENTS_MAX];
        let nap = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        while !stop.load(Ordering::Relaxed) {
            let count = match epoll::wait(&epoll, &mut events[..], Some(&nap)) {
                Err(Errno::INTR) => continue,
                count => count?,
            };
            for event in &events[..count] {
                let data = event.data;
                if data.u64() == LISTENER {
                    self.accept(&epoll, &mut clients);
                } else if let Some(slot) = clients.get_mut(data.u64() as usize)
                    && slot.as_mut().is_some_and(|client| !self.turn(client, &mut inbox, &mut outbox))
                {
                    *slot = None;
                }
            }
        }
        Ok(())
    }

    fn accept(&self, epoll: &OwnedFd, clients: &mut Vec<Option<Client>>) {
        while let Ok(socket) = accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            let index = clients.iter().position(Option::is_none).unwrap_or(clients.len());
            let data = epoll::EventData::new_u64(index as u64);
            let _ = sockopt::set_tcp_nodelay(&socket, true);
            if epoll::add(epoll, &socket, data, epoll::EventFlags::IN).is_err() {
                continue;
            }
            let client = Some(Client { socket, partial: Vec::new() });
            if index == clients.len() { clients.push(client) } else { clients[index] = client }
        }
    }

    /// One receive, one send; whether the connection stays.
    fn turn(&self, client: &mut Client, inbox: &mut [u8], outbox: &mut Vec<u8>) -> bool {
        let kept = client.partial.len();
        inbox[..kept].copy_from_slice(&client.partial);
        client.partial.clear();
        let count = match recv(client.socket.as_fd(), &mut inbox[kept..], RecvFlags::empty()) {
            Ok((count, _)) if count > 0 => count,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            _ => return false,
        };
        let (requests, used) = count_requests(&inbox[..kept + count]);
        client.partial.extend_from_slice(&inbox[used..kept + count]);
        if client.partial.len() > REQUEST_BYTES_MAX {
            return false;
        }
        if requests == 1 {
            return send_all(client, &self.answer);
        }
        outbox.clear();
        (0..requests).for_each(|_| outbox.extend_from_slice(&self.answer));
        send_all(client, outbox)
    }
}

/// Sends all or tells that it cannot: a client that does not read is not worth a buffer here.
fn send_all(client: &Client, bytes: &[u8]) -> bool {
    bytes.is_empty() || send(client.socket.as_fd(), bytes, SendFlags::NOSIGNAL) == Ok(bytes.len())
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
}
