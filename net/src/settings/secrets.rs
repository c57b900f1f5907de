//! The secrets that are made at the first start and kept in the data directory: the
//! merchant's token, the key of purchase tickets and, with `--demo`, that of buyers' tokens.
//!
//! Nothing here prints one. Files are made with mode 0600 in one step, so that
//! there is no moment in which others can read them.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::forms::{is_token, ticket_key};
use super::{IdentityMode, KeyText, Secret, Settings};
use crate::gate::seal::SealKey;
use crate::gate::ticket;
use crate::identity::demo::Demo;
use crate::identity::key::{IdentityKey, KeyError};
use crate::identity::mint::MintKey;
use crate::identity::{Identity, IdentityError};

/// The file of the made admin token, within the data directory.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";
/// The file of the made demo key, within the data directory.
pub const DEMO_KEY_FILE: &str = "demo.key";
/// The `kid` of the made demo key.
pub const DEMO_KID: &str = "demo";
/// The file of the made ticket keys, within the data directory: one or two lines `number:secret`,
/// of which the first seals.
pub const TICKET_KEYS_FILE: &str = "ticket.keys";
/// Random bytes of a made secret; written as base64url.
const MADE_BYTES: usize = 32;

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be made or read.
    #[error("cannot {verb} {} ({cause}). Make the data directory writable for this user", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
    /// The file holds something else.
    #[error("{} does not hold a secret that can be used. Remove it, and the next start makes a new one", .0.display())]
    Unusable(PathBuf),
    /// A key that cannot verify anything.
    #[error("identity.keys: the key {kid:?}: {cause}")]
    Key {
        /// Its name.
        kid: String,
        /// Why.
        cause: KeyError,
    },
    /// Keys that are not enough, or mode and listener that do not go together.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes ({0})")]
    Random(getrandom::Error),
}

/// The token that the merchant API asks for.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// The token.
    pub token: Secret,
    /// The file that holds it; `None` when it was configured.
    pub path: Option<PathBuf>,
    /// What deserves a word: the file can be read by others.
    pub warning: Option<String>,
}

/// The configured admin token, or the made one, which is made now if there is none.
/// Creates the data directory (mode 0700) if it is not there.
///
/// # Errors
/// The file cannot be made or read, or holds something else.
pub fn admin_token(settings: &Settings) -> Result<AdminToken, SecretError> {
    if let Some(token) = &settings.admin.token {
        return Ok(AdminToken { token: token.clone(), path: None, warning: None });
    }
    let path = settings.data_dir.join(ADMIN_TOKEN_FILE);
    let (token, warning) = load_or_make(&path)?;
    Ok(AdminToken { token, path: Some(path), warning })
}

/// The configured admin token, or the one that a start has made; makes none.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn existing_admin_token(settings: &Settings) -> Result<Secret, SecretError> {
    if let Some(token) = &settings.admin.token {
        return Ok(token.clone());
    }
    let path = settings.data_dir.join(ADMIN_TOKEN_FILE);
    let text = std::fs::read_to_string(&path).map_err(|cause| io_error("read", &path, cause))?;
    token_in(&text, &path)
}

/// All keys that buyers' tokens may be signed with: the configured ones and, in demo
/// mode, the made one, which is made now if there is none. Empty in header mode.
///
/// # Errors
/// The demo key's file cannot be made or read, or holds something else.
pub fn identity_keys(settings: &Settings) -> Result<Vec<KeyText>, SecretError> {
    let mut keys = settings.identity.keys.clone();
    if settings.demo && settings.identity.mode == IdentityMode::Jwt {
        let (material, _) = load_or_make(&settings.data_dir.join(DEMO_KEY_FILE))?;
        keys.retain(|key| key.kid != DEMO_KID);
        keys.push(KeyText { kid: DEMO_KID.to_owned(), alg: "HS256".to_owned(), material });
    }
    Ok(keys)
}

/// How buyers are told apart: all keys parsed, the demo's made if need be.
///
/// # Errors
/// As [`identity_keys`]; and for settings that were loaded without `serving` and have
/// no key.
pub fn identity(settings: &Settings) -> Result<Identity, SecretError> {
    let chosen = &settings.identity;
    let trusted = chosen.trusted_proxies.clone();
    let identity = match chosen.mode {
        IdentityMode::Header => Identity::header(settings.listen.ip(), trusted)?,
        IdentityMode::Jwt => {
            let parse = |key: &KeyText| {
                let parsed = IdentityKey::parse(&key.kid, &key.alg, key.material.reveal());
                parsed.map_err(|cause| SecretError::Key { kid: key.kid.clone(), cause })
            };
            let keys = identity_keys(settings)?;
            Identity::jwt(keys.iter().map(parse).collect::<Result<_, _>>()?, trusted)?
                .with_cookie(&chosen.cookie)
                .with_rules(chosen.rules())
                .with_proxy_protocol(chosen.proxy_protocol)
        }
    };
    Ok(identity.with_address_header(chosen.address_header).with_origins(chosen.cors_origins.clone()))
}

