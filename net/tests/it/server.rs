//! A running server for tests: the built binary, with its own ports and directory.
//!
//! A [`Bed`] keeps directory, ports and settings across restarts; a [`Server`] is one
//! process on it, killed when dropped and when the test's thread dies. Nothing here
//! checks results. Next: `e2e_talk.rs` for how tests talk to it.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use stampede_loadgen::verify::Merchant;
use tempfile::TempDir;

#[path = "../common/sandbox.rs"]
pub(crate) mod sandbox;
#[path = "../common/seccomp.rs"]
pub(crate) mod seccomp;
#[path = "../common/sink.rs"]
pub(crate) mod sink;

use self::sandbox::{Sandbox, User};
use self::sink::Sink;

/// The merchant's token on every bed.
pub(crate) const TOKEN: &str = "token-of-the-test-shop";
/// Longest wait for anything: far longer than a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// What a tick of `/proc` is on Linux, in milliseconds.
const MS_PER_TICK: u64 = 10;
/// Attempts to start when another program has taken a port.
const STARTS_MAX: usize = 5;

/// Everything about a server that outlives its process.
pub(crate) struct Bed {
    home: TempDir,
    /// The data directory.
    pub(crate) dir: PathBuf,
    /// How many cores serve, as in the flag.
    pub(crate) cores: &'static str,
    public: SocketAddr,
    admin: SocketAddr,
    flags: Vec<String>,
    env: Vec<(String, String)>,
    /// How many files it may have open; as many as possible if `None`.
    files_max: Option<u64>,
    /// Where its output goes; to us if `None`.
    pub(crate) sink: Option<Sink>,
    /// Its sandbox.
    pub(crate) sandbox: Sandbox,
    /// The program, if not the one that was built.
    program: Option<PathBuf>,
    /// A command that runs the server as its last argument, such as a tracer; empty = none.
    pub(crate) wrap: Vec<String>,
    /// Whether clients already know its addresses.
    has_served: bool,
}

impl Bed {
    /// A fresh directory; two cores, buyers named by header, small log segments.
    pub(crate) fn new() -> Self {
        usual_files();
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let bed = Self {
            home,
            dir,
            cores: "2",
            public: free_address(),
            admin: free_address(),
            flags: Vec::new(),
            env: Vec::new(),
            files_max: None,
            sink: None,
            sandbox: Sandbox::default(),
            program: None,
            wrap: Vec::new(),
            has_served: false,
        };
        let bed =
            bed.set("identity.mode", "header").set("log.segment_bytes", "4MiB").set("admin.token", TOKEN);
        // `make test-epoll` makes every server use that transport, `make test` those that do not choose one.
        match std::env::var("STAMPEDE_TRANSPORT").or_else(|_| std::env::var("STAMPEDE_BEDS")) {
            Ok(transport) => bed.set("transport", &transport),
            Err(_) => bed,
        }
    }

    /// The demo sale, with buyers authenticated by the demo's own tokens.
    pub(crate) fn demo() -> Self {
        Self::new().set("identity.mode", "jwt").switch("--demo")
    }

