//! A connection as a state machine: bytes in, requests out; no socket, no clock.
//!
//! ```text
//!            first byte            empty line       all bytes, or chunks, there
//!   Idle ───────────────▶ Head ─────────────────▶ Body ─────────────────▶ Given
//!    ▲                     │ any doubt             │ never leaves bounds    │ next()
//!    │                     ▼                                                │
//!    │                   Done ◀──────────── the request closes ─────────────┤
//!    └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A chunked body is decoded in place as it comes ([`crate::http::chunks`]): when the last chunk
//! is there, the request looks like any other. Only the body of a batch is not buffered as a whole: its
//! request is returned with its head, and the body is read piece by piece with `piece` and
//! `take`, chunked or not. A body that nobody takes is discarded.
//!
//! ```text
//!   Head ──empty line──▶ Begun ──▶ Stream ──all taken──▶ Head, or Done if the request closes
//! ```
//!
//! The verdict on a stream of bytes never depends on how it was split into reads: each rule
//! fires at a position in the stream. What follows a refused request is discarded
//! unread. Scanning remembers where it stopped, so that a head that comes
//! byte by byte costs no more than one that comes whole.
//!
//! Next: [`crate::http::line`] and [`crate::http::head`], which hold the rules.

use crate::http::chars::is_token;
use crate::http::chunks::{Chunks, Taken};
use crate::http::head::{Found, Head, Length};
use crate::http::limits::{
    BATCH_BUFFER_BYTES, BATCH_MS_MAX, BODY_BYTES_MAX, BODY_MS_MAX, CONN_BUFFER_BYTES, HEAD_BYTES,
    HEAD_BYTES_MAX, HEAD_MS_MAX, IDLE_GRACE_MS, IDLE_MS, REQUEST_LINE_BYTES_MAX, conn_buffer_bytes_max,
};
use crate::http::line::{self, Line};
use crate::http::problem::{Code, Problem};
use crate::http::route::{Listener, Resource, Route};

/// What [`Conn::next`] found.
#[derive(Debug)]
pub enum Next<'a> {
    /// No further request is complete: read on, unless [`Conn::is_finished`].
    NeedMore,
    /// A complete request. The following call to `next`, `space` or `feed` consumes it.
    Request(Request<'a>),
    /// Respond with this and close; nothing after it is read. Returned once.
    Reject(Problem),
}

/// A complete request, borrowed from the connection's buffer.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its header fields.
    pub head: Head<'a>,
    /// Which endpoint it is for, or why for none (404, 405, or 400 for its query);
    /// the connection stays usable in either case.
    pub route: Result<Route, Problem>,
    /// Its body; empty without one.
    pub body: &'a [u8],
    /// How much of a body is to come piece by piece (see [`Conn::piece`]); `None` where `body` is all.
    pub streamed: Option<Left>,
}

/// How much of a body was not taken yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// So many bytes, received or not.
    Bytes(usize),
    /// Unknown: it is chunked, and the last chunk has not come.
    Unknown,
}

/// One connection's reading side. Owns at most one buffer of
/// [`crate::http::limits::conn_buffer_bytes_max`] bytes, and none while idle if
/// [`Conn::shrink`] is called.
#[derive(Debug)]
pub struct Conn {
    listener: Listener,
    /// All of it is initialised; `start..end` has been filled and not consumed.
    buf: Vec<u8>,
    start: usize,
    end: usize,
    stage: Stage,
    /// When bytes last came in.
    now_ms: u64,
    /// When the present wait began: for a head, a body, or anything at all.
    since_ms: u64,
    /// How long the client may be idle, in milliseconds.
    idle_ms: u32,
    /// Longest head, in bytes.
    head_bytes: u32,
    awaits_continue: bool,
    /// The client itself asked to close, and has sent nothing behind that.
    asked_to_close: bool,
}

