//! The table of every setting: its name, type, default, form and meaning.
//!
//! The types that the rest of the program reads, the reader, `check-config` and the table in docs/CONFIG.md
//! are all made from it or compared with it, so a setting that does nothing, or that nobody described,
//! cannot exist. How a value is written is in [`super::forms`], rules between settings are in
//! [`super::check`].

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;
use stampede_persist::log::dir::LogOptions;

use super::forms::*;
use super::raw_value::RawValue;
use super::table::{dotted, option, settings};
use super::values::{Ack, IdentityMode, KeyText, PostgresSettings, Secret, TransportChoice};
use crate::engine::clock::Begin;
use crate::gate::watch::ACCOUNTS_MAX;
use crate::http::limits::{HEAD_BYTES, HEAD_BYTES_MAX};
use crate::identity::address::AddressHeader;
use crate::identity::cors::Origins;
use crate::identity::rules::TokenRules;

/// What the names of our environment variables begin with.
pub const ENV_PREFIX: &str = "STAMPEDE_";
/// The environment variable that names the settings file, as `--config` does.
pub const ENV_CONFIG: &str = "STAMPEDE_CONFIG";

/// Requests a second of a buyer or an address; requests for tickets in a minute.
const PER_TIME: RangeInclusive<u64> = 0..=1_000_000;
/// Bytes of a log segment: at least a few groups of the largest size, at most what the log takes.
pub const SEGMENT_BYTES: RangeInclusive<u64> = (4 << 20)..=(1 << 30);
/// Bytes of all log segments: the least holds a full queue of facts many times over.
pub const LOG_BYTES: RangeInclusive<u64> = (128 << 20)..=(1 << 50);
/// The budget must hold the segment in use, its spare, and two to drain.
pub const SEGMENTS_MIN: u64 = 4;
/// Milliseconds of the deadline that must remain after the lame duck, to answer what is owed.
pub const AFTER_LAME_DUCK_MS: u64 = 2_000;

