//! End to end: a long start, as health checks and clients see it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use stampede_testkit::{Missing, Need, skip};

use crate::hold::held::Held;
use crate::server::{Bed, Server, get, wait_for};
use crate::transport::put_on_sale;

/// A response that comes soon, or none.
pub(crate) fn quick(address: SocketAddr, path: &str) -> Option<String> {
    let soon = Duration::from_millis(500);
    let mut stream = TcpStream::connect_timeout(&address, soon).ok()?;
    stream.set_read_timeout(Some(soon)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    Some(said)
}

/// Holds the replay thread in mid-start, for as long as needed; `None` if threads cannot be held.
pub(crate) fn held_while_starting(server: &Server) -> Option<Held> {
    let held = match Held::take(server.pid(), 0) {
        Ok(held) => held,
        Err(why) => {
            skip(&Missing::new(Need::Ptrace, why));
            return None;
        }
    };
    let starts = || quick(server.admin, "/readyz").is_some_and(|said| said.contains("starting"));
    held.step_until(Duration::from_secs(40), starts).expect("no response during replay");
    Some(held)
}

#[test]
fn e2e_starting_health_answers_and_says_why_it_is_not_ready() {
    let mut bed = Bed::new();
    let server = bed.start();
    put_on_sale(&server, 10);
    assert_eq!(server.stop(), Some(0));
    let server = bed.spawn();
    let Some(held) = held_while_starting(&server) else { return };
    // Silent clients prevent no response, on neither listener.
    let silent: Vec<TcpStream> = (0..200)
        .map(|number| TcpStream::connect(if number % 2 == 0 { server.admin } else { server.public }).unwrap())
        .collect();
    let at = |address, path, what: &[&str]| {
        let said = get(address, path).expect("an answer");
        assert!(what.iter().all(|what| said.contains(what)), "{path}: {said}");
    };
    at(server.admin, "/healthz", &["HTTP/1.1 200", "\"live\":true"]);
    at(server.admin, "/readyz", &["HTTP/1.1 503", "\"reasons\":[\"starting\"]"]);
    at(server.admin, "/metrics", &["stampede_ready 0", "stampede_not_ready{reason=\"starting\"} 1"]);
    at(server.public, "/healthz", &["HTTP/1.1 200", "\"live\":true"]);
    at(server.public, "/readyz", &["HTTP/1.1 503", "\"ready\":false"]);
    at(server.public, "/v1/items/1", &["HTTP/1.1 503", "Retry-After"]);
    at(server.admin, "/admin/items/1", &["HTTP/1.1 503"]);
    drop(held);
    wait_for("it to be ready", || {
        get(server.admin, "/readyz").filter(|said| said.starts_with("HTTP/1.1 200"))
    });
    // From here on cores respond, every time.
    for _ in 0..50 {
        at(server.public, "/v1/items/1", &["HTTP/1.1 200"]);
        at(server.admin, "/healthz", &["HTTP/1.1 200"]);
    }
    drop(silent);
    assert_eq!(server.stop(), Some(0));
}
