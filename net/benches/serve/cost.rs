//! Rows 1, 2, 3 and 12: CPU per request of the server beside that of the limit, which gets the same
//! requests and sends the same bytes.

use stampede_loadgen::answer::Code;
use stampede_loadgen::workload::Workload;

use crate::limit::BareProcess;
use crate::load::{CONNECTIONS, Leg, Ran, Serving};
use crate::server::{Flags, ServerProcess};
use crate::table::{Goal, Table, median};
use crate::{Bench, PLENTY, SOLD_OUT, fresh_seed, ratios};

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

    /// CPU per request of both, and the rates, round by round.
    fn cpu_rounds(&self, shape: impl Fn(Leg) -> Leg) -> (Vec<[f64; 2]>, Vec<f64>) {
        let columns = ["server µs", "bare µs", "server/s", "bare/s"];
        let rounds = self.bench.rounds(columns, || {
            let (ours, ran) = self.ours(&shape);
            let (limit, ran_limit) = self.limit(&shape);
            [ours, limit, ran.per_s(), ran_limit.per_s()]
        });
        (
            rounds.iter().map(|round| [round[0], round[1]]).collect(),
            rounds.iter().map(|round| round[2]).collect(),
        )
    }
}

/// Row 1.
pub(crate) fn sold_out(bench: &Bench, table: &mut Table) {
    let server = ServerProcess::start(bench, &Flags::default());
    let (rounds, _) = Pair::new(bench, &server, SOLD_OUT, true).cpu_rounds(|leg| leg);
    table.add("1", "sold-out answer ÷ bare, CPU, keep-alive", Goal::AtMost(1.1), ratios(&rounds));
}

/// Row 2.
pub(crate) fn sold_out_pipelined(bench: &Bench, table: &mut Table) {
    let server = ServerProcess::start(bench, &Flags::default());
    let (rounds, _) = Pair::new(bench, &server, SOLD_OUT, true).cpu_rounds(|leg| leg.pipelined(16));
    table.add("2", "the same, pipelined × 16", Goal::AtMost(1.4), ratios(&rounds));
}

/// Row 3: in the closed loop, where both run as fast as they can and therefore in regimes of their own,
/// and at one rate for both, half of what the server did in the closed loop.
pub(crate) fn durable_purchase(bench: &Bench, table: &mut Table) {
    let server = ServerProcess::start(bench, &Flags::default());
    let pair = Pair::new(bench, &server, PLENTY, true);
    let (rounds, rates) = pair.cpu_rounds(|leg| leg);
    table.add("3", "durable purchase ÷ bare, CPU, closed loop", Goal::AtMost(1.6), ratios(&rounds));
    let rate = (median(rates) / 2_000.0).round() * 1_000.0;
    println!("open loop, {rate}/s");
    let (rounds, _) = pair.cpu_rounds(|leg| leg.at_rate(rate));
    let what = format!("the same, both at {} a second, open loop", crate::table::number(rate));
    table.add("", what, Goal::None, ratios(&rounds));
}

/// Row 12.
pub(crate) fn short_connections(bench: &Bench, table: &mut Table) {
    let server = ServerProcess::start(bench, &Flags::default());
    let (rounds, _) = Pair::new(bench, &server, SOLD_OUT, false).cpu_rounds(Leg::short);
    let what = format!("short connections ÷ bare, CPU, {CONNECTIONS} at a time, sold out");
    table.add("12", what, Goal::AtMost(1.15), ratios(&rounds));
}
