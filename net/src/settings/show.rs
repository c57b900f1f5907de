//! Checked settings as texts, for `check-config` and the server's banner.
//!
//! Must never show a secret: a value that [`keys`](super::keys) calls secret
//! is shown as set or not set.

use super::keys::{KEYS, Key};
use super::units::{show_bytes, show_cores};
use super::{Ack, IdentityMode, Loaded, Settings, TransportChoice};
use crate::engine::clock::Begin;

/// One line per setting: name, value in force, where it came from.
pub fn lines(loaded: &Loaded) -> Vec<String> {
    let values: Vec<String> = KEYS.iter().map(|key| value(&loaded.settings, key)).collect();
    let name_width = KEYS.iter().map(|key| key.name.len()).max().unwrap_or(0);
    let value_width = values.iter().map(|value| value.chars().count()).max().unwrap_or(0).min(40);
    let line = |((key, value), source): ((&Key, &String), &super::Source)| {
        format!("{:name_width$}  {value:value_width$}  ({source})", key.name)
    };
    KEYS.iter().zip(&values).zip(&loaded.sources).map(line).collect()
}

/// The value in force of one setting, secrets masked.
///
/// # Panics
/// A key that is in the table and not here; a test walks the whole table.
pub fn value(settings: &Settings, key: &Key) -> String {
    match key.name {
        "listen" => settings.listen.to_string(),
        "admin_listen" => settings.admin_listen.to_string(),
        "cores" => show_cores(&settings.cores),
        "data_dir" => settings.data_dir.display().to_string(),
        "ack" => ack(settings.ack).to_owned(),
        "transport" => transport(settings.transport).to_owned(),
        "clock" => clock(settings.clock).to_owned(),
        "identity.mode" => mode(settings.identity.mode).to_owned(),
        "identity.keys" => keys(settings),
        "identity.trusted_proxies" => proxies(settings),
        "identity.address_header" => settings.identity.address_header.name().to_owned(),
        "identity.proxy_protocol" => settings.identity.proxy_protocol.to_string(),
        "identity.cookie" => settings.identity.cookie.clone(),
        "identity.audience" => texts(&settings.identity.rules.audience),
        "identity.issuer" => texts(&settings.identity.rules.issuer),
        "identity.nbf_leeway_s" => (settings.identity.rules.nbf_leeway_ms / 1_000).to_string(),
        "identity.exp_leeway_s" => (settings.identity.rules.exp_leeway_ms / 1_000).to_string(),
        "identity.token_life_max_s" => (settings.identity.rules.life_max_ms / 1_000).to_string(),
        "identity.cors_origins" => settings.identity.cors_origins.to_string(),
        "postgres.url" => masked(settings.postgres.is_some()).to_owned(),
        "postgres.new_shop" => {
            settings.postgres.as_ref().is_some_and(|postgres| postgres.new_shop).to_string()
        }
        "limits.connections" => settings.limits.connections.to_string(),
        "limits.admin_connections" => settings.limits.admin_connections.to_string(),
        "limits.buyer_per_s" => settings.limits.buyer_per_s.to_string(),
        "limits.ip_per_s" => settings.limits.ip_per_s.to_string(),
        "limits.bad_tokens_per_s" => settings.limits.bad_tokens_per_s.to_string(),
        "limits.connections_per_ip" => settings.limits.connections_per_ip.to_string(),
        "limits.idle_ms" => settings.limits.idle_ms.to_string(),
        "limits.head_bytes" => show_bytes(settings.limits.head_bytes.into()),
        "gate.ticket_ms" => settings.gate.ticket_ms.to_string(),
        "gate.ticket_keys" => masked(!settings.gate.ticket_keys.is_empty()).to_owned(),
        "gate.challenge_ms" => settings.gate.challenge_ms.to_string(),
        "gate.pow_bits" => settings.gate.pow_bits.to_string(),
        "gate.suspicious_accounts" => settings.gate.suspicious_accounts.to_string(),
        "gate.suspicious_asks_per_min" => settings.gate.suspicious_asks_per_min.to_string(),
        "log.segment_bytes" => show_bytes(settings.log.segment_bytes),
        "log.bytes_max" => show_bytes(settings.log.bytes_max),
        "log.allow_tmpfs" => settings.log.allow_tmpfs.to_string(),
        "admin.token" => masked(settings.admin.token.is_some()).to_owned(),
        "shutdown.deadline_ms" => settings.shutdown.deadline_ms.to_string(),
        "shutdown.lame_duck_ms" => settings.shutdown.lame_duck_ms.to_string(),
        other => panic!("{other} has no text"),
    }
}

/// The word for when a purchase is answered.
pub const fn ack(ack: Ack) -> &'static str {
    match ack {
        Ack::Wal => "wal",
        Ack::Memory => "memory",
    }
}

const fn clock(begin: Begin) -> &'static str {
    match begin {
        Begin::AtTheLog => "log",
        Begin::AtTheWall => "wall",
    }
}

fn transport(chosen: TransportChoice) -> &'static str {
    TransportChoice::ALL.iter().find(|(_, choice)| *choice == chosen).map_or("", |(name, _)| name)
}

const fn mode(mode: IdentityMode) -> &'static str {
    match mode {
        IdentityMode::Jwt => "jwt",
        IdentityMode::Header => "header",
    }
}

const fn masked(is_set: bool) -> &'static str {
    if is_set { "***" } else { "none" }
}

fn keys(settings: &Settings) -> String {
    let mut shown: Vec<String> =
        settings.identity.keys.iter().map(|key| format!("{} ({}, ***)", key.kid, key.alg)).collect();
    if settings.demo && settings.identity.mode == IdentityMode::Jwt {
        shown.push("demo (HS256, made)".to_owned());
    }
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

fn texts(texts: &[String]) -> String {
    if texts.is_empty() { "none".to_owned() } else { texts.join(" ") }
}

fn proxies(settings: &Settings) -> String {
    let shown: Vec<String> = settings.identity.trusted_proxies.iter().map(ToString::to_string).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}
