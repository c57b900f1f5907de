//! The rival that everybody uses: stock, cap and order in one Lua script in Redis, and a worker that
//! writes Postgres.
//!
//! ```text
//! buyer ──HTTP──▶ front, or nginx ──EVALSHA──▶ Redis: stock − 1, the buyer's units, XADD of the order
//!                                                  │ stream
//!                                    worker ◀──────┘ XREADGROUP … XACK, XDEL
//!                                      └──▶ Postgres: many orders in one transaction, ON CONFLICT DO NOTHING
//! ```
//!
//! An order is acked when Redis has it: what Redis loses, buyers were told of. How much that is
//! depends on its log ([`stampede_testkit::AppendLog`]). This file holds what front, nginx and worker
//! share: the keys, the script, the numbers of orders. Next: `redis_lua/front.rs`, `redis_lua/worker.rs`.

pub mod front;
pub mod nginx;
mod resp;
pub mod worker;

use redis::{Connection, Script};

use crate::error::ClassicError;
use crate::limiter::KEY_PREFIX;
use stampede_testkit::{AppendLog, RedisOptions};

/// All of a purchase. Redis runs it without anybody in between, and logs what it wrote as one.
///
/// A field `buyer` of the second key holds the buyer's units, a field `buyer key` the order that this
/// key was told; names hold no space. One look and one write for both.
pub const SCRIPT: &str = "\
local field = ARGV[1] .. ' ' .. ARGV[2]
local had = redis.call('HMGET', KEYS[2], ARGV[1], field)
if had[2] then return 'again ' .. had[2] end
if had[1] and tonumber(had[1]) >= tonumber(ARGV[3]) then return 'cap_reached' end
local left = redis.call('GET', KEYS[1])
if not left then return 'not_found' end
if tonumber(left) <= 0 then return 'sold_out' end
redis.call('DECR', KEYS[1])
local id = redis.call('XADD', KEYS[3], '*', 'buyer', ARGV[1])
local units = (had[1] or 0) + 1
if ARGV[2] == '' then redis.call('HSET', KEYS[2], ARGV[1], units)
else redis.call('HSET', KEYS[2], ARGV[1], units, field, id) end
return 'order ' .. id";

/// Bits of an order's number that hold the second part of its id in the stream.
const SEQUENCE_BITS: u32 = 20;

/// The keys of an item. The braces keep them on one node of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keys {
    /// Units left.
    pub stock: String,
    /// What each buyer has and was told.
    pub bought: String,
    /// The stream of orders that are not in Postgres yet.
    pub orders: String,
}

impl Keys {
    /// Those of this item.
    pub fn of(item: u32) -> Self {
        let key = |name: &str| format!("{KEY_PREFIX}{{{item}}}:{name}");
        Self { stock: key("stock"), bought: key("bought"), orders: key("orders") }
    }
    /// In the order in which the script takes them.
    pub fn in_order(&self) -> [&str; 3] {
        [&self.stock, &self.bought, &self.orders]
    }
}

/// The hash by which the script is called.
pub fn script_hash() -> String {
    Script::new(SCRIPT).get_hash().to_owned()
}

/// The number of the order with this id in the stream (`milliseconds-sequence`), and when it was placed,
/// in Unix milliseconds.
pub fn order_of(id: &str) -> Option<(i64, i64)> {
    let (ms, sequence) = id.split_once('-')?;
    let (ms, sequence): (i64, i64) = (ms.parse().ok()?, sequence.parse().ok()?);
    let fits = (0..1 << SEQUENCE_BITS).contains(&sequence) && (0..1 << (62 - SEQUENCE_BITS)).contains(&ms);
    fits.then_some((ms << SEQUENCE_BITS | sequence, ms))
}

/// Puts so many units on sale and forgets all orders.
///
/// # Errors
/// What Redis says.
pub fn preheat(redis: &mut Connection, item: u32, stock: u64) -> Result<(), ClassicError> {
    let keys = Keys::of(item);
    let mut change = redis::pipe();
    change.atomic();
    change.cmd("DEL").arg(&keys.bought).arg(&keys.orders).ignore();
    change.cmd("SET").arg(&keys.stock).arg(stock).ignore();
    Ok(change.exec(redis)?)
}

/// Units left, and orders that are not in Postgres yet.
///
/// # Errors
/// What Redis says.
pub fn at_hand(redis: &mut Connection, item: u32) -> Result<(i64, u64), ClassicError> {
    let keys = Keys::of(item);
    let mut look = redis::pipe();
    look.cmd("GET").arg(&keys.stock).cmd("XLEN").arg(&keys.orders);
    let (stock, orders): (Option<i64>, u64) = look.query(redis)?;
    Ok((stock.unwrap_or(0), orders))
}

/// How such a Redis is set up: as somebody who likes it would, without giving up what the log promises.
///
/// A rewrite of the log is not to fall into a sale, as a checkpoint of Postgres is not. While one is
/// under way, the log that is synced once a second goes unsynced rather than make everybody
/// wait; with `always` that would break the promise, and so stays off.
pub fn redis_options(log: AppendLog, more: &[String]) -> RedisOptions {
    let relaxed = if log == AppendLog::Always { "no" } else { "yes" };
    let mut settings =
        vec!["auto-aof-rewrite-min-size 1gb".to_owned(), format!("no-appendfsync-on-rewrite {relaxed}")];
    settings.extend_from_slice(more);
    RedisOptions { log, settings }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_the_number_of_its_entry() {
        let at_ms = 1_800_000_000_000;
        assert_eq!(order_of(&format!("{at_ms}-0")), Some((at_ms << 20, at_ms)));
        assert_eq!(order_of(&format!("{at_ms}-7")), Some(((at_ms << 20) + 7, at_ms)));
        for bad in ["", "1", "-", "1-", "-1", "1--1", "1-1048576", "9999999999999999-0", "x-1"] {
            assert_eq!(order_of(bad), None, "{bad}");
        }
    }
}
