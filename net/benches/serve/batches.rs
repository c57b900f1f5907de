//! Row 10: batches of 8,192 purchases from one trusted gateway, on all processors.
//!
//! The client is `stampede-loadgen batch`, a process of its own that shares the processors with the
//! server, as a gateway on the same machine would. It makes its items, and checks every answer.

use std::cell::Cell;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::cost::limit_per_s;
use crate::limit::{LOADGEN, called};
use crate::server::{ADMIN_TOKEN, Flags, ServerProcess};
use crate::table::{NotMeasured, Table};
use crate::{Bench, ratios};

/// What a batch is of, and what counts.
struct Figure {
    /// Its key; `.rate` and `.json` belong to it.
    key: &'static str,
    mode: &'static str,
    /// The field of the client's report that is counted.
    counted: &'static str,
    /// Purchases of one leg: about a second of them.
    purchases: u64,
}

const FIGURES: [Figure; 3] = [
    Figure { key: "10.won", mode: "winners", counted: "winners", purchases: 1_000_000 },
    Figure { key: "10.refused", mode: "sold-out", counted: "records", purchases: 4_000_000 },
    Figure { key: "10.held", mode: "hold-and-pay", counted: "paid", purchases: 400_000 },
];
/// Items that a leg buys in turn, so that every core owns some, and the first of all legs.
const ITEMS: u32 = 64;
const FIRST_ITEM: u32 = 1_000;

/// Adds the row: the binary form and JSON lines take turns. The limit has a run of its own.
pub(crate) fn of_a_gateway(bench: &Bench, table: &mut Table) {
    let limit = limit_per_s(bench);
    for figure in &FIGURES {
        let gateway = Gateway::start(bench);
        let (key, rate, json) = (figure.key, format!("{}.rate", figure.key), format!("{}.json", figure.key));
        // What is missing is seen at the first try.
        if let Err(why) = gateway.per_s(figure, "binary") {
            [key, &rate, &json].iter().for_each(|key| table.add_not_measured(key, &why));
            continue;
        }
        let rounds = bench.rounds(["JSON lines/s", "binary/s"], || {
            ["jsonl", "binary"].map(|format| gateway.per_s(figure, format).expect("a run"))
        });
        table.add(key, rounds.iter().map(|[_, binary]| binary / limit).collect());
        table.add(&rate, rounds.iter().map(|[_, binary]| *binary).collect());
        table.add(&json, ratios(&rounds));
    }
}

/// A server on all processors, and what the client needs to reach it.
struct Gateway {
    server: ServerProcess,
    token: NamedTempFile,
    /// The first item of the next leg.
    item: Cell<u32>,
}

impl Gateway {
    fn start(bench: &Bench) -> Self {
        let server = ServerProcess::start(bench, &Flags { all_cores: true, ..Flags::default() });
        let mut token = NamedTempFile::new().expect("a file for the token");
        token.write_all(ADMIN_TOKEN.as_bytes()).expect("written");
        Self { server, token, item: Cell::new(FIRST_ITEM) }
    }

    /// One run of the client over items of its own; what is counted, per second.
    fn per_s(&self, figure: &Figure, format: &str) -> Result<f64, NotMeasured> {
        let item = self.item.replace(self.item.get() + ITEMS);
        let mut command = called(LOADGEN);
        command.args(["batch", "--admin", &format!("http://{}", self.server.admin)]);
        command.arg("--admin-token-file").arg(self.token.path());
        command.args(["--item", &item.to_string(), "--items", &ITEMS.to_string()]);
        command.args(["-n", &figure.purchases.to_string()]);
        command.args(["--mode", figure.mode, "--format", format, "--json"]);
        let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            let first = words.lines().next().unwrap_or_default();
            let first = first.strip_prefix("stampede-loadgen: ").unwrap_or(first);
            return Err(format!("`stampede-loadgen batch`: {first}"));
        }
        let said: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        let field = |name: &str| said[name].as_f64().ok_or_else(|| format!("no {name} in {said}"));
        Ok(field(figure.counted)? / field("seconds")?)
    }
}
