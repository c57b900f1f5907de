//! `batch`: purchases by the thousand in one request, as a trusted gateway sends them.
//!
//! Next: [`crate::batch`].

use std::net::ToSocketAddrs as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::MerchantArgs;
use super::merchant::merchant;
use crate::assert::Assertion;
use crate::batch::{BatchError, Format, Load, Mode, Plan, RECORDS_MAX, Report, Trouble, run_under};
use crate::clock::unix_ms;
use crate::engine::{self, RunConfig};
use crate::printer;
use crate::program::{EXIT_ASSERTION, EXIT_VIOLATION, UsageError, stop_flag, write_file};
use crate::record::{Record, without_secrets};
use crate::report::hdr;
use crate::units;

/// Flags of `batch`.
#[derive(Args, Debug)]
pub struct BatchArgs {
    /// Where to send batches, and where to create the items.
    #[command(flatten)]
    pub merchant: MerchantArgs,
    /// The first of the items, which must not be there yet
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub item: u32,
    /// How many items are bought in turn
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub items: u32,
    /// Purchases in all
    #[arg(long, short = 'n', value_name = "N", value_parser = units::count, default_value = "1M")]
    pub count: u64,
    /// Purchases in a batch
    #[arg(long, value_name = "N", default_value_t = RECORDS_MAX, value_parser = clap::value_parser!(u64).range(1..=RECORDS_MAX))]
    pub batch: u64,
    /// Batches in flight at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub pipeline: u8,
    /// How records are written
    #[arg(long, value_enum, default_value_t = Format::Binary)]
    pub format: Format,
    /// What is measured
    #[arg(long, value_enum, default_value_t = Mode::Winners)]
    pub mode: Mode,
    /// Units of each item with --mode sold-out; otherwise there are enough for all
    #[arg(long, value_name = "N", value_parser = units::count, default_value = "1000")]
    pub stock: u64,
    /// Purchases per second, open loop [default: closed loop, the next batch when there is room]
    #[arg(short = 'R', long, value_name = "RATE", value_parser = units::count)]
    pub rate: Option<u64>,
    /// Connections; with more than one the order of an item's orders is checked within each batch alone
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub connections: u32,
    /// Threads
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Write the record of the run as JSON, for `report` and `compare`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Write an HDR interval log, which HdrHistogram's viewers read
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Exit with 99 unless this holds, as 'p99<50ms', 'winners==1000000', 'rate>=500k'; may be given more than once
    #[arg(long = "assert", value_name = "METRIC OP VALUE", value_parser = Assertion::parse)]
    pub assertions: Vec<Assertion>,
}

/// Creates the items, sends, checks; the exit code.
pub(super) fn run(args: &BatchArgs) -> Result<u8> {
    let plan = plan(args)?;
    let mode = args.rate.map_or(engine::Mode::Closed, |rate| engine::Mode::open(rate as f64));
    let config = plan.config(&Load { mode, connections: args.connections, threads: args.threads });
    let config = RunConfig { stop: stop_flag()?, ..config };
    create(args, &plan)?;
    let report = match run_under(&config, &plan) {
        Ok(report) => report,
        Err(error @ BatchError::Trouble(Trouble::Broken(_))) => {
            printer::tell(&format!("stampede-loadgen: {error}"));
            return Ok(EXIT_VIOLATION);
        }
        Err(error) => return Err(error.into()),
    };
    if args.json {
        printer::print_line(&report.to_json(&plan).to_string());
    } else {
        print(&report, &plan);
    }
    let holds = record(args, &config, &report)?;
    match verify(args, &plan, &report)? {
        0 if !holds => Ok(EXIT_ASSERTION),
        code => Ok(code),
    }
}

