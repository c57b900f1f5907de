//! Shutdown without losing a request: the lame duck, connections that arrive while the listeners
//! close, and restarts behind load balancers. `make deps` installs nginx and HAProxy.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::e2e_talk::{Http, item};
use crate::server::{Bed, PATIENCE, Server, TOKEN, free_address, get, pause, wait_for};

/// How long the servers of these tests are lame ducks.
const LAME_DUCK_MS: &str = "1500";

fn shop(server: &Server, call: &str, body: &str) -> crate::e2e_talk::Answer {
    Http::to(server.admin).call(call, &[&format!("Authorization: Bearer {TOKEN}")], body)
}

fn put_on_sale(server: &Server, number: u32) {
    let answer = shop(server, &format!("PUT /admin/items/{number}"), &item(1_000_000, 1, "on_order", 0));
    assert!(answer.status < 300, "{answer:?}");
}

fn sold(server: &Server) -> u64 {
    shop(server, "GET /admin/items/1", "").json()["sold"].as_u64().expect("a number")
}

fn buy(http: &mut Http, buyer: &str) -> crate::e2e_talk::Answer {
    http.call("POST /v1/items/1/orders", &[&format!("X-Buyer: {buyer}")], "{\"quantity\":1}")
}

#[test]
fn e2e_drain_a_lame_duck_says_so_and_keeps_selling() {
    let mut bed = Bed::new().set("shutdown.lame_duck_ms", LAME_DUCK_MS);
    let mut server = bed.start();
    put_on_sale(&server, 1);
    let (mut idle, mut busy) = (Http::to(server.public), Http::to(server.public));
    assert_eq!(buy(&mut idle, "ann").header("Connection"), None);
    assert_eq!(buy(&mut busy, "bob").status, 201);
    server.terminate();
    // Readiness changes first; both listeners still accept connections.
    let not_ready = wait_for("draining", || {
        get(server.admin, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 503"))
    });
    assert!(not_ready.contains("\"draining\""), "{not_ready}");
    let live = get(server.admin, "/healthz").expect("an answer");
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    let mut fresh = Http::to(server.public);
    let (placed, again) = (buy(&mut fresh, "cid"), buy(&mut busy, "dan"));
    for answer in [&placed, &again] {
        assert_eq!((answer.status, answer.header("Connection")), (201, Some("close")), "{answer:?}");
    }
    assert!(fresh.read(false).is_none() && busy.read(false).is_none(), "closed after the response");
    // A client that was idle all the time is served, too.
    assert_eq!(buy(&mut idle, "eve").status, 201);
    assert_eq!(sold(&server), 5);
    let status = server.wait_for_exit();
    assert_eq!(status.code(), Some(0), "{}", server.said());
    assert!(server.said().contains("stopped in order"), "{}", server.said());
}

/// Requests after the one whose response says `Connection: close` are not decided.
#[test]
fn e2e_drain_nothing_is_taken_after_the_last_answer() {
    let mut bed = Bed::new().set("shutdown.lame_duck_ms", LAME_DUCK_MS);
    let mut server = bed.start();
    put_on_sale(&server, 1);
    server.terminate();
    wait_for("draining", || get(server.admin, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 503")));
    let mut http = Http::to(server.public);
    let request = |buyer: &str| {
        http.request("POST /v1/items/1/orders", &[&format!("X-Buyer: {buyer}")], "{\"quantity\":1}")
    };
    let both = format!("{}{}", request("ann"), request("bob"));
    http.send(&both);
    let first = http.read(false).expect("an answer");
    assert_eq!((first.status, first.header("Connection")), (201, Some("close")));
    assert!(http.read(false).is_none());
    assert_eq!(sold(&server), 1, "an order whose buyer gets no response");
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// A core without connections stays until those of the others have their responses.
#[test]
fn e2e_drain_a_core_without_connections_answers_for_the_others() {
    let mut bed = Bed::new();
    let server = bed.start();
    put_on_sale(&server, 1);
    let threads = || std::fs::read_dir(format!("/proc/{}/task", server.pid())).map_or(0, Iterator::count);
    let mut stream = TcpStream::connect(server.public).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // All owners are asked for it; half of the head comes before the shutdown, half after it.
    stream.write_all(b"GET /v1/orders HTTP/1.1\r\nHost: shop\r\n").unwrap();
    wait_for("the connection", || {
        let metrics = get(server.admin, "/metrics")?;
        let open = metrics.lines().filter(|line| line.starts_with("stampede_connections_open{"));
        let open: u64 = open.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        (open >= 1).then_some(())
    });
    let before = threads();
    server.terminate();
    wait_for("closed listeners", || refused(server.public).then_some(()));
    // A core that ended alone would be gone now, or very soon.
    let until = Instant::now() + Duration::from_millis(500);
    while threads() >= before && Instant::now() < until {
        pause();
    }
    stream.write_all(b"X-Buyer: ann\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
}

fn refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// One request per connection, again and again until the listener is closed: every accepted connection gets its
/// response. A connection that was made and is reset would be a lost request.
#[test]
fn e2e_drain_every_accepted_connection_is_answered() {
    for _ in 0..3 {
        let mut bed = Bed::new();
        let mut server = bed.start();
        let (address, answered) = (server.public, Arc::new(AtomicU64::new(0)));
        let clients: Vec<JoinHandle<u64>> = (0..8)
            .map(|_| {
                let answered = answered.clone();
                thread::spawn(move || {
                    let mut count = 0;
                    loop {
                        let Ok(mut stream) = TcpStream::connect(address) else { return count };
                        stream.set_read_timeout(Some(PATIENCE)).unwrap();
                        let request = b"GET /v1/time HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n";
                        stream.write_all(request).expect("an open connection accepts a request");
                        let mut answer = String::new();
                        stream.read_to_string(&mut answer).expect("an open connection is not reset");
                        assert!(
                            answer.starts_with("HTTP/1.1 200"),
                            "got in, and was not answered: {answer:?}"
                        );
                        count += 1;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        wait_for("some answers", || (answered.load(Ordering::Relaxed) > 200).then_some(()));
        server.terminate();
        let counts: Vec<u64> =
            clients.into_iter().map(|client| client.join().expect("what the client saw is true")).collect();
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        assert_eq!(server.wait_for_exit().code(), Some(0));
    }
}

// ---- behind load balancers ----

/// A load balancer of the test; killed when dropped.
pub(crate) struct Balancer {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl Balancer {
    pub(crate) fn start(program: &str, args: &[&str], dir: &Path, address: SocketAddr) -> Self {
        let path = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
            .iter()
            .map(|dir| Path::new(dir).join(program))
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("{program} is not installed: run make deps"));
        let log = dir.join("balancer.log");
        let file = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(path);
        command.args(args).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut balancer = Self { child: command.spawn().expect("it runs"), address, log };
        wait_for("the load balancer", || {
            assert!(balancer.child.try_wait().unwrap().is_none(), "{}", balancer.said());
            TcpStream::connect(address).ok()
        });
        balancer
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn nginx(dir: &Path, servers: [&Server; 2]) -> Self {
        let (address, dir_text) = (free_address(), dir.display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {dir_text}/{kind};\n"))
            .concat();
        let upstream: String =
            servers.map(|server| format!("server {} max_fails=1 fail_timeout=1s;\n", server.public)).concat();
        let config = format!(
            "daemon off; master_process off; pid {dir_text}/nginx.pid; error_log stderr warn;\n\
             events {{ worker_connections 256; }}\n\
             http {{\naccess_log off;\n{temporary}\
             upstream shop {{\n{upstream}keepalive 16;\n}}\n\
             server {{\nlisten {address};\nkeepalive_requests 1000000;\n\
             location / {{\nproxy_pass http://shop; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_next_upstream error timeout;\n}}\n}}\n}}\n"
        );
        let path = dir.join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let (prefix, path) = (dir.to_str().unwrap(), path.to_str().unwrap());
        Self::start("nginx", &["-p", prefix, "-c", path, "-e", "stderr"], dir, address)
    }

    fn haproxy(dir: &Path, servers: [&Server; 2]) -> Self {
        let address = free_address();
        let lines: String = servers
            .iter()
            .enumerate()
            .map(|(n, server)| {
                format!("    server e{n} {} check port {}\n", server.public, server.admin.port())
            })
            .collect();
        let config = format!(
            "global\n    maxconn 256\n\
             defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n\
             \x20   timeout check 5s\n    retries 3\n    option redispatch\n\
             frontend buyers\n    bind {address}\n    default_backend shop\n\
             backend shop\n    balance roundrobin\n    option httpchk\n\
             \x20   http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host shop\n\
             \x20   http-check expect status 200\n    default-server inter 50ms fall 1 rise 1\n{lines}"
        );
        let path = dir.join("haproxy.cfg");
        std::fs::write(&path, config).unwrap();
        Self::start("haproxy", &["-db", "-f", path.to_str().unwrap()], dir, address)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _status = self.child.wait();
        if thread::panicking() {
            eprintln!("---- the load balancer said:\n{}----", self.said());
        }
    }
}

/// Two engines behind a balancer, each restarted once while buyers buy: every purchase gets 201, and
/// every response is an order.
fn restarts(start: impl FnOnce(&Path, [&Server; 2]) -> Balancer) {
    let bed = || {
        let mut bed = Bed::new().set("shutdown.lame_duck_ms", LAME_DUCK_MS);
        bed.cores = "1";
        bed
    };
    let mut beds = [bed(), bed()];
    let mut servers: Vec<Server> = beds.iter_mut().map(Bed::start).collect();
    servers.iter().for_each(|server| put_on_sale(server, 1));
    let dir = tempfile::tempdir().unwrap();
    let balancer = start(dir.path(), [&servers[0], &servers[1]]);
    let stop = Arc::new(AtomicBool::new(false));
    let buyers: Vec<JoinHandle<u64>> = (0..4)
        .map(|number| {
            let (stop, address) = (stop.clone(), balancer.address);
            thread::spawn(move || {
                let (mut http, mut bought) = (Http::to(address), 0);
                while !stop.load(Ordering::Relaxed) {
                    let answer = buy(&mut http, &format!("b{number}-{bought}"));
                    assert_eq!(answer.status, 201, "purchase {bought}: {answer:?}");
                    bought += 1;
                    if answer.header("Connection") == Some("close") {
                        http = Http::to(address);
                    }
                }
                bought
            })
        })
        .collect();
    let sells = |server: &Server| {
        let before = sold(server);
        wait_for("sales", || {
            (sold(server) > before + 20 || buyers.iter().any(JoinHandle::is_finished)).then_some(())
        });
    };
    for (number, bed) in beds.iter_mut().enumerate() {
        servers.iter().for_each(&sells);
        let mut old = servers.remove(number);
        old.terminate();
        assert_eq!(old.wait_for_exit().code(), Some(0), "{}", old.said());
        servers.insert(number, bed.start());
        servers.iter().for_each(&sells);
    }
    stop.store(true, Ordering::Relaxed);
    let bought: u64 =
        buyers.into_iter().map(|buyer| buyer.join().expect("every purchase gets a response")).sum();
    assert_eq!(servers.iter().map(sold).sum::<u64>(), bought, "orders, and purchases that were answered");
}

#[test]
fn e2e_drain_restarts_behind_haproxy_lose_no_request() {
    restarts(Balancer::haproxy);
}

#[test]
fn e2e_drain_restarts_behind_nginx_lose_no_request() {
    // Without health checks nginx opens connections until the listener refuses them.
    restarts(Balancer::nginx);
}
