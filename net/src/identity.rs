//! Who sends a request: known by a verified token, or by a header of a trusted gateway.
//!
//! A subject is opaque: its bytes are compared and never normalised, so two that look alike are two buyers. Any
//! doubt is 401. The clock and the peer's address are arguments. Recognising a token that was verified before is
//! cheap, verifying one is expensive: they are two calls, so that the caller can check limits between them. Next:
//! [`key`] for keys, [`token`] for what a token must look like, [`verdicts`] for those that were verified,
//! [`cookie`] for browsers.

pub mod address;
mod buyer;
pub mod cookie;
pub mod cors;
pub mod demo;
pub mod key;
pub mod mint;
mod numeric_date;
pub mod rules;
pub mod token;
pub mod verdicts;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use stampede_core::types::UnixMillis;
use subtle::ConstantTimeEq as _;

use crate::http::answer::Cors;
use crate::http::chars::{decimal, find};
use crate::http::field::{Field, Name};
use crate::http::head::Head;
use crate::http::limits::TOKEN_BYTES_MAX;
use crate::http::problem::{Code, Problem};
use crate::http::route::Listener;
pub use crate::http::subject::subject;
use address::{AddressHeader, Client};
pub use buyer::Buyer;
use buyer::stranger;
use cookie::{Origin, shown_origin};
use cors::Origins;
use key::IdentityKey;
use rules::TokenRules;
use token::Reason;
pub use verdicts::VerdictCache;

/// How buyers are identified, from checked settings. Shared by all cores.
#[derive(Debug)]
pub struct Identity {
    /// Unique within the process: tokens that one identity has verified are not valid for another.
    number: u64,
    mode: Mode,
    trusted: Vec<IpNet>,
    address_header: AddressHeader,
    /// Proxies put a header of the PROXY protocol before the bytes of each connection.
    proxy_protocol: bool,
    origins: Origins,
}

/// What is known of a request's sender without checking a signature.
#[derive(Clone, Debug)]
pub enum Recognised<'a> {
    /// The buyer: named by a gateway, or by a token that was verified before.
    Buyer(Buyer),
    /// A token that still has to be verified, which is expensive: [`Identity::verify`].
    Unverified(Unverified<'a>),
}

/// A token that was not verified before. Only [`Identity::recognise`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Unverified<'a>(&'a [u8]);

