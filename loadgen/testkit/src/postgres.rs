//! Throw-away Postgres clusters.
//!
//! Needs no rights: under root the server runs as the user `postgres` (or `nobody`), since
//! Postgres refuses root. Dropping a cluster does no more than close the warden's pipe, as
//! the end of this process would. Next: [`crate::warden`].

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::warden::{Warden, free_port, random, tail};
use crate::{ClusterError, LOOK_EVERY, PORTS_TRIED_MAX, WAIT_MAX, system};

/// Longest path of a unix socket, with room for its file name.
const SOCKET_DIR_BYTES_MAX: usize = 80;
/// The superuser of every cluster.
const SUPERUSER: &str = "stampede";

/// How a cluster is made.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Whether commits are synced. Off is faster and right for tests that do not cut the
    /// power; comparison runs turn it on.
    pub fsync: bool,
    /// Further settings, as in postgresql.conf.
    pub settings: Vec<(String, String)>,
}

/// How a server is told to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopMode {
    /// Open transactions are rolled back, then a clean stop (SIGINT).
    Fast,
    /// At once, without a checkpoint: the next start recovers (SIGQUIT).
    Immediate,
}

/// A Postgres server of our own. Dropping it stops the server and removes its directory.
#[derive(Debug)]
pub struct PostgresCluster {
    bin: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    password: String,
    options: ClusterOptions,
    server: Option<Child>,
    warden: Warden,
}

impl PostgresCluster {
    /// Makes a cluster and starts it; takes a second or two.
    ///
    /// # Errors
    /// See [`ClusterError`]; nothing is left behind.
    pub fn new(options: ClusterOptions) -> Result<Self, ClusterError> {
        Self::new_in(&std::env::temp_dir(), options)
    }

    /// The same below the directory `root`, for a server whose disk is to be cut off (see [`crate::Image`]).
    ///
    /// # Errors
    /// See [`ClusterError`]; nothing is left behind.
    pub fn new_in(root: &Path, options: ClusterOptions) -> Result<Self, ClusterError> {
        let bin = find_bin()?;
        let user = if geteuid().is_root() { Some(find_user()?) } else { None };
        let warden = Warden::new_in(root, "pg", user)?;
        let password = format!("{:016x}", random());
        let mut cluster = Self { bin, user, port: 0, password, options, server: None, warden };
        cluster.init()?;
        cluster.start_on_free_port()?;
        Ok(cluster)
    }

    /// The URL of the database `postgres` for the superuser.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of a database for the superuser.
    pub fn url_of(&self, database: &str) -> String {
        self.url_as(SUPERUSER, &self.password, database)
    }

    /// The URL of a database for some user. Nothing is escaped.
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port on 127.0.0.1; the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's first process, while it runs; the others are its children.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// The directory of the cluster's data, for looking at it.
    pub fn data_dir(&self) -> PathBuf {
        self.warden.data_dir()
    }

