//! `capacity`: finds the highest rate that a server holds.
//!
//! Next: [`crate::capacity`].

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::LoadArgs;
use crate::assert::Assertion;
use crate::capacity::{End, Found, Limits, Plan, Probe, find};
use crate::engine::RunError;
use crate::printer;
use crate::program::{EXIT_FAILED, UsageError, stop_flag, write_file};
use crate::units::{self, show_count, show_ns};

/// Shortest time for which a rate is tried.
const STEP_TIME_MIN: Duration = Duration::from_millis(100);
/// Finest precision: below it noise decides.
const PRECISION_MIN: f64 = 0.001;

/// Flags of `capacity`.
#[derive(Args, Debug)]
pub struct CapacityArgs {
    /// What to send; the rate and how long are chosen by the search.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What has to hold, as 'p99<10ms' or 'errors<0.1%'; may be given more than once
    #[arg(long, value_name = "ASSERTION", required = true, value_parser = Assertion::parse)]
    pub slo: Vec<Assertion>,
    /// The rate to begin with
    #[arg(long, value_name = "RATE", value_parser = units::count, default_value = "1k")]
    pub from: u64,
    /// The highest rate to try
    #[arg(long, value_name = "RATE", value_parser = units::count, default_value = "1m")]
    pub to: u64,
    /// How long each rate is tried
    #[arg(long, value_name = "TIME", value_parser = units::time, default_value = "5s")]
    pub step_time: Duration,
    /// How close the rate that holds and the next that fails are in the end
    #[arg(long, value_name = "SHARE", value_parser = units::share, default_value = "5%")]
    pub precision: f64,
    /// Write every try as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl CapacityArgs {
    /// The checked plan.
    ///
    /// # Errors
    /// [`UsageError`] for what cannot be, in words.
    pub fn plan(&self) -> Result<Plan, UsageError> {
        let ensure = |ok: bool, what: &str| if ok { Ok(()) } else { Err(UsageError(what.to_owned())) };
        let LoadArgs { rate, closed, duration, requests, shape, .. } = &self.load;
        let is_free = rate.is_none() && !closed && duration.is_none() && requests.is_none();
        let chosen = "capacity chooses the rate and how long: leave out -R, --shape, --closed, -d and -n \
                      (use --from, --to and --step-time)";
        ensure(is_free && shape == "constant", chosen)?;
        ensure(1 <= self.from && self.from <= self.to, "--from has to be at least 1 and at most --to")?;
        ensure(self.step_time >= STEP_TIME_MIN, "--step-time has to be at least 100ms")?;
        ensure(self.precision >= PRECISION_MIN, "--precision has to be at least 0.1%")?;
        let limits =
            Limits { from_per_s: self.from as f64, to_per_s: self.to as f64, precision: self.precision };
        let (config, step_time) = (self.load.config()?, self.step_time);
        Ok(Plan { config, objectives: self.slo.clone(), limits, step_time })
    }
}

/// Searches and tells; the exit code.
pub(super) fn run(args: &CapacityArgs) -> Result<u8> {
    let mut plan = args.plan()?;
    plan.config.stop = stop_flag()?;
    let objectives: Vec<_> = plan.objectives.iter().map(ToString::to_string).collect();
    printer::print_line(&format!(
        "stampede-loadgen {}: capacity of {} with {}; {} connections, {} threads, {} per rate, seed {}",
        env!("CARGO_PKG_VERSION"),
        plan.config.addr,
        objectives.join(" and "),
        plan.config.connections,
        plan.config.threads,
        show_ns(u64::try_from(plan.step_time.as_nanos()).unwrap_or(u64::MAX)),
        plan.config.workload.seed,
    ));
    let head = format!("  {:>11}  {:>11}  {:>8}  {:>8}  {:>8}", "rate/s", "achieved/s", "p50", "p99", "max");
    printer::print_line(&head);
    let found = find(&plan, |probe| printer::print_line(&line(probe))).map_err(|error| match error {
        RunError::Setting(_) | RunError::Request(_) => UsageError(error.to_string()).into(),
        other => anyhow::Error::from(other),
    })?;
    if let Some(file) = &args.json {
        write_file(file, |out| Ok(serde_json::to_writer_pretty(out, &found.json(&plan))?))?;
    }
    let (code, words) = verdict(&found, &objectives.join(" and "));
    printer::print_line(&format!("\n{words}"));
    Ok(code)
}

fn line(probe: &Probe) -> String {
    let quantile = |name| {
        let measured = probe.latency.as_ref().and_then(|latency| latency.named(name));
        measured.map_or_else(|| "-".to_owned(), show_ns)
    };
    let [p50, p99, max] = ["p50", "p99", "max"].map(quantile);
    let (rate, achieved) = (show(probe.per_s), show(probe.achieved_per_s));
    format!("  {rate:>11}  {achieved:>11}  {p50:>8}  {p99:>8}  {max:>8}  {}", probe.words())
}

fn show(per_s: f64) -> String {
    show_count(per_s.round() as u64)
}

/// The exit code and the last line.
fn verdict(found: &Found, objectives: &str) -> (u8, String) {
    let held = |held: Option<f64>| {
        held.map_or_else(|| "nothing held".to_owned(), |held| format!("{}/s held", show(held)))
    };
    match found.end {
        Some(End::Found { per_s, fails_at_per_s: Some(above) }) => {
            (0, format!("capacity: {}/s ({objectives} held twice; {}/s failed)", show(per_s), show(above)))
        }
        Some(End::Found { per_s, fails_at_per_s: None }) => {
            (0, format!("capacity: at least {}/s ({objectives} held twice; raise --to)", show(per_s)))
        }
        Some(End::NeverHolds { per_s }) => (
            EXIT_FAILED,
            format!("no capacity: {objectives} does not hold at {}/s; lower --from", show(per_s)),
        ),
        Some(End::Generator { per_s, held_per_s }) => (
            EXIT_FAILED,
            format!(
                "not known: the generator, not the server, was the limit at {}/s ({}); add threads (-t) or another machine",
                show(per_s),
                held(held_per_s)
            ),
        ),
        Some(End::Unsteady { held_per_s }) => (
            EXIT_FAILED,
            format!(
                "not known: rates hold once and fail the next time ({}); raise --step-time",
                held(held_per_s)
            ),
        ),
        None => (EXIT_FAILED, "interrupted: no capacity was found".to_owned()),
    }
}
