//! What the cores acquire from the system, at many sizes, as an ordinary user with little lockable memory.
//!
//! The kernel counts locked memory per user, so each case is a process of its own, under a user id that
//! nobody else uses. The environment tells the process its case; it prints the result on
//! standard output. Changing the user needs root.

use std::process::Command;
use std::thread;

use rustix::process::{Resource, geteuid, getrlimit};
use stampede_net::doctor::limits::MEMLOCK_PER_CORE_BYTES;
use stampede_net::doctor::probe::usable_cpus;
use stampede_net::runtime::{Cores, NoTransport};
use stampede_net::settings::TransportChoice;
use stampede_testkit::{Missing, Need, skip};

use crate::server::sandbox::{User, become_user, stranger};
use crate::server::wait_for;

/// Tells the process its case; without it there is nothing to do.
const CASE: &str = "ACQUIRE_CASE";
/// Processes at the same time: a busy kernel is slow to release memory.
const TOGETHER: usize = 12;
const SIZES: [usize; 5] = [1, 2, 4, 16, 64];
/// What Debian and systemd let a user lock.
const DEBIAN_BYTES: u64 = 8 << 20;
/// The least that the executor accepts, whatever the kernel charges.
const EXECUTOR_BYTES: u64 = 512 << 10;

/// The case of a process, and how much memory it may lock.
#[derive(Clone, Copy)]
struct Case {
    choice: TransportChoice,
    cores: usize,
    memlock_bytes: u64,
}

impl Case {
    /// The result of the case in a process of its own, line by line.
    fn said(&self) -> Vec<String> {
        let name = TransportChoice::ALL.into_iter().find(|(_, choice)| *choice == self.choice).unwrap().0;
        let case = format!("{name} {} {} {}", self.cores, self.memlock_bytes, stranger());
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", "acquire::one_case", "--nocapture"]).env(CASE, &case).output();
        let output = output.unwrap();
        let [out, err] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        let well = output.status.success() && !err.contains("panicked");
        assert!(well, "{case}: {:?} {out} {err}", output.status);
        out.lines().filter_map(|line| line.split_once("came: ")).map(|(_, came)| came.to_owned()).collect()
    }
}

/// The process of a case. It becomes an ordinary user here, because only root may be able to reach its
/// program. Then it acquires cores a few times, leaves nothing behind each time, and prints the result.
#[test]
fn one_case() {
    let Ok(case) = std::env::var(CASE) else { return };
    let words: Vec<&str> = case.split(' ').collect();
    let choice = TransportChoice::ALL.into_iter().find(|(name, _)| *name == words[0]).unwrap().1;
    let (cores, memlock_bytes): (usize, u64) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    let number = words[3].parse().unwrap();
    become_user(User { number, memlock_bytes, threads_max: libc::RLIM_INFINITY }).unwrap();
    // A process that changed its user may otherwise not inspect itself.
    // SAFETY: sets a flag of this process.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
    let cpus: Vec<usize> = usable_cpus().into_iter().cycle().take(cores).collect();
    let before = files();
    // If there was room once, there must be room the second time.
    let rounds = if memlock_bytes >= advised(cores) { 2 } else { 1 };
    for _ in 0..rounds {
        let outcome = Cores::acquire(choice, &cpus);
        println!("came: {}", tell(&outcome));
        let has_rings = outcome.as_ref().is_ok_and(|cores| cores.transport().name() == "ring");
        assert_eq!(!rings().is_empty(), has_rings, "{:?}", rings());
        drop(outcome);
        assert_eq!(files(), before, "left behind");
    }
    // The harness's own two; a thread disappears only some time after it was joined.
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    wait_for("all other threads to end", || (threads() <= 2).then_some(()));
}

fn tell(outcome: &Result<Cores, NoTransport>) -> String {
    match outcome {
        Ok(cores) => {
            let why = cores.without_ring().map_or(String::new(), |lack| format!(" since {lack}"));
            format!("{}{why}", cores.transport().name())
        }
        Err(none) => format!("refused: {none}"),
    }
}

/// The open descriptors of this process; sockets only by kind.
fn files() -> Vec<String> {
    let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    let mut targets: Vec<String> = targets.map(|target| target.to_string_lossy().into_owned()).collect();
    targets.sort();
    targets
}

