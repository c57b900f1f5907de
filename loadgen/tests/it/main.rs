//! Integration tests of the generator: against servers that behave and servers that do not.

mod batch;
mod blame;
mod capacity;
mod command;
mod correct;
mod fake;
mod faults;
mod flow;
mod latency;
mod postgres;
mod quiet;
mod report;
mod scenario;
#[path = "../../../net/tests/common/seccomp.rs"]
mod seccomp;
mod shop;
