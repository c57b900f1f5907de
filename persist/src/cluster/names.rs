//! The cluster's words as types: names, identities, the epoch.
//!
//! A name becomes a part of keys in etcd, so its letters are few. Next: [`super::records`], made of these.

use std::fmt;

use super::limits::NAME_BYTES_MAX;

/// Which change of leader this is: grows by one with each, and is handed out by the registry alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Before the first leader.
    pub const NONE: Self = Self(0);

    /// The one after this.
    ///
    /// # Panics
    /// At the end of the numbers, which no cluster lives to see.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("an epoch per change of leader"))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number drawn at random by whoever has to recognise his own record: a candidate, a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Nonce(pub [u8; 16]);

/// Which cluster this is: 128 random bits, drawn when it is made and repeated in every value below its keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// Why a text is no name of a cluster or node.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} is no name; use 1 to {NAME_BYTES_MAX} letters a-z, digits, `-` and `_`, beginning with a letter or digit"
)]
pub struct NameRefused(pub String);

fn check_name(text: &str) -> Result<String, NameRefused> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let is_name = bytes.len() <= NAME_BYTES_MAX
        && bytes.first().is_some_and(|&first| is_letter(first))
        && bytes.iter().all(|&byte| is_letter(byte) || byte == b'-' || byte == b'_');
    if is_name { Ok(text.to_owned()) } else { Err(NameRefused(text.to_owned())) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(String);

        impl $name {
            /// Takes a text for a name.
            ///
            /// # Errors
            /// [`NameRefused`] when it is too long, empty, or has other letters.
            pub fn new(text: &str) -> Result<Self, NameRefused> {
                check_name(text).map(Self)
            }

            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A cluster's name: the part of its keys that tells it from others in the same etcd.
    ClusterName
}
name! {
    /// A node's name, one of its own in its cluster.
    NodeName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_a_key() {
        for good in ["a", "0", "shop-1", "eu_west", &"n".repeat(NAME_BYTES_MAX)] {
            assert_eq!(NodeName::new(good).expect(good).as_str(), good);
        }
        for bad in ["", "-a", "_", "A", "a/b", "a b", "a\0", "ä", "../x", &"n".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(ClusterName::new(bad), Err(NameRefused(bad.to_owned())));
        }
    }
}
