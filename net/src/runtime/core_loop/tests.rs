//! A core where everything is tiny: what is rare in service happens all the time.
//!
//! On epoll, and on a ring with eight submissions, sixteen completions, two receive buffers for dozens of
//! connections, and sockets that take a few kilobytes: sends are short, receiving starves, the completion queue
//! overflows, and connections end in the midst of all that. Clients know what they asked, and compare.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::super::epoll::Epoll;
use super::super::limits::TICK_MS;
use super::super::listen;
use super::super::ring::{self, Sizes, Uring};
use super::*;
use crate::engine::pulse::{LOOK_MS, StallDetector};
use crate::rig::Rig;

const PATIENCE: Duration = Duration::from_secs(40);
/// Clients at once.
const CROWD: u64 = 24;
/// Connections that each of them makes, one after the other.
const ROUNDS: u64 = 40;

/// Runs clients against a core until it has drained: on a ring with and without incremental buffers,
/// and on epoll.
fn on_tiny(test: impl Fn(SocketAddr)) {
    let on_rings: &[_] = if ring::tests::is_there() { &[Some(4 << 10), None] } else { &[] };
    for &incremental_bytes in on_rings {
        let sizes = Sizes {
            submissions: 8,
            completions: 16,
            receive_bytes: 8 << 10,
            incremental_bytes,
            single_bytes: 1 << 10,
        };
        println!("on a ring, incremental buffers: {incremental_bytes:?}");
        on_one(move || Uring::with(&sizes).expect("a ring"), &test);
    }
    println!("on epoll");
    on_one(|| Epoll::new().expect("an epoll instance"), &test);
}

fn on_one<K: Kernel>(kernel: impl FnOnce() -> K + Send + 'static, test: &impl Fn(SocketAddr)) {
    let (tell, told) = channel();
    let core = thread::spawn(move || {
        let mut rig = Rig::new(1);
        let home = rig.homes.pop().expect("one home");
        let socket = listen(SocketAddr::from(([127, 0, 0, 1], 0)), false).expect("a free port");
        // Accepted sockets inherit it: the least that the kernel allows.
        socket.set_send_buffer_size(1).expect("a small buffer");
        let address = socket.local_addr().expect("an address").as_socket().expect("of IP");
        tell.send((address, home.shared().clone())).expect("the test is there");
        let socket = ListenSocket { listener: Listener::Public, socket, connections_max: 1_000 };
        let mut core = CoreLoop::new(kernel(), home, vec![socket], TICK_MS).expect("a core's loop");
        while core.turn().expect("the loop goes on") == Going::On {}
        core.send_last_answers();
        assert!(core.links.iter().all(Option::is_none), "a place is taken still");
    });
    let (address, shared) = told.recv().expect("the core starts");
    test(address);
    shared.enter(Phase::Draining);
    let until = Instant::now() + PATIENCE;
    while !core.is_finished() {
        assert!(Instant::now() < until, "the core does not end");
        thread::park_timeout(Duration::from_millis(2));
    }
    core.join().expect("the core is well");
}

