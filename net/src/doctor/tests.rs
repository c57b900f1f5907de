//! Invented machines, and the findings about them.

use std::path::Path;

use super::*;
use crate::runtime::Cores;
use crate::settings::{Inputs, load};

fn settings(file: &str) -> Settings {
    let inputs = Inputs {
        flags: Vec::new(),
        env: Vec::new(),
        file: Some(("shop.toml".into(), file.to_owned())),
        demo: false,
        serving: false,
        cpus: vec![0, 1],
        read: &|_: &Path| unreachable!(),
    };
    load(&inputs).unwrap().settings
}

fn good_machine() -> Machine {
    Machine {
        kernel: "6.1.0-18-amd64".to_owned(),
        uring: Uring::Works,
        no_epoll: None,
        memlock: Limit { soft: 8 << 20, hard: 8 << 20 },
        nofile: Limit { soft: 1 << 20, hard: 1 << 20 },
        cpus: vec![0, 1],
        cpu_quota: None,
        disk: Disk { dir: DirState::Creatable, in_memory: false, free_bytes: 1 << 40, used_bytes: 0 },
        clocksource: Some("tsc".to_owned()),
        synchronised: Some(true),
        somaxconn: Some(4096),
        overcommit: Some(0),
    }
}

/// Breaks one thing of a good machine and expects exactly one finding that is not ok.
fn check(spoil: impl FnOnce(&mut Machine), expected: &str) {
    check_with("", spoil, expected);
}

fn check_with(file: &str, spoil: impl FnOnce(&mut Machine), expected: &str) {
    let mut machine = good_machine();
    spoil(&mut machine);
    let findings = examine(&machine, &settings(file));
    let unwell = findings.iter().filter(|finding| finding.level != Level::Ok);
    let lines: Vec<String> = unwell.map(ToString::to_string).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(expected), "{} does not contain {expected:?}", lines[0]);
    let words = lines[0].split_whitespace().collect::<Vec<_>>();
    assert!(words[0] == "warn" || words[0] == "FAIL");
    let unwell = findings.iter().find(|finding| finding.level != Level::Ok).unwrap();
    assert!(!unwell.effect.is_empty() && !unwell.remedy.is_empty());
    assert_eq!(refusal(&findings).is_some(), unwell.level == Level::Fail);
}

#[test]
fn a_good_machine_is_well() {
    let findings = examine(&good_machine(), &settings(""));
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
    assert_eq!(refusal(&findings), None);
    assert_eq!(connections_fitting(&good_machine(), &settings("")), 50_000);
}

#[test]
fn old_kernels_are_named() {
    check(
        |m| m.kernel = "5.4.0-26-generic".into(),
        "FAIL  kernel        Linux 5.4.0-26-generic is older than 5.8",
    );
    check(|m| m.kernel = "4.19".into(), "older than 5.8");
    for kernel in ["5.8", "5.10.0", "6.1.0-rc1", "10.0.1+"] {
        let machine = Machine { kernel: kernel.into(), ..good_machine() };
        assert_eq!(examine(&machine, &settings(""))[0].level, Level::Ok, "{kernel}");
    }
}

#[test]
fn refusals_of_io_uring_are_told_apart() {
    check(|m| m.uring = Uring::Forbidden { sysctl: 2 }, "kernel.io_uring_disabled = 2");
    check(|m| m.uring = Uring::Forbidden { sysctl: 0 }, "seccomp profile such as Docker's");
    check(|m| m.uring = Uring::Missing, "ENOSYS");
    check(|m| m.uring = Uring::Other(24), "Too many open files (os error 24)");
}

#[test]
fn without_io_uring_epoll_serves_unless_the_ring_is_insisted_on() {
    let refused = |m: &mut Machine| m.uring = Uring::Forbidden { sysctl: 0 };
    check(refused, "warn  io_uring");
    check_with("transport = 'ring'", refused, "FAIL  io_uring");
    let machine = Machine { uring: Uring::NotAsked, memlock: Limit { soft: 0, hard: 0 }, ..good_machine() };
    let findings = examine(&machine, &settings("transport = 'epoll'"));
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
}

