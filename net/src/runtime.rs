//! A core's thread: sockets and time. The only place that names glommio, io_uring or epoll.
//!
//! It moves bytes between sockets and [`Home`], and calls it when there is something to do; it
//! decides nothing. One loop ([`seat`]) drives one state machine per connection ([`link`]), over either
//! of two transports that stand behind one seam ([`kernel`]):
//!
//! - [`ring`]: a private io_uring per core, polled by an executor of glommio. For kernels from 6.4 on.
//! - [`epoll`]: plain epoll on a plain thread, where io_uring is missing or refused.
//!
//! Which of them it is, [`acquire`] decides once for all cores, before anything listens.

mod acquire;
mod epoll;
mod kernel;
mod link;
mod ring;
mod seat;

use std::io;
use std::net::IpAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

pub use self::acquire::{CoreSeat, Cores, Lack, NoTransport, Part};
use crate::engine::counters::Count;
use crate::engine::home::Home;
use crate::http::answer::{self, Manner};
use crate::http::problem::Code;
use crate::http::route::Listener;

/// How often time passes for the owner, in milliseconds.
const TICK_MS: u64 = 20;
/// Every so many ticks, deadlines of connections are looked at.
const SWEEP_TICKS: u32 = 25;
/// How long connections that are on their way are waited for before a listening socket is closed, in
/// milliseconds.
const SHUT_MS: u64 = 100;
/// How long completions of what was accepted before may come after a listening socket was closed, in
/// milliseconds.
const LATE_MS: u64 = 2 * TICK_MS;
/// Pause after a failed accept (no descriptors left), in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 50;
/// How long accepting has to go without a failure before it counts as well again, in milliseconds.
const WELL_MS: u64 = 1_000;
/// What `accept` answers for a connection that failed before it was taken (accept(2)), or when it was
/// interrupted: nothing is wrong with us.
const GONE_BEFORE_TAKEN: [i32; 11] = [
    libc::ECONNABORTED,
    libc::EINTR,
    libc::EPROTO,
    libc::ENETDOWN,
    libc::ENOPROTOOPT,
    libc::EHOSTDOWN,
    libc::ENONET,
    libc::EHOSTUNREACH,
    libc::EOPNOTSUPP,
    libc::ENETUNREACH,
    libc::ETIMEDOUT,
];
/// Longest wait for a core's thread to begin.
const START_MAX: Duration = Duration::from_secs(30);
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
    /// Plain epoll.
    Epoll,
}

impl Transport {
    /// The name, as settings and the log have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Epoll => "epoll",
        }
    }
}

/// The running thread of a core; the error says why it could not go on.
pub type CoreThread = JoinHandle<io::Result<()>>;

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
