//! What a request says about itself: the header fields that the server knows.
//!
//! A field is kept as the bytes that came, borrowed from the connection; what
//! this server does not know is skipped unread. The framing rules (RFC 9112
//! sections 3.2, 6 and 7) are enforced here and nowhere else: whatever
//! [`Head::parse`] refuses has to end the connection. Next: [`crate::http::conn`].

use crate::http::answer::{Linger, Manner};
use crate::http::chars::{decimal, is_token, is_visible};
use crate::http::limits::{HEADERS_FEW, HEADERS_MAX};
use crate::http::line::{Line, Method, Version, is_authority};
use crate::http::problem::{Code, Problem};
use stampede_core::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use stampede_core::planted::{Bug, planted};

/// A header field, as often as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Field<'a> {
    /// It was not given.
    #[default]
    Absent,
    /// It was given once.
    Once(&'a [u8]),
    /// It was given more than once; the last value.
    Repeated(&'a [u8]),
}

impl<'a> Field<'a> {
    fn push(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::Once(value),
            _ => Self::Repeated(value),
        };
    }
    /// The value if it was given exactly once.
    pub const fn once(self) -> Option<&'a [u8]> {
        match self {
            Self::Once(value) => Some(value),
            _ => None,
        }
    }
    /// The last value, however many there were.
    pub const fn last(self) -> Option<&'a [u8]> {
        match self {
            Self::Once(value) | Self::Repeated(value) => Some(value),
            Self::Absent => None,
        }
    }
}

/// The head of a request whose framing holds.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// What is to be done.
    pub method: Method,
    /// In which dialect.
    pub version: Version,
    /// The path as it came, never normalised; `*` for a server-wide OPTIONS.
    pub path: &'a str,
    /// What stands behind the question mark; `None` without one.
    pub query: Option<&'a str>,
    /// Whether the connection stays open after the answer, and says so.
    pub linger: Linger,
    /// Whether `Prefer` lists `respond-async` (RFC 7240).
    pub prefers_async: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// `Host`; at most once, or the request was refused.
    pub host: Field<'a>,
    /// `Authorization`.
    pub authorization: Field<'a>,
    /// `Cookie`; see [`crate::identity::cookie`].
    pub cookie: Field<'a>,
    /// `Origin`.
    pub origin: Field<'a>,
    /// `Sec-Fetch-Site`.
    pub sec_fetch_site: Field<'a>,
    /// `Accept-Language`.
    pub accept_language: Field<'a>,
    /// `Accept-Encoding`.
    pub accept_encoding: Field<'a>,
    /// `Content-Type`, which is looked at for forms alone.
    pub content_type: Field<'a>,
    /// `Idempotency-Key`; see [`Head::idempotency_key`].
    pub idempotency: Field<'a>,
    /// `If-None-Match`.
    pub if_none_match: Field<'a>,
    /// `X-Buyer`, which counts in header mode alone.
    pub x_buyer: Field<'a>,
    /// `X-Buyer-Level`, which counts in header mode alone.
    pub x_buyer_level: Field<'a>,
    /// `X-Forwarded-For`, which counts from trusted peers alone.
    pub x_forwarded_for: Field<'a>,
}

impl<'a> Head<'a> {
    /// How the answer has to be written.
    pub const fn manner(&self) -> Manner {
        Manner { linger: self.linger, bodiless: matches!(self.method, Method::Head) }
    }

