//! A core's thread: sockets and time. The only place that names glommio, io_uring or epoll.
//!
//! It moves bytes between sockets and [`Home`], and calls it when there is something to do; it
//! decides nothing. One loop ([`seat`]) drives one state machine per connection ([`link`]), over either
//! of two transports that stand behind one seam ([`kernel`]):
//!
//! - [`ring`]: a private io_uring per core, on an executor of glommio that starts and pins the
//!   thread. For kernels from 6.4 on.
//! - [`epoll`]: plain epoll on a plain thread, where io_uring is missing or refused.

mod epoll;
mod kernel;
mod link;
mod ring;
mod seat;

use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::{Domain, Protocol, Socket, Type};
use stampede_core::planted::{Bug, planted};

use self::kernel::Kernel;
use self::seat::Seat;
use crate::engine::counters::Count;
use crate::engine::home::Home;
use crate::http::answer::{self, Manner};
use crate::http::problem::Code;
use crate::http::route::Listener;

/// Entries of each of glommio's rings.
const RING_ENTRIES: usize = 1024;
/// How long glommio may run a task before it looks for others. There is one task, and an executor
/// whose time for it is over *before it has begun* takes that for "nothing to do" and sleeps for ever
/// (glommio 0.9, `run_task_queues`): so never, in practice.
const PREEMPT_AFTER: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// Memory that glommio registers for file I/O, of which a front end does none.
const IO_MEMORY_BYTES: usize = 16 << 10;
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

/// Starts the thread of one core, pinned to processor `cpu`. When this returns, the core has all that
/// it needs from the system. The thread ends when the engine drains and its last connection is gone,
/// or when the engine closes.
///
/// # Errors
/// What the system lacks or refuses: io_uring, memory that may be locked, descriptors, threads.
pub fn start(
    transport: Transport,
    (cpu, name): (usize, &str),
    doors: Vec<Door>,
    home: impl FnOnce() -> Home + Send + 'static,
) -> io::Result<CoreThread> {
    let (ready, started) = sync_channel(1);
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || match transport {
        Transport::Ring => on_executor(cpu, &ready, home, doors),
        Transport::Epoll => {
            // A container may not let us choose; any processor will do.
            let mut cpus = CpuSet::new();
            cpus.set(cpu);
            if let Err(error) = sched_setaffinity(None, &cpus) {
                tracing::debug!("not pinned to processor {cpu}: {error}");
            }
            futures_lite::future::block_on(serve(epoll::Epoll::new(), &ready, home, doors))
        }
    })?;
    match started.recv_timeout(START_MAX) {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(error),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the thread ended before it had begun")),
        Err(RecvTimeoutError::Timeout) => {
            let seconds = START_MAX.as_secs();
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("its thread has not begun within {seconds} s"),
            ))
        }
    }
}

/// Tells [`start`] whether the core has what it needs.
type Ready = SyncSender<io::Result<()>>;

/// Serves on a ring, as the one task of an executor. It never gives way: an executor that believes it
/// has nothing to do sleeps in rings of its own, where nothing of ours would wake it.
fn on_executor(cpu: usize, ready: &Ready, home: impl FnOnce() -> Home, doors: Vec<Door>) -> io::Result<()> {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .ring_depth(RING_ENTRIES)
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(if planted(Bug::GivesWay) { Duration::from_millis(100) } else { PREEMPT_AFTER })
        .make();
    match executor {
        Ok(executor) => executor.run(async { serve(ring::Uring::new(), ready, home, doors).await }),
        Err(error) => {
            tell(ready, Err(io::Error::other(error.to_string())));
            Ok(())
        }
    }
}

/// Serves as one task that is polled once.
async fn serve(
    kernel: io::Result<impl Kernel>,
    ready: &Ready,
    home: impl FnOnce() -> Home,
    doors: Vec<Door>,
) -> io::Result<()> {
    let seat = match kernel.and_then(|kernel| Seat::new(kernel, home(), doors, TICK_MS)) {
        Ok(seat) => seat,
        Err(error) => {
            tell(ready, Err(error));
            return Ok(());
        }
    };
    tell(ready, Ok(()));
    let ended = seat.run().await;
    if let Err(error) = &ended {
        tracing::error!("a core cannot go on: {error}");
    }
    ended
}

fn tell(ready: &Ready, what: io::Result<()>) {
    // Whoever asked has given up if it cannot be told.
    let _told = ready.send(what);
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
