//! `run`: sends a workload, reports, verifies.
//!
//! Next: [`crate::engine`], [`crate::verify`], [`crate::report`].

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use clap::Args;

use super::load::VERIFICATION;
use super::{LoadArgs, OutputArgs, merchant::merchant};
use crate::clock::unix_ms;
use crate::engine::{self, RunConfig, RunError};
use crate::history::Baseline;
use crate::program::{UsageError, stop_flag};
use crate::record::{Record, without_secrets};
use crate::sampler::Sampler;
use crate::scenario::Scenario;
use crate::units;
use crate::verify::{Merchant, VerifyConfig, verify};
use crate::workload::Items;

/// Flags of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// What to send.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Create the items of a sale that everybody knows, and set the flags that go with it; see `scenarios`
    #[arg(long, value_enum, value_name = "NAME", requires = "admin", conflicts_with = "get")]
    pub scenario: Option<Scenario>,
    /// Without --admin: units of each item, so that the verifier can tell whether more were sold
    #[arg(long, value_name = "N", value_parser = units::count, conflicts_with = "admin", help_heading = VERIFICATION)]
    pub stock: Option<u64>,
    /// What to write.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs the load, reports and verifies; the exit code.
pub(super) fn run(args: &RunArgs) -> Result<u8> {
    let load = &args.load;
    let mut config = load.config()?;
    config.keep_history |= args.output.history.is_some();
    args.output.check()?;
    let shop = load.merchant.admin.as_ref().map(|_| merchant(&load.merchant)).transpose()?;
    let items = config.workload.items().filter(|_| load.verifies());
    let mut baselines = BTreeMap::new();
    if let (Some(shop), Some(items)) = (&shop, config.workload.items()) {
        if let Some(scenario) = args.scenario {
            scenario.create(shop, items, unix_ms()).context("the scenario's items could not be made")?;
        }
        if load.verifies() {
            baselines = stand_before(shop, items)?;
        }
    }
    let sampler = shop.as_ref().and_then(|_| watch(load, &config));
    config.stop = stop_flag()?;
    let mut outcome = engine::run(&config).map_err(|error| match error {
        RunError::Setting(_) | RunError::Request(_) => UsageError(error.to_string()).into(),
        other => anyhow::Error::from(other),
    })?;
    let stock = sampler.and_then(|sampler| sampler.finish(&outcome));
    if let Some(history) = &mut outcome.history {
        history.baselines = baselines;
    }
    let verified = items.map(|items| {
        verify(&VerifyConfig {
            merchant: shop.as_ref(),
            run: Some(&config),
            postgres: load.postgres.as_deref(),
            items,
            history: outcome.history.as_ref(),
            stock: args.stock,
            export_wait: load.export_wait,
        })
    });
    let mut record =
        Record::new(&config, &outcome, verified.as_ref().and_then(|verified| verified.as_ref().ok()));
    record.command =
        without_secrets(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()));
    record.not_verified = verified.and_then(|verified| verified.err()).map(|error| error.to_string());
    record.stock = stock;
    Ok(args.output.conclude(record, &outcome))
}

/// How each item stands before the run, which is responsible only for what comes later.
fn stand_before(shop: &Merchant, items: Items) -> Result<BTreeMap<u32, Baseline>> {
    let stand = |item| {
        let baseline = shop.baseline(item).with_context(|| format!("item {item} cannot be verified"))?;
        Ok((item, baseline))
    };
    items.numbers().map(stand).collect()
}

/// Watches the stock while the run goes on, if it can; a run does not need it.
fn watch(load: &LoadArgs, config: &RunConfig) -> Option<Sampler> {
    let items = config.workload.items()?;
    Sampler::start(merchant(&load.merchant).ok()?, items.numbers().collect())
}
