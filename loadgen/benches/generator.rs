//! The generator beside the field's: what a request costs it, and whether its percentiles are true.
//!
//! `cargo bench -p stampede-loadgen --bench generator` runs the small mode; `-- --full` takes longer
//! and is what docs/BENCHMARKS.md records; a word such as `G1` runs that figure alone.
//!
//! - G1: requests per CPU second of the generator's whole process, beside wrk, against one and the
//!   same `bare` process, in interleaved pairs. Without wrk it is skipped.
//! - G2: percentiles of a server whose delay is known, in the open loop, beside what follows from
//!   the pattern, and beside wrk2 if there is a binary `wrk2` in PATH (or `WRK2=path`).
//! - G3: the same with a stall in each second.
//!
//! With two processors or more the server has the first and the generators the second. Next:
//! `classic/src/bare.rs` for the server.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;
use stampede_records::{Recorder, figure, median};

const PROGRAM: &str = env!("CARGO_BIN_EXE_stampede-loadgen");
/// The name by which this program is the server: no other binary has to be built for it.
const CLASSIC: &str = "stampede-classic";
/// Connections of the cost comparison.
const CONNECTIONS: u32 = 64;
/// Ticks per second in which /proc counts CPU time (USER_HZ, which is fixed on Linux).
const TICKS_PER_S: f64 = 100.0;
/// The known pattern: each response after the delay, and, if there are stalls, one in each second.
const DELAY: Duration = Duration::from_millis(20);
const STALL: Duration = Duration::from_millis(150);
const EVERY: Duration = Duration::from_secs(1);
/// Longer than the first period of a server, which has no stall yet.
const WARM_UP: Duration = Duration::from_secs(2);
/// Rate and connections with which no request ever waits for a connection: 85 are due in a stall
/// and the delay before it.
const RATE: u32 = 500;
const SLOW_CONNECTIONS: u32 = 100;
/// The quantiles that are compared.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
/// How many of them are checked: up to p99.
const CHECKED: usize = 4;
/// wrk2 throws away what it measured in its first ten seconds (its calibration).
const WRK2_CALIBRATION: Duration = Duration::from_secs(10);

struct Size {
    leg: Duration,
    pairs: usize,
    slow_leg: Duration,
    slow_pairs: usize,
}

const SMALL: Size =
    Size { leg: Duration::from_secs(2), pairs: 5, slow_leg: Duration::from_secs(6), slow_pairs: 1 };
const FULL: Size =
    Size { leg: Duration::from_secs(4), pairs: 11, slow_leg: Duration::from_secs(20), slow_pairs: 3 };

fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|name| name == CLASSIC) {
        return stampede_classic::cli::main();
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let size = if words.iter().any(|word| word == "--full") { FULL } else { SMALL };
    let figures: Vec<&String> = words.iter().filter(|word| word.starts_with('G')).collect();
    let wanted = |figure: &str| figures.is_empty() || figures.iter().any(|word| *word == figure);
    let cpus = Cpus::of_this_machine();
    match cpus.server == cpus.generator {
        true => println!("one processor: server and generators share it"),
        false => println!("server pinned to processor {}, generators to {}", cpus.server, cpus.generator),
    }
    let setting = format!(
        "G1: {} pairs of {:?}; G2 and G3: {} of {:?}",
        size.pairs, size.leg, size.slow_pairs, size.slow_leg
    );
    let mut recorder = Recorder::new("generator", env!("CARGO_MANIFEST_DIR")).with_setting(setting);
    let mut add = |key: &str, samples: Option<Vec<f64>>| match samples {
        Some(samples) => {
            let (middle, figure) = (median(samples.iter().copied()), figure("generator", key));
            let (goal, verdict) = (figure.goal.words(), figure.goal.verdict(middle));
            println!("| {key} | {} | {goal} | {middle:.2} | {verdict} |", figure.name);
            recorder.add(key, samples);
        }
        None => recorder.add_not_measured(key, "no wrk in PATH"),
    };
    if wanted("G1") {
        add("G1", cost(&size, cpus));
    }
    for (key, stall) in [("G2", Duration::ZERO), ("G3", STALL)] {
        if wanted(key) {
            add(key, Some(percentiles(&size, cpus, key, stall)));
        }
    }
    if let Some(path) = recorder.finish().expect("the record is written") {
        println!("recorded in {}", path.display());
    }
    ExitCode::SUCCESS
}

/// Which processor each side runs on.
#[derive(Clone, Copy)]
struct Cpus {
    server: usize,
    generator: usize,
}

impl Cpus {
    fn of_this_machine() -> Self {
        let allowed = sched_getaffinity(None).expect("the processors of this process");
        let mut all = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
        let server = all.next().expect("a processor");
        Self { server, generator: all.next().unwrap_or(server) }
    }
}

