//! The header fields that the server knows, and where they stand in a head.
//!
//! A head is moved several times on the way to its answer, so a field is kept as an offset and a
//! length, and how often it came as two bits. What stands at them is asked for where it is needed.
//! Next: [`crate::http::head`], which fills them.

use crate::http::limits::HEAD_BYTES_MAX;

macro_rules! names {
    ($($(#[$note:meta])* $Name:ident = $text:literal,)+) => {
        /// A header field by its name.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Name { $(#[doc = concat!("`", $text, "`.")] $(#[$note])* $Name,)+ }

        /// Every name, as it is usually written.
        const NAMES: &[(&str, Name)] = &[$(($text, Name::$Name),)+];
    };
}

names! {
    AcceptEncoding = "Accept-Encoding",
    AcceptLanguage = "Accept-Language",
    Authorization = "Authorization",
    Connection = "Connection",
    /// See [`crate::http::body::check_media`].
    ContentEncoding = "Content-Encoding",
    ContentLength = "Content-Length",
    /// See [`crate::http::body::check_media`].
    ContentType = "Content-Type",
    /// See [`crate::identity::cookie`].
    Cookie = "Cookie",
    Expect = "Expect",
    /// Given once, or the request was refused.
    Host = "Host",
    /// See [`crate::http::head::Head::idempotency_key`].
    IdempotencyKey = "Idempotency-Key",
    IfMatch = "If-Match",
    IfNoneMatch = "If-None-Match",
    Origin = "Origin",
    Prefer = "Prefer",
    SecFetchSite = "Sec-Fetch-Site",
    TransferEncoding = "Transfer-Encoding",
    /// Counts in header mode alone.
    XBuyer = "X-Buyer",
    /// Counts in header mode alone.
    XBuyerLevel = "X-Buyer-Level",
    /// Counts from trusted peers alone.
    XForwardedFor = "X-Forwarded-For",
}

impl Name {
    /// The field of this name, in any case; `None` for one that the server does not know.
    ///
    /// The name has to be without control characters: a carriage return would pass for a hyphen.
    pub(crate) fn find(name: &[u8]) -> Option<Self> {
        let first = name.first()? | 0x20;
        match (name.len(), first) {
            (4, _) => same(name, b"host", Self::Host),
            (6, b'c') => same(name, b"cookie", Self::Cookie),
            (6, b'e') => same(name, b"expect", Self::Expect),
            (6, b'o') => same(name, b"origin", Self::Origin),
            (6, _) => same(name, b"prefer", Self::Prefer),
            (7, _) => same(name, b"x-buyer", Self::XBuyer),
            (8, _) => same(name, b"if-match", Self::IfMatch),
            (10, _) => same(name, b"connection", Self::Connection),
            (12, _) => same(name, b"content-type", Self::ContentType),
            (13, b'a') => same(name, b"authorization", Self::Authorization),
            (13, b'i') => same(name, b"if-none-match", Self::IfNoneMatch),
            (13, _) => same(name, b"x-buyer-level", Self::XBuyerLevel),
            (14, b'c') => same(name, b"content-length", Self::ContentLength),
            (14, _) => same(name, b"sec-fetch-site", Self::SecFetchSite),
            (15, b'i') => same(name, b"idempotency-key", Self::IdempotencyKey),
            (15, b'x') => same(name, b"x-forwarded-for", Self::XForwardedFor),
            (15, _) => same(name, b"accept-encoding", Self::AcceptEncoding)
                .or_else(|| same(name, b"accept-language", Self::AcceptLanguage)),
            (16, _) => same(name, b"content-encoding", Self::ContentEncoding),
            (17, _) => same(name, b"transfer-encoding", Self::TransferEncoding),
            _ => None,
        }
    }
}

/// `found` if the two are the same but for case. Of what can be printed none but a capital letter
/// becomes what stands in `known`, letters and hyphens, when the bit of small letters is set.
fn same<const N: usize>(name: &[u8], known: &[u8; N], found: Name) -> Option<Name> {
    let name: &[u8; N] = name.try_into().ok()?;
    let differences = name.iter().zip(known).fold(0, |sum, (byte, known)| sum | ((byte | 0x20) ^ known));
    (differences == 0).then_some(found)
}

/// A header field, as often as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Field<'a> {
    /// It was not given.
    #[default]
    Absent,
    /// It was given once.
    Once(&'a [u8]),
    /// It was given more than once; the last value.
    Repeated(&'a [u8]),
}

impl<'a> Field<'a> {
    /// The value if it was given exactly once.
    pub const fn once(self) -> Option<&'a [u8]> {
        match self {
            Self::Once(value) => Some(value),
            _ => None,
        }
    }
    /// The last value, however many there were.
    pub const fn last(self) -> Option<&'a [u8]> {
        match self {
            Self::Once(value) | Self::Repeated(value) => Some(value),
            Self::Absent => None,
        }
    }
}

/// Which fields of a head were given, and where their last values stand in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    given: u32,
    repeated: u32,
    places: [Place; NAMES.len()],
}

