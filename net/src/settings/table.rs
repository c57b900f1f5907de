//! The macro that makes the settings' types, their reader and the list of keys out of the table of
//! [`super::keys`].

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
            ///
            /// # Errors
            /// The first key whose value is not taken, and why.
            pub fn read<'a>(
                value: &dyn Fn(&str) -> &'a RawValue,
                cpus: &[usize],
                demo: bool,
            ) -> Result<Self, (&'static str, Wrong)> {
                Ok(Self {
                    $( $name: read(value, stringify!($name), &$form, cpus)?, )+
                    $( $table: $Table { $(
                        $in_name: read(value, dotted!($table $in_name), &$in_form, cpus)?,
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
