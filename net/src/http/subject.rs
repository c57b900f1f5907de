//! Which bytes can be a buyer's name: in a token, a header, a path or a query.

use stampede_core::types::Subject;

use crate::http::chars::text_len;

/// The subject with these bytes, if it can be one: 1 to 255 bytes of UTF-8 without
/// control characters.
#[inline]
pub fn subject(bytes: &[u8]) -> Option<Subject> {
    // Most are plain ASCII.
    if text_len(bytes) == bytes.len() {
        return Subject::new(bytes);
    }
    let text = str::from_utf8(bytes).ok()?;
    if text.chars().any(char::is_control) { None } else { Subject::new(bytes) }
}