#[derive(Debug)]
enum Stage {
    /// A head is awaited, or is coming in.
    Head(Scan),
    /// The head is valid; the whole request has `total` bytes.
    Body { located: Located, total: usize },
    /// The head is valid; the body is chunked. What was decoded of it lies behind the head.
    Chunked(Box<Chunked>),
    /// A request of so many bytes was returned.
    Given { total: usize },
    /// The head of a batch was returned; its body follows.
    Begun { head_len: usize, rest: Rest, closes: bool },
    /// The body of a batch is read piece by piece.
    Stream { rest: Rest, closes: bool },
    /// Nothing more is read.
    Done,
}

/// A request with a chunked body; boxed, so that an idle connection does not pay for it.
#[derive(Debug)]
struct Chunked {
    located: Located,
    chunks: Chunks,
}

/// What was not taken yet of the body of a batch.
#[derive(Debug)]
enum Rest {
    /// So many bytes, received or not.
    Bytes(usize),
    /// Chunked.
    Chunks(Box<Unpacked>),
}

/// A chunked body that is decoded as it comes; what is decoded lies at the front of the buffer.
#[derive(Debug)]
struct Unpacked {
    chunks: Chunks,
    /// Decoded bytes that nobody has taken yet.
    ready: usize,
    /// Why nothing can be decoded after those.
    broken: Option<Problem>,
}

impl Rest {
    /// A body of at most `bytes_max` bytes, of which nothing has come.
    fn chunked(bytes_max: usize) -> Self {
        Self::Chunks(Box::new(Unpacked { chunks: Chunks::new(bytes_max), ready: 0, broken: None }))
    }

    const fn left(&self) -> Left {
        match self {
            Self::Bytes(left) => Left::Bytes(*left),
            Self::Chunks(body) if body.chunks.is_over() => Left::Bytes(body.ready),
            Self::Chunks(_) => Left::Unknown,
        }
    }
}

impl Unpacked {
    /// Decodes what came of the chunks after the `ready` bytes; returns how many bytes that
    /// leaves: body, and after the last chunk whatever follows it.
    fn unpack(&mut self, bytes: &mut [u8]) -> usize {
        if self.broken.is_some() {
            return self.ready;
        }
        let (from, end) = (self.ready, bytes.len());
        let Taken { taken, kept, broken } = self.chunks.take(&mut bytes[from..]);
        self.ready += kept;
        self.broken = broken;
        if broken.is_some() {
            return self.ready;
        }
        bytes.copy_within(from + taken..end, from + kept);
        end - (taken - kept)
    }
}

/// A complete head.
#[derive(Clone, Debug)]
struct Located {
    line: Line,
    /// Length of the request line, its line end included.
    line_len: usize,
    head_len: usize,
}

/// How far a head has been scanned, relative to its first byte.
#[derive(Debug, Default)]
struct Scan {
    /// An empty line before the request line was skipped.
    skipped_line: bool,
    /// Some bytes of the head have come, so that its deadline runs.
    begun: bool,
    at: usize,
    line_at: usize,
    /// The request line and its length with the line end.
    line: Option<(Line, usize)>,
}

impl Conn {
    /// A connection that was accepted at `now_ms` (monotonic milliseconds, as all times here).
    pub const fn new(listener: Listener, now_ms: u64) -> Self {
        let stage = Stage::Head(Scan { skipped_line: false, begun: false, at: 0, line_at: 0, line: None });
        Self {
            listener,
            buf: Vec::new(),
            start: 0,
            end: 0,
            stage,
            now_ms,
            since_ms: now_ms,
            idle_ms: IDLE_MS as u32,
            head_bytes: HEAD_BYTES as u32,
            awaits_continue: false,
            asked_to_close: false,
        }
    }

    /// The same, for a client that may be idle for so many milliseconds.
    #[must_use]
    pub const fn with_idle_ms(mut self, idle_ms: u32) -> Self {
        self.idle_ms = idle_ms;
        self
    }

    /// The same, for a client whose heads may have so many bytes, at most
    /// [`HEAD_BYTES_MAX`].
    #[must_use]
    pub const fn with_head_bytes(mut self, head_bytes: u32) -> Self {
        assert!(head_bytes as usize <= HEAD_BYTES_MAX, "places in a head are kept in 16 bits");
        self.head_bytes = head_bytes;
        self
    }

