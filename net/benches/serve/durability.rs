//! Rows 5 and 6: what durability takes from the rate, and what it adds to the latency.

use stampede_loadgen::meaning::Code;
use stampede_loadgen::workload::Workload;

use crate::load::{CONNECTIONS, Leg, Ran, on_cpu};
use crate::probe::Probe;
use crate::server::{Flags, ServerProcess};
use crate::table::Table;
use crate::{Bench, PLENTY, fresh_seed, ratios};

/// Connections of the second line of row 5: enough for the log's next group while one syncs.
const MANY_CONNECTIONS: u32 = 256;

/// A server that acknowledges when it is durable, and one that does so before.
struct Both {
    durable: ServerProcess,
    memory: ServerProcess,
}

impl Both {
    fn start(bench: &Bench) -> Self {
        let durable = ServerProcess::start(bench, &Flags::default());
        let memory = ServerProcess::start(bench, &Flags { memory: true, ..Flags::default() });
        Self { durable, memory }
    }
}

fn purchases(bench: &Bench, server: &ServerProcess, connections: u32) -> Ran {
    let workload = Workload::purchases(PLENTY, fresh_seed());
    Leg::closed(server.addr, workload, Code::Won, bench.size.leg).over(connections).run(bench.cpus)
}

/// Row 5.
pub(crate) fn purchases_per_s(bench: &Bench, table: &mut Table) {
    let both = Both::start(bench);
    for (key, connections) in [("5", CONNECTIONS), ("5.256", MANY_CONNECTIONS)] {
        let rounds = bench.rounds(["durable/s", "memory/s"], || {
            [&both.durable, &both.memory].map(|server| purchases(bench, server, connections).per_s())
        });
        table.add(key, ratios(&rounds));
    }
}

/// Row 6: one connection, so that nothing waits for anybody else's write. Both quantiles are divided by
/// the median of the raw append.
pub(crate) fn added_latency(bench: &Bench, table: &mut Table) {
    let both = Both::start(bench);
    let mut probe = Probe::new(both.durable.dir());
    let columns = ["wal p50 µs", "memory p50", "wal p99", "memory p99", "raw p50", "raw p99"];
    let rounds = bench.rounds(columns, || {
        let kept = purchases(bench, &both.durable, 1);
        let quick = purchases(bench, &both.memory, 1);
        let raw = on_cpu(bench.cpus.server, || probe.took_us(bench.size.leg));
        let [kept, quick] = [kept, quick].map(|ran| [0.5, 0.99].map(|quantile| ran.latency_us(quantile)));
        [kept[0], quick[0], kept[1], quick[1], raw[0], raw[1]]
    });
    let added = |at: usize| rounds.iter().map(|round| (round[at] - round[at + 1]) / round[4]).collect();
    table.add("6", added(0));
    table.add("6.p99", added(2));
}
