//! Where a response begins and ends: a strict reader of HTTP/1.1 responses.
//!
//! Pure bytes to value; it owns no socket and allocates only when a head changes.
//! A body has a `Content-Length` or comes in chunks; one that only the end of the
//! connection ends is an error. Next: [`crate::meaning`] for what a body means.

use memchr::memmem;

/// Most bytes of one response, head and body, if nobody says otherwise; a longer one is an error.
pub const RESPONSE_BYTES_MAX: usize = 1 << 20;
/// Most header fields of one response.
const HEADERS_MAX: usize = 64;
/// Longest response that is remembered whole, in bytes.
const REMEMBERED_BYTES_MAX: usize = 1024;

/// The head of a response, as far as a client needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Bytes of the head, blank line included.
    pub head_bytes: usize,
    /// Bytes of the body as they are sent: chunks with their sizes.
    pub body_bytes: usize,
    /// Whether the server closes the connection after it.
    pub close: bool,
    /// Whether it carries `Idempotent-Replay: true`.
    pub replay: bool,
}

/// Bytes that are not a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ResponseError {
    /// Not HTTP/1.x at all, or a malformed head.
    #[error("the response is not HTTP/1.1")]
    Malformed,
    /// No usable length.
    #[error("the response has no single valid Content-Length")]
    Length,
    /// Sent in chunks that are not chunks.
    #[error("the response's chunks are malformed")]
    Chunked,
    /// Longer than the reader takes.
    #[error("the response is too long")]
    TooLong,
}

/// Reads heads and remembers the last one: a server that says the same thing a
/// million times over ("sold out") is compared, not parsed.
pub struct Reader {
    remembered: Vec<u8>,
    head: Option<Head>,
    chunked: bool,
    heads_only: bool,
    bytes_max: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self::of_at_most(RESPONSE_BYTES_MAX)
    }
}

impl Reader {
    /// A reader; `heads_only` for the responses to `HEAD`, which announce bodies that never come.
    pub fn new(heads_only: bool) -> Self {
        Self { heads_only, ..Self::default() }
    }
    /// A reader of responses of at most this many bytes, head and body.
    pub const fn of_at_most(bytes_max: usize) -> Self {
        Self { remembered: Vec::new(), head: None, chunked: false, heads_only: false, bytes_max }
    }
    /// Most bytes of one response, head and body.
    pub const fn bytes_max(&self) -> usize {
        self.bytes_max
    }
    /// What the body of the last response says, which `bytes` are as they were sent.
    pub fn body(&self, bytes: &[u8]) -> Vec<u8> {
        let (mut body, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
        if !self.chunked {
            body.extend_from_slice(bytes);
            return body;
        }
        while let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(rest)
            && let Some(chunk) = usize::try_from(size).ok().and_then(|size| rest[line..].get(..size))
            && !chunk.is_empty()
        {
            body.extend_from_slice(chunk);
            rest = rest[line + chunk.len()..].get(2..).unwrap_or_default();
        }
        body
    }
    /// The head of the response at the start of `bytes` if all of the response is there, `None` if more is needed.
    ///
    /// # Errors
    /// [`ResponseError`] as soon as the bytes cannot become a response.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<Head>, ResponseError> {
        let head = match self.head {
            Some(head) if bytes.starts_with(&self.remembered) => head,
            _ => match parse(bytes, self.bytes_max)? {
                Some((head, chunked)) => self.remember(bytes, head, chunked),
                None => return Ok(None),
            },
        };
        if self.heads_only {
            return Ok(Some(Head { body_bytes: 0, ..head }));
        }
        if self.chunked {
            let body = chunks_bytes(&bytes[head.head_bytes..], self.bytes_max)?;
            return Ok(body.map(|body_bytes| Head { body_bytes, ..head }));
        }
        Ok((bytes.len() - head.head_bytes >= head.body_bytes).then_some(head))
    }

    fn remember(&mut self, bytes: &[u8], head: Head, chunked: bool) -> Head {
        self.chunked = chunked;
        self.remembered.clear();
        self.head = None;
        if head.head_bytes <= REMEMBERED_BYTES_MAX {
            self.remembered.extend_from_slice(&bytes[..head.head_bytes]);
            self.head = Some(head);
        }
        head
    }
}

/// Bytes of a body in chunks (RFC 9112, section 7.1) with its trailer; `None` if more is needed.
fn chunks_bytes(bytes: &[u8], bytes_max: usize) -> Result<Option<usize>, ResponseError> {
    let mut at = 0;
    loop {
        // The library takes an empty size for 0.
        if bytes.get(at).is_some_and(|byte| !byte.is_ascii_hexdigit()) {
            return Err(ResponseError::Chunked);
        }
        let (line, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(ResponseError::Chunked),
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > bytes_max {
            return Err(ResponseError::TooLong);
        }
        at += line;
        if size == 0 {
            // The last chunk's line end stands before the trailer: an empty trailer is one more line end.
            let trailer = memmem::find(&bytes[at - 2..], b"\r\n\r\n");
            return Ok(trailer.map(|end| at - 2 + end + 4));
        }
        let Some(end) = bytes.get(at + size..at + size + 2) else { return Ok(None) };
        if end != b"\r\n" {
            return Err(ResponseError::Chunked);
        }
        at += size + 2;
    }
}

/// The head, and whether the body comes in chunks.
fn parse(bytes: &[u8], bytes_max: usize) -> Result<Option<(Head, bool)>, ResponseError> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        let hopeless = !b"HTTP/1.".starts_with(&bytes[..bytes.len().min(7)]);
        return if hopeless {
            Err(ResponseError::Malformed)
        } else if bytes.len() > bytes_max {
            Err(ResponseError::TooLong)
        } else {
            Ok(None)
        };
    };
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(&bytes[..end + 4]) {
        Ok(httparse::Status::Complete(length)) if length == end + 4 => {}
        _ => return Err(ResponseError::Malformed),
    }
    let (Some(status), Some(version)) = (response.code, response.version) else {
        return Err(ResponseError::Malformed);
    };
    let (head, chunked) = head_of(status, version, response.headers, end + 4)?;
    if head.body_bytes > bytes_max - head.head_bytes.min(bytes_max) {
        return Err(ResponseError::TooLong);
    }
    Ok(Some((head, chunked)))
}

