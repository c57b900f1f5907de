//! The process that is measured: the real binary with a directory of its own, two items
//! on sale, one of them sold out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use serde_json::{Value, json};
use stampede_loadgen::verify::Merchant;
use stampede_loadgen::workload::{Auth, Workload};
use tempfile::TempDir;

use crate::load::{Cpus, Leg};
use crate::{PLENTY, SOLD_OUT};

const ADMIN_TOKEN: &str = "a-token-for-the-bench";
const JWT_SECRET: &[u8; 32] = b"a secret only for these figures!";
/// Units of the item that nobody can buy out.
const UNITS: u64 = 4_000_000;
/// The largest cap: one buyer may buy for a whole leg.
const CAP: u32 = 1_000_000;

/// How the server is started.
#[derive(Clone, Default)]
pub(crate) struct Flags {
    /// `--ack memory`.
    pub(crate) memory: bool,
    /// Buyers by token instead of by header.
    pub(crate) jwt: bool,
    /// Where to export to.
    pub(crate) postgres: Option<String>,
    /// The variable of a limit that is set to one request a second.
    pub(crate) limit: Option<&'static str>,
}

/// How the generator proves who buys, with [`Flags::jwt`].
pub(crate) fn jwt_auth() -> Auth {
    Auth::Jwt { key: JWT_SECRET.to_vec(), kid: Some("bench".to_owned()) }
}

/// A running server; dropping it kills it and removes its directory.
pub(crate) struct ServerProcess {
    child: Child,
    /// Kept open: a server that cannot print ends.
    _out: BufReader<ChildStdout>,
    dir: TempDir,
    pub(crate) addr: SocketAddr,
    admin: SocketAddr,
    pub(crate) merchant: Merchant,
}

impl ServerProcess {
    /// Starts it, with its one core on the server's processor, and puts the items on sale.
    pub(crate) fn start(flags: &Flags, cpus: Cpus) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let (addr, admin) = (free_addr(), free_addr());
        let mut command = command(flags, dir.path(), cpus);
        command.arg("--listen").arg(addr.to_string()).arg("--admin-listen").arg(admin.to_string());
        let mut child = command.spawn().expect("the server starts");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let ready = out.by_ref().lines().map_while(Result::ok).any(|line| line.contains("is ready"));
        assert!(ready, "the server ended before it was ready; its reason is above");
        let server = Self {
            child,
            _out: out,
            dir,
            addr,
            admin,
            merchant: Merchant::new(&format!("http://{admin}"), ADMIN_TOKEN),
        };
        server.put_item(PLENTY, UNITS);
        server.put_item(SOLD_OUT, 1);
        let mut winner = Workload::purchases(SOLD_OUT, 1);
        if flags.jwt {
            winner.auth = jwt_auth();
        }
        Leg::count(addr, winner, 64).run(cpus);
        server
    }

    fn put_item(&self, item: u32, stock: u64) {
        self.put(item, stock, &json!({}));
    }

    /// Puts an item on sale, with settings beside or instead of the plain ones.
    pub(crate) fn put(&self, item: u32, stock: u64, settings: &Value) {
        let mut body = json!({
            "name": "an item of a bench", "price_minor": 1, "currency": "CNY", "stock": stock, "cap": CAP,
            "opens_at_ms": now_ms() - 1_000, "closes_at_ms": now_ms() + 86_400_000, "payment": "on_order",
        });
        for (name, value) in settings.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
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

    /// Where the kernel lists its threads.
    pub(crate) fn tasks(&self) -> PathBuf {
        format!("/proc/{}/task", self.child.id()).into()
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

fn command(flags: &Flags, dir: &Path, cpus: Cpus) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede"));
    command.arg("serve").arg("--data-dir").arg(dir).arg("--cores").arg(format!("{0}-{0}", cpus.server));
    command.env("STAMPEDE_ADMIN_TOKEN", ADMIN_TOKEN).env("RUST_LOG", "error");
    command.env("STAMPEDE_LIMITS_CONNECTIONS", "1024").stdout(Stdio::piped());
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

/// An address that was free a moment ago.
fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("bound")
}