    /// Sets a key of the settings.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        let name = format!("STAMPEDE_{}", key.to_uppercase().replace('.', "_"));
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value.to_owned()));
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn var(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a flag with a value.
    pub(crate) fn flag(mut self, flag: &str, value: &str) -> Self {
        self.flags.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// Adds a flag that has no value.
    pub(crate) fn switch(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Removes all added flags.
    pub(crate) fn without_flags(mut self) -> Self {
        self.flags.clear();
        self
    }

    /// Sets the limit on open files, like `ulimit -n`.
    pub(crate) fn files(mut self, files_max: u64) -> Self {
        self.files_max = Some(files_max);
        self
    }

    /// Listens elsewhere.
    pub(crate) fn listen(mut self, public: SocketAddr) -> Self {
        self.public = public;
        self
    }

    /// A directory next to the data directory, removed with the bed.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    #[allow(dead_code, reason = "only the torture keeps what went red")]
    /// Keeps everything when the bed is dropped, and says where.
    pub(crate) fn keep(&mut self) -> PathBuf {
        self.home.disable_cleanup(true);
        self.home.path().to_path_buf()
    }

    /// Starts a process without waiting until it is ready.
    pub(crate) fn spawn(&self) -> Server {
        let stream = || self.sink.as_ref().map_or_else(Stdio::piped, Sink::stdio);
        let program = self.program.clone().unwrap_or_else(binary);
        let mut words = self.wrap.iter().map(Into::into).chain([program.into_os_string()]);
        let mut command = Command::new(words.next().expect("at least the binary"));
        command.args(words);
        command.arg("serve").args(["--cores", self.cores, "--data-dir"]).arg(&self.dir);
        command.args(["--listen", &self.public.to_string(), "--admin-listen", &self.admin.to_string()]);
        command.args(&self.flags).env_clear().envs(self.env.iter().cloned());
        if let Some(mutation) = std::env::var_os("STAMPEDE_MUTATION") {
            command.env("STAMPEDE_MUTATION", mutation);
        }
        command.stdin(Stdio::null()).stdout(stream()).stderr(stream());
        let files_usual = usual_files();
        let (files_max, sandbox) = (self.files_max, self.sandbox.clone());
        // SAFETY: between fork and exec only async-signal-safe system calls are made, and
        // nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                sandbox.enter()?;
                // Another user could not raise it any more.
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                let limit =
                    files_max.map_or(files_usual, |most| Rlimit { current: Some(most), maximum: Some(most) });
                rustix::process::setrlimit(Resource::Nofile, limit)?;
                sandbox.install_filter()
            });
        }
        let mut child = command.spawn().expect("the binary runs");
        let said = Arc::<Mutex<String>>::default();
        let stdout = child.stdout.take().map(|pipe| listen_to(pipe, said.clone()));
        let stderr = child.stderr.take().map(|pipe| listen_to(pipe, said.clone()));
        let readers = stdout.into_iter().chain(stderr).collect();
        Server { child, public: self.public, admin: self.admin, said, readers, status: None }
    }

    /// Starts a server and waits until it is ready. Its addresses change only before the
    /// first start has succeeded.
    pub(crate) fn start(&mut self) -> Server {
        for _ in 0..STARTS_MAX {
            let mut server = self.spawn();
            match server.wait_until_ready() {
                Ok(()) => {
                    self.has_served = true;
                    if self.sink.is_none() {
                        self.prove_transport(&mut server);
                    }
                    return server;
                }
                Err(said) if said.contains("cannot listen on") && !self.has_served => {
                    (self.public, self.admin) = (free_address(), free_address());
                }
                Err(said) => panic!("the server did not start:\n{said}"),
            }
        }
        panic!("no free ports");
    }

    /// Waits until the server has logged the transport that was asked for, if one was.
    fn prove_transport(&self, server: &mut Server) {
        let chosen = self.env.iter().find(|(name, _)| name == "STAMPEDE_TRANSPORT");
        let chosen = chosen.map(|(_, chosen)| chosen.clone()).or(std::env::var("STAMPEDE_TRANSPORT").ok());
        let Some(chosen) = chosen.filter(|chosen| chosen != "auto") else { return };
        let line = format!("transport=\"{chosen}\"");
        wait_for("the transport", || server.said().contains(&line).then_some(()));
    }

    /// Runs it as an ordinary user, who becomes the owner of everything needed.
    pub(crate) fn user(mut self, user: User) -> Self {
        let program = self.beside("stampede");
        std::fs::copy(binary(), &program).expect("a program that everybody can read");
        sandbox::hand_over(self.home.path(), user.number).expect("a directory for another user");
        (self.program, self.sandbox.user) = (Some(program), Some(user));
        self
    }

    /// Another command with the same settings, with or without a running server.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command =
            Command::new(self.program.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_stampede").into()));
        command.arg(name).arg("--data-dir").arg(&self.dir);
        command.args(["--listen", &self.public.to_string(), "--admin-listen", &self.admin.to_string()]);
        command.args(&self.flags).env_clear().envs(self.env.iter().cloned());
        command
    }

    /// Starts a server that is expected to refuse; returns its exit code and output.
    pub(crate) fn start_refused(&self) -> (Option<i32>, String) {
        let mut server = self.spawn();
        let status = server.wait_for_exit();
        (status.code(), server.said())
    }
}

