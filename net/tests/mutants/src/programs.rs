//! The test programs with the mutations in them: built once, started once per mutation and detector.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::detectors::{Detector, Program};

/// Longest run of a detector; a test that hangs has noticed something, too.
const RUN_MAX: Duration = Duration::from_secs(300);
/// Tests named in a cell of the table.
const NAMED_MAX: usize = 1;
/// Characters kept of what the simulation says.
const BROKEN_CHARS: usize = 60;

/// What a detector says.
pub(crate) enum Verdict {
    /// All tests passed, this many seconds.
    Green(u64),
    /// Something failed: which tests, as far as they could say.
    Red(Vec<String>),
    /// It did not come to an end.
    Hung,
}

impl Verdict {
    pub(crate) fn caught(&self) -> bool {
        !matches!(self, Self::Green(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Green(seconds) => write!(f, "green ({seconds} s)"),
            Self::Red(tests) => {
                f.write_str(&tests[..tests.len().min(NAMED_MAX)].join(", "))?;
                match tests.len().saturating_sub(NAMED_MAX) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Self::Hung => f.write_str("hung"),
        }
    }
}

/// Where each program lies, and the directory that it expects to be started in.
pub(crate) struct Programs(BTreeMap<&'static str, (PathBuf, PathBuf)>);

impl Programs {
    /// Builds what these detectors need, out of the mutated copy of the tree, in cargo's target
    /// directory `target`.
    pub(crate) fn build(
        tree: &Path,
        target: &Path,
        detectors: impl Iterator<Item = &'static Detector>,
    ) -> Result<Self, String> {
        let (mut plain, mut loom) = (Vec::new(), Vec::new());
        for program in detectors.map(|detector| detector.program) {
            let list = if program.is_loom() { &mut loom } else { &mut plain };
            if !list.contains(&program) {
                list.push(program);
            }
        }
        let mut programs = BTreeMap::new();
        for (wanted, loom) in [(plain, false), (loom, true)] {
            if wanted.is_empty() {
                continue;
            }
            for (program, file, dir) in build(tree, target, &wanted, loom)? {
                programs.insert(program.name(), (file, dir));
            }
        }
        Ok(Self(programs))
    }

    /// Runs a detector, with the mutation of this name or without any.
    pub(crate) fn run(&self, detector: &Detector, mutation: Option<&str>) -> Result<Verdict, String> {
        let (program, dir) = &self.0[detector.program.name()];
        let begin = Instant::now();
        let mut child = Command::new(program)
            .args(detector.tests)
            .args(detector.args)
            .env("STAMPEDE_MUTATION", mutation.unwrap_or_default())
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut stdout = child.stdout.take().expect("asked for");
        let reader = std::thread::spawn(move || {
            let mut said = Vec::new();
            // What cannot be read any more was said by a program that was ended.
            let _read = stdout.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        let ended = loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                break Some(status);
            }
            if begin.elapsed() > RUN_MAX {
                child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
                break None;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        };
        let said = reader.join().map_err(|_| "the reader panicked".to_owned())?;
        if said.contains("running 0 tests") {
            return Err(format!("{} names no test of {}", detector.name, detector.program.name()));
        }
        Ok(match ended {
            None => Verdict::Hung,
            Some(status) if status.success() => Verdict::Green(begin.elapsed().as_secs()),
            Some(status) => Verdict::Red(red_tests(&said, &status.to_string())),
        })
    }
}

/// The names of the tests that failed; how the program ended, if it names none.
fn red_tests(said: &str, ended: &str) -> Vec<String> {
    let name = |line: &str| {
        let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
        verdict.starts_with("FAILED").then(|| format!("`{name}`"))
    };
    let mut names: Vec<String> = said.lines().filter_map(name).collect();
    if names.is_empty() {
        // The simulation names no test, but the promise that was broken.
        let broken = said.lines().filter_map(|line| line.strip_prefix("RED "));
        names.extend(broken.map(|line| line.chars().take(BROKEN_CHARS).collect()));
    }
    if names.is_empty() {
        names.push(ended.to_owned());
    }
    names
}

/// Builds all of these at once, as one workspace, so that what they share is built once; cargo
/// says where each lies.
fn build(
    tree: &Path,
    target: &Path,
    wanted: &[Program],
    loom: bool,
) -> Result<Vec<(Program, PathBuf, PathBuf)>, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--no-run", "--message-format=json-render-diagnostics"]);
    let packages: BTreeSet<_> = wanted.iter().map(|program| program.package()).collect();
    for package in &packages {
        cargo.args(["-p", package]);
    }
    if wanted.iter().any(|program| program.target().is_none()) {
        cargo.arg("--lib");
    }
    for target in wanted.iter().filter_map(|program| program.target()) {
        cargo.args(["--test", target]);
    }
    cargo.env("CARGO_TARGET_DIR", target);
    if loom {
        // As `make test-loom` does it, in a directory of its own within ours.
        cargo.arg("--release").env("RUSTFLAGS", "--cfg loom").env("CARGO_PROFILE_RELEASE_LTO", "off");
        cargo.env("CARGO_TARGET_DIR", target.join("loom"));
    }
    let output = cargo.current_dir(tree).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err("the test programs cannot be built".to_owned());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let find = |program: &Program| {
        let found = messages.iter().find_map(|message| place_of(*program, message));
        found.ok_or_else(|| format!("cargo did not say where {} lies", program.name()))
    };
    wanted.iter().map(|program| find(program).map(|(file, dir)| (*program, file, dir))).collect()
}

/// The program's file and its package's directory, if this message of cargo is about it.
fn place_of(program: Program, message: &Value) -> Option<(PathBuf, PathBuf)> {
    let target = &message["target"];
    let is_target = match program.target() {
        None => target["kind"][0] == "lib",
        Some(name) => target["name"] == name,
    };
    let directory = PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_owned();
    let package = program.package().strip_prefix("stampede-")?;
    let is_it = is_target && message["profile"]["test"] == true && directory.ends_with(package);
    let file = PathBuf::from(message["executable"].as_str().filter(|_| is_it)?);
    Some((file, directory))
}