/// Offset and length, in bytes.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u16,
    len: u16,
}

const _: () = assert!(HEAD_BYTES_MAX <= u16::MAX as usize && NAMES.len() <= 32);

impl Fields {
    /// None was given.
    pub(crate) const NONE: Self =
        Self { given: 0, repeated: 0, places: [Place { at: 0, len: 0 }; NAMES.len()] };

    /// Takes note of a value that stands at `at` in the head.
    pub(crate) fn push(&mut self, name: Name, at: usize, len: usize) {
        let bit = 1 << name as u32;
        self.repeated |= self.given & bit;
        self.given |= bit;
        self.places[name as usize] = Place { at: at as u16, len: len as u16 };
    }

    /// The field, in the head that the places are from.
    pub(crate) fn get<'a>(&self, name: Name, head: &'a [u8]) -> Field<'a> {
        let bit = 1 << name as u32;
        if self.given & bit == 0 {
            return Field::Absent;
        }
        let Place { at, len } = self.places[name as usize];
        let value = &head[usize::from(at)..usize::from(at) + usize::from(len)];
        if self.repeated & bit == 0 { Field::Once(value) } else { Field::Repeated(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Field, Fields, NAMES, Name};

    #[test]
    fn names_are_found_in_any_case_and_no_others() {
        for &(text, name) in NAMES {
            for spelled in [text.to_owned(), text.to_lowercase(), text.to_uppercase()] {
                assert_eq!(Name::find(spelled.as_bytes()), Some(name), "{spelled}");
            }
            // What differs in one byte is another name.
            for at in 0..text.len() {
                for byte in (b' '..=u8::MAX).filter(|&byte| byte != b'\x7f') {
                    let mut other = text.as_bytes().to_vec();
                    other[at] = byte;
                    let found = Name::find(&other);
                    let expected =
                        NAMES.iter().find(|(known, _)| other.eq_ignore_ascii_case(known.as_bytes()));
                    assert_eq!(found, expected.map(|(_, name)| *name), "{}", other.escape_ascii());
                }
            }
            assert_eq!(Name::find(&text.as_bytes()[1..]), None);
            assert_eq!(Name::find(format!("{text}s").as_bytes()), None);
        }
        assert_eq!(Name::find(b""), None);
    }

    #[test]
    fn a_field_is_kept_with_how_often_it_came() {
        let head = b"X-Buyer: ann\r\nX-Buyer: bob\r\nHost: h\r\n\r\n";
        let mut fields = Fields::NONE;
        assert_eq!(fields.get(Name::XBuyer, head), Field::Absent);
        fields.push(Name::XBuyer, 9, 3);
        fields.push(Name::Host, 34, 1);
        assert_eq!(fields.get(Name::XBuyer, head), Field::Once(b"ann"));
        fields.push(Name::XBuyer, 23, 3);
        assert_eq!(fields.get(Name::XBuyer, head), Field::Repeated(b"bob"));
        assert_eq!(fields.get(Name::Host, head), Field::Once(b"h"));
        assert_eq!(fields.get(Name::Cookie, head), Field::Absent);
    }
}