    /// The listener that accepted it.
    pub const fn listener(&self) -> Listener {
        self.listener
    }

    /// Room to read into; tell [`Conn::filled`] how much of it was used.
    ///
    /// Never empty after `next` has answered `NeedMore`. Allocates only when the
    /// buffer has to grow, or was given back.
    pub fn space(&mut self) -> &mut [u8] {
        self.consume();
        // Of a batch at most the beginning of a record is left: each read gets the whole buffer.
        if self.end == self.buf.len() || self.is_streaming() {
            self.make_room();
        }
        &mut self.buf[self.end..]
    }

    /// Notes that the first `len` bytes of [`Conn::space`] were filled at `now_ms`.
    ///
    /// # Panics
    /// When `len` is more than the space.
    pub fn filled(&mut self, len: usize, now_ms: u64) {
        assert!(len <= self.buf.len() - self.end, "more bytes than there was space");
        self.now_ms = now_ms;
        // The client did not wait, or waits no longer: the head is whole, so these are of the body.
        self.awaits_continue &= len == 0;
        if self.is_finished() {
            self.asked_to_close &= len == 0;
        } else {
            self.end += len;
        }
    }

    /// Copies bytes in, and returns how many were taken: at least one after `next` has
    /// answered `NeedMore`, and all of them once the connection [`Conn::is_finished`].
    pub fn feed(&mut self, bytes: &[u8], now_ms: u64) -> usize {
        if self.is_finished() {
            self.asked_to_close &= bytes.is_empty();
            return bytes.len();
        }
        let space = self.space();
        let len = space.len().min(bytes.len());
        space[..len].copy_from_slice(&bytes[..len]);
        self.filled(len, now_ms);
        len
    }

