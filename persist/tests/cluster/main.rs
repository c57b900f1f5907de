//! The cluster's store: one conformance suite, run against memory and against a real etcd of three members; then what
//! only an etcd can do to us, and what only a seed can.

mod bed;
mod faults;
mod foreign;
mod model;
mod proxy;
mod secured;
mod suite;
mod twins;
