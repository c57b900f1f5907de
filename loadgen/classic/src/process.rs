//! The two kinds of server that are measured, each a process of its own: an app tier of ours,
//! and the engine.
//!
//! Both end with this process, however it ends: the app tier when its standard input closes,
//! the engine by its warden ([`stampede_testkit`]). Next: [`crate::bench`].

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::cost::process_ns;
use crate::design::ITEM;
use crate::error::ClassicError;
use crate::shop::ShopConfig;
use crate::stats::Figures;
use stampede_loadgen::client::Client;
use stampede_loadgen::clock::unix_ms;
use stampede_loadgen::verify::Merchant;
use stampede_testkit::{Warden, free_port};

/// Longest wait for a server to begin, to end, or to catch up.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long one look at the counters may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// The variables that carry the URLs, whose passwords would be seen among the arguments.
pub const POSTGRES_VARIABLE: &str = "STAMPEDE_CLASSIC_POSTGRES";
/// See [`POSTGRES_VARIABLE`].
pub const REDIS_VARIABLE: &str = "STAMPEDE_CLASSIC_REDIS";

/// A running app tier.
pub struct AppProcess {
    child: Child,
    /// Closing it ends the process.
    lifeline: Option<ChildStdin>,
    /// Where it answers.
    pub addr: SocketAddr,
    client: Client,
}

impl AppProcess {
    /// Starts `program serve` with fresh tables of `stock` units, and waits until it listens.
    ///
    /// # Errors
    /// [`ClassicError::Process`] if it ends before that; its reason is on standard error.
    pub fn start(program: &Path, shop: &ShopConfig, stock: u64) -> Result<Self, ClassicError> {
        let mut command = Command::new(program);
        command.args(["serve", shop.design.name(), "--listen", "127.0.0.1:0", "--until-eof"]);
        command.args(["--stock", &stock.to_string(), "--pool", &shop.pool.to_string()]);
        command.args(["--limit", &shop.limit_per_s.to_string()]);
        command.env(POSTGRES_VARIABLE, &shop.postgres).env_remove(REDIS_VARIABLE);
        if let Some(redis) = &shop.redis {
            command.env(REDIS_VARIABLE, redis);
        }
        // A group of its own: Ctrl-C at the terminal is for us, and we end it in order.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let what = || format!("starting the app tier `{}`", shop.design.name());
        let mut child = command.spawn().map_err(|error| ClassicError::process(what(), &error))?;
        let lifeline = child.stdin.take();
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            let _ = BufReader::new(out).read_line(&mut line);
        }
        let addr = line.trim().strip_prefix("listening on ").and_then(|addr| addr.parse().ok());
        let none = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let at = addr.unwrap_or(none);
        let client = Client::new(&at.to_string(), LOOK_TIMEOUT);
        let app = Self { child, lifeline, addr: at, client };
        // On failure the drop waits for its end.
        addr.map(|_| app).ok_or_else(|| ClassicError::process(what(), "it ended before it listened"))
    }

    /// What it counted so far.
    ///
    /// # Errors
    /// [`ClassicError::Process`] if it does not answer.
    pub fn figures(&self) -> Result<Figures, ClassicError> {
        let what = || "asking the app tier for its counters";
        let response = self.client.request("GET", "/stats", "", &[]);
        let response = response.map_err(|error| ClassicError::process(what(), &error))?;
        serde_json::from_slice(&response.body).map_err(|error| ClassicError::process(what(), &error))
    }
}

impl Drop for AppProcess {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        end(&mut self.child);
    }
}

/// Waits for the end of a process that was told to end, and kills it if it does not.
fn end(child: &mut Child) {
    let deadline = Instant::now() + WAIT_MAX;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// A running engine, in a throw-away directory, on one core.
pub struct EngineProcess {
    child: Child,
    /// Where buyers are answered.
    pub addr: SocketAddr,
    merchant: Merchant,
    // Last, so that the directory goes when the process is gone.
    _warden: Warden,
}

impl EngineProcess {
    /// Starts `program serve` with durable acks, exporting to the database at `postgres`, and
    /// puts `stock` units of the item on sale, one to a buyer.
    ///
    /// # Errors
    /// [`ClassicError::Process`] with the end of its log.
    pub fn start(program: &Path, postgres: &str, stock: u64) -> Result<Self, ClassicError> {
        let warden = Warden::new("engine", None)?;
        let fault = |error: std::io::Error| ClassicError::process("starting the engine", &error);
        let (data, log) = (warden.data_dir(), warden.dir().join("log"));
        fs::create_dir(&data).map_err(fault)?;
        let (port, admin_port) = (free_port().map_err(fault)?, free_port().map_err(fault)?);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, admin_port));
        let token = format!("{:016x}{:016x}", stampede_testkit::random(), stampede_testkit::random());
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("STAMPEDE_")) {
                command.env_remove(name);
            }
        }
        command.args(["serve", "--cores", "1", "--ack", "wal", "--data-dir", "sale"]).current_dir(&data);
        command.args(["--listen", &addr.to_string(), "--admin-listen", &admin.to_string()]);
        command.env("STAMPEDE_IDENTITY_MODE", "header").env("STAMPEDE_ADMIN_TOKEN", &token);
        command.env("STAMPEDE_POSTGRES_URL", postgres);
        let errors = fs::File::create(&log).map_err(fault)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).process_group(0);
        let child = command.spawn().map_err(fault)?;
        let merchant = Merchant::new(&format!("http://{admin}"), &token);
        let mut engine = Self { child, addr, merchant, _warden: warden };
        engine.wait_ready(&log)?;
        engine.put_item(stock)?;
        Ok(engine)
    }

    fn wait_ready(&mut self, log: &PathBuf) -> Result<(), ClassicError> {
        let mut out = self.child.stdout.take().map(BufReader::new);
        let ready = out.as_mut().is_some_and(|out| {
            out.by_ref().lines().map_while(Result::ok).any(|line| line.contains("is ready"))
        });
        // Somebody has to read what it prints later.
        let reader = thread::Builder::new().name("engine-out".to_owned());
        if let Some(mut out) = out {
            let _ = reader.spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        }
        if ready {
            return Ok(());
        }
        let words = stampede_testkit::tail(&fs::read(log).unwrap_or_default());
        Err(ClassicError::process("starting the engine", &words))
    }

    fn put_item(&self, stock: u64) -> Result<(), ClassicError> {
        let now_ms = unix_ms();
        let body = json!({
            "name": "a phone", "price_minor": 1, "currency": "CNY", "stock": stock, "cap": 1,
            "opens_at_ms": now_ms.saturating_sub(1_000), "closes_at_ms": now_ms + 86_400_000,
            "payment": "on_order",
        });
        self.merchant.put(&format!("/admin/items/{ITEM}"), &body)?;
        self.wait_exported()
    }

    /// Waits until everything durable is in Postgres, too.
    ///
    /// # Errors
    /// [`ClassicError::Process`] if that takes a minute.
    pub fn wait_exported(&self) -> Result<(), ClassicError> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let page = self.merchant.item(ITEM)?;
            if page.exported_lsn >= page.durable_lsn {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(ClassicError::process("waiting for the engine's export", "it does not get on"));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// CPU time of the process, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        process_ns(self.child.id())
    }
}

impl Drop for EngineProcess {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        end(&mut self.child);
    }
}
