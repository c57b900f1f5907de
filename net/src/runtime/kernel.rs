//! What a core asks of the operating system, and what it reports: the trait under the loop.
//!
//! Two transports implement it: [`super::ring`], a private io_uring, and [`super::epoll`], for machines where
//! io_uring is missing or refused. Both report what has *happened* (bytes came, a send was short), never what could
//! be tried, so that [`super::core_loop`] and [`super::link`] are the same on both. Next: [`super::core_loop`].

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// What an operation belongs to: a place in the table of connections, or the number of a listening socket.
pub(super) type Place = u32;

/// Largest capacity of a send buffer that is kept for reuse, in bytes.
const SPARE_BYTES_MAX: usize = 64 << 10;
/// Send buffers kept for reuse.
const SPARE_MAX: usize = 512;

/// What has happened.
pub(super) enum Completion<C> {
    /// A listening socket has a new connection; `more`: it goes on accepting.
    Accepted { acceptor: Place, socket: OwnedFd, more: bool },
    /// A listening socket accepts no more; the error number.
    AcceptEnded { acceptor: Place, error: i32 },
    /// Bytes have arrived; `more`: it goes on receiving.
    Received { place: Place, chunk: C, more: bool },
    /// Receiving has ended: 0 = the peer sends no more, otherwise the error number.
    ReceiveEnded { place: Place, error: i32 },
    /// A send did not take everything: this is the rest. `error` is `EAGAIN` if it may be tried again.
    Unsent { place: Place, rest: Vec<u8>, error: i32 },
    /// A [`Kernel::send_rest`] has ended: how much it sent, or the error number; and its buffer.
    Sent { place: Place, buffer: Vec<u8>, result: Result<usize, i32> },
    /// Time has passed; `more`: it goes on reporting.
    Tick { more: bool },
    /// Another thread has work for this core; `more`: it goes on reporting.
    Woken { more: bool },
    /// Nothing that matters.
    Nothing,
}

/// The operating system's side of one core. It belongs to one thread.
///
/// # The sleep
/// A core sleeps in [`Kernel::enter`] and nowhere else. The kernel keeps whatever ends that sleep (a socket,
/// the tick, the event) until [`Kernel::next`] has reported it: if it happens before the call, the call
/// returns at once.
pub(super) trait Kernel {
    /// Received bytes; has to be given back.
    type Chunk;

    /// Submits what is queued; with `wait` it then waits until something has happened.
    ///
    /// # Errors
    /// The kernel's error, other than an interruption or a lack of memory; also an error of any other
    /// call since the last one, whose request is lost then.
    fn enter(&mut self, wait: bool) -> io::Result<()>;
    /// The next thing that has happened; `None` = all is reported.
    fn next(&mut self) -> Option<Completion<Self::Chunk>>;
    /// The bytes of a chunk.
    fn bytes(&self, chunk: &Self::Chunk) -> &[u8];
    /// Returns the memory of a chunk.
    fn give_back(&mut self, chunk: Self::Chunk);

    /// Reports [`Completion::Tick`] every `ms` milliseconds.
    fn tick_every(&mut self, ms: u64);
    /// Reports [`Completion::Woken`] whenever the event is written to.
    ///
    /// # Errors
    /// The kernel refuses it.
    fn watch(&mut self, event: BorrowedFd<'_>) -> io::Result<()>;

    /// Accepts on a listening socket until told otherwise.
    fn accept(&mut self, acceptor: Place, listener: BorrowedFd<'_>);
    /// Ends accepting at a listening socket, and closes it.
    fn close_acceptor(&mut self, acceptor: Place, listener: OwnedFd);

    /// Receives on a socket until told otherwise.
    fn receive(&mut self, place: Place, socket: BorrowedFd<'_>);
    /// Ends receiving; [`Completion::ReceiveEnded`] says when it has.
    fn stop_receiving(&mut self, place: Place);
    /// Sends what fits now. Only if that is not all, [`Completion::Unsent`] has the rest, at the latest
    /// before [`Kernel::next`] returns `None` after the next [`Kernel::enter`]: until then nothing else may
    /// be sent on that socket.
    fn send(&mut self, place: Place, socket: BorrowedFd<'_>, buffer: Vec<u8>);
    /// Sends `buffer[from..]` or a part of it as soon as the socket takes any;
    /// [`Completion::Sent`] says how much that was. One at a time per place.
    fn send_rest(&mut self, place: Place, socket: BorrowedFd<'_>, buffer: Vec<u8>, from: usize);
    /// Closes a socket, after all earlier operations on it have begun.
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
