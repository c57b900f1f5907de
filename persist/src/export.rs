//! The export to Postgres: facts of the log become rows, exactly once.
//!
//! One thread tails the log's files and writes batches. Each batch is one
//! transaction with the orders, the stock rows and the cursor (the last
//! exported LSN), so a crash on either side repeats nothing and loses nothing.
//! Nothing here may delay an answer to a buyer, decide anything, or export a
//! fact that is not durable.
//!
//! ```text
//! log files ─▶ FactFeed ─▶ batch (fold) ─▶ one transaction ─▶ COMMIT ─▶ exported LSN
//!                                          │ cursor  old → new, or fenced
//!                                          │ orders  COPY, or insert over arrays
//!                                          └ stock   WHERE version = …; else adopt and tell the engine
//! ```
//!
//! Where to read next: [`exporter`] for the loop, [`event`] for what it tells
//! the engine and what the engine must answer, [`attach`] for when it refuses,
//! [`schema`] for the tables, [`preheat`] for the import from Postgres, [`store`] for the
//! calls of all of them to a database, [`postgres`] for their SQL.

pub mod attach;
mod backoff;
pub(crate) mod batch;
mod between;
mod claim;
pub mod database;
pub mod error;
pub mod event;
pub mod exporter;
mod foreign;
mod ledger;
pub mod limits;
mod link;
pub mod look;
mod numbers;
mod orders;
mod param;
mod payments;
pub mod postgres;
pub mod preheat;
mod questions;
pub mod refill;
pub mod schema;
mod settle;
pub mod status;
pub mod store;
mod target;
pub mod text;
pub mod thread;
mod tls;
mod while_waiting;
mod write;

pub use crate::log::identity::LogId;
pub use attach::{AttachError, Attached, Claim, DatabaseId, LogClaim, Nonce, attach};
pub use database::{ConnectOptions, Database};
pub use error::ExportError;
pub use event::{Alarm, ExportEvent, ExportPort};
pub use exporter::{Exporter, ExporterOptions, Step};
pub use postgres::Postgres;
pub use preheat::{HalfTaken, LeftAlone, PreheatError, PreheatReport, PreheatSink, preheat};
pub use schema::{SCHEMA_VERSION, SchemaError, migrate};
pub use status::ExportStatus;
pub use thread::ExporterHandle;
