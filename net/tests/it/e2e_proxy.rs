//! End to end: TCP proxies that name the client with the PROXY protocol, on each transport and
//! behind HAProxy. `make deps` installs HAProxy.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;

use base64::Engine as _;
use socket2::{Domain, Socket, Type};

use crate::e2e_drain::Balancer;
use crate::e2e_talk::{Talk, item};
use crate::server::{Bed, PATIENCE, Server, free_address, get, wait_for};
use crate::transport::transports;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Needs no buyer; costs the address one of `limits.ip_per_s`.
const DRAW: &str = "GET /v1/items/1/draw HTTP/1.1\r\nHost: shop\r\n";
/// Costs nothing.
const TIME: &str = "GET /v1/time HTTP/1.1\r\nHost: shop\r\n";

/// One core; this machine is a proxy that speaks the protocol, and so is a network behind it.
fn bed() -> Bed {
    let material = base64::prelude::BASE64_STANDARD.encode([7; 32]);
    let mut bed = Bed::new()
        .set("identity.mode", "jwt")
        .set("identity.keys", &format!("k:HS256:{material}"))
        .set("identity.trusted_proxies", "127.0.0.1,10.0.0.0/8")
        .set("identity.proxy_protocol", "true");
    bed.cores = "1";
    bed
}

fn start(bed: &mut Bed) -> Server {
    let server = bed.start();
    let answer = Talk::with(&server).say(&format!("shop PUT /admin/items/1 {}", item(5, 1, "on_order", 0)));
    assert_eq!(answer.status, 201, "{answer:?}");
    server
}

fn total(server: &Server, name: &str) -> u64 {
    Talk::with(server).say("shop GET /admin/stats").json()["totals"][name].as_u64().unwrap()
}

fn line(address: &str) -> Vec<u8> {
    let family = if address.contains(':') { "TCP6" } else { "TCP4" };
    let own = if address.contains(':') { "::1" } else { "127.0.0.1" };
    format!("PROXY {family} {address} {own} 50412 7070\r\n").into_bytes()
}

/// Version 2, with unneeded data after the addresses.
fn binary(address: &str) -> Vec<u8> {
    let (family, addresses) = match address.parse::<Ipv4Addr>() {
        Ok(ip) => (0x11, [&ip.octets()[..], &[127, 0, 0, 1]].concat()),
        Err(_) => (0x21, [address.parse::<Ipv6Addr>().unwrap().octets(), [0; 16]].concat()),
    };
    let rest = [&addresses[..], &[1, 2, 3, 4], &[4, 0, 3, b'x', b'y', b'z']].concat();
    [SIGNATURE, &[0x21, family], &(rest.len() as u16).to_be_bytes(), &rest].concat()
}

/// The proxy's own connection.
fn local() -> Vec<u8> {
    [SIGNATURE, &[0x20, 0x00, 0, 0]].concat()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("it may connect");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Everything that comes back. A connection closed with unread data is reset.
fn read_all(stream: &mut TcpStream) -> String {
    let (mut said, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(len) => said.extend_from_slice(&part[..len]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the stream does not end: {error}"),
        }
    }
    String::from_utf8(said).expect("text")
}

fn statuses(said: &str) -> Vec<u16> {
    said.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().expect("a status")).collect()
}

/// One request on a connection of its own, after these bytes.
fn ask(server: &Server, header: &[u8], request: &str) -> Vec<u16> {
    let mut stream = connect(server.public);
    let _reset = stream.write_all(&[header, request.as_bytes(), b"Connection: close\r\n\r\n"].concat());
    statuses(&read_all(&mut stream))
}

