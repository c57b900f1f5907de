//! End to end: nobody reads what the server and its commands print.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stampede_net::output;

use crate::e2e_talk::{Http, Talk, item};
use crate::server::sink::{Kind, Sink};
use crate::server::{Bed, Server, get, wait_for};

const DEADLINE: Duration = Duration::from_millis(1_500);

fn lines_lost(server: &Server) -> u64 {
    let metrics = get(server.admin, "/metrics").expect("it answers");
    let sample = metrics.lines().find_map(|line| line.strip_prefix("stampede_log_lines_lost_total "));
    sample.expect("the sample").parse().expect("a number")
}

/// Makes it log something until it notices that nobody reads.
fn lose_some(server: &Server) {
    let before = lines_lost(server);
    wait_for("a line that is lost", || {
        server.signal(libc::SIGHUP);
        (lines_lost(server) > before).then_some(())
    });
}

#[test]
fn e2e_output_that_nobody_reads_delays_nothing() {
    for kind in Kind::ALL {
        println!("{kind:?}");
        let mut bed = Bed::new().set("shutdown.deadline_ms", "1500");
        bed.sink = Some(Sink::new(kind));
        let mut server = bed.start();
        lose_some(&server);
        let body = item(10, 1, "on_order", 0);
        let mut talk = Talk::with(&server);
        talk.check(&format!(
            r#"
            shop  PUT /admin/items/1 {body}               -> 201 open 10=10+0+0
            alice POST /v1/items/1/orders {{"quantity":1}}  -> 201 confirmed x1 $a
            "#
        ));
        let orders = talk.into_orders();
        // Half a request: the deadline must end this.
        let mut half = Http::to(server.public);
        half.send("GET /v1/ti");
        let began = Instant::now();
        server.terminate();
        assert_eq!(server.wait_for_exit().code(), Some(0), "{kind:?}");
        // Twice the time, for a busy machine.
        assert!(began.elapsed() < 2 * DEADLINE, "{kind:?}");
        drop(server);
        bed.sink = None;
        let server = bed.start();
        let mut talk = Talk::resume(&server, orders);
        talk.check("alice GET /v1/orders/$a -> 200 confirmed x1 $a");
        assert_eq!(server.stop(), Some(0), "{kind:?}");
    }
}

#[test]
fn e2e_output_reports_lost_lines_once_somebody_reads_again() {
    for kind in [Kind::FullPipe, Kind::FullPipeThatDoesNotWait] {
        let mut bed = Bed::new();
        let mut sink = Sink::new(kind);
        let mut reader = sink.reader.take().expect("a pipe has a reader");
        bed.sink = Some(sink);
        let server = bed.start();
        lose_some(&server);
        let read = Arc::<Mutex<Vec<u8>>>::default();
        let into = read.clone();
        let thread = std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(len) = reader.read(&mut part)
                && len > 0
            {
                into.lock().unwrap().extend_from_slice(&part[..len]);
            }
        });
        wait_for("the word about what is missing", || {
            server.signal(libc::SIGHUP);
            let text = String::from_utf8_lossy(&read.lock().unwrap()).into_owned();
            text.contains("log lines were lost before this one").then_some(())
        });
        bed.sink = None;
        assert_eq!(server.stop(), Some(0), "{kind:?}");
        thread.join().unwrap();
    }
}

#[test]
fn e2e_output_does_not_delay_a_second_signal() {
    for kind in [Kind::FullPipe, Kind::StoppedTerminal] {
        let mut bed = Bed::new().set("shutdown.deadline_ms", "600000");
        bed.sink = Some(Sink::new(kind));
        let mut server = bed.start();
        let mut half = Http::to(server.public);
        half.send("GET /v1/ti");
        wait_for("its end", || {
            server.terminate();
            server.exited()
        });
        assert_eq!(server.wait_for_exit().code(), Some(75), "{kind:?}");
    }
}

