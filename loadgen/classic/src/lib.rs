//! What the engine is compared with: the classic flash-sale designs, as tutorials build
//! them one after another; Redis with a Lua script, as everybody builds it in the end; and a server that
//! does nothing.
//!
//! Each design is its tutorial's honest form: prepared statements, a pool of connections, an index
//! where one is used, one transaction per order. What each does and where its race is:
//! docs/CLASSICS.md.
//!
//! ```text
//! bench (this process) ──▶ engine::run ──HTTP──▶ app tier (a process of its own) ──▶ Postgres
//!    │ table                                      http ─▶ shop ─▶ pool, limiter ──▶ Redis
//!    │                              rival: front or nginx ─▶ Redis (Lua) ─▶ worker ─▶ Postgres
//!    └─ cost (CPU out of /proc, counters out of /stats, orders out of the database)
//! kill: the store of each is killed, or its power cut, in the middle of a sale
//! bare: the least that a server can do, and so the limit to compare with
//! ```
//!
//! Where to read next: [`shop`] for the designs, [`redis_lua`] for the rival, [`bench`] for what is measured
//! and how, [`kill`] for what is lost.

pub mod bare;
pub mod bench;
pub mod cache;
pub mod cli;
pub mod cost;
mod design;
mod error;
pub mod http;
pub mod kill;
pub mod limiter;
mod listener;
mod machine;
pub mod pool;
pub mod process;
pub mod redis_lua;
pub mod rival;
pub mod shop;
pub mod stats;
pub mod table;
pub mod totals;

pub use design::{CAP, Contender, Design, ITEM, POOL_DEFAULT, POOL_MAX, Rival};
pub use error::ClassicError;
