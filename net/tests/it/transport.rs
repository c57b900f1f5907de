//! The real server on each transport: connections that end, break or stall, and many at once.
//!
//! Every test runs on the private ring and on epoll, and both must give the same
//! result. Next: `transport_storm.rs` for all of it at once, at random.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process};
use socket2::{Domain, SockRef, Socket, Type};
use stampede_net::doctor::probe::usable_cpus;
use stampede_net::runtime::Cores;
use stampede_net::settings::TransportChoice;
use stampede_testkit::{Missing, Need, skip};

use crate::e2e_talk::{Talk, item};
use crate::server::{Bed, PATIENCE, Server, wait_for};

/// The transports that this kernel has, or the one that the environment selects.
pub(crate) fn transports() -> Vec<String> {
    if let Ok(chosen) = std::env::var("STAMPEDE_TRANSPORT") {
        return vec![chosen];
    }
    let ring = Cores::acquire(TransportChoice::Ring, &usable_cpus()[..1]);
    if let Err(error) = &ring {
        skip(&Missing::new(Need::Ring, error));
    }
    ring.is_ok().then_some("ring").into_iter().chain(["epoll"]).map(str::to_owned).collect()
}

/// Runs a test on a server with one core and a large item on sale, once per transport.
fn on_each(settings: &[(&str, &str)], test: impl Fn(&Server, &str)) {
    for transport in transports() {
        println!("on {transport}");
        let mut bed = Bed::new().set("transport", &transport);
        for (key, value) in settings {
            bed = bed.set(key, value);
        }
        bed.cores = "1";
        let server = bed.start();
        put_on_sale(&server, 1_000_000);
        test(&server, &transport);
        assert_eq!(server.stop(), Some(0), "on {transport}");
    }
}

pub(crate) fn put_on_sale(server: &Server, stock: u64) {
    let body = item(stock, 1_000_000, "on_order", 0);
    assert_eq!(Talk::with(server).say(&format!("shop PUT /admin/items/1 {body}")).status, 201);
}

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Closed,
    Reset,
}