fn head_of(
    status: u16,
    version: u8,
    fields: &[httparse::Header<'_>],
    head_bytes: usize,
) -> Result<(Head, bool), ResponseError> {
    let bodiless = matches!(status, 204 | 304);
    let mut head = Head { status, head_bytes, body_bytes: 0, close: version == 0, replay: false };
    let (mut length, mut chunked) = (None, false);
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let value = digits(field.value).ok_or(ResponseError::Length)?;
            if length.replace(value).is_some_and(|earlier| earlier != value) {
                return Err(ResponseError::Length);
            }
        } else if is("transfer-encoding") {
            // Any other coding would need its own decoder.
            chunked = field.value.eq_ignore_ascii_case(b"chunked");
            if !chunked || version == 0 {
                return Err(ResponseError::Chunked);
            }
        } else if is("connection") {
            head.close = connection_closes(field.value, version);
        } else if is("idempotent-replay") {
            head.replay = field.value.eq_ignore_ascii_case(b"true");
        }
    }
    head.body_bytes = match length {
        _ if bodiless || chunked => 0,
        Some(length) => length,
        None => return Err(ResponseError::Length),
    };
    if chunked && length.is_some() {
        return Err(ResponseError::Length);
    }
    Ok((head, chunked && !bodiless))
}

fn connection_closes(value: &[u8], version: u8) -> bool {
    let has = |word: &str| {
        value.split(|&b| b == b',').any(|w| w.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    has("close") || (version == 0 && !has("keep-alive"))
}

fn digits(value: &[u8]) -> Option<usize> {
    let fits = (1..=12).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    if fits { std::str::from_utf8(value).ok()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"HTTP/1.1 409 Conflict\r\nContent-Length: 3\r\nIdempotent-Replay: true\r\n\r\nabc";

    #[test]
    fn whole_only_when_whole() {
        for cut in 0..GOOD.len() {
            assert_eq!(Reader::default().read(&GOOD[..cut]), Ok(None), "at {cut}");
        }
        let mut reader = Reader::default();
        for _ in 0..3 {
            let head = reader.read(GOOD).unwrap().unwrap();
            assert_eq!((head.status, head.body_bytes, head.close, head.replay), (409, 3, false, true));
            assert_eq!(head.head_bytes + head.body_bytes, GOOD.len());
            // A remembered head must not leak into a response that differs.
            let other =
                reader.read(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            assert!(other.unwrap().is_some_and(|head| head.status == 201 && head.close && !head.replay));
        }
    }

    #[test]
    fn doubtful_answers_are_errors() {
        for (text, error) in [
            ("SSH-2.0-x", ResponseError::Malformed),
            ("HTTP/1.1 abc\r\n\r\n", ResponseError::Malformed),
            ("HTTP/1.1 200 OK\r\n\r\n", ResponseError::Length),
            ("HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n", ResponseError::Length),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", ResponseError::Length),
            ("HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", ResponseError::TooLong),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", ResponseError::Chunked),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", ResponseError::Chunked),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n", ResponseError::Chunked),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", ResponseError::Chunked),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n900000\r\n", ResponseError::TooLong),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                ResponseError::Length,
            ),
        ] {
            assert_eq!(Reader::default().read(text.as_bytes()), Err(error), "{text}");
        }
    }

    #[test]
    fn chunks_are_read_to_their_end() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in [
            "0\r\n\r\n",
            "4\r\n\r\n\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
            "1\r\na\r\n0\r\nX: y\r\n\r\n",
        ] {
            let (text, mut reader) = (format!("{head}{body}"), Reader::default());
            for cut in 0..text.len() {
                assert_eq!(reader.read(&text.as_bytes()[..cut]), Ok(None), "{body:?} at {cut}");
            }
            let twice = format!("{text}{text}");
            for _ in 0..2 {
                let found = reader.read(twice.as_bytes()).unwrap().unwrap();
                assert_eq!((found.head_bytes, found.body_bytes), (head.len(), body.len()), "{body:?}");
            }
        }
    }

    #[test]
    fn the_answer_to_head_has_no_body() {
        let mut reader = Reader::new(true);
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            let head = reader.read(text.as_bytes()).unwrap().unwrap();
            assert_eq!((head.head_bytes, head.body_bytes), (text.len(), 0));
        }
    }

    #[test]
    fn old_servers_close() {
        let head = Reader::default().read(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap().unwrap();
        assert!(head.close);
        assert!(Reader::default().read(b"HTTP/1.1 304 Not Modified\r\n\r\n").unwrap().is_some());
    }
}
