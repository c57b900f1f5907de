//! How values are written: for each kind of value what is allowed, how it is read and how it is shown.
//!
//! Pure: what a form is used for stands in [`super::keys`]. Next: [`super::raw`], where values come from.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;
use stampede_core::limits::CORES_MAX;
use stampede_persist::export::{ConnectOptions, ExportError};

use super::raw_value::{RawKey, RawValue};
use super::units::{CoresText, parse_bytes, parse_cores, parse_int, parse_net, show_bytes, show_cores};
use super::values::{KeyText, Secret, TransportChoice};
use crate::gate::seal::SealKey;
use crate::gate::ticket;
use crate::identity::address::AddressHeader;
use crate::identity::cookie::is_cookie_name;
use crate::identity::cors::Origins;
use crate::identity::key::{IdentityKey, decode};

/// Bytes of an admin token.
const TOKEN_BYTES: RangeInclusive<usize> = 16..=256;

/// Why a value was not taken.
pub enum Wrong {
    /// It is not what the form allows.
    Value,
    /// It is not what the form allows: this, to be more exact.
    Must(String),
    /// A problem that is no matter of the form, as a sentence.
    Problem(String),
}

/// Reads a value; the processors are those that this process may use.
type Read<T> = Box<dyn Fn(&RawValue, &[usize]) -> Result<T, Wrong>>;

/// How the values of one setting are written.
pub struct Form<T> {
    /// What is allowed, as the end of the sentence "must be …".
    pub allowed: String,
    /// The reader.
    pub read: Read<T>,
    /// The value as text, masked if it is secret.
    pub show: Box<dyn Fn(&T) -> String>,
}

impl<T: 'static> Form<T> {
    fn new(
        allowed: impl Into<String>,
        read: impl Fn(&RawValue) -> Option<T> + 'static,
        show: impl Fn(&T) -> String + 'static,
    ) -> Self {
        let read = move |raw: &RawValue, _: &[usize]| read(raw).ok_or(Wrong::Value);
        Self { allowed: allowed.into(), read: Box::new(read), show: Box::new(show) }
    }

    /// A text that is not empty.
    fn text(
        allowed: &str,
        read: impl Fn(&str) -> Option<T> + 'static,
        show: impl Fn(&T) -> String + 'static,
    ) -> Self {
        Self::new(allowed, move |raw| raw.text().filter(|text| !text.is_empty()).and_then(&read), show)
    }

    /// The same, with one more rule, which is checked elsewhere.
    pub(super) fn and(mut self, rule: &str) -> Self {
        self.allowed = format!("{}, and {rule}", self.allowed);
        self
    }
}

/// Joins them, or says that there are none.
fn joined(texts: impl IntoIterator<Item = String>, between: &str) -> String {
    let joined = texts.into_iter().collect::<Vec<_>>().join(between);
    if joined.is_empty() { "none".to_owned() } else { joined }
}

fn masked(is_set: bool) -> String {
    if is_set { "***" } else { "none" }.to_owned()
}

/// A whole number.
pub(super) fn number<T: TryFrom<u64> + Display + 'static>(range: RangeInclusive<u64>) -> Form<T> {
    let allowed = format!("{} to {}", range.start(), range.end());
    Form::new(allowed, move |raw| raw.number(parse_int, &range)?.try_into().ok(), T::to_string)
}

/// A number of bytes.
pub(super) fn size<T>(range: RangeInclusive<u64>) -> Form<T>
where
    T: TryFrom<u64> + Into<u64> + Copy + 'static,
{
    let allowed = format!("{} to {}", show_bytes(*range.start()), show_bytes(*range.end()));
    let show = |bytes: &T| show_bytes((*bytes).into());
    Form::new(allowed, move |raw| raw.number(parse_bytes, &range)?.try_into().ok(), show)
}

/// A number of bytes in whole blocks: segments begin and end on one.
pub(super) fn blocks(range: RangeInclusive<u64>) -> Form<u64> {
    const BLOCK_BYTES: u64 = 4096;
    let Form { allowed, read, show } = size::<u64>(range);
    let whole = |bytes: u64| if bytes.is_multiple_of(BLOCK_BYTES) { Ok(bytes) } else { Err(Wrong::Value) };
    let read: Read<u64> = Box::new(move |raw, cpus| read(raw, cpus).and_then(whole));
    Form { allowed: format!("{allowed}, a multiple of {BLOCK_BYTES}"), read, show }
}

/// `true` or `false`.
pub(super) fn truth() -> Form<bool> {
    let read = |raw: &RawValue| match raw {
        RawValue::Bool(truth) => Some(*truth),
        _ => raw.text()?.parse().ok(),
    };
    Form::new("true or false", read, bool::to_string)
}

