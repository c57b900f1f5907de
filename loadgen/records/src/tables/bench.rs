//! docs/BENCHMARKS.md: ratios and their targets, absolute figures, the runs behind both.

use super::{rounded, table, with_range};
use crate::figures::{self, Figure, Goal, RATIO};
use crate::record::Record;
use crate::series::Records;

/// The runs of a bench: when, what, where.
pub(crate) fn runs(records: &Records, bench: &str) -> String {
    let rows = records.runs(bench, "").into_iter().map(|run| {
        let machine = &run.machine;
        let place = [&machine.processors, &machine.memory, &machine.system, &machine.note];
        let place: Vec<&str> =
            place.iter().map(|part| part.as_str()).filter(|part| !part.is_empty()).collect();
        let load = run.load_before.map_or_else(|| "-".to_owned(), |load| format!("{load:.1}"));
        let figures = measured(run).to_string();
        let by = if run.transcribed.is_some() { "by hand" } else { "by the bench" };
        [
            run.date.clone(),
            run.commit.chars().take(7).collect(),
            place.join(", "),
            machine.kernel.clone(),
            load,
            figures,
            by.to_owned(),
        ]
    });
    table(["date", "commit", "machine", "Linux", "load before", "figures", "recorded"], rows)
}

fn measured(run: &Record) -> usize {
    run.rows.iter().filter(|row| row.value.spread().is_some()).count()
}

/// Whether a figure is compared with something, as against a rate or a time alone.
fn is_comparison(figure: &Figure) -> bool {
    figure.goal != Goal::None || figure.unit == RATIO
}

/// The ratios of a bench, their targets and verdicts; figures that no run measured are left out.
pub(crate) fn ratios(records: &Records, bench: &str) -> String {
    let mut row_before = "";
    let rows = figures::of(bench).iter().filter(|figure| is_comparison(figure)).filter_map(|figure| {
        let spread = records.spread(bench, figure.key)?;
        let row = if figure.row() == row_before { "" } else { figure.row() };
        row_before = figure.row();
        Some([
            row.to_owned(),
            figure.name.to_owned(),
            figure.goal.words(),
            with_range(&spread),
            spread.runs.to_string(),
            figure.goal.verdict(spread.median).to_owned(),
        ])
    });
    table(["#", "ratio", "target", "median (lowest–highest)", "runs", ""], rows)
}

/// The figures of a bench that are compared with nothing: what this class of machine does.
pub(crate) fn absolutes(records: &Records, bench: &str) -> String {
    let rows = figures::of(bench).iter().filter(|figure| !is_comparison(figure)).filter_map(|figure| {
        let spread = records.spread(bench, figure.key)?;
        let show = |value: f64| if figure.unit == "1/s" { rounded(value) } else { crate::number(value) };
        let range = if spread.low == spread.high {
            String::new()
        } else {
            format!("{} to {}", show(spread.low), show(spread.high))
        };
        Some([
            figure.name.to_owned(),
            show(spread.median),
            range,
            figure.unit.to_owned(),
            spread.runs.to_string(),
        ])
    });
    table(["figure", "median", "range", "unit", "runs"], rows)
}

/// Rows 1 and 3 on each transport that was measured.
pub(crate) fn transports(records: &Records) -> String {
    let keys = ["1", "3", "3.open"];
    let rows = [("ring", ""), ("epoll", "epoll")].into_iter().map(|(name, variant)| {
        let [one, three, open] = keys.map(|key| {
            records
                .spread_of("serve", variant, key)
                .map_or_else(|| "-".to_owned(), |spread| with_range(&spread))
        });
        [name.to_owned(), one, three, open]
    });
    table(["transport", "sold out ÷ bare", "durable purchase ÷ bare, closed loop", "open loop"], rows)
}
