//! Facts and snapshot rows as bytes, and back.
//!
//! Fixed widths, little endian, stable kind numbers; a variable part is a length
//! byte and its bytes. Decoding checks every length before it uses it and every
//! value against its range, refuses left-over bytes, and never panics: the
//! bytes may come from a damaged disk. docs/WAL_FORMAT.md draws the layouts.
//! Next: [`fact`], [`row`], [`crate::log::block`].

pub mod bytes;
mod error;
pub mod fact;
pub mod row;

pub use error::DecodeError;
pub use fact::{decode, encode, fact_kind};
pub use row::{ROW_BYTES_MAX, decode_row, encode_row, row_kind};
