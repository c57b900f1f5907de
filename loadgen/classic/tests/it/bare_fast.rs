//! The server to compare with, at its fastest: what it is asked at once it answers at once,
//! and who says that a request is the last one is let go.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use stampede_classic::bare::{Bare, Manner, RESPONSE_BYTES, Running};
use stampede_loadgen::engine::{RunConfig, run};
use stampede_loadgen::meaning::Code;
use stampede_loadgen::workload::Workload;

const REQUEST: &str = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
const LAST: &str = "GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

fn start(manner: Manner) -> Running {
    Running::start(manner).expect("a free port")
}

fn connect(server: &Running) -> TcpStream {
    let stream = TcpStream::connect(server.addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn answer(server: &Running) -> Vec<u8> {
    let mut stream = connect(server);
    stream.write_all(LAST.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn what_came_together_is_answered_together() {
    let server = start(Manner::default());
    let one = answer(&server);
    let mut stream = connect(&server);
    stream.write_all(REQUEST.repeat(16).as_bytes()).unwrap();
    let mut bytes = vec![0; 16 * one.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, one.repeat(16));
    // It is still there, and cut in two a request is one.
    let (head, tail) = REQUEST.split_at(20);
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(stream.read(&mut bytes).is_err(), "half a request was answered");
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(tail.as_bytes()).unwrap();
    stream.read_exact(&mut bytes[..one.len()]).unwrap();
    assert_eq!(bytes[..one.len()], one);
}

#[test]
fn the_connection_ends_after_the_last_response() {
    for manner in [Manner::default(), Manner { delay: Duration::from_millis(20), stall: None }] {
        let server = start(manner);
        let one = answer(&server);
        let mut stream = connect(&server);
        stream.write_all([REQUEST, REQUEST, LAST].concat().as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, one.repeat(3), "{manner:?}");
    }
}

#[test]
fn short_connections_are_answered_one_by_one() {
    let server = start(Manner::default());
    let mut config = RunConfig::closed(server.addr, Workload::get("/"), 3_000);
    config.keep_alive = false;
    let outcome = run(&config).unwrap();
    assert_eq!((outcome.tally.count(Code::Ok), outcome.tally.total()), (3_000, 3_000));
    assert_eq!(outcome.tally.tried_again.iter().sum::<u64>(), 0);
}

#[test]
fn connections_that_come_and_go_keep_their_answers_apart() {
    let server = start(Manner { delay: Duration::from_millis(5), stall: None });
    let mut config = RunConfig::closed(server.addr, Workload::get("/"), 600);
    (config.keep_alive, config.connections) = (false, 32);
    let short = thread::spawn(move || run(&config).unwrap());
    let long = run(&RunConfig::closed(server.addr, Workload::get("/"), 600)).unwrap();
    for outcome in [short.join().unwrap(), long] {
        assert_eq!((outcome.tally.count(Code::Ok), outcome.tally.total()), (600, 600));
    }
}

#[test]
fn the_answer_can_be_somebody_elses() {
    let text = "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}";
    let bare = Bare::bind("127.0.0.1:0".parse().unwrap(), RESPONSE_BYTES).unwrap().with_response(text.into());
    let server = Running::of(bare).unwrap();
    let mut stream = connect(&server);
    stream.write_all(LAST.as_bytes()).unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    assert_eq!((read.unwrap(), answer.as_str()), (text.len(), text));

    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede-classic"));
    let flags = ["bare", "--listen", "127.0.0.1:0", "--answer", "there/is/no/such/file"];
    let output = command.args(flags).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("cannot read there/is"), "{said}");
}
