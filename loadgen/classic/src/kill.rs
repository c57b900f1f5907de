//! What is lost when the store of a shop is killed, or its power cut, in the middle of a sale.
//!
//! ```text
//! start ─▶ buyers, so many a second, each with a key ─▶ kill -9 of the store ─▶ start it again
//!            │                                            (and the power of its disk)  │
//!            └─ answers: which orders were acked          the same buyers go on ◀──────┘
//!                                    until all are done; the worker finishes ─▶ count
//! ```
//!
//! The store is what decides and acks: Postgres of `row-lock`, Redis of the rivals, the engine itself. In a
//! power cut only the store's disk loses its power, a moment after the process was killed, so that
//! nothing is acked meanwhile. Many buyers come several times, each time with another key, and some requests
//! are sent twice with one key, so that a store which forgets what it sold sells it again.
//!
//! What was told comes from the responses, what is there from the database. Next: `kill/config.rs`, `kill/count.rs`, which
//! compares the two; `kill/table.rs`, which shows it.

mod config;
mod count;
mod scene;
mod table;

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

pub use config::{Fault, Hurt, KillConfig, Kills};
pub use count::Counted;
pub use table::{json, text};

use crate::design::{Contender, ITEM};
use crate::error::ClassicError;
use crate::machine::{machine, versions};
use config::cluster_options;
use scene::Scene;
use stampede_loadgen::engine::{Mode, Outcome, RunConfig, Schedule, run};
use stampede_loadgen::workload::{Workload, mix};
use stampede_testkit::{Image, PostgresCluster};

/// Pause between two looks at how far a sale is.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Longest wait for a sale to get as far as the fault.
const SALE_MAX: Duration = Duration::from_secs(300);
/// How long one purchase may take, and how long a server may be silent.
const TIMEOUT: Duration = Duration::from_secs(10);
const RIDE_OUT: Duration = Duration::from_secs(120);
/// Size of a disk whose power is cut (sparse).
const DISK_BYTES: u64 = 2 << 30;
/// Buyers per unit, and purchases per unit: nearly half of the purchases are of buyers who have been there.
const BUYERS_PER_UNIT: f64 = 1.5;
const PURCHASES_PER_UNIT: u64 = 3;
/// Share of requests that repeat an earlier one with its key.
const REPEAT: f64 = 0.05;

/// Hurts everybody. `tell` hears a line of words per step.
///
/// # Errors
/// [`ClassicError`] if there is no database at all; what cannot be run besides is among the troubles.
pub fn kill(config: &KillConfig, tell: &mut dyn FnMut(&str)) -> Result<Kills, ClassicError> {
    tell("starting a throw-away Postgres");
    let cluster = PostgresCluster::new(cluster_options())?;
    let versions = versions(&cluster.url(), config.engine.as_ref());
    let mut kills = Kills { machine: machine(), versions, ..Kills::default() };
    for round in 0..config.rounds {
        for &fault in &config.faults {
            for &contender in &config.contenders {
                let seed = mix(config.seed ^ mix(u64::from(round)));
                let hurt = hurt(config, &cluster, contender, fault, seed);
                if config.stop.load(Ordering::Relaxed) {
                    kills.interrupted = true;
                    return Ok(kills);
                }
                match hurt {
                    Ok(hurt) => {
                        tell(&words(&hurt));
                        kills.hurts.push(hurt);
                    }
                    Err(error) => {
                        let trouble = format!("{}, {}: {error}", contender.name(), fault.name());
                        tell(&trouble);
                        kills.troubles.push(trouble);
                    }
                }
            }
        }
    }
    Ok(kills)
}

fn words(hurt: &Hurt) -> String {
    let Hurt { name, fault, counted, sold_before, .. } = hurt;
    let Counted { lost, oversold, undersold, over_cap, .. } = counted;
    format!(
        "{name}, {} after {sold_before} units: {lost} acked orders lost, {oversold} oversold, {undersold} undersold, \
         {over_cap} buyers over the cap",
        fault.name()
    )
}

/// One store, hurt once.
fn hurt(
    config: &KillConfig,
    cluster: &PostgresCluster,
    contender: Contender,
    fault: Fault,
    seed: u64,
) -> Result<Hurt, ClassicError> {
    let image = match fault {
        Fault::Kill => None,
        Fault::PowerCut => Some(Image::new(DISK_BYTES)?),
    };
    let root = image.as_ref().map_or_else(std::env::temp_dir, Image::path);
    let mut scene = Scene::start(config, cluster, contender, &root)?;
    if let Some(image) = &image {
        // What it wrote before the sale is on the disk, however long ago that was.
        image.sync()?;
    }
    // Somewhere between a third and two thirds of the sale.
    let after = (config.stock / 3 + mix(seed) % (config.stock / 3).max(1)).max(1);
    let run_config = load(config, &scene, seed);
    let (outcome, sold_before, away_ms) = thread::scope(|scope| {
        let running = scope.spawn(|| run(&run_config));
        let hurt = reach(config, &scene, after).and_then(|sold| {
            let began = Instant::now();
            scene.kill()?;
            if let Some(image) = &image {
                image.cut()?;
                image.mount_again()?;
            }
            scene.restart()?;
            Ok((sold, u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)))
        });
        if hurt.is_err() || config.stop.load(Ordering::Relaxed) {
            run_config.stop.store(true, Ordering::Relaxed);
        }
        let outcome: Result<Outcome, ClassicError> = match running.join() {
            Ok(outcome) => outcome.map_err(ClassicError::from),
            Err(_) => Err(ClassicError::process("running the load", "it panicked")),
        };
        let (sold, away_ms) = hurt?;
        Ok::<_, ClassicError>((outcome?, sold, away_ms))
    })?;
    scene.settle()?;
    let counted = count::count(&outcome, &scene.rows()?, config.stock, scene.left()?);
    // The servers go before their disk does.
    drop(scene);
    drop(image);
    Ok(Hurt { name: contender.name(), fault, stock: config.stock, sold_before, away_ms, counted })
}

/// Buyers at a steady rate, whatever becomes of the store.
fn load(config: &KillConfig, scene: &Scene<'_>, seed: u64) -> RunConfig {
    let buyers = (config.stock as f64 * BUYERS_PER_UNIT) as u32;
    let workload = Workload { users: Some(buyers.max(1)), repeat: REPEAT, ..Workload::purchases(ITEM, seed) };
    RunConfig {
        mode: Mode::Open(Schedule::constant(config.per_s)),
        connections: config.connections,
        timeout: TIMEOUT,
        ride_out: RIDE_OUT,
        keep_history: true,
        ..RunConfig::closed(scene.addr(), workload, config.stock * PURCHASES_PER_UNIT)
    }
}

/// Waits until so many units are sold.
fn reach(config: &KillConfig, scene: &Scene<'_>, units: u64) -> Result<i64, ClassicError> {
    let deadline = Instant::now() + SALE_MAX;
    loop {
        let sold = i64::try_from(config.stock).unwrap_or(i64::MAX) - scene.left()?;
        if u64::try_from(sold).unwrap_or(0) >= units || config.stop.load(Ordering::Relaxed) {
            return Ok(sold);
        }
        if Instant::now() > deadline {
            return Err(ClassicError::process("waiting for the sale", "it does not get on"));
        }
        thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found_by_the_names_that_people_write() {
        for (name, fault) in [("kill", Some(Fault::Kill)), ("power-cut", Some(Fault::PowerCut)), ("x", None)]
        {
            assert_eq!(Fault::from_name(name), fault, "{name}");
        }
    }
}
