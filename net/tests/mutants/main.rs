//! Plants one bug after the other and looks which tests notice: `make mutants`.
//!
//! Every bug of `stampede_core::planted` is alive in a run of its own, in the same test programs
//! that `make test` runs, built with the feature `planted`. Before that, all of them must be green
//! without a bug, or red would mean nothing. The table at the end has a row for each bug and names
//! the first test that each detector saw fail; a bug that nobody noticed ends the run red.
//!
//! `make mutants BUG=name` plants one; `make mutants ALL=1` asks every detector about every bug,
//! not only those that are meant for it. Next: [`hunters`] for who hunts what, [`programs`] for
//! how the programs are found.

mod hunters;
mod programs;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use stampede_core::planted::Bug;

use self::hunters::{DETECTORS, Detector, hunters};
use self::programs::{Programs, Verdict};

/// Which bugs, asked of whom.
struct Plan {
    bugs: Vec<Bug>,
    all: bool,
}

fn main() -> ExitCode {
    let plan = match plan(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    match hunt(&plan) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::FAILURE
        }
    }
}

fn plan(args: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan { bugs: Vec::new(), all: false };
    for arg in args {
        match arg.as_str() {
            "--all" => plan.all = true,
            // What `cargo test` and its like add is not for us.
            flag if flag.starts_with("--") => {}
            name => {
                let bug = Bug::ALL.iter().find(|bug| bug.name() == name);
                plan.bugs.push(*bug.ok_or_else(|| format!("no bug {name:?}; there are:\n{}", names()))?);
            }
        }
    }
    if plan.bugs.is_empty() {
        plan.bugs = Bug::ALL.to_vec();
    }
    Ok(plan)
}

fn names() -> String {
    Bug::ALL.iter().map(|bug| format!("  {:<22} {}\n", bug.name(), bug.what())).collect()
}

/// Who is asked about a bug.
fn asked(plan: &Plan, bug: Bug) -> Vec<&'static Detector> {
    if plan.all { DETECTORS.to_vec() } else { hunters(bug) }
}

/// Plants them all; returns how many escaped.
fn hunt(plan: &Plan) -> Result<usize, String> {
    let mut needed: BTreeMap<&'static str, &'static Detector> = BTreeMap::new();
    for bug in &plan.bugs {
        needed.extend(asked(plan, *bug).into_iter().map(|detector| (detector.name, detector)));
    }
    let programs = Programs::build(needed.values().copied())?;
    check_sober(&programs, &needed)?;
    let begin = Instant::now();
    let mut rows = Vec::new();
    for (at, bug) in plan.bugs.iter().enumerate() {
        let seen: Vec<_> = asked(plan, *bug)
            .into_iter()
            .map(|detector| Ok((detector.name, programs.run(detector, Some(*bug))?)))
            .collect::<Result<_, String>>()?;
        let caught = seen.iter().filter(|(_, verdict)| verdict.caught()).count();
        println!(
            "{:>2}/{} {:<22} {} by {caught} of {}  ({:.0} s)",
            at + 1,
            plan.bugs.len(),
            bug.name(),
            if caught > 0 { "caught" } else { "ESCAPED" },
            seen.len(),
            begin.elapsed().as_secs_f64()
        );
        rows.push((*bug, seen));
    }
    Ok(print_table(&rows))
}

/// Without a bug, everything has to be green.
fn check_sober(
    programs: &Programs,
    needed: &BTreeMap<&'static str, &'static Detector>,
) -> Result<(), String> {
    for detector in needed.values() {
        let verdict = programs.run(detector, None)?;
        if let Verdict::Red(tests) = &verdict {
            return Err(format!("{} is red without any bug: {}", detector.name, tests.join(", ")));
        }
        println!("without a bug: {:<10} {verdict}", detector.name);
    }
    Ok(())
}

fn print_table(rows: &[(Bug, Vec<(&'static str, Verdict)>)]) -> usize {
    let mut escaped = 0;
    println!("\n| bug | the mistake | caught by |\n|---|---|---|");
    for (bug, seen) in rows {
        let caught: Vec<_> = seen.iter().filter(|(_, verdict)| verdict.caught()).collect();
        escaped += usize::from(caught.is_empty());
        let by: Vec<_> = caught.iter().map(|(name, verdict)| format!("{name}: {verdict}")).collect();
        let by = if by.is_empty() { "**nobody**".to_owned() } else { by.join("; ") };
        println!("| {} | {} | {by} |", bug.name(), bug.what());
    }
    let word = if escaped == 0 { "ok" } else { "FAILED" };
    println!(
        "\nmutants: {word}. {} bugs planted, {} caught, {escaped} escaped",
        rows.len(),
        rows.len() - escaped
    );
    escaped
}
