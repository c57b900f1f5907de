//! The HTTP front of the Redis rival: one thread, epoll, and one connection to Redis over which all
//! purchases that came together go together.
//!
//! ```text
//! epoll ─▶ read every ready connection, append a call per purchase ─▶ one write to Redis
//!       ─▶ read Redis, answer in the order of the calls
//! ```
//!
//! That is the fewest system calls that this design can do with: one receive and one send per
//! purchase, and of Redis's a share. A connection has one purchase under way; what it sent ahead
//! waits. It keeps nothing of its own, not even that the stock is gone: a winner's retry has to be
//! told of the order, and only Redis knows it.
//!
//! While Redis is down purchases are answered with 503, and those under way, too: whether they have an
//! order is not known. Next: [`super::worker`].

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::{ConnectionAddr, IntoConnectionInfo};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use stampede_loadgen::nap;

use super::resp::{CallHead, Reply, Unreadable, command, reply};
use super::{SCRIPT, order_of, script_hash};
use crate::design::CAP;
use crate::error::ClassicError;
use crate::http::{Response, purchase_in, read_request, refuse, response_to_purchase, tell_once};
use crate::listener::listen;
use crate::shop::Bought;

/// Most open connections; one more is closed at once.
const CONNECTIONS_MAX: usize = 4_096;
/// Most bytes that one connection may have sent ahead.
const INBOX_BYTES_MAX: usize = 64 * 1024;
/// Most items whose calls are kept at hand.
const ITEMS_MAX: usize = 1_024;
const EVENTS_MAX: usize = 256;
const READ_BYTES: usize = 64 * 1024;
/// Longest sleep: the wish to stop is seen this soon.
const NAP_MAX: Duration = Duration::from_millis(100);
/// Between two attempts to reach Redis.
const TRY_EVERY: Duration = Duration::from_millis(10);
/// How long Redis may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// The tokens of the listener and of Redis among those of the connections.
const LISTENER: u64 = u64::MAX;
const REDIS: u64 = u64::MAX - 1;

/// A bound front that has not begun to answer.
pub struct Front {
    listener: TcpListener,
    redis: Source,
}

/// Where Redis is.
struct Source {
    addr: ConnectionAddr,
    user: Option<String>,
    password: Option<String>,
    hash: String,
}

struct Client {
    socket: OwnedFd,
    /// Tells it from another client that had the same place before.
    serial: u64,
    inbox: Vec<u8>,
    /// Whether a purchase of it is with Redis.
    is_waiting: bool,
}

/// A purchase that is with Redis.
struct Call {
    index: usize,
    serial: u64,
    item: u32,
    closes: bool,
}

/// The connection to Redis.
struct Link {
    socket: OwnedFd,
    outbox: Vec<u8>,
    inbox: Vec<u8>,
    calls: VecDeque<Call>,
}

/// What the loop works with.
struct Floor<'a> {
    front: &'a Front,
    epoll: OwnedFd,
    clients: Vec<Option<Client>>,
    /// Places that a client has left.
    vacant: Vec<usize>,
    serials: u64,
    heads: HashMap<u32, CallHead>,
    link: Option<Link>,
    tried_at: Instant,
    chunk: Vec<u8>,
}

impl Front {
    /// Binds, and reaches the Redis at `redis_url` once; nothing is answered yet.
    ///
    /// # Errors
    /// [`ClassicError`] if the URL is not one, Redis does not answer, or the address cannot be bound.
    pub fn bind(addr: SocketAddr, redis_url: &str) -> Result<Self, ClassicError> {
        let info = redis_url.into_connection_info()?;
        let settings = info.redis_settings();
        let redis = Source {
            addr: info.addr().clone(),
            user: settings.username().map(str::to_owned),
            password: settings.password().map(str::to_owned),
            hash: script_hash(),
        };
        redis.connect().map_err(|error| ClassicError::process("reaching Redis", &error))?;
        let listener = listen(addr)
            .and_then(without_waiting)
            .map_err(|error| ClassicError::process(format!("binding {addr}"), &error))?;
        Ok(Self { listener, redis })
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
        let mut floor = Floor {
            front: self,
            epoll,
            clients: Vec::new(),
            vacant: Vec::new(),
            serials: 0,
            heads: HashMap::new(),
            link: None,
            tried_at: Instant::now(),
            chunk: vec![0; READ_BYTES],
        };
        floor.reach();
        let quiet = epoll::Event { flags: epoll::EventFlags::empty(), data };
        let mut events = [quiet; EVENTS_MAX];
        while !stop.load(Ordering::Relaxed) {
            let count =
                nap::wait(&floor.epoll, &mut events, if floor.link.is_some() { NAP_MAX } else { TRY_EVERY })?;
            if floor.link.is_none() && floor.tried_at.elapsed() >= TRY_EVERY {
                floor.reach();
            }
            for event in &events[..count] {
                let data = event.data;
                match data.u64() {
                    LISTENER => floor.accept(),
                    REDIS => floor.hear(),
                    index => floor.read(index as usize),
                }
            }
            floor.tell();
        }
        Ok(())
    }
}

