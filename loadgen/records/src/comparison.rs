//! What `stampede-classic --json` and `stampede-classic kill --json` write, as records.
//!
//! Those files keep far more than a table shows (every round, every percentile, versions of all programs), so they
//! stay as they are beside the records, and are read here.

use serde::Deserialize;

use crate::machine::{Machine, date};
use crate::record::{Record, Row, SCHEMA, Value};

/// The forms that are read.
const SALES: &str = "stampede-loadgen-classic-2";
const KILLS: &str = "stampede-classic-kill-1";

/// A file of either form; what no table shows is passed over.
#[derive(Deserialize)]
struct File<R> {
    commit: Option<String>,
    began_at_ms: u64,
    machine: Where,
    rows: Vec<R>,
}

#[derive(Deserialize)]
struct Where {
    kernel: String,
    cores: u32,
    cpu: Option<String>,
    load1: Option<f64>,
}

#[derive(Deserialize)]
struct Sale {
    name: String,
    winners_per_s: Option<f64>,
    sale: Percentiles,
    cpu_s_per_1000_winners: Option<f64>,
    oversold: f64,
}

#[derive(Deserialize)]
struct Percentiles {
    p99_ns: f64,
}

#[derive(Deserialize)]
struct Loss {
    name: String,
    fault: String,
    lost: f64,
    oversold: f64,
}

/// The record in such a file; none if it is of another form.
pub(crate) fn read(text: &str) -> Option<Result<Record, String>> {
    #[derive(Deserialize)]
    struct Form {
        format: String,
    }
    let form: Form = serde_json::from_str(text).ok()?;
    match form.format.as_str() {
        SALES => Some(serde_json::from_str(text).map(sales).map_err(|error| error.to_string())),
        KILLS => Some(serde_json::from_str(text).map(kills).map_err(|error| error.to_string())),
        _ => None,
    }
}

/// Every sample of a figure, in the order in which figures first appear.
#[derive(Default)]
struct Samples(Vec<(String, &'static str, Vec<f64>)>);

impl Samples {
    fn add(&mut self, design: &str, what: &str, unit: &'static str, sample: Option<f64>) {
        let (key, Some(sample)) = (format!("{design}.{what}"), sample) else { return };
        match self.0.iter_mut().find(|(known, ..)| *known == key) {
            Some((.., samples)) => samples.push(sample),
            None => self.0.push((key, unit, vec![sample])),
        }
    }

    fn rows(self) -> Vec<Row> {
        let row = |(figure, unit, mut samples): (String, &str, Vec<f64>)| {
            samples.sort_by(f64::total_cmp);
            Row { name: figure.clone(), figure, unit: unit.to_owned(), value: Value::Samples(samples) }
        };
        self.0.into_iter().map(row).collect()
    }
}

fn sales(file: File<Sale>) -> Record {
    let mut samples = Samples::default();
    for Sale { name, winners_per_s, sale, cpu_s_per_1000_winners, oversold } in &file.rows {
        samples.add(name, "winners", "1/s", *winners_per_s);
        samples.add(name, "p99", "ms", Some(sale.p99_ns / 1e6));
        // Seconds per thousand orders are milliseconds per order.
        samples.add(name, "cpu", "ms", *cpu_s_per_1000_winners);
        samples.add(name, "oversold", "orders", Some(*oversold));
    }
    record("classic", "stampede-classic", file, samples)
}

fn kills(file: File<Loss>) -> Record {
    let mut samples = Samples::default();
    for Loss { name, fault, lost, oversold } in &file.rows {
        samples.add(name, &format!("{fault}.lost"), "orders", Some(*lost));
        samples.add(name, &format!("{fault}.oversold"), "orders", Some(*oversold));
    }
    record("kill", "stampede-classic kill", file, samples)
}

fn record<R>(bench: &str, command: &str, file: File<R>, samples: Samples) -> Record {
    let Where { kernel, cores, cpu, load1 } = file.machine;
    Record {
        schema: SCHEMA,
        bench: bench.to_owned(),
        variant: String::new(),
        date: date(file.began_at_ms / 86_400_000),
        commit: file.commit.unwrap_or_else(|| "unknown".to_owned()),
        machine: Machine {
            processors: format!("{cores} × {}", cpu.as_deref().unwrap_or("a processor")),
            memory: String::new(),
            kernel,
            system: String::new(),
            note: String::new(),
        },
        load_before: load1,
        command: command.to_owned(),
        setting: String::new(),
        transcribed: None,
        rows: samples.rows(),
        notes: Vec::new(),
    }
}
