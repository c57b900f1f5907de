//! Can this machine run the engine with these settings? One finding per check.
//!
//! [`examine`] is pure: it checks a [`Machine`] that [`probe`](probe::probe) has
//! described, so tests can invent machines. It must never change the machine;
//! [`probe::raise_limits`] raises limits before the probe.
//! `stampede doctor` prints every finding, `stampede serve` refuses to start
//! on a [`Level::Fail`].

use std::fmt;
use std::path::PathBuf;

use crate::settings::units::{show_bytes, show_cores};
use crate::settings::{Settings, TransportChoice};

pub mod database;
pub mod probe;
mod wall;

/// What the checks require.
pub mod limits {
    /// Advised locked memory per core, in bytes: what its rings take on the kernel that charges most
    /// (docs/CONFIG.md, Limits of the system), and some more.
    pub const MEMLOCK_PER_CORE_BYTES: u64 = 512 << 10;
    /// The first kernel with everything that glommio calls.
    pub const KERNEL_MIN: (u32, u32) = (5, 8);
    /// Open files besides connections: log, snapshots, Postgres, libraries.
    pub const FILES_RESERVED: u64 = 128;
    /// Files that one core opens for its rings and listeners.
    pub const FILES_PER_CORE: u64 = 16;
    /// Below this many connections it makes no sense to start.
    pub const CONNECTIONS_MIN: u64 = 64;
    /// The queue of connections that wait to be accepted, per listener and core.
    pub const LISTEN_BACKLOG: u32 = 4096;
    /// Segments that a new log allocates before the first order.
    pub const SEGMENTS_FREE_MIN: u64 = 3;
    /// Free disk space that the log leaves to others, in bytes; with less selling pauses.
    pub const FREE_RESERVE_BYTES: u64 = 256 << 20;
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It runs, with the effect that the finding names.
    Warn,
    /// It does not run.
    Fail,
}

/// The result of one check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was checked, in one word.
    pub check: &'static str,
    /// What was found.
    pub problem: String,
    /// The consequence; empty if all is well.
    pub effect: String,
    /// What to do about it; empty if all is well.
    pub remedy: String,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(Level::Ok, check, found, "", "")
    }

    fn new(
        level: Level,
        check: &'static str,
        problem: impl Into<String>,
        effect: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level, check, problem: problem.into(), effect: effect.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        write!(f, "{word:<4}  {:<12}  {}", self.check, self.problem)?;
        if !self.effect.is_empty() {
            write!(f, ": {}. {}", self.effect, self.remedy)?;
        }
        Ok(())
    }
}

/// The result of the attempt to get a ring for each core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uring {
    /// Not attempted (transport = epoll).
    NotAsked,
    /// It works, on all cores.
    Works,
    /// Refused by policy (EPERM); `sysctl` is what `kernel.io_uring_disabled` says.
    Forbidden {
        /// 0 when the setting is absent or allows it.
        sysctl: u32,
    },
    /// The system call does not exist (ENOSYS).
    Missing,
    /// It lacks parts that a core needs.
    TooOld,
    /// No memory was left for the rings of a core.
    NoRoom {
        /// Which one, from 0.
        core: usize,
    },
    /// Another error, by its number.
    Other(i32),
}

/// A resource limit of this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// The present limit; `u64::MAX` = none.
    pub soft: u64,
    /// What it can be raised to.
    pub hard: u64,
}

/// The state of the data directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DirState {
    /// A directory that can be written to.
    Writable,
    /// It does not exist yet, and can be created.
    Creatable,
    /// It cannot be used; the text says why.
    Unusable(String),
}

/// The disk under the data directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    /// The data directory.
    pub dir: DirState,
    /// Whether it is in memory (tmpfs, ramfs).
    pub in_memory: bool,
    /// Bytes that this user may still take.
    pub free_bytes: u64,
    /// Bytes that the directory holds already.
    pub used_bytes: u64,
}

impl Disk {
    /// Whether it cannot be used, so that nothing else about it matters.
    const fn is_unusable(&self) -> bool {
        matches!(self.dir, DirState::Unusable(_))
    }
}

