//! Checked settings as texts, for `check-config`.
//!
//! Must never show a secret: the form of a secret value shows that it is set or not set.

use super::keys::{KEYS, Key};
use super::{IdentityMode, Loaded, Settings, Source};

/// One line per setting: name, value in force, where it came from.
pub fn lines(loaded: &Loaded) -> Vec<String> {
    let values: Vec<String> = KEYS.iter().map(|key| value(&loaded.settings, key)).collect();
    let name_width = KEYS.iter().map(|key| key.name.len()).max().unwrap_or(0);
    let value_width = values.iter().map(|value| value.chars().count()).max().unwrap_or(0).min(40);
    let line = |((key, value), source): ((&Key, &String), &Source)| {
        format!("{:name_width$}  {value:value_width$}  ({source})", key.name)
    };
    KEYS.iter().zip(&values).zip(&loaded.sources).map(line).collect()
}

/// The value in force; the demo's made key is none of the settings, and counts beside them.
fn value(settings: &Settings, key: &Key) -> String {
    const MADE: &str = "demo (HS256, made)";
    let shown = (key.show)(settings);
    let makes_key = settings.demo && settings.identity.mode == IdentityMode::Jwt;
    match (makes_key && key.name == "identity.keys", settings.identity.keys.is_empty()) {
        (false, _) => shown,
        (true, true) => MADE.to_owned(),
        (true, false) => format!("{shown}, {MADE}"),
    }
}