#[test]
fn a_lack_of_memory_for_rings_is_told_apart() {
    let full = |soft: u64| {
        move |m: &mut Machine| {
            (m.uring, m.memlock) = (Uring::NoRoom { core: 1 }, Limit { soft, hard: soft });
        }
    };
    check(full(64 << 10), "warn  memlock       64KiB of memory may be locked");
    check(full(64 << 10), "no room left for the rings of core 1, of 2 core(s): transport epoll is used");
    check(full(64 << 10), "Set LimitMEMLOCK=1048576 (systemd)");
    check(full(8 << 20), "Other processes of this user hold the rest");
    check(full(u64::MAX), "control group more memory");
    check_with("transport = 'ring'", full(8 << 20), "FAIL  memlock");
    // What was tried and worked is right, whatever the limit says: kernels charge differently.
    let machine = Machine { memlock: Limit { soft: 0, hard: 0 }, ..good_machine() };
    assert!(examine(&machine, &settings("")).iter().all(|finding| finding.level == Level::Ok));
}

#[test]
fn without_any_transport_there_is_no_start() {
    check(|m| m.no_epoll = Some("core 0, its epoll instance: refused".into()), "FAIL  epoll");
}

#[test]
fn limits_are_compared_with_settings() {
    let few = Limit { soft: 4096, hard: 4096 };
    check(|m| m.nofile = few, "limits.connections is lowered from 50000 to 3680");
    let machine = Machine { nofile: few, ..good_machine() };
    assert_eq!(connections_fitting(&machine, &settings("")), 3680);
    assert_eq!(connections_fitting(&machine, &settings("limits.connections = 100")), 100);
    let hardly = Limit { soft: 460, hard: 460 };
    check(|m| m.nofile = hardly, "FAIL  nofile");
}

#[test]
fn the_data_directory_is_looked_at() {
    let unusable = |m: &mut Machine| m.disk.dir = DirState::Unusable("/srv: read-only file system".into());
    check(unusable, "cannot be used (/srv: read-only file system)");
    check(|m| m.disk.in_memory = true, "FAIL  medium");
    check_with("log.allow_tmpfs = true", |m| m.disk.in_memory = true, "warn  medium");
    check(
        |m| m.disk.free_bytes = 1 << 30,
        "warn  disk          1024 MiB free, and the log may grow by 16384 MiB",
    );
    check(|m| m.disk.free_bytes = 100 << 20, "FAIL  disk");
    // A log that is there already is not refused for what it has taken.
    let started = |m: &mut Machine| (m.disk.free_bytes, m.disk.used_bytes) = (0, 1 << 30);
    check(started, "warn  disk");
}

#[test]
fn slow_surroundings_are_a_warning() {
    check(|m| m.cpu_quota = Some(1.5), "set cores = 1");
    check(|m| m.clocksource = Some("hpet".into()), "takes its time from hpet");
    check(|m| m.synchronised = Some(false), "warn  time          the kernel's clock is not synchronised");
    check(|m| m.somaxconn = Some(128), "net.core.somaxconn = 128");
    check(|m| m.overcommit = Some(2), "vm.overcommit_memory = 2");
}

#[test]
fn quotas_are_read() {
    assert_eq!(probe::quota_v2("150000 100000"), Some(1.5));
    assert_eq!(probe::quota_v2("max 100000"), None);
    assert_eq!(probe::quota_v2(""), None);
}

/// The real machine can be looked at, whatever it is like, and nothing is made on it.
#[test]
fn probing_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("a/b");
    let mut settings = settings("");
    settings.data_dir = place.clone();
    let cores = Cores::acquire(settings.transport, &settings.cores);
    let machine = probe::probe(&settings, &cores);
    assert!(!machine.cpus.is_empty());
    assert_eq!(machine.disk.dir, DirState::Creatable);
    assert!(!place.exists() && !dir.path().join("a").exists());
    settings.data_dir = dir.path().to_owned();
    assert_eq!(probe::probe(&settings, &cores).disk.dir, DirState::Writable);
    let file = dir.path().join("file");
    std::fs::write(&file, [1; 5000]).unwrap();
    let machine = probe::probe(&settings, &cores);
    assert!(machine.disk.used_bytes >= 5000);
    settings.data_dir = file;
    assert!(matches!(probe::probe(&settings, &cores).disk.dir, DirState::Unusable(_)));
}
