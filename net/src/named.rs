//! Enums whose values have stable names, for machines and people.

/// The enum, with `ALL` its values in the order in which they stand, `name()` and `from_name()`.
macro_rules! named {
    ($(#[$meta:meta])* pub enum $Enum:ident { $($(#[$doc:meta])* $Value:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $Enum { $($(#[$doc])* $Value,)+ }

        impl $Enum {
            /// All of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$Value),+];
            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Value => $name),+ }
            }
            /// The value with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|value| value.name() == name)
            }
        }
    };
}

pub(crate) use named;
