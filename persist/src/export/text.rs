//! Opaque bytes as text for Postgres, and back, without loss.
//!
//! A subject, a key or a payment reference is bytes; a text column holds UTF-8 without
//! NUL. So valid UTF-8 stays as it is, except that a backslash becomes `\\`, and NUL and
//! every byte that is not UTF-8 become `\xHH`. Different bytes give different texts.
//! Nothing else in the export may turn bytes into text.

/// Appends the text of `bytes`.
pub fn escape_into(bytes: &[u8], text: &mut Vec<u8>) {
    if bytes.iter().all(|byte| byte.is_ascii() && *byte != b'\\' && *byte != 0) {
        text.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'\\' => text.extend_from_slice(b"\\\\"),
                0 => escape_byte(0, text),
                _ => text.push(byte),
            }
        }
        chunk.invalid().iter().for_each(|byte| escape_byte(*byte, text));
    }
}

/// The text of `bytes`.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len());
    escape_into(bytes, &mut text);
    String::from_utf8(text).expect("only UTF-8 and ASCII escapes were appended")
}

/// The bytes of a text, or `None` if it has a backslash that [`escape`] would not write.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        match rest {
            [b'\\', tail @ ..] => {
                bytes.push(b'\\');
                rest = tail;
            }
            [b'x', high, low, tail @ ..] => {
                bytes.push(digit(*high)? << 4 | digit(*low)?);
                rest = tail;
            }
            _ => return None,
        }
    }
    Some(bytes)
}

fn escape_byte(byte: u8, text: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.extend_from_slice(&[b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

fn digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{escape, unescape};

    #[test]
    fn known_texts_are_escaped_and_come_back() {
        for (bytes, text) in [
            (&b"alice@example.org"[..], "alice@example.org"),
            ("秒杀".as_bytes(), "秒杀"),
            (b"a\\b", "a\\\\b"),
            (b"\\x00", "\\\\x00"),
            (b"\0", "\\x00"),
            (b"ok\xff\xfe", "ok\\xff\\xfe"),
            (b"\xe7\xa7", "\\xe7\\xa7"),
        ] {
            assert_eq!(escape(bytes), text);
            assert_eq!(unescape(text).as_deref(), Some(bytes));
        }
        assert_eq!(unescape("\\q"), None);
        assert_eq!(unescape("\\x4"), None);
        assert_eq!(unescape("\\"), None);
    }

    proptest! {
        #[test]
        fn every_byte_string_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let text = escape(&bytes);
            prop_assert!(!text.contains('\0'));
            prop_assert_eq!(unescape(&text), Some(bytes));
        }

        #[test]
        fn a_string_of_escapes_comes_back(text in "[\\\\x0-9a-f\u{0}é]{0,20}") {
            prop_assert_eq!(unescape(&escape(text.as_bytes())), Some(text.into_bytes()));
        }
    }
}
