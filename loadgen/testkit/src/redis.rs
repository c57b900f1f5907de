//! Throw-away Redis servers.
//!
//! Debian's package redis-tools, which starts no service, holds the server, too: it is the
//! program `redis-check-rdb` under another name, and looks at the name that it is called by.
//! Next: [`crate::warden`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
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

/// Longest path of a unix socket that every system takes.
const SOCKET_BYTES_MAX: usize = 100;

/// How writes are kept (`appendonly`, `appendfsync`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AppendLog {
    /// Not at all, as it is for a cache.
    #[default]
    Off,
    /// In a log that is synced once a second: Redis's own default where there is a log.
    EverySecond,
    /// In a log that is synced before each answer.
    Always,
}

/// How a server is made.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// How writes are kept.
    pub log: AppendLog,
    /// Further lines of its `redis.conf`, each as `name value`.
    pub settings: Vec<String>,
}

/// A Redis server of our own. Dropping it stops the server and removes its directory.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    options: RedisOptions,
    port: u16,
    password: String,
    server: Option<Child>,
    warden: Warden,
}

impl RedisServer {
    /// Makes a server and waits until it answers; takes some tens of milliseconds.
    ///
    /// # Errors
    /// See [`ClusterError`]; nothing is left behind.
    pub fn new(options: &RedisOptions) -> Result<Self, ClusterError> {
        Self::new_in(&std::env::temp_dir(), options)
    }

    /// The same below the directory `root`, for a server whose disk is to be cut off (see [`crate::Image`]).
    ///
    /// # Errors
    /// See [`ClusterError`]; nothing is left behind.
    pub fn new_in(root: &Path, options: &RedisOptions) -> Result<Self, ClusterError> {
        let program = find_program()?;
        let mut tried = 0;
        loop {
            tried += 1;
            match Self::make(&program, root, options.clone()) {
                Err(ClusterError::Failed { .. }) if tried < PORTS_TRIED_MAX => {}
                other => return other,
            }
        }
    }

    fn make(program: &Path, root: &Path, options: RedisOptions) -> Result<Self, ClusterError> {
        let warden = Warden::new_in(root, "redis", None)?;
        let data = DirBuilder::new().mode(0o700).create(warden.data_dir());
        data.map_err(|source| system("making a directory for Redis", source))?;
        let port = free_port().map_err(|source| system("looking for a free port", source))?;
        let password = format!("{:016x}{:016x}", random(), random());
        let program = program.to_owned();
        let mut redis = Self { program, options, port, password, server: None, warden };
        let conf = redis.conf();
        // The password is in a file that nobody else reads; arguments are seen by everybody.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&conf);
        let written = file.and_then(|mut file| file.write_all(redis.settings().as_bytes()));
        written.map_err(|source| system("writing the settings of Redis", source))?;
        redis.start()?;
        Ok(redis)
    }

    /// Starts the server again, with the data that it has; does nothing while it runs. It has read
    /// its log when this returns.
    ///
    /// # Errors
    /// [`ClusterError::Failed`] or [`ClusterError::TooSlow`] with the end of its log.
    pub fn start(&mut self) -> Result<(), ClusterError> {
        if self.server.is_some() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(self.log_file());
        let log = log.map_err(|source| system("opening a log", source))?;
        let errors = log.try_clone().map_err(|source| system("opening a log", source))?;
        let mut command = Command::new(&self.program);
        command.arg0("redis-server").arg(self.conf()).current_dir(self.warden.data_dir()).process_group(0);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.server = Some(command.spawn().map_err(|source| system("starting redis-server", source))?);
        self.wait_ready()
    }

