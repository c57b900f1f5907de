//! What was lost, as text and as JSON. The worst round is shown, never a median.
//!
//! Next: [`super`], where it comes from.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Hurt, KillConfig, Kills};
use crate::machine::commit;
use crate::table::write_table;
use stampede_loadgen::units::show_count;

const HEAD: [&str; 10] = [
    "store",
    "fault",
    "acked",
    "acked, lost",
    "oversold",
    "undersold",
    "over cap",
    "key told twice",
    "unknown",
    "away",
];

/// The table as text.
pub fn text(config: &KillConfig, kills: &Kills) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} units, one to a buyer; {} purchases/s over {} connections, the store killed between a third and two \
         thirds of the sale; {} round{}, the worst is shown; seed {}\n",
        show_count(config.stock),
        show_count(config.per_s as u64),
        config.connections,
        config.rounds,
        if config.rounds == 1 { "" } else { "s" },
        config.seed
    );
    let mut groups: Vec<Vec<&Hurt>> = Vec::new();
    for hurt in &kills.hurts {
        match groups.iter_mut().find(|group| (group[0].name, group[0].fault) == (hurt.name, hurt.fault)) {
            Some(group) => group.push(hurt),
            None => groups.push(vec![hurt]),
        }
    }
    let mut lines = vec![HEAD.map(str::to_owned).to_vec()];
    lines.extend(groups.iter().map(|group| line(group)));
    write_table(&mut text, &lines);
    text.push_str(
        "\nacked, lost: orders that buyers were told of and the database does not have. oversold: orders, told of or in\n\
         the database, beyond the stock. undersold: units gone from the stock without an order. over cap: buyers with more\n\
         than one. key told twice: one idempotency key, two orders. away: from the kill until the store is ready again.\n",
    );
    for trouble in &kills.troubles {
        let _ = writeln!(text, "NOT RUN: {trouble}");
    }
    if kills.interrupted {
        text.push_str("interrupted: the rows above are complete, the rest is missing\n");
    }
    text
}

fn line(group: &[&Hurt]) -> Vec<String> {
    let worst =
        |figure: fn(&Hurt) -> u64| show_count(group.iter().map(|hurt| figure(hurt)).max().unwrap_or(0));
    let away_ms = group.iter().map(|hurt| hurt.away_ms).max().unwrap_or(0);
    vec![
        group[0].name.to_owned(),
        group[0].fault.name().to_owned(),
        worst(|hurt| hurt.counted.acked),
        worst(|hurt| hurt.counted.lost),
        worst(|hurt| hurt.counted.oversold),
        worst(|hurt| hurt.counted.undersold),
        worst(|hurt| hurt.counted.over_cap),
        worst(|hurt| hurt.counted.changed),
        worst(|hurt| hurt.counted.unknown),
        format!("{:.2}s", away_ms as f64 / 1e3),
    ]
}

/// Every round, as JSON.
pub fn json(config: &KillConfig, kills: &Kills, began_at_ms: u64) -> Value {
    json!({
        "format": "stampede-classic-kill-1",
        "version": env!("CARGO_PKG_VERSION"),
        "commit": commit(),
        "began_at_ms": began_at_ms,
        "machine": kills.machine,
        "versions": kills.versions,
        "config": {
            "contenders": config.contenders.iter().map(|contender| contender.name()).collect::<Vec<_>>(),
            "stock": config.stock,
            "per_s": config.per_s,
            "connections": config.connections,
            "rounds": config.rounds,
            "redis_settings": config.redis_settings,
            "seed": config.seed,
        },
        "rows": kills.hurts,
        "troubles": kills.troubles,
        "interrupted": kills.interrupted,
    })
}
