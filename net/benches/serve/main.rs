//! The figures of the whole engine, measured from outside: what a purchase costs beside a
//! constant answer, what durability costs, how fast orders drain and come back.
//!
//! `cargo bench -p stampede-net --bench serve` runs the small mode; `-- --full` takes longer
//! and is what docs/BENCHMARKS.md records; a word such as `F3` runs that figure alone. The
//! server serves on one processor, the generator sends from another; the legs of a figure
//! take turns, so that a machine whose speed changes changes them alike. What counts is
//! the ratio of two legs that ran side by side.
//!
//! Next: [`table`] for targets, [`load`] for a leg, [`server`] for the process measured.

mod drain;
mod gate;
mod load;
mod probe;
mod replay;
mod server;
mod table;

use std::time::Duration;

use load::{Cpus, Leg, cpu_us};
use probe::Probe;
use server::{Flags, ServerProcess};
use stampede_loadgen::workload::Workload;
use table::{Goal, Table};

/// An item with units for everybody, and one that is sold out.
pub(crate) const PLENTY: u32 = 1;
pub(crate) const SOLD_OUT: u32 = 2;

/// How long, how often, how many.
pub(crate) struct Size {
    pub(crate) leg: Duration,
    pub(crate) pairs: u64,
    pub(crate) orders: u64,
}

impl Size {
    const SMALL: Self = Self { leg: Duration::from_millis(1_000), pairs: 5, orders: 200_000 };
    const FULL: Self = Self { leg: Duration::from_millis(3_000), pairs: 9, orders: 2_000_000 };
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let size = if words.iter().any(|word| word == "--full") { Size::FULL } else { Size::SMALL };
    let figures: Vec<&String> = words.iter().filter(|word| word.starts_with('F')).collect();
    let wanted = |figure: &str| figures.is_empty() || figures.iter().any(|word| *word == figure);
    let cpus = Cpus::of_this_machine();
    let mut table = Table::default();
    println!(
        "legs of {:?}, {} rounds; CPU in µs per request of the whole server process",
        size.leg, size.pairs
    );
    if wanted("F1") {
        cost_per_answer(&size, cpus, &mut table);
        cost_with_tokens(&size, cpus, &mut table);
    }
    if wanted("F2") {
        price_of_durability(&size, cpus, &mut table);
    }
    if wanted("F3") {
        latency_of_durability(&size, cpus, &mut table);
    }
    if wanted("F4") {
        drain::while_selling(&size, cpus, &mut table);
    }
    if wanted("F5") {
        replay::replay(&size, &mut table);
    }
    if wanted("F7") {
        gate::refusals_beside_sold_out(&size, cpus, &mut table);
    }
    if wanted("F8") {
        gate::tokens_beside_headers(&size, cpus, &mut table);
    }
    println!("\n{table}");
}

/// F1: a durable purchase and a sold-out answer beside a constant answer of the same server.
fn cost_per_answer(size: &Size, cpus: Cpus, table: &mut Table) {
    let server = ServerProcess::start(&Flags::default(), cpus);
    let (mut buy, mut sold_out, mut bare_ratio) = (Vec::new(), Vec::new(), Vec::new());
    println!("\n{:<8}{:>10}{:>10}{:>10}{:>10}", "F1", "constant", "purchase", "sold out", "bare");
    for round in 0..=size.pairs {
        let leg = |workload: Workload| Leg::closed(server.addr, workload, 64, size.leg);
        let constant = cpu_us(&server, cpus, &leg(Workload::get("/v1/time")));
        let bought = cpu_us(&server, cpus, &leg(Workload::purchases(PLENTY, 10 + round)));
        let refused = cpu_us(&server, cpus, &leg(Workload::purchases(SOLD_OUT, 10 + round)));
        let bare = load::bare_cpu_us(cpus, size.leg);
        println!("{:<8}{constant:>10.2}{bought:>10.2}{refused:>10.2}{bare:>10.2}", label(round));
        // The first round warms up.
        if round > 0 {
            buy.push(bought / constant);
            sold_out.push(refused / constant);
            bare_ratio.push(bought / bare);
        }
    }
    table.add("F1a", "durable purchase ÷ constant answer, CPU", Goal::AtMost(1.5), buy);
    table.add("F1b", "sold-out answer ÷ constant answer, CPU", Goal::AtMost(1.15), sold_out);
    table.add("", "durable purchase ÷ bare epoll server, CPU", Goal::None, bare_ratio);
}

