//! `Expect: 100-continue`: when a waiting client is told to send its body; never
//! before an outstanding response, and never forgotten after one (RFC 9110 section 10.1.1).

use std::time::{Duration, Instant};

use stampede_net::engine::home::Client;

use crate::rig::{Base, Rig, Setup, connect};

const TOKEN: &str = "token-of-the-test-shop";
const CONTINUE: &str = "100";

/// A connection to one core of two; the other owns the item, so a response is outstanding until that core runs.
struct Line {
    rig: Rig,
    client: Client,
    seen: Vec<u8>,
}

impl Line {
    fn open() -> Self {
        let mut rig = Rig::new(2);
        let client = connect(&mut rig.homes[0]);
        Self { rig, client, seen: Vec::new() }
    }

    fn to_the_shop() -> Self {
        let mut rig =
            Rig::on(Base::made(2, Setup { admin_token: TOKEN.into(), ..Setup::default() }), 2, |_, _| {});
        let token = rig.homes[0].connections.enter();
        let conn = stampede_net::http::conn::Conn::new(stampede_net::http::route::Listener::Merchant, 0);
        let client = Client::new(token, conn, std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
        Self { rig, client, seen: Vec::new() }
    }

    /// Sends bytes and serves the connection once; outstanding responses wait until [`Self::settle`].
    fn send(&mut self, text: &str) -> &mut Self {
        let home = &mut self.rig.homes[0];
        let mut bytes = text.as_bytes();
        while !bytes.is_empty() {
            let taken = self.client.conn.feed(bytes, home.mono_ms());
            assert!(taken > 0, "the connection accepts the bytes");
            bytes = &bytes[taken..];
            home.serve(&mut self.client);
            self.seen.append(&mut self.client.out);
        }
        self
    }

    /// Lets both cores run until nothing is outstanding.
    fn settle(&mut self) -> &mut Self {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            for home in &mut self.rig.homes {
                home.read_clock();
                while home.pump() {}
            }
            let home = &mut self.rig.homes[0];
            home.serve(&mut self.client);
            self.seen.append(&mut self.client.out);
            let idle = home.connections.is_idle(self.client.id);
            if idle && self.rig.homes.iter().all(|home| !home.has_work()) {
                return self;
            }
            assert!(Instant::now() < deadline, "a response is missing");
            std::thread::yield_now();
        }
    }

    /// The statuses of everything that came back so far, in order.
    fn statuses(&self) -> Vec<&str> {
        let text = str::from_utf8(&self.seen).expect("answers are text");
        text.match_indices("HTTP/1.1 ").map(|(at, begin)| &text[at + begin.len()..][..3]).collect()
    }

    fn buy(&self, buyer: &str, lines: &str) -> String {
        let item = self.rig.item;
        format!("POST /v1/items/{item}/orders HTTP/1.1\r\nHost: a\r\nX-Buyer: {buyer}\r\n{lines}\r\n")
    }
}

const WAITS: &str = "Expect: 100-continue\r\nContent-Length: 2\r\n";
const CHUNKED_WAITS: &str = "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n";

#[test]
fn engine_continue_comes_after_what_is_outstanding() {
    for (waits, body) in [(WAITS, "{}"), (CHUNKED_WAITS, "2\r\n{}\r\n0\r\n\r\n")] {
        // Both in one piece, and one after the other.
        for together in [true, false] {
            let mut line = Line::open();
            let (first, second) = (line.buy("ann", ""), line.buy("bob", waits));
            if together {
                line.send(&(first + &second));
            } else {
                line.send(&first).send(&second);
            }
            assert_eq!(line.statuses(), [] as [&str; 0], "the owner has not decided yet");
            line.settle();
            assert_eq!(line.statuses(), ["201", CONTINUE], "{waits}");
            line.settle();
            assert_eq!(line.statuses(), ["201", CONTINUE], "once");
            line.send(body).settle();
            assert_eq!(line.statuses(), ["201", CONTINUE, "201"], "{waits}");
        }
    }
}

#[test]
fn engine_continue_is_not_lost_after_an_immediate_answer() {
    for waits in [WAITS, CHUNKED_WAITS] {
        let mut line = Line::open();
        let time = "GET /v1/time HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3);
        let bought = line.buy("bob", waits);
        line.send(&(time + &bought));
        assert_eq!(line.statuses(), ["200", "200", "200", CONTINUE]);
    }
}

