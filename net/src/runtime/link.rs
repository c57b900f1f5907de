//! One connection, as a state machine driven by what happens on its socket.
//!
//! ```text
//!            answers written,               the peer closes,
//!            the last one closes            or its time is over
//!  Serving ─────────────────────▶ Lingering ────────────────────▶ Over ──▶ place free, when no
//!     │                                                            ▲       operation is under way
//!     └── the client asked to close or has closed; an error ───────┘
//! ```
//!
//! Where a proxy has to name the client ([`crate::http::proxy_header`]), that header is read first; a connection
//! that begins otherwise is cut off.
//!
//! At most one send and one receive are under way. Backpressure: while the home cannot take more
//! (responses wait, or the client does not read), what still arrives is held and receiving is stopped, so
//! that no more is held than one turn of the loop brings.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::Shutdown;

use super::admit::refusal_bytes;
use super::kernel::{Kernel, Place};
use super::limits::{LINGER_MS, WRITE_MS_MAX};
use crate::engine::counters::Count;
use crate::engine::home::{Client, Home};
use crate::http::conn::Conn;
use crate::http::limits::HEAD_MS_MAX;
use crate::http::problem::Code;
use crate::http::proxy_header::{ProxyHeader, Source};
use crate::http::route::Listener;

/// Buffers for requests that are kept for reuse.
const INPUTS_MAX: usize = 16;

/// Where a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Requests come, responses go.
    Serving,
    /// The last response is written; what still arrives is discarded.
    Lingering,
    /// It is closed, and waits for its operations to end.
    Over,
}

/// What to do with a connection after [`Link::end_turn`].
pub(super) enum Turn {
    /// Nothing, until something happens.
    Wait,
    /// Serve it again after the next submission.
    Again,
    /// Call [`Link::depart`] after the next submission.
    Leave,
    /// Call [`Link::end`]: its place is free.
    Over,
}

/// The operation that receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Receiving {
    No,
    Yes,
    /// It was told to end, and has not ended yet.
    Stopping,
}

/// A proxy's header that has to come first.
struct AwaitedHeader {
    header: ProxyHeader,
    /// Its deadline, in monotonic milliseconds.
    until_ms: u64,
}

/// One connection.
pub(super) struct Link {
    client: Client,
    /// `None` once it has arrived, or if none is expected.
    awaited_header: Option<Box<AwaitedHeader>>,
    /// `None` once it was closed.
    socket: Option<OwnedFd>,
    listener: Listener,
    acceptor: Place,
    /// Bytes that arrived while the home could not take them.
    held: Vec<u8>,
    receiving: Receiving,
    stage: Stage,
    /// The peer will send nothing more.
    ended: bool,
    /// A send waits in the kernel until the peer reads.
    resting: bool,
    /// How much of that send's buffer was sent.
    rested: usize,
    /// The home stopped because enough bytes wait to be written.
    out_is_full: bool,
    /// Its last response is submitted, and [`Link::depart`] is still to come.
    is_leaving: bool,
    /// It is in the list of connections touched in this turn.
    pub(super) is_touched: bool,
}

impl Link {
    pub(super) fn new(
        home: &mut Home,
        socket: OwnedFd,
        (listener, acceptor): (Listener, Place),
        peer: IpAddr,
    ) -> Self {
        let id = home.connections.enter();
        let shared = home.shared();
        let conn = Conn::new(listener, home.mono_ms()).with_idle_ms(shared.idle_ms);
        let conn = conn.with_head_bytes(shared.head_bytes);
        let awaited_header = shared.identity.expects_proxy_header(listener, peer).then(|| {
            let until_ms = home.mono_ms() + HEAD_MS_MAX;
            Box::new(AwaitedHeader { header: ProxyHeader::default(), until_ms })
        });
        Self {
            client: Client::new(id, conn, peer),
            awaited_header,
            socket: Some(socket),
            listener,
            acceptor,
            held: Vec::new(),
            receiving: Receiving::No,
            stage: Stage::Serving,
            ended: false,
            resting: false,
            rested: 0,
            out_is_full: false,
            is_leaving: false,
            is_touched: false,
        }
    }

    pub(super) fn place(&self) -> Place {
        self.client.id.place
    }

    /// Lends it the buffers that it needs while it is served; [`Link::give_back_input`] and
    /// [`Link::end_turn`] take them back.
    pub(super) fn lend_buffers(&mut self, kernel: &mut impl Kernel, inputs: &mut Vec<Vec<u8>>) {
        if self.client.out.capacity() == 0 {
            self.client.out = kernel.spare();
        }
        if let Some(input) = inputs.pop()
            && let Some(input) = self.client.conn.put_buffer(input)
        {
            inputs.push(input);
        }
    }

