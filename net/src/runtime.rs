//! The executor's side of a core: sockets, tasks, timers. The only place that names glommio.
//!
//! It moves bytes between sockets and [`Home`], and calls it when there is something
//! to do; it decides nothing. One task per connection, one that pumps, one that
//! ticks. The transport behind it (glommio's streams) is meant to be replaced by a
//! private ring without a change above this file.
//!
//! Next: [`connection`] for what happens on a socket.

mod connection;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use socket2::{Domain, Protocol, Socket, Type};

use crate::engine::counters::Count;
use crate::engine::home::Home;
use crate::engine::shared::Phase;
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
    cpu: usize,
    name: &str,
    doors: Vec<Door>,
    home: impl FnOnce() -> Home + Send + 'static,
) -> io::Result<ExecutorJoinHandle<()>> {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(name)
        .ring_depth(RING_ENTRIES)
        .io_memory(IO_MEMORY_BYTES)
        .spawn(move || run(Rc::new(Seat::new(home())), doors))
        .map_err(|error| io::Error::other(error.to_string()))
}

/// A home and the tasks around it, on one thread.
struct Seat {
    home: RefCell<Home>,
    pump: RefCell<Option<Waker>>,
}

impl Seat {
    fn new(home: Home) -> Self {
        Self { home: RefCell::new(home), pump: RefCell::new(None) }
    }

    /// Has the pump run after the tasks that are ready now: what they leave behind goes
    /// off as one batch.
    fn wake_pump(&self) {
        if let Some(waker) = &*self.pump.borrow() {
            waker.wake_by_ref();
        }
    }

    fn phase(&self) -> Phase {
        self.home.borrow().shared().phase()
    }
}

async fn run(seat: Rc<Seat>, doors: Vec<Door>) {
    glommio::spawn_local(pump(seat.clone())).detach();
    let accepting: Vec<_> =
        doors.into_iter().map(|door| glommio::spawn_local(accept(seat.clone(), door))).collect();
    let mut ticks = 0u32;
    while seat.phase() == Phase::Serving {
        tick(&seat, &mut ticks).await;
    }
    for task in accepting {
        task.cancel().await;
    }
    seat.home.borrow_mut().connections.wake_all();
    while seat.phase() == Phase::Draining && seat.home.borrow().connections.open() > 0 {
        tick(&seat, &mut ticks).await;
    }
    seat.home.borrow_mut().pump();
}

async fn tick(seat: &Seat, ticks: &mut u32) {
    Timer::new(Duration::from_millis(TICK_MS)).await;
    let mut home = seat.home.borrow_mut();
    home.tick();
    *ticks = ticks.wrapping_add(1);
    if ticks.is_multiple_of(SWEEP_TICKS) {
        home.sweep();
    }
}

async fn pump(seat: Rc<Seat>) {
    poll_fn(|cx| -> Poll<()> {
        let mut home = seat.home.borrow_mut();
        if seat.pump.borrow().is_none() {
            *seat.pump.borrow_mut() = Some(cx.waker().clone());
            home.register_pump(cx.waker());
        }
        home.read_clock();
        if home.pump() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

async fn accept(seat: Rc<Seat>, door: Door) {
    // SAFETY: the descriptor is a listening socket, and `into_raw_fd` has given it up.
    let listener = unsafe { TcpListener::from_raw_fd(door.socket.into_raw_fd()) };
    let open = Rc::new(Cell::new(0usize));
    loop {
        match listener.accept().await {
            Ok(stream) => admit(&seat, stream, &open, door.listener, door.connections_max),
            // No descriptors, or the peer is gone already: come back in a moment.
            Err(_) => drop(Timer::new(Duration::from_millis(ACCEPT_PAUSE_MS)).await),
        }
    }
}

fn admit(seat: &Rc<Seat>, stream: TcpStream, open: &Rc<Cell<usize>>, listener: Listener, open_max: usize) {
    let Ok(peer) = stream.peer_addr() else { return };
    let peer = peer.ip();
    seat.home.borrow().count(Count::Accepted);
    let refused = match () {
        () if open.get() >= open_max => Some(Code::Overloaded),
        () if !seat.home.borrow_mut().enter(listener, peer) => Some(Code::RateLimited),
        () => None,
    };
    if let Some(code) = refused {
        seat.home.borrow().count(Count::TurnedAway);
        glommio::spawn_local(connection::turn_away(stream, code)).detach();
        return;
    }
    open.set(open.get() + 1);
    let (seat, open): (_, Rc<Cell<usize>>) = (seat.clone(), open.clone());
    glommio::spawn_local(async move {
        connection::run(&seat, stream, listener, peer).await;
        open.set(open.get() - 1);
        seat.home.borrow_mut().leave(listener, peer);
    })
    .detach();
}
