//! A thread that answers health checks while no core does: at the start, and while core 0 is stalled.
//!
//! ```text
//! listening sockets, shared with cores ──accept──▶ clients, at most 64, each with a deadline
//!                                                              │ head read, or as much of it as there is
//!                                                              ▼
//!                                            Answers: health, or 503 ──write──▶ closed
//! ```
//!
//! One `poll` over all of them, so that a slow client blocks nobody. If all places are taken, the oldest
//! client is dropped. [`super::starting`] and [`super::watch`] provide the responses.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, accept_with, recv, send, shutdown};
use socket2::Socket;

use crate::http::proxy_header::{HEADER_BYTES_MAX, ProxyHeader};
use crate::http::route::{Listener, Route};

/// Most clients at a time.
const CLIENTS_MAX: usize = 64;
/// Longest life of a connection.
const CLIENT_TIME: Duration = Duration::from_secs(1);
/// Longest wait in one turn.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long an `accept` may last if a core was faster.
const ACCEPT_TIME: Duration = Duration::from_millis(10);
/// Bytes of a request that are read: only its first line matters.
const REQUEST_BYTES_MAX: usize = 2 << 10;

/// The responses.
pub(super) trait Answers: Send + 'static {
    /// Whether it is the stand-in's turn to accept connections.
    fn is_on_duty(&self) -> bool;
    /// Writes the response to one request; `None` is anything but a health check.
    fn answer(&self, route: Option<Route>, out: &mut Vec<u8>);
}

/// A listening socket.
pub(super) struct HealthSocket {
    /// Which API it belongs to.
    pub(super) listener: Listener,
    pub(super) socket: Socket,
    /// Whether proxies may put a header of the PROXY protocol before a request. The client does not matter here,
    /// so the header is skipped, whoever sent it.
    pub(super) skips_proxy_headers: bool,
}

/// The running stand-in. Its sockets are closed when it is dropped.
pub(super) struct StandIn {
    shared: Arc<Shared>,
    thread: Thread,
}

/// What the thread and its handle share.
struct Shared {
    /// Empty: it has to end. While a handle of a socket is open, the kernel lets connections in.
    sockets: Mutex<Vec<HealthSocket>>,
    /// Written to when somebody else wants `sockets`.
    wake_event: OwnedFd,
}

impl StandIn {
    /// Starts the thread.
    ///
    /// # Errors
    /// No descriptor or no thread is left.
    pub(super) fn start(name: &str, sockets: Vec<HealthSocket>, answers: impl Answers) -> io::Result<Self> {
        for HealthSocket { socket, .. } in &sockets {
            // `accept` must return if a core was faster. Nothing else blocks on these sockets: making them
            // non-blocking would make a ring's `accept` fail, which shares them.
            socket.set_read_timeout(Some(ACCEPT_TIME))?;
        }
        let wake_event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { sockets: Mutex::new(sockets), wake_event });
        let responder = Responder { shared: shared.clone(), answers, clients: Vec::new() };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || responder.serve())?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    /// Wakes it when its duty begins.
    pub(super) fn call(&self) -> &Thread {
        &self.thread
    }

    /// Closes its sockets. When this returns it accepts no more connections; accepted ones are still answered.
    pub(super) fn leave(&self) {
        // It can only fail if it was written often enough.
        let _full = rustix::io::write(&self.shared.wake_event, &1u64.to_ne_bytes());
        self.thread.unpark();
        self.shared.sockets.lock().clear();
        self.thread.unpark();
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The thread: its state and its loop.
struct Responder<A> {
    shared: Arc<Shared>,
    answers: A,
    /// Longest there first.
    clients: Vec<Client>,
}

/// A connection that was accepted.
struct Client {
    socket: OwnedFd,
    listener: Listener,
    /// Received bytes, without the proxy's header.
    asked: Vec<u8>,
    /// The proxy's header that may come first.
    header: Option<ProxyHeader>,
    /// What is still to be written; `None` = the request is still being read.
    answer: Option<Vec<u8>>,
    until: Instant,
}

/// Whether a client stays.
#[derive(PartialEq, Eq)]
enum Stay {
    Yes,
    No,
}

impl<A: Answers> Responder<A> {
    fn serve(mut self) {
        loop {
            let on_duty = self.answers.is_on_duty();
            if !self.turn(on_duty) && self.clients.is_empty() {
                return;
            }
            if !on_duty && self.clients.is_empty() {
                thread::park();
            }
        }
    }

    /// Waits for something to happen, and handles it. False: there are no sockets any more.
    fn turn(&mut self, on_duty: bool) -> bool {
        let shared = self.shared.clone();
        let sockets = shared.sockets.lock();
        let is_open = !sockets.is_empty();
        let watched = if on_duty { &sockets[..] } else { &[] };
        let now = Instant::now();
        let next_end = self.clients.iter().map(|client| client.until.saturating_duration_since(now)).min();
        let patience =
            next_end.unwrap_or(PATIENCE).min(if is_open && !on_duty { Duration::ZERO } else { PATIENCE });
        let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(1 + watched.len() + self.clients.len());
        polled.push(PollFd::new(&shared.wake_event, PollFlags::IN));
        polled.extend(watched.iter().map(|socket| PollFd::new(&socket.socket, PollFlags::IN)));
        polled.extend(self.clients.iter().map(|client| {
            let waits_for = if client.answer.is_some() { PollFlags::OUT } else { PollFlags::IN };
            PollFd::from_borrowed_fd(client.socket.as_fd(), waits_for)
        }));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(patience.subsec_nanos()) };
        let could = poll(&mut polled, Some(&timeout)).is_ok();
        let happened: Vec<bool> = polled[1..].iter().map(|one| !could || !one.revents().is_empty()).collect();
        drop(polled);
        if !could {
            // Interrupted, or not permitted here: try everything, with a pause.
            thread::sleep(ACCEPT_TIME);
        }
        let newcomers: Vec<_> = watched
            .iter()
            .zip(&happened)
            .filter(|(_, happened)| **happened)
            .filter_map(|(socket, _)| Client::accept(socket))
            .collect();
        let known = &happened[watched.len()..];
        drop(sockets);
        self.see_to_clients(known);
        newcomers.into_iter().for_each(|newcomer| self.take_in(newcomer));
        is_open
    }

    fn take_in(&mut self, newcomer: Client) {
        if self.clients.len() >= CLIENTS_MAX {
            self.clients.remove(0);
        }
        self.clients.push(newcomer);
    }

    fn see_to_clients(&mut self, happened: &[bool]) {
        let (answers, now, mut number) = (&self.answers, Instant::now(), 0);
        self.clients.retain_mut(|client| {
            let happened = happened.get(number).copied().unwrap_or(true);
            number += 1;
            client.until > now && (!happened || client.go_on(answers) == Stay::Yes)
        });
    }
}

