//! The test programs that contain the mutations: built once, started once per mutation and detector.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::detectors::{Detector, Program};

/// Longest run of a detector. A hanging test counts as having noticed the mutation.
const RUN_MAX: Duration = Duration::from_secs(300);
/// How many tests a cell of the table names.
const NAMED_MAX: usize = 1;
/// How many characters of the simulation's message are kept.
const BROKEN_CHARS: usize = 60;

/// The result of a detector.
pub(crate) enum Verdict {
    /// All tests passed; how many seconds they took.
    Green(u64),
    /// Something failed; the names of the failed tests, as far as they are known.
    Red(Vec<String>),
    /// It did not end in time.
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

/// The path of each program, and the directory in which it must be started.
pub(crate) struct Programs(BTreeMap<&'static str, (PathBuf, PathBuf)>);

impl Programs {
    /// Builds what these detectors need from the mutated copy of the tree, in cargo's target
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

    /// Runs a detector with this mutation, or without any.
    pub(crate) fn run(&self, detector: &Detector, mutation: Option<&str>) -> Result<Verdict, String> {
        let (program, dir) = &self.0[detector.program.name()];
        let begin = Instant::now();
        let scratch = Scratch::new()?;
        let mut command = Command::new(program);
        command
            .args(detector.tests)
            .args(detector.args)
            .env("STAMPEDE_MUTATION", mutation.unwrap_or_default());
        if detector.is_pure {
            command.env("TMPDIR", &scratch.0);
        }
        let child =
            command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = child.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let stdout = child.stdout.take().expect("asked for");
        let is_red = Arc::new(AtomicBool::new(false));
        let reader = std::thread::spawn({
            let is_red = is_red.clone();
            move || listen(stdout, &is_red)
        });
        let ended = loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                break Some(status);
            }
            let is_enough = detector.is_pure && is_red.load(Ordering::Relaxed);
            if is_enough || begin.elapsed() > RUN_MAX {
                child.kill().map_err(|error| error.to_string())?;
                let status = child.wait().map_err(|error| error.to_string())?;
                break is_enough.then_some(status);
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

/// A directory for temporary files, removed on drop, because a killed program leaves some behind.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("stampede-mutants-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// Reads all output of a program, and records when a test fails.
fn listen(stdout: ChildStdout, is_red: &AtomicBool) -> String {
    let (mut said, mut stdout) = (String::new(), BufReader::new(stdout));
    let mut line = Vec::new();
    // A read fails when the program was killed.
    while stdout.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        let text = String::from_utf8_lossy(&line);
        if red_test(&text).is_some() {
            is_red.store(true, Ordering::Relaxed);
        }
        said.push_str(&text);
        line.clear();
    }
    said
}

/// The name of the failed test, if this line of output reports one.
fn red_test(line: &str) -> Option<&str> {
    let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    verdict.starts_with("FAILED").then_some(name)
}

/// The names of the failed tests, or how the program ended if it names none.
fn red_tests(said: &str, ended: &str) -> Vec<String> {
    let mut names: Vec<String> = said.lines().filter_map(red_test).map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        // The simulation names the broken promise instead of a test.
        let broken = said.lines().filter_map(|line| line.strip_prefix("RED "));
        names.extend(broken.map(|line| line.chars().take(BROKEN_CHARS).collect()));
    }
    if names.is_empty() {
        names.push(ended.to_owned());
    }
    names
}

/// Builds all of these at once, so that shared crates are built once. Cargo reports the path
/// of each program.
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
        // Like `make test-loom`, in a subdirectory of our target directory.
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
        found.ok_or_else(|| format!("cargo did not report the path of {}", program.name()))
    };
    wanted.iter().map(|program| find(program).map(|(file, dir)| (*program, file, dir))).collect()
}

/// The program's path and its package's directory, if this message from cargo is about it.
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
