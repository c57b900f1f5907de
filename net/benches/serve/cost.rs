//! Rows 1, 2, 3 and 12: CPU per request of the server beside that of the limit, which gets the same
//! requests and sends the same bytes.

use stampede_loadgen::meaning::Code;
use stampede_loadgen::workload::Workload;

use crate::limit::BareProcess;
use crate::load::{Leg, Ran, Serving};
use crate::server::{Flags, ServerProcess};
use crate::table::{Table, median, number};
use crate::{Bench, PLENTY, SOLD_OUT, fresh_seed};

/// A server and its limit, and what they are asked for.
pub(crate) struct Pair<'a> {
    bench: &'a Bench,
    pub(crate) server: &'a ServerProcess,
    pub(crate) bare: BareProcess,
    item: u32,
    expected: Code,
}

impl<'a> Pair<'a> {
    /// The server, and a limit that answers as the server answers purchases of this item.
    pub(crate) fn new(bench: &'a Bench, server: &'a ServerProcess, item: u32, keep_alive: bool) -> Self {
        let answer = server.answer_to_purchase(item, keep_alive);
        println!("answers of {} bytes", answer.len());
        let expected = if item == SOLD_OUT { Code::SoldOut } else { Code::Won };
        Self { bench, server, bare: BareProcess::start(&answer, bench.cpus), item, expected }
    }

    fn leg(&self, addr: std::net::SocketAddr) -> Leg {
        let workload = Workload::purchases(self.item, fresh_seed());
        Leg::closed(addr, workload, self.expected, self.bench.size.leg)
    }

    /// One leg of the server: its CPU per request, and what came of it.
    pub(crate) fn ours(&self, shape: impl Fn(Leg) -> Leg) -> (f64, Ran) {
        self.server.cpu_us(self.bench.cpus, &shape(self.leg(self.server.addr)))
    }

    /// One leg of the limit.
    pub(crate) fn limit(&self, shape: impl Fn(Leg) -> Leg) -> (f64, Ran) {
        self.bare.cpu_us(self.bench.cpus, &shape(self.leg(self.bare.addr)))
    }

    /// CPU per request of both, and both rates, round by round.
    fn cpu_rounds(&self, shape: impl Fn(Leg) -> Leg) -> Rounds {
        let columns = ["server µs", "bare µs", "server/s", "bare/s"];
        Rounds(self.bench.rounds(columns, || {
            let (ours, ran) = self.ours(&shape);
            let (limit, ran_limit) = self.limit(&shape);
            [ours, limit, ran.per_s(), ran_limit.per_s()]
        }))
    }
}

/// CPU in microseconds of the server and of the limit, and the rates of both.
struct Rounds(Vec<[f64; 4]>);

impl Rounds {
    fn ratios(&self) -> Vec<f64> {
        self.0.iter().map(|[ours, limit, ..]| ours / limit).collect()
    }
    fn column(&self, at: usize) -> Vec<f64> {
        self.0.iter().map(|round| round[at]).collect()
    }
}

/// Requests a second of the limit alone, in the closed loop, one per leg: what rows are divided by that have
/// no leg of the limit beside each of their own.
pub(crate) fn limit_per_s(bench: &Bench) -> f64 {
    let server = ServerProcess::start(bench, &Flags::default());
    let pair = Pair::new(bench, &server, SOLD_OUT, true);
    let rounds = bench.rounds(["bare/s"], || [pair.limit(|leg| leg).1.per_s()]);
    median(rounds.iter().map(|[per_s]| *per_s))
}

/// Row 1.
pub(crate) fn sold_out(bench: &Bench, table: &mut Table) {
    let server = ServerProcess::start(bench, &Flags::default());
    let rounds = Pair::new(bench, &server, SOLD_OUT, true).cpu_rounds(|leg| leg);
    table.add("1", rounds.ratios());
    for (key, at) in [("1.cpu", 0), ("1.bare.cpu", 1), ("1.rate", 2), ("1.bare.rate", 3)] {
        table.add(key, rounds.column(at));
    }
}

/// Row 2.
pub(crate) fn sold_out_pipelined(bench: &Bench, table: &mut Table) {
    let server = ServerProcess::start(bench, &Flags::default());
    let rounds = Pair::new(bench, &server, SOLD_OUT, true).cpu_rounds(|leg| leg.pipelined(16));
    table.add("2", rounds.ratios());
    table.add("2.cpu", rounds.column(0));
    table.add("2.rate", rounds.column(2));
}

/// Row 3: in the closed loop, where both run as fast as they can and therefore in regimes of their own,
/// and at one rate for both, half of what the server did in the closed loop.
pub(crate) fn durable_purchase(bench: &Bench, table: &mut Table) {
    let server = ServerProcess::start(bench, &Flags::default());
    let pair = Pair::new(bench, &server, PLENTY, true);
    let rounds = pair.cpu_rounds(|leg| leg);
    table.add("3", rounds.ratios());
    table.add("3.cpu", rounds.column(0));
    table.add("3.rate", rounds.column(2));
    let rate = (median(rounds.column(2)) / 2_000.0).round() * 1_000.0;
    table.note(format!("Row 3, open loop: both at {} a second.", number(rate)));
    let rounds = pair.cpu_rounds(|leg| leg.at_rate(rate));
    table.add("3.open", rounds.ratios());
    table.add("3.open.cpu", rounds.column(0));
}

/// Row 12.
pub(crate) fn short_connections(bench: &Bench, table: &mut Table) {
    let server = ServerProcess::start(bench, &Flags::default());
    let rounds = Pair::new(bench, &server, SOLD_OUT, false).cpu_rounds(Leg::short);
    table.add("12", rounds.ratios());
}