/// All that the checks need to know about a machine.
#[derive(Clone, PartialEq, Debug)]
pub struct Machine {
    /// The kernel's release: `6.1.0-18-amd64`.
    pub kernel: String,
    /// The result of the attempt to get rings.
    pub uring: Uring,
    /// Why epoll is not available; `None` = it is, or was not needed.
    pub no_epoll: Option<String>,
    /// Locked memory, in bytes.
    pub memlock: Limit,
    /// Open files.
    pub nofile: Limit,
    /// The processors that this process may use.
    pub cpus: Vec<usize>,
    /// CPU quota of the container, in processors; `None` = no quota.
    pub cpu_quota: Option<f64>,
    /// The disk under the data directory.
    pub disk: Disk,
    /// The kernel's source of time.
    pub clocksource: Option<String>,
    /// Whether the kernel says that its wall clock is synchronised; `None` = it does not say.
    pub synchronised: Option<bool>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u32>,
    /// `vm.overcommit_memory`.
    pub overcommit: Option<u32>,
}

/// Runs every check for this machine and these settings, in a fixed order.
pub fn examine(machine: &Machine, settings: &Settings) -> Vec<Finding> {
    vec![
        kernel(machine),
        uring(machine.uring, settings),
        memlock(machine, settings),
        epoll(machine, settings),
        nofile(machine.nofile, settings),
        cores(machine, settings),
        data_dir(&machine.disk, settings),
        medium(&machine.disk, settings),
        space(&machine.disk, settings),
        clock(machine.clocksource.as_deref()),
        time(machine.synchronised),
        backlog(machine.somaxconn),
        memory(machine.overcommit),
    ]
}

/// The connections of buyers for which the limit on open files has room, at most `limits.connections`.
/// `serve` lowers that setting to it, and the finding says so.
pub fn connections_fitting(machine: &Machine, settings: &Settings) -> u32 {
    let asked = u64::from(settings.limits.connections);
    machine.nofile.soft.saturating_sub(files_besides(settings)).min(asked) as u32
}

/// The findings that prevent a start, as one line; `None` if there are none.
pub fn refusal(findings: &[Finding]) -> Option<String> {
    let failed = findings.iter().filter(|finding| finding.level == Level::Fail);
    let texts: Vec<String> =
        failed.map(|f| format!("{}: {} ({}). {}", f.check, f.problem, f.effect, f.remedy)).collect();
    (!texts.is_empty()).then(|| texts.join(". "))
}

fn files_besides(settings: &Settings) -> u64 {
    u64::from(settings.limits.admin_connections)
        + limits::FILES_PER_CORE * settings.cores.len() as u64
        + limits::FILES_RESERVED
}

fn kernel(machine: &Machine) -> Finding {
    let mut numbers =
        machine.kernel.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = limits::KERNEL_MIN;
    if version >= limits::KERNEL_MIN {
        return Finding::ok("kernel", format!("Linux {}", machine.kernel));
    }
    Finding::new(
        Level::Fail,
        "kernel",
        format!("Linux {} is older than {major}.{minor}", machine.kernel),
        "it lacks system calls that the engine needs",
        format!("Boot a kernel of {major}.{minor} or newer"),
    )
}

fn uring(uring: Uring, settings: &Settings) -> Finding {
    let (problem, remedy) = match uring {
        Uring::NotAsked => return Finding::ok("io_uring", "not needed (transport = epoll)"),
        Uring::Works => {
            let cores = settings.cores.len();
            return Finding::ok("io_uring", format!("works, rings for {cores} core(s) were made"));
        }
        Uring::NoRoom { .. } => return Finding::ok("io_uring", "available, see memlock"),
        Uring::Forbidden { sysctl } if sysctl > 0 => (
            format!("switched off by the setting kernel.io_uring_disabled = {sysctl}"),
            "Run: sysctl -w kernel.io_uring_disabled=0".to_owned(),
        ),
        Uring::Forbidden { .. } => (
            "forbidden (EPERM), all or a part of it, probably by a seccomp profile such as Docker's default one".to_owned(),
            "Allow io_uring_setup, io_uring_enter and io_uring_register in the profile (Docker: --security-opt seccomp=FILE, or seccomp=unconfined to try it)".to_owned(),
        ),
        Uring::Missing => (
            "missing (ENOSYS): the kernel was built without it, or a sandbox or a seccomp profile hides it".to_owned(),
            "Use a kernel with CONFIG_IO_URING, outside of gVisor and similar sandboxes".to_owned(),
        ),
        Uring::TooOld => (
            "lacks features that a core needs, such as repeating timers (Linux 6.4)".to_owned(),
            "Boot a newer kernel".to_owned(),
        ),
        Uring::Other(errno @ (libc::EMFILE | libc::ENFILE)) => (
            format!("refused ({})", std::io::Error::from_raw_os_error(errno)),
            "Raise the limit on open files: LimitNOFILE (systemd), --ulimit nofile (Docker)".to_owned(),
        ),
        Uring::Other(errno) => (
            format!("refused ({})", std::io::Error::from_raw_os_error(errno)),
            "Look into the kernel's log".to_owned(),
        ),
    };
    without_ring("io_uring", problem, &remedy, settings)
}

