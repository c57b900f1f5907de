//! The engine measured from outside, beside the limit of the machine: the ratios of docs/BENCHMARKS.md.
//!
//! `cargo bench -p stampede-net --bench serve` runs everything in its small mode. Words behind `--`
//! choose: `R3` that row alone, `--full` longer legs and more pairs, `--transport X` what is handed
//! to `stampede serve`, `--spread` lets the server's other threads leave its processor.
//!
//! ```text
//!  processor of the server              processor of the generator
//!  stampede serve  ──┐                  ┌── generator, in this process
//!  bare (the limit) ─┴── take turns ────┘   A B A B …, each alone while it is measured
//! ```
//!
//! The legs of a row take turns, so that a machine whose speed changes changes them alike; what
//! counts is the ratio of two legs that ran side by side, its median and range over the pairs.
//! The bench brings its own limit: this program is `stampede-classic` and `stampede-loadgen`, too, if it is called so.
//!
//! Next: [`table`] for targets, [`load`] for a leg, [`server`] and [`limit`] for what is measured;
//! the rows are in [`cost`], [`tail`], [`durability`], [`calls`], [`allocations`], [`items`],
//! [`batches`], [`crowd`] and [`drain`].

mod allocations;
mod batches;
mod calls;
mod cost;
mod counting;
mod crowd;
mod drain;
mod durability;
mod gate;
mod items;
mod limit;
mod load;
mod perf;
mod probe;
mod replay;
mod server;
mod table;
mod tail;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use load::Cpus;
use table::Table;
use words::{Heading, Size, Words};

/// An item with units for everybody, and one that is sold out.
pub(crate) const PLENTY: u32 = 1;
pub(crate) const SOLD_OUT: u32 = 2;

/// What every row needs to know.
pub(crate) struct Bench {
    pub(crate) size: Size,
    pub(crate) cpus: Cpus,
    pub(crate) transport: Option<String>,
    pub(crate) spread: bool,
}

type Row = (&'static str, fn(&Bench, &mut Table));

/// The rows of the table, then the figures beside it.
const ROWS: &[Row] = &[
    ("R1", cost::sold_out),
    ("R2", cost::sold_out_pipelined),
    ("R3", cost::durable_purchase),
    ("R4", tail::p99_of_own_peak),
    ("R5", durability::purchases_per_s),
    ("R6", durability::added_latency),
    ("R7", calls::per_request),
    ("R8", allocations::per_request),
    ("R9", items::hot_beside_uniform),
    ("R10", batches::of_a_gateway),
    ("R11", crowd::idle_connections),
    ("R12", cost::short_connections),
    ("R13", drain::beside_copy),
    ("F5", replay::replay),
    ("F8", gate::tokens_beside_headers),
];

/// Figures that run when they are named, and in the full mode.
const MORE: &[Row] = &[("F4", drain::while_selling), ("F7", gate::refusals_beside_sold_out)];

fn main() -> ExitCode {
    // Called by one of these names it is that program: no other binary has to be built for it.
    match called_as().as_str() {
        limit::LOADGEN => return stampede_loadgen::cli::main(),
        limit::CLASSIC => return stampede_classic::cli::main(),
        server::COUNTING => return counting::serve(),
        _ => {}
    }
    let known: Vec<&str> = ROWS.iter().chain(MORE).map(|(name, _)| *name).collect();
    let words = match Words::parse(std::env::args().skip(1), &known) {
        Ok(words) => words,
        Err(what) => {
            eprintln!("serve: {what}");
            return ExitCode::from(2);
        }
    };
    let heading = Heading(&words).to_string();
    println!("{heading}CPU in µs per request of the whole server process");
    load::allow_descriptors();
    let bench = Bench {
        size: words.size,
        cpus: Cpus::of_this_machine(),
        transport: words.transport.clone(),
        spread: words.spread,
    };
    let mut table = Table::new(&words);
    let rows = ROWS.iter().filter(|(name, _)| words.wants(name));
    for (name, row) in rows.chain(MORE.iter().filter(|(name, _)| words.wants_more(name))) {
        println!("\n{name}");
        // A row that fails must not take the others with it.
        if catch_unwind(AssertUnwindSafe(|| row(&bench, &mut table))).is_err() {
            table.note(format!("{name} failed: see its words above."));
        }
    }
    println!("\n{heading}\n{table}");
    match table.finish() {
        Ok(Some(path)) => println!("recorded in {}", path.display()),
        Ok(None) => {}
        Err(error) => {
            eprintln!("serve: the record could not be written: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn called_as() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A seed that no leg before had: its buyers are new.
pub(crate) fn fresh_seed() -> u64 {
    static SEEDS: AtomicU64 = AtomicU64::new(1);
    SEEDS.fetch_add(1, Ordering::Relaxed)
}

impl Bench {
    /// Runs the legs of a row in turns, prints each round, and drops the first, which warms up.
    pub(crate) fn rounds<const N: usize>(
        &self,
        columns: [&str; N],
        mut one: impl FnMut() -> [f64; N],
    ) -> Vec<[f64; N]> {
        print!("{:<8}", "");
        columns.iter().for_each(|column| print!("{column:>18}"));
        println!();
        let round = |number: u64| {
            let values = one();
            print!("{:<8}", if number == 0 { "warm-up".to_owned() } else { number.to_string() });
            values.iter().for_each(|&value| print!("{:>18}", table::number(value)));
            println!();
            values
        };
        (0..=self.size.pairs).map(round).skip(1).collect()
    }
}

/// The first of each round divided by the second.
pub(crate) fn ratios(rounds: &[[f64; 2]]) -> Vec<f64> {
    rounds.iter().map(|[ours, limit]| ours / limit).collect()
}
