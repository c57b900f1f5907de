//! What `stampede-classic --json` and `stampede-classic kill --json` write, as records.
//!
//! Those files keep more than a table shows (every round, the versions of all programs), so they stay as they are
//! beside the records, and are read here.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::machine::{Machine, date};
use crate::record::{Record, Row, SCHEMA, Value};

/// The formats that are read.
const SALES: &str = "stampede-loadgen-classic-2";
const KILLS: &str = "stampede-classic-kill-1";

/// A file of either format; fields that no table shows are ignored.
#[derive(Deserialize)]
struct File<Config, Round> {
    commit: Option<String>,
    began_at_ms: u64,
    machine: Host,
    #[serde(default)]
    versions: BTreeMap<String, Option<String>>,
    config: Config,
    rows: Vec<Round>,
}

#[derive(Deserialize)]
struct Host {
    kernel: String,
    cores: u32,
    cpu: Option<String>,
    load1: Option<f64>,
}

#[derive(Deserialize)]
struct SalesConfig {
    designs: Vec<String>,
    stock: u64,
    refusals: u64,
    connections: u64,
    pairs: u64,
    limit_per_s: u64,
}

/// One design in one round.
#[derive(Deserialize)]
struct Sale {
    name: String,
    winners_per_s: Option<f64>,
    refusals_per_s: Option<f64>,
    sale: Percentiles,
    winners: Percentiles,
    oversold: f64,
    undersold: f64,
    statements_per_winner: Option<f64>,
    commits_per_winner: Option<f64>,
    cpu_s_per_1000_winners: Option<f64>,
    cpu_s_per_1000_refusals: Option<f64>,
    counted: Option<Counted>,
}

#[derive(Deserialize)]
struct Percentiles {
    p50_ns: f64,
    p99_ns: f64,
    p999_ns: f64,
}

/// What the app tier counted during the sale.
#[derive(Deserialize)]
struct Counted {
    requests: f64,
    winners: f64,
    conflicts: f64,
    rate_limited: f64,
    cache_hits: f64,
    cache_misses: f64,
    cache_stale: f64,
}

#[derive(Deserialize)]
struct KillConfig {
    stock: u64,
    per_s: f64,
    connections: u64,
    rounds: u64,
}

/// One store, killed in one round.
#[derive(Deserialize)]
struct Loss {
    name: String,
    fault: String,
    acked: f64,
    lost: f64,
    oversold: f64,
    undersold: f64,
    over_cap: f64,
    changed: f64,
    unknown: f64,
    away_ms: f64,
}

/// The record in such a file; none if it has another format.
pub(crate) fn read(text: &str) -> Option<Result<Record, String>> {
    #[derive(Deserialize)]
    struct Format {
        format: String,
    }
    let Format { format } = serde_json::from_str(text).ok()?;
    match format.as_str() {
        SALES => Some(serde_json::from_str(text).map(|file| sales(&file)).map_err(|error| error.to_string())),
        KILLS => Some(serde_json::from_str(text).map(|file| kills(&file)).map_err(|error| error.to_string())),
        _ => None,
    }
}

/// Every sample of a figure, in the order in which figures first appear.
#[derive(Default)]
struct Samples(Vec<(String, Vec<f64>)>);