/// F1 again, with one token that a connection repeats, and with a new one for every purchase.
fn cost_with_tokens(size: &Size, cpus: Cpus, table: &mut Table) {
    let server = ServerProcess::start(&Flags { jwt: true, ..Flags::default() }, cpus);
    let (mut buy, mut sold_out, mut verified) = (Vec::new(), Vec::new(), Vec::new());
    println!("\n{:<8}{:>10}{:>10}{:>10}{:>10}", "F1 jwt", "constant", "purchase", "sold out", "new token");
    for round in 0..=size.pairs {
        let tokens = |item, users| Workload {
            auth: server::jwt_auth(),
            users,
            ..Workload::purchases(item, 1_000 + round)
        };
        let leg = |workload: Workload| Leg::closed(server.addr, workload, 64, size.leg);
        let constant = cpu_us(&server, cpus, &leg(Workload::get("/v1/time")));
        let bought = cpu_us(&server, cpus, &leg(tokens(PLENTY, Some(1))));
        let refused = cpu_us(&server, cpus, &leg(tokens(SOLD_OUT, Some(1))));
        let fresh = cpu_us(&server, cpus, &leg(tokens(PLENTY, None)));
        println!("{:<8}{constant:>10.2}{bought:>10.2}{refused:>10.2}{fresh:>10.2}", label(round));
        if round > 0 {
            buy.push(bought / constant);
            sold_out.push(refused / constant);
            verified.push(fresh / constant);
        }
    }
    table.add("F1a jwt", "the same, a token that was seen before", Goal::AtMost(1.5), buy);
    table.add("F1b jwt", "the same, a token that was seen before", Goal::AtMost(1.15), sold_out);
    table.add("", "purchase with a new token ÷ constant", Goal::None, verified);
}

/// F2: purchases per second with `--ack wal` beside `--ack memory`.
fn price_of_durability(size: &Size, cpus: Cpus, table: &mut Table) {
    let durable = ServerProcess::start(&Flags::default(), cpus);
    let memory = ServerProcess::start(&Flags { memory: true, ..Flags::default() }, cpus);
    let mut ratios = Vec::new();
    println!("\n{:<8}{:>12}{:>12}", "F2", "wal/s", "memory/s");
    for round in 0..=size.pairs {
        let leg = |server: &ServerProcess| {
            Leg::closed(server.addr, Workload::purchases(PLENTY, 10 + round), 64, size.leg)
        };
        let kept = leg(&durable).run(cpus).per_s();
        let quick = leg(&memory).run(cpus).per_s();
        println!("{:<8}{kept:>12.0}{quick:>12.0}", label(round));
        if round > 0 {
            ratios.push(kept / quick);
        }
    }
    table.add("F2", "purchases/s: durable ÷ --ack memory", Goal::AtLeast(0.8), ratios);
}

/// F3: what durability adds to the median latency, beside one synced write of the same size.
fn latency_of_durability(size: &Size, cpus: Cpus, table: &mut Table) {
    let durable = ServerProcess::start(&Flags::default(), cpus);
    let memory = ServerProcess::start(&Flags { memory: true, ..Flags::default() }, cpus);
    let mut probe = Probe::new(durable.dir());
    let mut ratios = Vec::new();
    println!("\n{:<8}{:>12}{:>12}{:>14}", "F3", "wal p50 µs", "memory p50", "raw write p50");
    for round in 0..=size.pairs {
        let leg = |server: &ServerProcess| {
            Leg::closed(server.addr, Workload::purchases(PLENTY, 10 + round), 1, size.leg)
        };
        let kept = leg(&durable).run(cpus).p50_us();
        let quick = leg(&memory).run(cpus).p50_us();
        let raw = probe.p50_us(size.leg);
        println!("{:<8}{kept:>12.1}{quick:>12.1}{raw:>14.1}", label(round));
        if round > 0 {
            ratios.push((kept - quick) / raw);
        }
    }
    table.add("F3", "latency added by durability ÷ raw synced 4 KiB", Goal::AtMost(1.5), ratios);
}

pub(crate) fn label(round: u64) -> String {
    if round == 0 { "warm-up".to_owned() } else { format!("{round}") }
}
