//! Integration tests: the classic designs against real databases, and the bare server against the generator.

mod bare_fast;
mod bare_slow;
mod classic;
mod redis_lua;
