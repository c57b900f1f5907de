//! Stampede's core: a state machine that sells stock and never sells too much.
//!
//! Nothing here can name a clock, a file, a socket or a thread: the crate is
//! `no_std`, and time, randomness and identity come in as arguments. Given the
//! same commands and times it reaches the same state, which is what lets the
//! log replay it and the tests explore it.
//!
//! Where to read next: [`types`] for the words, [`command`] and [`fact`] for
//! what goes in and out, [`shard`] for the decisions, [`gauge`] for what other
//! cores may read.
#![no_std]

extern crate alloc;
#[cfg(any(test, loom))]
extern crate std;

pub mod admit;
mod audit;
pub mod catalogue;
pub mod command;
pub mod fact;
pub mod filter;
pub mod gauge;
pub mod item;
mod items;
pub mod limits;
mod orders;
mod published;
pub mod shard;
mod slab;
pub mod state_row;
pub mod stock;
mod sync;
pub mod types;
