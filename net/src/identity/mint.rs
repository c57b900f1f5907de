//! Signs tokens: for `stampede token`, the demo and tests.
//!
//! [`super::token::verify`] accepts what is signed here, with the matching key. Outside of the
//! demo the server never signs a buyer's token.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::key::{Algorithm, KeyError, checked_kid, decode, key_bytes, keyed};
use crate::http::json_out;
use crate::http::subject::subject;

/// A key that can sign.
pub struct MintKey {
    kid: String,
    signer: Signer,
}

enum Signer {
    Hs256(Box<Hmac<Sha256>>),
    EdDsa(Box<SigningKey>),
}

/// The claims of a token.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claims<'a> {
    /// The buyer; 1 to 255 bytes.
    pub sub: &'a str,
    /// First Unix second at which it is no longer valid.
    pub exp_s: u64,
    /// First Unix second at which it is valid; left out if `None`.
    pub nbf_s: Option<u64>,
    /// The account's level; left out if `None`.
    pub level: Option<u8>,
    /// When the account was opened, in Unix seconds; left out if `None`.
    pub since_s: Option<u64>,
    /// The audience; left out if `None`.
    pub aud: Option<&'a str>,
    /// The issuer; left out if `None`.
    pub iss: Option<&'a str>,
}

/// Claims that no verifier would accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MintError {
    /// The subject does not fit.
    #[error("a subject must have 1 to 255 bytes and no control characters")]
    Subject,
}

impl MintKey {
    /// The key with this name, algorithm and material: a secret in base64 for HS256; a
    /// private key, in base64 or as PEM, for EdDSA.
    ///
    /// # Errors
    /// What is wrong with which of the three.
    pub fn parse(kid: &str, alg: &str, material: &str) -> Result<Self, KeyError> {
        // PrivateKeyInfo of an Ed25519 key, RFC 8410 section 7.
        const HEAD: &[u8] =
            &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        match Algorithm::from_name(alg).ok_or(KeyError::Algorithm)? {
            Algorithm::Hs256 => Self::hs256(kid, &decode(material).ok_or(KeyError::Base64)?),
            Algorithm::EdDsa => {
                let bytes = key_bytes(material, "PRIVATE KEY", HEAD).ok_or(KeyError::Private)?;
                let signer = Signer::EdDsa(Box::new(SigningKey::from_bytes(&bytes)));
                Ok(Self { kid: checked_kid(kid)?, signer })
            }
        }
    }

    /// An HS256 key out of the bytes of its secret, of which there have to be 32 at least.
    ///
    /// # Errors
    /// What is wrong with which of the two.
    pub fn hs256(kid: &str, secret: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { kid: checked_kid(kid)?, signer: Signer::Hs256(Box::new(keyed(secret)?)) })
    }

    /// Signs a token.
    ///
    /// # Errors
    /// When the subject is invalid.
    pub fn mint(&self, claims: &Claims<'_>) -> Result<String, MintError> {
        subject(claims.sub.as_bytes()).ok_or(MintError::Subject)?;
        let mut header = Vec::new();
        json_out::object(&mut header, |object| {
            object.text("alg", self.algorithm().name()).text("typ", "JWT").text("kid", &self.kid);
        });
        let mut payload = Vec::new();
        json_out::object(&mut payload, |object| fill_claims(object, claims));
        Ok(self.sign(&header, &payload))
    }

    /// Signs any header and payload: tests need invalid tokens, too.
    pub fn sign(&self, header: &[u8], payload: &[u8]) -> String {
        let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(payload));
        let signature = match &self.signer {
            Signer::Hs256(keyed) => {
                let mut mac = keyed.as_ref().clone();
                mac.update(signed.as_bytes());
                BASE64.encode(mac.finalize().into_bytes())
            }
            Signer::EdDsa(key) => BASE64.encode(key.sign(signed.as_bytes()).to_bytes()),
        };
        format!("{signed}.{signature}")
    }

    /// Its algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        match self.signer {
            Signer::Hs256(_) => Algorithm::Hs256,
            Signer::EdDsa(_) => Algorithm::EdDsa,
        }
    }
}

impl std::fmt::Debug for MintKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MintKey({:?}, {})", self.kid, self.algorithm().name())
    }
}

fn fill_claims(object: &mut json_out::Object<'_>, claims: &Claims<'_>) {
    object.text("sub", claims.sub).number("exp", claims.exp_s);
    object.number_if("nbf", claims.nbf_s).number_if("lvl", claims.level.map(u64::from));
    object.number_if("since", claims.since_s).text_if("aud", claims.aud).text_if("iss", claims.iss);
}
