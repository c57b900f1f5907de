//! Counts the system calls of a process, by the kernel's own tracepoint and its performance counters.
//!
//! It needs the right to use them (root, or `kernel.perf_event_paranoid` at -1) and the number of
//! the tracepoint, which tracefs tells. Where either is missing it says so; it never guesses.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::FromRawFd;
use std::path::Path;
use std::process::Command;

use crate::load::tasks;

/// `PERF_TYPE_TRACEPOINT`.
const TRACEPOINT: u32 = 2;
/// Length of the first version of `struct perf_event_attr`, which holds all that is used here.
const ATTR_BYTES: u32 = 64;
/// The flag `inherit`: threads that begin later count, too.
const INHERIT: u64 = 1 << 1;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOEXEC: u64 = 1 << 3;
const ID_FILE: &str = "events/raw_syscalls/sys_enter/id";
const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// `struct perf_event_attr` as it first was (linux/perf_event.h).
#[repr(C)]
struct Attr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    bp_addr: u64,
}

const _: () = assert!(size_of::<Attr>() == ATTR_BYTES as usize);

/// The system calls of a process from now on: one counter per thread.
pub(crate) struct SystemCalls {
    counters: Vec<File>,
}

impl SystemCalls {
    /// Begins to count, or says why it cannot.
    pub(crate) fn of(pid: u32) -> Result<Self, String> {
        let id = tracepoint()?;
        let thread = |task: &Path| -> Result<File, String> {
            let tid = task.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0);
            count(id, tid).map_err(|error| format!("perf_event_open: {error}"))
        };
        let counters = tasks(pid).iter().map(|task| thread(task)).collect::<Result<_, _>>()?;
        Ok(Self { counters })
    }

    /// How many there have been.
    pub(crate) fn so_far(&mut self) -> u64 {
        let read = |mut counter: &File| {
            let mut value = [0; 8];
            counter.read_exact(&mut value).expect("a counter");
            u64::from_ne_bytes(value)
        };
        self.counters.iter().map(read).sum()
    }
}

/// The number of the tracepoint, out of tracefs where it is mounted, else out of a mount for a moment.
fn tracepoint() -> Result<u64, String> {
    let read = |mount: &Path| std::fs::read_to_string(mount.join(ID_FILE)).ok()?.trim().parse().ok();
    if let Some(id) = MOUNTS.iter().find_map(|mount| read(Path::new(mount))) {
        return Ok(id);
    }
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let id = if run(Command::new("mount").args(["-t", "tracefs", "tracefs"]).arg(dir.path())) {
        let id = read(dir.path());
        run(Command::new("umount").arg(dir.path()));
        id
    } else {
        None
    };
    id.ok_or_else(|| "tracefs is not mounted and cannot be: it needs root".to_owned())
}

fn count(tracepoint: u64, tid: i32) -> io::Result<File> {
    let attr = Attr {
        kind: TRACEPOINT,
        size: ATTR_BYTES,
        config: tracepoint,
        sample_period: 0,
        sample_type: 0,
        read_format: 0,
        flags: INHERIT,
        wakeup_events: 0,
        bp_type: 0,
        bp_addr: 0,
    };
    let (any_cpu, no_group, flags) = (-1, -1, CLOEXEC);
    // SAFETY: the kernel reads `size` bytes of the structure, which lives until the call is over, and writes
    // none.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, tid, any_cpu, no_group, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd as i32) })
}
