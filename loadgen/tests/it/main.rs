//! Integration tests of the generator: against servers that behave and servers that do not.

mod command;
mod fake;
mod faults;
mod latency;
mod postgres;
