//! Throw-away etcd clusters: some members on free ports, each of which can be killed, stopped and started again.
//!
//! Debian's package etcd-server. The members are one server to the warden: all work in its `data`. Next:
//! [`crate::warden`].

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::warden::{Warden, free_port, random, tail};
use crate::{ClusterError, LOOK_EVERY, PORTS_TRIED_MAX, WAIT_MAX, system};

/// How long one question to a member may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct EtcdClusterOptions {
    /// How many members.
    pub members: usize,
    /// More arguments for each of them; `DIR` in them is a directory that goes with the cluster.
    pub args: Vec<String>,
    /// Files that are put into `DIR` before they start.
    pub files: Vec<(String, Vec<u8>)>,
    /// Whether clients come by TLS, as the arguments say.
    pub is_tls: bool,
}

impl Default for EtcdClusterOptions {
    /// Three members.
    fn default() -> Self {
        Self { members: 3, args: Vec::new(), files: Vec::new(), is_tls: false }
    }
}

#[derive(Debug)]
struct Member {
    client_port: u16,
    peer_port: u16,
    server: Option<Child>,
}

/// An etcd cluster of our own on 127.0.0.1. Dropping it ends the members and removes their directories.
#[derive(Debug)]
pub struct EtcdCluster {
    options: EtcdClusterOptions,
    token: u64,
    members: Vec<Member>,
    warden: Warden,
}

impl EtcdCluster {
    /// Makes a cluster and waits until each member answers for the whole; takes about two seconds.
    ///
    /// # Errors
    /// See [`ClusterError`]; nothing is left behind.
    pub fn new(options: &EtcdClusterOptions) -> Result<Self, ClusterError> {
        let mut tried = 0;
        loop {
            tried += 1;
            match Self::make(options) {
                Err(ClusterError::Failed { .. }) if tried < PORTS_TRIED_MAX => {}
                other => return other,
            }
        }
    }

    fn make(options: &EtcdClusterOptions) -> Result<Self, ClusterError> {
        let warden = Warden::new("etcd", None)?;
        let made = DirBuilder::new().mode(0o700).create(warden.data_dir());
        made.map_err(|source| system("making a directory for etcd", source))?;
        for (name, bytes) in &options.files {
            let written = fs::write(warden.dir().join(name), bytes);
            written.map_err(|source| system("writing a file for etcd", source))?;
        }
        let port = || free_port().map_err(|source| system("looking for a free port", source));
        let member = || Ok(Member { client_port: port()?, peer_port: port()?, server: None });
        let members = (0..options.members).map(|_| member()).collect::<Result<_, ClusterError>>()?;
        let mut cluster = Self { options: options.clone(), token: random(), members, warden };
        // All at once: the first waits for the second.
        (0..options.members).try_for_each(|at| cluster.spawn(at))?;
        (0..options.members).try_for_each(|at| cluster.wait_ready(at))?;
        Ok(cluster)
    }

    /// Starts a member again, with the data that it has; does nothing while it runs. It answers for the
    /// cluster when this returns, so a majority has to be there.
    ///
    /// # Errors
    /// [`ClusterError::Failed`] or [`ClusterError::TooSlow`] with the end of its log.
    pub fn start(&mut self, at: usize) -> Result<(), ClusterError> {
        if self.members[at].server.is_none() {
            self.spawn(at)?;
        }
        self.wait_ready(at)
    }

