//! Row 11: many connections that stand idle: the memory of each, and what they do to p99.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::cost::Pair;
use crate::load::{CONNECTIONS, Leg, Ran, Serving, descriptors, on_cpu};
use crate::server::{Flags, ServerProcess, purchase, read_answer};
use crate::table::{Table, median, number};
use crate::{Bench, SOLD_OUT};

/// Rate of the p99 legs: the same for few and for many connections, and for both servers.
const RATE: f64 = 30_000.0;
/// Descriptors that a process needs besides its connections.
const DESCRIPTORS_SPARE: u64 = 256;

fn flags(connections: u32) -> Flags {
    Flags { connections: connections + 1_024, ..Flags::default() }
}

/// Adds the row.
pub(crate) fn idle_connections(bench: &Bench, table: &mut Table) {
    let connections = bench.size.idle_connections;
    if descriptors() < u64::from(connections) + DESCRIPTORS_SPARE {
        let why =
            format!("{connections} connections need more than the {} descriptors allowed", descriptors());
        return ["11", "11.p99"].iter().for_each(|key| table.add_not_measured(key, &why));
    }
    memory(bench, connections, table);
    p99(bench, connections, table);
}

/// A new server for each sample: what a server frees it keeps for itself.
fn memory(bench: &Bench, connections: u32, table: &mut Table) {
    let rounds = bench.rounds(["KiB before", "KiB after"], || {
        let server = ServerProcess::start(bench, &flags(connections));
        let pair = Pair::new(bench, &server, SOLD_OUT, true);
        pair.ours(|leg| leg);
        let before = anonymous_kib(server.pid());
        let held = on_cpu(bench.cpus.generator, || hold(&server, connections));
        let after = anonymous_kib(server.pid());
        drop(held);
        [before, after]
    });
    let bytes = |[before, after]: &[f64; 2]| (after - before) * 1024.0 / f64::from(connections);
    table.add("11", rounds.iter().map(bytes).collect());
}

/// Opens them; each asks once, has its answer, and stays.
fn hold(server: &ServerProcess, connections: u32) -> Vec<TcpStream> {
    let request = purchase(server.addr, SOLD_OUT, true);
    let one = |_| {
        let mut stream = TcpStream::connect(server.addr).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time");
        stream.write_all(&request).expect("sent");
        read_answer(&mut stream);
        stream
    };
    (0..connections).map(one).collect()
}

/// Memory of a process that no file backs, in KiB.
fn anonymous_kib(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// p99 with many connections divided by p99 with few, for the server and for the limit, whose growth is
/// that of the longer queues in the kernel and in the generator.
fn p99(bench: &Bench, connections: u32, table: &mut Table) {
    let server = ServerProcess::start(bench, &flags(connections));
    let pair = Pair::new(bench, &server, SOLD_OUT, true);
    let columns = ["server, few µs", "server, many", "bare, few", "bare, many"];
    let rounds = bench.rounds(columns, || {
        let few = |leg: Leg| leg.over(CONNECTIONS).at_rate(RATE);
        let many = |leg: Leg| leg.over(connections).at_rate(RATE);
        let p99 = |ran: Ran, of: &dyn Serving| {
            // Who closes thousands of connections is not to disturb the next leg.
            of.come_to_rest();
            ran.latency_us(0.99)
        };
        [
            p99(pair.ours(few).1, pair.server),
            p99(pair.ours(many).1, pair.server),
            p99(pair.limit(few).1, &pair.bare),
            p99(pair.limit(many).1, &pair.bare),
        ]
    });
    let limit = median(rounds.iter().map(|round| round[3] / round[2]));
    let growth = |round: &[f64; 4]| round[1] / round[0];
    table.note(format!(
        "Row 11: p99 over {connections} connections was {} times that over {CONNECTIONS}; bare's {} times.",
        number(median(rounds.iter().map(growth))),
        number(limit)
    ));
    // A queue that is longer at the limit, too, is no fault of the server.
    table.add("11.p99", rounds.iter().map(|round| growth(round) / (1.0 + limit.max(1.0))).collect());
}