/// Starts a process on one processor: it inherits that from the thread that starts it.
fn spawn_on(cpu: usize, command: &mut Command) -> Child {
    std::thread::scope(|scope| {
        let start = || {
            let mut one = CpuSet::new();
            one.set(cpu);
            sched_setaffinity(None, &one).expect("pinned");
            command.spawn().expect("started")
        };
        scope.spawn(start).join().expect("no panic")
    })
}

/// A `bare` process; dropping it ends it.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(cpus: Cpus, flags: &[String]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg0(CLASSIC).args(["bare", "--listen", "127.0.0.1:0"]).args(flags).stdout(Stdio::piped());
        let mut child = spawn_on(cpus.server, &mut command);
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its address");
        let addr = line.trim().strip_prefix("listening on ").expect("its address").to_owned();
        Self { child, url: format!("http://{addr}/") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process wrote, and the CPU time that all of its threads took, in seconds.
struct Ran {
    text: String,
    cpu_s: f64,
}

fn run_on(cpu: usize, command: &mut Command) -> Ran {
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let child = spawn_on(cpu, command);
    let pid = Pid::from_child(&child);
    let mut child = child;
    let mut text = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    while stdout.read_line(&mut text).expect("its words") > 0 {}
    // It has ended, and its times can still be read until it is waited for.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options).expect("waited");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).expect("its times");
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..].split(' ').collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("ticks");
    let status = child.wait().expect("waited");
    assert!(status.success(), "{command:?} failed: {text}");
    Ran { text, cpu_s: (ticks(11) + ticks(12)) / TICKS_PER_S }
}

fn seconds(length: Duration) -> String {
    format!("{}s", length.as_secs())
}

/// G1: both against one server process, each first in every other pair; none without wrk.
fn cost(size: &Size, cpus: Cpus) -> Option<Vec<f64>> {
    let Some(wrk) = find("wrk") else {
        println!("\nG1 skipped: there is no wrk in PATH");
        return None;
    };
    let server = Server::start(cpus, &[]);
    let ours = || ours_per_cpu_s(&server, cpus, size.leg);
    let theirs = || wrk_per_cpu_s(&wrk, &server, cpus, size.leg);
    println!("\nG1: requests per CPU second, {CONNECTIONS} connections, 1 thread, closed loop");
    println!("{:<6}{:>14}{:>14}{:>8}", "pair", "wrk", "loadgen", "ratio");
    let mut ratios = Vec::new();
    for pair in 0..=size.pairs {
        let (ours, theirs) = if pair % 2 == 0 {
            let theirs = theirs();
            (ours(), theirs)
        } else {
            (ours(), theirs())
        };
        // The first pair warms up.
        if pair > 0 {
            println!("{pair:<6}{theirs:>14.0}{ours:>14.0}{:>8.2}", ours / theirs);
            ratios.push(ours / theirs);
        }
    }
    Some(ratios)
}

fn wrk_per_cpu_s(wrk: &Path, server: &Server, cpus: Cpus, leg: Duration) -> f64 {
    let mut command = Command::new(wrk);
    command.args(["-t", "1", "-c", &CONNECTIONS.to_string(), "-d", &seconds(leg), &server.url]);
    let ran = run_on(cpus.generator, &mut command);
    let line = ran.text.lines().find(|line| line.contains(" requests in ")).expect("its count");
    let count = line.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    assert!(!ran.text.contains("Socket errors"), "{}", ran.text);
    count.expect("its count") / ran.cpu_s
}

fn ours_per_cpu_s(server: &Server, cpus: Cpus, leg: Duration) -> f64 {
    let flags = ["--closed".to_owned(), "-c".to_owned(), CONNECTIONS.to_string()];
    let (record, cpu_s) = ours(server, cpus, leg, &flags);
    record["outcomes"]["ok"].as_f64().expect("answers") / cpu_s
}

/// One run of ours with these flags: its record, and its CPU time in seconds.
fn ours(server: &Server, cpus: Cpus, leg: Duration, flags: &[String]) -> (Value, f64) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("run.json");
    let mut command = Command::new(PROGRAM);
    command.args(["run", &server.url, "--get", "/", "-d", &seconds(leg), "--json"]).arg(&file).args(flags);
    let ran = run_on(cpus.generator, &mut command);
    let record = serde_json::from_slice(&std::fs::read(&file).expect("its record")).expect("its record");
    (record, ran.cpu_s)
}

