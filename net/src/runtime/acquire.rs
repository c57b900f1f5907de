//! Acquires what the transport needs on all cores, before anything listens, and so chooses the transport.
//!
//! The only place that chooses. Every core's thread is started, gets its ring or its epoll instance, and then
//! waits for its work ([`IdleCore::start`]). The choice is made only when all of them have what they need, so
//! that no core can lack memory or descriptors while others already serve. Nothing is acquired only to try it:
//! a ring that was made and freed would count against the user's locked memory for a while longer. Without the
//! ring, no call of io_uring is made at all.
//!
//! ```text
//! auto: a ring on each core? ── all ──▶ ring         ring: the same, without a fallback
//!             │ one lacks it: all threads end
//!             ▼
//!       epoll on each core?  ── all ──▶ epoll, and why
//! ```

use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Once;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{
    CpuSet, disable_transparent_huge_pages, sched_setaffinity, transparent_huge_pages_are_disabled,
};

use super::core_loop::CoreLoop;
use super::kernel::Kernel;
use super::limits::{START_MAX, TICK_MS};
use super::listen::ListenSocket;
use super::{epoll, ring};
use crate::engine::home::Home;
use crate::settings::TransportChoice;

/// Name of the cores' threads, before their number.
const CORE: &str = "stampede-core";
/// Name of the threads that only wait for the database.
const WAITING_CORE: &str = "stampede-wait";
/// Entries of each of the executor's three rings. We do not use them, and newer kernels charge them to the
/// user's locked memory.
const EXECUTOR_RING_ENTRIES: usize = 16;
/// Memory that the executor registers for file I/O, which cores do not do; it takes at least 64 KiB.
const EXECUTOR_IO_BYTES: usize = 16 << 10;
/// How long glommio may run a task before it looks for others: practically for ever. There is one task, and if
/// its time is over *before it has begun*, the executor concludes that there is nothing to do and never wakes
/// (glommio 0.9, `run_task_queues`).
const PREEMPT_AFTER: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// The executor refuses a lower limit on locked memory, whatever the kernel charges.
const EXECUTOR_MEMLOCK_BYTES: u64 = 512 << 10;
/// How long to wait for locked memory: the kernel frees a server's only some time after that server has
/// ended, and a restart must not fail for that.
const MEMORY_PATIENCE: Duration = Duration::from_secs(5);
/// Time between two attempts to get it.
const MEMORY_RETRY: Duration = Duration::from_millis(20);

/// How connections are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// The private ring.
    Ring,
    /// Plain epoll.
    Epoll,
}

impl Transport {
    /// The name, as settings and the log have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Epoll => "epoll",
        }
    }
}

/// The running thread of a core; the error says why it could not go on.
pub type CoreThread = JoinHandle<io::Result<()>>;

/// What the system did not give to a core.
#[derive(Debug)]
pub struct Lack {
    /// The core, counted from 0.
    pub core: usize,
    /// What it was.
    pub part: Part,
    /// The system's error.
    pub error: io::Error,
}

/// What a core needs of the system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// A thread.
    Thread,
    /// The ring for its sockets.
    Ring,
    /// The executor that polls it.
    Executor,
    /// An epoll instance.
    Epoll,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Thread => "its thread",
            Part::Ring => "its ring",
            Part::Executor => "its executor's rings",
            Part::Epoll => "its epoll instance",
        };
        write!(f, "core {}, {part}: {}", self.core, self.error)
    }
}

/// No transport is available on all cores.
#[derive(Debug)]
pub struct NoTransport {
    /// Why not the ring; `None` = it was not wanted.
    pub ring: Option<Lack>,
    /// Why not epoll; `None` = it was not wanted.
    pub epoll: Option<Lack>,
}

impl std::error::Error for NoTransport {}

impl fmt::Display for NoTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacks = [("transport ring", &self.ring), ("transport epoll", &self.epoll)];
        let lacks = lacks.iter().filter_map(|(name, lack)| lack.as_ref().map(|lack| (name, lack)));
        for (index, (name, lack)) in lacks.enumerate() {
            let comma = if index == 0 { "" } else { "; " };
            write!(f, "{comma}{name} is not available ({lack})")?;
        }
        Ok(())
    }
}

/// What a core has to do.
struct Work {
    home: Box<dyn FnOnce() -> Home + Send>,
    sockets: Vec<ListenSocket>,
    started: SyncSender<io::Result<()>>,
}

/// A core's thread that has what it needs and waits for its work. Dropping it ends the thread.
pub struct IdleCore {
    inbox: Option<SyncSender<Work>>,
    thread: Option<CoreThread>,
}

