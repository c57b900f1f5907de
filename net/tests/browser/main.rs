//! The sale page in a real headless browser; a program of its own, because it needs a browser.
//!
//! Screenshots of every state go to `browser` in the target directory.

mod bare;
mod browser;
mod buying;
mod door;
mod drawing;
mod driver;
mod driving;
#[path = "../it/e2e_talk.rs"]
#[allow(dead_code, reason = "the other tests of this crate use the rest of it")]
mod e2e_talk;
mod gate;
mod holding;
mod looking;
mod sale;
#[path = "../it/server.rs"]
#[allow(dead_code, reason = "the other tests of this crate use the rest of it")]
mod server;
mod shop;
mod watching;
