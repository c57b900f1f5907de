//! What a token must look like: a JWT in compact form (RFC 7519), read strictly.
//!
//! Three parts of canonical, unpadded base64url. The header names an algorithm
//! and a key; the key knows its algorithm and the two must agree. Nothing of
//! the claims is looked at before the signature holds. No leeway on times: the
//! clock that checks is the clock that sells. Allocates only for a subject that
//! is written with escapes. Next: [`super::mint`].

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use stampede_core::types::{Subject, UnixMillis};

use super::key::{Algorithm, IdentityKey};
use super::{Buyer, subject};
use crate::http::json::{FieldsError, Others, Value, each_field};
use crate::http::limits::TOKEN_BYTES_MAX;

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
}

impl Reason {
    /// In words, for the answer.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Malformed => "the token is malformed",
            Self::Header | Self::Key | Self::Signature => "the token is not valid",
            Self::Claims => "a claim of the token is missing or malformed",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token is not valid yet",
        }
    }
}

/// A token that was verified: whom it names, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Whom it names.
    pub buyer: Buyer,
    /// First millisecond at which it holds.
    pub from_ms: u64,
    /// First millisecond at which it no longer does.
    pub until_ms: u64,
}

impl Verdict {
    /// Whether the token counts at this time.
    pub const fn holds_at(&self, now: UnixMillis) -> bool {
        self.from_ms <= now.0 && now.0 < self.until_ms
    }
}

/// Verifies a token.
///
/// # Errors
/// Why it does not count.
pub fn verify(keys: &[IdentityKey], token: &[u8], now: UnixMillis) -> Result<Verdict, Reason> {
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
    let verdict = read_claims(decode(claims, &mut room)?)?;
    match verdict {
        _ if now.0 >= verdict.until_ms => Err(Reason::Expired),
        _ if now.0 < verdict.from_ms => Err(Reason::NotYet),
        _ => Ok(verdict),
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
        let text = value.as_text().and_then(|text| text.plain()).ok_or(Reason::Header);
        match index {
            0 => alg = Some(text?),
            1 => kid = Some(text?),
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

fn read_claims(claims: &[u8]) -> Result<Verdict, Reason> {
    let mut buyer: Option<Subject> = None;
    let (mut exp, mut nbf, mut lvl, mut since) = (None, 0, 0, None);
    each_field(claims, &["sub", "exp", "nbf", "lvl", "since"], Others::Skip, |index, value| {
        let number = || value.as_u64().ok_or(Reason::Claims);
        match index {
            0 => buyer = Some(read_subject(value)?),
            1 => exp = Some(number()?),
            2 => nbf = number()?,
            3 => lvl = u8::try_from(number()?).map_err(|_| Reason::Claims)?,
            _ => since = Some(number()?),
        }
        Ok(())
    })
    .map_err(|error| refused(error, Reason::Malformed))?;
    let subject = buyer.ok_or(Reason::Claims)?;
    let until_ms = exp.ok_or(Reason::Claims)?.saturating_mul(1_000);
    let from_ms = nbf.saturating_mul(1_000);
    Ok(Verdict { buyer: Buyer { subject, level: lvl, since_s: since }, from_ms, until_ms })
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
