//! Torture: the built server with a real Postgres and a load of buyers, one
//! fault per round, an automatic restart, and the history checker at the end of each round.
//!
//! `TORTURE_SECONDS` is how long it runs (without it: every kind of fault once), `TORTURE_SEED`
//! repeats a schedule, `TORTURE_ONLY` selects faults whose names contain it,
//! `TORTURE_BINARY` is the server. A failure exits with code 1, keeps data directory and logs, and
//! names them. Next: `fault.rs` for the faults, `round.rs` for a round.

mod base;
mod dice;
mod fault;
#[path = "../common/hold.rs"]
mod hold;
#[path = "../disk/mount.rs"]
#[allow(dead_code, reason = "the other program of this crate uses the rest of it")]
mod mount;
mod proxy;
mod round;
mod sale;
#[path = "../it/server.rs"]
#[allow(dead_code, reason = "the other tests of this crate use the rest of it")]
mod server;
mod small;
mod table;
mod tracer;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base::Base;
use dice::Dice;
use fault::{FAULTS, Fault};
use round::{Reached, Size, play};
use table::Table;
use world::World;

/// After so many rounds a fresh directory and database are used.
const ROUNDS_PER_WORLD: u32 = 12;
/// A round of the short run: all faults together take about a minute.
const SHORT: Size = Size { stock: 300, per_s: 1_500.0, connections: 200 };
/// A round of the long run.
const LONG: Size = Size { stock: 2_000, per_s: 5_000.0, connections: 2_000 };

/// The options of this run.
struct Plan {
    length: Option<Duration>,
    seed: u64,
    faults: Vec<&'static Fault>,
}

impl Plan {
    fn from_env() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
        };
        let only = std::env::var("TORTURE_ONLY").unwrap_or_default();
        let faults: Vec<_> = FAULTS.iter().filter(|fault| fault.name.contains(&only)).collect();
        assert!(!faults.is_empty(), "no fault's name contains `{only}`");
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
        let seed = number("TORTURE_SEED").unwrap_or(clock.as_nanos() as u64 % 1_000_000_007);
        Self { length: number("TORTURE_SECONDS").map(Duration::from_secs), seed, faults }
    }

    const fn size(&self) -> Size {
        if self.length.is_some() { LONG } else { SHORT }
    }
}

fn main() -> ExitCode {
    let plan = Plan::from_env();
    println!("torture: {}, seed {}", server::binary().display(), plan.seed);
    let mut torture = Torture::new(&plan);
    let result = torture.run();
    print!("{}", torture.table);
    match result {
        Ok(()) if !torture.table.was_felt() => {
            println!("torture: RED; the buyers have hardly noticed that the server was down");
            ExitCode::FAILURE
        }
        Ok(()) => {
            println!("torture: {}; seed {}", torture.table.summary(), plan.seed);
            ExitCode::SUCCESS
        }
        Err(()) => {
            println!("torture: RED; SEED={} repeats the schedule", plan.seed);
            ExitCode::FAILURE
        }
    }
}

struct Torture<'a> {
    plan: &'a Plan,
    dice: Dice,
    began: Instant,
    table: Table,
    rounds: u32,
    /// Rounds of a short run; known once its schedule is made.
    rounds_planned: u32,
}

impl<'a> Torture<'a> {
    fn new(plan: &'a Plan) -> Self {
        let (dice, table) = (Dice::new(plan.seed), Table::default());
        Self { plan, dice, began: Instant::now(), table, rounds: 0, rounds_planned: u32::MAX }
    }

    /// Runs worlds, one after the other, until the time is up.
    fn run(&mut self) -> Result<(), ()> {
        let mut schedule: Vec<&Fault> = Vec::new();
        let mut base = Some(Base::new());
        while !self.is_over() {
            let cores = self.dice.pick(&["1", "2"]);
            let mut world = World::new(base.take().expect("given back"), cores);
            for _ in 0..ROUNDS_PER_WORLD {
                if schedule.is_empty() {
                    schedule = self.schedule();
                }
                let fault = schedule.pop().expect("just filled");
                world = self.round(world, fault)?;
                if self.is_over() {
                    break;
                }
            }
            base = Some(self.close(world)?);
        }
        Ok(())
    }

    /// Every kind of fault once, in random order. A short run takes only one of the faults that
    /// wait for a snapshot, because that takes a while.
    fn schedule(&mut self) -> Vec<&'static Fault> {
        let mut schedule = self.plan.faults.clone();
        self.dice.shuffle(&mut schedule);
        if self.plan.length.is_none() {
            let mut is_first = true;
            schedule.retain(|fault| !fault.name.contains("snapshot") || std::mem::take(&mut is_first));
        }
        self.rounds_planned = schedule.len() as u32;
        schedule
    }

    fn is_over(&self) -> bool {
        match self.plan.length {
            Some(length) => self.began.elapsed() >= length,
            None => self.rounds >= self.rounds_planned,
        }
    }

    fn round(&mut self, mut world: World, fault: &'static Fault) -> Result<World, ()> {
        self.rounds += 1;
        let seed = self.dice.next();
        let at = self.began.elapsed().as_secs_f64();
        let size = self.plan.size();
        let played = catch_unwind(AssertUnwindSafe(|| play(&mut world, fault, size, seed)));
        let Ok((report, skipped)) = played else {
            println!("{at:6.1}s  round {:3}  {:44} RED", self.rounds, fault.name);
            keep(world);
            return Err(());
        };
        let must_be_there = skipped.as_ref().is_err_and(|missing| !missing.may_be_missing());
        let verdict = match (&skipped, report.reached) {
            (Err(why), _) if must_be_there => {
                format!("RED, STAMPEDE_SKIP_OK does not name what is missing: {why}")
            }
            (Err(why), _) => format!("SKIPPED: {why}"),
            (Ok(()), Reached::Not) => "fine, but the step was not reached".to_owned(),
            (Ok(()), Reached::Yes) => "fine".to_owned(),
        };
        let (acked, outages) = (report.acked, report.outages);
        println!(
            "{at:6.1}s  round {:3}  {:44} {acked:6} orders acked, {outages} outages: {verdict}",
            self.rounds, fault.name
        );
        self.table.add(fault.name, &report, skipped.err());
        if must_be_there {
            keep(world);
            return Err(());
        }
        Ok(world)
    }

    /// Checks all sales of a world again, after everything that came later.
    fn close(&mut self, mut world: World) -> Result<Base, ()> {
        let at = self.began.elapsed().as_secs_f64();
        let mut place = None;
        let closed = catch_unwind(AssertUnwindSafe(|| {
            place = Some(world.bed.keep());
            world.close()
        }));
        let place = place.expect("kept until all is well");
        match closed {
            Ok((base, orders)) => {
                println!("{at:6.1}s  all sales of these rounds once more: {orders:6} orders: fine");
                let _gone = std::fs::remove_dir_all(place);
                Ok(base)
            }
            Err(_) => {
                println!("{at:6.1}s  all sales of these rounds once more: RED; kept in {}", place.display());
                Err(())
            }
        }
    }
}

/// Names the files that are kept for inspection.
fn keep(mut world: World) {
    println!("torture: data directory and logs are kept in {}", world.keep().display());
}
