//! A strict reader of one JSON object (RFC 8259), without allocation.
//!
//! serde_json would take what this must refuse (duplicate keys in a struct it
//! refuses, but floats that are whole, escapes in keys and numbers of any form
//! it takes), and would allocate for what it skips. The whole text is always
//! read to its end before a caller's objection counts, so that broken JSON is
//! called broken whatever else is wrong with it. Next: [`crate::http::body`].

use std::borrow::Cow;

use crate::http::chars::{decimal, hex_value};
use crate::http::limits::JSON_DEPTH_MAX;

/// The text is not a JSON object as it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadJson;

/// A value of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// A number as it was written.
    Number(&'a str),
    Text(Text<'a>),
    /// An array or an object as it was written, which no call takes.
    Composite(&'a str),
}

impl<'a> Value<'a> {
    /// A whole number without sign, point or exponent.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Number(digits) => decimal(digits.as_bytes()),
            _ => None,
        }
    }
    /// A whole number without point or exponent.
    pub(crate) fn as_i64(&self) -> Option<i64> {
        let Value::Number(digits) = self else { return None };
        match digits.strip_prefix('-') {
            Some(digits) => decimal(digits.as_bytes())?.try_into().ok().map(|value: i64| -value),
            None => decimal(digits.as_bytes())?.try_into().ok(),
        }
    }
    /// Whether one of the strings passes: this one, or one of an array of strings. `None` if it is neither.
    pub(crate) fn any_text(&self, mut passes: impl FnMut(&str) -> bool) -> Option<bool> {
        let text = match self {
            Value::Text(text) => return Some(passes(&text.decoded())),
            Value::Composite(text) if text.starts_with('[') => text,
            _ => return None,
        };
        let mut reader = Reader { text, at: 1, begun: false };
        let mut passed = false;
        loop {
            reader.skip_space();
            if reader.take(b']') {
                return Some(passed);
            }
            if std::mem::replace(&mut reader.begun, true) {
                reader.expect(b',').ok()?;
                reader.skip_space();
            }
            passed |= passes(&reader.value(0).ok()?.as_text()?.decoded());
        }
    }
    pub(crate) const fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }
    pub(crate) const fn as_text(&self) -> Option<Text<'a>> {
        match self {
            Value::Text(text) => Some(*text),
            _ => None,
        }
    }
}

/// A string whose escapes were checked and stand as they came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// The string, if it has no escapes.
    pub(crate) fn plain(self) -> Option<&'a str> {
        (!self.escaped).then_some(self.raw)
    }
    /// The string as it was written.
    pub(crate) const fn raw(self) -> &'a str {
        self.raw
    }
    /// The string.
    pub(crate) fn decoded(self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut text = String::with_capacity(self.raw.len());
        let mut rest = self.raw.as_bytes();
        while let Some(at) = memchr::memchr(b'\\', rest) {
            text.push_str(str::from_utf8(&rest[..at]).unwrap_or_default());
            let Ok((character, len)) = unescape(&rest[at..]) else { break };
            text.push(character);
            rest = &rest[at + len..];
        }
        text.push_str(str::from_utf8(rest).unwrap_or_default());
        Cow::Owned(text)
    }
}

/// What to do with a field that is not listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Others {
    /// It is an error of [`FieldsError::Unknown`].
    Refuse,
    /// It is read over.
    Skip,
}

/// Why an object was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FieldsError<'a, E> {
    /// It is no strict JSON object, or a known key stands twice in it.
    Json,
    /// It has a field that is not listed.
    Unknown(&'a str),
    /// The caller refused a value.
    Refused(E),
}

/// Hands each listed field to `take`, as an index into `names` and a value.
///
/// # Errors
/// `Json` goes before the others; of those the first in the text counts.
pub(crate) fn each_field<'a, E>(
    bytes: &'a [u8],
    names: &[&str],
    others: Others,
    mut take: impl FnMut(usize, Value<'a>) -> Result<(), E>,
) -> Result<(), FieldsError<'a, E>> {
    debug_assert!(names.len() <= 64, "one bit for each name");
    let mut reader = Reader::new(bytes).map_err(|BadJson| FieldsError::Json)?;
    let mut seen = 0u64;
    let mut objection = None;
    while let Some((key, value)) = reader.field().map_err(|BadJson| FieldsError::Json)? {
        let known = key.plain().and_then(|key| names.iter().position(|name| *name == key));
        let outcome = match known {
            Some(index) if seen & 1 << index != 0 => return Err(FieldsError::Json),
            Some(index) => {
                seen |= 1 << index;
                take(index, value).map_err(FieldsError::Refused)
            }
            // An escape in a key can spell a listed name a second way.
            None if key.plain().is_none() && others == Others::Skip => return Err(FieldsError::Json),
            None if others == Others::Skip => Ok(()),
            None => Err(FieldsError::Unknown(key.raw())),
        };
        objection = objection.or(outcome.err());
    }
    objection.map_or(Ok(()), Err)
}

