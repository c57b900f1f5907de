//! Who is asking: a verified token, or a header from a gateway that is trusted.
//!
//! A subject is opaque: its bytes are compared and never normalised, so two
//! that look alike are two buyers. Whatever leaves doubt is 401. The clock and
//! the peer's address are arguments. Next: [`key`] for keys, [`token`] for
//! what a token must look like, [`cookie`] for browsers.

pub mod cookie;
pub mod cors;
pub mod demo;
pub mod key;
pub mod mint;
pub mod token;

use std::net::IpAddr;

use ipnet::IpNet;
use stampede_core::types::{Subject, UnixMillis};
use subtle::ConstantTimeEq as _;

use crate::http::answer::Cors;
use crate::http::chars::{decimal, find, text_len};
use crate::http::field::{Field, Name};
use crate::http::head::Head;
use crate::http::limits::{TOKEN_BYTES_MAX, TOKEN_BYTES_REMEMBERED_MAX};
use crate::http::problem::{Code, Problem};
use cookie::{Origin, shown_origin};
use cors::Origins;
use key::IdentityKey;
use stampede_core::planted::{Bug, planted};

/// A buyer whom somebody vouches for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buyer {
    /// The opaque name.
    pub subject: Subject,
    /// The account's level; 0 if it was not said.
    pub level: u8,
    /// When the account was opened, in Unix seconds.
    pub since_s: Option<u64>,
}

/// How buyers are told apart, out of checked settings. Shared by all cores.
#[derive(Debug)]
pub struct Identity {
    mode: Mode,
    trusted: Vec<IpNet>,
    origins: Origins,
}

#[derive(Debug)]
enum Mode {
    /// The keys, and the name of the cookie that may carry the token instead of the header.
    Jwt(Vec<IdentityKey>, Option<String>),
    Header,
}

/// Settings of identity that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityError {
    /// No token could ever be verified.
    #[error(
        "identity.keys is empty: no token can be verified. Configure a key, or set identity.mode = header"
    )]
    NoKeys,
    /// A token would name two keys.
    #[error("two keys of identity.keys have the kid {0:?}. Give each its own")]
    KidTwice(String),
    /// Anybody could be anybody.
    #[error(
        "identity.mode = header on {0}, which is not loopback, without identity.trusted_proxies: anybody could be any buyer. Name the gateway's addresses, or listen on 127.0.0.1"
    )]
    NobodyToTrust(IpAddr),
}

impl Identity {
    /// Buyers come with tokens signed by one of these keys; `trusted` are the proxies
    /// whose `X-Forwarded-For` counts.
    ///
    /// # Errors
    /// When there is no key, or two have the same `kid`.
    pub fn jwt(keys: Vec<IdentityKey>, trusted: Vec<IpNet>) -> Result<Self, IdentityError> {
        if keys.is_empty() {
            return Err(IdentityError::NoKeys);
        }
        for (index, key) in keys.iter().enumerate() {
            if keys[..index].iter().any(|other| other.kid() == key.kid()) {
                return Err(IdentityError::KidTwice(key.kid().to_owned()));
            }
        }
        Ok(Self { mode: Mode::Jwt(keys, None), trusted, origins: Origins::default() })
    }

    /// The same, taking the token out of the cookie of this name where a request has no
    /// `Authorization`. Changes nothing in header mode.
    #[must_use]
    pub fn with_cookie(mut self, name: &str) -> Self {
        if let Mode::Jwt(_, cookie) = &mut self.mode {
            *cookie = Some(name.to_owned());
        }
        self
    }

    /// Buyers come named by a gateway; `listen` is the address of the public listener.
    ///
    /// # Errors
    /// When the listener is not loopback and nobody in particular is trusted.
    pub fn header(listen: IpAddr, trusted: Vec<IpNet>) -> Result<Self, IdentityError> {
        if trusted.is_empty() && !listen.to_canonical().is_loopback() {
            return Err(IdentityError::NobodyToTrust(listen));
        }
        Ok(Self { mode: Mode::Header, trusted, origins: Origins::default() })
    }

