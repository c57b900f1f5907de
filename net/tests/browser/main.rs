//! The sale page in a real browser, headless: one binary of its own, since it needs one.

mod browser;
mod driver;
mod driving;
#[path = "../it/server.rs"]
#[allow(dead_code, reason = "the other tests of this crate use the rest of it")]
mod server;