/// A cursor in a text that is one object.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    begun: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, BadJson> {
        let text = str::from_utf8(bytes).map_err(|_| BadJson)?;
        let mut reader = Self { text, at: 0, begun: false };
        reader.skip_space();
        reader.expect(b'{')?;
        Ok(reader)
    }

    /// The next field; after the last one, makes sure that nothing follows.
    fn field(&mut self) -> Result<Option<(Text<'a>, Value<'a>)>, BadJson> {
        self.skip_space();
        if self.take(b'}') {
            self.skip_space();
            return if self.at == self.text.len() { Ok(None) } else { Err(BadJson) };
        }
        if self.begun {
            self.expect(b',')?;
            self.skip_space();
        }
        self.begun = true;
        self.member(0).map(Some)
    }

    fn member(&mut self, depth: u32) -> Result<(Text<'a>, Value<'a>), BadJson> {
        let key = self.string()?;
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Ok((key, self.value(depth)?))
    }

    fn value(&mut self, depth: u32) -> Result<Value<'a>, BadJson> {
        match self.peek().ok_or(BadJson)? {
            b'"' => self.string().map(Value::Text),
            b'-' | b'0'..=b'9' => self.number().map(Value::Number),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            b'[' | b'{' => {
                let from = self.at;
                self.composite(depth + 1)?;
                Ok(Value::Composite(&self.text[from..self.at]))
            }
            _ => Err(BadJson),
        }
    }

    fn composite(&mut self, depth: u32) -> Result<(), BadJson> {
        if depth > JSON_DEPTH_MAX {
            return Err(BadJson);
        }
        let (is_object, close) = if self.take(b'{') {
            (true, b'}')
        } else {
            self.expect(b'[')?;
            (false, b']')
        };
        self.skip_space();
        if self.take(close) {
            return Ok(());
        }
        loop {
            self.skip_space();
            if is_object {
                self.member(depth)?;
            } else {
                self.value(depth)?;
            }
            self.skip_space();
            if self.take(close) {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    fn string(&mut self) -> Result<Text<'a>, BadJson> {
        self.expect(b'"')?;
        let from = self.at;
        let mut escaped = false;
        loop {
            match self.peek().ok_or(BadJson)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += unescape(&self.text.as_bytes()[self.at..])?.1;
                }
                0..0x20 => return Err(BadJson),
                _ => self.at += 1,
            }
        }
        let raw = &self.text[from..self.at];
        self.at += 1;
        Ok(Text { raw, escaped })
    }

    fn number(&mut self) -> Result<&'a str, BadJson> {
        let from = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(&self.text[from..self.at])
    }

    fn digits(&mut self) -> Result<(), BadJson> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > from { Ok(()) } else { Err(BadJson) }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, BadJson> {
        if !self.text[self.at..].starts_with(word) {
            return Err(BadJson);
        }
        self.at += word.len();
        Ok(value)
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), BadJson> {
        if self.take(byte) { Ok(()) } else { Err(BadJson) }
    }
}

/// The character that the escape at the start of `bytes` stands for, and the
/// length of the escape. Half of a surrogate pair stands for none.
fn unescape(bytes: &[u8]) -> Result<(char, usize), BadJson> {
    let simple = |character| Ok((character, 2));
    match bytes.get(1).ok_or(BadJson)? {
        b'"' => simple('"'),
        b'\\' => simple('\\'),
        b'/' => simple('/'),
        b'b' => simple('\u{8}'),
        b'f' => simple('\u{c}'),
        b'n' => simple('\n'),
        b'r' => simple('\r'),
        b't' => simple('\t'),
        b'u' => unescape_unicode(bytes),
        _ => Err(BadJson),
    }
}

fn unescape_unicode(bytes: &[u8]) -> Result<(char, usize), BadJson> {
    let first = hex4(bytes, 2)?;
    if !(0xD800..0xDC00).contains(&first) {
        return char::from_u32(first).map(|character| (character, 6)).ok_or(BadJson);
    }
    if bytes.get(6..8) != Some(b"\\u") {
        return Err(BadJson);
    }
    let second = hex4(bytes, 8)?;
    if !(0xDC00..0xE000).contains(&second) {
        return Err(BadJson);
    }
    let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    char::from_u32(code).map(|character| (character, 12)).ok_or(BadJson)
}

fn hex4(bytes: &[u8], at: usize) -> Result<u32, BadJson> {
    let digits = bytes.get(at..at + 4).ok_or(BadJson)?;
    digits.iter().try_fold(0u32, |sum, &digit| Ok(sum << 4 | u32::from(hex_value(digit).ok_or(BadJson)?)))
}