/// One of these words.
pub(super) fn choice<T: Copy + PartialEq + 'static>(words: &'static [(&'static str, T)]) -> Form<T> {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let allowed = match names.split_last() {
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    };
    let find = |text: &str| words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    let name = |chosen: &T| words.iter().find(|(_, value)| value == chosen).map_or("", |(name, _)| name);
    Form::text(&allowed, find, move |chosen| name(chosen).to_owned())
}

/// A word that older settings have is told from one that never was.
pub(super) fn transport() -> Form<TransportChoice> {
    let Form { allowed, read, show } = choice(&TransportChoice::ALL);
    let removed = format!("{allowed}; `streams` was removed, `epoll` takes its place");
    let read: Read<TransportChoice> = Box::new(move |raw, cpus| match raw.text() {
        Some("streams") => Err(Wrong::Must(removed.clone())),
        _ => read(raw, cpus),
    });
    Form { allowed, read, show }
}

/// An address and a port.
pub(super) fn address(allowed: &str) -> Form<SocketAddr> {
    // The commonest name for an address; no resolver runs for it.
    let read = |text: &str| text.replace("localhost:", "127.0.0.1:").parse().ok();
    Form::text(allowed, read, SocketAddr::to_string)
}

/// A path; whether it can be written to is the [`crate::doctor`]'s question.
pub(super) fn directory() -> Form<PathBuf> {
    let read = |text: &str| (!text.contains('\0')).then(|| PathBuf::from(text));
    let allowed = "a directory that the server may create or write to";
    Form::text(allowed, read, |path| path.display().to_string())
}

/// Processors, ascending, none twice; 1 to [`CORES_MAX`] of them, all usable by this process.
pub(super) fn cores() -> Form<Vec<usize>> {
    let allowed = format!(
        "all, a number of cores (4), or a list of processors (0,2-5; a single one: 3-3), at most {CORES_MAX}"
    );
    let read = |raw: &RawValue, cpus: &[usize]| {
        let asked = match raw {
            RawValue::Int(number) => parse_cores(&number.to_string()),
            _ => raw.text().and_then(parse_cores),
        };
        let cores = match asked.ok_or(Wrong::Value)? {
            CoresText::All => return Ok(cpus.iter().copied().take(CORES_MAX).collect()),
            CoresText::First(count) => cpus.get(..count).map(<[usize]>::to_vec),
            CoresText::List(list) => list.iter().all(|core| cpus.contains(core)).then_some(list),
        };
        cores.filter(|cores| cores.len() <= CORES_MAX).ok_or_else(|| {
            let (count, usable) = (cpus.len(), show_cores(cpus));
            Wrong::Must(format!(
                "among the {count} processors that this process may use ({usable}), at most {CORES_MAX} of them"
            ))
        })
    };
    Form { allowed, read: Box::new(read), show: Box::new(|cores| show_cores(cores)) }
}

/// A cookie's name.
pub(super) fn cookie() -> Form<String> {
    let read = |text: &str| is_cookie_name(text).then(|| text.to_owned());
    Form::text("a name of 1 to 64 letters, digits, - and _", read, String::clone)
}

/// A header that says whose request it is.
pub(super) fn address_header() -> Form<AddressHeader> {
    let names = "X-Forwarded-For, Forwarded, X-Real-IP, CF-Connecting-IP or True-Client-IP";
    Form::text(names, AddressHeader::find, |header| header.name().to_owned())
}

/// Networks, in a text with commas between them.
pub(super) fn networks() -> Form<Vec<IpNet>> {
    let read = |raw: &RawValue| raw.list(true)?.into_iter().map(parse_net).collect();
    let show = |nets: &Vec<IpNet>| joined(nets.iter().map(ToString::to_string), ", ");
    Form::new("a list of addresses or networks, such as 10.0.0.0/8", read, show)
}

/// Origins of pages, in a text with commas between them.
pub(super) fn origins() -> Form<Origins> {
    let allowed =
        "a list of origins, such as https://shop.example or http://127.0.0.1:3000, without a path; or *";
    Form::new(allowed, |raw| Origins::new(&raw.list(true)?), Origins::to_string)
}

/// Values of a claim, in a text with spaces between them.
pub(super) fn texts(claim: &str) -> Form<Vec<String>> {
    let fits =
        |text: &&str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let read = move |raw: &RawValue| {
        let texts = raw.list(false)?;
        texts.iter().all(fits).then(|| texts.into_iter().map(str::to_owned).collect())
    };
    let allowed = format!("a text or a list of texts without spaces, each as a token's {claim} has it");
    Form::new(allowed, read, |texts: &Vec<String>| joined(texts.iter().cloned(), " "))
}

