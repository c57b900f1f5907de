//! What checked settings are made of.
//!
//! Next: [`super::keys`] for the table of every setting, [`super::check`] for the rules.

use std::fmt;

/// When a purchase is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ack {
    /// After its log record is durable.
    Wal,
    /// After it was decided in memory: a crash loses acknowledged orders. The banner,
    /// `/readyz` and a metric have to repeat it (invariant I17).
    Memory,
}

impl Ack {
    /// Both, with their names.
    pub const ALL: [(&'static str, Self); 2] = [("wal", Self::Wal), ("memory", Self::Memory)];
}

/// How connections are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransportChoice {
    /// The ring if the kernel has what it needs, else epoll.
    Auto,
    /// A private io_uring per core, or no start.
    Ring,
    /// Plain epoll, without io_uring.
    Epoll,
}

impl TransportChoice {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("ring", Self::Ring), ("epoll", Self::Epoll)];
}

/// By token or by header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdentityMode {
    /// `Authorization: Bearer <JWT>`.
    Jwt,
    /// `X-Buyer`, set by a gateway that has authenticated the buyer.
    Header,
}

/// One key of `identity.keys`, its parts as the operator wrote them.
#[derive(Clone, Debug)]
pub struct KeyText {
    /// Its name, which tokens carry as `kid`.
    pub kid: String,
    /// `HS256` or `EdDSA`.
    pub alg: String,
    /// The shared secret (HS256) or the public key (EdDSA), in base64; known to parse as
    /// an [`IdentityKey`](crate::identity::key::IdentityKey).
    pub material: Secret,
}

/// Where orders are exported to.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// The connection string; it may hold the password.
    pub url: Secret,
    /// Whether the operator vouches that the database holds no items and no orders: then a log
    /// that was never attached to it sells before it is reached.
    pub new_shop: bool,
}

/// A text that must not be shown: `Debug` and `Display` print a mask.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
