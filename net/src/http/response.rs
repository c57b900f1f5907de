//! Writes a response: the head, then the body, whose length is counted.
//!
//! It cannot begin without a cache policy ([`Cache`]), and no byte that came from outside reaches its
//! head. Next: [`crate::http::answer`] for the contents.

use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use stampede_core::types::{Lsn, OrderId};

use crate::http::limits::IDLE_MS;
use crate::http::status::Status;

/// Bytes of a `Date` line with its line end.
const DATE_BYTES: usize = 37;
/// Most bytes of a `Keep-Alive` line with its line end.
const KEEP_ALIVE_BYTES_MAX: usize = "Keep-Alive: timeout=4294967295\r\n".len();

/// The header lines that all responses of a second share: `Date`, and, where the connection stays,
/// `Keep-Alive` with how long a client may leave it unused. Render it once per second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Date {
    lines: [u8; DATE_BYTES + KEEP_ALIVE_BYTES_MAX],
    len: usize,
}

impl Date {
    /// The lines at a time in Unix seconds, where an unused connection is kept for `idle_s` seconds.
    ///
    /// Times beyond the year 9999 give the last one that there is.
    pub fn new(unix_s: u64, idle_s: u32) -> Self {
        const LAST_UNIX_S: u64 = 253_402_300_799;
        let time = UNIX_EPOCH + Duration::from_secs(unix_s.min(LAST_UNIX_S));
        let mut lines = [0; DATE_BYTES + KEEP_ALIVE_BYTES_MAX];
        let mut rest = &mut lines[..];
        let date = httpdate::HttpDate::from(time);
        let written = write!(rest, "Date: {date}\r\nKeep-Alive: timeout={idle_s}\r\n");
        debug_assert!(written.is_ok(), "an HTTP date has 29 bytes");
        let len = DATE_BYTES + KEEP_ALIVE_BYTES_MAX - rest.len();
        Self { lines, len }
    }

    /// The lines of a response after which the connection is treated this way.
    fn lines(&self, keep_alive: KeepAlive) -> &[u8] {
        match keep_alive {
            KeepAlive::Keep | KeepAlive::KeepSaid => &self.lines[..self.len],
            KeepAlive::Close => &self.lines[..DATE_BYTES],
        }
    }
}

/// The lines at a time in Unix seconds, where an unused connection is kept as long as is usual.
pub fn date_line(unix_s: u64) -> Date {
    Date::new(unix_s, (IDLE_MS / 1_000) as u32)
}

/// Who may cache a response, and for how long. A cache keeps a response without a policy for as long as it
/// likes: so every response has one, which the types enforce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cache {
    /// Nobody: it belongs to one reader or to one moment.
    Never,
    /// Everybody, for a second: items and draws, which pages of other origins may read.
    Read,
    /// Everybody, for a minute: a draw that is over.
    ReadLong,
    /// Everybody, for a second: a page for browsers.
    Page,
    /// Everybody, for a day: what may change under its name.
    File,
    /// Everybody, for ever: what is named by its content.
    FileForEver,
}

impl Cache {
    /// Its lines: `Cache-Control`, and where the response may be cached, `Vary` with what it depends on.
    pub const fn lines(self) -> &'static str {
        match self {
            Self::Never => "Cache-Control: no-store\r\n",
            Self::Read => "Cache-Control: max-age=1\r\nVary: Origin\r\n",
            Self::ReadLong => "Cache-Control: max-age=60\r\nVary: Origin\r\n",
            Self::Page => "Cache-Control: public, max-age=1\r\nVary: Accept-Language, Accept-Encoding\r\n",
            Self::File => "Cache-Control: public, max-age=86400\r\nVary: Accept-Encoding\r\n",
            Self::FileForEver => {
                "Cache-Control: public, max-age=31536000, immutable\r\nVary: Accept-Encoding\r\n"
            }
        }
    }
}

/// The CORS headers of a response that a page of another origin may read; see
/// [`crate::identity::cors`].
#[derive(PartialEq, Eq, Debug)]
pub struct Cors {
    /// Whole header lines with their line ends.
    pub lines: String,
}

/// What happens to the connection after a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeepAlive {
    /// It stays open, which is the default of HTTP/1.1.
    Keep,
    /// It stays open, which has to be said in HTTP/1.0.
    KeepSaid,
    /// It is closed.
    Close,
}

/// How a response is to be written; it depends only on the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponseMode {
    /// What happens to the connection.
    pub keep_alive: KeepAlive,
    /// The request was a HEAD: the same head, no body.
    pub bodiless: bool,
    /// The CORS headers, if a page of another origin sent the request and may read the response.
    pub cors: Option<&'static Cors>,
}

impl ResponseMode {
    /// An ordinary response on a connection that stays open.
    pub const KEEP: Self = Self { keep_alive: KeepAlive::Keep, bodiless: false, cors: None };
    /// A response after which the connection is closed.
    pub const CLOSE: Self = Self { keep_alive: KeepAlive::Close, bodiless: false, cors: None };

    /// The same, closing the connection.
    pub const fn closing(self) -> Self {
        Self { keep_alive: KeepAlive::Close, ..self }
    }
    /// Whether the connection is to be closed.
    pub const fn closes(self) -> bool {
        matches!(self.keep_alive, KeepAlive::Close)
    }
}

