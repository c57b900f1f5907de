//! Sessions of the demo: an invented buyer, with a token that the demo's own key signs.
//!
//! With `--demo` only. Randomness and the time are arguments.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use stampede_core::types::UnixMillis;

use super::mint::{Claims, MintError, MintKey};
use super::rules::TokenRules;

/// How long a session is valid, in seconds, unless the rules for tokens say less.
pub const SESSION_S: u64 = 24 * 3_600;
/// Random bytes in the name of a buyer.
pub const RANDOM_BYTES: usize = 12;

/// What the demo makes its sessions with.
#[derive(Debug)]
pub struct Demo {
    key: MintKey,
    cookie: String,
    /// The audience that tokens need here.
    aud: Option<String>,
    iss: Option<String>,
    session_s: u64,
}

/// A fresh buyer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// The buyer: `demo-` and something random.
    pub sub: String,
    /// The buyer's token.
    pub token: String,
    /// The same token as the value of `Set-Cookie`.
    pub cookie: String,
}

impl Demo {
    /// Sessions signed with `key`, in the cookie of this name, so that these rules take them.
    pub fn new(key: MintKey, cookie: String, rules: &TokenRules) -> Self {
        let session_s = SESSION_S.min(rules.life_max_ms / 1_000);
        let (aud, iss) = (rules.audience.first().cloned(), rules.issuer.first().cloned());
        Self { key, cookie, aud, iss, session_s }
    }

    /// A fresh buyer. `random` has to be unguessable.
    ///
    /// # Errors
    /// Never: the name is always a valid subject.
    pub fn session(&self, random: &[u8; RANDOM_BYTES], now: UnixMillis) -> Result<Session, MintError> {
        let sub = format!("demo-{}", BASE64.encode(random));
        let (aud, iss) = (self.aud.as_deref(), self.iss.as_deref());
        let exp_s = now.0 / 1_000 + self.session_s;
        let token = self.key.mint(&Claims { sub: &sub, exp_s, aud, iss, ..Claims::default() })?;
        let (name, session_s) = (&self.cookie, self.session_s);
        // Without `Secure`: the demo serves this machine only, and not over TLS.
        let cookie = format!("{name}={token}; Path=/; Max-Age={session_s}; HttpOnly; SameSite=Strict");
        Ok(Session { sub, token, cookie })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_a_buyer_of_its_own() {
        let key = MintKey::hs256("demo", &[7; 32]).expect("a key");
        let demo = Demo::new(key, "shop".to_owned(), &TokenRules::default());
        let first = demo.session(&[1; RANDOM_BYTES], UnixMillis(5_000)).expect("a session");
        let second = demo.session(&[2; RANDOM_BYTES], UnixMillis(5_000)).expect("a session");
        assert_ne!(first.sub, second.sub);
        assert!(first.sub.starts_with("demo-") && first.sub.len() == 21, "{}", first.sub);
        let attributes = "; Path=/; Max-Age=86400; HttpOnly; SameSite=Strict";
        assert_eq!(first.cookie, format!("shop={}{attributes}", first.token));
    }
}