/// What the demo makes its sessions with; `None` without `--demo`, and in header mode, where
/// tokens do not count.
///
/// # Errors
/// As [`identity_keys`].
pub fn demo(settings: &Settings) -> Result<Option<Demo>, SecretError> {
    if !settings.demo {
        return Ok(None);
    }
    let keys = identity_keys(settings)?;
    let Some(key) = keys.iter().find(|key| key.kid == DEMO_KID) else { return Ok(None) };
    let key = MintKey::parse(&key.kid, &key.alg, key.material.reveal())
        .map_err(|cause| SecretError::Key { kid: DEMO_KID.to_owned(), cause })?;
    Ok(Some(Demo::new(key, settings.identity.cookie.clone(), &settings.identity.rules())))
}

/// The keys of purchase tickets: the configured ones, or the made ones, of which one is made now if
/// there is none.
///
/// # Errors
/// The file cannot be made or read, or holds something else.
pub fn ticket_keys(settings: &Settings) -> Result<Vec<SealKey>, SecretError> {
    if !settings.gate.ticket_keys.is_empty() {
        let parsed = settings.gate.ticket_keys.iter().filter_map(|word| ticket_key(word.reveal()));
        return Ok(parsed.collect());
    }
    let path = settings.data_dir.join(TICKET_KEYS_FILE);
    let lines = match read_ticket_keys(&path)? {
        Some(lines) => lines,
        None => {
            let line = format!("1:{}", random_text()?);
            write_private(&path, &line, Existing::Keep).map_err(|cause| io_error("write", &path, cause))?;
            vec![line]
        }
    };
    Ok(lines.iter().filter_map(|line| ticket_key(line)).collect())
}

/// Makes a new ticket key the first and keeps the one that was first beside it, so that the tickets
/// that are out stay good. Returns the numbers of both. Takes effect at the next start.
///
/// # Errors
/// As [`ticket_keys`].
pub fn rotate_ticket_keys(data_dir: &Path) -> Result<(u8, Option<u8>), SecretError> {
    let path = data_dir.join(TICKET_KEYS_FILE);
    let former = read_ticket_keys(&path)?.and_then(|lines| lines.into_iter().next());
    let former_id = former.as_deref().and_then(ticket_key).map(|key| key.id());
    let id = former_id.map_or(1, |id| id.wrapping_add(1));
    let mut text = format!("{id}:{}", random_text()?);
    if let Some(former) = former {
        text.push('\n');
        text.push_str(&former);
    }
    write_private(&path, &text, Existing::Replace).map_err(|cause| io_error("write", &path, cause))?;
    Ok((id, former_id))
}

/// The lines of the file, each known to be a key; `None` if there is no file.
fn read_ticket_keys(path: &Path) -> Result<Option<Vec<String>>, SecretError> {
    let Some(text) = read_if_there(path)? else { return Ok(None) };
    let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    let usable = (1..=ticket::KEYS_MAX).contains(&lines.len());
    let usable = usable && lines.iter().all(|line| ticket_key(line).is_some());
    if usable { Ok(Some(lines)) } else { Err(SecretError::Unusable(path.to_owned())) }
}

fn load_or_make(path: &Path) -> Result<(Secret, Option<String>), SecretError> {
    match read_if_there(path)? {
        Some(text) => Ok((token_in(&text, path)?, open_to_others(path))),
        None => make(path).map(|secret| (secret, None)),
    }
}

fn read_if_there(path: &Path) -> Result<Option<String>, SecretError> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(|cause| io_error("read", path, cause)),
    }
}

fn token_in(text: &str, path: &Path) -> Result<Secret, SecretError> {
    let text = text.trim_end();
    if is_token(text) { Ok(Secret::new(text)) } else { Err(SecretError::Unusable(path.to_owned())) }
}

fn make(path: &Path) -> Result<Secret, SecretError> {
    let text = random_text()?;
    write_private(path, &text, Existing::Keep).map_err(|cause| io_error("write", path, cause))?;
    Ok(Secret::new(text))
}

/// [`MADE_BYTES`] random bytes, as text.
fn random_text() -> Result<String, SecretError> {
    let mut bytes = [0; MADE_BYTES];
    getrandom::fill(&mut bytes).map_err(SecretError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn io_error(verb: &'static str, path: &Path, cause: io::Error) -> SecretError {
    SecretError::Io { verb, path: path.to_owned(), cause }
}

/// What becomes of a file that is there already.
#[derive(Clone, Copy)]
enum Existing {
    Keep,
    Replace,
}

/// Writes beside, syncs, then links or renames into place: a crash leaves a whole file or none,
/// and of two starts at once one wins instead of both writing.
fn write_private(path: &Path, text: &str, existing: Existing) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    match existing {
        Existing::Replace => std::fs::rename(&beside, path)?,
        Existing::Keep => {
            let linked = std::fs::hard_link(&beside, path);
            std::fs::remove_file(&beside)?;
            linked?;
        }
    }
    std::fs::File::open(dir)?.sync_all()
}

fn open_to_others(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
    let open = mode & 0o077 != 0;
    open.then(|| format!("{0} can be read by others (mode {mode:03o}): chmod 600 {0}", path.display()))
}