    /// The same, where pages of these origins may call the API, too.
    #[must_use]
    pub fn with_origins(self, origins: Origins) -> Self {
        Self { origins, ..self }
    }

    /// What the page of another origin that sent this request is told, if it may read the answer.
    #[inline]
    pub fn may_read(&self, head: &Head<'_>) -> Option<&'static Cors> {
        self.origins.may_read(head)
    }

    /// The rule for every request that changes something, however its sender is known: not from a
    /// page of somebody else. A browser sends cookies along with such a page's requests, and a
    /// gateway names the buyer by them. What passes: requests that no page has sent; pages of this
    /// host and of the origins that were named; and a token in `Authorization`, where one
    /// counts (`by_token`, or tokens being how buyers are known), since no page of somebody else can add it.
    ///
    /// # Errors
    /// `cross_site`.
    #[inline]
    pub fn refuse_foreign(&self, head: &Head<'_>, by_token: bool) -> Result<(), Problem> {
        if head.method.is_safe() || shown_origin(head) != Origin::Foreign {
            return Ok(());
        }
        let counts = by_token || matches!(self.mode, Mode::Jwt(..));
        let on_purpose = counts && head.field(Name::Authorization) != Field::Absent;
        if on_purpose || planted(Bug::ForeignPages) || self.origins.name(head) {
            Ok(())
        } else {
            Err(Code::CrossSite.problem())
        }
    }

    /// Who sends this request. `cache` belongs to the connection: a token that it has
    /// shown before is not verified again while its times hold.
    ///
    /// # Errors
    /// `unauthenticated`, saying why in words that help no forger; `cross_site` for a token in
    /// a cookie with a change that no page of ours has sent.
    #[inline]
    pub fn identify(
        &self,
        head: &Head<'_>,
        now: UnixMillis,
        peer: IpAddr,
        cache: &mut VerdictCache,
    ) -> Result<Buyer, Problem> {
        match &self.mode {
            Mode::Jwt(keys, cookie) => {
                let shown = shown_token(head, cookie.as_deref(), &self.origins)?;
                identify_by_token(keys, shown, now, cache)
            }
            Mode::Header if self.trusts(peer) => identify_by_header(head),
            Mode::Header => Err(stranger("this address may not name buyers")),
        }
    }

    /// The address of the client: the last one in `X-Forwarded-For` that is no trusted
    /// proxy, if the peer is one; else the peer.
    ///
    /// Where the list holds something that is no address, what stands before it does not count.
    pub fn client_ip(&self, head: &Head<'_>, peer: IpAddr) -> IpAddr {
        let mut client = peer.to_canonical();
        let Some(list) = head.field(Name::XForwardedFor).last().and_then(|list| str::from_utf8(list).ok())
        else {
            return client;
        };
        let mut hops = list.rsplit(',').map(|hop| hop.trim().parse::<IpAddr>());
        while self.is_proxy(client) {
            match hops.next() {
                Some(Ok(hop)) => client = hop.to_canonical(),
                _ => break,
            }
        }
        client
    }

    /// Named as a proxy, or, where nobody is, on this machine (the listener is loopback then).
    fn trusts(&self, peer: IpAddr) -> bool {
        let nobody_named = self.trusted.is_empty();
        self.is_proxy(peer) || nobody_named && peer.to_canonical().is_loopback()
    }

    /// Whether a peer is one of the proxies that the operator named.
    pub fn is_proxy(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|net| net.contains(&peer))
    }
}

/// The last good token of a connection, and whom it names.
///
/// At most [`TOKEN_BYTES_REMEMBERED_MAX`] bytes; a pointer's size until the first token.
#[derive(Debug, Default)]
pub struct VerdictCache {
    remembered: Option<Box<Remembered>>,
}

#[derive(Debug, Default)]
struct Remembered {
    token: Vec<u8>,
    verdict: Option<token::Verdict>,
}

impl VerdictCache {
    /// Remembers nothing yet.
    pub const fn new() -> Self {
        Self { remembered: None }
    }

    /// Forgets the token, and keeps the room for the next.
    pub fn forget(&mut self) {
        if let Some(remembered) = &mut self.remembered {
            remembered.token.clear();
            remembered.verdict = None;
        }
    }

