//! Stock in Redis: one hash per item, `count` and `version`.
//!
//! Every verb is one round trip. Where it goes wrong is part of the design and told in
//! docs/CLASSICS.md. Next: [`crate::shop`].

use redis::{Connection, RedisResult};

use crate::limiter::KEY_PREFIX;

/// What is known of an item's stock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stock {
    /// Units left.
    pub count: i64,
    /// Changes with every sale.
    pub version: i64,
}

/// The name of the hash.
pub fn key(item: u32) -> String {
    format!("{KEY_PREFIX}stock:{item}")
}

/// What the cache has, if it has the item.
///
/// # Errors
/// What Redis says.
pub fn read(redis: &mut Connection, item: u32) -> RedisResult<Option<Stock>> {
    let (count, version): (Option<i64>, Option<i64>) =
        redis::cmd("HMGET").arg(key(item)).arg("count").arg("version").query(redis)?;
    Ok(count.zip(version).map(|(count, version)| Stock { count, version }))
}

/// Puts what the database had: at the start, and after a miss.
///
/// # Errors
/// What Redis says.
pub fn fill(redis: &mut Connection, item: u32, stock: Stock) -> RedisResult<()> {
    let mut set = redis::cmd("HSET");
    set.arg(key(item)).arg("count").arg(stock.count).arg("version").arg(stock.version);
    set.exec(redis)
}

/// Forgets the item, so the next reader goes to the database.
///
/// # Errors
/// What Redis says.
pub fn delete(redis: &mut Connection, item: u32) -> RedisResult<()> {
    redis::cmd("DEL").arg(key(item)).exec(redis)
}

/// One unit was sold: a real MULTI … EXEC, sent whole on this one connection. Relative
/// changes, so that it does not matter in which order two winners come.
///
/// # Errors
/// What Redis says.
pub fn sold_one(redis: &mut Connection, item: u32) -> RedisResult<()> {
    let key = key(item);
    let mut change = redis::pipe();
    change.atomic();
    change.cmd("HINCRBY").arg(&key).arg("count").arg(-1).ignore();
    change.cmd("HINCRBY").arg(&key).arg("version").arg(1).ignore();
    change.exec(redis)
}