/// G2 and G3: the same server, the same rate, the same connections; the largest error of each run.
fn percentiles(size: &Size, cpus: Cpus, figure: &str, stall: Duration) -> Vec<f64> {
    println!(
        "\n{figure}: latencies in ms at {RATE}/s, {SLOW_CONNECTIONS} connections; each response after {DELAY:?}, \
         a stall of {stall:?} every {EVERY:?}"
    );
    print!("{:<28}", "");
    QUANTILES.iter().for_each(|(name, _)| print!("{name:>9}"));
    println!("{:>9}", "max");
    let truth = expected(stall);
    show("true", &truth);
    let open = ["-R".to_owned(), RATE.to_string()];
    let wrk2 = std::env::var_os("WRK2").map(Into::into).or_else(|| find("wrk2"));
    let mut errors = Vec::new();
    for pair in 1..=size.slow_pairs {
        // One server for both, so that its stalls come at the same pace.
        let server = slow_server(cpus, stall);
        let ours = ours_slow(&server, cpus, size, &open);
        show(&format!("loadgen, open loop, {pair}"), &ours);
        errors.push(error(&ours, &truth));
        if let Some(wrk2) = &wrk2 {
            let theirs = wrk2_ms(wrk2, &server, cpus, size.slow_leg);
            show(&format!("wrk2, {pair}"), &theirs);
            show("  loadgen ÷ wrk2", &std::array::from_fn(|index| ours[index] / theirs[index]));
        }
    }
    let server = slow_server(cpus, stall);
    show("loadgen, closed loop", &ours_slow(&server, cpus, size, &["--closed".to_owned()]));
    if wrk2.is_none() {
        println!("wrk2 skipped: there is none in PATH, and WRK2 is not set");
    }
    errors
}

/// A server that is slow in the known way, past its first period.
fn slow_server(cpus: Cpus, stall: Duration) -> Server {
    let words = |name: &str, time: Duration| [name.to_owned(), format!("{}ms", time.as_millis())];
    let mut flags = words("--delay", DELAY).to_vec();
    if !stall.is_zero() {
        flags.extend([words("--stall", stall), words("--every", EVERY)].concat());
    }
    let server = Server::start(cpus, &flags);
    let _ = ours(&server, cpus, WARM_UP, &["--closed".to_owned()]);
    server
}

/// What each quantile is, in ms, if requests come evenly over a period; the last is the maximum.
fn expected(stall: Duration) -> [f64; QUANTILES.len() + 1] {
    const STEPS: u32 = 1_000_000;
    let (delay_ms, stall_ms, every_ms) =
        (DELAY.as_secs_f64() * 1e3, stall.as_secs_f64() * 1e3, EVERY.as_secs_f64() * 1e3);
    let latency_ms = |step: u32| {
        let due_ms = (every_ms * f64::from(step) / f64::from(STEPS) + delay_ms) % every_ms;
        delay_ms + (stall_ms - due_ms).max(0.0)
    };
    let mut all: Vec<f64> = (0..STEPS).map(latency_ms).collect();
    all.sort_by(f64::total_cmp);
    let at = |quantile: f64| all[((quantile * f64::from(STEPS)) as usize).min(all.len() - 1)];
    std::array::from_fn(|index| at(QUANTILES.get(index).map_or(1.0, |(_, quantile)| *quantile)))
}

fn ours_slow(server: &Server, cpus: Cpus, size: &Size, flags: &[String]) -> [f64; QUANTILES.len() + 1] {
    let flags = [flags, &["-c".to_owned(), SLOW_CONNECTIONS.to_string()]].concat();
    let (record, _) = ours(server, cpus, size.slow_leg, &flags);
    let all = &record["latency_ns"]["all"];
    std::array::from_fn(|index| {
        let name = QUANTILES.get(index).map_or("max", |(name, _)| *name);
        all[name].as_f64().expect("a quantile") / 1e6
    })
}

fn wrk2_ms(wrk2: &Path, server: &Server, cpus: Cpus, leg: Duration) -> [f64; QUANTILES.len() + 1] {
    let (rate, connections) = (RATE.to_string(), SLOW_CONNECTIONS.to_string());
    let length = seconds(leg + WRK2_CALIBRATION);
    let mut command = Command::new(wrk2);
    command.args(["-t", "1", "-c", &connections, "-R", &rate, "-d", &length, "--latency", &server.url]);
    let text = run_on(cpus.generator, &mut command).text;
    let row = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).expect("a quantile");
        wrk2_time_ms(line.trim())
    };
    let names = ["50.000%", "75.000%", "90.000%", "99.000%", "99.900%", "100.000%"];
    names.map(row)
}

/// `1.23us`, `4.56ms` or `7.89s` in ms.
fn wrk2_time_ms(text: &str) -> f64 {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).expect("a unit");
    let value: f64 = text[..split].parse().expect("a number");
    match &text[split..] {
        "us" => value / 1e3,
        "ms" => value,
        "s" => value * 1e3,
        other => panic!("{other} is no unit that is expected here"),
    }
}

fn show(name: &str, values: &[f64; QUANTILES.len() + 1]) {
    print!("{name:<28}");
    values.iter().for_each(|value| print!("{value:>9.2}"));
    println!();
}

/// How far the quantiles up to p99 are from the true ones, at most, as a share. Those beyond are shown and not
/// checked: in a run of some seconds they are single hiccups of the machine.
fn error(measured: &[f64; QUANTILES.len() + 1], truth: &[f64; QUANTILES.len() + 1]) -> f64 {
    let error = |(measured, truth): (&f64, &f64)| (measured / truth - 1.0).abs();
    measured.iter().zip(truth).take(CHECKED).map(error).fold(0.0, f64::max)
}

/// A program in PATH.
fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}
