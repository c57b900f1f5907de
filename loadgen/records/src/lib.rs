//! What the benches measured, kept as files, and the tables of it in the docs.
//!
//! ```text
//!  a bench ── Recorder ──▶ docs/benchmarks/BENCH-DATE-COMMIT.json ──▶ tables ──▶ docs/*.md, between markers
//! ```
//!
//! A bench adds its figures to a [`Recorder`], which writes a [`Record`] if `STAMPEDE_RECORDS` names a
//! directory. [`figures`] lists every figure: its words, its unit, its target. [`pages`] renders the tables of
//! the docs from all records, and a test fails if a page says anything else. So no table is written by hand, and
//! none goes stale. `make bench RECORD=1` measures and records; `make figures` renders.
//!
//! Files of `stampede-classic` lie in the same directory and are read as they are.
//!
//! A record that no longer counts moves to `docs/benchmarks/archive/`.

mod comparison;
pub mod figures;
pub mod files;
pub mod machine;
mod numbers;
pub mod pages;
pub mod record;
pub mod series;
mod tables;

pub use figures::{Figure, Goal, figure};
pub use numbers::{median, number};
pub use record::{Record, Recorder};
