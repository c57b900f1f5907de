//! The header that a TCP proxy puts before a connection's bytes: PROXY protocol, versions 1 and 2.
//!
//! ```text
//!  1:  PROXY TCP4 192.0.2.7 10.0.0.1 50412 7070 CRLF                        107 bytes at most
//!  2:  signature (12) │ version, command │ family │ length (2) │ addresses │ what else (skipped)
//! ```
//!
//! Byte by byte, so that the verdict never depends on how the header was split, and nothing after it is consumed.
//! Anything ambiguous is refused: to guess would mean to trust a client's bytes as a proxy's. Whether a header is
//! expected at all, and which proxies are trusted, is decided by [`crate::identity::Identity`]. The grammar is
//! HAProxy's `doc/proxy-protocol.txt`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the longest header of version 1, its line end included.
const LINE_BYTES_MAX: usize = 107;
const LINE_BEGIN: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a header of version 2 before its addresses.
const FIXED_BYTES: usize = 16;
/// Longest header of version 2 that is taken, in bytes, as in nginx. The format allows 65,551.
pub(crate) const HEADER_BYTES_MAX: usize = 4_096;
/// Source and destination, with their ports.
const INET_BYTES: usize = 12;
const INET6_BYTES: usize = 36;

/// Where the connection comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// From the proxy itself (LOCAL: a health check), or from a client that it does not name (UNKNOWN).
    Proxy,
    /// From a client at this address.
    Client(IpAddr),
}

/// Why a header is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// It does not begin like a header.
    Absent,
    /// A line of version 1 that does not end in time.
    LineTooLong,
    /// A malformed line of version 1.
    Line,
    /// A command, a family or a protocol that does not exist, or not over TCP.
    Kind,
    /// Its length is too short for its addresses.
    TooShort,
    /// Its length is more than what is taken.
    TooLong,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "there is none",
            Self::LineTooLong => "its line is too long",
            Self::Line => "its line is malformed",
            Self::Kind => "its command or family is none that is known over TCP",
            Self::TooShort => "it is too short for its addresses",
            Self::TooLong => "it is longer than 4096 bytes",
        })
    }
}

/// The parser of one header.
#[derive(Clone, Debug)]
pub struct ProxyHeader {
    /// The part that is parsed: a line, or the fixed part and the addresses.
    seen: [u8; LINE_BYTES_MAX],
    len: usize,
    source: Option<Source>,
    /// Bytes after the addresses that are still to come and are skipped.
    skip: usize,
}

impl Default for ProxyHeader {
    fn default() -> Self {
        Self { seen: [0; LINE_BYTES_MAX], len: 0, source: None, skip: 0 }
    }
}

impl ProxyHeader {
    /// Consumes what these bytes hold of the header; returns how many, and the source once the header is complete.
    ///
    /// # Errors
    /// The header is refused. Nothing more may be consumed.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Source>), Flaw> {
        let mut taken = 0;
        while self.source.is_none() {
            let Some(&byte) = bytes.get(taken) else { return Ok((taken, None)) };
            taken += 1;
            self.source = self.push(byte)?;
        }
        let skipped = self.skip.min(bytes.len() - taken);
        self.skip -= skipped;
        Ok((taken + skipped, self.source.filter(|_| self.skip == 0)))
    }

    fn push(&mut self, byte: u8) -> Result<Option<Source>, Flaw> {
        self.seen[self.len] = byte;
        self.len += 1;
        if self.seen[0] == LINE_BEGIN[0] { self.line() } else { self.binary() }
    }

    fn line(&self) -> Result<Option<Source>, Flaw> {
        let seen = begins(&self.seen[..self.len], LINE_BEGIN)?;
        if let Some(line) = seen.strip_suffix(b"\n") {
            let line = line.strip_suffix(b"\r").and_then(|line| line.strip_prefix(LINE_BEGIN));
            return line.and_then(source_of_line).map(Some).ok_or(Flaw::Line);
        }
        if seen.len() == LINE_BYTES_MAX { Err(Flaw::LineTooLong) } else { Ok(None) }
    }

    fn binary(&mut self) -> Result<Option<Source>, Flaw> {
        let seen = begins(&self.seen[..self.len], SIGNATURE)?;
        let Some((fixed, addresses)) = seen.split_first_chunk::<FIXED_BYTES>() else { return Ok(None) };
        let [.., command, family, high, low] = *fixed;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if FIXED_BYTES + len > HEADER_BYTES_MAX {
            return Err(Flaw::TooLong);
        }
        let wanted = match (command, family) {
            // On the proxy's own connection, what follows the command is ignored.
            (0x20, _) => 0,
            // Over TCP: unspecified, IPv4, IPv6, a UNIX socket.
            (0x21, 0x00 | 0x31) => 0,
            (0x21, 0x11) => INET_BYTES,
            (0x21, 0x21) => INET6_BYTES,
            _ => return Err(Flaw::Kind),
        };
        if wanted > len {
            return Err(Flaw::TooShort);
        }
        if addresses.len() < wanted {
            return Ok(None);
        }
        let source = match wanted {
            INET_BYTES => addresses.first_chunk::<4>().map(|ip| client(IpAddr::V4(Ipv4Addr::from(*ip)))),
            INET6_BYTES => addresses.first_chunk::<16>().map(|ip| client(IpAddr::V6(Ipv6Addr::from(*ip)))),
            _ => None,
        };
        self.skip = len - wanted;
        Ok(Some(source.unwrap_or(Source::Proxy)))
    }
}

