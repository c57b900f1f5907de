//! The engine: home cores, owner cores, and the messages between them.
//!
//! One [`home::Home`] per core, on that core's thread alone. It answers what it can
//! by itself, asks the owner core of the item for the rest, and holds each response
//! back until the facts that it shows are durable. No sockets, no executor and no
//! blocking here: `runtime` calls in, and bytes come out.
//!
//! ```text
//! request ─▶ home ──ask──▶ owner ──fact──▶ journal
//!              ▲             │                │
//!              └────reply────┘                │ durable_lsn, one wake per group
//!              └──────────────────────────────┘
//! ```
//!
//! Read in this order: [`ask`] (the messages; [`batch`] for many purchases in one request), [`mesh`] (how they
//! travel), [`turns`] (in which order), [`owner`] (which decides), [`slots`] (responses that wait), [`home`] (which
//! brings them together), [`pulse`] (whether every core runs), [`accept_errors`] (whether connections are
//! accepted), [`reasons`] (why it does not sell).

pub mod accept_errors;
pub mod ask;
pub mod batch;
pub mod books;
pub mod browser;
mod busy;
pub mod clock;
pub mod counters;
mod draw_page;
pub mod health;
pub mod home;
pub mod mesh;
pub mod metrics;
pub mod owner;
pub mod pages;
pub mod pulse;
pub mod reasons;
pub mod render;
pub mod response;
pub mod shared;
pub mod slots;
mod stats;
pub mod tables;
pub mod turns;