fn connect(address: SocketAddr, deaf: bool) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it is let in");
    if deaf {
        SockRef::from(&stream).set_recv_buffer_size(1).unwrap();
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The requests of a round, and the status of each answer.
fn requests(client: u64, round: u64, number: u64) -> (String, Vec<u16>) {
    let (mut text, mut expected) = (String::new(), Vec::new());
    for at in 0..number {
        match at % 4 {
            0 => text.push_str("GET /v1/time HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => text.push_str("GET /v1/items/1 HTTP/1.1\r\nHost: a\r\n\r\n"),
            2 => text.push_str("GET /v1/nowhere HTTP/1.1\r\nHost: a\r\n\r\n"),
            _ => text.push_str(&format!(
                "POST /v1/items/1/orders HTTP/1.1\r\nHost: a\r\nX-Buyer: {client}-{round}-{at}\r\n\
                 Content-Length: 14\r\n\r\n{{\"quantity\":1}}"
            )),
        }
        expected.push([200, 200, 404, 201][at as usize % 4]);
    }
    (text, expected)
}

/// The status of each answer, all of them whole, and the orders that they tell of.
fn answers(said: &str) -> (Vec<u16>, Vec<u64>) {
    let (mut statuses, mut orders, mut rest) = (Vec::new(), Vec::new(), said);
    while !rest.is_empty() {
        let (head, behind) = rest.split_once("\r\n\r\n").expect("a whole head");
        let status: u16 = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        let (body, behind) = behind.split_at_checked(length).expect("a whole body");
        if status == 201 {
            let id = body.split("\"order_id\":\"").nth(1).and_then(|rest| rest.split('"').next());
            orders.push(id.and_then(|id| id.parse().ok()).expect("an order"));
        }
        statuses.push(status);
        rest = behind;
    }
    (statuses, orders)
}

/// Says everything while what comes is read in small pieces, then ends; everything is answered.
fn patient(address: SocketAddr, client: u64, round: u64, number: u64) -> Vec<u64> {
    let mut stream = connect(address, round.is_multiple_of(2));
    let (mut text, mut expected) = requests(client, round, number);
    // The end comes from the client, or it asks the server for it.
    let asks = round % 4 == 1;
    if asks {
        text.push_str("GET /v1/time HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        expected.push(200);
    }
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        writer.write_all(text.as_bytes()).expect("it takes requests");
        if !asks {
            writer.shutdown(Shutdown::Write).expect("it is there");
        }
    });
    let (mut said, mut part) = (Vec::new(), [0; 700]);
    loop {
        match stream.read(&mut part).expect("the end comes, and no reset") {
            0 => break,
            len => said.extend_from_slice(&part[..len]),
        }
    }
    writing.join().unwrap();
    let (statuses, orders) = answers(std::str::from_utf8(&said).expect("text"));
    assert_eq!(statuses, expected);
    orders
}

/// Breaks off in the middle of it all, in one way or another.
fn rude(address: SocketAddr, client: u64, round: u64, number: u64) {
    let mut stream = connect(address, true);
    let (text, _) = requests(client + 1_000, round, number);
    stream.set_nonblocking(true).unwrap();
    match stream.write(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
        _ => {}
    }
    stream.set_nonblocking(false).unwrap();
    if !round.is_multiple_of(3) && number > 0 {
        let mut part = [0; 200];
        assert!(stream.read(&mut part).expect("an answer begins") > 0);
    }
    match round % 4 {
        0 => drop(stream),
        1 => drop(stream.shutdown(Shutdown::Write)),
        _ => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
    }
}

#[test]
fn with_tiny_buffers_everybody_gets_what_was_asked() {
    on_tiny(|address| {
        let clients = (0..CROWD).map(|client| {
            thread::spawn(move || {
                let mut orders = Vec::new();
                for round in 0..ROUNDS {
                    let number = [1, 3, 9, 70, 200, 30, 0][((client + round) % 7) as usize];
                    if (client + round).is_multiple_of(3) {
                        rude(address, client, round, number);
                    } else {
                        orders.extend(patient(address, client, round, number));
                    }
                }
                orders
            })
        });
        let clients: Vec<_> = clients.collect();
        let mut orders = HashSet::new();
        for client in clients {
            for order in client.join().expect("a client was wronged") {
                assert!(orders.insert(order), "order {order} was told of twice");
            }
        }
        assert!(orders.len() > 1_000);
    });
}

#[test]
fn with_tiny_buffers_a_crowd_at_once_is_answered() {
    on_tiny(|address| {
        let mut crowd: Vec<_> = (0..200).map(|_| connect(address, false)).collect();
        for round in 0..5 {
            let text = requests(0, round, 1).0;
            let text = text.replace("\r\n\r\n", &format!("\r\nX-Padding: {}\r\n\r\n", "x".repeat(1_500)));
            crowd.iter_mut().for_each(|stream| stream.write_all(text.as_bytes()).unwrap());
            for stream in &mut crowd {
                let (mut said, mut part) = (Vec::new(), [0; 1_000]);
                while !said.ends_with(b"}") {
                    let len = stream.read(&mut part).expect("an answer");
                    assert!(len > 0, "closed instead of answered");
                    said.extend_from_slice(&part[..len]);
                }
                assert_eq!(answers(std::str::from_utf8(&said).unwrap()).0, [200]);
            }
        }
    });
}

/// Every order takes a question to the other core, its reply, and the log: three wakes. Time does not pass
/// for these cores: whoever is left to the next tick is left for good.
fn without_ticks<K: Kernel>(kernel: impl Fn() -> K + Send + Sync + Copy + 'static) {
    const HOUR_MS: u64 = 3_600_000;
    let mut rig = Rig::new(2);
    let (item, shared) = (rig.item, rig.homes[0].shared().clone());
    let mut addresses = Vec::new();
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let socket = listen(SocketAddr::from(([127, 0, 0, 1], 0)), false).expect("a free port");
        addresses.push(socket.local_addr().expect("an address").as_socket().expect("of IP"));
        sockets.push(ListenSocket { listener: Listener::Public, socket, connections_max: 1_000 });
    }
    let homes: Vec<Home> = rig.homes.drain(..).collect();
    thread::scope(|scope| {
        let cores: Vec<_> = homes
            .into_iter()
            .zip(sockets)
            .map(|(home, socket)| {
                scope.spawn(move || {
                    let mut core =
                        CoreLoop::new(kernel(), home, vec![socket], HOUR_MS).expect("a core's loop");
                    while core.turn().expect("the loop goes on") == Going::On {}
                })
            })
            .collect();
        let bought = std::panic::catch_unwind(|| {
            for round in 0..100 {
                for (core, address) in addresses.iter().enumerate() {
                    let mut stream = TcpStream::connect(*address).expect("it is let in");
                    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
                    write!(
                        stream,
                        "POST /v1/items/{}/orders HTTP/1.1\r\nHost: a\r\nX-Buyer: {core}-{round}\r\n\
                         Content-Length: 14\r\nConnection: close\r\n\r\n{{\"quantity\":1}}",
                        item.get()
                    )
                    .expect("it reads");
                    let mut said = String::new();
                    stream.read_to_string(&mut said).expect("a core was not woken");
                    assert!(said.starts_with("HTTP/1.1 201"), "{said}");
                }
            }
        });
        shared.enter(Phase::Closing);
        while !cores.iter().all(thread::ScopedJoinHandle::is_finished) {
            shared.mesh.wakers().iter().for_each(|waker| waker.shake());
            thread::park_timeout(Duration::from_millis(5));
        }
        assert!(bought.is_ok(), "see above");
    });
}

