//! What a request says about itself: the header fields that the server knows.
//!
//! A field is kept as the bytes that came, borrowed from the connection; what
//! this server does not know is skipped unread. The framing rules (RFC 9112
//! sections 3.2, 6 and 7) are enforced here and nowhere else: whatever
//! [`Found::parse`] refuses has to end the connection. Next: [`crate::http::conn`].

use std::ops::Range;

use crate::http::answer::{KeepAlive, ResponseMode};
use crate::http::chars::{decimal, find, is_token, text_len};
use crate::http::field::{Field, Fields, Name};
use crate::http::limits::{HEADERS_MAX, REQUEST_LINE_BYTES_MAX};
use crate::http::line::{Line, Method, Version, is_authority};
use crate::http::problem::{Code, Problem};
use stampede_core::limits::IDEMPOTENCY_KEY_BYTES_MAX;

/// The head of a request whose framing is valid.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    bytes: &'a [u8],
    /// The method.
    pub method: Method,
    /// The HTTP version.
    pub version: Version,
    /// What happens to the connection after the response.
    pub keep_alive: KeepAlive,
    /// Whether `Prefer` lists `respond-async` (RFC 7240).
    pub prefers_async: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The path as it came, never normalised; `*` for a server-wide OPTIONS.
    pub path: &'a str,
    /// What stands behind the question mark, of any bytes but spaces and controls; `None` without one.
    pub query: Option<&'a [u8]>,
    /// The host that a target in absolute form names; empty = the target was none.
    authority: &'a [u8],
    fields: Fields,
}

impl<'a> Head<'a> {
    /// A header field as it came.
    pub fn field(&self, name: Name) -> Field<'a> {
        self.fields.get(name, self.bytes)
    }

    /// The values of all lines with this name, in any case, the last line first. Scans the whole
    /// head: for fields that are rarely needed.
    pub(crate) fn values_from_last(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let lines =
            self.bytes.iter().position(|&byte| byte == b'\n').map_or(&[][..], |at| &self.bytes[at + 1..]);
        lines.rsplit(|&byte| byte == b'\n').filter_map(move |line| {
            let at = line.iter().position(|&byte| byte == b':')?;
            line[..at].eq_ignore_ascii_case(name.as_bytes()).then(|| line[at + 1..].trim_ascii())
        })
    }

    /// The host that is asked, with its port if it was said: the target's own, which counts before
    /// `Host` (RFC 9112 section 3.2.2).
    pub fn host(&self) -> Option<&'a [u8]> {
        if self.authority.is_empty() { self.field(Name::Host).once() } else { Some(self.authority) }
    }

    /// How the response has to be written.
    pub const fn response_mode(&self) -> ResponseMode {
        ResponseMode {
            keep_alive: self.keep_alive,
            bodiless: matches!(self.method, Method::Head),
            cors: None,
        }
    }

    /// The idempotency key: 1 to 255 visible characters, bare or in double quotes
    /// (which do not belong to it; within them neither quote nor backslash).
    ///
    /// # Errors
    /// `bad_header` when it is anything else, or repeated.
    pub fn idempotency_key(&self) -> Result<Option<&'a [u8]>, Problem> {
        const BAD: Problem =
            Problem::new(Code::BadHeader).detail("Idempotency-Key: 1 to 255 visible characters, once");
        let value = match self.field(Name::IdempotencyKey) {
            Field::Absent => return Ok(None),
            Field::Once(value) => value,
            Field::Repeated(_) => return Err(BAD),
        };
        let key = match value {
            [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => inner,
            _ => value,
        };
        let fits = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len());
        let is_visible = text_len(key) == key.len() && find(b' ', key).is_none();
        if fits && is_visible && find(b'"', key).is_none() { Ok(Some(key)) } else { Err(BAD) }
    }
}

/// What a head says, as offsets into its bytes. Filled and read in place: it is too large
/// to be passed on by value for every request.
#[derive(Debug)]
pub(crate) struct Found {
    /// The request line.
    pub(crate) line: Line,
    /// Length of the request line in bytes, its line end included.
    pub(crate) line_len: usize,
    /// Length of the head in bytes, the empty line included.
    pub(crate) head_len: usize,
    /// What it says of the body.
    pub(crate) length: Length,
    keep_alive: KeepAlive,
    prefers_async: bool,
    asks_close: bool,
    asks_keep: bool,
    expects_continue: bool,
    fields: Fields,
}

