//! What the table of [`super::keys`] is made of: a [`Key`] for each setting, and the macro that makes
//! the settings' types, their reader and the list of keys from it.

use super::Settings;

/// One setting.
pub struct Key {
    /// Its name in the file, with dots for tables: `limits.connections`.
    pub name: &'static str,
    /// The flag of `serve` that sets it.
    pub flag: Option<&'static str>,
    /// Its value when nobody sets it, as text; empty = none.
    pub default: &'static str,
    /// What `--demo` puts in place of the default.
    pub demo: Option<&'static str>,
    /// Whether its value must never be shown, and may come from a file.
    pub secret: bool,
    /// What it does.
    pub meaning: &'static str,
    /// What is allowed, as the end of the sentence "must be …".
    pub allowed: fn() -> String,
    /// The value in force, masked if it is secret.
    pub show: fn(&Settings) -> String,
}

impl Key {
    /// The environment variable that sets it: `STAMPEDE_LIMITS_CONNECTIONS`.
    pub fn env(&self) -> String {
        format!("{}{}", super::keys::ENV_PREFIX, self.name.replace('.', "_").to_ascii_uppercase())
    }
}

/// Rows of the form `name: Type = "default" flag "--flag" demo "preset" [secret], form;`, of which flag,
/// demo and secret may be left out. The comment above a row is what it means.
macro_rules! settings {
    (
        $(#[doc = $root_doc:literal])+
        $Root:ident { $(
            $(#[doc = $doc:literal])+
            $name:ident: $type:ty = $default:literal
            $(flag $flag:literal)? $(demo $demo:literal)? $([$secret:ident])?, $form:expr;
        )+ }
        $(
            $(#[doc = $table_doc:literal])+
            $table:ident: $Table:ident { $(
                $(#[doc = $in_doc:literal])+
                $in_name:ident: $in_type:ty = $in_default:literal
                $(flag $in_flag:literal)? $(demo $in_demo:literal)? $([$in_secret:ident])?, $in_form:expr;
            )+ }
        )+
    ) => {
        $(#[doc = $root_doc])+
        #[derive(Clone, Debug)]
        pub struct $Root {
            $( $(#[doc = $doc])+ pub $name: $type, )+
            $( $(#[doc = $table_doc])+ pub $table: $Table, )+
            /// Whether this is `serve --demo`.
            pub demo: bool,
        }

        $(
            $(#[doc = $table_doc])+
            #[derive(Clone, Debug)]
            pub struct $Table {
                $( $(#[doc = $in_doc])+ pub $in_name: $in_type, )+
            }
        )+

        impl $Root {
            /// Reads every value by itself.
            pub(super) fn read(raw: &Raw, cpus: &[usize], demo: bool) -> Result<Self, SettingsError> {
                Ok(Self {
                    $( $name: raw.read(stringify!($name), &$form, cpus)?, )+
                    $( $table: $Table { $(
                        $in_name: raw.read(dotted!($table $in_name), &$in_form, cpus)?,
                    )+ }, )+
                    demo,
                })
            }
        }

        /// Every setting, in the order in which `check-config` and docs/CONFIG.md show them.
        pub const KEYS: &[Key] = &[
            $( Key {
                name: stringify!($name),
                flag: option!($($flag)?),
                default: $default,
                demo: option!($($demo)?),
                secret: Option::<&str>::is_some(&option!($(stringify!($secret))?)),
                meaning: concat!($($doc),+).trim_ascii(),
                allowed: || { let form: Form<$type> = $form; form.allowed },
                show: |settings| { let form: Form<$type> = $form; (form.show)(&settings.$name) },
            }, )+
            $( $( Key {
                name: dotted!($table $in_name),
                flag: option!($($in_flag)?),
                default: $in_default,
                demo: option!($($in_demo)?),
                secret: Option::<&str>::is_some(&option!($(stringify!($in_secret))?)),
                meaning: concat!($($in_doc),+).trim_ascii(),
                allowed: || { let form: Form<$in_type> = $in_form; form.allowed },
                show: |settings| { let form: Form<$in_type> = $in_form; (form.show)(&settings.$table.$in_name) },
            }, )+ )+
        ];
    };
}

macro_rules! dotted {
    ($table:ident $name:ident) => {
        concat!(stringify!($table), ".", stringify!($name))
    };
}

macro_rules! option {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

pub(super) use {dotted, option, settings};
