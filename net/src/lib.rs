//! The server: HTTP, the engine on each core, settings, and the command line.
pub mod cli;
pub mod doctor;
pub mod engine;
pub mod gate;
pub mod http;
pub mod identity;
mod named;
pub mod output;
pub mod reconcile;
pub mod runtime;
pub mod server;
pub mod settings;
pub mod site;

// The tests' engine (`rig`) names this crate as integration tests do.
#[cfg(test)]
extern crate self as stampede_net;
#[cfg(test)]
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../tests/common/rig.rs"]
mod rig;
