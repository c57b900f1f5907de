//! What is required of a token besides its subject: longest life, audience, issuer, and leeway for its times. Next:
//! [`super::token`].

/// The rules for tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRules {
    /// One of these has to be in `aud`; empty: `aud` is not checked.
    pub audience: Vec<String>,
    /// One of these has to be `iss`; empty: `iss` is not checked.
    pub issuer: Vec<String>,
    /// How long before its `nbf` a token is valid already, in milliseconds: the issuer's clock may be ahead.
    pub nbf_leeway_ms: u64,
    /// How long after its `exp` a token is still valid, in milliseconds.
    pub exp_leeway_ms: u64,
    /// Longest life, in milliseconds: from `iat` if given, and from now.
    pub life_max_ms: u64,
}

/// Thirty seconds for `nbf`, none for `exp`, a life of 366 days.
impl Default for TokenRules {
    fn default() -> Self {
        Self {
            audience: Vec::new(),
            issuer: Vec::new(),
            nbf_leeway_ms: 30_000,
            exp_leeway_ms: 0,
            life_max_ms: 366 * 24 * 3_600_000,
        }
    }
}
