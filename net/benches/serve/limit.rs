//! The limit: `stampede-classic bare` as a process of its own on the server's processor, which
//! answers with the very bytes that the server answered with.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use tempfile::NamedTempFile;

use crate::load::{Cpus, Serving, spawn_on};

/// The names by which this program is the load generator, and the servers to compare with.
pub(crate) const LOADGEN: &str = "stampede-loadgen";
pub(crate) const CLASSIC: &str = "stampede-classic";

/// This program as one of those.
pub(crate) fn called(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg0(name);
    command
}

/// A running `bare`; dropping it ends it.
pub(crate) struct BareProcess {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl BareProcess {
    /// Starts one that answers with these bytes.
    pub(crate) fn start(answer: &[u8], cpus: Cpus) -> Self {
        let mut file = NamedTempFile::new().expect("a file for the answer");
        file.write_all(answer).expect("written");
        let mut command = called(CLASSIC);
        command.args(["bare", "--listen", "127.0.0.1:0", "--answer"]).arg(file.path()).stdout(Stdio::piped());
        let mut child = spawn_on(cpus.server, &mut command);
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its address");
        let addr = line.trim().strip_prefix("listening on ").expect("its address");
        Self { addr: addr.parse().expect("an address"), child }
    }
}

impl Serving for BareProcess {
    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for BareProcess {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}
