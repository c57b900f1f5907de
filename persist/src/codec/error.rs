//! Why bytes cannot be decoded. Next: [`super::bytes`], which checks them.

/// Why bytes are not a fact or a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The kind number is unknown: a newer version wrote it, or it is damaged.
    #[error("kind {0} is unknown; a newer version may have written it")]
    Kind(u16),
    /// The bytes end inside a field.
    #[error("ends inside the field {0}")]
    Short(&'static str),
    /// Bytes are left over.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// A value is outside its range.
    #[error("the field {0} holds a value outside its range")]
    Range(&'static str),
    /// A text is not UTF-8.
    #[error("the field {0} is not UTF-8")]
    Utf8(&'static str),
}
