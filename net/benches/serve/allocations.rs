//! Row 8: heap allocations per request in the whole server: every thread, transport included.

use stampede_loadgen::meaning::Code;
use stampede_loadgen::workload::Workload;

use crate::counting;
use crate::load::{CONNECTIONS, Leg};
use crate::server::{Flags, ServerProcess};
use crate::table::Table;
use crate::{Bench, PLENTY, SOLD_OUT, fresh_seed};

/// Requests of the long leg; the short one has one per connection.
const REQUESTS: u64 = 50_000;

/// Adds the row. A short leg over as many connections shows what opening them takes, which is no part of
/// the steady state and is taken off.
pub(crate) fn per_request(bench: &Bench, table: &mut Table) {
    let mut server = ServerProcess::start(bench, &Flags { counting: true, ..Flags::default() });
    let figures = [("8.refused", SOLD_OUT, Code::SoldOut), ("8.sold", PLENTY, Code::Won)];
    for (key, item, expected) in figures {
        let rounds = bench.rounds(["short leg", "long leg"], || {
            [u64::from(CONNECTIONS), REQUESTS].map(|requests| {
                let workload = Workload::purchases(item, fresh_seed());
                let before = counting::so_far(&mut server);
                Leg::count(server.addr, workload, expected, requests).run(bench.cpus);
                (counting::so_far(&mut server) - before) as f64
            })
        });
        let more = (REQUESTS - u64::from(CONNECTIONS)) as f64;
        let samples = rounds.iter().map(|[short, long]| (long - short).max(0.0) / more).collect();
        table.add(key, samples);
    }
}
