//! Facts and snapshot rows as bytes, and back.
//!
//! Fixed widths, little endian, stable kind numbers; a variable part is a length
//! byte and its bytes. Decoding checks every length before it uses it and every
//! value against its range, refuses what is left over, and never panics: the
//! bytes may come from a damaged disk. docs/WAL_FORMAT.md draws the layouts.
//! Next: [`fact`], [`row`], [`crate::log::block`].

pub mod bytes;
pub mod fact;
pub mod row;

pub use fact::{decode, encode, fact_kind};
pub use row::{ROW_BYTES_MAX, decode_row, encode_row, row_kind};

/// Why bytes are not a fact or row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The kind number is not one of ours: a newer version wrote it, or it is damaged.
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
