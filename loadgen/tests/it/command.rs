//! The built binary: its words, its exit codes, its files.

use std::path::Path;
use std::process::{Command, Output};

use crate::fake::{Fake, Fault, TOKEN};

fn call(flags: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede-loadgen"));
    command.args(flags.split_whitespace()).output().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn token_file(dir: &Path) -> String {
    let path = dir.join("token");
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    path.display().to_string()
}

#[test]
fn a_run_reports_verifies_and_keeps_its_history() {
    let (fake, dir) = (Fake::start(30, Fault::None), tempfile::tempdir().unwrap());
    let (token, path) = (token_file(dir.path()), dir.path().display());
    let flags = format!(
        "run http://{} --item 1 --closed -n 100 -c 8 --seed 4 --repeat 10% --json {path}/j --history {path}/h \
         --admin {} --admin-token-file {token}",
        fake.public, fake.admin
    );
    let output = call(&flags);
    let text = words(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for expected in
        ["closed loop", "won", "sold_out", "p99.99", "winners", "refusals", "verify     fine: 30 orders"]
    {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("j")).unwrap()).unwrap();
    assert_eq!(
        (&json["outcomes"]["won"], &json["config"]["seed"], &json["verdict"]["fine"]),
        (&30.into(), &4.into(), &true.into())
    );
    let flags =
        format!("verify --admin {} --admin-token-file {token} --item 1 --history {path}/h", fake.admin);
    let output = call(&flags);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
}

#[test]
fn a_broken_promise_exits_3_and_names_the_order() {
    let (fake, dir) = (Fake::start(30, Fault::OversellByOne), tempfile::tempdir().unwrap());
    let merchant = format!("--admin {} --admin-token-file {}", fake.admin, token_file(dir.path()));
    let output = call(&format!("run http://{} --item 1 --closed -n 60 -c 4 {merchant}", fake.public));
    assert_eq!(output.status.code(), Some(3), "{}", words(&output));
    assert!(
        words(&output).contains("oversold: order 4294967327 makes it 31 units out of 30"),
        "{}",
        words(&output)
    );
    let output = call(&format!("verify --item 1 {merchant}"));
    assert_eq!(output.status.code(), Some(3), "{}", words(&output));
}

#[test]
fn errors_are_one_line_with_their_exit_code() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let token = token_file(dir.path());
    let fake = Fake::start(1, Fault::None);
    let table = [
        (format!("run http://{closed} --item 1 -n 1"), 1, "cannot reach"),
        (format!("run http://{} --item 1 -t 5 -c 2", fake.public), 2, "each thread needs a connection"),
        (format!("run http://{} --item 1 -H nonsense", fake.public), 2, "is not a header"),
        (format!("run http://{} --item 1 -R 0", fake.public), 2, "the rate must be"),
        ("run --item".to_owned(), 2, "--item"),
        (format!("verify --item 1 --admin http://{closed} --admin-token-file {token}"), 1, "merchant API up"),
        (format!("verify --item 7 --admin {} --admin-token-file {token}", fake.admin), 1, "returned 404"),
        (
            format!("verify --item 1 --admin {} --admin-token-file /nowhere", fake.admin),
            1,
            "cannot read /nowhere",
        ),
        ("verify --item 1".to_owned(), 2, "give --admin"),
    ];
    for (flags, code, expected) in table {
        let output = call(&flags);
        let text = words(&output);
        assert_eq!(output.status.code(), Some(code), "`{flags}` said {text}");
        assert!(text.contains(expected) && text.lines().count() == 1, "`{flags}` said {text}");
    }
}

/// Ctrl-C in mid-run: the report comes all the same.
#[test]
fn ctrl_c_still_prints_the_report() {
    let fake = Fake::start(1, Fault::None);
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede-loadgen"));
    let url = format!("http://{}", fake.public);
    command.args(["run", &url, "--item", "1", "-d", "60s", "-R", "200", "-c", "2"]);
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while fake.orders() == 0 && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("interrupted: the run ended early") && text.contains("won"), "{text}");
}
