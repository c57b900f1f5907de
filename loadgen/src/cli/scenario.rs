//! `scenarios`: what there is to run by name.
//!
//! Next: [`crate::scenario`].

use anyhow::Result;
use clap::ValueEnum;

use crate::printer;
use crate::scenario::Scenario;

/// Lists and explains them; the exit code.
pub(super) fn run() -> Result<u8> {
    for scenario in Scenario::value_variants() {
        let Some(value) = scenario.to_possible_value() else { continue };
        printer::print_line(value.get_name());
        scenario.story().lines().for_each(|line| printer::print_line(&format!("  {line}")));
        let flags: Vec<_> =
            scenario.flags().iter().map(|flag| format!("{} {}", flag.name, flag.value)).collect();
        printer::print_line(&format!("\n  run URL {}\n", flags.join(" ")));
    }
    printer::print_line(
        "Run one: stampede-loadgen run URL --scenario NAME --admin URL --admin-token-file FILE [--item FIRST]\n\
         It creates its items first. Any flag that you give takes the place of the scenario's.",
    );
    Ok(0)
}
