//! What the engine is compared with: the classic flash-sale designs, as the field's tutorials build
//! them one after another, and a server that does nothing.
//!
//! Each design is its tutorial's honest form: prepared statements, a pool of connections, an index
//! where one is used, one transaction per order. What each does and where its race is:
//! docs/CLASSICS.md.
//!
//! ```text
//! bench (this process) ──▶ engine::run ──HTTP──▶ app tier (a process of its own) ──▶ Postgres
//!    │ table                                      http ─▶ shop ─▶ pool, limiter ──▶ Redis
//!    └─ cost (CPU out of /proc, counters out of /stats, orders out of the database)
//! bare: the least that a server can do, and so the limit to compare with
//! ```
//!
//! Where to read next: [`shop`] for the designs, [`bench`] for what is measured and how.

pub mod bare;
pub mod bench;
pub mod cache;
pub mod cli;
pub mod cost;
mod design;
mod error;
pub mod http;
pub mod limiter;
pub mod pool;
pub mod process;
pub mod shop;
pub mod stats;
pub mod table;
pub mod totals;

pub use design::{Design, ITEM, POOL_DEFAULT, POOL_MAX};
pub use error::ClassicError;
