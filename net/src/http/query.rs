//! Query strings: named parameters, each at most once.
//!
//! A strict query has no parameter that the endpoint does not know, and no character that a URI cannot have. A
//! lenient one may have any: browsers leave `|`, `{` or UTF-8 as they are (the URL standard), and trackers add
//! names of their own; unknown ones are ignored. Names are compared as they came. Values are decoded only where a
//! subject is expected; a bare `+` there is refused, because many clients mean a space by it. Next:
//! [`crate::http::route`].

use stampede_core::limits::SUBJECT_BYTES_MAX;
use stampede_core::types::Subject;

use crate::http::chars::{hex_value, is_whole_target};
use crate::http::problem::{Code, Problem};
use crate::http::subject::subject;

/// Most parameters; no endpoint knows more than nine.
const PARAMETERS_MAX: usize = 9;

/// The parameters of one request.
pub(crate) struct Query<'a> {
    /// Those of a lenient query have names that some endpoint knows.
    pairs: [(&'a str, &'a str); PARAMETERS_MAX],
    len: usize,
    is_lenient: bool,
}

/// The parameters that a lenient query can have.
const KNOWN: [&str; 4] = ["limit", "after", "wait_ms", "order"];

impl<'a> Query<'a> {
    /// Splits a query (without the question mark); an empty one has no parameters.
    pub(crate) fn strict(bytes: &'a [u8]) -> Result<Self, Problem> {
        let mut query = Self { pairs: [("", ""); PARAMETERS_MAX], len: 0, is_lenient: false };
        if bytes.is_empty() {
            return Ok(query);
        }
        let text = str::from_utf8(bytes).ok().filter(|_| is_whole_target(bytes));
        let text = text.ok_or(bad("the query has a character that it cannot have"))?;
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').ok_or(bad("a query parameter has no value"))?;
            query.push(name, value)?;
        }
        Ok(query)
    }

    /// The same, ignoring every parameter that no endpoint knows.
    pub(crate) fn lenient(bytes: &'a [u8]) -> Result<Self, Problem> {
        let mut query = Self { pairs: [("", ""); PARAMETERS_MAX], len: 0, is_lenient: true };
        let texts = bytes.split(|&byte| byte == b'&').filter_map(|pair| str::from_utf8(pair).ok());
        for (name, value) in texts.filter_map(|pair| pair.split_once('=')) {
            if KNOWN.contains(&name) {
                query.push(name, value)?;
            }
        }
        Ok(query)
    }

    fn push(&mut self, name: &'a str, value: &'a str) -> Result<(), Problem> {
        if self.get(name).is_some() {
            return Err(bad("a query parameter is repeated").field(name));
        }
        let slot = self.pairs.get_mut(self.len).ok_or(bad("too many query parameters"))?;
        *slot = (name, value);
        self.len += 1;
        Ok(())
    }

    /// # Errors
    /// `bad_request` when there is a parameter besides these, unless the query is a lenient one.
    pub(crate) fn only(&self, names: &[&str]) -> Result<(), Problem> {
        if self.is_lenient {
            return Ok(());
        }
        match self.pairs().find(|(name, _)| !names.contains(name)) {
            Some((name, _)) => Err(bad("unknown query parameter").field(name)),
            None => Ok(()),
        }
    }

    /// The value of a parameter, parsed by `parse`.
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

    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.pairs().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// [`decode_subject`] where a bare `+` leaves doubt.
pub(crate) fn decode_query_subject(text: &str) -> Option<Subject> {
    if text.contains('+') { None } else { decode_subject(text) }
}

/// A percent-encoded subject; `None` unless it could stand in a token: 1 to 255
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
    subject(&decoded[..len])
}

const fn bad(detail: &'static str) -> Problem {
    Problem::new(Code::BadRequest).detail(detail)
}
