//! The executor's side of a core: sockets and time. The only place that names glommio or io_uring.
//!
//! It moves bytes between sockets and [`Home`], and calls it when there is something
//! to do; it decides nothing. Two transports do the same:
//!
//! - [`ring`]: a private io_uring per core; connections are served where their bytes arrive, no
//!   task, no allocation and no clock call per request. For kernels from 6.4 on.
//! - [`streams`]: glommio's own TCP streams, one task per connection, for kernels that lack
//!   something that the ring needs.
//!
//! Either runs on an executor of glommio, which starts and pins the thread.

mod ring;
mod streams;

use std::io;
use std::net::IpAddr;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use socket2::{Domain, Protocol, Socket, Type};

use crate::engine::counters::Count;
use crate::engine::home::Home;
use crate::http::answer::{self, Manner};
use crate::http::problem::Code;
use crate::http::route::Listener;

/// Entries of each of glommio's rings.
const RING_ENTRIES: usize = 1024;
/// Memory that glommio registers for file I/O, of which a front end does none.
const IO_MEMORY_BYTES: usize = 16 << 10;
/// How often time passes for the owner, in milliseconds.
const TICK_MS: u64 = 20;
/// Every so many ticks, deadlines of connections are looked at.
const SWEEP_TICKS: u32 = 25;
/// Pause after a failed accept (no descriptors left), in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 50;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long a closed connection is read on, so that its last answer is not lost to a reset,
/// in milliseconds.
const LINGER_MS: u64 = 1_000;
/// How long a write may stand still, in milliseconds.
const WRITE_MS_MAX: u64 = 30_000;

/// How bytes come and go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// The private ring.
    Ring,
    /// glommio's streams.
    Streams,
}

impl Transport {
    /// The name, as settings and the log have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Streams => "streams",
        }
    }
}

/// The running executor of a core.
pub type Executor = ExecutorJoinHandle<()>;

/// Whether this kernel has what the private ring needs.
///
/// # Errors
/// What is missing.
pub fn probe_ring() -> io::Result<()> {
    ring::probe()
}

/// A listening socket and what it is for.
pub struct Door {
    /// Whose connections come in on it.
    pub listener: Listener,
    /// The socket; see [`listen`].
    pub socket: Socket,
    /// Most connections on it, on this core.
    pub connections_max: usize,
}

/// Opens a listening socket. With `shared`, several cores can listen on the same address and
/// the kernel spreads connections over them.
///
/// # Errors
/// What the system answers: the address is taken, or not ours.
pub fn listen(address: std::net::SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Starts the executor of one core, pinned to processor `cpu`. It ends when the engine
/// drains and its last connection is gone, or when the engine closes.
///
/// # Errors
/// When the executor cannot be made: io_uring is refused, or too little memory may be locked.
pub fn start(
    transport: Transport,
    (cpu, name): (usize, &str),
    doors: Vec<Door>,
    home: impl FnOnce() -> Home + Send + 'static,
) -> io::Result<Executor> {
    let builder = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(name)
        .ring_depth(RING_ENTRIES)
        .io_memory(IO_MEMORY_BYTES);
    let started = match transport {
        Transport::Ring => builder.spawn(move || ring::run(home(), doors)),
        Transport::Streams => builder.spawn(move || streams::run(home(), doors)),
    };
    started.map_err(|error| io::Error::other(error.to_string()))
}

/// Takes a connection in or says why not: too many, of all or of its address.
fn admit(
    home: &mut Home,
    (open, open_max): (usize, usize),
    listener: Listener,
    peer: IpAddr,
) -> Option<Code> {
    home.count(Count::Accepted);
    let refused = match () {
        () if open >= open_max => Some(Code::Overloaded),
        () if !home.enter(listener, peer) => Some(Code::RateLimited),
        () => None,
    };
    if refused.is_some() {
        home.count(Count::TurnedAway);
    }
    refused
}

/// What a connection is told that is turned away.
fn farewell(code: Code) -> Vec<u8> {
    let mut out = Vec::new();
    answer::problem(&mut out, &code.problem(), Manner::CLOSE, &answer::date_line(0));
    out
}