/// The type of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Media {
    /// `application/json`
    Json,
    /// `application/problem+json` (RFC 9457)
    Problem,
    /// `text/plain; charset=utf-8`
    Plain,
    /// The Prometheus text format.
    Metrics,
    /// `text/html; charset=utf-8`
    Html,
    /// `text/css; charset=utf-8`
    Css,
    /// `text/javascript; charset=utf-8`
    Script,
    /// `image/svg+xml`
    Svg,
    /// `application/x-ndjson`
    Lines,
    /// `application/vnd.stampede.batch`
    Batch,
}

impl Media {
    const fn line(self) -> &'static str {
        match self {
            Self::Json => "Content-Type: application/json\r\n",
            Self::Problem => "Content-Type: application/problem+json\r\n",
            Self::Plain => "Content-Type: text/plain; charset=utf-8\r\n",
            Self::Metrics => "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n",
            Self::Html => "Content-Type: text/html; charset=utf-8\r\n",
            Self::Css => "Content-Type: text/css; charset=utf-8\r\n",
            Self::Script => "Content-Type: text/javascript; charset=utf-8\r\n",
            Self::Svg => "Content-Type: image/svg+xml\r\n",
            Self::Lines => "Content-Type: application/x-ndjson\r\n",
            Self::Batch => "Content-Type: application/vnd.stampede.batch\r\n",
        }
    }
}

/// A response that is being written; incomplete until its body is.
#[must_use = "a response needs its body, or the word that it has none"]
#[derive(Debug)]
pub struct Answer<'o> {
    out: &'o mut Vec<u8>,
    mode: ResponseMode,
}

impl<'o> Answer<'o> {
    /// Begins with the status, the date, what happens to the connection, and who may cache it.
    pub fn begin(
        out: &'o mut Vec<u8>,
        status: Status,
        cache: Cache,
        mode: ResponseMode,
        date: &Date,
    ) -> Self {
        begin_shared(out, status, mode, date);
        match mode.keep_alive {
            KeepAlive::Keep => {}
            KeepAlive::KeepSaid => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            KeepAlive::Close => out.extend_from_slice(b"Connection: close\r\n"),
        }
        out.extend_from_slice(cache.lines().as_bytes());
        Self { out, mode }
    }

    /// A header with a constant value.
    pub fn header(self, name: &'static str, value: &'static str) -> Self {
        self.push(&[name, ": ", value, "\r\n"])
    }

    /// A header whose value is a number.
    pub fn header_number(self, name: &'static str, value: u64) -> Self {
        let mut digits = itoa::Buffer::new();
        self.push(&[name, ": ", digits.format(value), "\r\n"])
    }

    /// A weak entity tag, if there is one; with its quotes.
    pub fn weak_tag(self, tag: Option<&str>) -> Self {
        match tag {
            Some(tag) => self.push(&["ETag: W/", tag, "\r\n"]),
            None => self,
        }
    }

    /// A strong entity tag: the LSN of the last fact that changed the resource.
    pub fn tag(self, lsn: Lsn) -> Self {
        let mut digits = itoa::Buffer::new();
        self.push(&["ETag: \"", digits.format(lsn.0), "\"\r\n"])
    }

    /// `Location: /v1/orders/{id}`
    pub fn location(self, order: OrderId) -> Self {
        let mut digits = itoa::Buffer::new();
        self.push(&["Location: /v1/orders/", digits.format(order.get()), "\r\n"])
    }

    /// Ends the head and lets `fill` append the body, whose length is put in afterwards.
    pub fn body(self, media: Media, fill: impl FnOnce(&mut Vec<u8>)) {
        const ROOM: &str = "                    ";
        let Self { out, mode } = self.push(&[media.line(), "Content-Length: ", ROOM, "\r\n\r\n"]);
        let body_at = out.len();
        fill(out);
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(out.len() - body_at).as_bytes();
        if mode.bodiless {
            out.truncate(body_at);
        }
        let room_at = body_at - ROOM.len() - 4;
        out[room_at..room_at + digits.len()].copy_from_slice(digits);
        out.copy_within(room_at + ROOM.len().., room_at + digits.len());
        out.truncate(out.len() - ROOM.len() + digits.len());
    }

    /// Ends the head of a body of so many bytes, which the caller writes.
    pub fn body_follows(self, media: Media, len: usize) {
        let mut digits = itoa::Buffer::new();
        let _written = self.push(&[media.line(), "Content-Length: ", digits.format(len), "\r\n\r\n"]);
    }

    /// Ends a response that by its status has no body (204, 304).
    pub fn no_body(self) {
        self.out.extend_from_slice(b"\r\n");
    }

    pub(crate) fn push(self, parts: &[&str]) -> Self {
        for part in parts {
            self.out.extend_from_slice(part.as_bytes());
        }
        self
    }
}

/// Appends the header lines that differ from request to request in responses that are the same otherwise.
pub(crate) fn begin_shared(out: &mut Vec<u8>, status: Status, mode: ResponseMode, date: &Date) {
    out.extend_from_slice(status.line().as_bytes());
    out.extend_from_slice(date.lines(mode.keep_alive));
    if let Some(cors) = mode.cors {
        out.extend_from_slice(cors.lines.as_bytes());
    }
}
