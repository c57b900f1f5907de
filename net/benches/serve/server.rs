//! The process that is measured: the real binary with a directory of its own, two items
//! on sale, one of them sold out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use serde_json::{Value, json};
use stampede_loadgen::meaning::Code;
use stampede_loadgen::request::{Framing, Requests};
use stampede_loadgen::verify::Merchant;
use stampede_loadgen::workload::{Auth, Workload};
use tempfile::TempDir;

use crate::load::{Leg, Serving, on_cpu};
use crate::{Bench, PLENTY, SOLD_OUT, fresh_seed};

/// The name by which this program is the server, with an allocator that counts.
pub(crate) const COUNTING: &str = "stampede";
pub(crate) const ADMIN_TOKEN: &str = "a-token-for-the-bench";
const JWT_SECRET: &[u8; 32] = b"a secret only for these figures!";
/// Units of the item that nobody can buy out.
const UNITS: u64 = 1 << 39;
/// The largest cap: one buyer may buy for a whole leg.
const CAP: u32 = 1_000_000;
/// Longest wait for an answer that is asked for by hand.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the server is started.
#[derive(Clone)]
pub(crate) struct Flags {
    /// `--ack memory`.
    pub(crate) memory: bool,
    /// Buyers by token instead of by header.
    pub(crate) jwt: bool,
    /// Where to export to.
    pub(crate) postgres: Option<String>,
    /// The variable of a limit that is set to one request a second.
    pub(crate) limit: Option<&'static str>,
    /// Most connections of buyers.
    pub(crate) connections: u32,
    /// Whether it may use all processors, with a core on each, instead of one.
    pub(crate) all_cores: bool,
    /// Whether it is this program, which counts the server's allocations.
    pub(crate) counting: bool,
}

impl Default for Flags {
    fn default() -> Self {
        let (memory, jwt, postgres, limit) = (false, false, None, None);
        Self { memory, jwt, postgres, limit, connections: 1024, all_cores: false, counting: false }
    }
}

/// How the generator proves who buys, with [`Flags::jwt`].
pub(crate) fn jwt_auth() -> Auth {
    Auth::Jwt { key: JWT_SECRET.to_vec(), kid: Some("bench".to_owned()) }
}

/// A running server; dropping it kills it and removes its directory.
pub(crate) struct ServerProcess {
    child: Child,
    /// Kept open: a server that cannot print ends.
    pub(crate) out: BufReader<ChildStdout>,
    /// Read by a server that counts.
    pub(crate) input: ChildStdin,
    dir: TempDir,
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) merchant: Merchant,
}

impl Serving for ServerProcess {
    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl ServerProcess {
    /// Starts it and puts the items on sale. Its one core serves on the server's processor, and its other
    /// threads stay there, too, unless the bench or the flags say otherwise.
    pub(crate) fn start(bench: &Bench, flags: &Flags) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let [addr, admin] = free_addrs();
        let mut command = command(bench, flags, dir.path());
        command.arg("--listen").arg(addr.to_string()).arg("--admin-listen").arg(admin.to_string());
        let mut spawn = || command.spawn().expect("the server starts");
        let free = bench.spread || flags.all_cores;
        let mut child = if free { spawn() } else { on_cpu(bench.cpus.server, spawn) };
        let input = child.stdin.take().expect("piped");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let ready = out.by_ref().lines().map_while(Result::ok).any(|line| line.contains("is ready"));
        assert!(ready, "the server ended before it was ready; its reason is above");
        let merchant = Merchant::new(&format!("http://{admin}"), ADMIN_TOKEN);
        let server = Self { child, out, input, dir, addr, admin, merchant };
        server.put(PLENTY, UNITS, &json!({}));
        server.put(SOLD_OUT, 1, &json!({}));
        let mut winner = Workload::purchases(SOLD_OUT, 0);
        if flags.jwt {
            winner.auth = jwt_auth();
        }
        Leg::count(addr, winner, Code::Won, 1).over(1).run(bench.cpus);
        server
    }

    /// Puts an item on sale, with settings beside or instead of the plain ones.
    pub(crate) fn put(&self, item: u32, stock: u64, settings: &Value) {
        let body = item_body(stock, settings);
        self.merchant.put(&format!("/admin/items/{item}"), &body).expect("an item");
    }