impl Found {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self {
            line: Line::NONE,
            line_len: 0,
            head_len: 0,
            length: Length::Absent,
            keep_alive: KeepAlive::Close,
            prefers_async: false,
            asks_close: false,
            asks_keep: false,
            expects_continue: false,
            fields: Fields::NONE,
        }
    }

    /// The head, in the bytes that it was found in.
    #[inline]
    pub(crate) fn head<'a>(&self, bytes: &'a [u8]) -> Head<'a> {
        let target = part(bytes, &self.line.path_and_query);
        let (path, query) = match find(b'?', target) {
            Some(at) => (&target[..at], Some(&target[at + 1..])),
            None => (target, None),
        };
        let path = text(path);
        Head {
            bytes,
            method: self.line.method,
            version: self.line.version,
            keep_alive: self.keep_alive,
            prefers_async: self.prefers_async,
            expects_continue: self.expects_continue,
            path: if path.is_empty() { "/" } else { path },
            query,
            authority: part(bytes, &self.line.authority),
            fields: self.fields,
        }
    }

    /// Reads the head at the front of `bytes`, if all of it is there, within `head_bytes`, and written as nearly all
    /// clients write theirs: of each line a name, a colon, one space, printable ASCII without
    /// spaces around it. It is gone through once, and says what [`Found::parse`] would say; `None`
    /// stands for any doubt, which the general parser has to settle, with a fresh value.
    #[inline]
    pub(crate) fn parse_common(&mut self, bytes: &[u8], head_bytes: usize) -> Option<()> {
        let window = &bytes[..bytes.len().min(head_bytes)];
        self.line_len = text_len(window) + 2;
        if self.line_len > REQUEST_LINE_BYTES_MAX {
            return None;
        }
        let mut rest = window[self.line_len - 2..].strip_prefix(b"\r\n")?;
        self.line = Line::parse_common(&window[..self.line_len - 2])?;
        for _ in 0..=HEADERS_MAX {
            let at = window.len() - rest.len();
            if let Some(behind) = rest.strip_prefix(b"\r\n") {
                self.head_len = window.len() - behind.len();
                return self.finish(&window[..self.head_len]).ok();
            }
            let (text, behind) = rest.split_at(text_len(rest));
            rest = behind.strip_prefix(b"\r\n")?;
            let colon = find(b':', text)?;
            let (name, value) = text.split_at(colon);
            let value = value.strip_prefix(b": ")?;
            if *value.first()? == b' ' || *value.last()? == b' ' {
                return None;
            }
            match Name::find(name) {
                Some(name) => self.take(name, at + colon + 2, value),
                None if !name.is_empty() && name.iter().all(|&byte| is_token(byte)) => {}
                None => return None,
            }
        }
        None
    }

    /// Reads the header lines behind a request line, with the empty line that ends them.
    ///
    /// # Errors
    /// The problem to respond with before closing.
    pub(crate) fn parse(bytes: &[u8], line: Line, line_len: usize) -> Result<Self, Problem> {
        let mut found = Self { line, line_len, head_len: bytes.len(), ..Self::new() };
        let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let parsed = httparse::parse_headers(&bytes[line_len..], &mut lines);
        for header in tokens(parsed, bytes.len() - line_len)? {
            let at = match header.value {
                [] => 0,
                value => value.as_ptr() as usize - bytes.as_ptr() as usize,
            };
            if let Some(name) = Name::find(header.name.as_bytes()) {
                found.take(name, at, header.value);
            }
        }
        found.finish(bytes)?;
        Ok(found)
    }

    /// A header line that is known, whose value stands at `at` in the head.
    #[inline]
    fn take(&mut self, name: Name, at: usize, value: &[u8]) {
        match name {
            Name::Prefer => self.prefers_async |= lists(value, b"respond-async"),
            Name::Connection => {
                self.asks_close |= lists(value, b"close");
                self.asks_keep |= lists(value, b"keep-alive");
            }
            _ => self.fields.push(name, at, value.len()),
        }
    }

    /// All lines are read: checks what they say together.
    fn finish(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let field = |name| self.fields.get(name, bytes);
        let version = self.line.version;
        self.length = length(field(Name::ContentLength), field(Name::TransferEncoding), version)?;
        check_host(field(Name::Host), version)?;
        self.expects_continue = expects_continue(field(Name::Expect), version)?;
        self.keep_alive = match (version, self.asks_close, self.asks_keep) {
            (Version::Http11, false, _) => KeepAlive::Keep,
            (Version::Http10, false, true) => KeepAlive::KeepSaid,
            _ => KeepAlive::Close,
        };
        Ok(())
    }
}

