//! A token in a cookie: how a browser shows who its user is, and when that counts.
//!
//! A browser sends cookies along with every request, whoever's page caused it. So a
//! request that changes something counts only if it shows that a page of ours sent it:
//! by `Sec-Fetch-Site: same-origin`, or by an `Origin` that names the host of the request or
//! one that the operator has named ([`super::cors`]).
//! A token in `Authorization` is sent on purpose and needs none of this.

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

/// The token that came in the cookie of this name; `None` when there is none.
///
/// # Errors
/// `unauthenticated` if it came more than once or cannot be a token; `cross_site` if the
/// request changes something and nothing shows that a page of ours sent it.
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

/// Where a request comes from, as far as the client says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A page of this host.
    Ours,
    /// A page of somebody else, or one that hides who it is.
    Foreign,
    /// It does not say: no browser, or a very old one.
    Unsaid,
}

/// What `Sec-Fetch-Site` says, which no page can forge; or, where a browser does not send it
/// (an old one, or any over plain HTTP), what `Origin` says.
///
/// The scheme of `Origin` may be either: behind a gateway that ends TLS the engine sees
/// only the host. Browsers that send `Sec-Fetch-Site` say by it when the scheme differs.
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