impl Samples {
    /// Adds what one round of a design measured.
    fn add(&mut self, design: &str, figures: impl IntoIterator<Item = (&'static str, Option<f64>)>) {
        for (figure, sample) in figures {
            let (key, Some(sample)) = (format!("{design}.{figure}"), sample) else { continue };
            match self.0.iter_mut().find(|(known, _)| *known == key) {
                Some((_, samples)) => samples.push(sample),
                None => self.0.push((key, vec![sample])),
            }
        }
    }

    /// Rows in the words and units of [`crate::figures`]; [`Record::check`] refuses a figure that is not there.
    fn rows(self, bench: &str) -> Vec<Row> {
        let row = |(figure, mut samples): (String, Vec<f64>)| {
            samples.sort_by(f64::total_cmp);
            let known = crate::figures::find(bench, &figure);
            let [name, unit] = known.map_or([""; 2], |known| [known.name, known.unit]).map(str::to_owned);
            Row { figure, name, unit, value: Value::Samples(samples) }
        };
        self.0.into_iter().map(row).collect()
    }
}

fn sales(file: &File<SalesConfig, Sale>) -> Record {
    let mut samples = Samples::default();
    for round in &file.rows {
        let (sale, winners) = (&round.sale, &round.winners);
        samples.add(
            &round.name,
            [
                ("winners", round.winners_per_s),
                ("refusals", round.refusals_per_s),
                ("p50", Some(sale.p50_ns / 1e6)),
                ("p99", Some(sale.p99_ns / 1e6)),
                ("p999", Some(sale.p999_ns / 1e6)),
                ("won.p50", Some(winners.p50_ns / 1e6)),
                ("won.p99", Some(winners.p99_ns / 1e6)),
                ("oversold", Some(round.oversold)),
                ("undersold", Some(round.undersold)),
                ("statements", round.statements_per_winner),
                ("commits", round.commits_per_winner),
                // Seconds per thousand are milliseconds per one.
                ("cpu", round.cpu_s_per_1000_winners),
                ("refused.cpu", round.cpu_s_per_1000_refusals),
            ],
        );
        if let Some(counted) = &round.counted {
            let cached = counted.cache_hits + counted.cache_misses > 0.0;
            samples.add(
                &round.name,
                [
                    ("purchases", Some(counted.requests)),
                    ("won", Some(counted.winners)),
                    ("conflicts", Some(counted.conflicts)),
                    ("limited", Some(counted.rate_limited)),
                    ("hits", cached.then_some(counted.cache_hits)),
                    ("misses", cached.then_some(counted.cache_misses)),
                    ("stale", cached.then_some(counted.cache_stale)),
                ],
            );
        }
    }
    let SalesConfig { designs, stock, refusals, connections, pairs, limit_per_s } = &file.config;
    let command = format!(
        "stampede-classic --designs {} --stock {stock} --requests {} -c {connections} --pairs {pairs}",
        designs.join(","),
        stock + refusals
    );
    let limit = if designs.iter().any(|design| design.starts_with("limited")) {
        format!("at most {limit_per_s} purchases/s in the limited designs; ")
    } else {
        String::new()
    };
    let setting = format!(
        "{} units, closed loop over {connections} connections, then {} refusals; {limit}medians of {pairs} rounds",
        crate::number(*stock as f64),
        crate::number(*refusals as f64),
    );
    record("classic", command, setting, file, samples)
}

fn kills(file: &File<KillConfig, Loss>) -> Record {
    let mut samples = Samples::default();
    for round in &file.rows {
        let design = format!("{}.{}", round.name, round.fault);
        samples.add(
            &design,
            [
                ("acked", round.acked),
                ("lost", round.lost),
                ("oversold", round.oversold),
                ("undersold", round.undersold),
                ("over-cap", round.over_cap),
                ("two-orders", round.changed),
                ("unknown", round.unknown),
                ("away", round.away_ms / 1e3),
            ]
            .map(|(figure, sample)| (figure, Some(sample))),
        );
    }
    let KillConfig { stock, per_s, connections, rounds } = &file.config;
    let command =
        format!("stampede-classic kill --stock {stock} --rate {per_s} -c {connections} --rounds {rounds}");
    let setting = format!(
        "{} units, {} purchases/s over {connections} connections; {rounds} rounds",
        crate::number(*stock as f64),
        crate::number(*per_s),
    );
    record("kill", command, setting, file, samples)
}

fn record<C, R>(
    bench: &str,
    command: String,
    setting: String,
    file: &File<C, R>,
    samples: Samples,
) -> Record {
    let Host { kernel, cores, cpu, load1 } = &file.machine;
    Record {
        schema: SCHEMA,
        bench: bench.to_owned(),
        variant: String::new(),
        date: date(file.began_at_ms / 86_400_000),
        commit: file.commit.clone().unwrap_or_else(|| "unknown".to_owned()),
        machine: Machine {
            processors: format!("{cores} × {}", cpu.as_deref().unwrap_or("a processor")),
            memory: String::new(),
            kernel: kernel.clone(),
            system: programs(&file.versions),
            note: String::new(),
        },
        load_before: *load1,
        command,
        setting,
        transcribed: None,
        rows: samples.rows(bench),
        notes: Vec::new(),
    }
}

/// The programs beside ours, such as `Postgres 15.18, Redis 7.0.15`.
fn programs(versions: &BTreeMap<String, Option<String>>) -> String {
    let known = [("postgres", "Postgres"), ("redis", "Redis"), ("nginx", "nginx")];
    let programs = known.iter().filter_map(|(key, name)| {
        let version = versions.get(*key)?.as_deref()?.split(' ').next()?;
        Some(format!("{name} {version}"))
    });
    programs.collect::<Vec<_>>().join(", ")
}
