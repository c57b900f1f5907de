//! The integration tests of the front end, in one binary.

mod cli_commands;
mod cli_stores;
mod e2e_batch;
mod e2e_buy;
mod e2e_classics;
mod e2e_clock;
mod e2e_copies;
mod e2e_crash;
mod e2e_draw;
mod e2e_flood;
mod e2e_gate;
mod e2e_limits;
mod e2e_postgres;
mod e2e_reconcile;
mod e2e_refuse;
mod e2e_sale;
mod e2e_shop;
mod e2e_site;
mod e2e_talk;
mod e2e_waiting;
mod engine_batch;
mod engine_busy;
mod http_answer;
mod http_body;
mod http_conn;
mod http_identity;
mod http_route;
mod owner_draw;
#[path = "../common/rig.rs"]
mod rig;
mod server;
mod transport;
mod transport_storm;
