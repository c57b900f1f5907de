//! A token in a cookie, and CSRF protection: when a cookie is accepted.
//!
//! A browser sends cookies with every request, no matter whose page caused it. So a request that changes
//! something needs a sign that one of our pages sent it: `Sec-Fetch-Site: same-origin`, or an `Origin` that
//! is the host of the request or a configured one ([`super::cors`]). A token in `Authorization` is sent on
//! purpose and needs no such sign.

use crate::http::field::{Field, Name};
use crate::http::head::Head;
use crate::http::limits::TOKEN_BYTES_MAX;
use crate::http::problem::{Code, Problem};
use crate::identity::buyer::stranger;
use crate::identity::cors::Origins;

/// Longest name of the cookie, in bytes.
pub const COOKIE_NAME_BYTES_MAX: usize = 64;

/// Whether a cookie can have this name: letters, digits, `-` and `_`.
pub fn is_cookie_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=COOKIE_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// The token in the cookie of this name; `None` if there is none.
///
/// # Errors
/// `unauthenticated` if there is more than one or it cannot be a token; `cross_site` if the request changes
/// something and nothing shows that one of our pages sent it.
pub(super) fn token<'a>(head: &Head<'a>, name: &str, origins: &Origins) -> Result<Option<&'a [u8]>, Problem> {
    let jar = match head.field(Name::Cookie) {
        Field::Absent => return Ok(None),
        Field::Once(jar) => jar,
        Field::Repeated(_) => return Err(stranger("Cookie more than once")),
    };
    let mut values = jar.split(|&byte| byte == b';').filter_map(|pair| value_of(pair, name));
    let Some(token) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(stranger("the cookie with the token more than once"));
    }
    if !(1..=TOKEN_BYTES_MAX).contains(&token.len()) {
        return Err(stranger("the cookie holds no token"));
    }
    if head.method.is_safe() || shown_origin(head) == Origin::Ours || origins.name(head) {
        Ok(Some(token))
    } else {
        Err(Code::CrossSite.problem())
    }
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    Some(value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value))
}

/// The origin of a request, as the client states it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A page of this host.
    Ours,
    /// A page of another origin, or one that hides its origin.
    Foreign,
    /// Not stated: the client is no browser, or a very old one.
    Unsaid,
}

/// Taken from `Sec-Fetch-Site`, which no page can forge; or, where a browser does not send it (an old one,
/// or any over plain HTTP), from `Origin`.
///
/// The scheme of `Origin` may be either: behind a gateway that terminates TLS the engine knows only the
/// host. `Sec-Fetch-Site` tells if the scheme differs.
pub fn shown_origin(head: &Head<'_>) -> Origin {
    match (head.field(Name::SecFetchSite), head.field(Name::Origin), head.host()) {
        (Field::Once(b"same-origin"), ..) => Origin::Ours,
        (Field::Once(_) | Field::Repeated(_), ..) => Origin::Foreign,
        (Field::Absent, Field::Absent, _) => Origin::Unsaid,
        (Field::Absent, Field::Once(origin), Some(host)) if is_origin_of(origin, host) => Origin::Ours,
        _ => Origin::Foreign,
    }
}

fn is_origin_of(origin: &[u8], host: &[u8]) -> bool {
    let named = origin.strip_prefix(b"https://").or_else(|| origin.strip_prefix(b"http://"));
    named.is_some_and(|named| !named.is_empty() && named.eq_ignore_ascii_case(host))
}