impl Client {
    /// A connection that waits at a socket, if there is one.
    fn accept(from: &HealthSocket) -> Option<Self> {
        let socket = next_connection(&from.socket)?;
        let header = from.skips_proxy_headers.then(ProxyHeader::default);
        let until = Instant::now() + CLIENT_TIME;
        Some(Self { socket, listener: from.listener, asked: Vec::new(), header, answer: None, until })
    }

    /// Keeps received bytes except for a proxy's header. Anything else is the request.
    fn keep(&mut self, bytes: &[u8]) {
        self.asked.extend_from_slice(bytes);
        let Some(header) = &mut self.header else { return };
        match header.take(bytes) {
            Ok((_, None)) => {}
            Ok((taken, Some(_))) => {
                self.header = None;
                self.asked.drain(..self.asked.len() - bytes.len() + taken);
            }
            Err(_) => self.header = None,
        }
    }

    fn go_on(&mut self, answers: &impl Answers) -> Stay {
        if self.answer.is_none() {
            match self.read() {
                Ok(true) => {
                    let mut out = Vec::new();
                    answers.answer(route(self.listener, &self.asked), &mut out);
                    self.answer = Some(out);
                }
                Ok(false) => return Stay::Yes,
                Err(_) => return Stay::No,
            }
        }
        self.write()
    }

