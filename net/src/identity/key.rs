//! Keys that tokens are verified with.
//!
//! A key belongs to exactly one algorithm, so that no token can choose how it is verified
//! (RFC 8725 section 3.1). Next: [`super::token`].

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::named::named;

/// Shortest HS256 secret, in bytes (RFC 7518 section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// Longest name of a key, in bytes.
pub const KID_BYTES_MAX: usize = 64;

named! {
    /// The supported algorithms.
    pub enum Algorithm {
        /// HMAC with SHA-256 (RFC 7518).
        Hs256 = "HS256",
        /// Ed25519 (RFC 8037).
        EdDsa = "EdDSA",
    }
}

/// An invalid key in the settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// The name does not fit.
    #[error("a kid must have 1 to 64 visible ASCII characters without quotes and backslashes")]
    Kid,
    /// The algorithm is not supported.
    #[error("alg must be \"HS256\" or \"EdDSA\"")]
    Algorithm,
    /// The material is not base64.
    #[error("the key is not base64. Give the bytes of the secret or of the public key in base64")]
    Base64,
    /// The secret is too short to be safe.
    #[error("an HS256 secret must have at least 32 bytes. Draw one: openssl rand -base64 32")]
    Short,
    /// No Ed25519 public key.
    #[error(
        "an EdDSA key must be an Ed25519 public key: its 32 bytes in base64, or a PEM block \"PUBLIC KEY\""
    )]
    Public,
    /// No Ed25519 private key.
    #[error(
        "to sign with EdDSA takes an Ed25519 private key: its 32 bytes in base64, or a PEM block \"PRIVATE KEY\""
    )]
    Private,
}

/// One key that tokens are verified with.
#[derive(Clone)]
pub struct IdentityKey {
    kid: String,
    check: Check,
}

#[derive(Clone)]
enum Check {
    /// Keyed already.
    Hs256(Box<Hmac<Sha256>>),
    EdDsa(Box<VerifyingKey>),
}

impl IdentityKey {
    /// The key with this name, algorithm and material: a secret in base64 for HS256; a
    /// public key, in base64 or as PEM, for EdDSA.
    ///
    /// # Errors
    /// What is wrong with which of the three.
    pub fn parse(kid: &str, alg: &str, material: &str) -> Result<Self, KeyError> {
        match Algorithm::from_name(alg).ok_or(KeyError::Algorithm)? {
            Algorithm::Hs256 => Self::hs256(kid, &decode(material).ok_or(KeyError::Base64)?),
            Algorithm::EdDsa => {
                let check = Check::EdDsa(Box::new(public_key(material)?));
                Ok(Self { kid: checked_kid(kid)?, check })
            }
        }
    }

    /// An HS256 key out of the bytes of its secret, of which there have to be 32 at least.
    ///
    /// # Errors
    /// What is wrong with which of the two.
    pub fn hs256(kid: &str, secret: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { kid: checked_kid(kid)?, check: Check::Hs256(Box::new(keyed(secret)?)) })
    }

    /// Its name.
    pub fn kid(&self) -> &str {
        &self.kid
    }
    /// Its algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        match self.check {
            Check::Hs256(_) => Algorithm::Hs256,
            Check::EdDsa(_) => Algorithm::EdDsa,
        }
    }
    /// Whether this is the key's signature of this message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.check {
            Check::Hs256(keyed) => {
                let mut mac = keyed.as_ref().clone();
                mac.update(message);
                mac.verify_slice(signature).is_ok()
            }
            Check::EdDsa(key) => Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
        }
    }
}

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdentityKey({:?}, {})", self.kid, self.algorithm().name())
    }
}

pub(super) fn checked_kid(kid: &str) -> Result<String, KeyError> {
    let fits = (1..=KID_BYTES_MAX).contains(&kid.len());
    let plain = kid.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    if fits && plain { Ok(kid.to_owned()) } else { Err(KeyError::Kid) }
}

pub(super) fn keyed(secret: &[u8]) -> Result<Hmac<Sha256>, KeyError> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err(KeyError::Short);
    }
    Hmac::new_from_slice(secret).map_err(|_| KeyError::Short)
}

fn public_key(material: &str) -> Result<VerifyingKey, KeyError> {
    // SubjectPublicKeyInfo of an Ed25519 key, RFC 8410 section 4.
    const HEAD: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let bytes = key_bytes(material, "PUBLIC KEY", HEAD).ok_or(KeyError::Public)?;
    let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Public)?;
    if key.is_weak() { Err(KeyError::Public) } else { Ok(key) }
}

/// The 32 bytes of a key: bare in base64, or behind `head` in a PEM block.
pub(super) fn key_bytes(material: &str, label: &str, head: &[u8]) -> Option<[u8; 32]> {
    let material = material.trim();
    let Some(rest) = material.strip_prefix("-----BEGIN ") else { return decode(material)?.try_into().ok() };
    let rest = rest.strip_prefix(label)?.strip_prefix("-----")?;
    let rest = rest.strip_suffix("-----")?.strip_suffix(label)?.strip_suffix("-----END ")?;
    let der = decode(&rest.split_ascii_whitespace().collect::<String>())?;
    der.strip_prefix(head)?.try_into().ok()
}

/// Base64 in either alphabet, with or without padding.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let url_safe = text.contains(['-', '_']);
    let alphabet = if url_safe { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, lenient).decode(text.trim()).ok()
}
