//! The transport on a private io_uring: the kernel's side of a core, with who owns which buffer when.
//!
//! Every `unsafe` of the transport is in this file, behind calls that are safe.
//!
//! # Who owns what, and when
//! ```text
//! receive buffers   kernel ──completion──▶ Chunk, ours to read ──give_back──▶ kernel
//! send buffers      caller ──send──▶ ring, kernel reads ──enter has returned──▶ spare buffers
//!                   caller ──send_rest──▶ ring, kernel reads ──completion──▶ caller
//! descriptors       caller ──borrowed for a submission, by number──▶ the kernel holds the file itself
//!                   caller ──close──▶ ring ──submission, after all earlier ones──▶ kernel
//! ```
//! - A receive buffer belongs to the kernel from the store of the tail that provides it until a
//!   completion names it. A [`Chunk`] is a part of one that has been filled. With incremental
//!   buffers the kernel goes on to fill what lies behind the chunk, never the chunk itself; the
//!   buffer goes back when its last chunk is given back. A chunk can be neither copied nor
//!   made by others, and giving back consumes it.
//! - A send by [`Kernel::send`] is made with `MSG_DONTWAIT`: the kernel takes what fits while it is
//!   submitted, and never looks at the buffer again. It reports only failures; until every completion
//!   of that submission was taken, the buffers are kept, so that what was not sent is still there.
//! - A send by [`Kernel::send_rest`] may wait in the kernel: its buffer stays here until its
//!   completion, and is leaked, not freed, when the ring is dropped before.
//! - Submissions name descriptors by number, and are executed in order. [`Kernel::close`] is one of
//!   them, so that a number cannot be given to another socket before what was queued for it has begun.
//!
//! Next: [`super::core_loop`] for what is done with completions.

use std::alloc::{self, Layout};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{BufRingEntry, Fd, TimeoutFlags, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use super::kernel::{Completion, Kernel, Place, Spares};

/// How large the parts of a ring are.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Submissions that fit before some have to go off.
    pub(super) submissions: u32,
    /// Completions that fit; the kernel keeps what is beyond them until there is room.
    pub(super) completions: u32,
    /// Bytes of all receive buffers.
    pub(super) receive_bytes: usize,
    /// Bytes of one of them where each takes many messages, one behind the other; `None`: do
    /// without that mode.
    pub(super) incremental_bytes: Option<usize>,
    /// Bytes of one of them where each takes one message.
    pub(super) single_bytes: usize,
}

/// The sizes that serve.
const SIZES: Sizes = Sizes {
    submissions: 1024,
    completions: 8192,
    receive_bytes: 512 << 10,
    incremental_bytes: Some(16 << 10),
    single_bytes: 2 << 10,
};
/// Bytes that one socket brings before others get their turn, where the kernel can be told so
/// (Linux 6.17; others take their turn after 32 receives).
const RECEIVE_AT_ONCE: u32 = 8 << 10;
/// The only group of receive buffers.
const GROUP: u16 = 0;
const PAGE_BYTES: usize = 4096;

/// `IORING_ENTER_GETEVENTS`: run what is ready, wait for completions.
const GET_EVENTS: u32 = 1;
/// `IOU_PBUF_RING_INC`: a buffer takes one message behind the other (Linux 6.12).
const INCREMENTAL: u16 = 2;

/// What the kernel says against the smallest ring; `None` = nothing.
pub(super) fn refusal() -> Option<io::Error> {
    IoUring::new(2).err()
}

/// What a completion is about: the upper half of its user data.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Op {
    Accept = 1,
    Receive,
    Send,
    Rest,
    Tick,
    Wake,
    Nothing,
}

/// A part of a receive buffer that the kernel has filled. Has to be given back.
#[must_use = "a receive buffer that is not given back is lost"]
pub(super) struct Chunk {
    buffer: u16,
    at: u32,
    len: u32,
    /// The kernel is done with the buffer.
    last: bool,
}

/// Whose bytes are being sent, and the buffer that they are in.
type Outgoing = (Place, Vec<u8>);

/// A ring, its receive buffers, and the buffers that are being sent.
pub(super) struct Uring {
    /// Dropped before anything that the kernel may still write to.
    ring: ManuallyDrop<IoUring>,
    receive: ManuallyDrop<ReceiveBuffers>,
    /// Bytes that one socket brings in its turn; 0 = the kernel cannot be told.
    at_once: u32,
    /// Sent with the submission that is being prepared, or that went off last.
    flying: Vec<Outgoing>,
    /// Whether all of `flying` has gone off.
    landed: bool,
    /// Sends that may take longer, by place: each has one at most.
    resting: ManuallyDrop<Vec<Option<Vec<u8>>>>,
    spares: Spares,
    /// An error of the kernel that is told at the next [`Kernel::enter`].
    broken: Option<io::Error>,
    tick: Box<Timespec>,
}

