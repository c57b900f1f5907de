//! Integration tests of the generator: against servers that behave and servers that do not.

mod blame;
mod capacity;
mod classic;
mod command;
mod fake;
mod faults;
mod flow;
mod innocent;
mod latency;
mod limit;
mod postgres;
mod report;
mod scenario;
mod shop;
mod wire;
