//! Integration tests of the durable half: the log on simulated and real disks, the
//! export on throw-away clusters. One binary; each module holds one subject.

mod damage_log;
mod damage_matrix;
mod damage_shapes;
mod damage_torn;
mod disk_overlay;
mod disk_short;
mod export_ahead;
mod export_anew;
mod export_bed;
mod export_flow;
mod export_identity;
mod export_outside;
mod export_payments;
mod export_pooler;
mod export_preheat;
mod export_refill;
mod export_refuse;
mod export_sale;
mod export_shop;
mod export_sim;
mod export_tls;
mod export_twins;
#[path = "../common/forge.rs"]
#[allow(dead_code, reason = "shared with the tests of the front end and with fuzzing, which forge otherwise")]
mod forge;
mod log_codec;
mod log_crash;
mod log_cut;
mod log_damage;
mod log_draw;
mod log_failstop;
mod log_mirror;
mod log_run;
mod log_sale;
mod log_space;
mod log_tail;
#[path = "../../../core/tests/it/record.rs"]
#[allow(dead_code, reason = "shared with the tests of the core, which keep rows as well")]
mod record;
#[path = "../common/sim_database.rs"]
mod sim_database;
#[path = "../common/sim_disk.rs"]
#[allow(dead_code, reason = "shared with the simulation of the engine, which needs other parts of it")]
mod sim_disk;
