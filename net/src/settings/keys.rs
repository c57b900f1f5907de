//! The table of every setting: its names, default, bounds and meaning.
//!
//! The reader, `check-config`, the help of the flags and the table in
//! docs/CONFIG.md are all made from it or compared with it, so a setting that
//! does nothing, or that nobody described, cannot exist. Rules between
//! settings are in [`super::check`].

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
    /// What is allowed, as the end of the sentence "must be …".
    pub allowed: &'static str,
    /// What it does, in one sentence.
    pub meaning: &'static str,
}

impl Key {
    /// The environment variable that sets it: `STAMPEDE_LIMITS_CONNECTIONS`.
    pub fn env(&self) -> String {
        format!("{ENV_PREFIX}{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

/// What the names of our environment variables begin with.
pub const ENV_PREFIX: &str = "STAMPEDE_";
/// The environment variable that names the settings file, as `--config` does.
pub const ENV_CONFIG: &str = "STAMPEDE_CONFIG";

/// Bounds of the values. The texts in [`KEYS`] repeat them in words; a test compares.
pub mod limits {
    use std::ops::RangeInclusive;

    /// Open connections of the public listener.
    pub const CONNECTIONS: RangeInclusive<u64> = 1..=10_000_000;
    /// Open connections of the merchant listener.
    pub const ADMIN_CONNECTIONS: RangeInclusive<u64> = 1..=65_536;
    /// Requests a second, of a buyer or an address; asks in a minute.
    pub const PER_TIME: RangeInclusive<u64> = 0..=1_000_000;
    /// Open connections from one address.
    pub const CONNECTIONS_PER_IP: RangeInclusive<u64> = 0..=10_000_000;
    /// Milliseconds that a ticket is good for.
    pub const TICKET_MS: RangeInclusive<u64> = 1_000..=3_600_000;
    /// Milliseconds in which a challenge can be answered.
    pub const CHALLENGE_MS: RangeInclusive<u64> = 5_000..=3_600_000;
    /// Zero bits of a proof of work: below, it is no work; above, nobody does it.
    pub const POW_BITS: RangeInclusive<u64> = 8..=32;
    /// Accounts of one address that can be told apart.
    pub const SUSPICIOUS_ACCOUNTS: RangeInclusive<u64> = 0..=crate::gate::watch::ACCOUNTS_MAX as u64;
    /// Bytes of a log segment: at least a few groups of the largest size, at most what the log takes.
    pub const SEGMENT_BYTES: RangeInclusive<u64> = (4 << 20)..=(1 << 30);
    /// Bytes of all log segments: the least holds a full queue of facts many times over.
    pub const LOG_BYTES: RangeInclusive<u64> = (128 << 20)..=(1 << 50);
    /// The budget must hold the segment in use, its spare, and two to drain.
    pub const SEGMENTS_MIN: u64 = 4;
    /// Milliseconds from SIGTERM to the end.
    pub const DEADLINE_MS: RangeInclusive<u64> = 100..=600_000;
    /// Seconds that a token counts before its `nbf`, or after its `exp`.
    pub const LEEWAY_S: RangeInclusive<u64> = 0..=300;
    /// Longest life of a token, in seconds: a minute to a hundred years.
    pub const TOKEN_LIFE_S: RangeInclusive<u64> = 60..=3_155_760_000;
    /// Milliseconds between SIGTERM and the moment from which on nothing more is sold.
    pub const LAME_DUCK_MS: RangeInclusive<u64> = 0..=300_000;
    /// Milliseconds of the deadline that must be left behind the lame duck, to answer what is owed.
    pub const AFTER_LAME_DUCK_MS: u64 = 2_000;
    /// Milliseconds that a connection may say nothing: clients are told whole seconds of it.
    pub const IDLE_MS: RangeInclusive<u64> = 1_000..=3_600_000;
    /// Bytes of a request's head.
    pub const HEAD_BYTES: RangeInclusive<u64> =
        (crate::http::limits::HEAD_BYTES as u64)..=(crate::http::limits::HEAD_BYTES_MAX as u64);
    /// Bytes of an admin token.
    pub const TOKEN_BYTES: RangeInclusive<usize> = 16..=256;
    /// Segments begin and end on a block.
    pub const SEGMENT_ALIGN: u64 = 4096;
}

/// Every setting, in the order in which `check-config` and docs/CONFIG.md show them.
pub const KEYS: &[Key] = &[
    Key {
        name: "listen",
        flag: Some("--listen"),
        default: "127.0.0.1:7070",
        demo: None,
        secret: false,
        allowed: "an address and a port, such as 127.0.0.1:7070 or [::]:7070",
        meaning: "Where buyers connect.",
    },
    Key {
        name: "admin_listen",
        flag: Some("--admin-listen"),
        default: "127.0.0.1:7071",
        demo: None,
        secret: false,
        allowed: "an address and a port other than those of listen",
        meaning: "Where the shop's back office, payment callbacks and metrics connect.",
    },
    Key {
        name: "cores",
        flag: Some("--cores"),
        default: "all",
        demo: None,
        secret: false,
        allowed: "all, a number of cores (4), or a list of processors (0,2-5; a single one: 3-3), at most 64",
        meaning: "The processors to serve on, one pinned thread each; a number takes the first ones that the process may use.",
    },
    Key {
        name: "data_dir",
        flag: Some("--data-dir"),
        default: "./stampede-data",
        demo: Some("./stampede-demo"),
        secret: false,
        allowed: "a directory that the server may create or write to",
        meaning: "Where the log, the snapshots and the made secrets are kept.",
    },
    Key {
        name: "ack",
        flag: Some("--ack"),
        default: "wal",
        demo: None,
        secret: false,
        allowed: "wal or memory",
        meaning: "When a purchase is answered: once it is durable (wal), or before that (memory: a crash loses acknowledged orders).",
    },
    Key {
        name: "transport",
        flag: Some("--transport"),
        default: "auto",
        demo: None,
        secret: false,
        allowed: "auto, ring or epoll",
        meaning: "How connections are served: over a private io_uring per core (ring), over epoll (epoll), or over the ring wherever the kernel allows it (auto).",
    },
    Key {
        name: "clock",
        flag: Some("--clock"),
        default: "log",
        demo: None,
        secret: false,
        allowed: "log or wall",
        meaning: "Where the sale clock begins when the log holds later times than this machine's clock shows: at the log's last fact (log: never backwards), or at this machine's clock (wall: the log's times are known to be wrong).",
    },
    Key {
        name: "identity.mode",
        flag: None,
        default: "jwt",
        demo: None,
        secret: false,
        allowed: "jwt or header",
        meaning: "How buyers prove who they are: by a signed token, or by the X-Buyer header of a gateway that has authenticated them.",
    },
    Key {
        name: "identity.keys",
        flag: None,
        default: "",
        demo: None,
        secret: true,
        allowed: "tables with kid, alg = \"HS256\" and secret, or kid, alg = \"EdDSA\" and public, both in base64; in the environment words of the form kid:alg:key",
        meaning: "The keys that tokens may be signed with; several, so that they can be rotated.",
    },
    Key {
        name: "identity.trusted_proxies",
        flag: None,
        default: "",
        demo: None,
        secret: false,
        allowed: "a list of addresses or networks, such as 10.0.0.0/8",
        meaning: "Whose identity.address_header (X-Forwarded-For) counts, and in header mode whose X-Buyer; needed in header mode unless listen is loopback.",
    },
    Key {
        name: "identity.address_header",
        flag: None,
        default: "X-Forwarded-For",
        demo: None,
        secret: false,
        allowed: "X-Forwarded-For, Forwarded, X-Real-IP, CF-Connecting-IP or True-Client-IP",
        meaning: "The header in which trusted proxies say whose request it is. Name the one that your proxy always sets itself: one that it passes on as it came could be the client's own.",
    },
    Key {
        name: "identity.proxy_protocol",
        flag: None,
        default: "false",
        demo: None,
        secret: false,
        allowed: "true or false",
        meaning: "Whether trusted proxies begin each connection to listen with a header of the PROXY protocol, version 1 or 2 (HAProxy: send-proxy-v2, nginx stream: proxy_protocol on). Then one without it is closed. Needs identity.trusted_proxies, and identity.mode = jwt.",
    },
    Key {
        name: "identity.cookie",
        flag: None,
        default: "stampede_session",
        demo: None,
        secret: false,
        allowed: "a name of 1 to 64 letters, digits, - and _",
        meaning: "The cookie that may carry a buyer's token where a request has no Authorization; counts with identity.mode = jwt.",
    },
    Key {
        name: "identity.audience",
        flag: None,
        default: "",
        demo: None,
        secret: false,
        allowed: "a text or a list of texts without spaces, each as a token's aud has it",
        meaning: "Whom tokens have to be for: one of these must be the claim aud, or in it; none = aud is not looked at, and a token that was made for another service with the same key counts here. For identity.mode = jwt.",
    },
    Key {
        name: "identity.issuer",
        flag: None,
        default: "",
        demo: None,
        secret: false,
        allowed: "a text or a list of texts without spaces, each as a token's iss has it",
        meaning: "Whom tokens have to be from: one of these must be the claim iss; none = iss is not looked at. For identity.mode = jwt.",
    },
    Key {
        name: "identity.nbf_leeway_s",
        flag: None,
        default: "30",
        demo: None,
        secret: false,
        allowed: "0 to 300",
        meaning: "How many seconds before its nbf a token counts already: the issuer's clock may be ahead of this machine's.",
    },
    Key {
        name: "identity.exp_leeway_s",
        flag: None,
        default: "0",
        demo: None,
        secret: false,
        allowed: "0 to 300",
        meaning: "How many seconds after its exp a token still counts.",
    },
    Key {
        name: "identity.token_life_max_s",
        flag: None,
        default: "31622400",
        demo: None,
        secret: false,
        allowed: "60 to 3155760000",
        meaning: "Longest life of a token in seconds, from its iat to its exp, and from now: one that says more is refused (an exp in milliseconds would be good for 50,000 years).",
    },
    Key {
        name: "identity.cors_origins",
        flag: None,
        default: "",
        demo: None,
        secret: false,
        allowed: "a list of origins, such as https://shop.example or http://127.0.0.1:3000, without a path; or *",
        meaning: "Whose pages may call the API besides those of its own host, with cookies too; * = those of everybody, without cookies.",
    },
    Key {
        name: "postgres.url",
        flag: Some("--postgres"),
        default: "",
        demo: None,
        secret: true,
        allowed: "a connection string, such as postgres://user@host/database",
        meaning: "Where orders are exported to; none = nowhere, the log keeps them all.",
    },
    Key {
        name: "postgres.new_shop",
        flag: Some("--new-shop"),
        default: "false",
        demo: None,
        secret: false,
        allowed: "true or false",
        meaning: "Sell before the database was reached for the first time: it is known to hold no items and no orders. Without meaning once this data directory was attached to it.",
    },
    Key {
        name: "limits.connections",
        flag: None,
        default: "50000",
        demo: Some("4096"),
        secret: false,
        allowed: "1 to 10000000",
        meaning: "Most open connections of the public listener, shared equally among the cores.",
    },
    Key {
        name: "limits.admin_connections",
        flag: None,
        default: "256",
        demo: None,
        secret: false,
        allowed: "1 to 65536",
        meaning: "Most open connections of the merchant listener.",
    },
    Key {
        name: "limits.buyer_per_s",
        flag: None,
        default: "0",
        demo: None,
        secret: false,
        allowed: "0 to 1000000",
        meaning: "Most requests a second of one buyer for purchases, tickets and challenges, per core; 0 = no limit.",
    },
    Key {
        name: "limits.ip_per_s",
        flag: None,
        default: "0",
        demo: None,
        secret: false,
        allowed: "0 to 1000000",
        meaning: "The same from one address (an IPv6 /64 is one address); tokens that do not count are charged to it as well, before the next one is verified; 0 = no limit.",
    },
    Key {
        name: "limits.bad_tokens_per_s",
        flag: None,
        default: "20",
        demo: None,
        secret: false,
        allowed: "0 to 1000000",
        meaning: "How many invalid tokens one address may send, per second and core; bursts of three seconds' worth are allowed. Above that, a token that this core has not verified before gets 429 before its signature is checked, except about one in 64. Expired tokens are not counted as invalid. 0 = no limit.",
    },
    Key {
        name: "limits.connections_per_ip",
        flag: None,
        default: "0",
        demo: None,
        secret: false,
        allowed: "0 to 10000000",
        meaning: "Most open connections from one address to the public listener, per core; trusted proxies are exempt; 0 = no limit.",
    },
    Key {
        name: "limits.idle_ms",
        flag: None,
        default: "75000",
        demo: None,
        secret: false,
        allowed: "1000 to 3600000",
        meaning: "How long a connection may say nothing before it is closed, in milliseconds; each answer tells clients (Keep-Alive: timeout). Longer than a proxy in front keeps its own.",
    },
    Key {
        name: "limits.head_bytes",
        flag: None,
        default: "8KiB",
        demo: None,
        secret: false,
        allowed: "8KiB to 32KiB",
        meaning: "Longest head of a request, cookies included; a longer one is 431 headers_too_large. A connection takes so much memory only while a head comes in.",
    },
    Key {
        name: "gate.ticket_ms",
        flag: None,
        default: "120000",
        demo: None,
        secret: false,
        allowed: "1000 to 3600000",
        meaning: "How long a ticket is good for, in milliseconds.",
    },
    Key {
        name: "gate.ticket_keys",
        flag: None,
        default: "",
        demo: None,
        secret: true,
        allowed: "one or two words of the form number:secret, the number from 0 to 255, the secret of at least 32 bytes in base64",
        meaning: "The keys of tickets: the first seals, both open. Needed where several machines share a sale; none = one is made and kept in DATA_DIR/ticket.keys.",
    },
    Key {
        name: "gate.challenge_ms",
        flag: None,
        default: "120000",
        demo: None,
        secret: false,
        allowed: "5000 to 3600000",
        meaning: "How long a challenge can be answered, in milliseconds.",
    },
    Key {
        name: "gate.pow_bits",
        flag: None,
        default: "18",
        demo: None,
        secret: false,
        allowed: "8 to 32",
        meaning: "Zero bits of the proof of work that stands beside a drawn challenge: 2^bits hashes on the average.",
    },
    Key {
        name: "gate.suspicious_accounts",
        flag: None,
        default: "8",
        demo: None,
        secret: false,
        allowed: "0 to 128",
        meaning: "Accounts behind one address within a minute or two from which on it has to solve challenges, where an item says challenge = suspicious; 0 = no bound.",
    },
    Key {
        name: "gate.suspicious_asks_per_min",
        flag: None,
        default: "60",
        demo: None,
        secret: false,
        allowed: "0 to 1000000",
        meaning: "Asks for tickets from one address within a minute from which on it has to; 0 = no bound.",
    },
    Key {
        name: "log.segment_bytes",
        flag: None,
        default: "64MiB",
        demo: None,
        secret: false,
        allowed: "4MiB to 1GiB, a multiple of 4096",
        meaning: "Size of one segment file of the log.",
    },
    Key {
        name: "log.bytes_max",
        flag: None,
        default: "16GiB",
        demo: Some("1GiB"),
        secret: false,
        allowed: "128MiB to 1PiB, and at least 4 segments",
        meaning: "The log's disk budget: selling pauses (503 log_full) before it is exceeded.",
    },
    Key {
        name: "log.allow_tmpfs",
        flag: None,
        default: "false",
        demo: None,
        secret: false,
        allowed: "true or false",
        meaning: "Accept a data directory in memory, whose orders a reboot loses.",
    },
    Key {
        name: "admin.token",
        flag: None,
        default: "",
        demo: None,
        secret: true,
        allowed: "16 to 256 visible ASCII characters",
        meaning: "What the merchant API asks for; none = one is made at the first start and kept in DATA_DIR/admin.token.",
    },
    Key {
        name: "shutdown.deadline_ms",
        flag: None,
        default: "10000",
        demo: None,
        secret: false,
        allowed: "100 to 600000",
        meaning: "Longest time from SIGTERM to the end of the process, in milliseconds.",
    },
    Key {
        name: "shutdown.lame_duck_ms",
        flag: None,
        default: "0",
        demo: None,
        secret: false,
        allowed: "0 to 300000, and at least 2000 below shutdown.deadline_ms",
        meaning: "How long after SIGTERM it sells on while /readyz says draining and every answer says Connection: close, in milliseconds: longer than a load balancer takes to notice. 0 = stop selling at once.",
    },
];

/// Where a key stands in [`KEYS`].
pub fn position(name: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.name == name)
}