fn next_number() -> u64 {
    /// Counted up by whoever makes an identity; Relaxed, since only that numbers differ counts.
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

#[derive(Debug)]
enum Mode {
    Jwt(Tokens),
    Header,
}

/// How tokens are taken.
#[derive(Debug)]
struct Tokens {
    keys: Vec<IdentityKey>,
    rules: TokenRules,
    /// The name of the cookie that may carry the token instead of the header.
    cookie: Option<String>,
}

/// Invalid identity settings.
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
        let tokens = Tokens { keys, rules: TokenRules::default(), cookie: None };
        Ok(Self::by(Mode::Jwt(tokens), trusted))
    }

    /// The same; requests without `Authorization` may carry the token in the cookie of this name.
    /// Changes nothing in header mode.
    #[must_use]
    pub fn with_cookie(mut self, name: &str) -> Self {
        if let Mode::Jwt(tokens) = &mut self.mode {
            tokens.cookie = Some(name.to_owned());
        }
        self
    }

    /// The same with another header in which trusted proxies name the client.
    #[must_use]
    pub const fn with_address_header(mut self, header: AddressHeader) -> Self {
        self.address_header = header;
        self
    }

    /// The same where trusted proxies begin each connection with a header of the PROXY protocol. Changes
    /// nothing in header mode: a proxy that only forwards bytes would let anybody name buyers.
    #[must_use]
    pub const fn with_proxy_protocol(mut self, expected: bool) -> Self {
        self.proxy_protocol = expected && matches!(self.mode, Mode::Jwt(_));
        self
    }

    /// Whether a connection of this peer has to begin with a header of the PROXY protocol: to the buyers' API,
    /// from a trusted proxy. From any other peer such a header is not read.
    pub fn expects_proxy_header(&self, listener: Listener, peer: IpAddr) -> bool {
        self.proxy_protocol && listener == Listener::Public && self.is_proxy(peer)
    }

    /// The header in which trusted proxies name the client.
    pub const fn address_header(&self) -> AddressHeader {
        self.address_header
    }

    /// The same with other rules for tokens. Changes nothing in header mode.
    #[must_use]
    pub fn with_rules(mut self, rules: TokenRules) -> Self {
        if let Mode::Jwt(tokens) = &mut self.mode {
            tokens.rules = rules;
        }
        self
    }

    /// A gateway names the buyers in a header; `listen` is the address of the buyers' API.
    ///
    /// # Errors
    /// When that address is not loopback and no proxy is trusted.
    pub fn header(listen: IpAddr, trusted: Vec<IpNet>) -> Result<Self, IdentityError> {
        if trusted.is_empty() && !listen.to_canonical().is_loopback() {
            return Err(IdentityError::NobodyToTrust(listen));
        }
        Ok(Self::by(Mode::Header, trusted))
    }

    fn by(mode: Mode, trusted: Vec<IpNet>) -> Self {
        let (address_header, origins) = (AddressHeader::XForwardedFor, Origins::default());
        Self { number: next_number(), mode, trusted, address_header, proxy_protocol: false, origins }
    }

    /// The same; pages of these origins may use the API, too.
    #[must_use]
    pub fn with_origins(self, origins: Origins) -> Self {
        Self { origins, ..self }
    }

    /// The CORS header lines for the page that sent this request, if it may read the response.
    #[inline]
    pub fn may_read(&self, head: &Head<'_>) -> Option<&'static Cors> {
        self.origins.may_read(head)
    }

    /// CSRF protection for every request that changes something, however its sender is identified: it must
    /// not come from a foreign page, because browsers attach cookies to such a page's requests, and a gateway
    /// may name the buyer by them. Allowed are requests that no page has sent; pages of this host and of the
    /// configured origins; and requests with a token in `Authorization`, where tokens are checked (`by_token`,
    /// or buyers are identified by tokens), since no foreign page can add one.
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
        if on_purpose || self.origins.name(head) { Ok(()) } else { Err(Code::CrossSite.problem()) }
    }

    /// Who sends this request, as far as is known without checking a signature. `cache` belongs to the core:
    /// a token in it is not verified again while it is valid.
    ///
    /// # Errors
    /// `unauthenticated`, with a reason that does not help a forger; `cross_site` for a token in a cookie
    /// with a change that none of our pages has sent.
    #[inline]
    pub fn recognise<'a>(
        &self,
        head: &Head<'a>,
        now: UnixMillis,
        peer: IpAddr,
        cache: &mut VerdictCache,
    ) -> Result<Recognised<'a>, Problem> {
        match &self.mode {
            Mode::Jwt(tokens) => {
                let shown = shown_token(head, tokens.cookie.as_deref(), &self.origins)?;
                match cache.get(self.number, shown, now) {
                    None => Ok(Recognised::Unverified(Unverified(shown))),
                    Some(Ok(known)) => Ok(Recognised::Buyer(known)),
                    Some(Err(reason)) => Err(reason.problem()),
                }
            }
            Mode::Header if self.trusts(peer) => identify_by_header(head).map(Recognised::Buyer),
            Mode::Header => Err(stranger("this address may not name buyers")),
        }
    }

    /// Verifies a token, and remembers it if it is valid, was or will be. This is the expensive part: an EdDSA
    /// signature takes about 50 µs, good or bad.
    ///
    /// # Errors
    /// Why it is not valid.
    pub fn verify(
        &self,
        Unverified(token): Unverified<'_>,
        now: UnixMillis,
        cache: &mut VerdictCache,
    ) -> Result<Buyer, Reason> {
        let Mode::Jwt(tokens) = &self.mode else { return Err(Reason::Key) };
        let verdict = token::verify(&tokens.keys, &tokens.rules, token, now)?;
        let known = verdict.at(now);
        cache.put(self.number, token, verdict, now);
        known
    }

    /// Both in one, for callers without limits.
    ///
    /// # Errors
    /// As for the two.
    #[inline]
    pub fn identify(
        &self,
        head: &Head<'_>,
        now: UnixMillis,
        peer: IpAddr,
        cache: &mut VerdictCache,
    ) -> Result<Buyer, Problem> {
        match self.recognise(head, now, peer, cache)? {
            Recognised::Buyer(buyer) => Ok(buyer),
            Recognised::Unverified(token) => self.verify(token, now, cache).map_err(Reason::problem),
        }
    }

    /// The client: if the peer is a trusted proxy, the last address in the address header that is not a trusted
    /// proxy; otherwise the peer. With the PROXY protocol the peer is the address that its header names.
    pub fn client(&self, head: &Head<'_>, peer: IpAddr) -> Client {
        let peer = peer.to_canonical();
        if !self.is_proxy(peer) {
            return Client { ip: peer, is_known: true };
        }
        address::client_behind(head, self.address_header, peer, |ip| self.is_proxy(ip))
    }

    /// The address of [`Self::client`].
    pub fn client_ip(&self, head: &Head<'_>, peer: IpAddr) -> IpAddr {
        self.client(head, peer).ip
    }

    /// Whether requests should name the client's address in a header: buyers are identified by tokens, and
    /// proxies are configured.
    pub const fn expects_addresses(&self) -> bool {
        matches!(self.mode, Mode::Jwt(_)) && !self.trusted.is_empty()
    }

    /// Whether a peer may name buyers: a trusted proxy, or, if none is configured, this machine (the API then
    /// listens on loopback).
    fn trusts(&self, peer: IpAddr) -> bool {
        let nobody_named = self.trusted.is_empty();
        self.is_proxy(peer) || nobody_named && peer.to_canonical().is_loopback()
    }

    /// Whether a peer is one of the configured proxies.
    pub fn is_proxy(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|net| net.contains(&peer))
    }
}

/// Checks the token of the merchant API, in constant time except for its length.
///
/// # Errors
/// `unauthenticated` if it is not the right one, or if no token is configured (empty).
pub fn check_admin(head: &Head<'_>, token: &[u8]) -> Result<(), Problem> {
    let shown = bearer(head)?;
    if !token.is_empty() && bool::from(shown.ct_eq(token)) {
        Ok(())
    } else {
        Err(stranger("the token is not valid"))
    }
}

#[inline]
fn identify_by_header(head: &Head<'_>) -> Result<Buyer, Problem> {
    let name = head.field(Name::XBuyer).once().filter(|name| find(b' ', name).is_none()).and_then(subject);
    let subject = name.ok_or(stranger("X-Buyer: 1 to 255 visible bytes, once"))?;
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
