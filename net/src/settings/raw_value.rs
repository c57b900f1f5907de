//! One value as it was written, before anybody knows what it is to be. Next: [`super::forms`].

use std::fmt;
use std::ops::RangeInclusive;

/// A value as it was written.
#[derive(Clone, PartialEq, Eq)]
pub enum RawValue {
    /// Nothing.
    None,
    /// A text; everything outside the file is one.
    Text(String),
    /// A number.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// A list of texts.
    List(Vec<String>),
    /// The tables of `identity.keys`.
    Keys(Vec<RawKey>),
}

impl RawValue {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number within these bounds, written as one or as a text that `parse` reads.
    pub fn number(&self, parse: fn(&str) -> Option<u64>, range: &RangeInclusive<u64>) -> Option<u64> {
        let number = match self {
            Self::Int(number) => u64::try_from(*number).ok(),
            _ => self.text().and_then(parse),
        };
        number.filter(|number| range.contains(number))
    }

    /// The texts of a list, or of one text, between whose parts are commas or else spaces.
    pub fn list(&self, commas: bool) -> Option<Vec<&str>> {
        match self {
            Self::None => Some(Vec::new()),
            Self::Text(text) if commas && !text.is_empty() => Some(text.split(',').map(str::trim).collect()),
            Self::Text(text) => Some(text.split_whitespace().collect()),
            Self::List(list) => Some(list.iter().map(String::as_str).collect()),
            _ => None,
        }
    }
}

/// As a complaint shows it.
impl fmt::Display for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::List(list) => write!(f, "{list:?}"),
            Self::Keys(_) => f.write_str("a list of tables"),
        }
    }
}

/// One table of `identity.keys`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RawKey {
    /// The key's name.
    pub kid: String,
    /// Its algorithm.
    pub alg: String,
    /// The shared secret.
    pub secret: Option<String>,
    /// The public key.
    pub public: Option<String>,
}
