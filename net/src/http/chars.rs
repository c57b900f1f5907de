//! Character classes, as the RFCs name them.
//!
//! One `const fn` per class says what is in it; the frequent classes are
//! looked up in a table that is built from these functions at compile time.

/// RFC 9110 section 5.6.2: what methods and field names are made of.
pub(crate) const fn is_token(byte: u8) -> bool {
    CLASSES[byte as usize] & TOKEN != 0
}

const fn belongs_to_token(byte: u8) -> bool {
    let is_mark = matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
    byte.is_ascii_alphanumeric() || is_mark
}

/// RFC 5234 `VCHAR`: printable ASCII without the space.
pub(crate) const fn is_visible(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

/// The lowest bit of each of eight bytes.
const LOW: u64 = 0x0101_0101_0101_0101;
/// The highest.
const HIGH: u64 = LOW << 7;

/// How many bytes at the front are printable ASCII or spaces; eight are checked at once.
pub(crate) fn text_len(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of a byte: it is set, or the byte is below the space, or it is DEL. A borrow
        // or a carry reaches only bytes behind the first that is not text.
        let other = (word | word.wrapping_sub(LOW * 0x20) | word.wrapping_add(LOW)) & HIGH;
        if other != 0 {
            return index * 8 + other.trailing_zeros() as usize / 8;
        }
    }
    let tail = rest.iter().position(|&byte| !is_text(byte)).unwrap_or(rest.len());
    words.len() * 8 + tail
}

/// The first position of a byte; made for short texts, where a call costs more than the search.
pub(crate) fn find(needle: u8, bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let differences = u64::from_le_bytes(*word) ^ (LOW * u64::from(needle));
        // The high bit of a byte that is zero; a borrow reaches only bytes behind the first such.
        let zeros = differences.wrapping_sub(LOW) & !differences & HIGH;
        if zeros != 0 {
            return Some(index * 8 + zeros.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|&byte| byte == needle)?;
    Some(words.len() * 8 + at)
}

/// Printable ASCII or a space.
const fn is_text(byte: u8) -> bool {
    is_visible(byte) || byte == b' '
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

/// Whether this can be the path and the query of a request; every percent sign is followed by two
/// hexadecimal digits.
pub(crate) fn is_whole_target(bytes: &[u8]) -> bool {
    is_whole(bytes, TARGET)
}

/// Whether this can be a host, an IP literal in brackets aside; percent signs as in a target.
pub(crate) fn is_whole_host(bytes: &[u8]) -> bool {
    is_whole(bytes, HOST)
}

fn is_whole(bytes: &[u8], class: u8) -> bool {
    let (all, any) = bytes.iter().fold((class, 0), |(all, any), &byte| {
        let classes = CLASSES[byte as usize];
        (all & classes, any | classes)
    });
    all != 0 && (any & PERCENT == 0 || percent_signs_are_whole(bytes))
}

const TARGET: u8 = 1;
const HOST: u8 = 2;
const TOKEN: u8 = 4;
const PERCENT: u8 = 8;
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
        if byte == b'%' {
            classes[at] |= PERCENT;
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

#[cfg(test)]
mod tests {
    use super::{find, is_text, text_len};

    #[test]
    fn text_ends_at_the_first_other_byte() {
        for at in 0..24 {
            for byte in 0..=u8::MAX {
                for filler in [b' ', b'~', b'\x7f', b'\xff', b'\0'] {
                    let mut bytes = [b' '; 24];
                    bytes[at] = byte;
                    bytes[at + 1..].fill(filler);
                    let slow = bytes.iter().position(|&byte| !is_text(byte)).unwrap_or(24);
                    assert_eq!(text_len(&bytes), slow, "{}", bytes.escape_ascii());
                }
            }
        }
        assert_eq!(text_len(b""), 0);
    }

    #[test]
    fn the_first_of_the_bytes_is_found() {
        for at in 0..24 {
            for needle in 0..=u8::MAX {
                for filler in [needle, needle ^ 1, needle ^ 0x80, needle.wrapping_add(1)] {
                    let mut bytes = [needle.wrapping_sub(1); 24];
                    bytes[at..].fill(filler);
                    bytes[at] = needle;
                    assert_eq!(find(needle, &bytes), Some(at), "{}", bytes.escape_ascii());
                    bytes[at..].fill(needle ^ 1);
                    assert_eq!(find(needle, &bytes), None, "{}", bytes.escape_ascii());
                }
            }
        }
        assert_eq!(find(b'a', b""), None);
    }
}
