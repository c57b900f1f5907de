//! Runs one mutation after the other: which detectors notice it?

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Instant;

use crate::detectors::{DETECTORS, Detector, named};
use crate::patch::Patch;
use crate::programs::{Programs, Verdict};

/// Which mutations to try, and with which detectors.
pub(crate) struct Plan {
    mutations: Vec<Patch>,
    /// Whether all detectors run, not only the hunters of a mutation.
    all: bool,
    /// Whether the others still run after one has noticed it.
    each: bool,
    jobs: usize,
}

/// A mutation and the verdict of each of its detectors.
type Row<'a> = (&'a Patch, Vec<(&'static str, Verdict)>);

impl Plan {
    /// Reads `[--all] [--each] [--jobs N] [NAME…]`; no name means all mutations.
    ///
    /// # Errors
    /// A name or an option that is not known.
    pub(crate) fn parse(args: &[String], mutations: &[Patch]) -> Result<Self, String> {
        let mut plan = Self { mutations: Vec::new(), all: false, each: false, jobs: 1 };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--all" => (plan.all, plan.each) = (true, true),
                "--each" => plan.each = true,
                "--jobs" => {
                    let jobs = args.next().and_then(|jobs| jobs.parse().ok()).filter(|jobs| *jobs > 0);
                    plan.jobs = jobs.ok_or("--jobs takes a number from 1 on")?;
                }
                name => {
                    let mutation = mutations.iter().find(|mutation| mutation.name == name);
                    let unknown = || format!("no mutation {name:?}; there are:\n{}", names(mutations));
                    plan.mutations.push(mutation.ok_or_else(unknown)?.clone());
                }
            }
        }
        if plan.mutations.is_empty() {
            plan.mutations = mutations.to_vec();
        }
        Ok(plan)
    }

    /// The detectors that run against a mutation.
    fn asked(&self, mutation: &Patch) -> Result<Vec<&'static Detector>, String> {
        if self.all {
            return Ok(DETECTORS.to_vec());
        }
        let known = |name: &String| {
            named(name).ok_or_else(|| format!("{}.patch: there is no detector {name:?}", mutation.name))
        };
        mutation.hunters.iter().map(known).collect()
    }
}

fn names(mutations: &[Patch]) -> String {
    mutations.iter().map(|mutation| format!("  {:<22} {}\n", mutation.name, mutation.mistake)).collect()
}

/// Runs the plan on the mutated copy `tree`, built in `target`. Returns whether all were noticed.
///
/// # Errors
/// A detector fails without a mutation, or a program cannot be built or started.
pub(crate) fn hunt(plan: &Plan, tree: &Path, target: &Path) -> Result<bool, String> {
    let mut needed: BTreeMap<&'static str, &'static Detector> = BTreeMap::new();
    for mutation in &plan.mutations {
        needed.extend(plan.asked(mutation)?.into_iter().map(|detector| (detector.name, detector)));
    }
    let begin = Instant::now();
    let programs = Programs::build(tree, target, needed.values().copied())?;
    println!("built in {:.0} s", begin.elapsed().as_secs_f64());
    let (begin, turns) = (Instant::now(), RwLock::new(()));
    let needed: Vec<&Detector> = needed.into_values().collect();
    each(plan.jobs, &needed, |_, detector| check_sober(&programs, detector, &turns))?;
    println!("all are green without a mutation ({:.0} s)", begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    let rows = each(plan.jobs, &plan.mutations, |at, mutation| {
        let (mut seen, mut caught) = (Vec::new(), 0);
        for detector in plan.asked(mutation)? {
            let verdict = run(&programs, detector, Some(&mutation.name), &turns)?;
            caught += usize::from(verdict.caught());
            seen.push((detector.name, verdict));
            if caught > 0 && !plan.each {
                break;
            }
        }
        println!(
            "{:>3}/{} {:<22} {} by {caught} of {}  ({:.0} s)",
            at + 1,
            plan.mutations.len(),
            mutation.name,
            if caught > 0 { "caught" } else { "ESCAPED" },
            seen.len(),
            begin.elapsed().as_secs_f64()
        );
        Ok((mutation, seen))
    })?;
    Ok(print_table(&rows) == 0)
}

/// Calls `work` for each of these in order, `jobs` at a time; stops at the first error.
fn each<'a, T: Sync, R: Send>(
    jobs: usize,
    all: &'a [T],
    work: impl Fn(usize, &'a T) -> Result<R, String> + Sync,
) -> Result<Vec<R>, String> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((at, one)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| all.get(at).map(|one| (at, one)))
                {
                    let result = work(at, one);
                    if result.is_err() {
                        next.store(all.len(), Ordering::Relaxed);
                    }
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(at, result);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// Runs a detector, in parallel with others if it is pure.
fn run(
    programs: &Programs,
    detector: &Detector,
    mutation: Option<&str>,
    turns: &RwLock<()>,
) -> Result<Verdict, String> {
    if detector.is_pure {
        let _beside_others = turns.read().unwrap_or_else(PoisonError::into_inner);
        programs.run(detector, mutation)
    } else {
        let _alone = turns.write().unwrap_or_else(PoisonError::into_inner);
        programs.run(detector, mutation)
    }
}

/// Fails if a detector fails without a mutation.
fn check_sober(programs: &Programs, detector: &Detector, turns: &RwLock<()>) -> Result<(), String> {
    let verdict = run(programs, detector, None, turns)?;
    if let Verdict::Red(tests) = &verdict {
        return Err(format!("{} fails without any mutation: {}", detector.name, tests.join(", ")));
    }
    println!("without a mutation: {:<10} {verdict}", detector.name);
    Ok(())
}

/// Prints the results; returns how many mutations escaped.
fn print_table(rows: &[Row<'_>]) -> usize {
    let mut escaped = 0;
    println!("\n| mutation | the mistake | caught by |\n|---|---|---|");
    for (mutation, seen) in rows {
        let caught: Vec<_> = seen.iter().filter(|(_, verdict)| verdict.caught()).collect();
        escaped += usize::from(caught.is_empty());
        let by: Vec<_> = caught.iter().map(|(name, verdict)| format!("{name}: {verdict}")).collect();
        let by = if by.is_empty() { "**nobody**".to_owned() } else { by.join("; ") };
        println!("| {} | {} | {by} |", mutation.name, mutation.mistake);
    }
    let word = if escaped == 0 { "ok" } else { "FAILED" };
    println!(
        "\nmutants: {word}. {} mutations, {} caught, {escaped} escaped",
        rows.len(),
        rows.len() - escaped
    );
    escaped
}
