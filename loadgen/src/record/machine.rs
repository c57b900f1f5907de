//! Where the generator ran: what a reader needs to weigh the figures of another machine.
//!
//! Read from `/proc`; what is not there is left out. Nothing that names the machine or
//! its owner. Next: [`crate::record`].

use std::fs;

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

/// The machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processors' architecture.
    pub arch: String,
    /// Processors that the generator could use.
    pub cores: u32,
    /// Their model.
    pub cpu_model: Option<String>,
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// What a process may have.
    pub limits: Limits,
}

/// What a process may have; `None` = no limit, or not known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Open files, when the record was made (a run raises it as far as it must).
    pub nofile: Option<u64>,
    /// Open files, the highest that it may raise that to.
    pub nofile_max: Option<u64>,
    /// Bytes of memory that may be locked.
    pub memlock_bytes: Option<u64>,
    /// First and last local port for outgoing connections.
    pub ports: Option<(u16, u16)>,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let (nofile, memlock) = (getrlimit(Resource::Nofile), getrlimit(Resource::Memlock));
        Self {
            kernel: kernel.trim().to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cores: std::thread::available_parallelism().map_or(0, |cores| cores.get() as u32),
            cpu_model: value_of(&cpuinfo, "model name").map(str::to_owned),
            memory_bytes: value_of(&meminfo, "MemTotal").and_then(kibibytes),
            limits: Limits {
                nofile: nofile.current,
                nofile_max: nofile.maximum,
                memlock_bytes: memlock.current,
                ports: pair(&ports),
            },
        }
    }

    /// Name and value of each, in words.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let no_limit = |limit: Option<u64>| limit.map_or("none".to_owned(), crate::units::show_count);
        let mut rows = vec![
            ("kernel", self.kernel.clone()),
            ("architecture", self.arch.clone()),
            ("cores", self.cores.to_string()),
        ];
        rows.extend(self.cpu_model.as_ref().map(|model| ("processor", model.clone())));
        rows.extend(self.memory_bytes.map(|bytes| ("memory", gibibytes(bytes))));
        rows.push(("open files, limit", no_limit(self.limits.nofile)));
        rows.push(("open files, hard limit", no_limit(self.limits.nofile_max)));
        rows.push(("locked memory, limit in bytes", no_limit(self.limits.memlock_bytes)));
        rows.extend(self.limits.ports.map(|(first, last)| ("local ports", format!("{first} to {last}"))));
        rows
    }
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// The value in the first line `name : value`.
fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
    values.next().filter(|value| !value.is_empty())
}

fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok().map(|count| count * 1024)
}

fn pair(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => Some((first, last)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_files_are_read() {
        assert_eq!(value_of("a : b\nmodel name\t: X 1: y\nmodel name : Z", "model name"), Some("X 1: y"));
        assert_eq!(value_of("MemTotal:  24 kB\n", "MemTotal").and_then(kibibytes), Some(24 * 1024));
        assert_eq!((pair("32768\t60999\n"), pair("x")), (Some((32_768, 60_999)), None));
        let here = Machine::here();
        assert!(here.cores > 0 && !here.kernel.is_empty());
        assert!(here.rows().iter().all(|(name, value)| !name.is_empty() && !value.is_empty()));
    }
}
