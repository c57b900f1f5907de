//! Ledger and registry on etcd: its own gRPC, over one HTTP/2 connection, with failover between the members.
//!
//! ```text
//! store (ledger, registry) ─▶ client: members, time-outs, login ─▶ channel: one connection ─▶ etcd
//!   keys, values                messages, proto: protobuf by hand
//! ```
//!
//! gRPC and not etcd's JSON gateway: with base64 and the gateway's second hop one append takes 1.4 times as long at 64 KiB
//! and 2.4 to 3.3 times at 256 KiB (docs/CLUSTER.md). The few messages that are needed are written by hand, so
//! that no build needs protoc. Next: [`store`].

mod channel;
mod client;
mod keys;
mod ledger;
mod messages;
mod options;
mod proto;
mod registry;
mod store;
mod tls;
mod values;

pub use options::{EtcdOptions, EtcdTimeouts, TlsFiles};
pub use store::EtcdStore;