settings! {
    /// Everything that a running server needs to know, each value checked.
    Settings {
        /// Where buyers connect.
        listen: SocketAddr = "127.0.0.1:7070" flag "--listen",
            address("an address and a port, such as 127.0.0.1:7070 or [::]:7070");
        /// The merchant API: the shop's back office, payment callbacks and metrics connect here.
        admin_listen: SocketAddr = "127.0.0.1:7071" flag "--admin-listen",
            address("an address and a port other than those of listen");
        /// The processors to serve on, one pinned thread each; a number takes the first ones that the process
        /// may use.
        cores: Vec<usize> = "all" flag "--cores", cores();
        /// Where the log, the snapshots and the generated secrets are kept.
        data_dir: PathBuf = "./stampede-data" flag "--data-dir" demo "./stampede-demo", directory();
        /// When a purchase is answered: once it is durable (wal), or before that (memory: a crash loses
        /// acknowledged orders).
        ack: Ack = "wal" flag "--ack", choice(&Ack::ALL);
        /// How connections are served: over one io_uring per core (ring), over epoll (epoll), or over
        /// io_uring where the kernel allows it (auto).
        transport: TransportChoice = "auto" flag "--transport", transport();
        /// Where the sale clock begins when the log holds later times than this machine's clock shows: at the
        /// log's last fact (log: never backwards), or at this machine's clock (wall: the log's times are
        /// known to be wrong).
        clock: Begin = "log" flag "--clock", choice(&[("log", Begin::AtTheLog), ("wall", Begin::AtTheWall)]);
    }

    /// How buyers prove who they are.
    identity: IdentitySettings {
        /// How buyers prove who they are: by a signed token, or by the X-Buyer header of a gateway that has
        /// authenticated them.
        mode: IdentityMode = "jwt", choice(&[("jwt", IdentityMode::Jwt), ("header", IdentityMode::Header)]);
        /// The keys that tokens may be signed with; several, so that they can be rotated.
        keys: Vec<KeyText> = "" [secret], identity_keys();
        /// The proxies to trust: the server believes their identity.address_header (X-Forwarded-For), and
        /// in header mode their X-Buyer; needed in header mode unless listen is loopback.
        trusted_proxies: Vec<IpNet> = "", networks();
        /// The header in which trusted proxies give the client's address. Name one that your proxy always
        /// sets itself: if it passes on the client's own header, the client can forge its address.
        address_header: AddressHeader = "X-Forwarded-For", address_header();
        /// Whether trusted proxies begin each connection to listen with a header of the PROXY protocol,
        /// version 1 or 2 (HAProxy: send-proxy-v2, nginx stream: proxy_protocol on). A connection without
        /// the header is then closed. Needs identity.trusted_proxies, and identity.mode = jwt.
        proxy_protocol: bool = "false", truth();
        /// The cookie that may carry a buyer's token where a request has no Authorization; counts with
        /// identity.mode = jwt.
        cookie: String = "stampede_session", cookie();
        /// The audiences to accept: a token's aud claim must be or contain one of these; none = aud is
        /// ignored, and tokens issued for other services with the same key are accepted. For identity.mode
        /// = jwt.
        audience: Vec<String> = "", texts("aud");
        /// The issuers to accept: a token's iss claim must be one of these; none = iss is ignored. For
        /// identity.mode = jwt.
        issuer: Vec<String> = "", texts("iss");
        /// How many seconds before its nbf a token is accepted: the issuer's clock may be ahead of this
        /// machine's.
        nbf_leeway_s: u64 = "30", number(0..=300);
        /// How many seconds after its exp a token is still accepted.
        exp_leeway_s: u64 = "0", number(0..=300);
        /// Longest life of a token in seconds, both from its iat and from now to its exp; a longer one is
        /// refused (an exp in milliseconds by mistake would be valid for 50,000 years).
        token_life_max_s: u64 = "31622400", number(60..=3_155_760_000);
        /// The origins whose pages may call the API, with cookies, besides pages of its own host; * = all
        /// origins, without cookies.
        cors_origins: Origins = "", origins();
    }

    /// Where orders are exported to; see [`Settings::postgres()`].
    postgres: PostgresTable {
        /// The database to export orders to; none = no export, the log keeps all orders.
        url: Option<Secret> = "" flag "--postgres" [secret], postgres_url();
        /// Sell before the database was reached for the first time, because it is known to hold no items
        /// and no orders. Has no effect once this data directory is attached to the database.
        new_shop: bool = "false" flag "--new-shop", truth();
    }

    /// Bounds that an operator may move.
    limits: LimitSettings {
        /// Most open connections of the public listener, shared equally among the cores.
        connections: u32 = "50000" demo "4096", number(1..=10_000_000);
        /// Most open connections of the merchant listener.
        admin_connections: u32 = "256", number(1..=65_536);
        /// Most requests a second of one buyer for purchases, tickets and challenges, per core; 0 = no limit.
        buyer_per_s: u32 = "0", number(PER_TIME);
        /// The same limit for one address (an IPv6 /64 is one address); invalid tokens count as requests
        /// too; 0 = no limit.
        ip_per_s: u32 = "0", number(PER_TIME);
        /// How many invalid tokens one address may send, per second and core; bursts of three seconds' worth
        /// are allowed. Above that, a token that this core has not verified before gets 429 before its
        /// signature is checked, except about one in 64. Expired tokens are not counted as invalid. 0 = no
        /// limit.
        bad_tokens_per_s: u32 = "20", number(PER_TIME);
        /// Most open connections from one address to the public listener, per core; trusted proxies are
        /// exempt; 0 = no limit.
        connections_per_ip: u32 = "0", number(0..=10_000_000);
        /// How long a connection may be silent before it is closed, in milliseconds; each response tells
        /// clients (Keep-Alive: timeout). Make it longer than a proxy in front keeps idle connections.
        idle_ms: u32 = "75000", number(1_000..=3_600_000);
        /// Longest head of a request, cookies included; a longer one gets 431 headers_too_large. A
        /// connection uses this memory only while it receives a head.
        head_bytes: u32 = "8KiB", size(HEAD_BYTES as u64..=HEAD_BYTES_MAX as u64);
    }

    /// Tickets, challenges and suspicion.
    gate: GateSettings {
        /// How long a ticket is valid, in milliseconds.
        ticket_ms: u64 = "120000", number(1_000..=3_600_000);
        /// The keys of tickets: the first signs new tickets, both are accepted. Needed where several
        /// machines share a sale; none = the server makes one and keeps it in DATA_DIR/ticket.keys.
        ticket_keys: Vec<Secret> = "" [secret], ticket_keys();
        /// How long a challenge can be answered, in milliseconds.
        challenge_ms: u64 = "120000", number(5_000..=3_600_000);
        /// Zero bits of the proof of work that buyers may solve instead of the picture: 2^bits hashes on
        /// average.
        pow_bits: u32 = "18", number(8..=32);
        /// An address with this many accounts within a minute or two must solve challenges for items with
        /// challenge = suspicious; 0 = no limit.
        suspicious_accounts: u32 = "8", number(0..=ACCOUNTS_MAX.into());
        /// An address that requests this many tickets within a minute must solve challenges for those
        /// items, too; 0 = no limit.
        suspicious_asks_per_min: u32 = "60", number(PER_TIME);
    }

    /// The log's share of the disk.
    log: LogSettings {
        /// Size of one segment file of the log.
        segment_bytes: u64 = "64MiB", blocks(SEGMENT_BYTES);
        /// The log's disk budget: selling pauses (503 log_full) before it is exceeded.
        bytes_max: u64 = "16GiB" demo "1GiB",
            size(LOG_BYTES).and(&format!("at least {SEGMENTS_MIN} segments"));
        /// Accept a data directory in memory; a reboot loses its orders.
        allow_tmpfs: bool = "false", truth();
    }

    /// The merchant listener.
    admin: AdminSettings {
        /// The token that the merchant API requires; none = the server makes one at its first start and
        /// keeps it in DATA_DIR/admin.token.
        token: Option<Secret> = "" [secret], admin_token();
    }

    /// How the server stops.
    shutdown: ShutdownSettings {
        /// Longest time from SIGTERM to the end of the process, in milliseconds.
        deadline_ms: u64 = "10000", number(100..=600_000);
        /// How long the server continues to sell after SIGTERM, in milliseconds, while /readyz says
        /// draining and every response says Connection: close. Make it longer than the load balancer takes
        /// to notice; 0 = stop selling at once.
        lame_duck_ms: u64 = "0", number(0..=300_000)
            .and(&format!("at least {AFTER_LAME_DUCK_MS} below shutdown.deadline_ms"));
    }
}

