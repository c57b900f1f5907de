//! The rules between settings, and what is allowed but deserves a word.
//!
//! Pure: raw values in, [`Settings`] or a sentence out. What a value may be by itself is said in
//! [`super::keys`].

use std::net::SocketAddr;

use stampede_persist::export::ConnectOptions;

use super::inputs::{Inputs, Loaded};
use super::keys::{AFTER_LAME_DUCK_MS, IdentitySettings, SEGMENTS_MIN, Settings, ShutdownSettings};
use super::raw::{Raw, SettingsError};
use super::values::{Ack, IdentityMode};
use crate::engine::clock::Begin;

/// Checks every value by itself and against the others.
///
/// # Errors
/// The first one that cannot be.
pub fn check(raw: Raw, inputs: &Inputs<'_>) -> Result<Loaded, SettingsError> {
    let settings = Settings::read(&|name| raw.value(name), &inputs.cpus, inputs.demo)
        .map_err(|(name, wrong)| raw.refused(name, wrong))?;
    together(&raw, &settings, inputs.serving)?;
    let mut warnings = raw.warnings;
    warnings.extend(worth_a_word(&settings));
    Ok(Loaded { settings, warnings, sources: raw.values.into_iter().map(|(_, source)| source).collect() })
}

fn together(raw: &Raw, settings: &Settings, serving: bool) -> Result<(), SettingsError> {
    let refuse = |text: &str| Err(SettingsError::Together(text.to_owned()));
    if overlap(settings.listen, settings.admin_listen) {
        return Err(raw.wrong("admin_listen"));
    }
    if settings.log.bytes_max < SEGMENTS_MIN * settings.log.segment_bytes {
        return Err(raw.wrong("log.bytes_max"));
    }
    let ShutdownSettings { deadline_ms, lame_duck_ms } = settings.shutdown;
    if lame_duck_ms > 0 && lame_duck_ms + AFTER_LAME_DUCK_MS > deadline_ms {
        return Err(raw.wrong("shutdown.lame_duck_ms"));
    }
    let local = settings.listen.ip().is_loopback();
    if settings.demo && !(local && settings.admin_listen.ip().is_loopback()) {
        return refuse(
            "--demo serves this machine only: its key is made for play. Listen on 127.0.0.1, or leave out --demo and configure identity.keys",
        );
    }
    check_identity(&settings.identity, local, serving && !settings.demo)
}

fn check_identity(identity: &IdentitySettings, local: bool, keys_needed: bool) -> Result<(), SettingsError> {
    let trusts_some = !identity.trusted_proxies.is_empty();
    let problem = match identity.mode {
        IdentityMode::Header if !local && !trusts_some => {
            "identity.mode = header lets everybody be any buyer while listen is not loopback. Set identity.trusted_proxies to the gateway's addresses, or listen on 127.0.0.1"
        }
        IdentityMode::Header if !identity.keys.is_empty() => {
            "identity.keys does nothing with identity.mode = header. Take out one of the two"
        }
        IdentityMode::Header if !(identity.audience.is_empty() && identity.issuer.is_empty()) => {
            "identity.audience and identity.issuer do nothing with identity.mode = header. Take them out"
        }
        IdentityMode::Header if identity.proxy_protocol => {
            "identity.proxy_protocol cannot be used with identity.mode = header: behind a balancer that only passes bytes on, any client could send X-Buyer. Remove it, and let the gateway send identity.address_header"
        }
        IdentityMode::Jwt if identity.proxy_protocol && !trusts_some => {
            "identity.proxy_protocol needs identity.trusted_proxies: the header is read only from the proxies that are named there. Add the balancer's addresses"
        }
        IdentityMode::Jwt if keys_needed && identity.keys.is_empty() => {
            "no key to check the buyers' tokens with. Set identity.keys in the settings file or STAMPEDE_IDENTITY_KEYS (kid:HS256:secret), or try the engine with serve --demo"
        }
        _ => return Ok(()),
    };
    Err(SettingsError::Together(problem.to_owned()))
}

/// Whether two listeners would meet: the same port, and the same address or one that
/// stands for all.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let meet = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && meet
}

fn worth_a_word(settings: &Settings) -> Vec<String> {
    let mut words = Vec::new();
    if !settings.admin_listen.ip().is_loopback() {
        words.push(format!(
            "admin_listen = {} can be reached from other machines, and its token travels in clear: keep it inside a private network",
            settings.admin_listen
        ));
    }
    if settings.ack == Ack::Memory {
        words.push("ack = memory: a crash loses orders that were acknowledged".to_owned());
    }
    if let Some(postgres) = settings.postgres()
        && let Ok(Some(weak)) = ConnectOptions::new(postgres.url.reveal()).check()
    {
        words.push(format!("postgres.url: {weak}"));
    }
    if settings.postgres().is_some_and(|postgres| postgres.new_shop) {
        words.push(
            "postgres.new_shop = true: if the database holds items or orders after all, they may be sold once more; \
             take it away after the first start"
                .to_owned(),
        );
    }
    if settings.clock == Begin::AtTheWall {
        words.push(
            "clock = wall: where the log lies ahead of this machine's clock, the sale clock is set back; take it away \
             as soon as a start no longer says that the log lies ahead"
                .to_owned(),
        );
    }
    if settings.log.allow_tmpfs {
        words.push("log.allow_tmpfs = true: a reboot may lose every order".to_owned());
    }
    words
}
