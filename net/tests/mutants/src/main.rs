//! Mutation tests: mistakes, each kept as a patch, and the tests that must notice them.
//!
//! `make mutants` copies the tree, applies all patches to the copy and builds it once. Each
//! mutation is active in a run of its own, in the same test programs that `make test` runs. First
//! all of them must pass without a mutation; otherwise a failure would mean nothing. The table at the
//! end names the first test that failed in each detector. If a mutation was not noticed, the
//! run fails. docs/CONTRIBUTING.md says how to add one.
//!
//! Next: [`patch`] for how a mutation is kept, [`merge`] and [`tree`] for the copy, [`refresh`]
//! for the way back, [`hunt`] for the run.

mod detectors;
mod hunt;
mod merge;
mod patch;
mod programs;
mod refresh;
#[cfg(test)]
mod tests;
mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::hunt::{Plan, hunt};
use self::refresh::refresh;
use self::tree::Workspace;

const USAGE: &str =
    "usage: stampede-mutants tree DIR | refresh DIR | run DIR [--all] [--each] [--jobs N] [NAME…]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match command(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command; returns whether it succeeded.
fn command(args: &[String]) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).ok_or("no workspace")?;
    let [command, dir, rest @ ..] = args else { return Err(USAGE.to_owned()) };
    // Cargo runs in another directory, so the path must be absolute.
    let dir = std::path::absolute(dir).map_err(|error| error.to_string())?;
    match (command.as_str(), rest) {
        ("tree", []) => make_tree(root, &dir).map(|tree| tree.is_some()),
        ("refresh", []) => {
            let changed = refresh(root, &dir.join("tree"))?;
            println!("mutants: {} patches rewritten", changed.len());
            changed.iter().for_each(|name| println!("  {name}"));
            // Copy and patches are equal now, so the copy counts as unedited.
            tree::remember(&dir)?;
            Ok(true)
        }
        ("run", rest) => {
            let workspace = Workspace::load(root)?;
            let plan = Plan::parse(rest, &workspace.mutations)?;
            match make_tree(root, &dir)? {
                Some(tree) => hunt(&plan, &tree, &dir),
                None => Ok(false),
            }
        }
        _ => Err(USAGE.to_owned()),
    }
}

/// Makes the copy. Prints the hunks that do not apply, and returns `None` if there are any.
fn make_tree(root: &Path, dir: &Path) -> Result<Option<PathBuf>, String> {
    let (tree, misfits) = Workspace::load(root)?.copy_to(dir)?;
    for misfit in &misfits {
        eprintln!("{}:{}: {}: {}", misfit.hunk.path, misfit.hunk.at + 1, misfit.name, misfit.why);
    }
    println!("mutants: the mutated copy is {}", tree.display());
    if misfits.is_empty() {
        return Ok(Some(tree));
    }
    eprintln!(
        "{} hunks found no place: work them in there by hand, then `make mutants-refresh`",
        misfits.len()
    );
    Ok(None)
}