    /// Takes the buffer for requests back, unless it holds a part of a request.
    pub(super) fn give_back_input(&mut self, inputs: &mut Vec<Vec<u8>>) {
        if let Some(input) = self.client.conn.take_buffer()
            && inputs.len() < INPUTS_MAX
        {
            inputs.push(input);
        }
    }

    // ---- what happens ----

    /// Bytes have arrived.
    pub(super) fn received(&mut self, bytes: &[u8], more: bool, home: &mut Home) {
        if !more {
            self.receiving = Receiving::No;
        }
        if self.stage != Stage::Serving {
            return;
        }
        let Some(bytes) = self.take_proxy_header(bytes, home) else { return };
        if self.held.is_empty() && self.may_take(home) {
            let taken = self.feed(bytes, home);
            self.held.extend_from_slice(&bytes[taken..]);
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    /// The bytes after the proxy's header; `None` while that is incomplete, or if something else came.
    fn take_proxy_header<'b>(&mut self, bytes: &'b [u8], home: &mut Home) -> Option<&'b [u8]> {
        let Some(awaited_header) = &mut self.awaited_header else { return Some(bytes) };
        match awaited_header.header.take(bytes) {
            Ok((_, None)) => None,
            Ok((taken, Some(source))) => {
                self.awaited_header = None;
                if let Source::Client(ip) = source
                    && !home.hand_over(&mut self.client, ip)
                {
                    home.count(Count::TurnedAway);
                    self.client.conn.finish();
                    self.client.out.extend_from_slice(&refusal_bytes(Code::RateLimited));
                    self.out_is_full = home.serve(&mut self.client);
                }
                Some(&bytes[taken..])
            }
            Err(flaw) => {
                home.note_no_header(self.client.peer, flaw);
                self.cut_off();
                None
            }
        }
    }

    /// Receiving has ended: by the peer, by us, for lack of buffers, or by an error.
    pub(super) fn receive_ended(&mut self, error: i32, home: &mut Home) {
        self.receiving = Receiving::No;
        match error {
            0 => {
                self.ended = true;
                self.serve(home);
            }
            libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN => {}
            _ => self.cut_off(),
        }
    }

    /// A send did not take everything.
    pub(super) fn unsent(&mut self, rest: Vec<u8>, error: i32, kernel: &mut impl Kernel, home: &mut Home) {
        match &self.socket {
            Some(socket) if error == libc::EAGAIN => {
                (self.resting, self.rested) = (true, 0);
                kernel.send_rest(self.client.id.place, socket.as_fd(), rest, 0);
                home.connections.set_deadline(self.client.id, home.mono_ms() + WRITE_MS_MAX);
            }
            _ => self.cut_off(),
        }
    }

    /// A send that had to wait has ended.
    pub(super) fn sent(
        &mut self,
        buffer: Vec<u8>,
        result: Result<usize, i32>,
        kernel: &mut impl Kernel,
        home: &mut Home,
    ) {
        self.resting = false;
        match (result, &self.socket) {
            (Ok(len), Some(socket)) if len > 0 => {
                self.rested += len;
                if self.rested < buffer.len() {
                    self.resting = true;
                    kernel.send_rest(self.client.id.place, socket.as_fd(), buffer, self.rested);
                    // Only progress extends the deadline.
                    home.connections.set_deadline(self.client.id, home.mono_ms() + WRITE_MS_MAX);
                } else {
                    kernel.put_spare(buffer);
                    self.serve(home);
                }
            }
            _ => self.cut_off(),
        }
    }

    /// Lets the home go on: with responses that may go, and with held bytes.
    pub(super) fn serve(&mut self, home: &mut Home) {
        if self.stage != Stage::Serving || self.resting || self.is_leaving {
            return;
        }
        self.out_is_full = home.serve(&mut self.client);
        while !self.held.is_empty() && self.may_take(home) {
            let held = std::mem::take(&mut self.held);
            let taken = self.feed(&held, home);
            self.held = held;
            self.held.drain(..taken);
            if taken == 0 {
                break;
            }
        }
        // The home may have stopped before the last request in the buffer.
        if self.ended && self.held.is_empty() && self.may_take(home) && !self.client.conn.is_finished() {
            self.client.conn.finish();
            self.out_is_full = home.serve(&mut self.client);
        }
    }

    /// Whether the home takes further requests.
    fn may_take(&self, home: &Home) -> bool {
        !self.resting && !self.out_is_full && !self.is_leaving && home.connections.has_room(self.client.id)
    }

