//! `stampede token`: a signed token for a buyer, for trials and tests.
//!
//! Signs with a configured HS256 key, or with the demo's. An EdDSA key is
//! configured by its public half and cannot sign.

use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use stampede_core::limits::UNIX_MILLIS_MAX;

use super::args::SettingsArgs;
use super::failure::Failure;
use crate::identity::mint::{Claims, MintKey};
use crate::settings::secrets::{self, DEMO_KEY_FILE};
use crate::settings::{KeyText, Settings};

#[derive(Args)]
pub(super) struct TokenArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The buyer: 1 to 255 bytes
    #[arg(long)]
    sub: String,
    /// How long it is valid, such as 90s, 30m, 1h, 7d
    #[arg(long, default_value = "1h", value_parser = parse_ttl, value_name = "TIME")]
    ttl: u64,
    /// The account's level
    #[arg(long)]
    lvl: Option<u8>,
    /// When the account was opened, in Unix seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_since)]
    since: Option<u64>,
    /// The audience [default: the first of identity.audience]
    #[arg(long, value_name = "TEXT")]
    aud: Option<String>,
    /// The issuer [default: the first of identity.issuer]
    #[arg(long, value_name = "TEXT")]
    iss: Option<String>,
    /// The key to sign with [default: the first HS256 key]
    #[arg(long)]
    kid: Option<String>,
}

/// Prints the token, alone on its line.
pub(super) fn run(args: &TokenArgs, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let settings = args.settings.load(false)?.settings;
    let keys = keys(&settings)?;
    let key = choose(&keys, args.kid.as_deref())?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    writeln!(out, "{}", mint(args, &settings, key, now_s)?)?;
    Ok(ExitCode::SUCCESS)
}

fn keys(settings: &Settings) -> Result<Vec<KeyText>, Failure> {
    let mut settings = settings.clone();
    // A data directory with a demo key works without --demo.
    settings.demo |= settings.identity.keys.is_empty() && settings.data_dir.join(DEMO_KEY_FILE).exists();
    secrets::identity_keys(&settings).map_err(|error| Failure::Failed(error.to_string()))
}

fn choose<'a>(keys: &'a [KeyText], kid: Option<&str>) -> Result<&'a KeyText, Failure> {
    let found = match kid {
        Some(kid) => keys.iter().find(|key| key.kid == kid),
        None => keys.iter().find(|key| key.alg == "HS256"),
    };
    match (found, kid) {
        (Some(key), _) if key.alg == "HS256" => Ok(key),
        (Some(key), _) => Err(Failure::Failed(format!(
            "the key {} is the public half of an EdDSA key and cannot sign. Sign where its private half is",
            key.kid
        ))),
        (None, Some(kid)) => {
            let known: Vec<&str> = keys.iter().map(|key| key.kid.as_str()).collect();
            Err(Failure::Failed(format!("there is no key {kid:?}. Known: {}", known.join(", "))))
        }
        (None, None) => Err(Failure::Failed(
            "there is no HS256 key to sign with. Name the settings with --config, or use --demo".to_owned(),
        )),
    }
}

fn mint(args: &TokenArgs, settings: &Settings, key: &KeyText, now_s: u64) -> anyhow::Result<String> {
    let rules = &settings.identity.rules();
    let claims = Claims {
        sub: &args.sub,
        exp_s: now_s.saturating_add(args.ttl),
        nbf_s: None,
        level: args.lvl,
        since_s: args.since,
        aud: args.aud.as_ref().or(rules.audience.first()).map(String::as_str),
        iss: args.iss.as_ref().or(rules.issuer.first()).map(String::as_str),
    };
    Ok(MintKey::parse(&key.kid, &key.alg, key.material.reveal())?.mint(&claims)?)
}

fn parse_since(text: &str) -> Result<u64, String> {
    let since = text.parse::<u64>().map_err(|_| "must be Unix seconds".to_owned())?;
    match since <= UNIX_MILLIS_MAX / 1_000 {
        true => Ok(since),
        false => Err("seems to be in milliseconds: must be Unix seconds".to_owned()),
    }
}

fn parse_ttl(text: &str) -> Result<u64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let unit = units.iter().find(|(letter, _)| text.ends_with(*letter));
    let (digits, seconds) =
        unit.map_or((text, 1), |(letter, seconds)| (text.trim_end_matches(*letter), *seconds));
    let number = digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
    number.and_then(|n| n.checked_mul(seconds)).ok_or_else(|| "write it like 90s, 30m, 1h or 7d".to_owned())
}
