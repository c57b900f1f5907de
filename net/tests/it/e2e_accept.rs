//! End to end: a system that accepts no more connections, because the process is out of descriptors. Connected
//! clients are served, and the reason is reported everywhere.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::e2e_starting::held_while_starting;
use crate::server::{Bed, PATIENCE, Server, TOKEN, get, wait_for};
use crate::transport::{connect, put_on_sale, transports};

/// Descriptors that a server has for its cores and its clients.
const FILES: u64 = 80;
/// More connections than that.
const CROWD: usize = 200;

/// An existing connection that stays.
struct Kept(TcpStream);

impl Kept {
    fn ask(&mut self, path: &str) -> String {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
            .expect("it reads");
        let mut said = Vec::new();
        let mut part = [0; 64 << 10];
        loop {
            let len = self.0.read(&mut part).expect("it answers");
            assert!(len > 0, "it has closed the connection");
            said.extend_from_slice(&part[..len]);
            let text = String::from_utf8_lossy(&said);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
            if body.len() >= length.parse().expect("a number") {
                return text.into_owned();
            }
        }
    }
}

/// A server that has fewer descriptors left than it knew when it set its bounds; `None` if its threads
/// cannot be held. (A ring keeps the limit from the time when it began to accept.)
fn short_of_files(bed: &Bed) -> Option<Server> {
    let server = bed.spawn();
    let held = held_while_starting(&server)?;
    let pid = Pid::from_raw(server.pid().cast_signed()).expect("a process");
    let limit =
        Rlimit { current: Some(server.files() as u64 + FILES), maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(Some(pid), Resource::Nofile, limit).expect("it is ours");
    drop(held);
    wait_for("it to be ready", || {
        get(server.admin, "/readyz").filter(|said| said.starts_with("HTTP/1.1 200"))
    });
    Some(server)
}

#[test]
fn e2e_accept_that_fails_is_reported_and_later_works_again() {
    for transport in transports() {
        println!("on {transport}");
        let mut bed = Bed::new().set("transport", &transport);
        bed.cores = "1";
        let Some(mut server) = short_of_files(&bed) else { return };
        put_on_sale(&server, 1_000);
        let stream = TcpStream::connect(server.admin).expect("it is let in");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut kept = Kept(stream);
        assert!(kept.ask("/readyz").starts_with("HTTP/1.1 200"));
        let mut waiting: Vec<TcpStream> = (0..CROWD).map(|_| connect(&server)).collect();
        let ready = wait_for("readiness to say so", || {
            Some(kept.ask("/readyz")).filter(|said| said.contains("\"not_accepting\""))
        });
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("ulimit -n"), "{ready}");
        let began = "not ready, not_accepting: ";
        let stats =
            wait_for("the alarm", || Some(kept.ask("/admin/stats")).filter(|said| said.contains(began)));
        assert_eq!(stats.matches(began).count(), 1, "{stats}");
        wait_for("the line", || server.said().contains(began).then_some(()));
        let metrics = kept.ask("/metrics");
        assert!(metrics.contains("stampede_not_ready{reason=\"not_accepting\"} 1"), "{metrics}");
        let failures =
            metrics.lines().find_map(|line| line.strip_prefix("stampede_accept_failures_total{core=\"0\"} "));
        assert!(failures.expect("a sample").parse::<u64>().expect("a number") > 0);
        // Most of the accepted clients leave.
        let last = waiting.split_off(CROWD - 20);
        drop(waiting);
        for mut stream in last {
            write!(stream, "GET /v1/items/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .expect("it waits");
            let mut said = String::new();
            stream.read_to_string(&mut said).expect("an answer");
            assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        }
        wait_for("it to be ready", || kept.ask("/readyz").starts_with("HTTP/1.1 200").then_some(()));
        let over = "not_accepting is over";
        wait_for("the line", || server.said().contains(over).then_some(()));
        let said = server.said();
        assert_eq!((said.matches(began).count(), said.matches(over).count()), (1, 1), "{said}");
        drop(kept);
        assert_eq!(server.stop(), Some(0), "on {transport}");
    }
}
