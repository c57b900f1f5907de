//! The core's integration tests, one binary.
//!
//! [`model`] is the slow, obvious engine; [`world`] runs it beside the real one and
//! compares after every step; [`trace`] makes the random histories. Next: [`agree`].

mod accept;
mod admit;
mod agree;
mod bounds;
mod builds;
mod circles;
mod draw;
mod engine;
mod host_tuning;
mod import;
mod listed;
mod model;
mod money;
mod readme;
mod record;
mod replay;
mod shown;
mod tidy;
mod trace;
mod world;
