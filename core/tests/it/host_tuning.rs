//! The script that tunes a host: shows by default, changes and puts back on demand.
//!
//! Here and not in a crate of its own, since it needs no crate: it runs the script as an
//! operator does: on directories that look like `/proc/sys` and `/sys`, and on this machine as a
//! user who may change nothing there. Never on this machine with the rights to change it.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::tidy::root;

const STATE: &str = "var/lib/stampede/host-tuning.state";

/// A machine of two cores with a network device of two queues and a disk: path, what it holds
/// at first, what it shall hold.
const MACHINE: [(&str, &str, &str); 17] = [
    ("proc/sys/net/core/somaxconn", "4096", "65535"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "100000", "100000"),
    ("proc/sys/net/core/busy_poll", "0", "50"),
    ("proc/sys/net/core/busy_read", "0", "50"),
    ("proc/sys/kernel/numa_balancing", "1", "0"),
    ("proc/irq/9/smp_affinity_list", "0-1", "0"),
    ("proc/irq/10/smp_affinity_list", "0-1", "1"),
    ("sys/class/net/eth7/queues/rx-0/rps_cpus", "3", "0"),
    ("sys/class/net/eth7/queues/rx-1/rps_cpus", "3", "0"),
    ("sys/class/net/eth7/napi_defer_hard_irqs", "0", "2"),
    ("sys/class/net/eth7/gro_flush_timeout", "0", "200000"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave", "performance"),
    ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance", "performance"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never", "madvise"),
    ("sys/block/nvme9n1/queue/scheduler", "none [mq-deadline] kyber", "none"),
    ("sys/block/nvme9n1/queue/rq_affinity", "1", "2"),
    ("sys/block/nvme9n1/queue/write_cache", "write back", "write back"),
];

/// Files that only have to be there.
const MARKS: [&str; 6] = [
    "sys/class/net/eth7/device/msi_irqs/9",
    "sys/class/net/eth7/device/msi_irqs/10",
    "sys/class/net/eth7/device/numa_node",
    "sys/block/nvme9n1/device/model",
    "sys/devices/system/cpu/vulnerabilities/meltdown",
    "sys/class/net/lo/queues/rx-0/rps_cpus",
];

/// A directory that stands for the root of a machine; gone when dropped.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("host-{name}-{}", std::process::id()));
        let machine = Self(dir);
        MACHINE.iter().for_each(|(path, before, _)| machine.put(path, before));
        MARKS.iter().for_each(|path| machine.put(path, "0"));
        machine
    }
    fn put(&self, path: &str, value: &str) {
        let file = self.0.join(path);
        fs::create_dir_all(file.parent().expect("below the root")).expect("made");
        fs::write(file, format!("{value}\n")).expect("written");
    }
    fn value(&self, path: &str) -> String {
        let text = fs::read_to_string(self.0.join(path)).expect("readable");
        chosen(text.trim()).to_owned()
    }
    fn values(&self) -> BTreeMap<&'static str, String> {
        MACHINE.iter().map(|(path, ..)| (*path, self.value(path))).collect()
    }
    fn run(&self, mode: &str) -> Output {
        script().arg(mode).env("ROOT", &self.0).output().expect("bash is there")
    }
    fn succeeds(&self, mode: &str) -> String {
        let output = self.run(mode);
        assert!(output.status.success(), "{mode}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("removed");
    }
}

/// Of `a [b] c` it is `b`, as the kernel shows a choice.
fn chosen(text: &str) -> &str {
    let inner = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or(text, |(chosen, _)| chosen)
}

fn script() -> Command {
    let mut command = Command::new("bash");
    command.arg(root().join("docs/host-tuning.sh"));
    command
}

