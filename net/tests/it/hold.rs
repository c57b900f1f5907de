//! Threads that are held for a while, anywhere: afterwards every core serves, and meanwhile
//! the engine reports it.
//!
//! An executor that parked a thread which had been held at the wrong moment put a core to sleep
//! forever. So each thread of a server under load is held at random points, and then every core is asked,
//! on both transports. This file also tests the watchdog.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use stampede_testkit::{Missing, Need, skip};

#[path = "../common/hold.rs"]
pub(crate) mod held;

use self::held::{Held, Quota, threads_of};
use crate::server::{Bed, PATIENCE, Server, wait_for};
use crate::transport::{put_on_sale, transports};

/// Longer than the time slice of any executor or scheduler, shorter than a stall.
const HOLD: Duration = Duration::from_millis(300);
/// How often each thread of a core is held, per transport.
const HOLDS_PER_CORE: u32 = 10;
/// How long an idle core is held at each boundary, and at how many: several rounds of its loop.
const IDLE_HOLD: Duration = Duration::from_millis(150);
const IDLE_BOUNDARIES: u64 = 30;
/// How many system-call boundaries a hold may be away from where the thread is.
const BOUNDARIES: u64 = 12;

/// Random draws from a seed that is printed; `HOLD_SEED` repeats them.
struct Draws(u64);

impl Draws {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("HOLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(now);
        println!("HOLD_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// One request on a connection of its own; returns head and body of the response.
pub(crate) fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// Asks until each core has responded once: the kernel distributes connections by port.
fn every_core_answers(server: &Server) {
    let accepted = || -> Vec<u64> {
        // For a moment after a stall the stand-in may still respond for core 0.
        let stats = wait_for("core 0 to answer", || server.merchant().get("/admin/stats").ok());
        let cores = stats["cores"].as_array().expect("a list").iter();
        cores.map(|core| core["requests"].as_u64().expect("a number")).collect()
    };
    let before = accepted();
    wait_for("every core to answer", || {
        for _ in 0..8 {
            let said = ask(server.public, "/v1/time").expect("an answer");
            assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        }
        accepted().iter().zip(&before).all(|(now, before)| now > before).then_some(())
    });
}

/// Buyers who keep buying, sometimes on a new connection, while `act` runs.
fn under_load(server: &Server, act: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for buyer in 0..4 {
            let (over, public) = (&over, server.public);
            scope.spawn(move || {
                for order in 0u64.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    buy(public, &format!("b-{buyer}-{order}"));
                }
            });
        }
        // The buyers stop with it, also if it panics.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _end = End(&over);
        act();
    });
}

/// A purchase; whether the server is alive is checked elsewhere.
fn buy(public: SocketAddr, buyer: &str) {
    let Ok(mut stream) = TcpStream::connect_timeout(&public, PATIENCE) else { return };
    let _set = stream.set_read_timeout(Some(PATIENCE));
    let sent = write!(
        stream,
        "POST /v1/items/1/orders HTTP/1.1\r\nHost: a\r\nX-Buyer: {buyer}\r\nContent-Length: 14\r\n\
         Connection: close\r\n\r\n{{\"quantity\":1}}"
    );
    let _answered = sent.and_then(|()| stream.read_to_end(&mut Vec::new()));
}

pub(crate) fn thread_named(server: &Server, name: &str) -> u32 {
    let threads = threads_of(server.pid());
    threads.iter().find(|(_, known)| known == name).unwrap_or_else(|| panic!("{name} of {threads:?}")).0
}

/// Whether this machine allows tracing; reported if not.
pub(crate) fn may_trace(server: &Server) -> bool {
    let taken = Held::take(thread_named(server, "stampede-core-1"), 0);
    if let Err(why) = &taken {
        skip(&Missing::new(Need::Ptrace, why));
    }
    taken.is_ok()
}

/// strace on a thread, whose next wait in the kernel fails, as none should.
pub(crate) struct Broken(std::process::Child);