fn without_waiting(listener: TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Source {
    /// A connection on which the script is known.
    fn connect(&self) -> io::Result<OwnedFd> {
        let socket: OwnedFd = match &self.addr {
            ConnectionAddr::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
                stream.into()
            }
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port))?;
                stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
                stream.set_nodelay(true)?;
                stream.into()
            }
            _ => return Err(io::Error::other("the front reaches Redis by TCP or by a unix socket only")),
        };
        let mut stream = File::from(socket);
        if let Some(password) = &self.password {
            let user = self.user.as_deref().unwrap_or("default");
            exchange(&mut stream, &["AUTH", user, password])?;
        }
        let hash = exchange(&mut stream, &["SCRIPT", "LOAD", SCRIPT])?;
        if hash != self.hash {
            return Err(io::Error::other(format!("Redis knows the script as `{hash}`")));
        }
        let socket = OwnedFd::from(stream);
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(socket)
    }
}

/// One command and its reply, before the connection is put to use.
fn exchange(stream: &mut File, words: &[&str]) -> io::Result<String> {
    stream.write_all(&command(words))?;
    let (mut inbox, mut chunk) = (Vec::new(), [0; 512]);
    loop {
        match reply(&inbox) {
            Ok(Some((Reply::Text(text), _))) => return Ok(text.to_owned()),
            Ok(Some((Reply::Error(error), _))) => return Err(io::Error::other(error.to_owned())),
            Ok(None) => {}
            Err(Unreadable) => return Err(io::ErrorKind::InvalidData.into()),
        }
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => inbox.extend_from_slice(&chunk[..count]),
        }
    }
}