    /// The merchant's POST.
    pub(crate) fn shop_post(&self, path: &str, body: &Value) {
        let who = format!("Authorization: Bearer {ADMIN_TOKEN}");
        let answer = post(self.admin, path, &who, &body.to_string());
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }

    /// A ticket of this buyer.
    pub(crate) fn ticket(&self, item: u32, buyer: &str) -> String {
        let answer = post(self.addr, &format!("/v1/items/{item}/ticket"), &format!("X-Buyer: {buyer}"), "{}");
        let after = answer.split_once("\"ticket\":\"").unwrap_or_else(|| panic!("no ticket: {answer}")).1;
        after.split('"').next().unwrap_or_default().to_owned()
    }

    /// The bytes with which it answers a purchase of this item as the generator sends it.
    pub(crate) fn answer_to_purchase(&self, item: u32, keep_alive: bool) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.addr).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        stream.write_all(&purchase(self.addr, item, keep_alive)).expect("sent");
        read_answer(&mut stream)
    }

    /// Its data directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn command(bench: &Bench, flags: &Flags, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede"));
    if flags.counting {
        command = Command::new(std::env::current_exe().expect("this program"));
        command.arg0(COUNTING);
    }
    command.arg("serve").arg("--data-dir").arg(dir).arg("--cores");
    command.arg(if flags.all_cores { "all".to_owned() } else { format!("{0}-{0}", bench.cpus.server) });
    command.env("STAMPEDE_ADMIN_TOKEN", ADMIN_TOKEN).env("RUST_LOG", "error");
    command.env("STAMPEDE_LIMITS_CONNECTIONS", flags.connections.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(transport) = &bench.transport {
        command.arg("--transport").arg(transport);
    }
    if flags.memory {
        command.arg("--ack").arg("memory");
    }
    if let Some(url) = &flags.postgres {
        command.arg("--postgres").arg(url);
    }
    if let Some(limit) = flags.limit {
        command.env(limit, "1");
    }
    if flags.jwt {
        let secret = base64::engine::general_purpose::STANDARD.encode(JWT_SECRET);
        command.env("STAMPEDE_IDENTITY_KEYS", format!("bench:HS256:{secret}"));
    } else {
        command.env("STAMPEDE_IDENTITY_MODE", "header");
    }
    command
}

/// An item as the merchant puts it on sale.
pub(crate) fn item_body(stock: u64, settings: &Value) -> Value {
    let mut body = json!({
        "name": "an item of a bench", "price_minor": 1, "currency": "CNY", "stock": stock, "cap": CAP,
        "opens_at_ms": now_ms() - 1_000, "closes_at_ms": now_ms() + 86_400_000, "payment": "on_order",
    });
    for (name, value) in settings.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

/// The bytes of a purchase by somebody new, as the generator sends them.
pub(crate) fn purchase(addr: SocketAddr, item: u32, keep_alive: bool) -> Vec<u8> {
    let workload = Workload::purchases(item, fresh_seed());
    let host = addr.to_string();
    let framing = Framing { host: &host, keep_alive, expires_at_s: 0 };
    let mut bytes = Vec::new();
    Requests::new(&workload, framing, None).expect("a workload").purchase(0, None, &mut bytes);
    bytes
}

/// Reads one answer with a `Content-Length`, and no byte behind it.
pub(crate) fn read_answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut room = [0; 4096];
    loop {
        if let Some(bytes) = answer_bytes(&answer) {
            assert_eq!(answer.len(), bytes, "more than one answer: {}", answer.escape_ascii());
            return answer;
        }
        let count = stream.read(&mut room).expect("an answer");
        assert!(count > 0, "closed within an answer: {}", answer.escape_ascii());
        answer.extend_from_slice(&room[..count]);
    }
}

/// How long the first answer is, if it is all there.
pub(crate) fn answer_bytes(bytes: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body: usize = length.and_then(|length| length.trim().parse().ok()).expect("a length");
    (bytes.len() >= head + body).then_some(head + body)
}

/// Asks once on a connection of its own; the whole response.
fn post(addr: SocketAddr, path: &str, who: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(addr).expect("connected");
    let len = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {addr}\r\n{who}\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}

/// Two addresses that were free a moment ago. Both are held before either is let go: else they may be one.
fn free_addrs() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("a free port"));
    listeners.each_ref().map(|listener| listener.local_addr().expect("bound"))
}