    fn get(&self, token: &[u8], now: UnixMillis) -> Option<Buyer> {
        let remembered = self.remembered.as_ref()?;
        let verdict = remembered.verdict.as_ref()?;
        (verdict.holds_at(now) && remembered.token == token).then_some(verdict.buyer)
    }

    fn put(&mut self, token: &[u8], verdict: token::Verdict) {
        self.forget();
        if token.len() <= TOKEN_BYTES_REMEMBERED_MAX {
            let remembered = self.remembered.get_or_insert_default();
            remembered.token.extend_from_slice(token);
            remembered.verdict = Some(verdict);
        }
    }
}

/// The subject with these bytes, if it can be one: 1 to 64 bytes of UTF-8 without
/// control characters.
#[inline]
pub fn subject(bytes: &[u8]) -> Option<Subject> {
    // Most are plain ASCII.
    if text_len(bytes) == bytes.len() {
        return Subject::new(bytes);
    }
    let text = str::from_utf8(bytes).ok()?;
    if text.chars().any(char::is_control) { None } else { Subject::new(bytes) }
}

/// Whether the request shows the merchant's token. The comparison takes the same
/// time wherever the first difference is; it may betray the length.
///
/// # Errors
/// `unauthenticated` if it does not, or if no token is configured (empty).
pub fn check_admin(head: &Head<'_>, token: &[u8]) -> Result<(), Problem> {
    let shown = bearer(head)?;
    if !token.is_empty() && bool::from(shown.ct_eq(token)) {
        Ok(())
    } else {
        Err(stranger("the token is not valid"))
    }
}

fn identify_by_token(
    keys: &[IdentityKey],
    shown: &[u8],
    now: UnixMillis,
    cache: &mut VerdictCache,
) -> Result<Buyer, Problem> {
    if let Some(buyer) = cache.get(shown, now) {
        return Ok(buyer);
    }
    let verdict = token::verify(keys, shown, now).map_err(|reason| stranger(reason.detail()))?;
    cache.put(shown, verdict);
    Ok(verdict.buyer)
}

#[inline]
fn identify_by_header(head: &Head<'_>) -> Result<Buyer, Problem> {
    let name = head.field(Name::XBuyer).once().filter(|name| find(b' ', name).is_none()).and_then(subject);
    let subject = name.ok_or(stranger("X-Buyer: 1 to 64 visible bytes, once"))?;
    let level = match head.field(Name::XBuyerLevel) {
        Field::Absent => Some(0),
        field => field.once().and_then(decimal).and_then(|level| u8::try_from(level).ok()),
    };
    let level = level.ok_or(stranger("X-Buyer-Level: 0 to 255, once"))?;
    Ok(Buyer { subject, level, since_s: None })
}

/// The token of the request: in `Authorization`, or else in the cookie.
fn shown_token<'a>(head: &Head<'a>, cookie: Option<&str>, origins: &Origins) -> Result<&'a [u8], Problem> {
    if let (Field::Absent, Some(name)) = (head.field(Name::Authorization), cookie)
        && let Some(token) = cookie::token(head, name, origins)?
    {
        return Ok(token);
    }
    bearer(head)
}

/// The token in `Authorization: Bearer <token>`, given once.
fn bearer<'a>(head: &Head<'a>) -> Result<&'a [u8], Problem> {
    const SCHEME: &[u8] = b"bearer ";
    let value = match head.field(Name::Authorization) {
        Field::Absent => return Err(stranger("a bearer token is required")),
        Field::Once(value) => value,
        Field::Repeated(_) => return Err(stranger("Authorization more than once")),
    };
    let (scheme, token) = value.split_at_checked(SCHEME.len()).unwrap_or_default();
    let fits = (1..=TOKEN_BYTES_MAX).contains(&token.len());
    if scheme.eq_ignore_ascii_case(SCHEME) && fits {
        Ok(token)
    } else {
        Err(stranger("Authorization is not a bearer token"))
    }
}

const fn stranger(detail: &'static str) -> Problem {
    Problem::new(Code::Unauthenticated).detail(detail)
}