impl Floor<'_> {
    /// Tries to reach Redis.
    fn reach(&mut self) {
        self.tried_at = Instant::now();
        // What it says was said at the start; now it is on its way back.
        let Ok(socket) = self.front.redis.connect() else { return };
        let data = epoll::EventData::new_u64(REDIS);
        if epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).is_ok() {
            self.link = Some(Link { socket, outbox: Vec::new(), inbox: Vec::new(), calls: VecDeque::new() });
        }
    }

    fn accept(&mut self) {
        while let Ok(socket) = accept_with(&self.front.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
        {
            if self.clients.len() - self.vacant.len() >= CONNECTIONS_MAX {
                continue;
            }
            self.serials += 1;
            let index = self.vacant.pop().unwrap_or(self.clients.len());
            let data = epoll::EventData::new_u64(index as u64);
            let is_in = epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).is_ok();
            let client = Client { socket, serial: self.serials, inbox: Vec::new(), is_waiting: false };
            if index == self.clients.len() {
                self.clients.push(Some(client));
            } else {
                self.clients[index] = Some(client);
            }
            if !is_in {
                self.leave(index);
            }
        }
    }

    /// Closes a connection and frees its place.
    fn leave(&mut self, index: usize) {
        if self.clients[index].take().is_some() {
            self.vacant.push(index);
        }
    }

    /// One receive and what follows from it.
    fn read(&mut self, index: usize) {
        let Some(Some(client)) = self.clients.get_mut(index) else { return };
        match recv(client.socket.as_fd(), &mut self.chunk[..], RecvFlags::empty()) {
            Ok((0, _)) => return self.leave(index),
            Ok((count, _)) => client.inbox.extend_from_slice(&self.chunk[..count]),
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => return self.leave(index),
        }
        if client.inbox.len() > INBOX_BYTES_MAX {
            return self.leave(index);
        }
        self.next_request(index);
    }

    /// Takes up the requests of a connection, until it has to wait for Redis or for more bytes.
    fn next_request(&mut self, index: usize) {
        loop {
            let Some(Some(client)) = self.clients.get_mut(index) else { return };
            if client.is_waiting || client.inbox.is_empty() {
                return;
            }
            let (response, used, closes) = match read_request(&client.inbox) {
                Ok(None) => return,
                // Where the next request would begin is not known any more.
                Err(refusal) => (refusal, client.inbox.len(), true),
                Ok(Some(request)) => {
                    let (used, closes) = (request.bytes, request.close);
                    match (purchase_in(&request), &mut self.link) {
                        (Err(refusal), _) => (refusal, used, closes),
                        (Ok(_), None) => (refuse(503, "internal"), used, closes),
                        (Ok(purchase), Some(link)) => {
                            if self.heads.len() >= ITEMS_MAX {
                                self.heads.clear();
                            }
                            let hash = &self.front.redis.hash;
                            let head = self
                                .heads
                                .entry(purchase.item)
                                .or_insert_with(|| CallHead::new(hash, purchase.item));
                            head.call(&mut link.outbox, purchase.buyer, purchase.key, CAP);
                            link.calls.push_back(Call {
                                index,
                                serial: client.serial,
                                item: purchase.item,
                                closes,
                            });
                            client.is_waiting = true;
                            client.inbox.drain(..used);
                            return;
                        }
                    }
                }
            };
            client.inbox.drain(..used);
            self.respond(index, &response, closes);
        }
    }

    /// A response fits into the socket of any client that reads; one that does not is closed.
    fn respond(&mut self, index: usize, response: &Response, closes: bool) {
        let Some(client) = &self.clients[index] else { return };
        let bytes = response.bytes(closes);
        let sent = send(client.socket.as_fd(), &bytes, SendFlags::NOSIGNAL);
        if sent != Ok(bytes.len()) || closes {
            self.leave(index);
        }
    }

    /// Sends what gathered. What Redis does not take now goes along the next time: its replies come first.
    fn tell(&mut self) {
        let Some(link) = &mut self.link else { return };
        if link.outbox.is_empty() {
            return;
        }
        match send(link.socket.as_fd(), &link.outbox, SendFlags::NOSIGNAL) {
            Ok(count) => drop(link.outbox.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.lose(),
        }
    }

    /// One receive from Redis, and the responses that follow from it.
    fn hear(&mut self) {
        let Some(link) = &mut self.link else { return };
        match recv(link.socket.as_fd(), &mut self.chunk[..], RecvFlags::empty()) {
            Ok((0, _)) => return self.lose(),
            Ok((count, _)) => link.inbox.extend_from_slice(&self.chunk[..count]),
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => return self.lose(),
        }
        let mut used = 0;
        loop {
            let Some(link) = &mut self.link else { return };
            let (call, response) = match reply(&link.inbox[used..]) {
                Ok(None) => break,
                Err(Unreadable) => return self.lose(),
                Ok(Some((reply, bytes))) => {
                    let Some(call) = link.calls.pop_front() else { return self.lose() };
                    used += bytes;
                    let response = response_of(call.item, reply);
                    (call, response)
                }
            };
            self.finish(&call, &response);
        }
        if let Some(link) = &mut self.link {
            link.inbox.drain(..used);
        }
    }

    fn finish(&mut self, call: &Call, response: &Response) {
        let client = self.clients.get_mut(call.index).and_then(Option::as_mut);
        let Some(client) = client.filter(|client| client.serial == call.serial) else { return };
        client.is_waiting = false;
        self.respond(call.index, response, call.closes);
        self.next_request(call.index);
    }

    /// Redis is gone: of the purchases that were with it nothing is known.
    fn lose(&mut self) {
        let Some(link) = self.link.take() else { return };
        for call in link.calls {
            self.finish(&call, &refuse(503, "internal"));
        }
    }
}

fn response_of(item: u32, reply: Reply<'_>) -> Response {
    let bought = match reply {
        Reply::Text("sold_out") => Some(Bought::SoldOut),
        Reply::Text("cap_reached") => Some(Bought::CapReached),
        Reply::Text("not_found") => Some(Bought::NotFound),
        Reply::Text(text) => match text.split_once(' ') {
            Some(("order", id)) => {
                order_of(id).map(|(order_id, created_at_ms)| Bought::Order { order_id, created_at_ms })
            }
            Some(("again", id)) => {
                order_of(id).map(|(order_id, created_at_ms)| Bought::Again { order_id, created_at_ms })
            }
            _ => None,
        },
        Reply::Error(error) => {
            tell_once(&ClassicError::process("calling Redis", error));
            None
        }
    };
    bought.map_or_else(|| refuse(503, "internal"), |bought| response_to_purchase(item, bought))
}
