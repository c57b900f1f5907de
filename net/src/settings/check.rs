//! The rules of the settings: raw values in, [`Settings`] or a sentence out.
//!
//! One method per way of writing a value, then the rules between values. Pure:
//! whether a directory can be written to is the [`crate::doctor`]'s question.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;
use stampede_core::limits::CORES_MAX;

use stampede_persist::export::{ConnectOptions, ExportError};

use super::inputs::{Inputs, Loaded};
use super::keys::{KEYS, Key, limits, position};
use super::raw::{Raw, RawKey, RawValue, shown};
use super::raw::{SettingsError, Source};
use super::units::{CoresText, parse_bytes, parse_cores, parse_int, parse_net};
use super::values::{
    Ack, AdminSettings, GateSettings, IdentityMode, IdentitySettings, KeyText, LimitSettings, LogSettings,
    PostgresSettings, Secret, Settings, ShutdownSettings, TransportChoice,
};
use crate::engine::clock::Begin;
use crate::gate::seal::SealKey;
use crate::gate::ticket;
use crate::identity::address::AddressHeader;
use crate::identity::cookie::is_cookie_name;
use crate::identity::cors::Origins;
use crate::identity::key::{IdentityKey, decode};
use crate::identity::rules::TokenRules;

/// Checks every value by itself and against the others.
///
/// # Errors
/// The first one that cannot be.
pub fn check(raw: Raw, inputs: &Inputs<'_>) -> Result<Loaded, SettingsError> {
    let reader = Reader { raw: &raw };
    let settings = Settings {
        listen: reader.addr("listen")?,
        admin_listen: reader.addr("admin_listen")?,
        cores: reader.cores(&inputs.cpus)?,
        data_dir: reader.path("data_dir")?,
        ack: reader.choice("ack", &[("wal", Ack::Wal), ("memory", Ack::Memory)])?,
        transport: reader.transport()?,
        clock: reader.choice("clock", &[("log", Begin::AtTheLog), ("wall", Begin::AtTheWall)])?,
        demo: inputs.demo,
        identity: reader.identity()?,
        postgres: reader.postgres()?,
        limits: LimitSettings {
            connections: reader.int("limits.connections", limits::CONNECTIONS)? as u32,
            admin_connections: reader.int("limits.admin_connections", limits::ADMIN_CONNECTIONS)? as u32,
            buyer_per_s: reader.int("limits.buyer_per_s", limits::PER_TIME)? as u32,
            ip_per_s: reader.int("limits.ip_per_s", limits::PER_TIME)? as u32,
            bad_tokens_per_s: reader.int("limits.bad_tokens_per_s", limits::PER_TIME)? as u32,
            connections_per_ip: reader.int("limits.connections_per_ip", limits::CONNECTIONS_PER_IP)? as u32,
            idle_ms: reader.int("limits.idle_ms", limits::IDLE_MS)? as u32,
            head_bytes: reader.bytes("limits.head_bytes", limits::HEAD_BYTES, 1)? as u32,
        },
        gate: reader.gate()?,
        log: LogSettings {
            segment_bytes: reader.bytes("log.segment_bytes", limits::SEGMENT_BYTES, limits::SEGMENT_ALIGN)?,
            bytes_max: reader.bytes("log.bytes_max", limits::LOG_BYTES, 1)?,
            allow_tmpfs: reader.bool("log.allow_tmpfs")?,
        },
        admin: AdminSettings { token: reader.secret("admin.token", is_token)? },
        shutdown: ShutdownSettings {
            deadline_ms: reader.int("shutdown.deadline_ms", limits::DEADLINE_MS)?,
            lame_duck_ms: reader.int("shutdown.lame_duck_ms", limits::LAME_DUCK_MS)?,
        },
    };
    reader.together(&settings, inputs.serving)?;
    let mut warnings = raw.warnings.clone();
    warnings.extend(worth_a_word(&settings));
    Ok(Loaded { settings, warnings, sources: raw.values.into_iter().map(|(_, source)| source).collect() })
}