impl Uring {
    /// A ring for the calling thread, and no other.
    ///
    /// # Errors
    /// What the kernel lacks or refuses.
    pub(super) fn new() -> io::Result<Self> {
        let mut this = Self::with(&SIZES)?;
        this.repeats_timers()?;
        this.at_once = if this.takes_turns()? { RECEIVE_AT_ONCE } else { 0 };
        Ok(this)
    }

    /// Has a timer go off twice: a kernel that does not know how to repeat one refuses it.
    fn repeats_timers(&mut self) -> io::Result<()> {
        *self.tick = Timespec::new().nsec(1);
        let timer = opcode::Timeout::new(&raw const *self.tick).count(2).flags(TimeoutFlags::MULTISHOT);
        self.push(timer.build().user_data(tag(Op::Tick, 0)));
        let mut repeated = false;
        loop {
            self.enter(true)?;
            while let Some(completion) = self.next() {
                match completion {
                    Completion::Tick { more: true } => repeated = true,
                    Completion::Tick { more: false } if repeated => return Ok(()),
                    Completion::Tick { more: false } => {
                        return Err(io::Error::other("timers that repeat (Linux 6.4) are missing"));
                    }
                    _ => {}
                }
            }
        }
    }

    /// The same with other sizes, without trying whether it receives.
    ///
    /// # Errors
    /// What the kernel lacks or refuses.
    pub(super) fn with(sizes: &Sizes) -> io::Result<Self> {
        let build = |sqarray: bool| {
            let mut builder = IoUring::builder();
            builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
            builder.setup_cqsize(sizes.completions);
            if !sqarray {
                builder.setup_no_sqarray();
            }
            builder.build(sizes.submissions)
        };
        // Linux 6.6 can do without the array of indexes.
        let ring: IoUring = or_if_unknown(build(false), || build(true))?;
        let has_all = ring.params().is_feature_nodrop() && ring.params().is_feature_skip_cqe_on_success();
        if !has_all {
            return Err(io::Error::other("the kernel's io_uring is too old"));
        }
        let receive = ReceiveBuffers::register(&ring, sizes)?;
        let this = Self {
            ring: ManuallyDrop::new(ring),
            receive: ManuallyDrop::new(receive),
            at_once: 0,
            flying: Vec::new(),
            landed: false,
            resting: ManuallyDrop::default(),
            spares: Spares::default(),
            broken: None,
            tick: Box::default(),
        };
        // Saves a look-up per call; a kernel without it is no worse off.
        let _optional = this.ring.submitter().register_ring_fd();
        Ok(this)
    }