/// A secret that may be absent. An empty text is absent too: that is what an
/// unfilled variable of a deployment template looks like.
fn secret(allowed: &str, fits: fn(&str) -> bool) -> Form<Option<Secret>> {
    let read = move |raw: &RawValue| match raw {
        RawValue::None => Some(None),
        _ => match raw.text()? {
            "" => Some(None),
            text => fits(text).then(|| Some(Secret::new(text))),
        },
    };
    Form::new(allowed, read, |secret: &Option<Secret>| masked(secret.is_some()))
}

/// A token of the merchant API.
pub(super) fn admin_token() -> Form<Option<Secret>> {
    let (least, most) = (TOKEN_BYTES.start(), TOKEN_BYTES.end());
    secret(&format!("{least} to {most} visible ASCII characters"), is_token)
}

/// Whether this can be an admin token.
pub(super) fn is_token(text: &str) -> bool {
    TOKEN_BYTES.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A connection string. The exporter's own reader decides: what passes here is what it takes.
pub(super) fn postgres_url() -> Form<Option<Secret>> {
    let Form { allowed, read, show } =
        secret("a connection string, such as postgres://user@host/database", is_postgres_url);
    let must = allowed.clone();
    let read: Read<Option<Secret>> = Box::new(move |raw, cpus| {
        let url = read(raw, cpus)?;
        if let Some(url) = &url {
            ConnectOptions::new(url.reveal()).check().map_err(|error| unusable_url(&must, error))?;
        }
        Ok(url)
    });
    Form { allowed, read, show }
}

/// The export's own word on a URL: it shows no piece of it.
fn unusable_url(allowed: &str, error: ExportError) -> Wrong {
    let reason = match error {
        ExportError::BadUrl(what) | ExportError::Tls(what) => what,
        other => other.to_string(),
    };
    Wrong::Must(format!("{allowed}, and {reason}"))
}

fn is_postgres_url(text: &str) -> bool {
    let url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    // The other form that libpq knows: `host=… dbname=…`.
    url || (text.contains('=') && !text.contains("://"))
}

/// Keys of tickets, each known to parse by [`ticket_key`].
pub(super) fn ticket_keys() -> Form<Vec<Secret>> {
    let read = |raw: &RawValue| {
        let words = raw.list(false)?;
        let keys: Vec<SealKey> = words.iter().map(|word| ticket_key(word)).collect::<Option<_>>()?;
        let twice = keys.len() == 2 && keys[0].id() == keys[1].id();
        let fits = !twice && keys.len() <= ticket::KEYS_MAX;
        fits.then(|| words.into_iter().map(Secret::new).collect())
    };
    let allowed = "one or two words of the form number:secret, the number from 0 to 255, the secret of at least \
                   32 bytes in base64";
    Form::new(allowed, read, |keys: &Vec<Secret>| masked(!keys.is_empty()))
}

/// The ticket key that a word `number:secret` stands for.
pub(super) fn ticket_key(word: &str) -> Option<SealKey> {
    let (number, secret) = word.split_once(':')?;
    SealKey::new(number.parse().ok()?, &decode(secret)?)
}

/// Keys of buyers' tokens, each known to parse, no two with the same name.
pub(super) fn identity_keys() -> Form<Vec<KeyText>> {
    let allowed = "tables with kid, alg = \"HS256\" and secret, or kid, alg = \"EdDSA\" and public, both in base64; \
                   in the environment words of the form kid:alg:key";
    let read = |raw: &RawValue, _: &[usize]| {
        let keys: Option<Vec<KeyText>> = match raw {
            RawValue::Text(text) => text.split_whitespace().map(key_of_word).collect(),
            RawValue::Keys(keys) => keys.iter().map(key_of_table).collect(),
            // `keys = []` cannot be told from a list of texts.
            _ => raw.list(false).filter(Vec::is_empty).map(|_| Vec::new()),
        };
        let keys = keys.ok_or(Wrong::Value)?;
        for (at, key) in keys.iter().enumerate() {
            let KeyText { kid, alg, material } = key;
            IdentityKey::parse(kid, alg, material.reveal())
                .map_err(|error| Wrong::Problem(format!("the key {kid:?}: {error}")))?;
            if keys[..at].iter().any(|other| other.kid == *kid) {
                return Err(Wrong::Problem(format!("two keys have the kid {kid:?}. Rename one of them")));
            }
        }
        Ok(keys)
    };
    let show =
        |keys: &Vec<KeyText>| joined(keys.iter().map(|key| format!("{} ({}, ***)", key.kid, key.alg)), ", ");
    Form { allowed: allowed.to_owned(), read: Box::new(read), show: Box::new(show) }
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
    let material = Secret::new(material);
    named.then(|| KeyText { kid: key.kid.clone(), alg: key.alg.clone(), material })
}
