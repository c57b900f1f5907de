//! What a token must look like: a JWT in compact form (RFC 7519), read strictly.
//!
//! Three parts of canonical, unpadded base64url. The header names an algorithm
//! and a key; the key knows its algorithm and the two must agree. Nothing of
//! the claims is looked at before the signature holds. Which claims are demanded
//! beside `sub` and `exp`, and how exactly times are taken, is in
//! [`super::rules`]. Allocates only for texts that are written with escapes.
//! Next: [`super::mint`].

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use stampede_core::limits::UNIX_MILLIS_MAX;
use stampede_core::types::{Subject, UnixMillis};

use super::buyer::{Buyer, stranger};
use super::key::{Algorithm, IdentityKey};
use super::numeric_date::{Round, millis};
use super::rules::TokenRules;
use crate::http::json::{FieldsError, Others, Value, each_field};
use crate::http::limits::TOKEN_BYTES_MAX;
use crate::http::problem::Problem;
use crate::http::subject::subject;

/// Room for a decoded header; a longer one belongs to no token of ours.
const HEADER_BYTES_MAX: usize = 512;
/// Room for decoded claims.
const CLAIMS_BYTES_MAX: usize = TOKEN_BYTES_MAX / 4 * 3;
/// Both algorithms sign with 64 bytes or less.
const SIGNATURE_BYTES_MAX: usize = 64;

/// Why a token does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It is no JWT of the strict kind.
    Malformed,
    /// Its header asks for what is not done here.
    Header,
    /// It names no key that is known, or not that key's algorithm.
    Key,
    /// The signature is not the key's.
    Signature,
    /// A claim is missing or has a value that it cannot have.
    Claims,
    /// It is too late for it.
    Expired,
    /// It is too early for it.
    NotYet,
    /// It would count for longer than a token may.
    TooLong,
    /// It is meant for somebody else.
    Audience,
    /// It is from somebody else.
    Issuer,
}

impl Reason {
    /// Whether anybody could have made the token, or it never counts. A buyer's own that has expired is no
    /// junk: it is remembered, so that it is verified once.
    pub const fn is_junk(self) -> bool {
        !matches!(self, Self::Expired | Self::NotYet)
    }

    /// What its sender is told.
    pub const fn problem(self) -> Problem {
        stranger(self.detail())
    }

    /// In words, for the answer.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Malformed => "the token is malformed",
            Self::Header | Self::Key | Self::Signature => "the token is not valid",
            Self::Claims => "a claim of the token is missing or malformed",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token is not valid yet",
            Self::TooLong => "the token is valid for too long; exp and iat are in seconds",
            Self::Audience => "the token is for another audience",
            Self::Issuer => "the token is from another issuer",
        }
    }
}

/// A token that was verified: whom it names, and for how long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Whom it names.
    pub buyer: Buyer,
    /// First millisecond at which it holds.
    pub from_ms: u64,
    /// First millisecond at which it no longer does.
    pub until_ms: u64,
}

impl Verdict {
    /// Whom the token names, if it counts at this time.
    ///
    /// # Errors
    /// [`Reason::Expired`] or [`Reason::NotYet`].
    pub fn at(&self, now: UnixMillis) -> Result<Buyer, Reason> {
        match () {
            () if now.0 >= self.until_ms => Err(Reason::Expired),
            () if now.0 < self.from_ms => Err(Reason::NotYet),
            () => Ok(self.buyer.clone()),
        }
    }
}

/// Verifies all of a token but that it counts now: it may be too late for it, or too early.
///
/// # Errors
/// Why it does not count at any time.
pub fn verify(
    keys: &[IdentityKey],
    rules: &TokenRules,
    token: &[u8],
    now: UnixMillis,
) -> Result<Verdict, Reason> {
    let signed_len = memchr::memrchr(b'.', token).ok_or(Reason::Malformed)?;
    let (signed, signature) = (&token[..signed_len], &token[signed_len + 1..]);
    let header_len = memchr::memchr(b'.', signed).ok_or(Reason::Malformed)?;
    let (header, claims) = (&signed[..header_len], &signed[header_len + 1..]);

    let mut room = [0u8; HEADER_BYTES_MAX];
    let key = find_key(keys, decode(header, &mut room)?)?;
    let mut room = [0u8; SIGNATURE_BYTES_MAX + 2];
    let signature = decode(signature, &mut room)?;
    // The claims are decoded only behind the signature over them: without the key
    // nobody reaches the reader.
    if !key.verifies(signed, signature) {
        return Err(Reason::Signature);
    }
    let mut room = [0u8; CLAIMS_BYTES_MAX];
    judge(read_claims(decode(claims, &mut room)?, rules)?, rules, now)
}

/// Whether the claims can hold, and from when to when. A life that is over was not too long.
fn judge(claims: Claims, rules: &TokenRules, now: UnixMillis) -> Result<Verdict, Reason> {
    let from_ms = claims.nbf_ms.saturating_sub(rules.nbf_leeway_ms);
    let until_ms = claims.exp_ms.saturating_add(rules.exp_leeway_ms);
    let lives_from_ms = claims.iat_ms.unwrap_or(now.0).min(now.0);
    // A clock that is behind the issuer's makes a life look longer.
    let life_max_ms = rules.life_max_ms.saturating_add(rules.nbf_leeway_ms);
    let life_ms = claims.exp_ms.saturating_sub(lives_from_ms);
    match () {
        () if !claims.issuer_fits => Err(Reason::Issuer),
        () if !claims.audience_fits => Err(Reason::Audience),
        () if now.0 < until_ms && life_ms > life_max_ms => Err(Reason::TooLong),
        () => Ok(Verdict { buyer: claims.buyer, from_ms, until_ms }),
    }
}

