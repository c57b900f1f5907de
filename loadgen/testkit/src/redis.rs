//! Throw-away Redis servers.
//!
//! Debian's package redis-tools, which starts no service, holds the server, too: it is the
//! program `redis-check-rdb` under another name, and looks at the name that it is called by.
//! Next: [`crate::warden`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Connection, IntoConnectionInfo, RedisResult};

use crate::warden::{Warden, free_port, random, tail};
use crate::{ClusterError, LOOK_EVERY, PORTS_TRIED_MAX, WAIT_MAX, system};

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Where to look besides PATH, which may lack the directories of system programs.
const BIN_DIRS: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin"];

/// How a server is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisOptions {
    /// Whether every write is synced to a log before its answer (`appendonly`, `appendfsync
    /// always`). Off, as it is for a cache: nothing is kept.
    pub durable: bool,
}

/// A Redis server of our own. Dropping it stops the server and removes its directory.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    password: String,
    server: Child,
    warden: Warden,
}

impl RedisServer {
    /// Makes a server and waits until it answers; takes some tens of milliseconds.
    ///
    /// # Errors
    /// See [`ClusterError`]; nothing is left behind.
    pub fn new(options: RedisOptions) -> Result<Self, ClusterError> {
        let program = find_program()?;
        let mut tried = 0;
        loop {
            tried += 1;
            match Self::start(&program, options) {
                Err(ClusterError::Failed { .. }) if tried < PORTS_TRIED_MAX => {}
                other => return other,
            }
        }
    }

    fn start(program: &PathBuf, options: RedisOptions) -> Result<Self, ClusterError> {
        let warden = Warden::new("redis", None)?;
        let data = DirBuilder::new().mode(0o700).create(warden.data_dir());
        data.map_err(|source| system("making a directory for Redis", source))?;
        let port = free_port().map_err(|source| system("looking for a free port", source))?;
        let password = format!("{:016x}{:016x}", random(), random());
        let conf = warden.dir().join("redis.conf");
        // The password is in a file that nobody else reads; arguments are seen by everybody.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&conf);
        let written = file.and_then(|mut file| file.write_all(settings(port, &password, options).as_bytes()));
        written.map_err(|source| system("writing the settings of Redis", source))?;
        let log = File::create(warden.dir().join("log")).map_err(|source| system("opening a log", source))?;
        let errors = log.try_clone().map_err(|source| system("opening a log", source))?;
        let mut command = Command::new(program);
        command.arg0("redis-server").arg(conf).current_dir(warden.data_dir()).process_group(0);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let server = command.spawn().map_err(|source| system("starting redis-server", source))?;
        let mut redis = Self { port, password, server, warden };
        redis.wait_ready()?;
        Ok(redis)
    }

    /// Its URL, password included.
    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/", self.password, self.port)
    }

    /// The port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Where its data is, for looking at it.
    pub fn data_dir(&self) -> PathBuf {
        self.warden.data_dir()
    }

    fn wait_ready(&mut self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + WAIT_MAX;
        let log_file = self.warden.dir().join("log");
        let log = || tail(&fs::read(&log_file).unwrap_or_default());
        loop {
            if let Ok(Some(_)) = self.server.try_wait() {
                return Err(ClusterError::Failed { program: "redis-server", output: log() });
            }
            let answer = connect(&self.url()).and_then(|mut to| redis::cmd("PING").query::<String>(&mut to));
            if answer.is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = "took no connections";
                return Err(ClusterError::TooSlow { server: "Redis", what, log: log() });
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.warden.let_go();
        drop(self.server.wait());
        // The warden's own drop waits until it has removed the directory.
    }
}

/// A connection that sends each command at once (TCP_NODELAY), which the client's default is not.
///
/// # Errors
/// What Redis or the system says.
pub fn connect(url: &str) -> RedisResult<Connection> {
    let info = url.into_connection_info()?;
    let settings = info.tcp_settings().clone().set_nodelay(true);
    Client::open(info.set_tcp_settings(settings))?.get_connection_with_timeout(CONNECT_TIMEOUT)
}

fn settings(port: u16, password: &str, options: RedisOptions) -> String {
    let durable = if options.durable { "appendonly yes\nappendfsync always\n" } else { "appendonly no\n" };
    format!(
        "bind 127.0.0.1\nport {port}\nprotected-mode yes\nrequirepass {password}\ndaemonize no\nsave \"\"\n\
         dir ./\n{durable}"
    )
}

fn find_program() -> Result<PathBuf, ClusterError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(BIN_DIRS.map(PathBuf::from));
    let mut found = ["redis-server", "redis-check-rdb"]
        .into_iter()
        .flat_map(|name| dirs.iter().map(move |dir| dir.join(name)))
        .filter(|program| program.is_file());
    found.next().ok_or(ClusterError::NotInstalled {
        server: "Redis",
        looked_for: "redis-server and redis-check-rdb in PATH",
        package: "redis-tools",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_keeps_strangers_out_and_leaves_nothing() {
        let server = RedisServer::new(RedisOptions::default()).expect("Redis is installed");
        let dir = server.warden.dir().to_owned();
        let mut to = connect(&server.url()).expect("connects");
        redis::cmd("SET").arg("a").arg(7).exec(&mut to).expect("set");
        assert_eq!(redis::cmd("GET").arg("a").query::<u32>(&mut to).expect("got"), 7);
        let stranger = connect(&format!("redis://127.0.0.1:{}/", server.port()));
        let answer = stranger.and_then(|mut to| redis::cmd("GET").arg("a").query::<u32>(&mut to));
        assert!(answer.is_err(), "a password is needed");
        server.warden.processes(server.pid()).expect("the warden sees the server");
        let pid = server.pid();
        drop(server);
        assert!(!dir.exists(), "{} is still there", dir.display());
        assert!(!fs::exists(format!("/proc/{pid}")).expect("/proc"), "the server is still there");
    }

    #[test]
    fn a_durable_server_has_a_log() {
        let server = RedisServer::new(RedisOptions { durable: true }).expect("Redis is installed");
        let mut to = connect(&server.url()).expect("connects");
        let (_, policy): (String, String) =
            redis::cmd("CONFIG").arg("GET").arg("appendfsync").query(&mut to).expect("told");
        assert_eq!(policy, "always");
        assert!(
            server.data_dir().join("appendonlydir").is_dir()
                || server.data_dir().join("appendonly.aof").is_file()
        );
    }
}