/// How long the body is, as far as the head says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Length {
    /// It says nothing of a body, and there is none (RFC 9112 section 6.3).
    Absent,
    /// It comes in chunks, which say how long they are.
    Chunked,
    /// This many bytes; `u64::MAX` also stands for all that does not fit.
    Bytes(u64),
}

/// The header lines, if they are all there is in `len` bytes.
fn tokens<'h, 'a>(
    parsed: httparse::Result<(usize, &'h [httparse::Header<'a>])>,
    len: usize,
) -> Result<&'h [httparse::Header<'a>], Problem> {
    match parsed {
        Ok(httparse::Status::Complete((parsed_len, lines))) if parsed_len == len => Ok(lines),
        Err(httparse::Error::TooManyHeaders) => Err(Code::HeadersTooLarge.problem()),
        _ => Err(bad("a header line is malformed")),
    }
}

/// RFC 9112 section 6.3, without the parts that let two readers disagree.
fn length(
    content_length: Field<'_>,
    transfer_encoding: Field<'_>,
    version: Version,
) -> Result<Length, Problem> {
    if transfer_encoding != Field::Absent {
        return match transfer_encoding {
            _ if content_length != Field::Absent => {
                Err(bad("Content-Length together with Transfer-Encoding"))
            }
            // HTTP/1.0 knows no transfer codings: the sender may have meant something else (section 6.1).
            _ if version == Version::Http10 => Err(bad("Transfer-Encoding in HTTP/1.0")),
            Field::Once(coding) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Length::Chunked),
            _ => Err(Code::NotImplemented
                .problem()
                .detail("chunked is the only transfer coding that is taken")),
        };
    }
    match content_length {
        Field::Absent => Ok(Length::Absent),
        Field::Repeated(_) => Err(bad("Content-Length more than once")),
        Field::Once(digits) => match decimal(digits) {
            Some(bytes) => Ok(Length::Bytes(bytes)),
            None if digits.iter().all(u8::is_ascii_digit) && digits.len() > 19 && digits[0] != b'0' => {
                Ok(Length::Bytes(u64::MAX))
            }
            None => Err(bad("Content-Length is not a plain number")),
        },
    }
}

fn check_host(host: Field<'_>, version: Version) -> Result<(), Problem> {
    match host {
        Field::Absent if version == Version::Http10 => Ok(()),
        Field::Absent => Err(bad("no Host")),
        Field::Repeated(_) => Err(bad("Host more than once")),
        Field::Once(host) if !is_authority(host) => Err(bad("Host is malformed")),
        Field::Once(_) => Ok(()),
    }
}

fn expects_continue(expect: Field<'_>, version: Version) -> Result<bool, Problem> {
    match expect {
        Field::Absent => Ok(false),
        Field::Once(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(version == Version::Http11),
        _ => Err(Code::ExpectationFailed.problem()),
    }
}

/// Whether an `If-None-Match` lists this entity tag (with its quotes), compared weakly
/// (RFC 9110 section 8.8.3.2), or any.
/// `*` stands for any, also where what there is has no tag.
pub(crate) fn lists_tag(held: &[u8], tag: Option<&str>) -> bool {
    held.trim_ascii() == b"*"
        || held.split(|&byte| byte == b',').any(|entry| {
            let entry = entry.trim_ascii();
            tag.is_some_and(|tag| entry.strip_prefix(b"W/").unwrap_or(entry) == tag.as_bytes())
        })
}

/// Whether a comma-separated list has this member; its parameters do not count.
fn lists(value: &[u8], member: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|part| {
        let name = part.split(|&byte| byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(member)
    })
}

fn part<'a>(bytes: &'a [u8], range: &Range<u16>) -> &'a [u8] {
    &bytes[usize::from(range.start)..usize::from(range.end)]
}

/// The path, which was checked to be ASCII.
fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

const fn bad(detail: &'static str) -> Problem {
    Problem::new(Code::BadRequest).detail(detail)
}