/// The same bytes, if they are a prefix of `word`, or begin with it.
fn begins<'b>(bytes: &'b [u8], word: &[u8]) -> Result<&'b [u8], Flaw> {
    let len = bytes.len().min(word.len());
    if bytes[..len] == word[..len] { Ok(bytes) } else { Err(Flaw::Absent) }
}

/// The client at this address; the unspecified address names no client.
fn client(ip: IpAddr) -> Source {
    let ip = ip.to_canonical();
    if ip.is_unspecified() { Source::Proxy } else { Source::Client(ip) }
}

/// Parses a line between `PROXY ` and its end; `None` if it is malformed.
fn source_of_line(line: &[u8]) -> Option<Source> {
    // What follows this word is ignored.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Some(Source::Proxy);
    }
    let mut words = str::from_utf8(line).ok()?.split(' ');
    let mut next = || words.next();
    let (family, from, to) = (next()?, next()?, next()?);
    let (from, to) = match family {
        "TCP4" => (from.parse::<Ipv4Addr>().ok()?.into(), to.parse::<Ipv4Addr>().ok()?.into()),
        "TCP6" => (from.parse::<Ipv6Addr>().ok()?.into(), to.parse::<Ipv6Addr>().ok()?.into()),
        _ => return None,
    };
    let _to: IpAddr = to;
    let ports = is_port(next()?) && is_port(next()?);
    (ports && next().is_none()).then(|| client(from))
}

