//! One leg: the generator on its processor against a server on another, and what the
//! server's process spent meanwhile.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use stampede_loadgen::engine::{self, Mode, RunConfig, Tally};
use stampede_loadgen::meaning::Code;
use stampede_loadgen::workload::Workload;

/// Connections of a leg, unless a row says otherwise.
pub(crate) const CONNECTIONS: u32 = 64;
/// Share of a leg's requests that may end otherwise than expected before it counts as failed.
const ODD_SHARE_MAX: f64 = 0.001;
/// How long a process is watched to see whether it rests, and how long that may take.
const REST_LOOK: Duration = Duration::from_millis(50);
const REST_WAIT_MAX: Duration = Duration::from_secs(20);

/// Which processor serves and which one asks; the same where there is only one.
#[derive(Clone, Copy)]
pub(crate) struct Cpus {
    pub(crate) server: usize,
    pub(crate) generator: usize,
}

impl Cpus {
    pub(crate) fn of_this_machine() -> Self {
        let allowed = sched_getaffinity(None).expect("the processors of this process");
        let mut all = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
        let server = all.next().expect("a processor");
        Self { server, generator: all.next().unwrap_or(server) }
    }
}

/// Does something on one processor; threads and processes that it starts stay there.
pub(crate) fn on_cpu<T: Send>(cpu: usize, work: impl FnOnce() -> T + Send) -> T {
    let pinned = || {
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one).expect("pinned");
        work()
    };
    std::thread::scope(|scope| match scope.spawn(pinned).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Starts a process on one processor.
pub(crate) fn spawn_on(cpu: usize, command: &mut Command) -> Child {
    on_cpu(cpu, || command.spawn().expect("started"))
}

/// Lets this process and those that it starts have as many descriptors as they may.
pub(crate) fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("a soft limit may be raised");
}

/// How many descriptors a process may have.
pub(crate) fn descriptors() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What is sent in one leg.
pub(crate) struct Leg {
    config: RunConfig,
    expected: Code,
}

impl Leg {
    /// A closed loop of so many connections: each asks again as soon as it has its answer, which is to be
    /// `expected`.
    pub(crate) fn closed(addr: SocketAddr, workload: Workload, expected: Code, during: Duration) -> Self {
        let config = RunConfig::closed(addr, workload, 1);
        let (connections, duration, requests) = (CONNECTIONS, Some(during), None);
        let config = RunConfig { connections, duration, requests, keep_history: false, ..config };
        Self { config, expected }
    }

    /// So many requests, over however long that takes.
    pub(crate) fn count(addr: SocketAddr, workload: Workload, expected: Code, requests: u64) -> Self {
        let leg = Self::closed(addr, workload, expected, Duration::MAX);
        let (duration, requests) = (None, Some(requests));
        Self { config: RunConfig { duration, requests, ..leg.config }, ..leg }
    }

    /// The same over so many connections.
    pub(crate) fn over(self, connections: u32) -> Self {
        Self { config: RunConfig { connections, ..self.config }, ..self }
    }

    /// The same with so many requests under way on each connection.
    pub(crate) fn pipelined(self, pipeline: u32) -> Self {
        Self { config: RunConfig { pipeline, ..self.config }, ..self }
    }

    /// The same with a connection for each request.
    pub(crate) fn short(self) -> Self {
        Self { config: RunConfig { keep_alive: false, ..self.config }, ..self }
    }

    /// The same in the open loop: the clock makes so many requests due per second.
    pub(crate) fn at_rate(self, per_s: f64) -> Self {
        Self { config: RunConfig { mode: Mode::open(per_s), ..self.config }, ..self }
    }

    /// The same until `stop` is set.
    pub(crate) fn until(self, stop: Arc<AtomicBool>) -> Self {
        Self { config: RunConfig { stop, ..self.config }, ..self }
    }

    /// Runs it on the generator's processor.
    pub(crate) fn run(&self, cpus: Cpus) -> Ran {
        let outcome = on_cpu(cpus.generator, || engine::run(&self.config).expect("a run"));
        assert_eq!(outcome.gave_up, None);
        let ran = Ran { tally: outcome.tally };
        let odd = ran.answers() - ran.tally.count(self.expected).min(ran.answers());
        let allowed = (ran.answers() as f64 * ODD_SHARE_MAX) as u64;
        assert!(odd <= allowed, "{odd} of {} were not {:?}: {}", ran.answers(), self.expected, ran.codes());
        ran
    }
}

/// What came of a leg.
pub(crate) struct Ran {
    pub(crate) tally: Tally,
}

impl Ran {
    /// Requests that were answered, or at least sent.
    pub(crate) fn answers(&self) -> u64 {
        self.tally.total() - self.tally.count(Code::Unsent)
    }
    pub(crate) fn per_s(&self) -> f64 {
        self.answers() as f64 / (self.tally.elapsed_ns() as f64 / 1e9)
    }
    /// A quantile of the latency, in microseconds.
    pub(crate) fn latency_us(&self, quantile: f64) -> f64 {
        self.tally.latency_all().value_at_quantile(quantile) as f64 / 1e3
    }
    /// p99 of how late the generator itself was, in microseconds.
    pub(crate) fn lag_us(&self) -> f64 {
        self.tally.lag.value_at_quantile(0.99) as f64 / 1e3
    }
    fn codes(&self) -> String {
        let seen = Code::ALL.iter().filter(|&&code| self.tally.count(code) > 0);
        seen.map(|&code| format!("{} {}", code.name(), self.tally.count(code))).collect::<Vec<_>>().join(", ")
    }
}

/// A process that answers requests.
pub(crate) trait Serving {
    /// Its number.
    fn pid(&self) -> u32;

    /// CPU microseconds that it spent per request of this leg, and what came of the leg.
    fn cpu_us(&self, cpus: Cpus, leg: &Leg) -> (f64, Ran) {
        let before = cpu_ns(self.pid());
        let ran = leg.run(cpus);
        let spent = cpu_ns(self.pid()) - before;
        (spent as f64 / 1e3 / ran.answers() as f64, ran)
    }

    /// Waits until it does next to nothing.
    fn come_to_rest(&self) {
        let begin = Instant::now();
        loop {
            let before = cpu_ns(self.pid());
            std::thread::park_timeout(REST_LOOK);
            if Duration::from_nanos(cpu_ns(self.pid()) - before) < REST_LOOK / 20 {
                return;
            }
            assert!(begin.elapsed() < REST_WAIT_MAX, "the server does not come to rest");
        }
    }
}

/// Where the kernel lists the threads of a process.
pub(crate) fn tasks(pid: u32) -> Vec<PathBuf> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the threads of the server");
    threads.map(|thread| thread.expect("a thread").path()).collect()
}

/// What all threads of a process have spent, in nanoseconds: user and system, as in
/// `/proc/PID/stat`, but not rounded to ticks.
fn cpu_ns(pid: u32) -> u64 {
    tasks(pid).iter().map(|task| on_cpu_ns(&task.join("schedstat"))).sum()
}

fn on_cpu_ns(schedstat: &Path) -> u64 {
    let text = std::fs::read_to_string(schedstat).expect("a kernel with schedstat");
    text.split(' ').next().and_then(|first| first.parse().ok()).expect("nanoseconds")
}