    /// Kills a member as `kill -9` does, and waits for its end; does nothing while it does not run.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut server) = self.members[at].server.take() {
            // An error means that it has ended already.
            drop(server.kill());
            drop(server.wait());
        }
    }

    /// Stops a member (`SIGSTOP`): it holds its connections and says nothing.
    pub fn pause(&self, at: usize) {
        self.signal(at, Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self, at: usize) {
        self.signal(at, Signal::CONT);
    }

    fn signal(&self, at: usize, signal: Signal) {
        let pid = self.members[at].server.as_ref().and_then(|server| i32::try_from(server.id()).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // It may have ended by itself, which whoever asks it will see.
            let _sent = kill_process(pid, signal);
        }
    }

    /// Where clients reach the members.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|at| self.endpoint(at)).collect()
    }

    /// Where clients reach a member.
    #[must_use]
    pub fn endpoint(&self, at: usize) -> String {
        let scheme = if self.options.is_tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.members[at].client_port)
    }

    /// The port of a member for clients; the same over restarts.
    #[must_use]
    pub fn port(&self, at: usize) -> u16 {
        self.members[at].client_port
    }

    /// The directory that goes with the cluster.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.warden.dir().to_owned()
    }

    /// The member that leads.
    ///
    /// # Errors
    /// [`ClusterError::TooSlow`] if none does within the time for everything.
    pub fn leader(&self) -> Result<usize, ClusterError> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            for at in 0..self.members.len() {
                // It names itself and its leader by numbers.
                let Ok(told) = self.post(at, "/v3/maintenance/status", "{}") else { continue };
                let number = |name: &str| told.split(&format!("\"{name}\":\"")).nth(1)?.split('"').next();
                if number("leader").is_some() && number("leader") == number("member_id") {
                    return Ok(at);
                }
            }
            self.look_again(deadline, "has no leader", 0)?;
        }
    }

    /// Sends JSON to a member's gateway, for what a test has to set up; in clear only. Gives the body.
    ///
    /// # Errors
    /// What the system says; `Other` with the body when it is refused.
    pub fn post(&self, at: usize, path: &str, body: &str) -> io::Result<String> {
        let length = body.len();
        self.ask(at, &format!("POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}"))
    }

    fn ask(&self, at: usize, request: &str) -> io::Result<String> {
        let address = (Ipv4Addr::LOCALHOST, self.members[at].client_port).into();
        let mut to = TcpStream::connect_timeout(&address, ASK_TIMEOUT)?;
        to.set_read_timeout(Some(ASK_TIMEOUT))?;
        to.write_all(request.as_bytes())?;
        let mut answer = String::new();
        to.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let is_good = head.split(' ').nth(1) == Some("200");
        if is_good { Ok(body.to_owned()) } else { Err(io::Error::other(body.to_owned())) }
    }

    fn spawn(&mut self, at: usize) -> Result<(), ClusterError> {
        let log = File::options().create(true).append(true).open(self.log_file(at));
        let log = log.map_err(|source| system("opening a log", source))?;
        let errors = log.try_clone().map_err(|source| system("opening a log", source))?;
        let peers = self.members.iter().enumerate();
        let peers: Vec<String> =
            peers.map(|(n, member)| format!("m{n}=http://127.0.0.1:{}", member.peer_port)).collect();
        let (client, peer) = (self.endpoint(at), format!("http://127.0.0.1:{}", self.members[at].peer_port));
        let dir = self.warden.dir().display().to_string();
        let mut command = Command::new("etcd");
        command
            .args(["--name", &format!("m{at}"), "--data-dir", &format!("m{at}"), "--logger", "zap"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &peers.join(","), "--initial-cluster-state", "new"])
            .args(["--initial-cluster-token", &format!("{:016x}", self.token)])
            .args(self.options.args.iter().map(|arg| arg.replace("DIR", &dir)));
        command.current_dir(self.warden.data_dir()).process_group(0);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let spawned = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ClusterError::NotInstalled {
                server: "etcd",
                looked_for: "etcd in PATH",
                package: "etcd-server",
            },
            _ => system("starting etcd", source),
        });
        self.members[at].server = Some(spawned?);
        Ok(())
    }

    fn wait_ready(&mut self, at: usize) -> Result<(), ClusterError> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let server = self.members[at].server.as_mut().expect("started before");
            if let Ok(Some(_)) = server.try_wait() {
                self.members[at].server = None;
                return Err(ClusterError::Failed { program: "etcd", output: self.log(at) });
            }
            let is_ready = if self.options.is_tls {
                TcpStream::connect((Ipv4Addr::LOCALHOST, self.members[at].client_port)).is_ok()
            } else {
                self.ask(at, "GET /health HTTP/1.0\r\n\r\n").is_ok_and(|body| body.contains("true"))
            };
            if is_ready {
                return Ok(());
            }
            self.look_again(deadline, "took no connections", at)?;
        }
    }

    fn look_again(&self, deadline: Instant, what: &'static str, at: usize) -> Result<(), ClusterError> {
        if Instant::now() > deadline {
            return Err(ClusterError::TooSlow { server: "etcd", what, log: self.log(at) });
        }
        thread::sleep(LOOK_EVERY);
        Ok(())
    }

    fn log_file(&self, at: usize) -> PathBuf {
        self.warden.dir().join(format!("log{at}"))
    }

    fn log(&self, at: usize) -> String {
        tail(&fs::read(self.log_file(at)).unwrap_or_default())
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        self.warden.let_go();
        for server in self.members.iter_mut().filter_map(|member| member.server.as_mut()) {
            drop(server.wait());
        }
        // The warden's own drop waits until it has removed the directory.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_member_comes_back_and_nothing_is_left() {
        let mut cluster = EtcdCluster::new(&EtcdClusterOptions::default()).expect("etcd is installed");
        let dir = cluster.dir();
        let leader = cluster.leader().expect("one leads");
        cluster.kill(leader);
        assert!(cluster.post(leader, "/v3/maintenance/status", "{}").is_err(), "nobody is there");
        let other = cluster.leader().expect("another leads");
        assert_ne!(other, leader);
        cluster.start(leader).expect("starts");
        cluster.pause(other);
        let pids: Vec<u32> =
            cluster.members.iter().filter_map(|m| m.server.as_ref()).map(Child::id).collect();
        assert_eq!(pids.len(), 3);
        drop(cluster);
        assert!(!dir.exists(), "{} is still there", dir.display());
        for pid in pids {
            assert!(!fs::exists(format!("/proc/{pid}")).expect("/proc"), "a member is still there");
        }
    }
}
