//! `verify`: checks an item after its sale.
//!
//! Next: [`crate::verify`].

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use super::MerchantArgs;
use super::merchant::merchant;
use crate::check::Verdict;
use crate::history::History;
use crate::printer;
use crate::program::{UsageError, exit_of};
use crate::units;
use crate::verify::{VerifyConfig, verify};
use crate::workload::{ITEMS_MAX, Items};

/// Flags of `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Where the evidence is.
    #[command(flatten)]
    pub merchant: MerchantArgs,
    /// The item
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub item: u32,
    /// How many items, numbered from --item on [default: those of the history, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(ITEMS_MAX)))]
    pub items: Option<u32>,
    /// The database to compare, as postgres://…
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
    /// What clients were told: a file that `run --history` wrote
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// How long the export may take to catch up
    #[arg(long, value_name = "TIME", value_parser = units::time, default_value = "60s")]
    pub export_wait: Duration,
}

/// Checks and prints; the exit code.
pub(super) fn run(args: &VerifyArgs) -> Result<u8> {
    let merchant = merchant(&args.merchant)?;
    let history = args.history.as_deref().map(read_history).transpose()?;
    let verdict = verify(&VerifyConfig {
        postgres: args.postgres.as_deref(),
        items: items(args, history.as_ref())?,
        history: history.as_ref(),
        export_wait: args.export_wait,
        ..VerifyConfig::of_merchant(&merchant, args.item)
    })?;
    Ok(tell(&verdict))
}

/// The items to verify: the history's, or those of the flags; never some of the history's.
fn items(args: &VerifyArgs, history: Option<&History>) -> Result<Items, UsageError> {
    let count = args.items.unwrap_or_else(|| history.map_or(1, |history| history.items.count));
    let told = Items { count, ..Items::one(args.item) };
    match history {
        Some(history) if (history.items.first, history.items.count) != (told.first, told.count) => {
            Err(UsageError(format!("the history is of {}, not of {told}", history.items)))
        }
        _ => Ok(told),
    }
}

fn tell(verdict: &Verdict) -> u8 {
    printer::print_line(&verdict.to_string());
    verdict.violations.iter().skip(1).for_each(|violation| printer::print_line(&format!("  {violation}")));
    exit_of(verdict.ruling())
}

fn read_history(path: &Path) -> Result<History> {
    let words = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(words)?;
    History::read(&mut BufReader::new(file)).with_context(words)
}