#[test]
fn e2e_proxy_gives_the_address_of_all_limits() {
    for transport in transports() {
        println!("on {transport}");
        let mut bed = bed().set("transport", &transport).set("limits.ip_per_s", "1");
        let server = start(&mut bed);
        // How many of forty connections are within their rate.
        let through = |header: &dyn Fn(usize) -> Vec<u8>, request: &dyn Fn(usize) -> String| {
            (0..40).filter(|&n| ask(&server, &header(n), &request(n)) != [429]).count()
        };
        let plain = |_: usize| DRAW.to_owned();
        for make in [line as fn(&str) -> Vec<u8>, binary] {
            let first = make("192.0.2.0")[0];
            assert!(
                (6..20).contains(&through(&|_| make(&format!("192.0.2.{first}")), &plain)),
                "one address"
            );
            assert_eq!(through(&|n| make(&format!("198.{first}.100.{n}")), &plain), 40, "forty of them");
            let (one, many) = (format!("2001:db8:1:{first}::"), format!("2001:db8:{first}"));
            assert!((6..20).contains(&through(&|n| make(&format!("{one}{n:x}")), &plain)), "one /64");
            assert_eq!(through(&|n| make(&format!("{many}:{n:x}::1")), &plain), 40);
        }
        // The client behind it is not a proxy: its own header does not count.
        let claims = |n: usize| format!("{DRAW}X-Forwarded-For: 203.0.113.{n}\r\n");
        assert!((6..20).contains(&through(&|_| line("192.0.2.99"), &claims)));
        // The client behind it is a trusted proxy: its header counts.
        assert_eq!(through(&|_| line("10.0.0.5"), &claims), 40);
        // If the header names nobody, it is the proxy's own connection.
        let nobody = |n: usize| if n.is_multiple_of(2) { local() } else { b"PROXY UNKNOWN\r\n".to_vec() };
        assert!((6..20).contains(&through(&nobody, &plain)));
        assert_eq!(server.stop(), Some(0));
    }
}

#[test]
fn e2e_proxy_header_may_come_byte_by_byte() {
    for transport in transports() {
        println!("on {transport}");
        let mut bed = bed().set("transport", &transport);
        let server = start(&mut bed);
        let requests = format!("{TIME}\r\n{TIME}Connection: close\r\n\r\n");
        for header in [line("192.0.2.7"), line("2001:db8::7"), binary("192.0.2.7"), local()] {
            // All in one piece; then the header in pieces, the last with the first byte of the request.
            let mut stream = connect(server.public);
            stream.write_all(&[&header, requests.as_bytes()].concat()).unwrap();
            assert_eq!(statuses(&read_all(&mut stream)), [200, 200]);
            let mut stream = connect(server.public);
            for byte in &header[..header.len() - 1] {
                stream.write_all(&[*byte]).unwrap();
            }
            let (first, rest) = requests.as_bytes().split_at(1);
            stream.write_all(&[&header[header.len() - 1..], first].concat()).unwrap();
            stream.write_all(rest).unwrap();
            assert_eq!(statuses(&read_all(&mut stream)), [200, 200]);
        }
        assert_eq!(total(&server, "proxy_headers_bad"), 0);
        assert_eq!(server.stop(), Some(0));
    }
}

