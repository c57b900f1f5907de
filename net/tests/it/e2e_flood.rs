//! End to end: floods of connections that send nothing, never finish, or do not
//! read; and hardly any descriptors. Memory, files and processor time stay bounded, and connected
//! buyers are served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use crate::e2e_talk::{Http, Talk, item};
use crate::server::{Bed, PATIENCE, Server, wait_for};

/// Connections that may be open: thousands, or as few as this test's own file limit allows.
const PLACES: usize = 3_000;
/// What one waiting connection may cost the server, in bytes: a first buffer, its task and
/// its table entries.
const WAITING_BYTES: u64 = 12 << 10;
/// What a client that does not read may cost, in bytes: responses up to their bound, requests up to
/// theirs, and as much again for the allocator's rounding.
const DEAF_BYTES: u64 = (2 * (256 + 72)) << 10;

fn total(server: &Server, name: &str) -> u64 {
    Talk::with(server).say("shop GET /admin/stats").json()["totals"][name].as_u64().unwrap()
}

fn put_on_sale(server: &Server, stock: u64) {
    let body = item(stock, 1, "on_order", 0);
    let answer = Talk::with(server).say(&format!("shop PUT /admin/items/1 {body}"));
    assert_eq!(answer.status, 201, "{answer:?}");
}

