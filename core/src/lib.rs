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
//!
//! A sale, and the same sale from its facts:
//!
//! ```
//! use std::sync::Arc;
//! use stampede_core::catalogue::Catalogue;
//! use stampede_core::command::{Command, ItemPatch, Outcome, Purchase, Refusal, Ticket};
//! use stampede_core::draw::DrawSeed;
//! use stampede_core::shard::{Accepted, FactSink, Shard};
//! use stampede_core::types::{HashSecret, ItemId, Lsn, Quantity, UnixMillis};
//!
//! /// Where a log would be: counts, and applies each fact to a second shard.
//! struct Copy(Shard);
//! impl FactSink for Copy {
//!     fn append(&mut self, fact: Accepted<'_>) -> Lsn {
//!         let lsn = self.0.lsn().next();
//!         self.0.apply(lsn, &fact).expect("a decided fact can follow");
//!         lsn
//!     }
//! }
//!
//! let secret = HashSecret([7; 16]);
//! let shard = || Shard::new(0, secret, Arc::new(Catalogue::new(1)));
//! let (mut sale, mut copy) = (shard(), Copy(shard()));
//! let (item, now) = (ItemId::new(1).unwrap(), UnixMillis(1_000));
//! let patch = ItemPatch {
//!     name: Some("the last one"),
//!     stock: Some(1),
//!     opens_at_ms: Some(now),
//!     closes_at_ms: Some(UnixMillis(2_000)),
//!     ..ItemPatch::default()
//! };
//! let put = Command::PutItem { item, patch, seed: DrawSeed::NONE, actor: "shop" };
//! sale.decide(now, &put, &mut copy);
//!
//! let mut buy = |subject: &[u8]| {
//!     let (buyer, quantity) = (secret.buyer(subject), Quantity::ONE);
//!     let (key, ticket) = (b"once", Ticket::Good);
//!     let purchase = Purchase { item, buyer, subject, quantity, key, ticket };
//!     sale.decide(now, &Command::Purchase(purchase), &mut copy)
//! };
//! assert!(matches!(buy(b"ann"), Outcome::Placed(_)));
//! assert!(matches!(buy(b"ann"), Outcome::Replayed(_)));
//! assert_eq!(buy(b"bob"), Outcome::Refused(Refusal::SoldOut));
//! assert_eq!(sale.digest(), copy.0.digest());
//! ```
#![no_std]

extern crate alloc;
#[cfg(any(test, loom))]
extern crate std;

pub mod admit;
mod audit;
pub mod catalogue;
pub mod command;
pub mod draw;
mod due;
pub mod fact;
pub mod filter;
pub mod gauge;
mod index;
pub mod item;
mod items;
pub mod limits;
pub mod money;
pub mod once;
mod orders;
pub mod place;
mod published;
pub mod record;
#[cfg(any(test, feature = "forged"))]
pub mod sample;
mod seqs;
pub mod shard;
mod slab;
pub mod state_row;
pub mod stock;
mod sync;
pub mod types;
pub mod wake;
