//! The tables of the docs, as Markdown, from records alone.
//!
//! Next: [`bench`] for the engine's ratios and the runs that gave them, [`capacity`] for what is computed from prices,
//! [`classics`] for the classic designs and the rivals, [`rivals`] for their short table in the README.

pub(crate) mod bench;
pub(crate) mod capacity;
pub(crate) mod classics;
pub(crate) mod rivals;

use std::fmt::Write as _;

use crate::series::Spread;

/// A table with these headings.
fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// Median and range, with two digits.
fn with_range(spread: &Spread) -> String {
    ranged([spread.median, spread.low, spread.high], crate::number)
}

/// Median and range in the words of `show`; the median alone if the range says nothing more.
fn ranged(spread: [f64; 3], show: impl Fn(f64) -> String) -> String {
    let [median, low, high] = spread.map(show);
    if low == high { median } else { format!("{median} ({low}–{high})") }
}

/// Rounded for a reader: two digits of millions, three digits of thousands.
fn rounded(value: f64) -> String {
    if value >= 99.5e6 {
        return format!("{:.0} million", value / 1e6);
    }
    if value >= 999_500.0 {
        return format!("{:.1} million", value / 1e6);
    }
    let digits = value.abs().log10().floor();
    let unit = 10_f64.powf((digits - 2.0).max(0.0));
    crate::number((value / unit).round() * unit)
}

/// A number of the field's without needless digits: `7.05`, `190`, `0.03`.
fn short(value: f64) -> String {
    if value.abs() >= 999.5 {
        return crate::number(value);
    }
    let digits = if value.abs() < 9.995 { 2 } else { usize::from(value.abs() < 99.95) };
    format!("{value:.digits$}")
}

/// A number of things.
fn count(value: f64) -> String {
    if value < 1_000.0 { format!("{value:.0}") } else { crate::number(value) }
}
