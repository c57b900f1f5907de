//! Query strings: named parameters, each at most once, and none that the call does not know.
//!
//! Names are compared as they came. Values are decoded only where a subject is
//! expected; a bare `+` there is refused, because half of the world means a
//! space by it. Next: [`crate::http::route`].

use stampede_core::limits::SUBJECT_BYTES_MAX;
use stampede_core::types::Subject;

use crate::http::chars::hex_value;
use crate::http::problem::{Code, Problem};

/// Most parameters; no call knows more than four.
const PARAMETERS_MAX: usize = 4;

/// The parameters of one request.
pub(crate) struct Query<'a> {
    pairs: [(&'a str, &'a str); PARAMETERS_MAX],
    len: usize,
}

impl<'a> Query<'a> {
    /// Splits a query (without the question mark); an empty one has no parameters.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Problem> {
        let mut query = Self { pairs: [("", ""); PARAMETERS_MAX], len: 0 };
        for pair in text.split('&').filter(|_| !text.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(bad("a query parameter has no value"))?;
            if query.get(name).is_some() {
                return Err(bad("a query parameter is repeated").field(name));
            }
            let slot = query.pairs.get_mut(query.len).ok_or(bad("too many query parameters"))?;
            *slot = (name, value);
            query.len += 1;
        }
        Ok(query)
    }

    /// # Errors
    /// `bad_request` when there is a parameter besides these.
    pub(crate) fn only(&self, names: &[&str]) -> Result<(), Problem> {
        match self.pairs().find(|(name, _)| !names.contains(name)) {
            Some((name, _)) => Err(bad("unknown query parameter").field(name)),
            None => Ok(()),
        }
    }

    /// The value of a parameter, as `parse` understands it.
    pub(crate) fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match parse(text) {
            Some(value) => Ok(Some(value)),
            None => Err(bad("a query parameter has a value that it cannot have").field(name)),
        }
    }

    /// `limit`, from 1 to `max`.
    pub(crate) fn limit(&self, default: u16, max: u16) -> Result<u16, Problem> {
        let parse = |text: &str| {
            let value = crate::http::chars::decimal(text.as_bytes())?;
            u16::try_from(value).ok().filter(|value| (1..=max).contains(value))
        };
        Ok(self.parsed("limit", parse)?.unwrap_or(default))
    }

    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        self.pairs[..self.len].iter().copied()
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.pairs().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// [`decode_subject`] where a bare `+` leaves doubt.
pub(crate) fn decode_query_subject(text: &str) -> Option<Subject> {
    if text.contains('+') { None } else { decode_subject(text) }
}

/// A percent-encoded subject; `None` unless it could stand in a token: 1 to 64
/// bytes of UTF-8 without control characters.
pub(crate) fn decode_subject(text: &str) -> Option<Subject> {
    let mut decoded = [0u8; SUBJECT_BYTES_MAX];
    let mut len = 0;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let plain = match byte {
            b'%' => hex_value(bytes.next()?)? << 4 | hex_value(bytes.next()?)?,
            other => other,
        };
        *decoded.get_mut(len)? = plain;
        len += 1;
    }
    crate::identity::subject(&decoded[..len])
}

const fn bad(detail: &'static str) -> Problem {
    Problem::new(Code::BadRequest).detail(detail)
}
