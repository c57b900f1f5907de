//! CPU time of other processes, out of `/proc`.
//!
//! Read at rest, before and after; only differences are used. `schedstat` counts in
//! nanoseconds, but only for what is alive; `stat` knows the children that ended, in ticks.
//! Next: [`crate::bench`].

use std::fs;

/// Nanoseconds in a tick of `/proc/PID/stat`: USER_HZ is 100 for every program on Linux,
/// whatever the kernel's own tick is (man 5 proc, man 7 time).
const TICK_NS: u64 = 10_000_000;
/// Field numbers in `/proc/PID/stat`, counted as in man 5 proc.
const PPID: usize = 4;
const UTIME: usize = 14;
const STIME: usize = 15;
const CUTIME: usize = 16;
const CSTIME: usize = 17;

/// CPU time of one process with all its threads, in nanoseconds; 0 if it is gone.
pub fn process_ns(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let alive_ns: u64 = threads.filter_map(|thread| on_cpu_ns(&thread.path().join("schedstat"))).sum();
    // Threads that ended count in stat only, and a kernel may lack schedstat.
    let ticks = stat(pid).map_or(0, |stat| stat.number(UTIME) + stat.number(STIME));
    alive_ns.max(ticks * TICK_NS)
}

/// CPU time of a process and its children, those that ended included, in nanoseconds: what
/// a Postgres server and its connections took.
pub fn family_ns(pid: u32) -> u64 {
    let ended = stat(pid).map_or(0, |stat| stat.number(CUTIME) + stat.number(CSTIME));
    process_ns(pid) + ended * TICK_NS + children(pid).into_iter().map(process_ns).sum::<u64>()
}

fn children(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| stat(pid).is_some_and(|stat| stat.number(PPID) == u64::from(parent))).collect()
}

/// The first figure of `schedstat`.
fn on_cpu_ns(path: &std::path::Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

struct Stat(String);

impl Stat {
    /// A field by its number. The second one is a name in brackets that may hold anything, so
    /// fields are counted from the last bracket on.
    fn number(&self, field: usize) -> u64 {
        let behind = self.0.rsplit_once(')').map_or("", |(_, behind)| behind);
        behind.split_whitespace().nth(field - 3).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

fn stat(pid: u32) -> Option<Stat> {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok().map(Stat)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let text = "7 (a) b) S 3 7 7 0 -1 4 1 2 3 4 15 16 17 18 20 0".to_owned();
        let stat = Stat(text);
        assert_eq!((stat.number(PPID), stat.number(UTIME), stat.number(CSTIME)), (3, 15, 18));
    }

    #[test]
    fn a_child_that_ended_still_counts() {
        let own = std::process::id();
        let before = family_ns(own);
        assert!(before > 0);
        // Enough work that it cannot be lost in a tick.
        let work = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        assert!(Command::new("/bin/sh").args(["-c", work]).status().expect("a shell").success());
        assert!(family_ns(own) - before >= TICK_NS, "{} after {before}", family_ns(own));
        assert_eq!(process_ns(u32::MAX), 0);
    }
}