    /// The idempotency key: 1 to 64 visible characters, bare or in double quotes
    /// (which do not belong to it; within them neither quote nor backslash).
    ///
    /// # Errors
    /// `bad_header` when it is anything else, or repeated.
    pub fn idempotency_key(&self) -> Result<Option<&'a [u8]>, Problem> {
        const BAD: Problem =
            Problem::new(Code::BadHeader).detail("Idempotency-Key: 1 to 64 visible characters, once");
        let value = match self.idempotency {
            Field::Absent => return Ok(None),
            Field::Once(value) => value,
            Field::Repeated(_) => return Err(BAD),
        };
        let key = match value {
            [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => inner,
            _ => value,
        };
        let fits = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len());
        let is_key_byte = |byte: &u8| is_visible(*byte) && *byte != b'"';
        if fits && key.iter().all(is_key_byte) { Ok(Some(key)) } else { Err(BAD) }
    }

    /// Parses the header lines behind the request line, with the empty line that ends them.
    ///
    /// # Errors
    /// The problem to answer with before closing.
    pub(crate) fn parse(bytes: &'a [u8], line: &Line, line_len: usize) -> Result<(Self, Length), Problem> {
        let mut seen = Seen::new(line, bytes);
        if plain_lines(&bytes[line_len..], |name, value| seen.take(name, value)) {
            return seen.finish(line, bytes);
        }
        // Room for many lines costs time, which most requests do not need.
        let mut few = [httparse::EMPTY_HEADER; HEADERS_FEW];
        match httparse::parse_headers(&bytes[line_len..], &mut few) {
            Err(httparse::Error::TooManyHeaders) => {
                let mut many = [httparse::EMPTY_HEADER; HEADERS_MAX];
                let parsed = httparse::parse_headers(&bytes[line_len..], &mut many);
                Self::gather(bytes, line, line_len, parsed)
            }
            parsed => Self::gather(bytes, line, line_len, parsed),
        }
    }

    fn gather(
        bytes: &'a [u8],
        line: &Line,
        line_len: usize,
        parsed: httparse::Result<(usize, &[httparse::Header<'a>])>,
    ) -> Result<(Self, Length), Problem> {
        let mut seen = Seen::new(line, bytes);
        for header in tokens(parsed, bytes.len() - line_len)? {
            seen.take(header.name.as_bytes(), header.value);
        }
        seen.finish(line, bytes)
    }
}

/// How long the body is, as far as the head says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Length {
    /// There is no `Content-Length`, and no body.
    Absent,
    /// This many bytes; `u64::MAX` also stands for all that does not fit.
    Bytes(u64),
}

/// Goes through header lines that are written as nearly all clients write them: a name, a colon,
/// one space, printable ASCII without spaces around it. Where one is written otherwise the answer
/// is `false`, and httparse has to look at all of them, which knows what else may be.
fn plain_lines<'a>(bytes: &'a [u8], mut take: impl FnMut(&'a [u8], &'a [u8])) -> bool {
    let mut rest = bytes;
    for _ in 0..HEADERS_MAX {
        let Some(colon) = rest.iter().position(|&byte| !is_token(byte)) else { return false };
        let (name, behind) = rest.split_at(colon);
        let Some(behind) = behind.strip_prefix(b": ") else {
            return name.is_empty() && behind == b"\r\n";
        };
        let Some(end) = memchr::memchr(b'\r', behind) else { return false };
        let (value, behind) = behind.split_at(end);
        let is_plain = value.iter().all(|&byte| is_visible(byte) || byte == b' ');
        let (Some(first), Some(last)) = (value.first(), value.last()) else { return false };
        let Some(behind) = behind.strip_prefix(b"\r\n") else { return false };
        if name.is_empty() || !is_plain || *first == b' ' || *last == b' ' {
            return false;
        }
        take(name, value);
        rest = behind;
    }
    rest == b"\r\n"
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

/// The fields gathered so far.
struct Seen<'a> {
    head: Head<'a>,
    host: Field<'a>,
    content_length: Field<'a>,
    transfer_encoding: Field<'a>,
    expect: Field<'a>,
    asks_close: bool,
    asks_keep: bool,
}

impl<'a> Seen<'a> {
    fn new(line: &Line, bytes: &'a [u8]) -> Self {
        let target =
            text(&bytes[usize::from(line.path_and_query.start)..usize::from(line.path_and_query.end)]);
        let (path, query) = match memchr::memchr(b'?', target.as_bytes()) {
            Some(at) => (&target[..at], Some(&target[at + 1..])),
            None => (target, None),
        };
        Self {
            head: Head {
                method: line.method,
                version: line.version,
                path: if path.is_empty() { "/" } else { path },
                query,
                linger: Linger::Close,
                prefers_async: false,
                expects_continue: false,
                host: Field::Absent,
                authorization: Field::Absent,
                cookie: Field::Absent,
                origin: Field::Absent,
                sec_fetch_site: Field::Absent,
                accept_language: Field::Absent,
                accept_encoding: Field::Absent,
                content_type: Field::Absent,
                idempotency: Field::Absent,
                if_none_match: Field::Absent,
                x_buyer: Field::Absent,
                x_buyer_level: Field::Absent,
                x_forwarded_for: Field::Absent,
            },
            host: Field::Absent,
            content_length: Field::Absent,
            transfer_encoding: Field::Absent,
            expect: Field::Absent,
            asks_close: false,
            asks_keep: false,
        }
    }

