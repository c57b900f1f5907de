//! Servers that are measured, each a process of its own: an app tier of ours, and the engine. The third kind
//! is [`crate::rival`].
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

/// A process of this program that ends with this one, and the first line that it printed.
pub struct Helper {
    child: Child,
    /// Closing it ends the process.
    lifeline: Option<ChildStdin>,
    line: String,
}

impl Helper {
    /// Starts it and waits for its first line, which stays empty if it ended before.
    ///
    /// # Errors
    /// [`ClassicError::Process`] if it cannot be started; `what` says what it is.
    pub fn start(mut command: Command, what: &str) -> Result<Self, ClassicError> {
        // A group of its own: Ctrl-C at the terminal is for us, and we end it in order.
        command.arg("--until-eof").stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let child = command.spawn();
        let mut child = child.map_err(|error| ClassicError::process(format!("starting {what}"), &error))?;
        let (lifeline, out) = (child.stdin.take(), child.stdout.take());
        let mut helper = Self { child, lifeline, line: String::new() };
        if let Some(out) = out {
            let _ = BufReader::new(out).read_line(&mut helper.line);
        }
        Ok(helper)
    }

    /// Where it says that it listens.
    ///
    /// # Errors
    /// [`ClassicError::Process`] if it ended before it did; its reason is on standard error.
    pub fn listens(&self, what: &str) -> Result<SocketAddr, ClassicError> {
        let addr = self.line.trim().strip_prefix("listening on ").and_then(|addr| addr.parse().ok());
        addr.ok_or_else(|| ClassicError::process(format!("starting {what}"), "it ended before it listened"))
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as `kill -9` does, and waits for its end.
    pub fn kill(&mut self) {
        // An error means that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        end(&mut self.child);
    }
}

/// A running app tier.
pub struct AppProcess {
    helper: Helper,
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
        command.args(["serve", shop.design.name(), "--listen", "127.0.0.1:0"]);
        command.args(["--stock", &stock.to_string(), "--pool", &shop.pool.to_string()]);
        command.args(["--limit", &shop.limit_per_s.to_string()]);
        command.env(POSTGRES_VARIABLE, &shop.postgres).env_remove(REDIS_VARIABLE);
        if let Some(redis) = &shop.redis {
            command.env(REDIS_VARIABLE, redis);
        }
        let what = format!("the app tier `{}`", shop.design.name());
        let helper = Helper::start(command, &what)?;
        // On failure the drop waits for its end.
        let addr = helper.listens(&what)?;
        let client = Client::new(&addr.to_string(), LOOK_TIMEOUT);
        Ok(Self { helper, addr, client })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.helper.pid()
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
    /// `None` after it was killed.
    child: Option<Child>,
    launch: Launch,
    /// Where buyers are answered.
    pub addr: SocketAddr,
    merchant: Merchant,
    // Last, so that the directory goes when the process is gone.
    _warden: Warden,
}

/// How the engine is started, the first time and again.
struct Launch {
    program: PathBuf,
    data: PathBuf,
    log: PathBuf,
    addr: SocketAddr,
    admin: SocketAddr,
    token: String,
    postgres: String,
}

impl Launch {
    fn spawn(&self) -> Result<Child, ClassicError> {
        let fault = |error: std::io::Error| ClassicError::process("starting the engine", &error);
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("STAMPEDE_")) {
                command.env_remove(name);
            }
        }
        command.args(["serve", "--cores", "1", "--ack", "wal", "--data-dir", "sale"]).current_dir(&self.data);
        command.args(["--listen", &self.addr.to_string(), "--admin-listen", &self.admin.to_string()]);
        command.env("STAMPEDE_IDENTITY_MODE", "header").env("STAMPEDE_ADMIN_TOKEN", &self.token);
        command.env("STAMPEDE_POSTGRES_URL", &self.postgres);
        let errors = fs::File::options().create(true).append(true).open(&self.log).map_err(fault)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).process_group(0);
        let mut child = command.spawn().map_err(fault)?;
        if self.is_ready(&mut child) {
            return Ok(child);
        }
        drop(child.kill());
        drop(child.wait());
        let words = stampede_testkit::tail(&fs::read(&self.log).unwrap_or_default());
        Err(ClassicError::process("starting the engine", &words))
    }

    fn is_ready(&self, child: &mut Child) -> bool {
        let mut out = child.stdout.take().map(BufReader::new);
        let is_ready = out.as_mut().is_some_and(|out| {
            out.by_ref().lines().map_while(Result::ok).any(|line| line.contains("is ready"))
        });
        // Somebody has to read what it prints later.
        let reader = thread::Builder::new().name("engine-out".to_owned());
        if let Some(mut out) = out {
            let _ = reader.spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        }
        is_ready
    }
}

impl EngineProcess {
    /// Starts `program serve` with durable acks, exporting to the database at `postgres`, and
    /// puts `stock` units of the item on sale, one to a buyer.
    ///
    /// # Errors
    /// [`ClassicError::Process`] with the end of its log.
    pub fn start(program: &Path, postgres: &str, stock: u64) -> Result<Self, ClassicError> {
        Self::start_in(&std::env::temp_dir(), program, postgres, stock)
    }

    /// The same with its data below the directory `root`.
    ///
    /// # Errors
    /// As [`EngineProcess::start`].
    pub fn start_in(root: &Path, program: &Path, postgres: &str, stock: u64) -> Result<Self, ClassicError> {
        let warden = Warden::new_in(root, "engine", None)?;
        let fault = |error: std::io::Error| ClassicError::process("starting the engine", &error);
        let (data, log) = (warden.data_dir(), warden.dir().join("log"));
        fs::create_dir(&data).map_err(fault)?;
        let (port, admin_port) = (free_port().map_err(fault)?, free_port().map_err(fault)?);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, admin_port));
        let token = format!("{:016x}{:016x}", stampede_testkit::random(), stampede_testkit::random());
        let (program, postgres) = (program.to_owned(), postgres.to_owned());
        let merchant = Merchant::new(&format!("http://{admin}"), &token);
        let launch = Launch { program, data, log, addr, admin, token, postgres };
        let child = Some(launch.spawn()?);
        let engine = Self { child, launch, addr, merchant, _warden: warden };
        engine.put_item(stock)?;
        Ok(engine)
    }

    /// Kills it as `kill -9` does, and waits for its end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Starts it again on the data that it has, and waits until it is ready. As a supervisor does, it tries again
    /// while the kernel has not given back the port of the process that was killed.
    ///
    /// # Errors
    /// [`ClassicError::Process`] with the end of its log.
    pub fn restart(&mut self) -> Result<(), ClassicError> {
        self.kill();
        let deadline = Instant::now() + WAIT_MAX;
        self.child = loop {
            match self.launch.spawn() {
                Ok(child) => break Some(child),
                Err(error) if error.to_string().contains("cannot listen on") && Instant::now() < deadline => {
                }
                Err(error) => return Err(error),
            }
        };
        Ok(())
    }

    /// Units that are left and units that are sold.
    ///
    /// # Errors
    /// What the merchant API says.
    pub fn units(&self) -> Result<(i64, i64), ClassicError> {
        let totals = self.merchant.item(ITEM)?.totals;
        Ok((totals.available, totals.held + totals.sold))
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
        self.child.as_ref().map_or(0, |child| process_ns(child.id()))
    }
}

impl Drop for EngineProcess {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // An error means that it has ended already.
        let _ = kill_process(Pid::from_child(child), Signal::TERM);
        end(child);
    }
}