/// Whether this can be an admin token.
pub fn is_token(text: &str) -> bool {
    limits::TOKEN_BYTES.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The ticket key that a word `number:secret` stands for.
pub fn ticket_key(word: &str) -> Option<SealKey> {
    let (number, secret) = word.split_once(':')?;
    SealKey::new(number.parse().ok()?, &decode(secret)?)
}

fn is_postgres_url(text: &str) -> bool {
    let url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    // The other form that libpq knows: `host=… dbname=…`.
    url || (text.contains('=') && !text.contains("://"))
}

struct Reader<'a> {
    raw: &'a Raw,
}

impl Reader<'_> {
    fn entry(&self, name: &str) -> (&'static Key, &RawValue, &Source) {
        let index = position(name).expect("the key is in the table");
        let (value, source) = &self.raw.values[index];
        (&KEYS[index], value, source)
    }

    fn wrong(&self, name: &str) -> SettingsError {
        let (key, value, source) = self.entry(name);
        SettingsError::Value {
            key: key.name.to_owned(),
            shown: shown(key, value).into_owned(),
            source_of: source.clone(),
            allowed: key.allowed.to_owned(),
        }
    }

    fn text(&self, name: &str) -> Result<&str, SettingsError> {
        match self.entry(name).1 {
            RawValue::Text(text) if !text.is_empty() => Ok(text),
            _ => Err(self.wrong(name)),
        }
    }

    fn addr(&self, name: &str) -> Result<SocketAddr, SettingsError> {
        let text = self.text(name)?;
        // The commonest name for an address; no resolver runs for it.
        let text = text.replace("localhost:", "127.0.0.1:");
        text.parse().map_err(|_| self.wrong(name))
    }

    fn path(&self, name: &str) -> Result<PathBuf, SettingsError> {
        let text = self.text(name)?;
        if text.contains('\0') { Err(self.wrong(name)) } else { Ok(PathBuf::from(text)) }
    }

    fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, SettingsError> {
        let text = self.text(name)?;
        let found = choices.iter().find(|(word, _)| *word == text);
        found.map(|(_, choice)| *choice).ok_or_else(|| self.wrong(name))
    }

    /// A word that older settings have is told from one that never was.
    fn transport(&self) -> Result<TransportChoice, SettingsError> {
        self.choice("transport", &TransportChoice::ALL).map_err(|error| {
            match (self.text("transport"), error) {
                (Ok("streams"), SettingsError::Value { key, shown, source_of, allowed }) => {
                    let allowed = format!("{allowed}; `streams` was removed, `epoll` takes its place");
                    SettingsError::Value { key, shown, source_of, allowed }
                }
                (_, error) => error,
            }
        })
    }

    fn int(&self, name: &str, allowed: RangeInclusive<u64>) -> Result<u64, SettingsError> {
        let number = match self.entry(name).1 {
            RawValue::Int(number) => u64::try_from(*number).ok(),
            RawValue::Text(text) => parse_int(text),
            _ => None,
        };
        number.filter(|number| allowed.contains(number)).ok_or_else(|| self.wrong(name))
    }

    fn bytes(&self, name: &str, allowed: RangeInclusive<u64>, align: u64) -> Result<u64, SettingsError> {
        let bytes = match self.entry(name).1 {
            RawValue::Int(number) => u64::try_from(*number).ok(),
            RawValue::Text(text) => parse_bytes(text),
            _ => None,
        };
        let fits = |bytes: &u64| allowed.contains(bytes) && bytes.is_multiple_of(align);
        bytes.filter(fits).ok_or_else(|| self.wrong(name))
    }

    fn bool(&self, name: &str) -> Result<bool, SettingsError> {
        match self.entry(name).1 {
            RawValue::Bool(truth) => Ok(*truth),
            RawValue::Text(text) if text == "true" => Ok(true),
            RawValue::Text(text) if text == "false" => Ok(false),
            _ => Err(self.wrong(name)),
        }
    }

    fn postgres(&self) -> Result<Option<PostgresSettings>, SettingsError> {
        let new_shop = self.bool("postgres.new_shop")?;
        let url = self.secret("postgres.url", is_postgres_url)?;
        if let Some(url) = &url {
            // The exporter's own reader: what passes here is what it takes.
            ConnectOptions::new(url.reveal()).check().map_err(|error| self.unusable_url(error))?;
        }
        Ok(url.map(|url| PostgresSettings { url, new_shop }))
    }

    /// The export's own word on a URL: it shows no piece of it.
    fn unusable_url(&self, error: ExportError) -> SettingsError {
        let reason = match error {
            ExportError::BadUrl(what) | ExportError::Tls(what) => what,
            other => other.to_string(),
        };
        match self.wrong("postgres.url") {
            SettingsError::Value { key, shown, source_of, allowed } => {
                SettingsError::Value { key, shown, source_of, allowed: format!("{allowed}, and {reason}") }
            }
            other => other,
        }
    }

    /// A secret that may be absent. An empty text is absent too: that is what an
    /// unfilled variable of a deployment template looks like.
    fn secret(&self, name: &str, allowed: fn(&str) -> bool) -> Result<Option<Secret>, SettingsError> {
        match self.entry(name).1 {
            RawValue::None => Ok(None),
            RawValue::Text(text) if text.is_empty() => Ok(None),
            RawValue::Text(text) if allowed(text) => Ok(Some(Secret::new(text.clone()))),
            _ => Err(self.wrong(name)),
        }
    }

    fn cores(&self, cpus: &[usize]) -> Result<Vec<usize>, SettingsError> {
        let name = "cores";
        let asked = match self.entry(name).1 {
            RawValue::Int(number) => parse_cores(&number.to_string()),
            RawValue::Text(text) => parse_cores(text),
            _ => None,
        };
        let usable = |cores: &[usize]| cores.iter().all(|core| cpus.contains(core));
        match asked.ok_or_else(|| self.wrong(name))? {
            CoresText::All => Ok(cpus.iter().copied().take(CORES_MAX).collect()),
            CoresText::First(count) if count <= CORES_MAX && count <= cpus.len() => {
                Ok(cpus[..count].to_vec())
            }
            CoresText::List(list) if list.len() <= CORES_MAX && usable(&list) => Ok(list),
            CoresText::First(_) | CoresText::List(_) => Err(self.too_many_cores(cpus)),
        }
    }

    fn too_many_cores(&self, cpus: &[usize]) -> SettingsError {
        let (key, value, source) = self.entry("cores");
        SettingsError::Value {
            key: key.name.to_owned(),
            shown: shown(key, value).into_owned(),
            source_of: source.clone(),
            allowed: format!(
                "among the {} processors that this process may use ({}), at most {CORES_MAX} of them",
                cpus.len(),
                super::units::show_cores(cpus)
            ),
        }
    }

    fn gate(&self) -> Result<GateSettings, SettingsError> {
        let int = |name, allowed| self.int(name, allowed);
        Ok(GateSettings {
            ticket_ms: int("gate.ticket_ms", limits::TICKET_MS)?,
            ticket_keys: self.ticket_keys()?,
            challenge_ms: int("gate.challenge_ms", limits::CHALLENGE_MS)?,
            pow_bits: int("gate.pow_bits", limits::POW_BITS)? as u32,
            suspicious_accounts: int("gate.suspicious_accounts", limits::SUSPICIOUS_ACCOUNTS)? as u32,
            suspicious_asks_per_min: int("gate.suspicious_asks_per_min", limits::PER_TIME)? as u32,
        })
    }

    fn ticket_keys(&self) -> Result<Vec<Secret>, SettingsError> {
        let name = "gate.ticket_keys";
        let words: Vec<&str> = match self.entry(name).1 {
            RawValue::None => Vec::new(),
            RawValue::Text(text) => text.split_whitespace().collect(),
            RawValue::List(list) => list.iter().map(String::as_str).collect(),
            _ => return Err(self.wrong(name)),
        };
        let keys: Option<Vec<_>> = words.iter().map(|word| ticket_key(word)).collect();
        let numbers: Vec<u8> = keys.ok_or_else(|| self.wrong(name))?.iter().map(SealKey::id).collect();
        let twice = numbers.len() == 2 && numbers[0] == numbers[1];
        if twice || numbers.len() > ticket::KEYS_MAX {
            Err(self.wrong(name))
        } else {
            Ok(words.into_iter().map(Secret::new).collect())
        }
    }

    fn identity(&self) -> Result<IdentitySettings, SettingsError> {
        let modes = [("jwt", IdentityMode::Jwt), ("header", IdentityMode::Header)];
        let mode = self.choice("identity.mode", &modes)?;
        let name = "identity.cookie";
        let cookie = self.text(name)?;
        if !is_cookie_name(cookie) {
            return Err(self.wrong(name));
        }
        let (keys, trusted_proxies, cors_origins) = (self.keys()?, self.nets()?, self.origins()?);
        let (cookie, rules) = (cookie.to_owned(), self.token_rules()?);
        let name = "identity.address_header";
        let address_header = AddressHeader::find(self.text(name)?).ok_or_else(|| self.wrong(name))?;
        let proxy_protocol = self.bool("identity.proxy_protocol")?;
        Ok(IdentitySettings {
            mode,
            keys,
            trusted_proxies,
            address_header,
            proxy_protocol,
            cookie,
            rules,
            cors_origins,
        })
    }

    fn token_rules(&self) -> Result<TokenRules, SettingsError> {
        let seconds = |name, allowed| self.int(name, allowed).map(|seconds| seconds * 1_000);
        Ok(TokenRules {
            audience: self.texts("identity.audience")?,
            issuer: self.texts("identity.issuer")?,
            nbf_leeway_ms: seconds("identity.nbf_leeway_s", limits::LEEWAY_S)?,
            exp_leeway_ms: seconds("identity.exp_leeway_s", limits::LEEWAY_S)?,
            life_max_ms: seconds("identity.token_life_max_s", limits::TOKEN_LIFE_S)?,
        })
    }

    /// A list of texts without spaces, or one text with spaces between them.
    fn texts(&self, name: &str) -> Result<Vec<String>, SettingsError> {
        let texts: Vec<String> = match self.entry(name).1 {
            RawValue::None => Vec::new(),
            RawValue::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
            RawValue::List(list) => list.clone(),
            _ => return Err(self.wrong(name)),
        };
        let fits =
            |text: &String| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
        if texts.iter().all(fits) { Ok(texts) } else { Err(self.wrong(name)) }
    }

    fn origins(&self) -> Result<Origins, SettingsError> {
        let name = "identity.cors_origins";
        let texts: Vec<&str> = match self.entry(name).1 {
            RawValue::None => Vec::new(),
            RawValue::Text(text) if text.is_empty() => Vec::new(),
            RawValue::Text(text) => text.split(',').map(str::trim).collect(),
            RawValue::List(list) => list.iter().map(String::as_str).collect(),
            _ => return Err(self.wrong(name)),
        };
        Origins::new(&texts).ok_or_else(|| self.wrong(name))
    }

    fn nets(&self) -> Result<Vec<IpNet>, SettingsError> {
        let name = "identity.trusted_proxies";
        let nets: Option<Vec<IpNet>> = match self.entry(name).1 {
            RawValue::None => Some(Vec::new()),
            RawValue::Text(text) if text.is_empty() => Some(Vec::new()),
            RawValue::Text(text) => text.split(',').map(parse_net).collect(),
            RawValue::List(list) => list.iter().map(|text| parse_net(text)).collect(),
            _ => None,
        };
        nets.ok_or_else(|| self.wrong(name))
    }

    fn keys(&self) -> Result<Vec<KeyText>, SettingsError> {
        let name = "identity.keys";
        let keys: Option<Vec<KeyText>> = match self.entry(name).1 {
            RawValue::None => Some(Vec::new()),
            RawValue::Text(text) => text.split_whitespace().map(key_of_word).collect(),
            RawValue::Keys(keys) => keys.iter().map(key_of_table).collect(),
            // `keys = []` cannot be told from a list of texts.
            RawValue::List(list) if list.is_empty() => Some(Vec::new()),
            _ => None,
        };
        let keys = keys.ok_or_else(|| self.wrong(name))?;
        for key in &keys {
            let parsed = IdentityKey::parse(&key.kid, &key.alg, key.material.reveal());
            parsed.map_err(|error| self.in_keys(&format!("the key {:?}: {error}", key.kid)))?;
        }
        let twice = |(index, key): (usize, &KeyText)| keys[..index].iter().any(|other| other.kid == key.kid);
        match keys.iter().enumerate().find(|pair| twice(*pair)) {
            Some((_, key)) => {
                Err(self.in_keys(&format!("two keys have the kid {:?}. Rename one of them", key.kid)))
            }
            None => Ok(keys),
        }
    }

    fn in_keys(&self, problem: &str) -> SettingsError {
        SettingsError::Together(format!("identity.keys ({}): {problem}", self.entry("identity.keys").2))
    }

    fn together(&self, settings: &Settings, serving: bool) -> Result<(), SettingsError> {
        let refuse = |text: &str| Err(SettingsError::Together(text.to_owned()));
        if overlap(settings.listen, settings.admin_listen) {
            return Err(self.wrong("admin_listen"));
        }
        if settings.log.bytes_max < limits::SEGMENTS_MIN * settings.log.segment_bytes {
            return Err(self.wrong("log.bytes_max"));
        }
        let ShutdownSettings { deadline_ms, lame_duck_ms } = settings.shutdown;
        if lame_duck_ms > 0 && lame_duck_ms + limits::AFTER_LAME_DUCK_MS > deadline_ms {
            return Err(self.wrong("shutdown.lame_duck_ms"));
        }
        let local = settings.listen.ip().is_loopback();
        if settings.demo && !(local && settings.admin_listen.ip().is_loopback()) {
            return refuse(
                "--demo serves this machine only: its key is made for play. Listen on 127.0.0.1, or leave out --demo and configure identity.keys",
            );
        }
        self.check_identity(&settings.identity, local, serving && !settings.demo)
    }

    fn check_identity(
        &self,
        identity: &IdentitySettings,
        local: bool,
        keys_needed: bool,
    ) -> Result<(), SettingsError> {
        let trusts_some = !identity.trusted_proxies.is_empty();
        let problem = match identity.mode {
            IdentityMode::Header if !local && !trusts_some => {
                "identity.mode = header lets everybody be any buyer while listen is not loopback. Set identity.trusted_proxies to the gateway's addresses, or listen on 127.0.0.1"
            }
            IdentityMode::Header if !identity.keys.is_empty() => {
                "identity.keys does nothing with identity.mode = header. Take out one of the two"
            }
            IdentityMode::Header
                if !(identity.rules.audience.is_empty() && identity.rules.issuer.is_empty()) =>
            {
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
}

fn key_of_word(word: &str) -> Option<KeyText> {
    let mut parts = word.splitn(3, ':');
    let (kid, alg, material) = (parts.next()?, parts.next()?, parts.next()?);
    let text = Some(material.to_owned());
    let (secret, public) = if alg == "EdDSA" { (None, text) } else { (text, None) };
    key_of_table(&RawKey { kid: kid.to_owned(), alg: alg.to_owned(), secret, public })
}

fn key_of_table(key: &RawKey) -> Option<KeyText> {
    let material = match (key.alg.as_str(), &key.secret, &key.public) {
        ("HS256", Some(secret), None) => secret,
        ("EdDSA", None, Some(public)) => public,
        _ => return None,
    };
    let named = !key.kid.is_empty() && !material.is_empty();
    named.then(|| KeyText {
        kid: key.kid.clone(),
        alg: key.alg.clone(),
        material: Secret::new(material.clone()),
    })
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
    if let Some(postgres) = &settings.postgres
        && let Ok(Some(weak)) = ConnectOptions::new(postgres.url.reveal()).check()
    {
        words.push(format!("postgres.url: {weak}"));
    }
    if settings.postgres.as_ref().is_some_and(|postgres| postgres.new_shop) {
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