#[test]
fn no_wake_is_left_to_the_next_tick() {
    if ring::tests::is_there() {
        println!("on a ring");
        without_ticks(|| Uring::new().expect("a ring"));
    }
    println!("on epoll");
    without_ticks(|| Epoll::new().expect("an epoll instance"));
}

/// A core whose loop is turned by hand, and where it listens.
fn by_hand<K: Kernel>(kernel: K) -> (CoreLoop<K>, SocketAddr, std::sync::Arc<crate::engine::shared::Shared>) {
    let mut rig = Rig::new(1);
    let home = rig.homes.pop().expect("one home");
    let shared = home.shared().clone();
    let socket = listen(SocketAddr::from(([127, 0, 0, 1], 0)), false).expect("a free port");
    let address = socket.local_addr().expect("an address").as_socket().expect("of IP");
    let socket = ListenSocket { listener: Listener::Public, socket, connections_max: 1_000 };
    (CoreLoop::new(kernel, home, vec![socket], TICK_MS).expect("a core's loop"), address, shared)
}

fn turn_until<K: Kernel>(
    core: &mut CoreLoop<K>,
    what: &str,
    mut holds: impl FnMut(&CoreLoop<K>, Going) -> bool,
) {
    let until = Instant::now() + PATIENCE;
    loop {
        let going = core.turn().expect("the loop goes on");
        if holds(core, going) {
            return;
        }
        assert!(Instant::now() < until, "{what} does not come");
    }
}

fn all_of(mut stream: TcpStream) -> String {
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("an end, and no reset");
    said
}

fn says_goodbye<K: Kernel>(kernel: impl Fn() -> K) {
    const ASKED: &[u8] = b"GET /v1/time HTTP/1.1\r\nHost: a\r\n\r\n";
    // Whoever comes in while the engine closes.
    let (mut core, address, shared) = by_hand(kernel());
    shared.enter(Phase::Closing);
    let mut late = connect(address, false);
    late.write_all(ASKED).expect("the kernel has let it in");
    turn_until(&mut core, "the end", |_, going| going == Going::Over);
    core.send_last_answers();
    drop(core);
    let said = all_of(late);
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("Connection: close"), "{said:?}");

    // Whoever is answered in the last turn of all.
    let (mut core, address, shared) = by_hand(kernel());
    let mut client = connect(address, false);
    turn_until(&mut core, "the connection", |core, _| core.links.iter().any(Option::is_some));
    shared.enter(Phase::Closing);
    turn_until(&mut core, "the closed listening socket", |core, _| core.closed_at_ms.is_some());
    let over_at_ms = core.closed_at_ms.expect("just seen") + LATE_MS;
    while core.home.mono_ms() < over_at_ms {
        thread::yield_now();
        core.home.read_clock();
    }
    client.write_all(ASKED).expect("it is connected");
    turn_until(&mut core, "the end", |_, going| going == Going::Over);
    core.send_last_answers();
    drop(core);
    // A ring lets go of its sockets some time after it was dropped: the answer is there before the end is.
    let mut said = [0; 4_000];
    let len = client.read(&mut said).expect("an answer");
    let said = String::from_utf8_lossy(&said[..len]);
    assert!(said.starts_with("HTTP/1.1 ") && said.contains("\r\n\r\n"), "{said:?}");

    // And nobody waits for a core that has gone.
    let (mut detector, mut told) = (StallDetector::new(1), Vec::new());
    (0..200).for_each(|_| detector.look(&shared.state.pulse, LOOK_MS, |_, finding| told.push(finding)));
    assert_eq!(told, []);
}

#[test]
fn a_core_that_closes_says_goodbye_and_is_not_missed() {
    if ring::tests::is_there() {
        says_goodbye(|| Uring::new().expect("a ring"));
    }
    says_goodbye(|| Epoll::new().expect("an epoll instance"));
}