/// A decimal number of 16 bits in its one spelling.
fn is_port(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the bytes are, fed in pieces that end at these positions: how many were taken, and the source;
    /// `None` = more is to come.
    fn read(bytes: &[u8], cuts: &[usize]) -> Result<Option<(usize, Source)>, Flaw> {
        let (mut header, mut at) = (ProxyHeader::default(), 0);
        for end in cuts.iter().copied().chain([bytes.len()]) {
            let piece = &bytes[at..end.max(at)];
            let (taken, source) = header.take(piece)?;
            assert!(taken <= piece.len());
            if let Some(source) = source {
                return Ok(Some((at + taken, source)));
            }
            assert_eq!(taken, piece.len(), "all of a piece belongs to a header that is not over");
            at += piece.len();
        }
        Ok(None)
    }

    /// A header of version 2 with `more` bytes behind its addresses.
    fn binary(command: u8, family: u8, addresses: &[u8], more: usize) -> Vec<u8> {
        let len = (addresses.len() + more) as u16;
        let fixed = [command, family, len.to_be_bytes()[0], len.to_be_bytes()[1]];
        [SIGNATURE, &fixed, addresses, &vec![0xEE; more]].concat()
    }

    fn inet(ip: [u8; 4]) -> Vec<u8> {
        [&ip[..], &[10, 0, 0, 1], &[0xC4, 0xEC, 0x1B, 0x9E]].concat()
    }

    fn inet6(ip: &str) -> Vec<u8> {
        [&ip.parse::<Ipv6Addr>().unwrap().octets()[..], &[0; 16], &[1, 2, 3, 4]].concat()
    }

    fn from(ip: &str) -> Source {
        Source::Client(ip.parse().unwrap())
    }

    fn good() -> Vec<(Vec<u8>, Source)> {
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let lines = [
            ("TCP4 192.0.2.7 10.0.0.1 50412 7070".to_owned(), from("192.0.2.7")),
            ("TCP4 255.255.255.255 255.255.255.255 65535 65535".to_owned(), from("255.255.255.255")),
            ("TCP4 192.0.2.7 10.0.0.1 0 0".to_owned(), from("192.0.2.7")),
            ("TCP4 0.0.0.0 10.0.0.1 0 0".to_owned(), Source::Proxy),
            ("TCP6 2001:db8::1 ::1 50412 7070".to_owned(), from("2001:db8::1")),
            ("TCP6 ::ffff:192.0.2.7 ::ffff:10.0.0.1 1 2".to_owned(), from("192.0.2.7")),
            (format!("TCP6 {longest} {longest} 65535 65535"), from(longest)),
            ("UNKNOWN".to_owned(), Source::Proxy),
            ("UNKNOWN whatever \t stands here".to_owned(), Source::Proxy),
            (format!("UNKNOWN {longest} {longest} 65535 65535"), Source::Proxy),
        ];
        let lines =
            lines.into_iter().map(|(line, source)| (format!("PROXY {line}\r\n").into_bytes(), source));
        let unix = vec![b'/'; 216];
        let binaries = [
            (binary(0x21, 0x11, &inet([192, 0, 2, 7]), 0), from("192.0.2.7")),
            (binary(0x21, 0x11, &inet([192, 0, 2, 7]), 90), from("192.0.2.7")),
            (binary(0x21, 0x11, &inet([192, 0, 2, 7]), HEADER_BYTES_MAX - 28), from("192.0.2.7")),
            (binary(0x21, 0x11, &inet([0; 4]), 0), Source::Proxy),
            (binary(0x21, 0x21, &inet6("2001:db8::1"), 0), from("2001:db8::1")),
            (binary(0x21, 0x21, &inet6("2001:db8::1"), 7), from("2001:db8::1")),
            (binary(0x21, 0x21, &inet6("::ffff:192.0.2.7"), 0), from("192.0.2.7")),
            (binary(0x21, 0x00, &[], 0), Source::Proxy),
            (binary(0x21, 0x00, &[], 9), Source::Proxy),
            (binary(0x21, 0x31, &unix, 0), Source::Proxy),
            (binary(0x20, 0x00, &[], 0), Source::Proxy),
            (binary(0x20, 0x11, &inet([192, 0, 2, 7]), 0), Source::Proxy),
            (binary(0x20, 0xFF, &[1, 2, 3], 0), Source::Proxy),
        ];
        lines.chain(binaries).collect()
    }

    #[test]
    fn headers_are_taken_wherever_they_are_cut_and_nothing_behind() {
        for (bytes, source) in good() {
            let shown = bytes.escape_ascii().to_string();
            let expected = Ok(Some((bytes.len(), source)));
            for behind in ["", "GET / HTTP/1.1\r\n", "PROXY UNKNOWN\r\n", "\r\n"] {
                let stream = [&bytes[..], behind.as_bytes()].concat();
                assert_eq!(read(&stream, &[]), expected, "{shown}");
                for cut in 0..=stream.len() {
                    assert_eq!(read(&stream, &[cut]), expected, "{shown} cut at {cut}");
                }
                let each: Vec<usize> = (0..stream.len()).collect();
                assert_eq!(read(&stream, &each), expected, "{shown} byte by byte");
            }
            for len in 0..bytes.len() {
                assert_eq!(read(&bytes[..len], &[]), Ok(None), "{shown}: {len} bytes of it");
            }
        }
    }

    #[test]
    fn what_leaves_doubt_is_refused_at_the_byte_that_shows_it() {
        let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
        let long = |len: usize| [&b"PROXY UNKNOWN "[..], &vec![b'x'; len - 14]].concat();
        let mut bad: Vec<(Vec<u8>, Flaw)> = [
            (&b"GET / HTTP/1.1\r\n"[..], Flaw::Absent),
            (b"POST / HTTP/1.1\r\n", Flaw::Absent),
            (b"PUT /", Flaw::Absent),
            (b"proxy TCP4", Flaw::Absent),
            (b"PROXY\r\n", Flaw::Absent),
            (b"\r\nGET / HTTP/1.1\r\n", Flaw::Absent),
            (b"\r\n\r\n\0\r\nQUIT ", Flaw::Absent),
            (b"\x16\x03\x01\x02\x00", Flaw::Absent),
            (b"\0", Flaw::Absent),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n", Flaw::Line),
            (b"PROXY \n", Flaw::Line),
        ]
        .map(|(bytes, flaw)| (bytes.to_vec(), flaw))
        .to_vec();
        for text in [
            "",
            "TCP",
            "TCP4",
            "tcp4 192.0.2.7 10.0.0.1 1 2",
            "UDP4 192.0.2.7 10.0.0.1 1 2",
            "UNKNOWNX",
            "TCP4 192.0.2.7 10.0.0.1 1",
            "TCP4 192.0.2.7 10.0.0.1 1 2 3",
            "TCP4 192.0.2.7 10.0.0.1 1 2 ",
            "TCP4  192.0.2.7 10.0.0.1 1 2",
            "TCP4\t192.0.2.7 10.0.0.1 1 2",
            "TCP4 192.0.2.07 10.0.0.1 1 2",
            "TCP4 192.0.2 10.0.0.1 1 2",
            "TCP4 192.0.2.256 10.0.0.1 1 2",
            "TCP4 192.0.2.7 shop 1 2",
            "TCP4 2001:db8::1 ::1 1 2",
            "TCP6 192.0.2.7 10.0.0.1 1 2",
            "TCP6 [2001:db8::1] ::1 1 2",
            "TCP6 fe80::1%eth0 ::1 1 2",
            "TCP4 192.0.2.7 10.0.0.1 65536 2",
            "TCP4 192.0.2.7 10.0.0.1 01 2",
            "TCP4 192.0.2.7 10.0.0.1 +1 2",
            "TCP4 192.0.2.7 10.0.0.1 1 -2",
            "TCP4 192.0.2.7 10.0.0.1 1 2\r",
            "TCP4 192.0.2.7\0 10.0.0.1 1 2",
            "TCP4 \u{ff11}92.0.2.7 10.0.0.1 1 2",
        ] {
            bad.push((line(text), Flaw::Line));
        }
        bad.push((long(LINE_BYTES_MAX), Flaw::LineTooLong));
        for (command, family) in [(0x11, 0x11), (0x22, 0x11), (0x2F, 0x11), (0x01, 0x11), (0x21, 0x41)] {
            bad.push((binary(command, family, &inet([192, 0, 2, 7]), 0), Flaw::Kind));
        }
        // Datagrams do not come over TCP, and a family without a protocol does not exist.
        for family in [0x12, 0x22, 0x32, 0x10, 0x20, 0x01, 0x13, 0xFF] {
            bad.push((binary(0x21, family, &[0; 216], 0), Flaw::Kind));
        }
        bad.push((binary(0x21, 0x11, &[0; INET_BYTES - 1], 0), Flaw::TooShort));
        bad.push((binary(0x21, 0x21, &inet([192, 0, 2, 7]), 0), Flaw::TooShort));
        bad.push((binary(0x21, 0x11, &[], 0), Flaw::TooShort));
        bad.push((binary(0x21, 0x11, &inet([192, 0, 2, 7]), HEADER_BYTES_MAX - 27), Flaw::TooLong));
        bad.push((binary(0x20, 0x00, &[], HEADER_BYTES_MAX - 15), Flaw::TooLong));
        for (bytes, flaw) in bad {
            let shown = bytes.escape_ascii().to_string();
            assert_eq!(read(&bytes, &[]), Err(flaw), "{shown}");
            for cut in 0..=bytes.len() {
                assert_eq!(read(&bytes, &[cut]), Err(flaw), "{shown} cut at {cut}");
            }
        }
        assert_eq!(read(&long(LINE_BYTES_MAX - 1), &[]), Ok(None));
    }

    /// Streams of any bytes, and headers with a few bytes changed.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let noise = prop::collection::vec(any::<u8>(), 0..300);
        let changes = prop::collection::vec((0..300usize, any::<u8>()), 0..4);
        let changed =
            (prop::sample::select(good()), changes, noise.clone()).prop_map(|((bytes, _), changes, tail)| {
                let mut bytes = [&bytes[..], &tail].concat();
                for (at, byte) in changes {
                    let len = bytes.len();
                    bytes[at % len] = byte;
                }
                bytes
            });
        prop_oneof![noise, changed]
    }

    proptest! {
        /// Any stream, cut anywhere, is what it is in one piece, and no header reads beyond its own length.
        #[test]
        fn any_stream_is_what_it_is_however_it_is_cut(
            stream in streams(),
            mut cuts in prop::collection::vec(0..600usize, 0..8),
        ) {
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(stream.len()));
            cuts.sort_unstable();
            let whole = read(&stream, &[]);
            prop_assert_eq!(read(&stream, &cuts), whole);
            if let Ok(Some((len, source))) = whole {
                prop_assert_eq!(read(&stream[..len], &[]), Ok(Some((len, source))));
                prop_assert_eq!(read(&stream[..len - 1], &[]), Ok(None));
            }
        }
    }
}