impl IdleCore {
    /// Starts serving; when this returns, the core serves. The thread ends when the engine drains and its last
    /// connection is closed, or when the engine closes.
    ///
    /// # Errors
    /// No descriptor is left for the event that wakes the core.
    pub fn start(
        mut self,
        sockets: Vec<ListenSocket>,
        home: impl FnOnce() -> Home + Send + 'static,
    ) -> io::Result<CoreThread> {
        let gone = || io::Error::other("the core's thread has ended before it began");
        let (started, answer) = sync_channel(1);
        let inbox = self.inbox.take().ok_or_else(gone)?;
        inbox.send(Work { home: Box::new(home), sockets, started }).map_err(|_| gone())?;
        match answer.recv_timeout(START_MAX) {
            Ok(answer) => answer?,
            Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = START_MAX.as_secs();
                let error = format!("its thread has not begun within {seconds} s");
                return Err(io::Error::new(io::ErrorKind::TimedOut, error));
            }
        }
        self.thread.take().ok_or_else(gone)
    }
}

impl Drop for IdleCore {
    fn drop(&mut self) {
        // Without an inbox the thread ends.
        drop(self.inbox.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// All cores, with what they need of the system.
pub struct Cores {
    transport: Transport,
    without_ring: Option<Lack>,
    cores: Vec<IdleCore>,
}

impl Cores {
    /// One core on each of these processors. Only here io_uring is set up.
    ///
    /// # Errors
    /// What is missing for each allowed transport.
    pub fn acquire(choice: TransportChoice, cpus: &[usize]) -> Result<Self, NoTransport> {
        let without_ring = if choice == TransportChoice::Epoll {
            None
        } else {
            match start_threads(Transport::Ring, cpus, CORE) {
                Ok(cores) => return Ok(Self { transport: Transport::Ring, without_ring: None, cores }),
                Err(lack) => Some(lack),
            }
        };
        if choice == TransportChoice::Ring {
            return Err(NoTransport { ring: without_ring, epoll: None });
        }
        match start_threads(Transport::Epoll, cpus, CORE) {
            Ok(cores) => Ok(Self { transport: Transport::Epoll, without_ring, cores }),
            Err(lack) => Err(NoTransport { ring: without_ring, epoll: Some(lack) }),
        }
    }

    /// As many again, on epoll, for an engine that only waits: the cores that will sell have their rings already,
    /// and there may be no memory for as many more.
    ///
    /// # Errors
    /// What is missing.
    pub fn acquire_to_wait(cpus: &[usize]) -> Result<Self, NoTransport> {
        match start_threads(Transport::Epoll, cpus, WAITING_CORE) {
            Ok(cores) => Ok(Self { transport: Transport::Epoll, without_ring: None, cores }),
            Err(lack) => Err(NoTransport { ring: None, epoll: Some(lack) }),
        }
    }

    /// Their transport.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// Why they do not use the ring, if it was preferred.
    pub const fn without_ring(&self) -> Option<&Lack> {
        self.without_ring.as_ref()
    }

    /// Each of them, in the order of the processors.
    pub fn into_idle_cores(self) -> Vec<IdleCore> {
        self.cores
    }
}

/// Whether a core has what it needs.
type Acquired = Sender<Result<(), Lack>>;

/// A thread per processor, with all that this transport needs; if one lacks something, all are ended.
fn start_threads(transport: Transport, cpus: &[usize], name: &str) -> Result<Vec<IdleCore>, Lack> {
    let until = Instant::now() + MEMORY_PATIENCE;
    let _small_pages = (transport == Transport::Ring).then(SmallPages::begin);
    let all: Vec<(usize, usize)> = cpus.iter().copied().enumerate().collect();
    // The first executor of a process probes the kernel, and panics if it lacks memory for that: so it is made
    // before other cores take any.
    let (first, others) = all.split_at(all.len().min(1));
    let mut cores = together(transport, until, first, name)?;
    cores.extend(together(transport, until, others, name)?);
    Ok(cores)
}

/// Some of these threads, at the same time.
fn together(
    transport: Transport,
    until: Instant,
    cores: &[(usize, usize)],
    name: &str,
) -> Result<Vec<IdleCore>, Lack> {
    let mut begun = Vec::with_capacity(cores.len());
    for &(core, cpu) in cores {
        let (inbox, work) = sync_channel(1);
        let (acquired, answer) = channel();
        let name = format!("{name}-{core}");
        let run = move || {
            pin(cpu);
            match transport {
                Transport::Ring => on_ring(core, until, &acquired, &work),
                Transport::Epoll => on_epoll(core, &acquired, &work),
            }
        };
        let thread = std::thread::Builder::new().name(name).spawn(run);
        let thread = thread.map_err(|error| Lack { core, part: Part::Thread, error })?;
        begun.push((core, IdleCore { inbox: Some(inbox), thread: Some(thread) }, answer));
    }
    // Collected first: all have reported before any of them is dropped.
    let cores = begun.into_iter().map(|(core, idle, answer)| {
        let error = || io::Error::other("the thread has ended before it began");
        answer.recv().unwrap_or_else(|_| Err(Lack { core, part: Part::Thread, error: error() }))?;
        Ok(idle)
    });
    let cores: Vec<Result<IdleCore, Lack>> = cores.collect();
    cores.into_iter().collect()
}

/// While it lives, new memory comes in small pages. The kernel charges what the executor registers by the page:
/// 2 MiB instead of 64 KiB, three times per core.
struct SmallPages {
    before: bool,
}

impl SmallPages {
    fn begin() -> Self {
        // A kernel that does not know of it has no huge pages either.
        let before = transparent_huge_pages_are_disabled().unwrap_or(true);
        if !before {
            let _unknown = disable_transparent_huge_pages(true);
        }
        Self { before }
    }
}

impl Drop for SmallPages {
    fn drop(&mut self) {
        if !self.before {
            let _unknown = disable_transparent_huge_pages(false);
        }
    }
}

/// Pins the calling thread to a processor, where that is permitted: in some containers it is not, and any
/// processor will do.
fn pin(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    if let Err(error) = sched_setaffinity(None, &cpus) {
        tracing::debug!("not pinned to processor {cpu}: {error}");
    }
}

/// Serves on a ring, as the one task of an executor. It never yields: an idle executor sleeps in rings of its
/// own, where nothing of ours would wake it. It waits for its work outside of the executor: one that has run
/// keeps a descriptor for ever (glommio 0.9).
fn on_ring(core: usize, until: Instant, acquired: &Acquired, work: &Receiver<Work>) -> io::Result<()> {
    let (kernel, executor) = match ring_and_executor(core, until) {
        Ok(both) => both,
        Err(lack) => {
            tell(acquired, Err(lack));
            return Ok(());
        }
    };
    tell(acquired, Ok(()));
    work.recv().map_or(Ok(()), |work| executor.run(serve(kernel, work)))
}

fn on_epoll(core: usize, acquired: &Acquired, work: &Receiver<Work>) -> io::Result<()> {
    let kernel = match epoll::Epoll::new() {
        Ok(kernel) => kernel,
        Err(error) => {
            tell(acquired, Err(Lack { core, part: Part::Epoll, error }));
            return Ok(());
        }
    };
    tell(acquired, Ok(()));
    work.recv().map_or(Ok(()), |work| futures_lite::future::block_on(serve(kernel, work)))
}

/// The ring comes first: what a sandbox refuses is then refused to our code, which can report it.
fn ring_and_executor(core: usize, until: Instant) -> Result<(ring::Uring, LocalExecutor), Lack> {
    let lack = |part| move |error| Lack { core, part, error };
    let kernel = patiently(until, ring::Uring::new).map_err(lack(Part::Ring))?;
    let executor = patiently(until, executor).map_err(lack(Part::Executor))?;
    Ok((kernel, executor))
}

/// The thread is pinned already, and cores do no file I/O, for which the executor would start another thread.
/// With these placements it neither reads `/sys` nor starts threads; it would panic where either fails.
fn executor() -> io::Result<LocalExecutor> {
    if getrlimit(Resource::Memlock).current.is_some_and(|bytes| bytes < EXECUTOR_MEMLOCK_BYTES) {
        return Err(io::Error::from_raw_os_error(libc::ENOMEM));
    }
    let builder = LocalExecutorBuilder::new(Placement::Unbound)
        .blocking_thread_pool_placement(PoolPlacement::Custom(Vec::new()))
        .ring_depth(EXECUTOR_RING_ENTRIES)
        .io_memory(EXECUTOR_IO_BYTES)
        .preempt_timer(PREEMPT_AFTER);
    let Some(executor) = quietly(move || builder.make()) else {
        return Err(ring::refusal().unwrap_or_else(|| io::Error::other("the executor cannot start")));
    };
    executor.map_err(|error| match error {
        GlommioError::IoError(error) | GlommioError::EnhancedIoError { source: error, .. } => error,
        error => io::Error::other(error.to_string()),
    })
}

thread_local! {
    /// Whether a panic of this thread is caught as a result and not reported.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The result of foreign code, or `None` if it panics; the panic is not reported.
fn quietly<T>(run: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    outcome.ok()
}

/// Retries for a while if there is no memory.
fn patiently<T>(until: Instant, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && Instant::now() < until => {
                std::thread::sleep(MEMORY_RETRY);
            }
            done => return done,
        }
    }
}

/// Serves, as one task that is polled once.
async fn serve(kernel: impl Kernel, work: Work) -> io::Result<()> {
    let Work { home, sockets, started } = work;
    let core = match CoreLoop::new(kernel, home(), sockets, TICK_MS) {
        Ok(core) => core,
        Err(error) => {
            // If this fails, nobody waits any more.
            drop(started.send(Err(error)));
            return Ok(());
        }
    };
    drop(started.send(Ok(())));
    let ended = core.run().await;
    if let Err(error) = &ended {
        tracing::error!("a core has failed: {error}");
    }
    ended
}

fn tell(acquired: &Acquired, what: Result<(), Lack>) {
    // If this fails, nobody waits any more.
    let _told = acquired.send(what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_foreign_code_is_a_result() {
        assert_eq!(quietly(|| 7), Some(7));
        assert_eq!(quietly(|| -> u32 { panic!("no room") }), None);
        assert!(std::panic::catch_unwind(|| panic!("seen")).is_err() && !QUIET.get());
    }
}
