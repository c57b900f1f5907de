//! Holds a single thread of a server for a while, at a random point; or slows the whole server.
//!
//! SIGSTOP stops a whole process. A stolen virtual processor, a quota or a migration stops
//! one thread, anywhere. ptrace can do that: it attaches to the thread, lets it run up to the n-th
//! system-call boundary from there (0: wherever it is), and holds it there.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stampede_testkit::{Missing, Need};

/// Longest wait for a boundary; a sleeping thread is then held in its sleep.
const BOUNDARY_WAIT: Duration = Duration::from_millis(300);
/// Longest wait for the kernel to stop a thread.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// A thread that is held until this is dropped.
pub(crate) struct Held {
    thread: i32,
}

impl Held {
    /// Attaches to a thread and holds it at the `boundaries`-th system-call boundary from now.
    ///
    /// # Errors
    /// Why it cannot: no right to trace, or the thread is gone.
    pub(crate) fn take(thread: u32, boundaries: u64) -> Result<Self, String> {
        let thread = thread.cast_signed();
        ptrace(libc::PTRACE_SEIZE, thread, "seize")?;
        // From here on, dropping it releases the thread.
        let held = Self { thread };
        ptrace(libc::PTRACE_INTERRUPT, thread, "interrupt")?;
        wait_for_stop(thread, STOP_WAIT)?;
        for _ in 0..boundaries {
            if !held.next_boundary()? {
                break;
            }
        }
        Ok(held)
    }

    /// Lets it run up to the next boundary; returns false if it sleeps instead, and is held in its sleep.
    fn next_boundary(&self) -> Result<bool, String> {
        ptrace(libc::PTRACE_SYSCALL, self.thread, "let run")?;
        let reached = wait_for_stop(self.thread, BOUNDARY_WAIT).is_ok();
        if !reached {
            ptrace(libc::PTRACE_INTERRUPT, self.thread, "interrupt")?;
            wait_for_stop(self.thread, STOP_WAIT)?;
        }
        Ok(reached)
    }

    /// Lets it run from boundary to boundary until the condition is true, and holds it there.
    ///
    /// # Errors
    /// See [`Held::take`]; or the condition did not become true in time.
    #[allow(dead_code, reason = "torture draws its points")]
    pub(crate) fn step_until(&self, patience: Duration, holds: impl Fn() -> bool) -> Result<(), String> {
        let until = Instant::now() + patience;
        while !holds() {
            if Instant::now() >= until {
                return Err("the condition did not become true in time".to_owned());
            }
            self.next_boundary()?;
        }
        Ok(())
    }

    /// Holds a thread for this time at so many boundaries in a row: at each point of its loop.
    ///
    /// # Errors
    /// See [`Held::take`].
    #[allow(dead_code, reason = "torture draws its points")]
    pub(crate) fn walk(thread: u32, boundaries: u64, length: Duration) -> Result<(), String> {
        let held = Self::take(thread, 0)?;
        for _ in 0..boundaries {
            held.next_boundary()?;
            wait(length);
        }
        Ok(())
    }

    /// Holds a thread for this time at one such boundary.
    ///
    /// # Errors
    /// See [`Held::take`].
    pub(crate) fn keep(thread: u32, boundaries: u64, length: Duration) -> Result<(), String> {
        let held = Self::take(thread, boundaries)?;
        wait(length);
        drop(held);
        Ok(())
    }
}

/// The hold itself: the time that passes is the fault.
fn wait(length: Duration) {
    let until = Instant::now() + length;
    while Instant::now() < until {
        std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if ptrace(libc::PTRACE_DETACH, self.thread, "let go").is_err() {
            // The process has ended, or is about to; it is gone once we have waited for this thread.
            let _gone = wait_for_stop(self.thread, STOP_WAIT);
        }
    }
}

fn ptrace(request: libc::c_uint, thread: i32, what: &str) -> Result<(), String> {
    // SAFETY: none of the requests that are made here reads or writes our memory.
    let done = unsafe { libc::ptrace(request, thread, 0, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(format!("cannot {what} thread {thread}: {}", io::Error::last_os_error()))
    }
}

fn wait_for_stop(thread: i32, patience: Duration) -> Result<(), String> {
    let until = Instant::now() + patience;
    loop {
        let mut status = 0;
        // SAFETY: the status is ours.
        let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL | libc::WNOHANG) };
        match waited {
            0 if Instant::now() < until => std::thread::park_timeout(Duration::from_millis(1)),
            0 => return Err(format!("thread {thread} did not stop")),
            _ if waited == thread && libc::WIFSTOPPED(status) => return Ok(()),
            _ => return Err(format!("thread {thread} is gone")),
        }
    }
}

/// The threads of a process: id and name, as far as the kernel keeps the name.
pub(crate) fn threads_of(pid: u32) -> Vec<(u32, String)> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let named = threads.filter_map(|thread| {
        let name = std::fs::read_to_string(thread.path().join("comm")).ok()?;
        Some((thread.file_name().to_str()?.parse().ok()?, name.trim().to_owned()))
    });
    named.collect()
}

/// A control group with a processor quota, with a process in it.
pub(crate) struct Quota {
    group: PathBuf,
    home: PathBuf,
    pid: u32,
}

impl Quota {
    /// 20 ms in 500, in cgroup version 1 or 2.
    ///
    /// # Errors
    /// Why neither is available.
    pub(crate) fn on(pid: u32) -> Result<Self, Missing> {
        let name = format!("stampede-test-{pid}");
        let attempts = [
            ("/sys/fs/cgroup/cpu", vec![("cpu.cfs_period_us", "500000"), ("cpu.cfs_quota_us", "20000")]),
            ("/sys/fs/cgroup", vec![("cpu.max", "20000 500000")]),
        ];
        let mut why = String::new();
        for (home, limits) in attempts {
            let group = Path::new(home).join(&name);
            let made = std::fs::create_dir(&group).and_then(|()| {
                limits.iter().try_for_each(|(file, limit)| {
                    // Only an existing file: elsewhere this would be an ordinary directory.
                    let mut file = std::fs::OpenOptions::new().write(true).open(group.join(file))?;
                    file.write_all(limit.as_bytes())
                })?;
                std::fs::write(group.join("cgroup.procs"), pid.to_string())
            });
            match made {
                Ok(()) => return Ok(Self { group, home: home.into(), pid }),
                Err(error) => {
                    let _not_made = std::fs::remove_dir(&group);
                    why = format!("{home}: {error}");
                }
            }
        }
        Err(Missing::new(Need::Cgroup, format!("no processor quota can be set here ({why})")))
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _back = std::fs::write(self.home.join("cgroup.procs"), self.pid.to_string());
        let until = Instant::now() + STOP_WAIT;
        while std::fs::remove_dir(&self.group).is_err() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}