/// Strict base64url: no padding, and no two spellings of the same bytes.
fn decode<'r>(part: &[u8], room: &'r mut [u8]) -> Result<&'r [u8], Reason> {
    let len = BASE64.decode_slice(part, room).map_err(|_| Reason::Malformed)?;
    Ok(&room[..len])
}

/// The key that the header names, which has to be of the algorithm that it names.
/// A token without `kid` counts where there is one key alone.
fn find_key<'k>(keys: &'k [IdentityKey], header: &[u8]) -> Result<&'k IdentityKey, Reason> {
    let (mut alg, mut kid) = (None, None);
    each_field(header, &["alg", "kid", "crit", "b64"], Others::Skip, |index, value| {
        let text = value.as_text().ok_or(Reason::Header)?;
        match index {
            0 => alg = Some(text.plain().ok_or(Reason::Header)?),
            // PHP writes `/` as `\/`.
            1 => kid = Some(text.decoded()),
            // An extension that has to be understood is not understood (RFC 7515 section 4.1.11).
            _ => return Err(Reason::Header),
        }
        Ok(())
    })
    .map_err(|error| refused(error, Reason::Header))?;
    let alg = alg.and_then(Algorithm::from_name).ok_or(Reason::Header)?;
    let key = match (kid, keys) {
        (Some(kid), _) => keys.iter().find(|key| key.kid() == kid),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    key.filter(|key| key.algorithm() == alg).ok_or(Reason::Key)
}

/// What the claims say, as far as it counts.
struct Claims {
    buyer: Buyer,
    exp_ms: u64,
    /// 0 if it is not said.
    nbf_ms: u64,
    iat_ms: Option<u64>,
    audience_fits: bool,
    issuer_fits: bool,
}

fn read_claims(claims: &[u8], rules: &TokenRules) -> Result<Claims, Reason> {
    const NAMES: &[&str] = &["sub", "exp", "nbf", "lvl", "since", "iat", "aud", "iss"];
    let mut buyer: Option<Subject> = None;
    let (mut exp_ms, mut nbf_ms, mut iat_ms, mut level, mut since_s) = (None, 0, None, 0, None);
    let (mut audience_fits, mut issuer_fits) = (rules.audience.is_empty(), rules.issuer.is_empty());
    each_field(claims, NAMES, Others::Skip, |index, value| {
        match index {
            0 => buyer = Some(read_subject(value)?),
            1 => exp_ms = Some(read_time(value, Round::Down)?),
            2 => nbf_ms = read_time(value, Round::Up)?,
            3 => level = value.as_u64().and_then(|level| u8::try_from(level).ok()).ok_or(Reason::Claims)?,
            4 => since_s = Some(read_since(value)?),
            5 => {
                // In milliseconds it would bound no life.
                let at_ms = read_time(value, Round::Down)?;
                iat_ms = Some(at_ms).filter(|&at_ms| at_ms <= UNIX_MILLIS_MAX);
                iat_ms.ok_or(Reason::TooLong)?;
            }
            // What no rule asks for may be anything.
            6 if !audience_fits => audience_fits = names_one_of(value, &rules.audience)?,
            7 if !issuer_fits => {
                let text = value.as_text().ok_or(Reason::Claims)?;
                issuer_fits = rules.issuer.iter().any(|issuer| *issuer == text.decoded());
            }
            _ => {}
        }
        Ok(())
    })
    .map_err(|error| refused(error, Reason::Malformed))?;
    let subject = buyer.ok_or(Reason::Claims)?;
    let exp_ms = exp_ms.ok_or(Reason::Claims)?;
    Ok(Claims {
        buyer: Buyer { subject, level, since_s },
        exp_ms,
        nbf_ms,
        iat_ms,
        audience_fits,
        issuer_fits,
    })
}

fn read_time(value: Value<'_>, round: Round) -> Result<u64, Reason> {
    match value {
        Value::Number(number) => Ok(millis(number, round)),
        _ => Err(Reason::Claims),
    }
}

/// When the account was opened: our own claim, and never before 1970 or beyond all dates.
fn read_since(value: Value<'_>) -> Result<u64, Reason> {
    match value {
        Value::Number(number) if !number.starts_with('-') => {
            // In milliseconds it would lie beyond the year 9999, and no account would ever be old enough.
            let since_ms = millis(number, Round::Down);
            if since_ms <= UNIX_MILLIS_MAX { Ok(since_ms / 1_000) } else { Err(Reason::Claims) }
        }
        _ => Err(Reason::Claims),
    }
}

/// `aud` is a string or an array of strings (RFC 7519 section 4.1.3).
fn names_one_of(value: Value<'_>, wanted: &[String]) -> Result<bool, Reason> {
    value.any_text(|name| wanted.iter().any(|wanted| wanted == name)).ok_or(Reason::Claims)
}

fn read_subject(value: Value<'_>) -> Result<Subject, Reason> {
    let text = value.as_text().ok_or(Reason::Claims)?;
    subject(text.decoded().as_bytes()).ok_or(Reason::Claims)
}

fn refused(error: FieldsError<'_, Reason>, otherwise: Reason) -> Reason {
    match error {
        FieldsError::Refused(reason) => reason,
        FieldsError::Json | FieldsError::Unknown(_) => otherwise,
    }
}
