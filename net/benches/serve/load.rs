//! One leg: the generator on its processor against a server on another, and what the
//! server's process spent meanwhile.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};
use stampede_loadgen::bare::{ANSWER_BYTES, Bare};
use stampede_loadgen::engine::{self, Mode, RunConfig, Tally};
use stampede_loadgen::workload::Workload;

use crate::server::ServerProcess;

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

/// Pins the calling thread, and the threads that it starts.
fn pin(cpu: usize) {
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).expect("pinned");
}

/// What is sent in one leg.
pub(crate) struct Leg {
    config: RunConfig,
}

/// What came of it.
pub(crate) struct Ran {
    pub(crate) tally: Tally,
}

impl Leg {
    /// A closed loop: every connection asks again as soon as it has its answer.
    pub(crate) fn closed(addr: SocketAddr, workload: Workload, connections: u32, during: Duration) -> Self {
        let config = RunConfig::closed(addr, workload, 1);
        let (duration, requests) = (Some(during), None);
        Self { config: RunConfig { connections, duration, requests, keep_history: false, ..config } }
    }

    /// So many requests, over however long that takes.
    pub(crate) fn count(addr: SocketAddr, workload: Workload, requests: u64) -> Self {
        let config = RunConfig::closed(addr, workload, requests);
        Self { config: RunConfig { connections: 64, keep_history: false, ..config } }
    }

    /// At a rate, until `stop` is set.
    pub(crate) fn at_rate(self, per_s: f64, stop: std::sync::Arc<AtomicBool>) -> Self {
        Self { config: RunConfig { mode: Mode::open(per_s), stop, ..self.config } }
    }

    /// Runs it on the generator's processor.
    pub(crate) fn run(&self, cpus: Cpus) -> Ran {
        let outcome = std::thread::scope(|scope| {
            let run = || {
                pin(cpus.generator);
                engine::run(&self.config).expect("a run")
            };
            scope.spawn(run).join().expect("no panic")
        });
        assert_eq!(outcome.gave_up, None);
        Ran { tally: outcome.tally }
    }
}

impl Ran {
    pub(crate) fn per_s(&self) -> f64 {
        self.tally.total() as f64 / (self.tally.elapsed_ns() as f64 / 1e9)
    }
    pub(crate) fn p50_us(&self) -> f64 {
        self.tally.latency_all().value_at_quantile(0.5) as f64 / 1e3
    }
}

/// CPU microseconds that the server's process spent per request of this leg.
pub(crate) fn cpu_us(server: &ServerProcess, cpus: Cpus, leg: &Leg) -> f64 {
    let before = cpu_ns(&server.tasks());
    let ran = leg.run(cpus);
    per_request(cpu_ns(&server.tasks()) - before, &ran)
}

/// The same for a server that does nothing but answer.
pub(crate) fn bare_cpu_us(cpus: Cpus, during: Duration) -> f64 {
    let bare = Bare::bind(([127, 0, 0, 1], 0).into(), ANSWER_BYTES).expect("a free port");
    let addr = bare.addr().expect("bound");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            pin(cpus.server);
            let own = format!("/proc/self/task/{}/schedstat", gettid().as_raw_nonzero());
            bare.serve(&stop).expect("served");
            on_cpu_ns(Path::new(&own))
        });
        let ran = Leg::closed(addr, Workload::get("/"), 64, during).run(cpus);
        stop.store(true, Ordering::Relaxed);
        per_request(server.join().expect("no panic"), &ran)
    })
}

fn per_request(cpu_ns: u64, ran: &Ran) -> f64 {
    cpu_ns as f64 / 1e3 / ran.tally.total() as f64
}

/// What all threads of a process have spent, in nanoseconds: user and system, as in
/// `/proc/PID/stat`, but not rounded to ticks.
fn cpu_ns(tasks: &Path) -> u64 {
    let threads = std::fs::read_dir(tasks).expect("the threads of the server");
    threads.map(|thread| on_cpu_ns(&thread.expect("a thread").path().join("schedstat"))).sum()
}

fn on_cpu_ns(schedstat: &Path) -> u64 {
    let text = std::fs::read_to_string(schedstat).expect("a kernel with schedstat");
    text.split(' ').next().and_then(|first| first.parse().ok()).expect("nanoseconds")
}