    /// Starts the server again on its port; does nothing while it runs.
    ///
    /// # Errors
    /// [`ClusterError::Failed`] or [`ClusterError::TooSlow`] with the end of its log.
    pub fn start(&mut self) -> Result<(), ClusterError> {
        if self.server.is_some() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(self.log_file());
        let log = log.map_err(|source| system("opening the server's log", source))?;
        let errors = log.try_clone().map_err(|source| system("opening the server's log", source))?;
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data_dir()).args(["-p", &self.port.to_string()]);
        command.stdout(log).stderr(errors);
        self.server = Some(command.spawn().map_err(|source| system("starting postgres", source))?);
        self.wait_ready()
    }

    /// Stops the server and waits for its end; does nothing if it does not run.
    ///
    /// # Errors
    /// [`ClusterError::TooSlow`].
    pub fn stop(&mut self, mode: StopMode) -> Result<(), ClusterError> {
        let signal = match mode {
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        self.end_by(signal)
    }

    /// Kills the server's first process as `kill -9` does, and waits until the others,
    /// which notice, have gone too.
    ///
    /// # Errors
    /// [`ClusterError::TooSlow`].
    pub fn kill(&mut self) -> Result<(), ClusterError> {
        self.end_by(Signal::KILL)
    }

    /// Stops every process of the server in its tracks (SIGSTOP): connections stay open
    /// and nothing answers.
    ///
    /// # Panics
    /// If the server does not run, or one of its processes cannot be stopped.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
        // A process that was forked meanwhile was not seen the first time.
        self.signal_all(Signal::STOP);
    }

    /// Lets a frozen server go on (SIGCONT).
    ///
    /// # Panics
    /// As [`PostgresCluster::freeze`].
    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    /// Runs SQL as the superuser by way of `psql`, and returns what it printed, unaligned
    /// and without headings.
    ///
    /// # Errors
    /// [`ClusterError::Failed`] with psql's message.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, ClusterError> {
        let mut command = self.program("psql");
        command.args([
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &self.url_of(database),
            "-c",
            sql,
        ]);
        run(&mut command, "psql")
    }

    fn init(&self) -> Result<(), ClusterError> {
        let secret = self.warden.dir().join("password");
        fs::write(&secret, &self.password).map_err(|source| system("writing the password file", source))?;
        if let Some((uid, gid)) = self.user {
            chown(&secret, Some(uid), Some(gid)).map_err(|source| system("handing over a file", source))?;
        }
        let mut command = self.program("initdb");
        command.arg("-D").arg(self.data_dir()).arg("--pwfile").arg(&secret);
        command.args(["-U", SUPERUSER, "--auth=scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]);
        run(&mut command, "initdb")?;
        let conf = self.data_dir().join("postgresql.auto.conf");
        fs::write(conf, self.settings()).map_err(|source| system("writing the settings", source))
    }

    fn settings(&self) -> String {
        let socket_dir = match self.warden.dir().to_str() {
            Some(dir) if dir.len() <= SOCKET_DIR_BYTES_MAX => dir,
            _ => "",
        };
        let mut text = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{socket_dir}'\nfsync = {}\n\
             logging_collector = off\nlc_messages = 'C'\n",
            if self.options.fsync { "on" } else { "off" }
        );
        for (name, value) in &self.options.settings {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        text
    }

    fn start_on_free_port(&mut self) -> Result<(), ClusterError> {
        let mut tried = 0;
        loop {
            tried += 1;
            self.port = free_port().map_err(|source| system("looking for a free port", source))?;
            match self.start() {
                Err(ClusterError::Failed { .. }) if tried < PORTS_TRIED_MAX => self.server = None,
                other => return other,
            }
        }
    }

    fn wait_ready(&mut self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let server = self.server.as_mut().expect("just started");
            if let Ok(Some(_)) = server.try_wait() {
                self.server = None;
                return Err(ClusterError::Failed { program: "postgres", output: self.log_tail() });
            }
            let mut probe = self.program("pg_isready");
            probe.args(["-q", "-t", "1", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            if probe.status().is_ok_and(|status| status.success()) {
                return self.look_whether_it_is_seen();
            }
            if Instant::now() > deadline {
                return Err(self.too_slow("took no connections"));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// A server that the warden does not see would outlive us.
    fn look_whether_it_is_seen(&mut self) -> Result<(), ClusterError> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let seen = self.warden.processes(server.id());
        if seen.is_err() {
            drop(server.kill());
            drop(server.wait());
        } else {
            self.server = Some(server);
        }
        seen.map(drop)
    }

    fn end_by(&mut self, signal: Signal) -> Result<(), ClusterError> {
        let Some(server) = self.server.as_mut() else { return Ok(()) };
        // An error means that it has ended already.
        let _ = kill_process(Pid::from_child(server), signal);
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let ended = matches!(server.try_wait(), Ok(Some(_)) | Err(_));
            if ended && self.warden.seen()?.is_empty() {
                self.server = None;
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.too_slow("did not end"));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn too_slow(&self, what: &'static str) -> ClusterError {
        ClusterError::TooSlow { server: "Postgres", what, log: self.log_tail() }
    }

    fn signal_all(&self, signal: Signal) {
        let first = self.pid().expect("the server runs");
        for pid in self.warden.processes(first).expect("its processes are seen") {
            match kill_process(pid, signal) {
                // One that has ended meanwhile.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => panic!("{signal:?} to process {pid:?} of Postgres: {error}"),
            }
        }
    }

    /// A program of Postgres, run as the right user.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command
            .current_dir(self.warden.dir())
            .stdin(Stdio::null())
            .env("LC_ALL", "C")
            .env_remove("PGOPTIONS");
        // A group of its own: Ctrl-C at the terminal is for us, and we see to the rest.
        command.process_group(0);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn log_file(&self) -> PathBuf {
        self.warden.dir().join("log")
    }

    fn log_tail(&self) -> String {
        tail(&fs::read(self.log_file()).unwrap_or_default())
    }
}

impl Drop for PostgresCluster {
    fn drop(&mut self) {
        self.warden.let_go();
        if let Some(server) = self.server.as_mut() {
            drop(server.wait());
        }
        // The warden's own drop waits until it has removed the directory.
    }
}

fn find_bin() -> Result<PathBuf, ClusterError> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = installed.map(|entry| entry.path().join("bin")).collect();
    // The newest first; "9.6" sorts before "15" by number.
    versions.sort_by_key(|bin| std::cmp::Reverse(version_of(bin)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions.extend(std::env::split_paths(&path));
    let complete =
        |bin: &PathBuf| ["initdb", "postgres", "pg_isready"].iter().all(|name| bin.join(name).is_file());
    versions.into_iter().find(complete).ok_or(ClusterError::NotInstalled {
        server: "Postgres",
        looked_for: "initdb, postgres and pg_isready in PATH and in /usr/lib/postgresql/*/bin",
        package: "postgresql",
    })
}

fn version_of(bin: &Path) -> u64 {
    let name = bin.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    name.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
}

/// The user and group to run the server as.
fn find_user() -> Result<(u32, u32), ClusterError> {
    let users = fs::read_to_string("/etc/passwd").map_err(|source| system("reading /etc/passwd", source))?;
    let find = |wanted: &str| {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let ids = (fields.first() == Some(&wanted)).then(|| (fields.get(2), fields.get(3)))?;
            Some((ids.0?.parse().ok()?, ids.1?.parse().ok()?))
        })
    };
    find("postgres").or_else(|| find("nobody")).ok_or(ClusterError::NoUser)
}

fn run(command: &mut Command, program: &'static str) -> Result<String, ClusterError> {
    let output = command.output().map_err(|source| system(program, source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    Err(ClusterError::Failed { program, output: tail(&output.stderr) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_stops_starts_freezes_and_leaves_nothing() {
        let mut cluster = PostgresCluster::new(ClusterOptions::default()).expect("Postgres is installed");
        let (dir, port) = (cluster.warden.dir().to_owned(), cluster.port());
        cluster.psql("postgres", "CREATE TABLE t AS SELECT 7 AS n; CHECKPOINT").expect("psql");
        cluster.kill().expect("killed");
        assert!(cluster.psql("postgres", "SELECT 1").is_err(), "nobody is there");
        cluster.start().expect("recovers");
        assert_eq!(cluster.port(), port);
        assert_eq!(cluster.psql("postgres", "SELECT n FROM t").expect("psql"), "7");
        cluster.stop(StopMode::Fast).expect("stopped");
        cluster.start().expect("starts");
        cluster.freeze();
        cluster.thaw();
        assert_eq!(cluster.psql("postgres", "SELECT n FROM t").expect("psql"), "7");
        cluster.freeze();
        let all = cluster.warden.processes(cluster.pid().expect("it runs")).expect("seen");
        assert!(all.len() > 1, "a server has several processes: {all:?}");
        assert!(all.iter().all(|pid| state(*pid) == Some('T')), "one is not frozen");
        drop(cluster);
        assert!(!dir.exists(), "{} is still there", dir.display());
        let is_gone = |pid: &Pid| matches!(state(*pid), None | Some('Z' | 'X'));
        assert!(all.iter().all(is_gone), "one of {all:?} is still there");
    }

    /// The letter of its state, which everybody may see.
    fn state(pid: Pid) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        stat.rsplit(") ").next()?.chars().next()
    }

    #[test]
    #[should_panic(expected = "the server runs")]
    fn to_freeze_a_server_that_does_not_run_is_an_error() {
        let mut cluster = PostgresCluster::new(ClusterOptions::default()).expect("Postgres is installed");
        cluster.kill().expect("killed");
        cluster.freeze();
    }
}
