//! Purchases by the thousand in one request, to the merchant API: a target of the engine.
//!
//! The engine sends, waits and measures as it does for every other target; here is what a batch is of,
//! and what its responses have to say. Next: `batch/wire.rs` for requests, `batch/body.rs` for responses,
//! `batch/checker.rs` for what is checked.

mod answer;
mod body;
mod checker;
mod lines;
mod run;
mod shape;
mod wire;

pub(crate) use checker::Checker;
pub use run::{BatchError, Load, Plan, Report, run, run_under};
pub use shape::{Batch, Format, Mode, RECORDS_MAX, Trouble};
