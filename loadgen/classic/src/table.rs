//! The table of a comparison: rounds to medians, medians to text and JSON.
//!
//! Pure values to text. Counts of wrong are never medians: the worst round is shown.
//! Next: [`crate::bench`], where the rows come from.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::bench::{Bench, BenchConfig, Percentiles, Row};
use crate::design::Contender;
use crate::machine::commit;
use crate::stats::Figures;
use stampede_loadgen::units::{show_count, show_ns};
use stampede_testkit::AppendLog;

const HEAD: [&str; 13] = [
    "design",
    "winners/s",
    "refusals/s",
    "p50",
    "p99",
    "p99.9",
    "won p50",
    "won p99",
    "oversold",
    "undersold",
    "db/winner",
    "CPU/1000 won",
    "CPU/1000 refused",
];
const SALE_HEAD: [&str; 9] = [
    "in the sale",
    "purchases",
    "won",
    "conflict",
    "limited",
    "failed",
    "cache hit",
    "cache miss",
    "cache stale",
];

/// The rounds of one contender.
struct Group<'a>(Vec<&'a Row>);

impl Group<'_> {
    fn name(&self) -> &'static str {
        self.0.first().map_or("", |row| row.name)
    }
    fn median(&self, figure: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
        median(self.0.iter().filter_map(|row| figure(row)).collect())
    }
    fn median_ns(&self, figure: impl Fn(&Row) -> u64) -> String {
        let ns = self.median(|row| Some(figure(row)).filter(|&ns| ns > 0).map(|ns| ns as f64));
        ns.map_or_else(none, |ns| show_ns(ns as u64))
    }
    fn worst(&self, count: impl Fn(&Row) -> u64) -> u64 {
        self.0.iter().map(|row| count(row)).max().unwrap_or(0)
    }
    fn counted(&self, figure: impl Fn(&Figures) -> u64) -> Option<f64> {
        self.median(|row| row.counted.as_ref().map(|counted| figure(counted) as f64))
    }
}

/// The rows by contender, in the order in which they first appear.
fn groups(rows: &[Row]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|group| group.name() == row.name) {
            Some(group) => group.0.push(row),
            None => groups.push(Group(vec![row])),
        }
    }
    groups
}

/// The middle one; of an even number the mean of the middle two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        even if even.is_multiple_of(2) => Some(f64::midpoint(values[half - 1], values[half])),
        _ => Some(values[half]),
    }
}

fn none() -> String {
    "-".to_owned()
}

fn rate(value: Option<f64>) -> String {
    value.map_or_else(none, |value| show_count(value.round() as u64))
}

fn decimals(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(none, |value| format!("{value:.decimals$}"))
}

/// CPU seconds.
fn seconds(value: Option<f64>) -> String {
    value.map_or_else(none, |value| format!("{value:.3}s"))
}

/// The comparison as text.
pub fn text(config: &BenchConfig, bench: &Bench) -> String {
    let mut text = String::new();
    write_conditions(&mut text, config);
    let groups = groups(&bench.rows);
    let mut lines = vec![HEAD.map(str::to_owned).to_vec()];
    lines.extend(groups.iter().map(main_line));
    write_table(&mut text, &lines);
    let mut lines = vec![SALE_HEAD.map(str::to_owned).to_vec()];
    lines.extend(groups.iter().filter(|group| group.counted(|c| c.requests).is_some()).map(sale_line));
    if lines.len() > 1 {
        text.push('\n');
        write_table(&mut text, &lines);
    }
    write_notes(&mut text, config, bench, &groups);
    text
}

fn write_conditions(text: &mut String, config: &BenchConfig) {
    let BenchConfig { stock, refusals, connections, pool, limit_per_s, pairs, seed, .. } = config;
    let _ = writeln!(
        text,
        "{} units, closed loop over {connections} connections, a new buyer per purchase, then {} more; seed {seed}",
        show_count(*stock),
        show_count(*refusals)
    );
    let _ = writeln!(
        text,
        "app tier: a thread per connection, {pool} connections to the database; limited: {} admitted/s; {}",
        show_count(*limit_per_s),
        if *pairs > 1 { format!("medians of {pairs} rounds in turn") } else { "one round".to_owned() }
    );
    let durable = if config.postgres.is_some() {
        "Postgres as it is set up at its URL; the engine answers after its log is synced"
    } else {
        "durable alike: Postgres with fsync and synchronous_commit on; the engine answers after its log is synced"
    };
    let _ = writeln!(text, "{durable}");
    let is_lax = |contender: &Contender| matches!(contender, Contender::Rival(rival) if rival.log == AppendLog::EverySecond);
    let lax: Vec<_> = config.designs.iter().filter(|contender| is_lax(contender)).map(|c| c.name()).collect();
    if !lax.is_empty() {
        let _ = writeln!(
            text,
            "NOT durable when they answer, as Redis's log is synced once a second: {}",
            lax.join(", ")
        );
    }
    text.push('\n');
}

