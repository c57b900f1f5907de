//! Load generator and checker for flash sales; speaks HTTP only.
//!
//! It links no other crate of the workspace, so that it can judge the engine — or
//! any other server with the same HTTP contract — from outside.
//!
//! ```text
//! cli ──▶ engine (sends, counts) ──▶ report        bare: a server that does nothing, to compare with
//!            │ history
//!            ▼
//!         verify (asks the server and Postgres) ──▶ check (judges)
//! ```
//!
//! Where to read next: [`workload`] for what is asked, [`engine`] for how,
//! [`check`] for what must hold.

pub mod answer;
pub mod bare;
pub mod check;
pub mod cli;
pub mod engine;
pub mod history;
pub mod report;
pub mod request;
pub mod response;
pub mod throwaway;
pub mod units;
pub mod verify;
pub mod workload;
