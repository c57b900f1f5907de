//! End to end: docs/METRICS.md lists the server's metrics, with the server's own texts.

use std::collections::BTreeSet;

use crate::server::{Bed, get};

/// The table rows of the page, from the metrics of a server with a database (which is down).
fn rows(metrics: &str) -> Vec<String> {
    let mut rows = Vec::new();
    let mut help = "";
    for line in metrics.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text.split_once(' ').expect("a name and a text").1;
        } else if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').expect("a name and a kind");
            let labels: BTreeSet<&str> = metrics
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'))
                .flat_map(|labels| labels.split('}').next().unwrap().split(','))
                .filter_map(|label| label.split_once('=').map(|(label, _value)| label))
                .collect();
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            rows.push(format!("| `{name}` | {kind} | {} | {help} |", labels.join(" ")));
        }
    }
    rows
}

#[test]
fn e2e_metrics_are_those_of_the_page() {
    let page = include_str!("../../../docs/METRICS.md");
    let nowhere = "postgres://nobody@127.0.0.1:1/nothing";
    let mut bed = Bed::new().flag("--postgres", nowhere).flag("--ack", "memory").switch("--new-shop");
    let server = bed.start();
    let metrics = get(server.admin, "/metrics").expect("it answers");
    let all = page.split("## What to watch").next().unwrap();
    let of_page: Vec<&str> = all.lines().filter(|line| line.starts_with("| `stampede_")).collect();
    let of_server = rows(&metrics);
    assert!(of_server.len() > 40, "{metrics}");
    assert_eq!(
        of_page,
        of_server,
        "docs/METRICS.md and the server differ; it would be:\n{}",
        of_server.join("\n")
    );
}

#[test]
fn every_reason_not_to_sell_is_explained() {
    let page = include_str!("../../../docs/CONFIG.md");
    let (_, section) = page.split_once("## Why it does not sell").expect("the section");
    let explained: Vec<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()).skip(1).collect();
    let reasons = stampede_net::engine::reasons::Reason::ALL.map(|reason| reason.name());
    assert_eq!(explained, reasons);
}