/// The finding when there is no ring: a failure if the settings insist on it, otherwise epoll is used.
fn without_ring(check: &'static str, problem: String, remedy: &str, settings: &Settings) -> Finding {
    match settings.transport {
        TransportChoice::Ring => {
            let remedy = format!("{remedy}, or choose transport = auto");
            Finding::new(Level::Fail, check, problem, "transport = ring cannot start", remedy)
        }
        _ => {
            let effect = "transport epoll is used, which costs more CPU per request";
            Finding::new(Level::Warn, check, problem, effect, remedy)
        }
    }
}

fn memlock(machine: &Machine, settings: &Settings) -> Finding {
    let (limit, cores) = (machine.memlock.soft, settings.cores.len());
    let shown = if limit == u64::MAX { "unlimited".to_owned() } else { show_bytes(limit) };
    let core = match machine.uring {
        Uring::NoRoom { core } => core,
        Uring::Works => {
            return Finding::ok("memlock", format!("{shown}, enough for the rings of {cores} core(s)"));
        }
        _ => return Finding::ok("memlock", "none needed without io_uring"),
    };
    if limit == u64::MAX {
        let problem = format!("no memory is left for the rings of core {core}, of {cores} core(s)");
        let remedy = "Give the machine or its control group more memory";
        return without_ring("memlock", problem, remedy, settings);
    }
    let advised = limits::MEMLOCK_PER_CORE_BYTES * cores as u64;
    let problem = format!(
        "{shown} of memory may be locked, by all processes of this user together, and there is no room left \
         for the rings of core {core}, of {cores} core(s)"
    );
    let remedy = if limit < advised {
        format!("Set LimitMEMLOCK={advised} (systemd), --ulimit memlock={advised} (Docker)")
    } else {
        "Other processes of this user hold the rest: raise LimitMEMLOCK (systemd), --ulimit memlock (Docker), or give this one a user of its own".to_owned()
    };
    without_ring("memlock", problem, &remedy, settings)
}

fn epoll(machine: &Machine, settings: &Settings) -> Finding {
    match &machine.no_epoll {
        None if matches!(machine.uring, Uring::Works) => Finding::ok("epoll", "not needed beside io_uring"),
        None if settings.transport == TransportChoice::Ring => Finding::ok("epoll", "not asked for"),
        None => Finding::ok("epoll", "works"),
        Some(why) => Finding::new(
            Level::Fail,
            "epoll",
            why,
            "no transport can be had",
            "Allow epoll_create1, epoll_ctl, epoll_wait, epoll_pwait and eventfd2 in the seccomp profile; for lack of files or threads raise LimitNOFILE, TasksMax",
        ),
    }
}

fn nofile(limit: Limit, settings: &Settings) -> Finding {
    let asked = u64::from(settings.limits.connections);
    let needed = asked + files_besides(settings);
    if limit.soft >= needed {
        return Finding::ok("nofile", format!("{} files, {needed} needed", limit.soft));
    }
    let fitting = limit.soft.saturating_sub(files_besides(settings));
    let problem = format!("only {} files may be open, {needed} are needed", limit.soft);
    let remedy = format!("Set LimitNOFILE={needed} (systemd), --ulimit nofile={needed} (Docker)");
    if fitting < limits::CONNECTIONS_MIN {
        return Finding::new(
            Level::Fail,
            "nofile",
            problem,
            "there is room for hardly any connection",
            remedy,
        );
    }
    let effect = format!("limits.connections is lowered from {asked} to {fitting}");
    Finding::new(Level::Warn, "nofile", problem, effect, format!("{remedy}, or set limits.connections"))
}

fn cores(machine: &Machine, settings: &Settings) -> Finding {
    let served = settings.cores.len();
    let found = format!("{} of {}", show_cores(&settings.cores), show_cores(&machine.cpus));
    let quota = machine.cpu_quota.unwrap_or(f64::INFINITY);
    if quota >= served as f64 {
        return Finding::ok("cores", found);
    }
    let fitting = (quota.floor() as usize).max(1);
    Finding::new(
        Level::Warn,
        "cores",
        format!("{served} cores are configured, and the container may use the time of {quota:.1} processors"),
        "the kernel stops all of them for parts of every 100 ms",
        format!("Raise the quota (Docker: --cpus) or set cores = {fitting}"),
    )
}

