//! The built binary where nobody reads what it prints, and in sandboxes that refuse system calls.

use std::fs::{File, OpenOptions};
use std::process::{Command, Output, Stdio};

use crate::fake::{Fake, Fault, TOKEN};
use crate::seccomp::Filter;

fn loadgen(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede-loadgen"));
    command.args(flags.split_whitespace()).stdin(Stdio::null());
    command
}

/// A pipe whose reader has gone away.
fn dead() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

/// A disk that is full.
fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn merchant(fake: &Fake, dir: &std::path::Path) -> String {
    std::fs::write(dir.join("token"), format!("{TOKEN}\n")).unwrap();
    format!("--admin {} --admin-token-file {}", fake.admin, dir.join("token").display())
}

fn code(flags: &str, stdout: Stdio, stderr: Stdio) -> Option<i32> {
    loadgen(flags).stdout(stdout).stderr(stderr).status().unwrap().code()
}

#[test]
fn a_verdict_does_not_hang_on_its_reader() {
    let (fake, dir) = (Fake::start(30, Fault::OversellByOne), tempfile::tempdir().unwrap());
    let merchant = merchant(&fake, dir.path());
    let json = dir.path().join("run.json");
    let run = format!("run http://{} --item 1 --closed -n 60 -c 4 {merchant}", fake.public);
    let verify = format!("verify --item 1 {merchant}");
    for stream in [dead, full] {
        let run = format!("{run} --json {}", json.display());
        assert_eq!(code(&run, stream(), stream()), Some(3));
        // The files are there all the same.
        let record: serde_json::Value = serde_json::from_reader(File::open(&json).unwrap()).unwrap();
        assert_eq!(record["verdict"]["fine"], false);
        std::fs::remove_file(&json).unwrap();
        assert_eq!(code(&verify, stream(), stream()), Some(3));
    }
}

#[test]
fn an_unread_result_is_fine_and_an_unwritable_one_fails() {
    let (fake, dir) = (Fake::start(1_000_000, Fault::None), tempfile::tempdir().unwrap());
    let merchant = merchant(&fake, dir.path());
    let json = dir.path().join("a.json").display().to_string();
    let run = format!("run http://{} --item 1 --closed -n 20 -c 2", fake.public);
    assert_eq!(code(&format!("{run} --json {json}"), Stdio::null(), Stdio::null()), Some(0));
    let capacity = format!(
        "capacity http://{} --item 1 --from 50 --to 50 --step-time 200ms -c 2 --slo p99<5s",
        fake.public
    );
    let commands = [
        "scenarios".to_owned(),
        "--help".to_owned(),
        run,
        format!("compare {json} {json}"),
        format!("report {json}"),
        format!("report {json} -o -"),
        format!("verify --item 1 {merchant}"),
    ];
    for flags in &commands {
        assert_eq!(code(flags, dead(), Stdio::null()), Some(0), "{flags}");
        if flags != "--help" {
            assert_eq!(code(flags, full(), Stdio::null()), Some(1), "{flags}");
        }
    }
    let whatever = code(&capacity, dead(), dead());
    assert!(matches!(whatever, Some(0 | 1)), "{whatever:?}");
    for flags in ["run --item", "nonsense", "verify --item 1"] {
        assert_eq!(code(flags, dead(), dead()), Some(2), "{flags}");
        assert_eq!(code(flags, full(), full()), Some(2), "{flags}");
    }
}

/// With a filter over it that refuses these calls.
fn in_sandbox(flags: &str, calls: &[libc::c_long], errno: i32) -> Output {
    let mut command = loadgen(flags);
    Filter::refusing(calls, errno).put_over(&mut command);
    command.output().unwrap()
}

#[test]
fn an_old_kernel_or_a_sandbox_is_worked_with_or_named() {
    let fake = Fake::start(1_000_000, Fault::None);
    let run = format!("run http://{} --item 1 -R 200 -n 40 -c 2", fake.public);
    for errno in [libc::ENOSYS, libc::EPERM] {
        let output = in_sandbox(&run, &[libc::SYS_epoll_pwait2], errno);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert_eq!(fake.orders() % 40, 0, "every purchase was sent and answered: {text}");
        let waits = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
        // `poll` itself is needed by the standard library, before anything of ours runs.
        let others = [libc::SYS_ppoll, libc::SYS_epoll_create1].map(|call| [call]);
        for calls in [&waits[..], &others[0], &others[1]] {
            let output = in_sandbox(&run, calls, errno);
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{calls:?}: {text}");
            assert!(!text.contains("panicked"), "{calls:?}: {text}");
        }
    }
}