    /// Tries to receive, and whether the kernel can be told how much a socket brings in its
    /// turn: one that cannot refuses the whole operation.
    fn takes_turns(&mut self) -> io::Result<bool> {
        let (socket, peer) = UnixStream::pair()?;
        drop(peer);
        self.at_once = RECEIVE_AT_ONCE;
        loop {
            self.receive(0, socket.as_fd());
            let error = loop {
                self.enter(true)?;
                if let Some(Completion::ReceiveEnded { error, .. }) = self.next() {
                    break error;
                }
            };
            match error {
                0 => return Ok(self.at_once > 0),
                libc::EINVAL if self.at_once > 0 => self.at_once = 0,
                _ => return Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    fn cancel(&mut self, tag_of: u64) {
        let entry = opcode::AsyncCancel::new(tag_of).build();
        self.push(entry.flags(Flags::SKIP_SUCCESS).user_data(tag(Op::Nothing, 0)));
    }

    /// Closes a descriptor, after everything that was submitted for it before has begun.
    fn close_in_turn(&mut self, socket: OwnedFd) {
        let entry = opcode::Close::new(Fd(socket.into_raw_fd())).build();
        self.push(entry.flags(Flags::SKIP_SUCCESS).user_data(tag(Op::Nothing, 0)));
    }

    #[expect(clippy::needless_pass_by_value, reason = "all callers have just made it")]
    fn push(&mut self, entry: Entry) {
        loop {
            // SAFETY: buffers and the time that the entry points to stay alive as the head of this
            // file says: in `flying`, `resting` and `tick`, none of which moves its bytes.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // Full: what is queued goes off now.
            match self.submit(0, 0).map_err(|error| (error.raw_os_error(), error)) {
                // No memory to spare at this moment.
                Ok(_) | Err((Some(libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => {}
                Err((_, error)) => {
                    self.broken = Some(error);
                    return;
                }
            }
        }
    }

    fn submit(&mut self, want: u32, flags: u32) -> io::Result<usize> {
        let queued = self.ring.submission().len() as u32;
        self.call(queued, want, flags)
    }

    fn call(&mut self, queued: u32, want: u32, flags: u32) -> io::Result<usize> {
        // SAFETY: no argument that points anywhere; the ring belongs to this thread.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, want, flags, None) }
    }

    /// Takes back the buffers of sends that have gone off, and of which no failure is left to be told.
    fn land(&mut self) {
        if std::mem::take(&mut self.landed) {
            for (_, buffer) in self.flying.drain(..) {
                self.spares.put(buffer);
            }
        }
    }

    fn completion(&mut self, entry: &cqueue::Entry) -> Completion<Chunk> {
        let (op, number) = ((entry.user_data() >> 32) as u32, entry.user_data() as u32);
        let (result, flags) = (entry.result(), entry.flags());
        let more = cqueue::more(flags);
        match op {
            _ if op == Op::Receive as u32 => match self.receive.chunk(result, flags) {
                Some(chunk) => Completion::Received { place: number, chunk, more },
                None => Completion::ReceiveEnded { place: number, error: -result },
            },
            _ if op == Op::Send as u32 => self.unsent(number as usize, result),
            _ if op == Op::Rest as u32 => self.rested(number, result),
            _ if op == Op::Accept as u32 && result >= 0 => {
                // SAFETY: the kernel has just made this descriptor, and told nobody else.
                let socket = unsafe { OwnedFd::from_raw_fd(result) };
                Completion::Accepted { acceptor: number, socket, more }
            }
            _ if op == Op::Accept as u32 => Completion::AcceptEnded { acceptor: number, error: -result },
            _ if op == Op::Tick as u32 => Completion::Tick { more },
            _ if op == Op::Wake as u32 => Completion::Woken { more },
            _ => Completion::Nothing,
        }
    }

    fn unsent(&mut self, number: usize, result: i32) -> Completion<Chunk> {
        let Some((place, buffer)) = self.flying.get_mut(number) else { return Completion::Nothing };
        let (place, mut rest) = (*place, std::mem::take(buffer));
        let sent = usize::try_from(result).unwrap_or(0);
        rest.drain(..sent.min(rest.len()));
        rest.shrink_to_fit();
        let error = if result < 0 { -result } else { libc::EAGAIN };
        Completion::Unsent { place, rest, error }
    }

    fn rested(&mut self, place: Place, result: i32) -> Completion<Chunk> {
        match self.resting.get_mut(place as usize).and_then(Option::take) {
            Some(buffer) => {
                Completion::Sent { place, buffer, result: usize::try_from(result).map_err(|_| -result) }
            }
            None => Completion::Nothing,
        }
    }
}

impl Kernel for Uring {
    type Chunk = Chunk;

    fn enter(&mut self, wait: bool) -> io::Result<()> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        loop {
            let entered = self.submit(u32::from(wait), GET_EVENTS);
            self.landed = self.ring.submission().is_empty();
            match entered.map_err(|error| (error.raw_os_error(), error)) {
                // A part went off: what is behind it must not wait for another turn, in which
                // its sockets may have more to say.
                Ok(1..) if !self.landed => {}
                // No memory for any of it at this moment.
                Err((Some(libc::EAGAIN), _)) if !self.landed => std::thread::yield_now(),
                Ok(_) | Err((Some(libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ETIME), _)) => {
                    return Ok(());
                }
                Err((_, error)) => return Err(error),
            }
        }
    }

    fn next(&mut self) -> Option<Completion<Chunk>> {
        loop {
            let entry = self.ring.completion().next();
            if let Some(entry) = entry {
                return Some(self.completion(&entry));
            }
            if !self.ring.submission().cq_overflow() {
                self.land();
                return None;
            }
            // What the kernel kept comes now. A failed send may be among it, so that nothing has
            // landed before all of it was taken.
            if let Err(error) = self.call(0, 0, GET_EVENTS)
                && error.raw_os_error() != Some(libc::EINTR)
            {
                self.broken = Some(error);
                return None;
            }
        }
    }

    fn bytes(&self, chunk: &Chunk) -> &[u8] {
        self.receive.bytes(chunk)
    }

    fn give_back(&mut self, chunk: Chunk) {
        self.receive.give_back(&chunk);
    }

    fn spare(&mut self) -> Vec<u8> {
        self.spares.take()
    }

    fn put_spare(&mut self, buffer: Vec<u8>) {
        self.spares.put(buffer);
    }

    fn accept(&mut self, acceptor: Place, listener: BorrowedFd<'_>) {
        let entry = opcode::AcceptMulti::new(fd(listener)).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry.user_data(tag(Op::Accept, acceptor)));
    }

    fn receive(&mut self, place: Place, socket: BorrowedFd<'_>) {
        let entry = opcode::RecvMulti::new(fd(socket), GROUP).len(self.at_once).build();
        self.push(entry.user_data(tag(Op::Receive, place)));
    }

    fn stop_receiving(&mut self, place: Place) {
        self.cancel(tag(Op::Receive, place));
    }

    fn close_acceptor(&mut self, acceptor: Place, listener: OwnedFd) {
        self.cancel(tag(Op::Accept, acceptor));
        self.close_in_turn(listener);
    }

    fn send(&mut self, place: Place, socket: BorrowedFd<'_>, buffer: Vec<u8>) {
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = opcode::Send::new(fd(socket), buffer.as_ptr(), buffer.len() as u32).flags(flags).build();
        let number = self.flying.len() as u32;
        self.flying.push((place, buffer));
        self.landed = false;
        self.push(entry.flags(Flags::SKIP_SUCCESS).user_data(tag(Op::Send, number)));
    }

    fn send_rest(&mut self, place: Place, socket: BorrowedFd<'_>, buffer: Vec<u8>, from: usize) {
        let bytes = &buffer[from..];
        let entry = opcode::Send::new(fd(socket), bytes.as_ptr(), bytes.len() as u32);
        let entry = entry.flags(libc::MSG_NOSIGNAL).build();
        let row = place as usize;
        if self.resting.len() <= row {
            self.resting.resize_with(row + 1, || None);
        }
        self.resting[row] = Some(buffer);
        self.push(entry.user_data(tag(Op::Rest, place)));
    }

    fn close(&mut self, _: Place, socket: OwnedFd) {
        self.close_in_turn(socket);
    }

    fn tick_every(&mut self, ms: u64) {
        *self.tick = Timespec::new().sec(ms / 1_000).nsec((ms % 1_000) as u32 * 1_000_000);
        let entry = opcode::Timeout::new(&raw const *self.tick).flags(TimeoutFlags::MULTISHOT).build();
        self.push(entry.user_data(tag(Op::Tick, 0)));
    }

    fn watch(&mut self, event: BorrowedFd<'_>) -> io::Result<()> {
        let entry = opcode::PollAdd::new(fd(event), libc::POLLIN as u32).multi(true).build();
        self.push(entry.user_data(tag(Op::Wake, 0)));
        Ok(())
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // Whatever the kernel may still read or write is left to it.
        let under_way = self.resting.iter().any(Option::is_some);
        let given_up = self.ring.submitter().unregister_buf_ring(GROUP).is_ok();
        // SAFETY: nobody uses the ring after this, and it is not dropped twice.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
        if given_up {
            self.receive.free();
        }
        if !under_way {
            // SAFETY: no send is under way, so that the kernel reads none of them.
            unsafe { ManuallyDrop::drop(&mut self.resting) };
        }
    }
}

/// Another way, if this kernel does not know the first. A lack of anything else is no reason for it.
fn or_if_unknown<T>(first: io::Result<T>, other: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match first {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => other(),
        done => done,
    }
}

fn fd(fd: BorrowedFd<'_>) -> Fd {
    Fd(fd.as_raw_fd() as RawFd)
}

fn tag(op: Op, number: u32) -> u64 {
    u64::from(op as u32) << 32 | u64::from(number)
}

/// The buffers that the kernel fills, and the ring through which it gets them.
struct ReceiveBuffers {
    /// `count` entries; the tail lies in the reserved part of the first. Page-aligned.
    entries: *mut BufRingEntry,
    /// `count` buffers of `each` bytes.
    memory: *mut u8,
    memory_bytes: usize,
    entries_bytes: usize,
    count: u16,
    each: u32,
    incremental: bool,
    tail: u16,
    /// How much of each buffer has been filled since it was provided.
    filled: Vec<u32>,
}

impl ReceiveBuffers {
    fn register(ring: &IoUring, sizes: &Sizes) -> io::Result<Self> {
        let &Sizes { receive_bytes, incremental_bytes, single_bytes, .. } = sizes;
        let memory = allocate(receive_bytes);
        let entries_max = receive_bytes / single_bytes.min(incremental_bytes.unwrap_or(single_bytes));
        let entries_bytes = entries_max * size_of::<BufRingEntry>();
        let entries = allocate(entries_bytes).cast::<BufRingEntry>();
        let attempt = |each: usize, flags: u16| {
            let count = (receive_bytes / each) as u16;
            // SAFETY: the memory holds that many entries, is aligned to pages, and is never freed
            // while the ring exists.
            unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, count, GROUP, flags) }
                .map(|()| (each, count, flags == INCREMENTAL))
        };
        let single = || attempt(single_bytes, 0);
        let registered = match incremental_bytes {
            Some(each) => or_if_unknown(attempt(each, INCREMENTAL), single),
            None => single(),
        };
        let (each, count, incremental) = match registered {
            Ok(registered) => registered,
            Err(error) => {
                free(memory, receive_bytes);
                free(entries.cast(), entries_bytes);
                return Err(error);
            }
        };
        let filled = vec![0; usize::from(count)];
        let each = each as u32;
        let mut this = Self {
            entries,
            memory,
            memory_bytes: receive_bytes,
            entries_bytes,
            count,
            each,
            incremental,
            tail: 0,
            filled,
        };
        (0..count).for_each(|buffer| this.provide(buffer));
        Ok(this)
    }

    /// Frees what the kernel has given up. A receive holds a buffer only while it is tried, which
    /// is in our calls ([`Kernel::enter`]), so that none is under way in any of them.
    fn free(&mut self) {
        free(std::mem::replace(&mut self.memory, std::ptr::null_mut()), self.memory_bytes);
        let entries = std::mem::replace(&mut self.entries, std::ptr::null_mut());
        free(entries.cast(), self.entries_bytes);
    }

    /// Hands a buffer to the kernel, whole.
    fn provide(&mut self, buffer: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        let at = usize::from(buffer) * self.each as usize;
        self.filled[usize::from(buffer)] = 0;
        let entry = self.entries.wrapping_add(slot);
        // SAFETY: `slot` is below `count`. The kernel does not read an entry before the tail has
        // passed it, and the reserved part, where the tail is, is left alone.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.memory.wrapping_add(at) as u64);
        entry.set_len(self.each);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the entries are alive and initialised: zeroed, then written above.
        let tail = unsafe { BufRingEntry::tail(self.entries) }.cast_mut();
        // SAFETY: the tail is aligned, lives as long as the entries, and is only accessed as an
        // atomic, by us and by the kernel. Release: the entry is seen before the tail.
        unsafe { AtomicU16::from_ptr(tail) }.store(self.tail, Ordering::Release);
    }

    /// What a completion has filled; `None` if nothing.
    fn chunk(&mut self, result: i32, flags: u32) -> Option<Chunk> {
        let buffer = cqueue::buffer_select(flags)?;
        let last = !(self.incremental && cqueue::buffer_more(flags));
        let filled = self.filled.get_mut(usize::from(buffer))?;
        let len = u32::try_from(result).unwrap_or(0).min(self.each - *filled);
        let chunk = Chunk { buffer, at: *filled, len, last };
        *filled += len;
        if result <= 0 {
            self.give_back(&chunk);
            return None;
        }
        Some(chunk)
    }

    fn bytes(&self, chunk: &Chunk) -> &[u8] {
        let at = usize::from(chunk.buffer) * self.each as usize + chunk.at as usize;
        let from = self.memory.wrapping_add(at);
        // SAFETY: the chunk lies within its buffer and the buffer within the memory (see `chunk`);
        // the kernel has filled it and does not touch it again before it is given back.
        unsafe { std::slice::from_raw_parts(from, chunk.len as usize) }
    }

    fn give_back(&mut self, chunk: &Chunk) {
        if chunk.last {
            self.provide(chunk.buffer);
        }
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, PAGE_BYTES).expect("a few pages")
}

/// Zeroed memory, aligned to pages.
fn allocate(bytes: usize) -> *mut u8 {
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc::alloc_zeroed(layout(bytes)) };
    if memory.is_null() {
        alloc::handle_alloc_error(layout(bytes));
    }
    memory
}

fn free(memory: *mut u8, bytes: usize) {
    // SAFETY: it came from `allocate` with the same size, and the kernel has refused it or given it up.
    unsafe { alloc::dealloc(memory, layout(bytes)) };
}

#[cfg(test)]
pub(super) mod tests;