/// One setting.
pub struct Key {
    /// Its name in the file, with dots for tables: `limits.connections`.
    pub name: &'static str,
    /// The flag of `serve` that sets it.
    pub flag: Option<&'static str>,
    /// Its value when nobody sets it, as text; empty = none.
    pub default: &'static str,
    /// What `--demo` puts in place of the default.
    pub demo: Option<&'static str>,
    /// Whether its value must never be shown, and may come from a file.
    pub secret: bool,
    /// What it does.
    pub meaning: &'static str,
    /// What is allowed, as the end of the sentence "must be …".
    pub allowed: fn() -> String,
    /// The value in force, masked if it is secret.
    pub show: fn(&Settings) -> String,
}

impl Key {
    /// The environment variable that sets it: `STAMPEDE_LIMITS_CONNECTIONS`.
    pub fn env(&self) -> String {
        format!("{ENV_PREFIX}{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

/// Where a key stands in [`KEYS`].
pub fn position(name: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.name == name)
}

fn read<'a, T>(
    value: &dyn Fn(&str) -> &'a RawValue,
    name: &'static str,
    form: &Form<T>,
    cpus: &[usize],
) -> Result<T, (&'static str, Wrong)> {
    (form.read)(value(name), cpus).map_err(|wrong| (name, wrong))
}

impl IdentitySettings {
    /// What a token has to say; counts in jwt mode.
    pub fn rules(&self) -> TokenRules {
        TokenRules {
            audience: self.audience.clone(),
            issuer: self.issuer.clone(),
            nbf_leeway_ms: self.nbf_leeway_s * 1_000,
            exp_leeway_ms: self.exp_leeway_s * 1_000,
            life_max_ms: self.token_life_max_s * 1_000,
        }
    }
}

impl Settings {
    /// Most open public connections of one core: an equal share, rounded up. The kernel
    /// spreads connections by hash, so one core can be full a little before all are.
    pub fn connections_per_core(&self) -> u32 {
        self.limits.connections.div_ceil(self.cores.len() as u32)
    }

    /// Where orders are exported to, if anywhere.
    pub fn postgres(&self) -> Option<PostgresSettings> {
        let new_shop = self.postgres.new_shop;
        self.postgres.url.clone().map(|url| PostgresSettings { url, new_shop })
    }

    /// What the log is opened with.
    pub fn log_options(&self) -> LogOptions {
        LogOptions {
            segment_bytes: self.log.segment_bytes,
            log_bytes_max: self.log.bytes_max,
            allow_volatile: self.log.allow_tmpfs,
            exports: self.postgres.url.is_some(),
            ..LogOptions::default()
        }
    }
}