    /// The next complete request, if there is one. Consumes the one before.
    #[expect(clippy::should_implement_trait, reason = "it lends from the connection, which Iterator cannot")]
    pub fn next(&mut self) -> Next<'_> {
        self.consume();
        if let Err(problem) = self.end_stream() {
            return Next::Reject(problem);
        }
        let mut found = Found::new();
        match self.find(&mut found) {
            Ok(true) => {}
            Ok(false) => return Next::NeedMore,
            Err(problem) => return Next::Reject(problem),
        }
        let head_len = found.head_len;
        if found.length == Length::Chunked && !matches!(self.stage, Stage::Chunked(_)) {
            match self.begin_chunks(&found) {
                Ok(true) => {}
                Ok(false) => return Next::NeedMore,
                Err(problem) => return Next::Reject(problem),
            }
        }
        let head = found.head(&self.buf[self.start..self.start + head_len]);
        let resource = Resource::find(self.listener, head.path);
        let body_len = match &self.stage {
            Stage::Chunked(body) => Ok(body.chunks.len()),
            _ => body_len(&head, found.length, resource.as_ref()),
        };
        let body_len = match body_len {
            Ok(len) => len,
            Err(problem) => {
                self.stage = Stage::Done;
                return Next::Reject(problem);
            }
        };
        let come = self.end - self.start - head_len;
        let rest = resource.as_ref().filter(|resource| resource.is_batch(head.method)).map(|resource| {
            match found.length {
                Length::Chunked => Rest::chunked(resource.body_bytes_max(head.method)),
                Length::Absent | Length::Bytes(_) => Rest::Bytes(body_len),
            }
        });
        let streamed = rest.as_ref().map(Rest::left);
        let follows = streamed.map_or(body_len > 0, |left| left != Left::Bytes(0));
        self.awaits_continue = head.expects_continue && follows && come == 0;
        if let Some(rest) = rest {
            self.since_ms = self.now_ms;
            self.stage = Stage::Begun { head_len, rest, closes: head.response_mode().closes() };
        } else if come < body_len {
            self.since_ms = self.now_ms;
            let located = Located { line: found.line, line_len: found.line_len, head_len };
            self.stage = Stage::Body { located, total: head_len + body_len };
            return Next::NeedMore;
        } else {
            let total = head_len + body_len;
            let closes = head.response_mode().closes();
            self.awaits_continue = false;
            self.asked_to_close = closes && come == body_len;
            self.stage = if closes { Stage::Done } else { Stage::Given { total } };
        }
        let route = Route::at(resource, &head);
        let body_at = self.start + head_len;
        let body = if streamed.is_some() { &[] } else { &self.buf[body_at..body_at + body_len] };
        Next::Request(Request { head, route, body, streamed })
    }

    /// What was received of the body of a batch and not taken; empty for any other request. The request
    /// ends with the following call to `next`, not before: until then only [`Conn::finish`] cuts it off.
    pub fn piece(&mut self) -> &[u8] {
        self.consume();
        let come = self.end - self.start;
        let len = match &self.stage {
            Stage::Stream { rest: Rest::Bytes(left), .. } => come.min(*left),
            Stage::Stream { rest: Rest::Chunks(body), .. } => body.ready,
            _ => 0,
        };
        &self.buf[self.start..self.start + len]
    }

    /// Takes `len` bytes off the front of [`Conn::piece`].
    ///
    /// # Panics
    /// When that many have not come.
    pub fn take(&mut self, len: usize) {
        let come = self.piece().len();
        assert!(len <= come, "more taken than has come");
        if let Stage::Stream { rest, .. } = &mut self.stage {
            match rest {
                Rest::Bytes(left) => *left -= len,
                Rest::Chunks(body) => body.ready -= len,
            }
            self.start += len;
        }
    }

    /// How much of a batch's body was not taken yet; nothing for any other request.
    pub fn left(&mut self) -> Left {
        self.consume();
        match &self.stage {
            Stage::Stream { rest, .. } => rest.left(),
            _ => Left::Bytes(0),
        }
    }

    /// Why nothing comes after the [`Conn::piece`] of a chunked batch: the chunks are malformed, or hold
    /// too much. Respond with this once the piece is taken, and close.
    pub fn broken(&mut self) -> Option<Problem> {
        self.consume();
        match &self.stage {
            Stage::Stream { rest: Rest::Chunks(body), .. } => body.broken,
            _ => None,
        }
    }

    /// Whether the body of a batch is being read.
    pub const fn is_streaming(&self) -> bool {
        matches!(&self.stage, Stage::Begun { .. } | Stage::Stream { .. })
    }

    /// Ends a batch whose body was taken, and discards what has come of one that nobody takes. An
    /// error ends what is read.
    fn end_stream(&mut self) -> Result<(), Problem> {
        let come = self.piece().len();
        self.take(come);
        if let Some(problem) = self.broken() {
            self.stage = Stage::Done;
            return Err(problem);
        }
        if let Stage::Stream { rest, closes } = &self.stage
            && rest.left() == Left::Bytes(0)
        {
            self.since_ms = self.now_ms;
            self.stage = if *closes { Stage::Done } else { Stage::Head(Scan::default()) };
            self.consume();
        }
        Ok(())
    }

    /// When the present wait is over, in monotonic milliseconds: then close without
    /// an answer, unless answers are still owed.
    pub const fn deadline_ms(&self) -> u64 {
        let patience_ms = match &self.stage {
            Stage::Head(scan) if scan.begun => HEAD_MS_MAX,
            Stage::Body { .. } | Stage::Chunked(_) => BODY_MS_MAX,
            Stage::Begun { .. } | Stage::Stream { .. } => BATCH_MS_MAX,
            Stage::Head(_) | Stage::Given { .. } | Stage::Done => self.idle_ms as u64 + IDLE_GRACE_MS,
        };
        self.since_ms.saturating_add(patience_ms)
    }

    /// Notes that a response was written, so that the present wait begins anew:
    /// the time that the server took does not count against the client.
    pub const fn answered(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.since_ms = now_ms;
    }

    /// Whether no further request will come: answer what is owed, then close.
    /// What is still read is thrown away.
    pub const fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Whether the client itself asked to close, and nothing came behind that: then the connection
    /// can be closed without waiting for the client to do so. After anything else what is still
    /// under way has to be read first, or a reset would overtake the last answer (RFC 9112 section 9.6).
    pub const fn may_close_at_once(&self) -> bool {
        self.asked_to_close
    }

    /// Reads no further request: the server is shutting down.
    pub fn finish(&mut self) {
        self.stage = Stage::Done;
        (self.start, self.end) = (0, 0);
    }

    /// Whether part of a request has come in: closing now cuts it off.
    pub const fn is_mid_request(&self) -> bool {
        match &self.stage {
            Stage::Head(scan) => scan.begun,
            Stage::Body { .. } | Stage::Chunked(_) | Stage::Begun { .. } | Stage::Stream { .. } => true,
            Stage::Given { .. } | Stage::Done => false,
        }
    }

    /// True once when the client waits for [`crate::http::answer::CONTINUE`] before it sends
    /// its body (RFC 9110 section 10.1.1) and no earlier answer is owed: write it behind those
    /// (answers stand in the order of requests, interim ones too). While one is owed the client
    /// goes on waiting.
    pub const fn take_continue(&mut self, owes: bool) -> bool {
        let due = self.awaits_continue && !owes && !self.is_finished();
        if due {
            self.awaits_continue = false;
        }
        due
    }

    /// Gives the buffer back if nothing is in it. The next `space` allocates it again.
    pub fn shrink(&mut self) {
        self.consume();
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.buf = Vec::new();
        }
    }

    /// Gives a connection that has no buffer one that [`Conn::take_buffer`] took from another;
    /// returns it if it has one.
    pub fn put_buffer(&mut self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        if self.buf.is_empty() {
            self.buf = buffer;
            return None;
        }
        Some(buffer)
    }

    /// Takes the buffer away if nothing is in it; all of it is initialised.
    pub fn take_buffer(&mut self) -> Option<Vec<u8>> {
        self.consume();
        let is_unused = self.start == self.end && !self.buf.is_empty();
        is_unused.then(|| {
            (self.start, self.end) = (0, 0);
            std::mem::take(&mut self.buf)
        })
    }

    /// The size of the connection's buffer in bytes.
    pub const fn buffer_bytes(&self) -> usize {
        self.buf.capacity()
    }

    fn consume(&mut self) {
        match &mut self.stage {
            Stage::Given { total } => {
                self.start += *total;
                self.since_ms = self.now_ms;
                self.stage = Stage::Head(Scan::default());
            }
            Stage::Begun { head_len, rest, closes } => {
                self.start += *head_len;
                let rest = std::mem::replace(rest, Rest::Bytes(0));
                self.stage = Stage::Stream { rest, closes: *closes };
                self.unpack();
            }
            Stage::Stream { .. } => self.unpack(),
            Stage::Done => self.start = self.end,
            Stage::Head(_) | Stage::Body { .. } | Stage::Chunked(_) => {}
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buf.len() > CONN_BUFFER_BYTES && !self.is_streaming() {
                self.buf = Vec::new();
            }
        }
    }

    /// Decodes what came of a batch's chunks.
    fn unpack(&mut self) {
        if let Stage::Stream { rest: Rest::Chunks(body), .. } = &mut self.stage {
            self.end = self.start + body.unpack(&mut self.buf[self.start..self.end]);
        }
    }

    /// Moves what is buffered to the front; if it is there already, grows the buffer
    /// towards what the request in it may need.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if !self.is_streaming() {
                return;
            }
        }
        let len = match &self.stage {
            Stage::Begun { .. } | Stage::Stream { .. } => BATCH_BUFFER_BYTES,
            Stage::Body { total, .. } => (self.buf.len() * 2).min(*total).max(CONN_BUFFER_BYTES),
            Stage::Chunked(_) => {
                (self.buf.len() * 2).clamp(CONN_BUFFER_BYTES, conn_buffer_bytes_max(self.head_bytes as usize))
            }
            _ => (self.buf.len() * 2).clamp(CONN_BUFFER_BYTES, self.head_bytes as usize),
        };
        if len > self.buf.len() {
            self.buf.reserve_exact(len - self.buf.len());
            self.buf.resize(len, 0);
        }
    }

    /// Finds a head and what it says, at once if it is there as a whole; returns whether there is
    /// one. An error ends what is read.
    fn find(&mut self, found: &mut Found) -> Result<bool, Problem> {
        let is_untouched = matches!(&self.stage, Stage::Head(scan) if scan.at == 0);
        if is_untouched
            && found.parse_common(&self.buf[self.start..self.end], self.head_bytes as usize).is_some()
        {
            return Ok(true);
        }
        if !self.take_chunks()? {
            return Ok(false);
        }
        let located = self.locate().inspect_err(|_| self.stage = Stage::Done)?;
        let Some(Located { line, line_len, head_len }) = located else { return Ok(false) };
        let bytes = &self.buf[self.start..self.start + head_len];
        match Found::parse(bytes, line, line_len) {
            Ok(parsed) => *found = parsed,
            Err(problem) => {
                self.stage = Stage::Done;
                return Err(problem);
            }
        }
        Ok(true)
    }

    /// A head has ended whose body comes in chunks; returns whether all of them are there, or are to be
    /// taken piece by piece. An error ends what is read.
    fn begin_chunks(&mut self, found: &Found) -> Result<bool, Problem> {
        let head = found.head(&self.buf[self.start..self.start + found.head_len]);
        let resource = Resource::find(self.listener, head.path);
        let come = self.end - self.start - found.head_len;
        if resource.as_ref().is_some_and(|resource| resource.is_batch(head.method)) {
            return Ok(true);
        }
        let bytes_max = resource.map_or(BODY_BYTES_MAX, |resource| resource.body_bytes_max(head.method));
        let chunks = Chunks::new(if head.method.has_body() { bytes_max } else { 0 });
        self.since_ms = self.now_ms;
        self.awaits_continue = head.expects_continue && come == 0;
        let located =
            Located { line: found.line.clone(), line_len: found.line_len, head_len: found.head_len };
        self.stage = Stage::Chunked(Box::new(Chunked { located, chunks }));
        self.take_chunks()
    }

    /// Takes the body out of what has come of its chunks; returns whether all of them are there, or
    /// there are none. What is behind the last one then follows the body. An error ends what is read.
    fn take_chunks(&mut self) -> Result<bool, Problem> {
        let Stage::Chunked(body) = &mut self.stage else { return Ok(true) };
        let Chunked { located, chunks } = &mut **body;
        let from = self.start + located.head_len + chunks.len();
        let Taken { taken, kept, broken } = chunks.take(&mut self.buf[from..self.end]);
        let is_over = chunks.is_over();
        if let Some(problem) = broken {
            self.stage = Stage::Done;
            return Err(problem);
        }
        self.buf.copy_within(from + taken..self.end, from + kept);
        self.end -= taken - kept;
        Ok(is_over)
    }

    /// Finds a head whose request may be complete: one that has just ended, or one
    /// whose whole body has come.
    fn locate(&mut self) -> Result<Option<Located>, Problem> {
        match &mut self.stage {
            Stage::Body { located, total } => Ok((*total <= self.end - self.start).then(|| located.clone())),
            Stage::Chunked(body) => Ok(Some(body.located.clone())),
            Stage::Given { .. } | Stage::Begun { .. } | Stage::Stream { .. } | Stage::Done => Ok(None),
            Stage::Head(scan) => {
                match scan.empty_line_len(&self.buf[self.start..self.end])? {
                    Some(len) => self.start += len,
                    None => return Ok(None),
                }
                if !scan.begun && self.start < self.end {
                    scan.begun = true;
                    self.since_ms = self.now_ms;
                }
                scan.find_end(&self.buf[self.start..self.end], self.head_bytes as usize)
            }
        }
    }
}

