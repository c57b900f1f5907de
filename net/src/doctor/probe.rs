//! Describes the machine for [`super::examine`].
//!
//! Reads `/proc`, `/sys` and limits; creates and changes nothing, except for
//! [`raise_limits`], which raises soft limits of this process. What cannot be read is
//! `None`, never an error: a check without data must not prevent a start that would work.

use std::fs;
use std::path::Path;

use rustix::fs::Access;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{DirState, Disk, Limit, Machine, Uring, nearest_existing, wall};
use crate::runtime::{Cores, NoTransport, Transport};
use crate::settings::Settings;

const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;
/// `st_blocks` counts in these.
const STAT_BLOCK_BYTES: u64 = 512;

/// Raises the soft limits on locked memory and open files to the hard ones. Never fails:
/// the checks find what is too low afterwards.
pub fn raise_limits() {
    for resource in [Resource::Memlock, Resource::Nofile] {
        let limit = getrlimit(resource);
        if limit.current != limit.maximum {
            let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
            let _ = setrlimit(resource, raised);
        }
    }
}

/// The processors that this process may use, ascending; at least one.
pub fn usable_cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    let cpus: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// Describes the machine. What a core needs of the system is not computed: `cores` is the result of
/// acquiring it.
pub fn probe(settings: &Settings, cores: &Result<Cores, NoTransport>) -> Machine {
    Machine {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        uring: ring(cores),
        no_epoll: cores.as_ref().err().and_then(|none| none.epoll.as_ref()).map(ToString::to_string),
        memlock: limit(Resource::Memlock),
        nofile: limit(Resource::Nofile),
        cpus: usable_cpus(),
        cpu_quota: cpu_quota(),
        disk: disk(&settings.data_dir),
        clocksource: text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        synchronised: wall::is_synchronised(),
        somaxconn: number("/proc/sys/net/core/somaxconn"),
        overcommit: number("/proc/sys/vm/overcommit_memory"),
    }
}

/// The result of acquiring the rings.
fn ring(cores: &Result<Cores, NoTransport>) -> Uring {
    let lack = match cores {
        Ok(cores) if cores.transport() == Transport::Ring => return Uring::Works,
        Ok(cores) => cores.without_ring(),
        Err(none) => none.ring.as_ref(),
    };
    let Some(lack) = lack else { return Uring::NotAsked };
    match lack.error.raw_os_error() {
        None | Some(libc::EINVAL) => Uring::TooOld,
        Some(libc::ENOSYS) => Uring::Missing,
        Some(libc::EPERM | libc::EACCES) => {
            Uring::Forbidden { sysctl: number("/proc/sys/kernel/io_uring_disabled").unwrap_or(0) }
        }
        Some(libc::ENOMEM) => Uring::NoRoom { core: lack.core },
        Some(errno) => Uring::Other(errno),
    }
}

fn limit(resource: Resource) -> Limit {
    let limit = getrlimit(resource);
    Limit { soft: limit.current.unwrap_or(u64::MAX), hard: limit.maximum.unwrap_or(u64::MAX) }
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: impl AsRef<Path>) -> Option<u32> {
    text(path)?.parse().ok()
}

/// The smallest quota from this process's control group up to the root (version 2: `cpu.max`), or that
/// of a container with version 1.
fn cpu_quota() -> Option<f64> {
    let groups = text("/proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(own);
    let unified = own.ancestors().take_while(|dir| dir.starts_with(root));
    let quotas = unified.filter_map(|dir| text(dir.join("cpu.max")).and_then(|text| quota_v2(&text)));
    quotas.min_by(f64::total_cmp).or_else(|| {
        let quota: f64 = text(root.join("cpu/cpu.cfs_quota_us"))?.parse().ok()?;
        let period: f64 = text(root.join("cpu/cpu.cfs_period_us"))?.parse().ok()?;
        (quota > 0.0 && period > 0.0).then(|| quota / period)
    })
}

/// `"150000 100000"` is one and a half processors, `"max 100000"` no quota.
pub(super) fn quota_v2(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

fn disk(path: &Path) -> Disk {
    let place = nearest_existing(path);
    let kind = rustix::fs::statfs(&place).map_or(0, |fs| fs.f_type as u64 & 0xffff_ffff);
    let free = rustix::fs::statvfs(&place).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    Disk {
        dir: dir_state(path, &place),
        in_memory: kind == TMPFS_MAGIC || kind == RAMFS_MAGIC,
        free_bytes: free,
        used_bytes: used_bytes(path),
    }
}

fn dir_state(path: &Path, place: &Path) -> DirState {
    if !place.is_dir() {
        return DirState::Unusable(format!("{} is not a directory", place.display()));
    }
    match rustix::fs::access(place, Access::WRITE_OK | Access::EXEC_OK) {
        Err(error) => DirState::Unusable(format!("{}: {error}", place.display())),
        Ok(()) if path.exists() => DirState::Writable,
        Ok(()) => DirState::Creatable,
    }
}

/// The disk space of the files in a directory and its subdirectories.
fn used_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => used_bytes(&entry.path()),
        Ok(meta) => meta.blocks() * STAT_BLOCK_BYTES,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
