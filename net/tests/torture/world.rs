//! What outlives a round: a data directory with its database and server, and everything that
//! buyers were told so far.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::base::Base;
use crate::sale::Told;
use crate::server::{Bed, Server, binary};

/// A shop that lasts for several rounds.
pub(crate) struct World {
    pub(crate) bed: Bed,
    pub(crate) base: Base,
    pub(crate) database: String,
    pub(crate) server: Option<Server>,
    /// What buyers were told, round after round.
    told: Vec<Told>,
    items: u32,
}

impl World {
    /// A fresh directory and a fresh database.
    pub(crate) fn new(mut base: Base, cores: &'static str) -> Self {
        let database = base.database();
        let mut bed = Bed::new().flag("--postgres", &base.url_for_export(&database));
        bed.cores = cores;
        let server = Some(bed.start());
        Self { bed, base, database, server, told: Vec::new(), items: 0 }
    }

    pub(crate) fn next_item(&mut self) -> u32 {
        self.items += 1;
        self.items
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    pub(crate) fn server_mut(&mut self) -> &mut Server {
        self.server.as_mut().expect("the server runs")
    }

    /// The database without the proxy, for the checker.
    pub(crate) fn url(&self) -> String {
        self.base.cluster.url_of(&self.database)
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.base.sql(&self.database, sql)
    }

    /// A file next to the data directory.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.bed.beside(name)
    }

    pub(crate) fn remember(&mut self, told: Told) {
        self.told.push(told);
    }

    /// Checks every sale of this world again, after all that came later, and has the log
    /// itself verified; returns the database cluster.
    pub(crate) fn close(mut self) -> (Base, u64) {
        let mut orders = 0;
        for told in &self.told {
            orders += told.judge(self.server(), Some(&self.url())).orders;
        }
        let server = self.server.take().expect("the server runs");
        assert_eq!(server.stop(), Some(0), "the end is an orderly one");
        verify_log(&self.bed.dir);
        (self.base, orders)
    }

    /// Keeps everything in place for inspection; returns where.
    pub(crate) fn keep(&mut self) -> PathBuf {
        let place = self.bed.keep();
        if let Some(server) = &mut self.server {
            let _best_effort = std::fs::write(place.join("server.log"), server.said());
        }
        if let Some(dir) = self.base.cluster.data_dir().parent() {
            let _best_effort = std::fs::copy(dir.join("log"), place.join("postgres.log"));
        }
        place
    }
}

/// `log verify` accepts the log.
pub(crate) fn verify_log(dir: &Path) {
    let output = Command::new(binary()).args(["log", "verify"]).arg(dir).output().expect("the binary runs");
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&said));
}
