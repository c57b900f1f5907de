//! Checked settings: what the rest of the program reads.
//!
//! Next: [`super::keys`] for the table of every setting, [`super::check`] for the rules.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use stampede_persist::log::dir::LogOptions;

use crate::engine::clock::Begin;
use crate::identity::address::AddressHeader;
use crate::identity::cors::Origins;
use crate::identity::rules::TokenRules;

/// Everything that a running server needs to know, each value checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where buyers connect.
    pub listen: SocketAddr,
    /// Where the shop's back office connects.
    pub admin_listen: SocketAddr,
    /// The processors to pin one executor to each, ascending, none twice;
    /// 1 to `CORES_MAX` of them, all usable by this process.
    pub cores: Vec<usize>,
    /// Where the log, the snapshots and the made secrets are kept.
    pub data_dir: PathBuf,
    /// When a purchase is answered.
    pub ack: Ack,
    /// How connections are served.
    pub transport: TransportChoice,
    /// Where the sale clock begins when the log lies ahead of the wall clock.
    pub clock: Begin,
    /// Whether this is `serve --demo`.
    pub demo: bool,
    /// How buyers prove who they are.
    pub identity: IdentitySettings,
    /// Where orders are exported to; `None` = nowhere, the log keeps them all.
    pub postgres: Option<PostgresSettings>,
    /// Bounds that an operator may move.
    pub limits: LimitSettings,
    /// Tickets, challenges and suspicion.
    pub gate: GateSettings,
    /// The log's share of the disk.
    pub log: LogSettings,
    /// The merchant listener.
    pub admin: AdminSettings,
    /// How the server stops.
    pub shutdown: ShutdownSettings,
}

/// When a purchase is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ack {
    /// After its log record is durable.
    Wal,
    /// After it was decided in memory: a crash loses acknowledged orders. The banner,
    /// `/readyz` and a metric have to repeat it (invariant I17).
    Memory,
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

/// How buyers prove who they are.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// By token or by a header that a gateway sets.
    pub mode: IdentityMode,
    /// The keys that tokens may be signed with; in demo mode the made key is not among
    /// them yet, see [`super::secrets::identity_keys`]. Empty in header mode.
    pub keys: Vec<KeyText>,
    /// Whose `address_header` counts, and in header mode whose `X-Buyer`.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which those proxies say whose request it is.
    pub address_header: AddressHeader,
    /// Whether those proxies begin each connection with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// The cookie that may carry a token; counts in jwt mode.
    pub cookie: String,
    /// What a token has to say; counts in jwt mode.
    pub rules: TokenRules,
    /// Whose pages may call the API besides those of its own host.
    pub cors_origins: Origins,
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

/// Bounds that an operator may move.
#[derive(Clone, Copy, Debug)]
pub struct LimitSettings {
    /// Most open connections of the public listener, over all cores.
    pub connections: u32,
    /// Most open connections of the merchant listener.
    pub admin_connections: u32,
    /// Most requests a second of one buyer, per core; 0 = no limit.
    pub buyer_per_s: u32,
    /// Most requests a second from one address, per core; 0 = no limit.
    pub ip_per_s: u32,
    /// How many invalid tokens one address may send, per second and core; 0 = no limit.
    pub bad_tokens_per_s: u32,
    /// Most open public connections from one address, per core; 0 = no limit.
    pub connections_per_ip: u32,
    /// How long a connection may say nothing, in milliseconds.
    pub idle_ms: u32,
    /// Longest head of a request, in bytes.
    pub head_bytes: u32,
}

/// Tickets, challenges and suspicion.
#[derive(Clone, Debug)]
pub struct GateSettings {
    /// How long a ticket is good for, in milliseconds.
    pub ticket_ms: u64,
    /// The keys of tickets, each known to parse by [`super::check::ticket_key`], the first seals; empty =
    /// those of `DATA_DIR/ticket.keys`, see [`super::secrets::ticket_keys`].
    pub ticket_keys: Vec<Secret>,
    /// How long a challenge can be answered, in milliseconds.
    pub challenge_ms: u64,
    /// Zero bits of a proof of work.
    pub pow_bits: u32,
    /// Accounts behind one address from which on it is suspicious; 0 = no bound.
    pub suspicious_accounts: u32,
    /// Asks for tickets from one address in a minute from which on it is suspicious; 0 = no bound.
    pub suspicious_asks_per_min: u32,
}

/// The log's share of the disk.
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// Size of one segment file, in bytes; a multiple of 4096.
    pub segment_bytes: u64,
    /// Most bytes that all segments together may take.
    pub bytes_max: u64,
    /// Whether a log in memory (tmpfs) is accepted. The banner, `/readyz` and a metric
    /// have to repeat it (invariant I17).
    pub allow_tmpfs: bool,
}

/// The merchant listener.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// The configured token; `None` = the one in `DATA_DIR/admin.token`,
    /// see [`super::secrets::admin_token`].
    pub token: Option<Secret>,
}

/// How the server stops.
#[derive(Clone, Copy, Debug)]
pub struct ShutdownSettings {
    /// Longest time between SIGTERM and the end of the process, in milliseconds.
    pub deadline_ms: u64,
    /// How much of that it sells on while it says that it is not ready, in milliseconds.
    pub lame_duck_ms: u64,
}

impl Settings {
    /// Most open public connections of one core: an equal share, rounded up. The kernel
    /// spreads connections by hash, so one core can be full a little before all are.
    pub fn connections_per_core(&self) -> u32 {
        self.limits.connections.div_ceil(self.cores.len() as u32)
    }

    /// What the log is opened with.
    pub fn log_options(&self) -> LogOptions {
        LogOptions {
            segment_bytes: self.log.segment_bytes,
            log_bytes_max: self.log.bytes_max,
            allow_volatile: self.log.allow_tmpfs,
            exports: self.postgres.is_some(),
            ..LogOptions::default()
        }
    }
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
