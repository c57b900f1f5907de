//! Enums whose values have stable names, for machines and people.

/// The enum, with `ALL` its values in the order in which they stand, `name()` and `from_name()`.
macro_rules! named {
    ($(#[$meta:meta])* $vis:vis enum $Enum:ident { $($(#[$doc:meta])* $Value:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        $vis enum $Enum { $($(#[$doc])* $Value,)+ }

        impl $Enum {
            /// All of them.
            $vis const ALL: [Self; [$($name),+].len()] = [$(Self::$Value),+];
            /// The stable name.
            $vis const fn name(self) -> &'static str {
                match self { $(Self::$Value => $name),+ }
            }
            /// The value with this name.
            $vis fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|value| value.name() == name)
            }
        }
    };
}

pub(crate) use named;
