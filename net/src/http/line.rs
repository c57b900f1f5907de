//! The request line: method, target, version, and nothing between the lines.
//!
//! Exactly one space separates the three parts (RFC 9112 section 3 lets a
//! server be laxer; laxness is where two parsers begin to disagree). The target
//! is never normalised: what is not literally a path of this server is not one.
//! Next: [`crate::http::head`].

use std::ops::Range;

use crate::http::chars::{find, is_token, is_visible, is_whole_host, is_whole_target};
use crate::http::limits::{METHOD_BYTES_MAX, TARGET_BYTES_MAX};
use crate::http::problem::{Code, Problem};

/// The methods that this server knows; any other gets 501.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Read.
    Get,
    /// Read, without the body.
    Head,
    /// Do.
    Post,
    /// Create or replace.
    Put,
    /// Remove.
    Delete,
    /// Which methods there are.
    Options,
    /// Known, allowed nowhere.
    Patch,
    /// Known, allowed nowhere.
    Trace,
}

impl Method {
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(match bytes {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            _ => return None,
        })
    }
    /// Whether a request with it changes nothing (RFC 9110 section 9.2.1).
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }
    /// Whether a request with it may carry a body.
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

/// The versions that are supported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0: closes unless asked to keep the connection.
    Http10,
    /// HTTP/1.1: keeps the connection unless asked to close.
    Http11,
}

/// A valid request line, as offsets from its beginning.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// The method.
    pub(crate) method: Method,
    /// The HTTP version.
    pub(crate) version: Version,
    /// The path and query, of whatever form the target was; empty stands for `/`.
    pub(crate) path_and_query: Range<u16>,
    /// The authority of a target in absolute form; empty = the target was none.
    pub(crate) authority: Range<u16>,
}

impl Line {
    /// A line that was not parsed yet.
    pub(crate) const NONE: Self =
        Self { method: Method::Trace, version: Version::Http10, path_and_query: 0..0, authority: 0..0 };

    /// Parses a request line without its CRLF.
    ///
    /// # Errors
    /// 400 where it is malformed, then 505, 414 and 501, in this order. The
    /// connection has to be closed after any of them.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, Problem> {
        let (method, rest) = split_at_space(line).ok_or(malformed("no method"))?;
        let (target, version) = split_at_space(rest).ok_or(malformed("no target or no version"))?;
        let known = Method::parse(method);
        if known.is_none() && (method.is_empty() || !method.iter().all(|&byte| is_token(byte))) {
            return Err(malformed("the method is no token"));
        }
        if target.is_empty() {
            return Err(malformed("the target is empty"));
        }
        let version = parse_version(version)?;
        if target.len() > TARGET_BYTES_MAX {
            return Err(Code::TargetTooLong.problem());
        }
        let method = known.ok_or(Code::NotImplemented.problem().detail("unknown method"))?;
        let target_at = line.len() - rest.len();
        let (authority, path_and_query) = split_target(method, target)?;
        let shift = |range: Range<usize>| (target_at + range.start) as u16..(target_at + range.end) as u16;
        Ok(Self { method, version, path_and_query: shift(path_and_query), authority: shift(authority) })
    }
}

impl Line {
    /// A request line as nearly all clients write theirs: a path of this server, HTTP/1.1. It says
    /// what [`Line::parse`] would say; `None` stands for any doubt.
    #[inline]
    pub(crate) fn parse_common(line: &[u8]) -> Option<Self> {
        let line = line.strip_suffix(b" HTTP/1.1")?;
        let target_at = find(b' ', line)? + 1;
        let method = Method::parse(&line[..target_at - 1])?;
        let target = &line[target_at..];
        let holds =
            target.first() == Some(&b'/') && target.len() <= TARGET_BYTES_MAX && is_whole_target(target);
        holds.then_some(Self {
            method,
            version: Version::Http11,
            path_and_query: target_at as u16..line.len() as u16,
            authority: 0..0,
        })
    }
}

/// The problem with a first line that is too long.
pub(crate) fn endless(begin: &[u8]) -> Problem {
    let method_end = begin.iter().take(METHOD_BYTES_MAX).position(|&byte| byte == b' ');
    match method_end {
        Some(_) => Code::TargetTooLong.problem(),
        None => malformed("no method"),
    }
}

/// Whether this can stand in a Host field: a host, and perhaps a port.
pub(crate) fn is_authority(bytes: &[u8]) -> bool {
    let (host, port) = match bytes.strip_prefix(b"[") {
        Some(rest) => match memchr::memchr(b']', rest) {
            Some(at) if is_ip_literal(&rest[..at]) => (&rest[..at], &rest[at + 1..]),
            _ => return false,
        },
        None => bytes.split_at(find(b':', bytes).unwrap_or(bytes.len())),
    };
    let host_holds = bytes.starts_with(b"[") || is_whole_host(host);
    let port_holds = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    !host.is_empty() && host_holds && port_holds
}

fn is_ip_literal(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

fn split_at_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = find(b' ', bytes)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn parse_version(version: &[u8]) -> Result<Version, Problem> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Code::VersionNotSupported.problem())
        }
        _ => Err(malformed("the version is malformed")),
    }
}

/// The authority and the path with its query, as ranges within the target
/// (RFC 9112 section 3.2).
///
/// Origin form and, as the RFC demands, absolute form with the scheme `http` or `https`
/// are taken; the asterisk for `OPTIONS` alone; the authority form belongs to
/// CONNECT, which is not implemented. A path has what RFC 3986 allows; a query any byte but
/// spaces and controls, as browsers write it (see [`crate::http::query`]).
fn split_target(method: Method, target: &[u8]) -> Result<(Range<usize>, Range<usize>), Problem> {
    let whole = 0..target.len();
    if target == b"*" {
        let allowed = method == Method::Options;
        return if allowed { Ok((0..0, whole)) } else { Err(malformed("an asterisk as target")) };
    }
    if target[0] == b'/' {
        check_path_and_query(target)?;
        return Ok((0..0, whole));
    }
    let begins = |scheme: &[u8]| {
        target
            .get(..scheme.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
            .then_some(scheme.len())
    };
    let host_at = begins(b"http://").or_else(|| begins(b"https://"));
    let host_at = host_at.ok_or(malformed("the target is neither a path nor an http URI"))?;
    let rest = &target[host_at..];
    let host_len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    if !is_authority(&rest[..host_len]) {
        return Err(malformed("the target has no valid host"));
    }
    check_path_and_query(&rest[host_len..])?;
    let path_at = host_at + host_len;
    Ok((host_at..path_at, path_at..target.len()))
}

fn check_path_and_query(bytes: &[u8]) -> Result<(), Problem> {
    let (path, query) = bytes.split_at(find(b'?', bytes).unwrap_or(bytes.len()));
    let query_holds = query.iter().all(|&byte| is_visible(byte) || byte >= 0x80);
    let path_holds = path.is_empty() || is_whole_target(path);
    if path_holds && query_holds {
        Ok(())
    } else {
        Err(malformed("the target has a character that it cannot have"))
    }
}

const fn malformed(detail: &'static str) -> Problem {
    Problem::new(Code::BadRequest).detail(detail)
}
