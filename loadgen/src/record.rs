//! The record of a run: everything that was measured, as one document.
//!
//! `run --json` writes it; `report`, `compare`, the page of text and the assertions read
//! nothing else, so that what is shown later is what was measured then. Plain values,
//! units last in the names; described by docs/schema/loadgen-report-2.schema.json. No
//! figure is ever NaN, and what was not measured is `null`. Next: `record/measure.rs`,
//! which fills it from a run, `record/settings.rs` for the settings, [`crate::report`].

mod command;
mod machine;
mod measure;
mod model;
mod read;
mod settings;
mod silence;

pub use command::without_secrets;
pub use machine::{Limits, Machine};
pub use model::{
    AssertionRecord, Counts, FORMAT, Generator, KeptUp, LATENCY_NAMES, Latencies, Latency, Record,
    SliceLatency, SliceRecord, StepRecord, Stock, TimelineRecord, VerdictRecord, ViolationRecord, class_of,
    in_class, in_order, is_supported,
};
pub use read::RecordError;
pub use settings::Settings;
pub use silence::Silence;

#[cfg(test)]
pub(crate) mod tests;