impl Broken {
    pub(crate) fn wait_of(server: &Server, thread: &str) -> Self {
        const WAITS: &str = "epoll_wait,epoll_pwait,epoll_pwait2,io_uring_enter";
        let (trace, inject) = (format!("trace={WAITS}"), format!("inject={WAITS}:error=EBADF"));
        let mut strace = std::process::Command::new("strace");
        strace.args(["-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
        strace.args(["-p", &thread_named(server, thread).to_string()]);
        Self(strace.spawn().expect("strace is missing: make deps installs it"))
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _ended = self.0.wait();
    }
}

fn server_on(transport: &str) -> (Bed, Server) {
    println!("on {transport}");
    let mut bed = Bed::new().set("transport", transport);
    let server = bed.start();
    put_on_sale(&server, 100_000_000);
    (bed, server)
}

#[test]
fn hold_any_thread_anywhere_and_every_core_serves_afterwards() {
    let mut draws = Draws::new();
    for transport in transports() {
        let (_bed, server) = server_on(&transport);
        if !may_trace(&server) {
            return;
        }
        under_load(&server, || {
            let threads = threads_of(server.pid());
            assert!(threads.len() >= 6, "{threads:?}");
            for (thread, name) in threads {
                let is_core = name.starts_with("stampede-core");
                for _ in 0..if is_core { HOLDS_PER_CORE } else { 1 } {
                    let boundaries = draws.below(BOUNDARIES);
                    println!("{name} at boundary {boundaries}");
                    if let Err(why) = Held::keep(thread, boundaries, HOLD) {
                        // Threads that only helped to start end some time after it.
                        let is_gone = threads_of(server.pid()).iter().all(|(known, _)| *known != thread);
                        assert!(is_gone, "it was traced before: {why}");
                    }
                    every_core_answers(&server);
                }
            }
        });
        every_core_answers(&server);
        assert_eq!(server.stop(), Some(0), "on {transport}");
    }
}

/// What an idle core does by itself must continue, too: holds expire without a request. The core is held at
/// each point of its loop in turn, for longer than the 100 ms after which a glommio executor
/// ends a task's time slice: so also between arming that timer and the first look at it.
#[test]
fn hold_an_idle_core_and_its_time_goes_on() {
    for transport in transports() {
        let (_bed, server) = server_on(&transport);
        if !may_trace(&server) {
            return;
        }
        for core in ["stampede-core-0", "stampede-core-1"] {
            let thread = thread_named(&server, core);
            Held::walk(thread, IDLE_BOUNDARIES, IDLE_HOLD).expect("it was traced before");
        }
        // Nobody has sent a request since: the core's own count of context switches shows that it runs.
        for core in ["stampede-core-0", "stampede-core-1"] {
            let thread = thread_named(&server, core);
            let switches = || {
                let status = std::fs::read_to_string(format!("/proc/{}/task/{thread}/status", server.pid()));
                let status = status.expect("it runs");
                let line = status.lines().find(|line| line.starts_with("voluntary_ctxt")).expect("a count");
                line.split_whitespace().nth(1).and_then(|count| count.parse::<u64>().ok()).expect("a number")
            };
            let before = switches();
            wait_for("an idle core to turn", || (switches() > before + 5).then_some(()));
        }
        every_core_answers(&server);
        assert_eq!(server.stop(), Some(0), "on {transport}");
    }
}

#[test]
fn hold_a_core_for_long_and_health_says_so_from_another_thread() {
    for transport in transports() {
        let (_bed, server) = server_on(&transport);
        if !may_trace(&server) {
            return;
        }
        for core in [1, 0] {
            let held = Held::take(thread_named(&server, &format!("stampede-core-{core}")), 3).unwrap();
            wait_for("health to say so", || {
                let said = ask(server.admin, "/healthz").ok()?;
                (said.starts_with("HTTP/1.1 503") && said.contains(&format!("\"stalled_cores\":[{core}]")))
                    .then_some(())
            });
            let ready = ask(server.admin, "/readyz").expect("an answer");
            assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("core_stalled"), "{ready}");
            let metrics = ask(server.admin, "/metrics").expect("an answer");
            let stalled = format!("stampede_core_stalled_milliseconds{{core=\"{core}\"}} ");
            let stalled = metrics.lines().find_map(|line| line.strip_prefix(&stalled)).expect("a sample");
            assert!(stalled.parse::<u64>().unwrap() >= 1_000, "{stalled}");
            if core == 0 {
                let other = ask(server.admin, "/admin/items").expect("an answer");
                assert!(other.starts_with("HTTP/1.1 503"), "{other}");
            }
            drop(held);
            wait_for("health to be well", || {
                ask(server.admin, "/healthz").ok()?.starts_with("HTTP/1.1 200").then_some(())
            });
            every_core_answers(&server);
            wait_for("the alarms", || {
                let alarms = server.merchant().get("/admin/stats").ok()?["alarms"].to_string();
                let told = |what: &str| alarms.contains(&format!("core {core} {what}"));
                (told("has not run for a second") && told("runs again")).then_some(())
            });
        }
        assert_eq!(server.stop(), Some(0), "on {transport}");
    }
}

/// The watchdog has a handle of the merchant's listening socket, and must not keep it open.
#[test]
fn hold_nothing_open_that_a_stopping_server_has_closed() {
    let (_bed, mut server) = server_on(&transports()[0]);
    // A request under way keeps the server from ending.
    let mut half = TcpStream::connect_timeout(&server.admin, PATIENCE).unwrap();
    half.write_all(b"GET /admin/items HTTP/1.1\r\nHost: a\r\n").unwrap();
    wait_for("the connection", || ask(server.admin, "/healthz").ok());
    server.terminate();
    wait_for("the merchant's address to refuse", || TcpStream::connect(server.admin).err());
    assert_eq!(server.exited(), None, "it has ended, so a refusing address proves nothing");
    drop(half);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn hold_a_core_for_ever_and_the_process_ends() {
    let (_bed, mut server) = server_on(&transports()[0]);
    if !may_trace(&server) {
        return;
    }
    let held = Held::take(thread_named(&server, "stampede-core-1"), 0).unwrap();
    wait_for("the watch to give up", || {
        server.said().contains("core 1 has not run for ten seconds").then_some(())
    });
    drop(held);
    let status = server.wait_for_exit();
    assert_eq!(status.code(), Some(76), "{status}");
}

/// If the whole process stood still, however long, no core is stalled.
#[test]
fn hold_the_whole_process_and_no_core_is_blamed() {
    let (_bed, server) = server_on(&transports()[0]);
    let pid = rustix::process::Pid::from_raw(server.pid().cast_signed()).expect("a process");
    rustix::process::kill_process(pid, Signal::STOP).expect("it runs");
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
    rustix::process::kill_process(pid, Signal::CONT).expect("it runs");
    every_core_answers(&server);
    let metrics = ask(server.admin, "/metrics").expect("an answer");
    for core in 0..2 {
        let line = format!("stampede_core_stalls_total{{core=\"{core}\"}} 0");
        assert!(metrics.contains(&line), "{metrics}");
    }
    assert_eq!(server.stop(), Some(0));
}

/// A processor quota of 20 ms in 500: slow, never dead.
#[test]
fn hold_by_a_quota_and_every_core_still_serves() {
    for transport in transports() {
        let (_bed, server) = server_on(&transport);
        let quota = match Quota::on(server.pid()) {
            Ok(quota) => quota,
            Err(why) => return skip(&why),
        };
        for _ in 0..6 {
            let said = ask(server.public, "/v1/time").expect("an answer");
            assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        }
        drop(quota);
        every_core_answers(&server);
        assert_eq!(server.stop(), Some(0), "on {transport}");
    }
}

/// Half a server is worse than none: the process ends, and is restarted.
#[test]
fn hold_not_on_when_a_core_ends_by_itself() {
    for transport in transports() {
        for core in ["stampede-core-1", "stampede-core-0"] {
            let (_bed, mut server) = server_on(&transport);
            if !may_trace(&server) {
                return;
            }
            let _broken = Broken::wait_of(&server, core);
            assert_eq!(server.wait_for_exit().code(), Some(76), "{core} on {transport}: {}", server.said());
            assert!(server.said().contains("a core has ended unexpectedly"), "{}", server.said());
        }
    }
}