#[test]
fn engine_continue_is_left_out_if_the_client_does_not_wait() {
    // The body, or part of it, comes with the head, in the next piece, or while a response is outstanding.
    let mut line = Line::open();
    let bought = line.buy("ann", WAITS);
    line.send(&(bought + "{}")).settle();
    assert_eq!(line.statuses(), ["201"]);
    for body in ["{}", "{"] {
        let mut line = Line::open();
        let (first, second) = (line.buy("ann", ""), line.buy("bob", WAITS));
        line.send(&(first + &second)).send(body).settle();
        assert_eq!(line.statuses()[..1], ["201"]);
        line.send(&"{}"[body.len()..]).settle();
        assert_eq!(line.statuses(), ["201", "201"], "{body}");
    }
    let mut line = Line::open();
    let (first, second) = (line.buy("ann", ""), line.buy("bob", CHUNKED_WAITS));
    line.send(&(first + &second)).send("2").settle();
    line.send("\r\n{}\r\n0\r\n\r\n").settle();
    assert_eq!(line.statuses(), ["201", "201"]);
    // No body follows, or the client speaks HTTP/1.0.
    for lines in ["Expect: 100-continue\r\n", "Expect: 100-continue\r\nContent-Length: 0\r\n"] {
        let mut line = Line::open();
        let bought = line.buy("ann", lines);
        line.send(&bought).settle();
        assert_eq!(line.statuses(), ["201"], "{lines}");
    }
    let mut line = Line::open();
    let old = line.buy("ann", WAITS).replace("HTTP/1.1", "HTTP/1.0");
    line.send(&old).settle();
    assert_eq!(line.statuses(), [] as [&str; 0]);
}

#[test]
fn engine_continue_is_not_sent_if_the_head_is_refused() {
    let table = [
        ("Expect: 100-continue\r\nContent-Length: 99999\r\n", "413"),
        ("Expect: 100-continue\r\nContent-Length: 2\r\nContent-Length: 2\r\n", "400"),
        ("Expect: 100-continue\r\nTransfer-Encoding: gzip\r\n", "501"),
        ("Expect: 200-maybe\r\nContent-Length: 2\r\n", "417"),
        ("Expect:\r\nContent-Length: 2\r\n", "417"),
        ("Expect: 100-continue, other\r\nContent-Length: 2\r\n", "417"),
        ("Expect: 100-continue\r\nExpect: other\r\nContent-Length: 2\r\n", "417"),
    ];
    for (lines, status) in table {
        for behind in [false, true] {
            let mut line = Line::open();
            let first = if behind { line.buy("ann", "") } else { String::new() };
            let refused = line.buy("bob", lines);
            line.send(&(first + &refused)).settle();
            let expected: Vec<&str> = behind.then_some("201").into_iter().chain([status]).collect();
            assert_eq!(line.statuses(), expected, "{lines}");
            assert!(line.client.is_closing(), "{lines}");
        }
    }
}

#[test]
fn engine_continue_for_a_batch() {
    let batch = |token: &str| {
        let lines = "Content-Type: application/x-ndjson\r\nExpect: 100-continue\r\nContent-Length: 60\r\n";
        format!("POST /v1/orders/batch HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{lines}\r\n")
    };
    let mut line = Line::to_the_shop();
    let record = format!("{{\"item_id\":{},\"buyer\":\"ann\"}}", line.rig.item);
    let record = format!("{record}{}\n", " ".repeat(59 - record.len()));
    line.send(&batch(TOKEN));
    assert_eq!(line.statuses(), [CONTINUE]);
    // The next batch's head comes while the answers to this one are outstanding.
    line.send(&record).send(&batch(TOKEN)).settle();
    assert_eq!(line.statuses(), [CONTINUE, "200", CONTINUE]);
    line.send(&record).settle();
    assert_eq!(line.statuses(), [CONTINUE, "200", CONTINUE, "200"]);
    // A refused batch gets no 100 Continue.
    line.send(&batch("none")).settle();
    assert_eq!(line.statuses()[4..], ["401"]);
    assert!(line.client.is_closing());
}