    fn take(&mut self, name: &[u8], value: &'a [u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            4 if is("host") => self.host.push(value),
            6 if is("cookie") => self.head.cookie.push(value),
            6 if is("expect") => self.expect.push(value),
            6 if is("origin") => self.head.origin.push(value),
            6 if is("prefer") => self.head.prefers_async |= lists(value, b"respond-async"),
            7 if is("x-buyer") => self.head.x_buyer.push(value),
            10 if is("connection") => {
                self.asks_close |= lists(value, b"close");
                self.asks_keep |= lists(value, b"keep-alive");
            }
            12 if is("content-type") => self.head.content_type.push(value),
            13 if is("authorization") => self.head.authorization.push(value),
            13 if is("if-none-match") => self.head.if_none_match.push(value),
            13 if is("x-buyer-level") => self.head.x_buyer_level.push(value),
            14 if is("content-length") => self.content_length.push(value),
            14 if is("sec-fetch-site") => self.head.sec_fetch_site.push(value),
            15 if is("accept-encoding") => self.head.accept_encoding.push(value),
            15 if is("accept-language") => self.head.accept_language.push(value),
            15 if is("idempotency-key") => self.head.idempotency.push(value),
            15 if is("x-forwarded-for") => self.head.x_forwarded_for.push(value),
            17 if is("transfer-encoding") => self.transfer_encoding.push(value),
            _ => {}
        }
    }

    fn finish(mut self, line: &Line, bytes: &[u8]) -> Result<(Head<'a>, Length), Problem> {
        let length = self.length()?;
        self.check_host(&bytes[usize::from(line.authority.start)..usize::from(line.authority.end)])?;
        self.check_expect()?;
        self.head.host = self.host;
        self.head.linger = match (self.head.version, self.asks_close, self.asks_keep) {
            (Version::Http11, false, _) => Linger::Keep,
            (Version::Http10, false, true) => Linger::KeepSaid,
            _ => Linger::Close,
        };
        Ok((self.head, length))
    }

    /// RFC 9112 section 6.3, without the parts that let two readers disagree.
    fn length(&self) -> Result<Length, Problem> {
        if self.transfer_encoding != Field::Absent && !planted(Bug::ChunkedTaken) {
            let both = self.content_length != Field::Absent;
            let coding = Code::NotImplemented.problem().detail("no transfer coding is taken");
            return Err(if both { bad("Content-Length together with Transfer-Encoding") } else { coding });
        }
        let length = match self.content_length {
            Field::Repeated(last) if planted(Bug::LengthTwice) => Field::Once(last),
            field => field,
        };
        match length {
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

    fn check_host(&self, authority: &[u8]) -> Result<(), Problem> {
        match self.host {
            Field::Absent if self.head.version == Version::Http10 => Ok(()),
            Field::Absent => Err(bad("no Host")),
            Field::Repeated(_) => Err(bad("Host more than once")),
            Field::Once(host) if !is_authority(host) => Err(bad("Host is malformed")),
            Field::Once(host) if !authority.is_empty() && !host.eq_ignore_ascii_case(authority) => {
                Err(bad("Host is not the host of the target"))
            }
            Field::Once(_) => Ok(()),
        }
    }

    fn check_expect(&mut self) -> Result<(), Problem> {
        match self.expect {
            Field::Absent => Ok(()),
            Field::Once(value) if value.eq_ignore_ascii_case(b"100-continue") => {
                self.head.expects_continue = self.head.version == Version::Http11;
                Ok(())
            }
            _ => Err(Code::BadHeader.problem().detail("only 100-continue can be expected")),
        }
    }
}

/// Whether an `If-None-Match` lists this entity tag (with its quotes), compared weakly
/// (RFC 9110 section 8.8.3.2), or any.
pub(crate) fn lists_tag(held: &[u8], tag: &str) -> bool {
    held.trim_ascii() == b"*"
        || held.split(|&byte| byte == b',').any(|entry| {
            let entry = entry.trim_ascii();
            entry.strip_prefix(b"W/").unwrap_or(entry) == tag.as_bytes()
        })
}

/// Whether a comma-separated list has this member; its parameters do not count.
fn lists(value: &[u8], member: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|part| {
        let name = part.split(|&byte| byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(member)
    })
}

/// A part of the target, which was checked to be ASCII.
fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

const fn bad(detail: &'static str) -> Problem {
    Problem::new(Code::BadRequest).detail(detail)
}