/// One process. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    /// The address for buyers.
    pub(crate) public: SocketAddr,
    /// The address for the merchant.
    pub(crate) admin: SocketAddr,
    said: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

impl Server {
    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.exited().is_some() {
                return Err(self.said());
            }
            if get(self.admin, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            assert!(Instant::now() < deadline, "not ready in time:\n{}", self.said());
            pause();
        }
    }

    /// Its output so far; all of it once it has ended.
    pub(crate) fn said(&mut self) -> String {
        if self.status.is_some() {
            self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        }
        self.said.lock().unwrap().clone()
    }

    /// Its exit status, if it has ended.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        assert_eq!(self.exited(), None, "it ended by itself:\n{}", self.said());
        self.child.kill().unwrap();
        self.status = Some(self.child.wait().unwrap());
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Sends any signal.
    pub(crate) fn signal(&self, number: i32) {
        // SAFETY: sends a signal to a child of ours that was not waited for yet.
        assert_eq!(unsafe { libc::kill(self.pid().cast_signed(), number) }, 0, "signal {number}");
    }

    /// Waits until log, alarms and metrics have each reported this reason once.
    pub(crate) fn wait_until_told(&mut self, reason: &str) {
        let text = format!("not ready, {reason}: ");
        let alarms = wait_for("the alarm", || {
            let alarms = self.merchant().get("/admin/stats").ok()?["alarms"].to_string();
            alarms.contains(&text).then_some(alarms)
        });
        assert_eq!(alarms.matches(&text).count(), 1, "{alarms}");
        let said = wait_for("the line", || Some(self.said()).filter(|said| said.contains(&text)));
        assert_eq!(said.matches(&text).count(), 1, "{said}");
        let metrics = get(self.admin, "/metrics").expect("it answers");
        assert!(metrics.contains(&format!("stampede_not_ready{{reason=\"{reason}\"}} 1")), "{metrics}");
    }

    /// Waits for its end.
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for("the server's end", || self.exited())
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.terminate();
        self.wait_for_exit().code()
    }

    /// An item as the merchant API shows it.
    pub(crate) fn merchant(&self) -> Merchant {
        Merchant::new(&format!("http://{}", self.admin), TOKEN)
    }

    /// Its processor time, in milliseconds.
    pub(crate) fn cpu_ms(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The name may contain spaces and ends with the last bracket; then 11 fields precede `utime`.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        ticks * MS_PER_TICK
    }

    /// How many files it has open.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Resident memory in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.exited().is_none() {
            let _gone_already = self.child.kill();
            self.status = self.child.wait().ok();
        }
        let said = self.said();
        if thread::panicking() {
            eprintln!("---- the server said:\n{said}----");
        }
    }
}

/// The limit on open files for a server at its start, as we found it. The tests' many clients are ours, so
/// we raise our own limit as far as possible.
fn usual_files() -> Rlimit {
    static FOUND: OnceLock<Rlimit> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let found = getrlimit(Resource::Nofile);
        let most = Rlimit { current: found.maximum, maximum: found.maximum };
        setrlimit(Resource::Nofile, most).expect("a soft limit as high as the hard one");
        found
    })
}

/// The server under test: the one built with the tests, or the one that
/// `TORTURE_BINARY` names.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("TORTURE_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_stampede").into(), PathBuf::from)
}

fn listen_to(pipe: impl Read + Send + 'static, said: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut said = said.lock().unwrap();
            said.push_str(&line);
            said.push('\n');
        }
    })
}

/// Asks once, on a connection of its own; `None` without a response.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A free address on the loopback interface, below the ports that the
/// system gives to clients, so it is still free after a restart.
pub(crate) fn free_address() -> SocketAddr {
    const FIRST: u16 = 12_000;
    const SPAN: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id().wrapping_mul(211) % u32::from(SPAN)) as u16;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % SPAN;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Polls until there is something, for at most [`PATIENCE`].
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        pause();
    }
}

/// Yields the processor to the server between two polls.
pub(crate) fn pause() {
    thread::park_timeout(Duration::from_millis(2));
}

/// Every file below a directory with its length and contents, to detect changes.
pub(crate) fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let content = std::fs::read(&path).unwrap();
            found.push((path, content));
        }
    }
    found.sort();
    found
}