    /// Feeds and serves as long as bytes are taken; returns how many were.
    fn feed(&mut self, bytes: &[u8], home: &mut Home) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && self.may_take(home) {
            let len = self.client.conn.feed(&bytes[taken..], home.mono_ms());
            if len == 0 {
                break;
            }
            taken += len;
            self.out_is_full = home.serve(&mut self.client);
        }
        taken
    }

    // ---- the end of a turn ----

    /// Sends what is written, receives or stops receiving, returns buffers that are not needed.
    pub(super) fn end_turn(&mut self, home: &mut Home, kernel: &mut impl Kernel) -> Turn {
        if home.connections.is_overdue(self.client.id) {
            self.cut_off();
        }
        let turn = match self.stage {
            Stage::Serving => self.end_turn_serving(home, kernel),
            Stage::Lingering if self.ended => {
                self.stage = Stage::Over;
                Turn::Wait
            }
            Stage::Lingering => {
                self.receive(kernel);
                Turn::Wait
            }
            Stage::Over => Turn::Wait,
        };
        if self.client.out.is_empty() && self.client.out.capacity() > 0 {
            kernel.put_spare(std::mem::take(&mut self.client.out));
        }
        if self.stage == Stage::Over { self.close(kernel) } else { turn }
    }

    fn end_turn_serving(&mut self, home: &mut Home, kernel: &mut impl Kernel) -> Turn {
        let (id, place) = (self.client.id, self.client.id.place);
        self.pause_receiving(kernel);
        let Some(socket) = &self.socket else { return Turn::Wait };
        if self.resting {
            return Turn::Wait;
        }
        let has_output = !self.client.out.is_empty();
        if has_output {
            kernel.send(place, socket.as_fd(), std::mem::take(&mut self.client.out));
        }
        if self.client.is_closing() {
            self.is_leaving = true;
            return Turn::Leave;
        }
        if self.ended && home.connections.is_idle(id) && !has_output {
            self.stage = Stage::Over;
            return Turn::Wait;
        }
        let is_blocked = self.out_is_full || !home.connections.has_room(id) || !self.held.is_empty();
        if is_blocked || self.client.conn.is_finished() {
            // The outstanding response will make it ready.
            home.connections.set_deadline(id, u64::MAX);
            return if self.out_is_full { Turn::Again } else { Turn::Wait };
        }
        let owed = !home.connections.is_idle(id);
        let header_until_ms =
            self.awaited_header.as_ref().map_or(u64::MAX, |awaited_header| awaited_header.until_ms);
        let deadline_ms = if owed { u64::MAX } else { self.client.conn.deadline_ms() };
        home.connections.set_deadline(id, deadline_ms.min(header_until_ms));
        if home.connections.take_quiet(id) {
            self.client.conn.shrink();
            self.held = Vec::new();
        }
        self.receive(kernel);
        Turn::Wait
    }

    /// Stops receiving if more has arrived than the home takes.
    fn pause_receiving(&mut self, kernel: &mut impl Kernel) {
        if !self.held.is_empty() && self.receiving == Receiving::Yes {
            self.receiving = Receiving::Stopping;
            kernel.stop_receiving(self.client.id.place);
        }
    }

    fn receive(&mut self, kernel: &mut impl Kernel) {
        if let (Receiving::No, false, Some(socket)) = (self.receiving, self.ended, &self.socket) {
            self.receiving = Receiving::Yes;
            kernel.receive(self.client.id.place, socket.as_fd());
        }
    }

    /// Its last response was sent, except for what [`Link::unsent`] got back.
    pub(super) fn depart(&mut self, home: &mut Home) {
        let is_leaving = std::mem::take(&mut self.is_leaving);
        if !is_leaving || self.stage != Stage::Serving || self.resting {
            return;
        }
        if self.ended || (self.client.conn.may_close_at_once() && self.held.is_empty()) {
            self.stage = Stage::Over;
            return;
        }
        if let Some(socket) = &self.socket {
            let _gone_already = rustix::net::shutdown(socket, Shutdown::Write);
        }
        self.stage = Stage::Lingering;
        self.held = Vec::new();
        home.connections.set_deadline(self.client.id, home.mono_ms() + LINGER_MS);
    }

    /// Ends it at once.
    fn cut_off(&mut self) {
        self.stage = Stage::Over;
    }

    /// Closes the socket and ends all operations; returns [`Turn::Over`] when all have ended.
    fn close(&mut self, kernel: &mut impl Kernel) -> Turn {
        if let Some(socket) = self.socket.take() {
            if self.resting {
                // Ends a send that waits.
                let _gone_already = rustix::net::shutdown(&socket, Shutdown::Both);
            }
            if self.receiving == Receiving::Yes {
                self.receiving = Receiving::Stopping;
                kernel.stop_receiving(self.client.id.place);
            }
            kernel.close(self.client.id.place, socket);
        }
        if self.receiving == Receiving::No && !self.resting { Turn::Over } else { Turn::Wait }
    }

    /// The end: no operation is under way for its place any more.
    pub(super) fn end(self, home: &mut Home) -> (Listener, Place, IpAddr) {
        home.connections.leave(self.client.id);
        (self.listener, self.acceptor, self.client.peer)
    }
}