fn data_dir(disk: &Disk, settings: &Settings) -> Finding {
    let path = settings.data_dir.display();
    let why = match &disk.dir {
        DirState::Writable => return Finding::ok("data_dir", format!("{path} can be written to")),
        DirState::Creatable => return Finding::ok("data_dir", format!("{path} will be created")),
        DirState::Unusable(why) => why,
    };
    Finding::new(
        Level::Fail,
        "data_dir",
        format!("{path} cannot be used ({why})"),
        "there is no place for the log",
        "Choose another with --data-dir, or give this user the right to write there",
    )
}

fn medium(disk: &Disk, settings: &Settings) -> Finding {
    if disk.is_unusable() {
        return Finding::ok("medium", "not looked at");
    }
    if !disk.in_memory {
        return Finding::ok("medium", "the data directory is on a disk");
    }
    let problem = format!("{} is in memory (tmpfs)", settings.data_dir.display());
    let effect = "a reboot loses every order";
    let remedy = "Choose a directory on a disk with --data-dir, or accept it with log.allow_tmpfs = true";
    let level = if settings.log.allow_tmpfs { Level::Warn } else { Level::Fail };
    Finding::new(level, "medium", problem, effect, remedy)
}

fn space(disk: &Disk, settings: &Settings) -> Finding {
    if disk.is_unusable() {
        return Finding::ok("disk", "not looked at");
    }
    let budget = settings.log.bytes_max;
    let begins = limits::SEGMENTS_FREE_MIN * settings.log.segment_bytes;
    let least = begins + limits::FREE_RESERVE_BYTES;
    let to_come = budget.saturating_sub(disk.used_bytes);
    let free = show_mib(disk.free_bytes);
    if disk.free_bytes >= to_come.saturating_add(limits::FREE_RESERVE_BYTES) {
        return Finding::ok("disk", format!("{free} free, {} for the log to grow", show_mib(to_come)));
    }
    let problem = format!("{free} free, and the log may grow by {}", show_mib(to_come));
    // A log that is there already holds its segments.
    if disk.free_bytes < least && disk.used_bytes < begins {
        let remedy = format!("Free at least {}, or choose another disk with --data-dir", show_mib(least));
        return Finding::new(Level::Fail, "disk", problem, "the log cannot even be created", remedy);
    }
    let effect = "selling pauses when less than 256 MiB are free, before the budget is used up";
    Finding::new(Level::Warn, "disk", problem, effect, "Free some, or lower log.bytes_max")
}

fn show_mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn clock(source: Option<&str>) -> Finding {
    const FAST: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];
    match source {
        None => Finding::ok("clock", "not known"),
        Some(name) if FAST.contains(&name) => Finding::ok("clock", name),
        Some(name) => Finding::new(
            Level::Warn,
            "clock",
            format!("the kernel takes its time from {name}"),
            "each clock reading is a slow system call",
            "See /sys/devices/system/clocksource/clocksource0/available_clocksource, and choose tsc if it is listed",
        ),
    }
}

fn time(synchronised: Option<bool>) -> Finding {
    match synchronised {
        None => Finding::ok("time", "not known"),
        Some(true) => Finding::ok("time", "the kernel's clock is synchronised"),
        Some(false) => Finding::new(
            Level::Warn,
            "time",
            "the kernel's clock is not synchronised",
            "sales open early or late, and fresh tokens may be refused",
            "Run chrony, ntpd or systemd-timesyncd (`timedatectl set-ntp true`); in a container, on its host",
        ),
    }
}

fn backlog(somaxconn: Option<u32>) -> Finding {
    let wanted = limits::LISTEN_BACKLOG;
    match somaxconn {
        Some(allowed) if allowed < wanted => Finding::new(
            Level::Warn,
            "backlog",
            format!("net.core.somaxconn = {allowed}, {wanted} are wanted"),
            "in a rush, new connections are dropped and retried by the client a second later",
            format!("Run: sysctl -w net.core.somaxconn={wanted}"),
        ),
        Some(allowed) => Finding::ok("backlog", format!("net.core.somaxconn = {allowed}")),
        None => Finding::ok("backlog", "not known"),
    }
}

fn memory(overcommit: Option<u32>) -> Finding {
    if overcommit != Some(2) {
        return Finding::ok("memory", "tables may be reserved before they are used");
    }
    Finding::new(
        Level::Warn,
        "memory",
        "vm.overcommit_memory = 2",
        "reserved tables count as used memory, and a start may run out of memory",
        "Run: sysctl -w vm.overcommit_memory=0",
    )
}

/// The nearest directory at or above a path that exists.
fn nearest_existing(path: &std::path::Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find(|ancestor| ancestor.exists());
    found.unwrap_or(std::path::Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests;
