//! A write that ends early: the real disk goes on or reports it, and never takes it for whole.
//!
//! The kernel cuts a write at the process's limit on file sizes. The limit counts for all
//! threads, so the write is made in a process of its own: this binary once more.

use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use stampede_persist::disk::real::RealDisk;
use stampede_persist::disk::{Disk, OpenMode, SECTOR_BYTES};

/// Tells the child where to write.
const FILE: &str = "STAMPEDE_SHORT_WRITE_FILE";

#[test]
fn a_write_that_ends_early_is_an_error() {
    let Some(file) = std::env::var_os(FILE) else { return begin() };
    let mut file = RealDisk.open(Path::new(&file), OpenMode::ReadWrite).expect("made before");
    let limit = 2 * SECTOR_BYTES as u64;
    // Without this, the limit would kill the process instead of failing the write.
    let hook = signal(libc::SIGXFSZ);
    assert_ne!(hook, libc::SIG_ERR);
    setrlimit(Resource::Fsize, Rlimit { current: Some(limit), maximum: Some(limit) }).expect("lowered");
    let written = file.write_durable(0, &[7; 4 * SECTOR_BYTES]);
    assert!(written.is_err(), "two sectors of four were written, and that was taken for all");
}

fn signal(number: libc::c_int) -> libc::sighandler_t {
    // SAFETY: SIG_IGN is a valid disposition for any signal but SIGKILL and SIGSTOP.
    unsafe { libc::signal(number, libc::SIG_IGN) }
}

fn begin() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    let mut file = RealDisk.open(&path, OpenMode::CreateNew).expect("made");
    file.zero_fill(4 * SECTOR_BYTES as u64).expect("filled");
    file.sync().expect("synced");
    let name = "disk_short::a_write_that_ends_early_is_an_error";
    let child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", name, "--nocapture"])
        .env(FILE, &path)
        .output()
        .expect("started");
    let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(said.contains("1 passed") || said.contains("1 failed"), "it was not run: {said}");
    assert!(child.status.success(), "{said}");
}