impl Scan {
    /// The length of an empty line before the request line; `None` while it cannot be
    /// told. One is skipped, not two (RFC 9112 section 2.2).
    fn empty_line_len(&mut self, bytes: &[u8]) -> Result<Option<usize>, Problem> {
        match bytes {
            [b'\r', b'\n', ..] if !self.skipped_line => {
                self.skipped_line = true;
                match bytes.get(2) {
                    Some(first) if !is_token(*first) => Err(NO_REQUEST_LINE),
                    _ => Ok(Some(2)),
                }
            }
            [b'\r'] if !self.skipped_line => Ok(None),
            [first, ..] if !is_token(*first) => Err(NO_REQUEST_LINE),
            _ => Ok(Some(0)),
        }
    }

    /// Scans what is new of the head, line by line.
    fn find_end(&mut self, bytes: &[u8], head_bytes: usize) -> Result<Option<Located>, Problem> {
        let window = &bytes[..bytes.len().min(head_bytes)];
        let from = self.at;
        for offset in memchr::memchr_iter(b'\n', &window[from..]) {
            let lf = from + offset;
            if let Some(located) = self.take_line(window, lf)? {
                return Ok(Some(located));
            }
            self.line_at = lf + 1;
            self.at = lf + 1;
        }
        self.at = window.len();
        if self.line.is_none() && window.len() >= REQUEST_LINE_BYTES_MAX {
            return Err(line::endless(window));
        }
        if window.len() == head_bytes {
            return Err(Code::HeadersTooLarge.problem());
        }
        Ok(None)
    }