    /// Whether the head is complete, or no more of it will come.
    fn read(&mut self) -> Result<bool, Errno> {
        let mut part = [0; 512];
        loop {
            match recv(&self.socket, &mut part[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Ok(true),
                Ok((_, len)) => self.keep(&part[..len]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
            let is_whole = || self.asked.windows(4).any(|end| end == b"\r\n\r\n");
            let len_max = REQUEST_BYTES_MAX + self.header.as_ref().map_or(0, |_| HEADER_BYTES_MAX);
            if self.asked.len() >= len_max || self.header.is_none() && is_whole() {
                return Ok(true);
            }
        }
    }

    fn write(&mut self) -> Stay {
        let Some(answer) = &mut self.answer else { return Stay::Yes };
        while !answer.is_empty() {
            match send(&self.socket, answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(len) => drop(answer.drain(..len)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Stay::Yes,
                Err(_) => return Stay::No,
            }
        }
        let _gone = shutdown(&self.socket, Shutdown::Write);
        // Unread bytes would turn the close into a reset, which may overtake the response.
        let _rest = recv(&self.socket, &mut [0; REQUEST_BYTES_MAX][..], RecvFlags::DONTWAIT);
        Stay::No
    }
}

/// A waiting connection, if there is one: none if a core was faster, or no descriptor is left.
fn next_connection(socket: &Socket) -> Option<OwnedFd> {
    let accepted = accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
    if matches!(accepted, Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) {
        thread::sleep(ACCEPT_TIME);
    }
    accepted.ok()
}

/// Which health check a request is.
fn route(listener: Listener, asked: &[u8]) -> Option<Route> {
    let line = asked.split(|byte| *byte == b'\r').next()?;
    let line = line.strip_suffix(b" HTTP/1.1").or_else(|| line.strip_suffix(b" HTTP/1.0"))?;
    match (listener, line) {
        (Listener::Merchant, b"GET /healthz") => Some(Route::Healthz),
        (Listener::Merchant, b"GET /readyz") => Some(Route::Readyz),
        (Listener::Merchant, b"GET /metrics") => Some(Route::Metrics),
        (Listener::Public, b"GET /healthz") => Some(Route::PublicHealthz),
        (Listener::Public, b"GET /readyz") => Some(Route::PublicReadyz),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};

    use super::*;
    use crate::runtime::listen;

    struct Always;

    impl Answers for Always {
        fn is_on_duty(&self) -> bool {
            true
        }
        fn answer(&self, route: Option<Route>, out: &mut Vec<u8>) {
            out.extend_from_slice(if route.is_some() { b"health" } else { b"other" });
        }
    }

    fn open() -> (StandIn, SocketAddr) {
        at(Listener::Merchant, false)
    }

    fn at(listener: Listener, skips_proxy_headers: bool) -> (StandIn, SocketAddr) {
        let socket = listen(SocketAddr::from(([127, 0, 0, 1], 0)), false).expect("a free port");
        let address = socket.local_addr().expect("an address").as_socket().expect("of IP");
        let socket = HealthSocket { listener, socket, skips_proxy_headers };
        let stand_in = StandIn::start("stand-in", vec![socket], Always);
        (stand_in.expect("it starts"), address)
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        stream
    }

    fn ask(address: SocketAddr, line: &str) -> String {
        let mut stream = connect(address);
        let mut said = String::new();
        write!(stream, "{line} HTTP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
        stream.read_to_string(&mut said).expect("it answers");
        said
    }

    #[test]
    fn slow_clients_hold_up_no_health_check() {
        let (_stand_in, address) = open();
        // More than it has places; each has begun to ask, and goes on as slowly as it may.
        let mut slow: Vec<_> = (0..2 * CLIENTS_MAX).map(|_| connect(address)).collect();
        for stream in &mut slow {
            // Those that had to make room are gone.
            let _sent = stream.write_all(b"GET /hea");
        }
        assert_eq!(ask(address, "GET /healthz"), "health");
        assert_eq!(ask(address, "GET /admin/items"), "other");
        // The last of the slow ones was not cut off by those that came behind it.
        let last = slow.last_mut().expect("some");
        last.write_all(b"lthz HTTP/1.1\r\n\r\n").expect("it is there");
        let mut said = String::new();
        last.read_to_string(&mut said).expect("it answers");
        assert_eq!(said, "health");
    }

    #[test]
    fn the_header_of_a_proxy_is_skipped_where_one_may_come() {
        let (_stand_in, address) = at(Listener::Public, true);
        let local: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x04xxxx";
        let headers: [&[u8]; 4] =
            [b"", b"PROXY UNKNOWN\r\n", b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n", local];
        for header in headers {
            for (line, expected) in [("GET /readyz", "health"), ("POST /readyz", "other")] {
                let mut stream = connect(address);
                stream.set_nodelay(true).expect("a socket");
                // In two pieces, cut within the header if there is one.
                let sent = [header, format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()].concat();
                let (first, rest) = sent.split_at(7);
                stream.write_all(first).expect("it reads");
                stream.write_all(rest).expect("it reads");
                let mut said = String::new();
                stream.read_to_string(&mut said).expect("it answers");
                assert_eq!(said, expected, "{}", header.escape_ascii());
            }
        }
        let (_stand_in, address) = open();
        let mut stream = connect(address);
        stream.write_all(b"PROXY UNKNOWN\r\nGET /readyz HTTP/1.1\r\n\r\n").expect("it reads");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("it answers");
        assert_eq!(said, "other", "where none may come it is no health check");
    }

    #[test]
    fn a_stand_in_that_leaves_has_closed_its_sockets() {
        let (stand_in, address) = open();
        assert_eq!(ask(address, "GET /readyz"), "health");
        stand_in.leave();
        let refused = TcpStream::connect(address).expect_err("no handle is open");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn health_checks_are_told_from_all_other_requests() {
        let merchant = |asked: &str| route(Listener::Merchant, asked.as_bytes());
        assert_eq!(merchant("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"), Some(Route::Healthz));
        assert_eq!(merchant("GET /readyz HTTP/1.0\r\n\r\n"), Some(Route::Readyz));
        assert_eq!(merchant("GET /metrics HTTP/1.1\r\n"), Some(Route::Metrics));
        let public = |asked: &str| route(Listener::Public, asked.as_bytes());
        assert_eq!(public("GET /healthz HTTP/1.1\r\n"), Some(Route::PublicHealthz));
        assert_eq!(public("GET /readyz HTTP/1.1\r\n"), Some(Route::PublicReadyz));
        assert_eq!(public("GET /metrics HTTP/1.1\r\n"), None, "who asks from outside learns no figures");
        for other in [
            "",
            "GET /admin/items HTTP/1.1\r\n\r\n",
            "POST /healthz HTTP/1.1\r\n\r\n",
            "GET /healthz/ HTTP/1.1\r\n",
        ] {
            assert_eq!(merchant(other), None, "{other}");
        }
    }
}
