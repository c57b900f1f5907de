//! docs/CLASSICS.md: the classic designs, the rivals and the engine, and what killing a store loses.
//!
//! Rows of one table come from one run, so that they share the machine, the stock and the hour. Ranges go over the
//! rounds of that run. What a buyer could lose is the worst of the rounds, never a median.

use super::{count, ranged, rounded, short, table};
use crate::record::Record;
use crate::series::Records;

/// The designs of the tutorials, in the order in which each cures what broke before.
const DESIGNS: [&str; 8] = [
    "naive",
    "pessimistic",
    "optimistic",
    "limited",
    "limited-local",
    "cached-delete",
    "cached-update",
    ENGINE,
];
const RIVALS: [&str; 5] = ["redis-lua", "redis-lua-always", "nginx-lua", "row-lock", ENGINE];
const STORES: [&str; 5] = ["row-lock", "redis-lua", "redis-lua-always", "nginx-lua", ENGINE];
const ENGINE: &str = "stampede";
/// A figure that the run did not measure.
const NONE: &str = "-";

/// A block of the page by its name.
pub(crate) fn block(records: &Records, name: &str) -> Option<String> {
    let run = |bench, key| records.newest_with(bench, key);
    let designs = || run("classic", "naive.winners");
    let rivals = || run("classic", "redis-lua.winners");
    let rendered = match name {
        "designs" => designs().map(|run| sales(run, &DESIGNS)),
        "in-the-sale" => designs().map(in_the_sale),
        "designs-compared" => designs().map(|run| compared(run, &DESIGNS)),
        "rivals" => rivals().map(|run| sales(run, &RIVALS)),
        "rivals-compared" => rivals().map(|run| compared(run, &RIVALS)),
        "losses" => run("kill", "stampede.kill.lost").map(losses),
        "processors" => designs().map(|run| processors(run, records)),
        _ => return None,
    };
    Some(rendered.unwrap_or_else(|| "Not measured yet.\n".to_owned()))
}

/// Median, least and most of a design's figure.
fn spread(run: &Record, design: &str, figure: &str) -> Option<[f64; 3]> {
    run.value(&format!("{design}.{figure}"))?.spread()
}

fn median(run: &Record, design: &str, figure: &str) -> Option<f64> {
    spread(run, design, figure).map(|[median, ..]| median)
}

/// The designs of the list that the run measured.
fn measured<'a>(run: &Record, designs: &[&'a str]) -> Vec<&'a str> {
    designs.iter().copied().filter(|design| median(run, design, "winners").is_some()).collect()
}

fn or_none(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| NONE.to_owned(), show)
}

/// Milliseconds; timeeconds below a tenth of one.
fn time(ms: f64) -> String {
    let us = ms * 1e3;
    match us {
        ..9.95 => format!("{us:.1} µs"),
        ..99.5 => format!("{us:.0} µs"),
        _ => format!("{} ms", short(ms)),
    }
}

/// A rate, without decimals.
fn rate(per_s: f64) -> String {
    if per_s < 999.5 { count(per_s) } else { rounded(per_s) }
}

/// What each design sold, how fast, and at what cost.
fn sales(run: &Record, designs: &[&str]) -> String {
    let rows = measured(run, designs).into_iter().map(|design| {
        let shown = |figure: &str, show: fn(f64) -> String| or_none(median(run, design, figure), show);
        let with_range = |figure: &str, show: fn(f64) -> String| {
            spread(run, design, figure).map_or_else(|| NONE.to_owned(), |spread| ranged(spread, show))
        };
        let worst = |figure: &str| or_none(spread(run, design, figure).map(|[.., worst]| worst), count);
        let database = match median(run, design, "statements") {
            Some(statements) => short(statements),
            None => {
                or_none(median(run, design, "commits"), |commits| format!("{} tx", crate::number(commits)))
            }
        };
        [
            format!("`{design}`"),
            with_range("winners", rate),
            shown("refusals", rate),
            shown("p50", time),
            with_range("p99", time),
            shown("p999", time),
            shown("won.p99", time),
            worst("oversold"),
            worst("undersold"),
            database,
            with_range("cpu", time),
            shown("refused.cpu", time),
        ]
    });
    let head = [
        "design",
        "sales/s",
        "refusals/s",
        "p50",
        "p99",
        "p99.9",
        "winners' p99",
        "oversold",
        "undersold",
        "statements per order",
        "CPU per order",
        "CPU per refusal",
    ];
    table(head, rows) + &source(run)
}