    /// One line, which ends with the line feed at `lf`.
    fn take_line(&mut self, window: &[u8], lf: usize) -> Result<Option<Located>, Problem> {
        if self.line.is_none() && lf >= REQUEST_LINE_BYTES_MAX {
            return Err(line::endless(window));
        }
        let bare = lf == self.line_at || window[lf - 1] != b'\r';
        if bare {
            return Err(malformed("a line feed without a carriage return"));
        }
        let content = &window[self.line_at..if bare { lf } else { lf - 1 }];
        match &self.line {
            None => self.line = Some((Line::parse(content)?, lf + 1)),
            Some((line, line_len)) if content.is_empty() => {
                return Ok(Some(Located { line: line.clone(), line_len: *line_len, head_len: lf + 1 }));
            }
            Some(_) => {}
        }
        Ok(None)
    }
}

const NO_REQUEST_LINE: Problem = malformed("the request line is malformed");

/// How many bytes of body belong to the request: decided from the head alone.
fn body_len(head: &Head<'_>, length: Length, resource: Option<&Resource>) -> Result<usize, Problem> {
    let bytes_max = resource.map_or(BODY_BYTES_MAX, |resource| resource.body_bytes_max(head.method));
    match length {
        Length::Absent | Length::Chunked => Ok(0),
        Length::Bytes(len) if len > 0 && !head.method.has_body() => {
            Err(malformed("a body where none can be"))
        }
        Length::Bytes(len) if len > bytes_max as u64 => Err(Code::BodyTooLarge.problem()),
        Length::Bytes(len) => Ok(len as usize),
    }
}

const fn malformed(detail: &'static str) -> Problem {
    Problem::new(Code::BadRequest).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::{Conn, Listener, Next, Stage};

    /// What was looked at is not looked at again, or a slow client could make the
    /// work grow with the square of the head.
    #[test]
    fn no_byte_of_a_head_is_scanned_twice() {
        let mut conn = Conn::new(Listener::Public, 0);
        let head = b"GET /v1/time HTTP/1.1\r\nHost: a\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n\r";
        for (index, byte) in head.iter().enumerate() {
            conn.feed(&[*byte], 0);
            assert!(matches!(conn.next(), Next::NeedMore));
            let Stage::Head(scan) = &conn.stage else { panic!("the head is not over") };
            assert_eq!(scan.at, index + 1);
        }
    }
}
