//! `batch`: purchases by the thousand in one request, as a trusted gateway sends them.
//!
//! Next: [`crate::batch`].

use std::net::ToSocketAddrs as _;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::MerchantArgs;
use super::merchant::merchant;
use crate::batch::{BatchError, Format, Mode, Plan, RECORDS_MAX, Report, run as run_plan};
use crate::clock::unix_ms;
use crate::printer;
use crate::program::{EXIT_VIOLATION, UsageError};
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
    /// Batches that may be open at a time
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
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Creates the items, sends, checks; the exit code.
pub(super) fn run(args: &BatchArgs) -> Result<u8> {
    let plan = plan(args)?;
    create(args, &plan)?;
    let report = match run_plan(&plan) {
        Ok(report) => report,
        Err(error @ BatchError::Broken(_)) => {
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
    verify(args, &plan, &report)
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
    let at = |quantile| units::show_ns(report.latency_us.value_at_quantile(quantile) * 1_000);
    line(&format!("  a batch: p50 {}, p90 {}, p99 {}, max {}", at(0.5), at(0.9), at(0.99), at(1.0)));
}

/// Asks the server's books whether they say the same.
fn verify(args: &BatchArgs, plan: &Plan, report: &Report) -> Result<u8> {
    let merchant = merchant(&args.merchant)?;
    let (mut held, mut sold) = (0, 0);
    for item in plan.item..plan.item + plan.items {
        let totals = merchant.item(item)?.totals;
        (held, sold) = (held + totals.held, sold + totals.sold);
        if totals.granted != totals.available + totals.held + totals.sold {
            printer::tell(&format!("stampede-loadgen: the books of item {item} do not add up: {totals:?}"));
            return Ok(EXIT_VIOLATION);
        }
    }
    if (held, u64::try_from(sold).ok()) == (0, Some(report.winners)) {
        return Ok(0);
    }
    printer::tell(&format!("stampede-loadgen: {} winners, but {sold} sold and {held} held", report.winners));
    Ok(EXIT_VIOLATION)
}
