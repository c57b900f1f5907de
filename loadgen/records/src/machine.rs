//! Where and when a bench ran: date, commit, processors, kernel, load.
//!
//! What cannot be read is `"unknown"`: a bench does not fail for it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The machine of a record, in words for readers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Number and model, such as `2 × AMD EPYC`.
    pub processors: String,
    /// Memory in GiB.
    pub memory: String,
    /// Kernel release.
    pub kernel: String,
    /// The distribution's name and version.
    pub system: String,
    /// What else a reader has to know, such as the kind of disk; may be empty.
    pub note: String,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn this() -> Self {
        Self {
            processors: processors(),
            memory: memory(),
            kernel: kernel(),
            system: system(),
            note: String::new(),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// What stands behind `key` in a file of lines.
fn field(file: &str, key: &str, between: char) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(between)?.1.trim().trim_matches('"').to_owned())
}

fn processors() -> String {
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{count} × {}", field("/proc/cpuinfo", "model name", ':').unwrap_or_else(unknown))
}

fn memory() -> String {
    let kib = field("/proc/meminfo", "MemTotal", ':');
    let kib = kib.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    kib.map_or_else(unknown, |kib| format!("{} GiB", kib >> 20))
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| unknown(), |text| text.trim().to_owned())
}

fn system() -> String {
    field("/etc/os-release", "PRETTY_NAME", '=').unwrap_or_else(unknown)
}

/// The load average of the last minute.
#[must_use]
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The commit of the source tree that holds `dir`, twelve digits, with ` and changes` if the tree differs from it. Records
/// are no change: the benches of one run follow each other.
#[must_use]
pub fn commit(dir: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(dir).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else { return unknown() };
    let changed = git(&["status", "--porcelain", "--", ":(top)", ":(top,exclude)docs/benchmarks"])
        .is_some_and(|text| !text.is_empty());
    if changed { hash + " and changes" } else { hash }
}

/// Today in UTC, as `2026-11-30`.
#[must_use]
pub fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date(seconds / 86_400)
}

/// The date of a day since 1970-01-01: whole years first, then whole months.
pub(crate) fn date(mut day: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut months = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    months[1] += u64::from(leap(year));
    let mut month = 0;
    while day >= months[month] {
        day -= months[month];
        month += 1;
    }
    format!("{year:04}-{:02}-{:02}", month + 1, day + 1)
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_become_dates() {
        let known =
            [(0, "1970-01-01"), (19_782, "2024-02-29"), (20_787, "2026-11-30"), (11_016, "2000-02-29")];
        for (day, expected) in known {
            assert_eq!(date(day), expected);
        }
        assert_eq!((date(20_818), date(20_819)), ("2026-12-31".to_owned(), "2027-01-01".to_owned()));
    }
}