/// What became of the purchases until the item was sold out, per order that was sold.
fn in_the_sale(run: &Record) -> String {
    let rows = measured(run, &DESIGNS).into_iter().filter_map(|design| {
        let figure = |name: &str| median(run, design, name);
        let won = figure("won")?;
        let per_order = |name: &str| or_none(figure(name), |value| short(value / won));
        let looks = figure("hits").zip(figure("misses")).map(|(hits, misses)| hits + misses);
        let share = |part: Option<f64>, whole: Option<f64>| {
            or_none(part.zip(whole).map(|(part, whole)| part / whole), |share| {
                format!("{:.0} %", share * 100.0)
            })
        };
        Some([
            format!("`{design}`"),
            count(won),
            per_order("purchases"),
            per_order("conflicts"),
            per_order("limited"),
            share(figure("misses"), looks),
            share(figure("stale"), figure("hits")),
        ])
    });
    let head = [
        "design",
        "orders",
        "purchases per order",
        "conflicts per order",
        "rate limited per order",
        "cache misses",
        "stale hits",
    ];
    table(head, rows)
}

/// The engine's medians divided by those of each other design.
fn compared(run: &Record, designs: &[&str]) -> String {
    let rows = measured(run, designs).into_iter().filter(|design| *design != ENGINE).map(|design| {
        let ratio = |figure: &str| {
            let both = median(run, ENGINE, figure).zip(median(run, design, figure));
            or_none(both.map(|(engine, other)| engine / other), short_ratio)
        };
        [format!("`{design}`"), ratio("winners"), ratio("p99"), ratio("cpu"), ratio("refused.cpu")]
    });
    table(["Stampede ÷", "sales/s", "p99", "CPU per order", "CPU per refusal"], rows)
}

fn short_ratio(ratio: f64) -> String {
    if ratio < 0.0995 { crate::number(ratio) } else { short(ratio) }
}

/// What each store lost to each fault: the worst round; the time away as a median.
fn losses(run: &Record) -> String {
    let mut rows = Vec::new();
    for (fault, name) in [("kill", "kill -9"), ("power-cut", "power cut")] {
        for store in STORES {
            let figure = |figure: &str| spread(run, store, &format!("{fault}.{figure}"));
            let worst = |name: &str| or_none(figure(name).map(|[.., worst]| worst), count);
            if figure("acked").is_none() {
                continue;
            }
            let away = figure("away")
                .map_or_else(|| NONE.to_owned(), |away| ranged(away, |s| format!("{s:.2}")) + " s");
            rows.push([
                format!("`{store}`"),
                name.to_owned(),
                worst("acked"),
                worst("lost"),
                worst("oversold"),
                worst("undersold"),
                worst("over-cap"),
                worst("two-orders"),
                worst("unknown"),
                away,
            ]);
        }
    }
    let head = [
        "store",
        "fault",
        "acked",
        "acked, lost",
        "oversold",
        "undersold",
        "over cap",
        "key with two orders",
        "unknown",
        "away",
    ];
    table(head, rows) + &source(run)
}

/// How many processors refusals alone keep busy. The last row is the limit: a server that answers a constant.
fn processors(run: &Record, records: &Records) -> String {
    let designs = ["pessimistic", "optimistic", "cached-delete", "limited-local", ENGINE];
    let mut costs: Vec<(String, f64)> = designs
        .iter()
        .filter_map(|design| Some((format!("`{design}`"), median(run, design, "refused.cpu")? / 1e3)))
        .collect();
    if let Some(bare) = records.spread("serve", "1.bare.cpu") {
        costs.push(("a bare epoll server".to_owned(), bare.median / 1e6));
    }
    let rows = costs.into_iter().map(|(name, seconds)| {
        let [ten, hundred, million] = [10e3, 100e3, 1e6].map(|per_s| short(per_s * seconds));
        [name, time(seconds * 1e3), ten, hundred, million]
    });
    table(["refused by", "CPU per refusal", "10,000/s", "100,000/s", "1,000,000/s"], rows)
}

/// Which run it was, below its table.
fn source(run: &Record) -> String {
    let Record { date, machine, command, setting, .. } = run;
    let commit: String = run.commit.chars().take(7).collect();
    let system = if machine.system.is_empty() { String::new() } else { format!(", {}", machine.system) };
    let load = run.load_before.map_or_else(String::new, |load| format!(", load before {load:.1}"));
    let kernel = machine.kernel.split('-').next().unwrap_or_default();
    format!(
        "\n{setting}. Measured {date} at commit {commit} on {}, Linux {kernel}{system}{load}: `{command}`\n",
        machine.processors
    )
}
