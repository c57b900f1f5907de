//! How far the bare server reads: to where a request ends, and whether it is the last one.
//!
//! One walk over the lines of the head; it checks nothing. Next: [`super`].

use memchr::memchr;

/// The requests that some bytes begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Requests {
    /// How many are whole.
    pub(super) count: usize,
    /// The bytes that these take.
    pub(super) bytes: usize,
    /// Whether the last of them says `Connection: close`; what comes after it is not looked at.
    pub(super) closes: bool,
}

impl Requests {
    /// Counts the whole requests.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut all = Self::default();
        while !all.closes
            && let Some(next) = one(&bytes[all.bytes..])
        {
            all.count += 1;
            all.bytes += next.bytes;
            all.closes = next.closes;
        }
        all
    }
}

/// The first request, if it is whole.
fn one(bytes: &[u8]) -> Option<Requests> {
    let (mut at, mut body_bytes, mut closes) = (0, 0, false);
    loop {
        let end = at + memchr(b'\n', &bytes[at..])?;
        let line = &bytes[at..end];
        at = end + 1;
        match line {
            b"\r" | b"" => break,
            [b'C' | b'c', ..] => {
                if let Some(value) = value_of(line, "content-length:") {
                    body_bytes = value.parse().unwrap_or(0);
                } else if let Some(value) = value_of(line, "connection:") {
                    closes = value.eq_ignore_ascii_case("close");
                }
            }
            _ => {}
        }
    }
    (bytes.len() - at >= body_bytes).then(|| Requests { count: 1, bytes: at + body_bytes, closes })
}

/// The value of a header, if the line has that name; `name` ends in a colon.
fn value_of<'a>(line: &'a [u8], name: &str) -> Option<&'a str> {
    let (head, value) = line.split_at_checked(name.len())?;
    let value = head.eq_ignore_ascii_case(name.as_bytes()).then_some(value)?;
    std::str::from_utf8(value).ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\ncontent-length: 3\r\n\r\nabc";
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    const LAST: &[u8] = b"POST / HTTP/1.1\r\nConnection: Close\r\nContent-Length:1\r\n\r\nx";

    fn counted(bytes: &[u8]) -> (usize, usize, bool) {
        let Requests { count, bytes, closes } = Requests::of(bytes);
        (count, bytes, closes)
    }

    #[test]
    fn requests_are_counted_whole() {
        let both = [POST, GET].concat();
        assert_eq!(counted(&both), (2, both.len(), false));
        for cut in 0..both.len() {
            let expected = if cut < POST.len() { (0, 0, false) } else { (1, POST.len(), false) };
            assert_eq!(counted(&both[..cut]), expected, "at {cut}");
        }
    }

    #[test]
    fn nothing_is_counted_after_the_last_one() {
        let bytes = [GET, LAST, GET].concat();
        assert_eq!(counted(&bytes), (2, GET.len() + LAST.len(), true));
        assert_eq!(counted(&LAST[..LAST.len() - 1]), (0, 0, false), "its body is not here yet");
        assert_eq!(counted(b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"), (1, 42, false));
        assert_eq!(counted(b"GET / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n"), (0, 0, false));
    }
}
