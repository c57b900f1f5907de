//! One connection: a non-blocking socket, what is under way on it, what waits to be sent.
//!
//! It performs and reports; what a loss means is decided by [`super::worker`].

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Protocol, Socket, Type};

use super::step::Step;

/// A request that has to be sent or answered; retries and the next steps of a flow are the same one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Op {
    /// Not to be sent before; orders the queue of those that wait.
    pub(crate) not_before_ns: u64,
    /// When the buyer meant to begin: latency runs from here.
    pub(crate) intended_ns: u64,
    /// When this step could have been sent.
    pub(crate) ready_ns: u64,
    pub(crate) step: Step,
    pub(crate) invoked_ns: u64,
    pub(crate) sent_ns: u64,
    /// When it was first in doubt; 0 = it is not.
    pub(crate) doubt_ns: u64,
    pub(crate) purchase: u32,
    pub(crate) attempts: u32,
    pub(crate) shared_key: bool,
    /// Whether the purchase itself has left: from then on there may be an order.
    pub(crate) purchase_sent: bool,
    /// Whether a request was sent that may have made an order, and was never answered.
    pub(crate) doubted: bool,
    /// Whether a challenge was solved before.
    pub(crate) solved: bool,
    /// Whether the server said that this purchase had been answered before.
    pub(crate) replayed: bool,
    /// When the item's draw is held, as its page said; 0 = it has none, or nobody looked.
    pub(crate) draws_ns: u64,
    /// The order that it is about; 0 = none yet.
    pub(crate) order_id: u64,
    /// The solved challenge or the ticket.
    pub(crate) text: Option<Box<str>>,
}

impl Op {
    /// Where it has to be sent.
    pub(crate) fn lane(&self) -> Lane {
        if self.step == Step::Pay { Lane::Shop } else { Lane::Public }
    }
}

/// Whom a connection leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// The public listener.
    Public,
    /// The merchant API, where payments are reported.
    Shop,
}

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Closed until then.
    Down { until_ns: u64 },
    /// Closed, and opened when there is something to send: one connection per request.
    Parked,
    /// On its way up since then.
    Connecting { since_ns: u64 },
    /// Usable.
    Up,
}

/// One connection.
pub(crate) struct Conn {
    pub(crate) lane: Lane,
    pub(crate) phase: Phase,
    /// Sent and not answered, oldest first.
    pub(crate) under_way: VecDeque<Op>,
    /// The beginning of a response whose end has not come.
    pub(crate) partial: Vec<u8>,
    /// Bytes that the socket did not take.
    pub(crate) unsent: Vec<u8>,
    /// Since when it has had room.
    pub(crate) free_ns: u64,
    /// Losses since the last response.
    pub(crate) losses: u32,
    /// Whether it stands in the queue of connections with room.
    pub(crate) queued: bool,
    socket: Option<Socket>,
}

impl Conn {
    pub(crate) fn new(lane: Lane, pipeline: usize) -> Self {
        let (phase, free_ns, losses, queued) = (Phase::Down { until_ns: 0 }, 0, 0, false);
        let under_way = VecDeque::with_capacity(pipeline);
        Self {
            lane,
            phase,
            under_way,
            partial: Vec::new(),
            unsent: Vec::new(),
            free_ns,
            losses,
            queued,
            socket: None,
        }
    }

    /// Begins to connect; the outcome comes as an event under `token`.
    pub(crate) fn open(
        &mut self,
        epoll: BorrowedFd<'_>,
        token: u64,
        addr: SocketAddr,
        now_ns: u64,
    ) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&addr.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT;
        epoll::add(epoll, &socket, epoll::EventData::new_u64(token), flags)?;
        self.socket = Some(socket);
        self.phase = Phase::Connecting { since_ns: now_ns };
        Ok(())
    }

    /// Ends the connecting: usable from now on.
    pub(crate) fn opened(&mut self, epoll: BorrowedFd<'_>, token: u64, now_ns: u64) -> io::Result<()> {
        if let Some(error) = self.socket()?.take_error()? {
            return Err(error);
        }
        self.want_write(epoll, token, false)?;
        self.phase = Phase::Up;
        self.free_ns = now_ns;
        Ok(())
    }

    /// Has epoll report when the socket takes bytes again, or not.
    pub(crate) fn want_write(&self, epoll: BorrowedFd<'_>, token: u64, want: bool) -> io::Result<()> {
        let out = if want { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let flags = epoll::EventFlags::IN | out;
        Ok(epoll::modify(epoll, self.socket()?, epoll::EventData::new_u64(token), flags)?)
    }

    /// Drops the socket and all bytes; what is under way stays for the caller to decide.
    pub(crate) fn close(&mut self, phase: Phase) {
        self.socket = None;
        self.partial.clear();
        self.unsent.clear();
        self.phase = phase;
    }

    /// Sends what the socket takes; tells how much.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match send(self.socket()?.as_fd(), bytes, SendFlags::NOSIGNAL) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Receives what is there; `None` = nothing now, `Some(0)` = the server closed.
    pub(crate) fn recv(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        match recv(self.socket()?.as_fd(), into, RecvFlags::empty()) {
            Ok((count, _)) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn socket(&self) -> io::Result<&Socket> {
        self.socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}
