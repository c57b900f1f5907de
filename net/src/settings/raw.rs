//! Settings as they were written, each with the place that it came from.
//!
//! Four layers, laid over each other in the order default, file, environment,
//! flag. Here it is only known which names exist; what a value may be is
//! [`super::forms`]' business. The TOML is walked with its spans rather than
//! read by serde, because every complaint has to name file and line.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::forms::Wrong;
use super::keys::{ENV_CONFIG, ENV_PREFIX, KEYS, Key, position};
use super::raw_value::{RawKey, RawValue};

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The preset of `--demo`.
    Demo,
    /// The settings file.
    File {
        /// As the operator named it.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// The file that an environment variable names.
    EnvFile(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Demo => f.write_str("--demo"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::EnvFile(name) => write!(f, "file named by {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Why settings cannot be used: one line, with the remedy in it.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value that is not allowed.
    #[error("{key} = {shown} ({source_of}): must be {allowed}")]
    Value {
        /// The key's name.
        key: String,
        /// The value, masked where it is secret.
        shown: String,
        /// Where it came from.
        source_of: Source,
        /// What is allowed.
        allowed: String,
    },
    /// A key that does not exist.
    #[error("unknown key {key} ({source_of}){hint}")]
    Unknown {
        /// As it was written.
        key: String,
        /// Where it stands.
        source_of: Source,
        /// `. Did you mean …?`
        hint: String,
    },
    /// A file that is not TOML.
    #[error("{path}:{line}: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// What the reader said.
        message: String,
    },
    /// A file that an environment variable names and that cannot be read.
    #[error("cannot read {path}, which {variable} names ({cause}). Make it readable or unset {variable}")]
    Unreadable {
        /// The file.
        path: String,
        /// The variable.
        variable: String,
        /// Why.
        cause: io::Error,
    },
    /// Values that are allowed, but not together; the whole sentence.
    #[error("{0}")]
    Together(String),
}

impl SettingsError {
    /// The complaint about a value, which is masked if it is secret.
    fn value(key: &Key, shown: String, source_of: Source, allowed: String) -> Self {
        let shown = if key.secret { "***".to_owned() } else { shown };
        Self::Value { key: key.name.to_owned(), shown, source_of, allowed }
    }
}

/// All settings as they were written.
pub struct Raw {
    /// In the order of [`KEYS`].
    pub values: Vec<(RawValue, Source)>,
    /// What deserves a word.
    pub warnings: Vec<String>,
}

impl Raw {
    /// The defaults, those of the demo where asked for.
    pub fn defaults(demo: bool) -> Self {
        let value = |key: &Key| match key.demo {
            Some(preset) if demo => (RawValue::Text(preset.to_owned()), Source::Demo),
            _ if key.default.is_empty() => (RawValue::None, Source::Default),
            _ => (RawValue::Text(key.default.to_owned()), Source::Default),
        };
        Self { values: KEYS.iter().map(value).collect(), warnings: Vec::new() }
    }

    /// The value of a key.
    pub fn value(&self, name: &str) -> &RawValue {
        self.entry(name).1
    }

    /// Why the value of a key was not taken.
    pub fn refused(&self, name: &str, wrong: Wrong) -> SettingsError {
        match wrong {
            Wrong::Value => self.wrong(name),
            Wrong::Must(allowed) => self.wrong_since(name, allowed),
            Wrong::Problem(problem) => {
                SettingsError::Together(format!("{name} ({}): {problem}", self.entry(name).2))
            }
        }
    }

    /// The complaint about the value of a key.
    pub fn wrong(&self, name: &str) -> SettingsError {
        self.wrong_since(name, (self.entry(name).0.allowed)())
    }

    fn wrong_since(&self, name: &str, allowed: String) -> SettingsError {
        let (key, value, source) = self.entry(name);
        SettingsError::value(key, value.to_string(), source.clone(), allowed)
    }

    fn entry(&self, name: &str) -> (&'static Key, &RawValue, &Source) {
        let index = position(name).expect("the key is in the table");
        let (value, source) = &self.values[index];
        (&KEYS[index], value, source)
    }

    /// Lays the settings file over what is there.
    ///
    /// # Errors
    /// The file is not TOML, or has a key that does not exist.
    pub fn read_file(&mut self, path: &Path, text: &str) -> Result<(), SettingsError> {
        let file = File { path, text };
        let table = DeTable::parse(text).map_err(|error| file.syntax(&error))?;
        for (name, value) in table.get_ref() {
            self.read_entry(&file, name.get_ref(), name.span().start, value)?;
        }
        Ok(())
    }

    fn read_entry(
        &mut self,
        file: &File<'_>,
        name: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), SettingsError> {
        if let (DeValue::Table(table), None) = (value.get_ref(), position(name)) {
            if !is_section(name) {
                return Err(file.unknown(name, at));
            }
            for (inner, value) in table {
                let full = format!("{name}.{}", inner.get_ref());
                self.read_entry(file, &full, inner.span().start, value)?;
            }
            return Ok(());
        }
        let index = position(name).ok_or_else(|| file.unknown(name, at))?;
        self.values[index] = (file.value(&KEYS[index], value, at)?, file.source(at));
        Ok(())
    }

    /// Lays the environment over what is there. A variable that begins like ours and is
    /// none is only warned about: container platforms set such names by themselves
    /// (`STAMPEDE_SERVICE_HOST` for a service that is called stampede).
    ///
    /// # Errors
    /// A `…_FILE` variable names a file that cannot be read, or both it and the plain
    /// variable are set.
    pub fn read_env(
        &mut self,
        env: &[(String, String)],
        read: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<(), SettingsError> {
        for (name, text) in env {
            if !name.starts_with(ENV_PREFIX) || name == ENV_CONFIG {
                continue;
            }
            if let Some(index) = KEYS.iter().position(|key| key.env() == *name) {
                self.values[index] = (RawValue::Text(text.clone()), Source::Env(name.clone()));
            } else if !KEYS.iter().any(|key| key.secret && is_file_of(name, key)) {
                self.warnings.push(unknown_env(name));
            }
        }
        for (index, key) in KEYS.iter().enumerate().filter(|(_, key)| key.secret) {
            let Some((name, path)) = env.iter().find(|(name, _)| is_file_of(name, key)) else { continue };
            if matches!(self.values[index].1, Source::Env(_)) {
                let text = format!("both {} and {name} are set. Unset one of them", key.env());
                return Err(SettingsError::Together(text));
            }
            let text = read(Path::new(path)).map_err(|cause| SettingsError::Unreadable {
                path: path.clone(),
                variable: name.clone(),
                cause,
            })?;
            self.values[index] = (RawValue::Text(text.trim_end().to_owned()), Source::EnvFile(name.clone()));
        }
        Ok(())
    }

    /// Lays the flags over what is there.
    ///
    /// # Panics
    /// A flag whose key does not exist: a mistake of the command line's own table.
    pub fn read_flags(&mut self, flags: &[(&'static str, String)]) {
        for (name, text) in flags {
            let index = position(name).expect("the flag's key is in the table");
            let flag = KEYS[index].flag.expect("the key has a flag");
            self.values[index] = (RawValue::Text(text.clone()), Source::Flag(flag));
        }
    }
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(section, _)| section == name))
}

fn is_file_of(variable: &str, key: &Key) -> bool {
    variable.strip_suffix("_FILE").is_some_and(|plain| plain == key.env())
}

fn unknown_env(name: &str) -> String {
    let names: Vec<String> = KEYS.iter().map(Key::env).collect();
    let hint = did_you_mean(name, names.iter().map(String::as_str));
    format!("environment variable {name} is none of ours and does nothing{hint}")
}

/// `. Did you mean X?` for the nearest name that is near enough, or nothing.
pub fn did_you_mean<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    const NEAR_ENOUGH: f64 = 0.8;
    let scored = names.map(|name| (strsim::jaro_winkler(wrong, name), name));
    match scored.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((score, name)) if score >= NEAR_ENOUGH => format!(". Did you mean {name}?"),
        _ => String::new(),
    }
}

/// The file that is being read, for the places in its complaints.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
    }

    fn source(&self, at: usize) -> Source {
        Source::File { path: self.path.to_owned(), line: self.line(at) }
    }

    fn syntax(&self, error: &toml::de::Error) -> SettingsError {
        let line = self.line(error.span().map_or(0, |span| span.start));
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        SettingsError::Syntax { path: self.path.display().to_string(), line, message }
    }

    fn unknown(&self, name: &str, at: usize) -> SettingsError {
        SettingsError::Unknown { key: name.to_owned(), source_of: self.source(at), hint: suggestion(name) }
    }

    fn wrong(&self, key: &Key, shown: &str, at: usize) -> SettingsError {
        SettingsError::value(key, shown.to_owned(), self.source(at), (key.allowed)())
    }

    fn value(&self, key: &Key, value: &Spanned<DeValue<'_>>, at: usize) -> Result<RawValue, SettingsError> {
        let shown = || self.text[value.span()].to_owned();
        match value.get_ref() {
            DeValue::String(text) => Ok(RawValue::Text(text.to_string())),
            DeValue::Boolean(truth) => Ok(RawValue::Bool(*truth)),
            DeValue::Integer(int) => {
                let number = i64::from_str_radix(int.as_str(), int.radix());
                number.map(RawValue::Int).map_err(|_| self.wrong(key, &shown(), at))
            }
            DeValue::Array(list) if key.name == "identity.keys" => list
                .iter()
                .map(|entry| self.key_table(key, entry))
                .collect::<Result<_, _>>()
                .map(RawValue::Keys),
            DeValue::Array(list) => {
                let texts = list.iter().map(|entry| entry.get_ref().as_str().map(str::to_owned));
                let texts: Option<Vec<String>> = texts.collect();
                texts.map(RawValue::List).ok_or_else(|| self.wrong(key, &shown(), at))
            }
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
                Err(self.wrong(key, &shown(), at))
            }
        }
    }

    fn key_table(&self, key: &Key, entry: &Spanned<DeValue<'_>>) -> Result<RawKey, SettingsError> {
        let at = entry.span().start;
        let table = entry.get_ref().as_table().ok_or_else(|| self.wrong(key, "", at))?;
        let mut raw = RawKey::default();
        for (name, value) in table {
            let at = name.span().start;
            let text = value.get_ref().as_str().ok_or_else(|| self.wrong(key, "", at))?.to_owned();
            match name.get_ref().as_ref() {
                "kid" => raw.kid = text,
                "alg" => raw.alg = text,
                "secret" => raw.secret = Some(text),
                "public" => raw.public = Some(text),
                other => return Err(self.unknown(&format!("identity.keys.{other}"), at)),
            }
        }
        Ok(raw)
    }
}

/// All names that a wrong one could have meant: keys, their tables, parts of a key.
fn names_to_suggest() -> impl Iterator<Item = &'static str> {
    const PARTS: [&str; 4] =
        ["identity.keys.kid", "identity.keys.alg", "identity.keys.secret", "identity.keys.public"];
    let names = KEYS.iter().map(|key| key.name);
    let tables = names.clone().filter_map(|name| name.split_once('.').map(|(table, _)| table));
    names.chain(tables).chain(PARTS)
}

/// A key that was written without its table is meant, whatever else looks like it.
fn suggestion(wrong: &str) -> String {
    match KEYS.iter().find(|key| key.name.rsplit_once('.').is_some_and(|(_, last)| last == wrong)) {
        Some(key) => format!(". Did you mean {}?", key.name),
        None => did_you_mean(wrong, names_to_suggest()),
    }
}