    /// Kills the server as `kill -9` does, and waits for its end; does nothing while it does not run.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            // An error means that it has ended already.
            drop(server.kill());
            drop(server.wait());
        }
    }

    /// Its URL, password included.
    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/", self.password, self.port)
    }

    /// Its URL by way of its unix socket, password included; [`RedisServer::url`] where the temporary
    /// directory's path is too long for a socket.
    pub fn socket_url(&self) -> String {
        match self.socket() {
            Some(socket) => format!("redis+unix://{}?pass={}", socket.display(), self.password),
            None => self.url(),
        }
    }

    /// Its unix socket, if the temporary directory's path is not too long for one.
    pub fn socket(&self) -> Option<PathBuf> {
        let socket = self.warden.dir().join("redis.sock");
        Some(socket).filter(|socket| socket.as_os_str().len() <= SOCKET_BYTES_MAX)
    }

    /// The password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The port on 127.0.0.1; the same over restarts.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The server's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Where its data is, for looking at it.
    pub fn data_dir(&self) -> PathBuf {
        self.warden.data_dir()
    }

    fn conf(&self) -> PathBuf {
        self.warden.dir().join("redis.conf")
    }

    fn log_file(&self) -> PathBuf {
        self.warden.dir().join("log")
    }

    fn settings(&self) -> String {
        let log = match self.options.log {
            AppendLog::Off => "appendonly no",
            AppendLog::EverySecond => "appendonly yes\nappendfsync everysec",
            AppendLog::Always => "appendonly yes\nappendfsync always",
        };
        let socket = self.socket().map_or_else(String::new, |socket| {
            format!("unixsocket \"{}\"\nunixsocketperm 700\n", socket.display())
        });
        let (port, password, more) = (self.port, &self.password, self.options.settings.join("\n"));
        format!(
            "bind 127.0.0.1\nport {port}\nprotected-mode yes\nrequirepass {password}\ndaemonize no\nsave \"\"\n\
             dir ./\n{socket}{log}\n{more}\n"
        )
    }

    fn wait_ready(&mut self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + WAIT_MAX;
        let log_file = self.log_file();
        let log = || tail(&fs::read(&log_file).unwrap_or_default());
        loop {
            let server = self.server.as_mut().expect("just started");
            if let Ok(Some(_)) = server.try_wait() {
                self.server = None;
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
        if let Some(server) = self.server.as_mut() {
            drop(server.wait());
        }
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
        let server = RedisServer::new(&RedisOptions::default()).expect("Redis is installed");
        let dir = server.warden.dir().to_owned();
        let mut to = connect(&server.url()).expect("connects");
        redis::cmd("SET").arg("a").arg(7).exec(&mut to).expect("set");
        assert_eq!(redis::cmd("GET").arg("a").query::<u32>(&mut to).expect("got"), 7);
        let stranger = connect(&format!("redis://127.0.0.1:{}/", server.port()));
        let answer = stranger.and_then(|mut to| redis::cmd("GET").arg("a").query::<u32>(&mut to));
        assert!(answer.is_err(), "a password is needed");
        let pid = server.pid().expect("it runs");
        server.warden.processes(pid).expect("the warden sees the server");
        drop(server);
        assert!(!dir.exists(), "{} is still there", dir.display());
        assert!(!fs::exists(format!("/proc/{pid}")).expect("/proc"), "the server is still there");
    }

    #[test]
    fn a_durable_server_has_a_log() {
        let server = RedisServer::new(&RedisOptions { log: AppendLog::Always, ..RedisOptions::default() })
            .expect("Redis is installed");
        let mut to = connect(&server.url()).expect("connects");
        let (_, policy): (String, String) =
            redis::cmd("CONFIG").arg("GET").arg("appendfsync").query(&mut to).expect("told");
        assert_eq!(policy, "always");
        assert!(
            server.data_dir().join("appendonlydir").is_dir()
                || server.data_dir().join("appendonly.aof").is_file()
        );
    }

    #[test]
    fn a_killed_server_comes_back_with_its_log() {
        let options = RedisOptions { log: AppendLog::Always, settings: vec!["hz 50".to_owned()] };
        let mut server = RedisServer::new(&options).expect("Redis is installed");
        let set = |url: &str| {
            let mut to = connect(url).expect("connects");
            redis::cmd("INCR").arg("a").query::<u32>(&mut to).expect("counted")
        };
        assert_eq!((set(&server.socket_url()), set(&server.url())), (1, 2), "one server, two ways in");
        server.kill();
        assert!(connect(&server.url()).is_err() && server.pid().is_none(), "nobody is there");
        server.start().expect("starts");
        assert_eq!(set(&server.socket_url()), 3);
        let mut to = connect(&server.url()).expect("connects");
        let hz: (String, String) = redis::cmd("CONFIG").arg("GET").arg("hz").query(&mut to).expect("told");
        assert_eq!(hz.1, "50");
    }
}