fn at(which: impl Fn(&(&'static str, &str, &str)) -> String) -> BTreeMap<&'static str, String> {
    MACHINE.iter().map(|row| (row.0, chosen(&which(row)).to_owned())).collect()
}

/// The script on this machine, as a user who may change nothing: were it broken, the kernel
/// would refuse what it tries. It comes through a pipe, since that user may not read this tree.
fn look_at_this_machine() -> String {
    const NOBODY: u32 = 65_534;
    let text = fs::File::open(root().join("docs/host-tuning.sh")).expect("a script");
    let mut command = Command::new("bash");
    command.args(["-s", "--", "--check"]).env_remove("ROOT").stdin(text).current_dir("/");
    if fs::metadata("/proc/self").expect("a process").uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().expect("bash is there");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn host_tuning_checks_this_machine_and_leaves_it_alone() {
    let said = look_at_this_machine();
    assert!(said.contains("/proc/sys/net/core/somaxconn"), "{said}");
    assert!(said.ends_with("nothing was changed\n"), "{said}");
    assert_eq!(said, look_at_this_machine(), "the second look sees the same");
}

#[test]
fn host_tuning_shows_why_and_what_it_risks() {
    let machine = Machine::new("shows");
    let said = machine.succeeds("--check");
    assert_eq!(machine.values(), at(|row| row.1.to_owned()), "a check changes nothing");
    assert!(!machine.0.join(STATE).exists());
    let changes = said.matches("change   ").count();
    assert_eq!(changes, MACHINE.iter().filter(|row| chosen(row.1) != row.2).count(), "{said}");
    let (whys, risks) = (said.matches("why:  ").count(), said.matches("risk: ").count());
    assert!(whys == risks && whys >= changes, "{said}");
    assert!(said.contains("/sys/kernel/mm/transparent_hugepage/enabled: always -> madvise"), "{said}");
    assert!(!said.contains("net/lo/"), "a device without hardware is left alone: {said}");
}

#[test]
fn host_tuning_applies_and_undoes() {
    let machine = Machine::new("applies");
    machine.succeeds("--apply");
    assert_eq!(machine.values(), at(|row| row.2.to_owned()));
    let kept = fs::read_to_string(machine.0.join(STATE)).expect("a state file");
    // Applied once more it changes nothing, and does not take its own values for the old ones.
    machine.succeeds("--apply");
    assert_eq!(fs::read_to_string(machine.0.join(STATE)).expect("still there"), kept);
    machine.put("proc/sys/net/core/busy_poll", "0");
    machine.succeeds("--apply");
    assert_eq!(machine.value("proc/sys/net/core/busy_poll"), "50");
    machine.succeeds("--undo");
    assert_eq!(machine.values(), at(|row| row.1.to_owned()));
    assert!(!machine.0.join(STATE).exists(), "nothing is left to undo");
    assert!(machine.succeeds("--undo").contains("nothing to undo"));
}

#[test]
fn host_tuning_leaves_what_somebody_changed_since() {
    let machine = Machine::new("since");
    machine.succeeds("--apply");
    machine.put("proc/sys/net/core/somaxconn", "1000");
    let said = machine.succeeds("--undo");
    assert!(said.contains("left     /proc/sys/net/core/somaxconn = 1000"), "{said}");
    assert_eq!(machine.value("proc/sys/net/core/somaxconn"), "1000");
    assert_eq!(machine.value("proc/sys/net/core/busy_poll"), "0", "the rest is put back");
}

/// What the kernel refuses is said, ends in an error, does not stop the rest, and is not undone.
#[test]
fn host_tuning_says_what_was_refused() {
    let machine = Machine::new("refused");
    let path = machine.0.join("proc/sys/net/core/somaxconn");
    fs::remove_file(&path).expect("removed");
    std::os::unix::fs::symlink("/proc/version", &path).expect("a file that nobody may write");
    let output = machine.run("--apply");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.contains("refused  /proc/sys/net/core/somaxconn"), "{said}");
    assert_eq!(machine.value("proc/sys/net/core/busy_poll"), "50", "the rest is changed");
    machine.succeeds("--undo");
    assert_eq!(machine.value("proc/sys/net/core/busy_poll"), "0");
}

#[test]
fn host_tuning_refuses_what_it_does_not_know() {
    let machine = Machine::new("unknown");
    for args in [&["--aply"][..], &["--net"], &["--state"]] {
        let output = script().args(args).env("ROOT", &machine.0).output().expect("bash is there");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

/// A second reader of the scripts of the project: quoting, unset variables, lost errors. `make quick` runs without
/// any package, so it may be missing where `CI` is not set.
#[test]
fn scripts_are_clean() {
    const SCRIPTS: [&str; 8] = [
        "docs/host-tuning.sh",
        ".ci/run",
        ".ci/as-user",
        ".ci/deny",
        ".ci/in-container",
        ".ci/install-test-deps",
        "net/fuzz/run",
        "net/fuzz/minimise",
    ];
    let output = match Command::new("shellcheck").args(SCRIPTS).current_dir(root()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound && std::env::var_os("CI").is_none() => {
            return println!("SKIPPED: there is no shellcheck; `make deps` installs it");
        }
        output => output.expect("shellcheck runs"),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}
