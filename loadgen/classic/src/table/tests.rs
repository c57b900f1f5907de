//! Rows in, text out.

use std::sync::Arc;
use std::time::Duration;

use super::*;

fn config() -> BenchConfig {
    BenchConfig {
        program: "x".into(),
        designs: Vec::new(),
        engine: None,
        stock: 10,
        refusals: 5,
        connections: 4,
        time_max: Duration::from_secs(1),
        pairs: 3,
        pool: 2,
        limit_per_s: 100,
        postgres: None,
        redis: None,
        redis_settings: Vec::new(),
        seed: 1,
        stop: Arc::default(),
    }
}

fn row(name: &'static str, winners_per_s: f64, oversold: u64) -> Row {
    Row {
        name,
        stock: 10,
        orders: 10 + oversold,
        acked: 10,
        count: 0,
        ended: true,
        sale_us: 1,
        winners_per_s: Some(winners_per_s),
        refusals_per_s: None,
        sale: Percentiles { p50_ns: 2_000_000, p99_ns: 3_000_000, p999_ns: 4_000_000 },
        winners: Percentiles::default(),
        refusals: Percentiles::default(),
        oversold,
        undersold: 0,
        statements_per_winner: Some(5.0),
        commits_per_winner: Some(0.5),
        cpu_s_per_1000_winners: Some(0.25),
        cpu_s_per_1000_refusals: None,
        counted: Some(Figures { requests: 20, winners: 10, ..Figures::default() }),
        wrong: None,
    }
}

#[test]
fn medians() {
    assert_eq!(median(vec![]), None);
    assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
}

#[test]
fn a_line_per_contender_with_medians_and_the_worst_of_wrong() {
    let rows = vec![row("naive", 100.0, 1), row("naive", 300.0, 7), row("naive", 200.0, 2)];
    let text = text(&config(), &Bench { rows, ..Bench::default() });
    let line = text.lines().find(|line| line.starts_with("naive")).unwrap();
    let cells: Vec<_> = line.split_whitespace().collect();
    assert_eq!(
        cells,
        ["naive", "200", "-", "2.00ms", "3.00ms", "4.00ms", "-", "-", "7", "0", "5.00", "0.250s", "-"]
    );
    assert!(text.contains("durable alike") && text.contains("medians of 3 rounds"));
}

#[test]
fn what_went_wrong_is_said() {
    let wrong = Row { wrong: Some("11 orders".to_owned()), ended: false, ..row("optimistic", 1.0, 1) };
    let engine = Row { counted: None, statements_per_winner: None, ..row("stampede", 1.0, 0) };
    let troubles = vec!["limited: no Redis".to_owned()];
    let bench = Bench {
        rows: vec![wrong, engine, row("naive", 1.0, 0)],
        troubles,
        interrupted: true,
        ..Bench::default()
    };
    let text = text(&config(), &bench);
    for words in [
        "WRONG: optimistic: 11 orders",
        "optimistic: not sold out when time was up",
        "NOT RUN: limited: no Redis",
        "naive: not seen to oversell",
        "0.500 tx",
        "interrupted",
    ] {
        assert!(text.contains(words), "no `{words}` in\n{text}");
    }
    let json = json(&config(), &bench, 7);
    assert_eq!((&json["rows"][0]["wrong"], &json["rows"][1]["counted"]), (&"11 orders".into(), &Value::Null));
}