#[test]
fn e2e_proxy_without_its_header_is_closed_and_reported() {
    for transport in transports() {
        println!("on {transport}");
        let mut bed = bed().set("transport", &transport);
        let mut server = start(&mut bed);
        // A silent connection is not reported: it may be a balancer's port check.
        drop(connect(server.public));
        let bad: [&[u8]; 5] = [
            b"",
            b"PROXY TCP4 192.0.2.7 127.0.0.1 1\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c192.0.2.7...",
            b"PROXY UNKNOWN\n",
        ];
        for header in bad {
            assert_eq!(ask(&server, header, DRAW), Vec::<u16>::new(), "{}", header.escape_ascii());
        }
        assert_eq!(total(&server, "proxy_headers_bad"), bad.len() as u64);
        // An unfinished header is cut off at its deadline.
        let mut slow = connect(server.public);
        slow.write_all(b"PROXY TCP4 192.0.2.7 ").unwrap();
        assert_eq!(read_all(&mut slow), "");
        let alarms = Talk::with(&server).say("shop GET /admin/stats").body;
        let told = "the trusted proxy 127.0.0.1 begins connections without a PROXY header (there is none)";
        assert!(server.said().contains(told), "{}", server.said());
        assert!(alarms.contains(told), "{alarms}");
        // The merchant listener accepts none.
        let mut stream = connect(server.admin);
        stream.write_all(&line("192.0.2.7")).unwrap();
        assert_eq!(statuses(&read_all(&mut stream)), [400]);
        assert!(get(server.admin, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
        assert_eq!(server.stop(), Some(0));
    }
}

#[test]
fn e2e_proxy_header_of_a_stranger_is_refused() {
    let beds =
        [bed().set("identity.trusted_proxies", "10.0.0.0/8"), bed().set("identity.proxy_protocol", "false")];
    for mut bed in beds {
        let server = start(&mut bed);
        for header in [line("192.0.2.7"), binary("192.0.2.7"), local()] {
            assert_eq!(ask(&server, &header, DRAW), [400], "{}", header.escape_ascii());
        }
        assert_eq!(ask(&server, b"", TIME), [200], "without one it is served as ever");
        assert_eq!(total(&server, "proxy_headers_bad"), 0);
        assert_eq!(server.stop(), Some(0));
    }
}

#[test]
fn e2e_proxy_connections_count_by_client() {
    for transport in transports() {
        println!("on {transport}");
        let mut bed = bed().set("transport", &transport).set("limits.connections_per_ip", "4");
        let server = start(&mut bed);
        let from = |address: &str| {
            let mut stream = connect(server.public);
            stream.write_all(&[&line(address)[..], TIME.as_bytes(), b"\r\n"].concat()).unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).unwrap();
            (stream, String::from_utf8_lossy(&first[9..]).into_owned())
        };
        let mut four: Vec<_> = (0..4).map(|_| from("192.0.2.7")).collect();
        assert!(four.iter().all(|(_, status)| status == "200"), "{four:?}");
        let (mut turned_away, status) = from("192.0.2.7");
        assert_eq!(status, "429");
        let rest = read_all(&mut turned_away);
        assert!(rest.contains("Connection: close") && statuses(&rest).is_empty(), "{rest}");
        assert_eq!(from("192.0.2.8").1, "200", "another client");
        assert_eq!(from("10.0.0.5").1, "200", "a proxy's own are not counted");
        four.pop();
        wait_for("a place", || (from("192.0.2.7").1 == "200").then_some(()));
        drop(four);
        wait_for("all of them gone", || (server.files() < 200).then_some(()));
        assert_eq!(server.stop(), Some(0));
    }
}

// ---- behind HAProxy ----

/// In TCP mode, with an HTTP health check on the buyers' port.
fn haproxy(dir: &Path, server: &Server, word: &str) -> Balancer {
    let address = free_address();
    let config = format!(
        "global\n    maxconn 256\n\
         defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n\
         \x20   timeout check 5s\n\
         frontend buyers\n    bind {address}\n    default_backend shop\n\
         backend shop\n    option httpchk\n    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host shop\n\
         \x20   http-check expect status 200\n\
         \x20   server a {} {word} check check-send-proxy inter 50ms fall 1 rise 1\n",
        server.public
    );
    let path = dir.join("haproxy.cfg");
    std::fs::write(&path, config).unwrap();
    Balancer::start("haproxy", &["-db", "-f", path.to_str().unwrap()], dir, address)
}

/// One request of a client at another address of this machine; `None` if nobody responds.
fn ask_from(client: Ipv4Addr, balancer: SocketAddr) -> Option<u16> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((client, 0)).into()).unwrap();
    socket.connect(&balancer.into()).expect("the balancer listens");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{DRAW}Connection: close\r\n\r\n").as_bytes()).ok()?;
    statuses(&read_all(&mut stream)).first().copied()
}

#[test]
fn e2e_proxy_behind_haproxy_each_client_is_itself() {
    for word in ["send-proxy-v2", "send-proxy"] {
        println!("with {word}");
        let mut bed = bed().set("limits.ip_per_s", "1");
        let mut server = start(&mut bed);
        let dir = tempfile::tempdir().unwrap();
        let balancer = haproxy(dir.path(), &server, word);
        let client = |n: u8| Ipv4Addr::new(127, 0, 1, n);
        // Its health checks pass as well: otherwise it would send nobody here.
        let checks = total(&server, "requests");
        wait_for("health checks", || (total(&server, "requests") > checks + 5).then_some(()));
        let answers: Vec<_> = (0..40).map(|n| ask_from(client(n + 2), balancer.address)).collect();
        assert!(answers.iter().all(|status| status.is_some_and(|status| status != 429)), "{answers:?}");
        let answers: Vec<_> = (0..40).map(|_| ask_from(client(99), balancer.address)).collect();
        let through = answers.iter().filter(|status| status.is_some_and(|status| status != 429)).count();
        assert!((6..20).contains(&through), "{answers:?}");
        assert_eq!(total(&server, "proxy_headers_bad"), 0, "{}", server.said());
        drop(balancer);
        assert_eq!(server.stop(), Some(0));
    }
}