fn main_line(group: &Group<'_>) -> Vec<String> {
    let of = |pick: fn(&Percentiles) -> u64| group.median_ns(move |row| pick(&row.sale));
    let statements = group.median(|row| row.statements_per_winner);
    let database = match statements {
        Some(_) => decimals(statements, 2),
        // Where nobody counts statements: the engine and the rivals.
        None => format!("{} tx", decimals(group.median(|row| row.commits_per_winner), 3)),
    };
    vec![
        group.name().to_owned(),
        rate(group.median(|row| row.winners_per_s)),
        rate(group.median(|row| row.refusals_per_s)),
        of(|sale| sale.p50_ns),
        of(|sale| sale.p99_ns),
        of(|sale| sale.p999_ns),
        group.median_ns(|row| row.winners.p50_ns),
        group.median_ns(|row| row.winners.p99_ns),
        show_count(group.worst(|row| row.oversold)),
        show_count(group.worst(|row| row.undersold)),
        database,
        seconds(group.median(|row| row.cpu_s_per_1000_winners)),
        seconds(group.median(|row| row.cpu_s_per_1000_refusals)),
    ]
}

fn sale_line(group: &Group<'_>) -> Vec<String> {
    let of = |pick: fn(&Figures) -> u64| rate(group.counted(pick));
    let cached = group.counted(|c| c.cache_hits + c.cache_misses).is_some_and(|looks| looks > 0.0);
    let cache = |pick| if cached { of(pick) } else { none() };
    vec![
        group.name().to_owned(),
        of(|c| c.requests),
        of(|c| c.winners),
        of(|c| c.conflicts),
        of(|c| c.rate_limited),
        of(|c| c.failures),
        cache(|c| c.cache_hits),
        cache(|c| c.cache_misses),
        cache(|c| c.cache_stale),
    ]
}

/// Columns as wide as their widest cell, the first to the left, the others to the right.
pub(crate) fn write_table(text: &mut String, lines: &[Vec<String>]) {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0)).collect();
    for line in lines {
        let mut row = String::new();
        for (at, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            let _ = if at == 0 { write!(row, "{cell:<width$}") } else { write!(row, "  {cell:>width$}") };
        }
        let _ = writeln!(text, "{}", row.trim_end());
    }
}

fn write_notes(text: &mut String, config: &BenchConfig, bench: &Bench, groups: &[Group<'_>]) {
    text.push_str(
        "\nwinners/s: orders per second from the first to the last. p50 to p99.9: all answers of the sale;\n\
         won: its winners. refusals/s: after the sale.\n\
         db/winner: statements in the sale per order (tx: committed transactions, the start included).\n\
         CPU: seconds of all processes of the service together: app tier or front, nginx, Redis, worker, Postgres\n\
         (stampede: the engine and Postgres).\n",
    );
    if config.postgres.is_some() || config.redis.is_some() {
        text.push_str("CPU does not hold the servers that were given by URL.\n");
    }
    for group in groups {
        let name = group.name();
        if group.0.iter().any(|row| !row.ended) {
            let _ = writeln!(
                text,
                "{name}: not sold out when time was up (--seconds): undersold is what was left."
            );
        }
        if name == "naive" && group.worst(|row| row.oversold) == 0 {
            let _ = writeln!(
                text,
                "naive: not seen to oversell this time; more connections (-c) make it likelier."
            );
        }
        for wrong in group.0.iter().filter_map(|row| row.wrong.as_ref()) {
            let _ = writeln!(text, "WRONG: {name}: {wrong}");
        }
    }
    for trouble in &bench.troubles {
        let _ = writeln!(text, "NOT RUN: {trouble}");
    }
    if bench.interrupted {
        text.push_str("interrupted: the rows above are complete, the rest is missing\n");
    }
}

/// The comparison with every round, as JSON; all times as their names say.
pub fn json(config: &BenchConfig, bench: &Bench, began_at_ms: u64) -> Value {
    json!({
        "format": "stampede-loadgen-classic-2",
        "version": env!("CARGO_PKG_VERSION"),
        "began_at_ms": began_at_ms,
        "commit": commit(),
        "machine": bench.machine,
        "versions": bench.versions,
        "config": {
            "designs": config.designs.iter().map(|design| design.name()).collect::<Vec<_>>(),
            "engine": config.engine.is_some(),
            "stock": config.stock,
            "refusals": config.refusals,
            "connections": config.connections,
            "time_max_ms": config.time_max.as_millis() as u64,
            "pairs": config.pairs,
            "pool": config.pool,
            "limit_per_s": config.limit_per_s,
            "own_postgres": config.postgres.is_none(),
            "own_redis": config.redis.is_none(),
            "redis_settings": config.redis_settings,
            "seed": config.seed,
        },
        "rows": bench.rows,
        "troubles": bench.troubles,
        "interrupted": bench.interrupted,
    })
}

#[cfg(test)]
mod tests;