/// The rings among them.
fn rings() -> Vec<String> {
    files().into_iter().filter(|target| target.contains("[io_uring]")).collect()
}

/// Whether users can be changed and rings are available.
fn can_be_tried() -> bool {
    match Cores::acquire(TransportChoice::Ring, &usable_cpus()[..1]) {
        Ok(_) if geteuid().is_root() => return true,
        Ok(_) => skip(&Missing::new(Need::Root, "no process can run as another user")),
        Err(none) => skip(&Missing::new(Need::Ring, none)),
    }
    false
}

/// The advised limit for so many cores.
fn advised(cores: usize) -> u64 {
    (MEMLOCK_PER_CORE_BYTES * cores as u64).max(EXECUTOR_BYTES)
}

/// Every useful combination of size, limit and choice, in parallel.
fn all_cases() -> Vec<(Case, Vec<String>)> {
    let cases = SIZES.into_iter().flat_map(|cores| {
        let case = move |choice, memlock_bytes| Case { choice, cores, memlock_bytes };
        let limits = [64 << 10, EXECUTOR_BYTES - 1, EXECUTOR_BYTES, 600 << 10, advised(cores), DEBIAN_BYTES];
        let with_rings = limits
            .map(|bytes| [TransportChoice::Ring, TransportChoice::Auto].map(|choice| case(choice, bytes)));
        with_rings.into_iter().flatten().chain([case(TransportChoice::Epoll, 0)])
    });
    let own = getrlimit(Resource::Memlock).maximum.unwrap_or(u64::MAX);
    let mut cases: Vec<Case> = cases.collect();
    cases.iter_mut().for_each(|case| case.memlock_bytes = case.memlock_bytes.min(own));
    let together = |cases: &[Case]| {
        thread::scope(|scope| {
            let cases: Vec<_> = cases.iter().map(|case| (*case, scope.spawn(|| case.said()))).collect();
            cases.into_iter().map(|(case, thread)| (case, thread.join().unwrap())).collect::<Vec<_>>()
        })
    };
    cases.chunks(TOGETHER).flat_map(together).collect()
}

#[test]
fn acquire_at_every_size_gives_a_transport_or_a_reason() {
    if !can_be_tried() {
        return;
    }
    for (Case { choice, cores, memlock_bytes }, said) in all_cases() {
        let what = format!("{choice:?}, {cores} core(s), {memlock_bytes} bytes: {said:?}");
        println!("{what}");
        assert!(!said.is_empty(), "{what}");
        for said in said {
            let names_the_lack =
                said.contains("core ") && said.contains("Cannot allocate memory (os error 12)");
            let is_right = match choice {
                TransportChoice::Epoll => said == "epoll",
                _ if said == "ring" => memlock_bytes >= EXECUTOR_BYTES,
                _ if memlock_bytes >= advised(cores) => false,
                TransportChoice::Ring => said.starts_with("refused: transport ring") && names_the_lack,
                TransportChoice::Auto => said.starts_with("epoll since") && names_the_lack,
            };
            assert!(is_right, "{what}");
        }
    }
}

/// How much of a user's lockable memory a core's rings take, to the next 16 KiB. The figures of docs/CONFIG.md
/// come from here.
#[test]
#[ignore = "measures, and judges nothing"]
fn acquire_measures_what_the_rings_take() {
    let own = getrlimit(Resource::Memlock).maximum.unwrap_or(u64::MAX);
    for cores in SIZES {
        if advised(cores) > own {
            println!("{cores} core(s): not to be tried with {} KiB", own >> 10);
            continue;
        }
        let fits = |bytes: u64| {
            let case = Case { choice: TransportChoice::Ring, cores, memlock_bytes: bytes };
            case.said().iter().all(|said| said == "ring")
        };
        let (mut too_little, mut enough) = (EXECUTOR_BYTES - 1, advised(cores));
        while enough - too_little > 16 << 10 {
            let middle = too_little.midpoint(enough);
            *(if fits(middle) { &mut enough } else { &mut too_little }) = middle;
        }
        println!("{cores} core(s): {} KiB", enough >> 10);
    }
}
