//! Row 10: batches of 8,192 purchases from one trusted gateway, on all processors.
//!
//! The client is `stampede-loadgen batch`, a process of its own that shares the processors with the
//! server, as a gateway on the same machine would.

use std::process::Stdio;

use serde_json::Value;

use crate::limit::loadgen;
use crate::server::{ADMIN_TOKEN, Flags, ServerProcess};
use crate::table::{Goal, NotMeasured, Table};
use crate::{Bench, ratios};

/// What a batch is of, what counts, and the target.
struct Figure {
    name: &'static str,
    mode: &'static str,
    what: &'static str,
    /// Whether every answer counts, or only those that won.
    all_answers: bool,
    goal: f64,
}

const FIGURES: [Figure; 3] = [
    Figure {
        name: "10",
        mode: "winners",
        what: "batches of 8,192, binary: durable winners a second",
        all_answers: false,
        goal: 1e6,
    },
    Figure {
        name: "",
        mode: "sold-out",
        what: "answers a second when nearly all are sold out",
        all_answers: true,
        goal: 4e6,
    },
    Figure {
        name: "",
        mode: "hold-and-pay",
        what: "hold-and-pay pairs a second",
        all_answers: false,
        goal: 4e5,
    },
];
/// What JSON lines have to reach of the binary form.
const JSON_SHARE: f64 = 0.5;

/// Adds the row: the binary form and JSON lines take turns.
pub(crate) fn of_a_gateway(bench: &Bench, table: &mut Table) {
    let server = ServerProcess::start(bench, &Flags { all_cores: true, ..Flags::default() });
    for figure in &FIGURES {
        let json = format!("JSON lines ÷ binary: {}", figure.mode);
        // What is missing is seen at the first try.
        if let Err(why) = per_s(bench, &server, figure, "binary") {
            table.add_not_measured(figure.name, figure.what, Goal::AtLeast(figure.goal), why.clone());
            table.add_not_measured("", json, Goal::AtLeast(JSON_SHARE), why);
            continue;
        }
        let rounds = bench.rounds(["JSON lines/s", "binary/s"], || {
            ["jsonl", "binary"].map(|format| per_s(bench, &server, figure, format).expect("a run"))
        });
        let binary = rounds.iter().map(|round| round[1]).collect();
        table.add(figure.name, figure.what, Goal::AtLeast(figure.goal), binary);
        table.add("", json, Goal::AtLeast(JSON_SHARE), ratios(&rounds));
    }
}

/// One run of the client; what it counts per second.
fn per_s(bench: &Bench, server: &ServerProcess, figure: &Figure, format: &str) -> Result<f64, NotMeasured> {
    let mut command = loadgen();
    let seconds = format!("{}ms", bench.size.leg.as_millis());
    command.args(["batch", "--admin", &format!("http://{}", server.admin), "--admin-token", ADMIN_TOKEN]);
    command.args(["--mode", figure.mode, "--format", format, "-d", &seconds, "--json"]);
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let first = words.lines().next().unwrap_or_default();
        let first = first.strip_prefix("stampede-loadgen: ").unwrap_or(first);
        return Err(format!("`stampede-loadgen batch`: {first}"));
    }
    let said: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let field = |name: &str| said[name].as_f64().ok_or_else(|| format!("no {name} in {said}"));
    if figure.all_answers { field("answers_per_s") } else { Ok(field("winners")? / field("seconds")?) }
}
