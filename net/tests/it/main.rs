//! The integration tests of the front end, in one binary.

mod cli_commands;
mod cli_stores;
mod http_answer;
mod http_body;
mod http_conn;
mod http_framing;
mod http_identity;
mod http_route;
