//! One owner core's part of the sale: its items, their orders, and every decision
//! about them.
//!
//! `decide(now, command)` judges, appends the fact and books it; `apply(fact)` books
//! a fact that was decided before, and refuses one that cannot follow; `tick(now)`
//! lets time pass. All three end in the same booking functions, so that a replay
//! reaches the same state. The only difference: a decision takes stock first and then
//! writes the fact, a replay reads the fact and then takes the stock.
//!
//! Never here: a clock, a lock, a wait. Next: [`state`](self::state) for what a shard holds,
//! [`decide`](self::decide) for the rules, [`apply`](self::apply) for replay,
//! [`accept`](self::accept) for what may go into the log, [`tick`](self::tick) for what falls due,
//! [`ahead`](self::ahead) for prefetching, [`read`](self::read) for queries.

mod accept;
mod accepted;
mod ahead;
mod apply;
mod decide;
mod drawing;
mod error;
mod flags;
mod read;
mod rows;
mod state;
mod steps;
mod tick;

pub use accept::Trial;
pub use accepted::{Accepted, FactSink};
pub use ahead::Ahead;
pub use error::ApplyError;
pub use read::{Fullness, OrderFilter, OrderPage, OwnedOrder, TABLE_NAMES, TABLES};
pub use rows::rows_of;
pub use state::Shard;