/// Writes the requested files; whether the assertions hold.
fn record(args: &BatchArgs, config: &RunConfig, report: &Report) -> Result<bool> {
    let mut record = Record::new(config, &report.outcome, None);
    record.command =
        without_secrets(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()));
    record.assert(&args.assertions);
    if let Some(file) = &args.record {
        write_file(file, |out| Ok(serde_json::to_writer_pretty(out, &record)?))?;
    }
    if let Some(file) = &args.hdr {
        write_file(file, |out| Ok(hdr::write(&report.outcome, out)?))?;
    }
    for assertion in record.assertions.iter().filter(|assertion| !assertion.holds) {
        printer::tell(&format!("stampede-loadgen: {} does not hold: {}", assertion.text, assertion.measured));
    }
    Ok(record.assertions.iter().all(|assertion| assertion.holds))
}

fn plan(args: &BatchArgs) -> Result<Plan> {
    let url = args.merchant.admin.as_deref().unwrap_or_default();
    let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let (Some(file), false) = (&args.merchant.admin_token_file, host.is_empty()) else {
        return Err(UsageError("give --admin URL and --admin-token-file FILE".to_owned()).into());
    };
    let token = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let addr = host.to_socket_addrs().with_context(|| format!("no such host: {host}"))?.next();
    let mut tag = [0; 2];
    getrandom::fill(&mut tag).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    let stock = if args.mode == Mode::SoldOut { args.stock } else { args.count };
    Ok(Plan {
        addr: addr.with_context(|| format!("no address: {host}"))?,
        token: token.trim().to_owned(),
        item: args.item,
        items: args.items,
        stock,
        count: args.count,
        batch: args.batch,
        pipeline: usize::from(args.pipeline),
        format: args.format,
        mode: args.mode,
        tag: u16::from_le_bytes(tag),
    })
}

fn create(args: &BatchArgs, plan: &Plan) -> Result<()> {
    let merchant = merchant(&args.merchant)?;
    let now_ms = unix_ms();
    let hour_ms = Duration::from_secs(3_600).as_millis() as u64;
    let holds = plan.mode == Mode::HoldAndPay;
    let body = json!({
        "name": "batch test",
        "price_minor": 100,
        "currency": "CNY",
        "stock": plan.stock,
        "opens_at_ms": now_ms.saturating_sub(1_000),
        "closes_at_ms": now_ms + hour_ms,
        "cap": 1,
        "payment": if holds { "hold" } else { "on_order" },
        "hold_ms": if holds { hour_ms } else { 0 },
    });
    for item in plan.item..plan.item + plan.items {
        merchant.put(&format!("/admin/items/{item}"), &body)?;
    }
    Ok(())
}

fn print(report: &Report, plan: &Plan) {
    let seconds = report.elapsed.as_secs_f64();
    let rate = |count: u64| units::show_count((count as f64 / seconds) as u64);
    let line = printer::print_line;
    line(&format!("{} answers in {seconds:.2} s: {}/s", report.answers, rate(report.answers)));
    line(&format!("  winners {} ({}/s), sold out {}", report.winners, rate(report.winners), report.refused));
    if plan.mode == Mode::HoldAndPay {
        line(&format!("  hold-and-pay pairs {} ({}/s)", report.paid, rate(report.paid)));
    }
    let at = |quantile| units::show_ns(report.latency_ns.value_at_quantile(quantile));
    line(&format!("  a batch: p50 {}, p90 {}, p99 {}, max {}", at(0.5), at(0.9), at(0.99), at(1.0)));
}

/// Compares the totals of the items with what was counted.
fn verify(args: &BatchArgs, plan: &Plan, report: &Report) -> Result<u8> {
    let merchant = merchant(&args.merchant)?;
    let (mut held, mut sold) = (0, 0);
    for item in plan.item..plan.item + plan.items {
        let totals = merchant.item(item)?.totals;
        (held, sold) = (held + totals.held, sold + totals.sold);
        if totals.granted != totals.available + totals.held + totals.sold {
            printer::tell(&format!("stampede-loadgen: the totals of item {item} do not add up: {totals:?}"));
            return Ok(EXIT_VIOLATION);
        }
    }
    if (held, u64::try_from(sold).ok()) == (0, Some(report.winners)) {
        return Ok(0);
    }
    printer::tell(&format!("stampede-loadgen: {} winners, but {sold} sold and {held} held", report.winners));
    Ok(EXIT_VIOLATION)
}