/// The process that panics; see below. It prints fewer lines than are kept for a slow reader, or its last
/// words would be lost with them.
#[test]
#[ignore = "only in a process of its own"]
fn e2e_output_panics() {
    output::start().unwrap();
    output::end_on_panic();
    (0..900).for_each(|number| output::say(&format!("line {number}")));
    std::thread::spawn(|| panic!("it ended as told")).join().unwrap();
}

#[test]
fn e2e_output_does_not_keep_a_panic_from_ending_the_process() {
    let panicking = |stdout: Stdio, stderr: Stdio| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "e2e_output::e2e_output_panics", "--ignored", "--nocapture"]);
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap()
    };
    for kind in Kind::ALL {
        let (out, errors) = (Sink::new(kind), Sink::new(kind));
        // The test harness prints to its standard output and may block on it; that is not what is tested.
        drop(out);
        let mut child = panicking(Stdio::null(), errors.stdio());
        let status = wait_for("its end", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(i32::from(output::EXIT_BROKEN)), "{kind:?}: {status}");
    }
    let output = panicking(Stdio::null(), Stdio::piped()).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("panicked at") && said.contains("it ended as told"), "{said}");
}

/// Runs a command with such a stream; returns its exit code and the rest of its output.
fn command(args: &[&str], stdout: Option<Kind>, stderr: Option<Kind>) -> (Option<i32>, String) {
    let sinks = [stdout, stderr].map(|kind| kind.map(Sink::new));
    let stdio = |sink: &Option<Sink>| sink.as_ref().map_or_else(Stdio::piped, Sink::stdio);
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede"));
    command.args(args).env_clear().stdin(Stdio::null());
    let child = command.stdout(stdio(&sinks[0])).stderr(stdio(&sinks[1])).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn e2e_output_of_a_command_that_nobody_reads_changes_no_verdict() {
    let sick = ["doctor", "--data-dir", "/dev/null/here"];
    for kind in [Kind::DeadReader, Kind::FullDisk, Kind::ClosedTerminal] {
        assert_eq!(command(&sick, Some(kind), None).0, Some(1), "{kind:?}");
    }
    let well = ["check-config", "--demo"];
    assert_eq!(command(&well, Some(Kind::DeadReader), None), (Some(0), String::new()));
    let (code, said) = command(&well, Some(Kind::FullDisk), None);
    assert!(code == Some(1) && said.starts_with("stampede: cannot write the result"), "{code:?} {said}");
    for kind in Kind::ALL {
        assert_eq!(command(&["srve"], None, Some(kind)).0, Some(2), "{kind:?}");
        assert_eq!(command(&["serve"], None, Some(kind)).0, Some(78), "{kind:?}");
        let nowhere = ["serve", "--demo", "--data-dir", "/dev/null/here"];
        assert_eq!(command(&nowhere, None, Some(kind)).0, Some(1), "{kind:?}");
    }
}

#[test]
fn e2e_output_of_a_command_waits_for_a_slow_reader() {
    let mut sink = Sink::new(Kind::FullPipeThatDoesNotWait);
    let mut reader = sink.reader.take().expect("a pipe has a reader");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede"));
    command.args(["completions", "bash"]).env_clear().stdin(Stdio::null());
    let mut child = command.stdout(sink.stdio()).spawn().unwrap();
    drop((sink, command));
    // It waits for room before anybody makes some.
    let waits = [libc::SYS_poll, libc::SYS_ppoll].map(|call| call.to_string());
    wait_for("it to wait", || {
        assert_eq!(child.try_wait().unwrap(), None, "it did not wait");
        let call = std::fs::read_to_string(format!("/proc/{}/syscall", child.id())).ok()?;
        waits.iter().any(|wait| call.split_whitespace().next() == Some(wait)).then_some(())
    });
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(text.trim_end().ends_with("fi") && text.contains("_stampede()"), "{}", text.len());
}
