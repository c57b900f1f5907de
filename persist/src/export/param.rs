//! Parameters of statements, each with its Postgres type.
//!
//! A statement is sent as unnamed text with the types of its parameters, and leaves nothing on the
//! server. With a pooler in transaction mode, the next statement may go to another connection of the
//! server, where a prepared one does not exist; and another client may get this connection, where it
//! would clash with ours. Next: [`super::link`], which sends them.

use tokio_postgres::types::{ToSql, Type};

/// A value that can be sent.
pub(super) trait Param: Sync {
    /// Its Postgres type.
    fn sql_type(&self) -> Type;
    /// The value as the client takes it.
    fn value(&self) -> &(dyn ToSql + Sync);
}

/// A parameter list.
pub(super) type Params<'a> = &'a [&'a dyn Param];

macro_rules! params {
    ($($rust:ty => $sql:ident),+ $(,)?) => {
        $(impl Param for $rust {
            fn sql_type(&self) -> Type { Type::$sql }
            fn value(&self) -> &(dyn ToSql + Sync) { self }
        })+
    };
}

params! {
    bool => BOOL,
    i32 => INT4,
    i64 => INT8,
    &str => TEXT,
    String => TEXT,
    Vec<bool> => BOOL_ARRAY,
    Vec<i32> => INT4_ARRAY,
    Vec<i64> => INT8_ARRAY,
    Vec<Option<i64>> => INT8_ARRAY,
    Option<&[i64]> => INT8_ARRAY,
    &[i64] => INT8_ARRAY,
    &[&str] => TEXT_ARRAY,
    Vec<&str> => TEXT_ARRAY,
    Vec<Option<&str>> => TEXT_ARRAY,
    Vec<String> => TEXT_ARRAY,
    Vec<Option<String>> => TEXT_ARRAY,
}

/// The list as the client takes it.
pub(super) fn typed<'a>(params: Params<'a>) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    params.iter().map(|param| (param.value(), param.sql_type())).collect()
}