pub(crate) fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect_timeout(&server.public, PATIENCE).expect("it is let in");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Everything that still arrives, and how the stream ended.
pub(crate) fn read_all(stream: &mut TcpStream) -> (String, End) {
    let (mut said, mut part) = (Vec::new(), [0; 16 << 10]);
    let end = loop {
        match stream.read(&mut part) {
            Ok(0) => break End::Closed,
            Ok(len) => said.extend_from_slice(&part[..len]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break End::Reset,
            Err(error) => panic!("the stream does not end: {error}; {} bytes arrived", said.len()),
        }
    };
    (String::from_utf8(said).expect("text"), end)
}

/// The complete responses in a text, as status and body; and the rest after the last one.
pub(crate) fn split(text: &str) -> (Vec<(u16, &str)>, &str) {
    let (mut answers, mut rest) = (Vec::new(), text);
    while let Some((head, behind)) = rest.split_once("\r\n\r\n") {
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer begins with {head:?}"));
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length = length.map_or(0, |length| length.parse::<usize>().unwrap());
        let Some(body) = behind.get(..length) else { break };
        answers.push((status, body));
        rest = &behind[length..];
    }
    (answers, rest)
}

/// The responses in a text that contains nothing else.
pub(crate) fn whole(text: &str) -> Vec<(u16, &str)> {
    let (answers, rest) = split(text);
    assert!(rest.is_empty(), "a response is cut off: {rest:?}");
    answers
}

fn statuses(text: &str) -> Vec<u16> {
    whole(text).into_iter().map(|(status, _)| status).collect()
}

pub(crate) fn buy(buyer: &str, key: &str) -> String {
    format!(
        "POST /v1/items/1/orders HTTP/1.1\r\nHost: a\r\nX-Buyer: {buyer}\r\nIdempotency-Key: {key}\r\n\
         Content-Length: 14\r\n\r\n{{\"quantity\":1}}"
    )
}

const TIME: &str = "GET /v1/time HTTP/1.1\r\nHost: a\r\n\r\n";

pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

pub(crate) fn open(server: &Server) -> u64 {
    let stats = Talk::with(server).say("shop GET /admin/stats").json();
    let cores = stats["cores"].as_array().expect("cores").iter();
    cores.map(|core| core["connections_open"].as_u64().unwrap()).sum()
}

pub(crate) fn total(server: &Server, name: &str) -> u64 {
    Talk::with(server).say("shop GET /admin/stats").json()["totals"][name].as_u64().unwrap()
}

fn signal(server: &Server, signal: Signal) {
    kill_process(Pid::from_raw(server.pid() as i32).unwrap(), signal).unwrap();
}

/// Stops the server, makes things happen to it, and continues it: they all arrive at once.
fn while_it_stands<T>(server: &Server, act: impl FnOnce() -> T) -> T {
    signal(server, Signal::STOP);
    let stat = format!("/proc/{}/stat", server.pid());
    wait_for("a server that stands", || {
        std::fs::read_to_string(&stat).unwrap().rsplit_once(") ")?.1.starts_with('T').then_some(())
    });
    let done = act();
    signal(server, Signal::CONT);
    done
}

#[test]
fn half_closed_after_requests_all_are_answered() {
    on_each(&[], |server, _| {
        for _ in 0..50 {
            let mut stream = connect(server);
            stream.write_all(TIME.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let (said, end) = read_all(&mut stream);
            assert_eq!((statuses(&said), end), (vec![200], End::Closed));
        }
        // More purchases than may be outstanding, immediately followed by the end.
        for crowd in (58..150).step_by(3) {
            let mut stream = connect(server);
            let buys: String = (0..crowd).map(|number| buy("a", &format!("{crowd}-{number}"))).collect();
            while_it_stands(server, || {
                stream.write_all(buys.as_bytes()).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
            let (said, end) = read_all(&mut stream);
            assert_eq!((statuses(&said), end), (vec![201; crowd], End::Closed), "{crowd} purchases");
        }
    });
}

#[test]
fn half_closed_in_a_request_only_complete_ones_are_answered() {
    const HALVES: [&str; 4] = [
        "",
        "G",
        "GET /v1/time HTTP/1.1\r\nHost: a\r\nX: y",
        "POST /v1/items/1/orders HTTP/1.1\r\nHost: a\r\nX-Buyer: b\r\nContent-Length: 14\r\n\r\n{\"quantity\":1",
    ];
    on_each(&[], |server, _| {
        for half in HALVES {
            for wholes in [0, 1, 3] {
                let mut stream = connect(server);
                stream.write_all(format!("{}{half}", TIME.repeat(wholes)).as_bytes()).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let (said, end) = read_all(&mut stream);
                assert_eq!((statuses(&said), end), (vec![200; wholes], End::Closed), "{half:?}");
            }
        }
        assert_eq!(total(server, "orders_placed"), 0);
    });
}

#[test]
fn a_reset_right_after_a_request_hurts_nobody() {
    on_each(&[], |server, _| {
        let (mut friend, files) = (connect(server), server.files());
        for round in 0..500 {
            let mut stream = connect(server);
            stream.write_all(buy("a", &round.to_string()).as_bytes()).unwrap();
            reset(stream);
        }
        friend.write_all(TIME.as_bytes()).unwrap();
        friend.shutdown(Shutdown::Write).unwrap();
        assert_eq!(statuses(&read_all(&mut friend).0), [200]);
        wait_for("the places", || (open(server) <= 1).then_some(()));
        wait_for("the descriptors", || (server.files() <= files).then_some(()));
        // Whoever retries with a key gets that key's one order.
        let buys: String = (0..500).map(|round| buy("a", &round.to_string())).collect();
        let mut stream = connect(server);
        stream.write_all(buys.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(statuses(&read_all(&mut stream).0), [201; 500]);
        let books = Talk::with(server).say("shop GET /admin/items/1").json();
        assert_eq!(books["sold"].as_u64(), Some(500));
    });
}

#[test]
fn connection_close_gets_the_whole_answer_and_no_reset() {
    on_each(&[], |server, _| {
        for round in 0..100 {
            let mut stream = connect(server);
            let request = match round % 2 {
                0 => TIME.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
                _ => buy("a", &round.to_string()).replacen("\r\n", "\r\nConnection: close\r\n", 1),
            };
            stream.write_all(format!("{}{request}", TIME.repeat(round % 3)).as_bytes()).unwrap();
            let (said, end) = read_all(&mut stream);
            let mut expected = vec![200; round % 3];
            expected.push([200, 201][round % 2]);
            assert_eq!((statuses(&said), end), (expected, End::Closed));
        }
        wait_for("the places", || (open(server) <= 1).then_some(()));
    });
}

#[test]
fn a_refusal_is_not_lost_to_data_sent_after_it() {
    on_each(&[], |server, _| {
        let mut taken = 0;
        for round in 0..20 {
            let mut stream = connect(server);
            let refused = "POST /v1/items/1/orders HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n";
            stream.write_all(refused.as_bytes()).unwrap();
            // The server does not read it as a request.
            let behind = buy("b", "never").repeat(2_000 + round);
            let mut writer = stream.try_clone().unwrap();
            let writing = thread::spawn(move || writer.write_all(behind.as_bytes()).is_ok());
            taken += usize::from(writing.join().unwrap());
            let (said, end) = read_all(&mut stream);
            assert_eq!((statuses(&said), end), (vec![501], End::Closed));
        }
        // The server reads on for a second; on a machine that stands still meanwhile it may be less.
        assert!(taken > 10, "only {taken} of 20 clients could send everything");
        assert_eq!(total(server, "orders_placed"), 0);
    });
}

#[test]
fn a_slow_reader_gets_thousands_of_answers_in_order() {
    // More responses than sockets hold without being read.
    const REQUESTS: usize = 40_000;
    on_each(&[], |server, _| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.connect(&server.public.into()).expect("it is let in");
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let writing = thread::spawn(move || {
            for number in 0..REQUESTS {
                let request = match number % 8 {
                    0 => TIME.to_owned(),
                    1 => buy("slow", &number.to_string()),
                    2 => format!("GET /v1/nothing/{number} HTTP/1.1\r\nHost: a\r\n\r\n"),
                    _ => "GET /v1/items/1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                };
                writer.write_all(request.as_bytes()).unwrap();
            }
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let (mut said, mut part) = (Vec::new(), [0; 3_000]);
        loop {
            match stream.read(&mut part).expect("an answer") {
                0 => break,
                len => said.extend_from_slice(&part[..len]),
            }
            thread::yield_now();
        }
        writing.join().unwrap();
        let said = String::from_utf8(said).unwrap();
        let answers = whole(&said);
        assert_eq!(answers.len(), REQUESTS);
        let mut last_order = 0;
        for (number, (status, body)) in answers.into_iter().enumerate() {
            assert_eq!(
                status,
                [200, 201, 404, 200, 200, 200, 200, 200][number % 8],
                "answer {number}: {body}"
            );
            if status == 201 {
                let order: serde_json::Value = serde_json::from_str(body).unwrap();
                let id: u64 = order["order_id"].as_str().unwrap().parse().unwrap();
                assert!(id > last_order, "the response for order {id} comes after {last_order}");
                last_order = id;
            }
        }
    });
}

/// So many accepted connections; `None`, with a message, if so many files may not be open.
fn crowd(server: &Server, number: usize) -> Option<Vec<TcpStream>> {
    let files_max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if files_max < (number + number / 2) as u64 {
        skip(&Missing::new(Need::Files, format!("{number} connections, with {files_max} files at most")));
        return None;
    }
    let crowd: Vec<TcpStream> = (0..number).map(|_| connect(server)).collect();
    wait_for("all connections", || (open(server) >= number as u64).then_some(()));
    Some(crowd)
}

fn read_one(stream: &mut TcpStream) -> u16 {
    let (mut said, mut part) = (Vec::new(), [0; 4 << 10]);
    loop {
        let len = stream.read(&mut part).expect("an answer");
        assert!(len > 0, "closed instead of answered");
        said.extend_from_slice(&part[..len]);
        let text = std::str::from_utf8(&said).unwrap();
        let (answers, rest) = split(text);
        if let [(status, _)] = answers[..] {
            assert!(rest.is_empty());
            return status;
        }
    }
}

#[test]
fn more_requests_than_buffers_are_all_answered() {
    on_each(&[("limits.connections", "4000")], |server, _| {
        let Some(mut crowd) = crowd(server, 2_000) else { return };
        let request = TIME.replace("\r\n\r\n", &format!("\r\nX-Padding: {}\r\n\r\n", "x".repeat(1_000)));
        for _ in 0..2 {
            while_it_stands(server, || {
                crowd.iter_mut().for_each(|stream| stream.write_all(request.as_bytes()).unwrap());
            });
            crowd.iter_mut().for_each(|stream| assert_eq!(read_one(stream), 200));
        }
    });
}

#[test]
fn more_completions_than_the_queue_holds_are_all_seen() {
    on_each(&[("limits.connections", "12000")], |server, _| {
        let Some(mut crowd) = crowd(server, 9_000) else { return };
        while_it_stands(server, || {
            crowd.iter_mut().for_each(|stream| stream.write_all(TIME.as_bytes()).unwrap());
        });
        crowd.iter_mut().for_each(|stream| assert_eq!(read_one(stream), 200));
        // The same when all of them end.
        while_it_stands(server, || drop(crowd));
        wait_for("the places", || (open(server) <= 1).then_some(()));
    });
}

#[test]
fn whoever_is_turned_away_is_told_why() {
    on_each(&[("limits.connections", "4")], |server, transport| {
        let inside: Vec<TcpStream> = (0..4).map(|_| connect(server)).collect();
        wait_for("the four", || (open(server) >= 4).then_some(()));
        for round in 0..200 {
            // The request is there before the server looks.
            let mut stream = while_it_stands(server, || {
                let mut stream = connect(server);
                stream.write_all(TIME.repeat(round % 4).as_bytes()).unwrap();
                stream
            });
            let (said, end) = read_all(&mut stream);
            assert_eq!(statuses(&said), [503]);
            assert_eq!(end, End::Closed, "on {transport}");
        }
        drop(inside);
    });
}

#[test]
fn a_stop_amid_hundreds_of_connections_answers_all() {
    const EACH: usize = 100;
    const OWED: usize = 20;
    for transport in transports() {
        println!("on {transport}");
        let mut bed = Bed::new().set("transport", &transport);
        bed.cores = "2";
        let mut server = bed.start();
        put_on_sale(&server, 1_000_000);
        let connect_all = || (0..EACH).map(|_| connect(&server)).collect::<Vec<TcpStream>>();
        let (mut idle, mut owed, mut half, mut gone) =
            (connect_all(), connect_all(), connect_all(), connect_all());
        let (begun, rest) = TIME.split_at(20);
        half.iter_mut().chain(&mut gone).for_each(|stream| stream.write_all(begun.as_bytes()).unwrap());
        let before = total(&server, "requests");
        for (number, stream) in owed.iter_mut().enumerate() {
            let buys: String = (0..OWED).map(|round| buy("a", &format!("{number}-{round}"))).collect();
            stream.write_all(buys.as_bytes()).unwrap();
        }
        wait_for("the purchases", || {
            (total(&server, "requests") >= before + (EACH * OWED) as u64).then_some(())
        });
        server.terminate();
        for stream in &mut owed {
            let (said, _) = read_all(stream);
            assert_eq!(statuses(&said), [201; OWED]);
        }
        for stream in &mut idle {
            assert_eq!(read_all(stream), (String::new(), End::Closed));
        }
        for stream in &mut half {
            stream.write_all(rest.as_bytes()).unwrap();
            let (said, end) = read_all(stream);
            assert_eq!((statuses(&said), end), (vec![200], End::Closed));
        }
        gone.into_iter().for_each(reset);
        assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.said());
    }
}
