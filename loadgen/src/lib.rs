//! Load generator and checker for flash sales; speaks HTTP only.
//!
//! It links no other crate of the workspace, so that it can verify the engine — or
//! any other server with the same HTTP contract — from outside.
//!
//! ```text
//! cli ──▶ engine (sends, counts) ──▶ record ──▶ report, assert
//!            │ history                 ▲
//!            ▼                         │ verdict                    capacity: runs, one after another
//!         verify (reads the server and Postgres) ──▶ check (compares)
//! ```
//!
//! Where to read next: [`workload`] for what is requested, [`engine`] for how,
//! [`check`] for what must hold.

pub mod assert;
pub mod batch;
pub mod capacity;
pub mod check;
pub mod cli;
pub mod client;
pub mod clock;
pub mod engine;
pub mod history;
pub mod meaning;
pub mod nap;
pub mod printer;
pub mod program;
pub mod record;
pub mod report;
pub mod request;
pub mod response;
pub mod sampler;
pub mod scenario;
pub mod units;
pub mod verify;
pub mod window;
pub mod workload;
