//! Classes of bytes, as the RFCs name them.
//!
//! One `const fn` per class says what is in it; the classes that every request is full of are
//! looked up in a table that is made of them when this is compiled.

/// RFC 9110 section 5.6.2: what methods and field names are made of.
pub(crate) const fn is_token(byte: u8) -> bool {
    CLASSES[byte as usize] & TOKEN != 0
}

const fn belongs_to_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// RFC 5234 `VCHAR`: printable ASCII without the space.
pub(crate) const fn is_visible(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

/// RFC 3986 `unreserved` and `sub-delims`.
const fn is_plain_uri(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

/// What the path and the query of a request may hold, percent signs included.
pub(crate) const fn is_target(byte: u8) -> bool {
    CLASSES[byte as usize] & TARGET != 0
}

/// What a host name may hold, percent signs included; not the brackets of an IP literal.
pub(crate) const fn is_host(byte: u8) -> bool {
    CLASSES[byte as usize] & HOST != 0
}

const TARGET: u8 = 1;
const HOST: u8 = 2;
const TOKEN: u8 = 4;
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut at = 0;
    while at < classes.len() {
        let byte = at as u8;
        if is_plain_uri(byte) || matches!(byte, b':' | b'@' | b'/' | b'?' | b'%') {
            classes[at] |= TARGET;
        }
        if is_plain_uri(byte) && !matches!(byte, b',' | b'(' | b')' | b'\'' | b'*') || byte == b'%' {
            classes[at] |= HOST;
        }
        if belongs_to_token(byte) {
            classes[at] |= TOKEN;
        }
        at += 1;
    }
    classes
};

/// The value of one hexadecimal digit.
pub(crate) const fn hex_value(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Whether every percent sign is followed by two hexadecimal digits.
pub(crate) fn percent_signs_are_whole(bytes: &[u8]) -> bool {
    let is_hex = |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_hexdigit());
    memchr::memchr_iter(b'%', bytes).all(|at| is_hex(at + 1) && is_hex(at + 2))
}

/// A decimal number without sign or leading zeros; `None` also when it does not fit.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    let canonical = !bytes.is_empty() && (bytes.len() == 1 || bytes[0] != b'0');
    if !canonical {
        return None;
    }
    bytes.iter().try_fold(0u64, |sum, byte| match byte {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}
