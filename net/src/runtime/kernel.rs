//! What a core asks of the operating system, and what it is told: the seam under the loop.
//!
//! Two things stand behind it: [`super::ring`], a private io_uring, and [`super::epoll`], for
//! machines where io_uring is missing or refused. Both tell of what has *happened* (bytes came, a
//! send was short), never of what could be tried, so that [`super::core_loop`] and [`super::link`] are the
//! same on both. Next: [`super::core_loop`].

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Where an operation came from: a place in the table of connections, or the number of a listening socket.
pub(super) type Place = u32;

/// Capacity of a send buffer that is kept for the next answers, in bytes.
const SPARE_BYTES_MAX: usize = 64 << 10;
/// Send buffers that are kept.
const SPARE_MAX: usize = 512;

/// What has happened.
pub(super) enum Completion<C> {
    /// A listening socket has a new connection; `more`: it goes on accepting.
    Accepted { acceptor: Place, socket: OwnedFd, more: bool },
    /// A listening socket accepts no more; the error number.
    AcceptEnded { acceptor: Place, error: i32 },
    /// Bytes have come in; `more`: it goes on to receive.
    Received { place: Place, chunk: C, more: bool },
    /// Receiving has ended: 0 = the peer sends no more, otherwise the error number.
    ReceiveEnded { place: Place, error: i32 },
    /// A send did not take everything: this is the rest. `error` is `EAGAIN` if it may be tried again.
    Unsent { place: Place, rest: Vec<u8>, error: i32 },
    /// A [`Kernel::send_rest`] has ended: how much it took, or the error number; and its buffer.
    Sent { place: Place, buffer: Vec<u8>, result: Result<usize, i32> },
    /// Time has passed; `more`: it goes on to tell.
    Tick { more: bool },
    /// Somebody has work for this core; `more`: it goes on to tell.
    Woken { more: bool },
    /// Nothing that matters.
    Nothing,
}

/// The operating system's side of one core. It belongs to one thread.
///
/// # The sleep
/// A core sleeps in [`Kernel::enter`] and nowhere else. Whatever ends that sleep (a socket, the tick,
/// the event) is kept by the kernel until [`Kernel::next`] has told of it: if it happens while the
/// thread is held anywhere before the call, the call returns at once.
pub(super) trait Kernel {
    /// Bytes that came in; has to be given back.
    type Chunk;

    /// Sends off what is queued, and waits until something has happened if told so.
    ///
    /// # Errors
    /// What the kernel answers, other than that it was interrupted or is short of memory; also what it
    /// answered to anything else since the last call, and what that asked for is lost then.
    fn enter(&mut self, wait: bool) -> io::Result<()>;
    /// The next thing that has happened; `None` = all was told.
    fn next(&mut self) -> Option<Completion<Self::Chunk>>;
    /// The bytes of a chunk.
    fn bytes(&self, chunk: &Self::Chunk) -> &[u8];
    /// Lets the memory of a chunk be filled again.
    fn give_back(&mut self, chunk: Self::Chunk);

    /// [`Completion::Tick`] every so often.
    fn tick_every(&mut self, ms: u64);
    /// [`Completion::Woken`] whenever the event is written to.
    ///
    /// # Errors
    /// What the kernel refuses.
    fn watch(&mut self, event: BorrowedFd<'_>) -> io::Result<()>;

    /// Accepts on a listening socket until told otherwise.
    fn accept(&mut self, acceptor: Place, listener: BorrowedFd<'_>);
    /// Ends accepting at a listening socket, and closes it.
    fn close_acceptor(&mut self, acceptor: Place, listener: OwnedFd);

    /// Receives on a socket until told otherwise.
    fn receive(&mut self, place: Place, socket: BorrowedFd<'_>);
    /// Ends receiving; [`Completion::ReceiveEnded`] says when it has.
    fn stop_receiving(&mut self, place: Place);
    /// Sends what fits now. Only if that is not all, [`Completion::Unsent`] has the rest, at the
    /// latest when [`Kernel::next`] has answered `None` after the next [`Kernel::enter`]: until
    /// then, nothing else may be sent on that socket.
    fn send(&mut self, place: Place, socket: BorrowedFd<'_>, buffer: Vec<u8>);
    /// Sends `buffer[from..]` or a part of it as soon as the socket takes any;
    /// [`Completion::Sent`] says how much that was. One at a time for each place.
    fn send_rest(&mut self, place: Place, socket: BorrowedFd<'_>, buffer: Vec<u8>, from: usize);
    /// Closes a socket, after everything that was asked for it before has begun.
    fn close(&mut self, place: Place, socket: OwnedFd);

    /// An empty buffer for answers.
    fn spare(&mut self) -> Vec<u8>;
    /// Takes a buffer back that [`Kernel::spare`] gave.
    fn put_spare(&mut self, buffer: Vec<u8>);
}

/// Send buffers that are kept for the next answers.
#[derive(Default)]
pub(super) struct Spares(Vec<Vec<u8>>);

impl Spares {
    /// An empty buffer.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps a buffer, unless there are enough or it is too large.
    pub(super) fn put(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < SPARE_MAX && (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}