fn buy(door: &mut Http, buyer: &str) {
    let answer = door.call("POST /v1/items/1/orders", &[&format!("X-Buyer: {buyer}")], r#"{"quantity":1}"#);
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// A connection that has sent something, and will send no more.
fn half(server: &Server, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&server.public, PATIENCE).expect("it is let in");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// A connection of a client that will not read, and whose kernel buffers little.
fn deaf(server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.connect(&server.public.into()).expect("it is let in");
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

#[test]
fn e2e_thousands_of_half_open_connections_leave_room_for_buyers() {
    const HALVES: [&str; 4] = [
        "",
        "G",
        "GET /v1/time HTTP/1.1\r\nHost: a\r\nX: y",
        "POST /v1/items/1/orders HTTP/1.1\r\nHost: a\r\nX-Buyer: b\r\nContent-Length: 4000\r\n\r\n{",
    ];
    let mut bed = Bed::new().set("limits.connections", &PLACES.to_string());
    bed.cores = "1";
    let server = bed.start();
    put_on_sale(&server, 1_000);
    let mut friends: Vec<Http> = (0..8).map(|_| Http::to(server.public)).collect();
    friends.iter_mut().enumerate().for_each(|(number, door)| buy(door, &format!("before-{number}")));
    let before = server.memory_bytes();
    let (began, cpu_before) = (Instant::now(), server.cpu_ms());
    let crowd = PLACES - friends.len();
    let halves: Vec<TcpStream> = (0..crowd).map(|number| half(&server, HALVES[number % 4])).collect();
    // Full: newcomers are told so, again and again; connected buyers buy.
    for round in 0..20 {
        let answer = Http::to(server.public).read(false).expect("an answer before the end");
        assert_eq!(answer.brief(), "503 overloaded");
        for (number, door) in friends.iter_mut().enumerate() {
            buy(door, &format!("within-{round}-{number}"));
        }
    }
    let grown = server.memory_bytes().saturating_sub(before);
    println!("{} waiting connections took {grown} bytes", halves.len());
    assert!(grown < PLACES as u64 * WAITING_BYTES, "memory has grown by {grown} bytes");
    assert!(server.files() < PLACES + 200, "{} files", server.files());
    // Unfinished requests are cut off at their deadline; silent connections stay
    // longer. Nobody spins meanwhile.
    let begun = (crowd - crowd.div_ceil(4)) as u64;
    let overdue = |least: u64| (total(&server, "connections_overdue") >= least).then_some(());
    wait_for("the first deadline", || overdue(1));
    wait_for("all deadlines", || overdue(begun));
    let (elapsed_ms, used_ms) = (began.elapsed().as_millis() as u64, server.cpu_ms() - cpu_before);
    println!("{used_ms} ms of processor time in {elapsed_ms} ms");
    assert!(used_ms < elapsed_ms, "{used_ms} ms of processor time in {elapsed_ms} ms at rest");
    for mut stream in halves.into_iter().skip(1).step_by(4).take(50) {
        let mut said = Vec::new();
        let _reset = stream.read_to_end(&mut said);
        assert!(said.is_empty(), "half a request was answered: {}", said.escape_ascii());
    }
    buy(&mut Http::to(server.public), "after");
    friends.iter_mut().enumerate().for_each(|(number, door)| buy(door, &format!("after-{number}")));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn e2e_a_crowd_that_does_not_read_is_bounded_and_cut_off() {
    const CROWD: usize = 100;
    const REFUSED: usize = 50;
    let mut bed = Bed::new();
    bed.cores = "1";
    let server = bed.start();
    put_on_sale(&server, 1_000);
    let mut friend = Http::to(server.public);
    let before = server.memory_bytes();
    let flood = friend.request("GET /v1/items/1", &[], "").repeat(100);
    let mut deaf: Vec<(TcpStream, usize)> = (0..CROWD).map(|_| (deaf(&server), 0)).collect();
    // Each sends until the server accepts nothing more, though others are served.
    for round in 0.. {
        for (stream, refused) in deaf.iter_mut().filter(|(_, refused)| *refused < REFUSED) {
            *refused = if stream.write(flood.as_bytes()).is_ok() { 0 } else { *refused + 1 };
        }
        if deaf.iter().all(|(_, refused)| *refused == REFUSED) {
            break;
        }
        assert!(round < 20_000, "the server keeps reading from clients that do not read");
        assert_eq!(friend.call("GET /v1/time", &[], "").status, 200);
    }
    let grown = server.memory_bytes().saturating_sub(before);
    println!("{CROWD} clients that do not read took {grown} bytes");
    assert!(grown < CROWD as u64 * DEAF_BYTES, "memory has grown by {grown} bytes");
    buy(&mut friend, "friend");
    // Their deadline comes, and their places are free again.
    let overdue = |least: u64| (total(&server, "connections_overdue") >= least).then_some(());
    wait_for("the deadlines of writing", || overdue(CROWD as u64 / 2));
    wait_for("the last of them", || overdue(CROWD as u64));
    wait_for("their descriptors", || (server.files() < CROWD).then_some(()));
    drop(deaf);
    buy(&mut Http::to(server.public), "after");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn e2e_few_descriptors_are_reported_and_kept_for_the_log() {
    // With hardly any descriptors there is no start, and one line says why.
    let (code, said) = Bed::new().files(64).start_refused();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("only 64 files may be open"), "{said}");
    // With few, fewer connections are accepted than configured, and the rest is for the log.
    const FILES: u64 = 300;
    let mut bed = Bed::new().files(FILES).set("limits.admin_connections", "16");
    bed.cores = "1";
    let mut server = bed.start();
    assert!(server.said().contains("limits.connections is lowered"), "{}", server.said());
    put_on_sale(&server, 100_000);
    let mut friends: Vec<Http> = (0..4).map(|_| Http::to(server.public)).collect();
    friends.iter_mut().enumerate().for_each(|(number, door)| buy(door, &format!("before-{number}")));
    let mut flood: Vec<TcpStream> = (0..FILES + 100).map(|_| half(&server, "")).collect();
    let turned_away = wait_for("the bound", || {
        let turned_away = total(&server, "connections_turned_away");
        (turned_away >= 100).then_some(turned_away)
    });
    println!("{turned_away} of {} were turned away; {} files are open", flood.len(), server.files());
    assert!((server.files() as u64) < FILES, "{} files", server.files());
    // The log continues, into new segments, too.
    let subject = "x".repeat(40);
    for round in 0..200 {
        for (number, door) in friends.iter_mut().enumerate() {
            buy(door, &format!("{subject}-{round}-{number}"));
        }
    }
    let answer = Http::to(server.public).read(false).expect("an answer before the end");
    assert_eq!(answer.brief(), "503 overloaded");
    flood.clear();
    wait_for("a free place", || {
        let mut door = Http::to(server.public);
        door.try_send("GET /v1/time HTTP/1.1\r\nHost: a\r\n\r\n");
        door.read(false).filter(|answer| answer.status == 200)
    });
    assert_eq!(server.stop(), Some(0));
}
